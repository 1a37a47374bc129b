"""Errata are read beside the paper, checked, and shown as they are written wherever it is shown."""

import io
import json
import re
import sys

import pytest
from rich.console import Console

from prefsim.papers import ERRATUM_KINDS, Erratum, all_slugs, errata_of, load
from prefsim.papers.fingerprint import fingerprint
from prefsim.papers.markdown import as_html, as_text
from prefsim.papers.notebook import notebook_of
from prefsim.papers.report import write_index
from prefsim.papers.tables import errata_list
from prefsim.papers.verdicts import check_papers

ENTRY = """Erratum(
    kind="wrong",
    about="released code",
    says="`x < y` always",
    true="Where *x* is [small](https://arxiv.org) & <b>fair</b>.",
    known="`prefsim check first`",
)"""
ERRATA = f'"""What is wrong."""\n\nfrom prefsim.papers import Erratum\n\nERRATA = ({ENTRY},)\n'


@pytest.fixture
def paper(fake_papers):
    folder = fake_papers("first")
    (folder / "errata.py").write_text(ERRATA, encoding="utf-8")
    return folder


def test_they_are_read_without_importing_the_paper(paper):
    (erratum,) = errata_of("first")
    assert erratum == Erratum(
        "wrong",
        "`x < y` always",
        "Where *x* is [small](https://arxiv.org) & <b>fair</b>.",
        "`prefsim check first`",
        "released code",
    )
    assert not [name for name in sys.modules if name.startswith("paper_repros.direct")]
    assert load("first").errata == (erratum,)


def test_a_paper_may_have_none(fake_papers):
    fake_papers("first")
    assert errata_of("first") == load("first").errata == ()


def test_what_is_not_literal_is_imported(paper):
    text = ERRATA.replace('says="', 'says="not " + "')
    (paper / "errata.py").write_text(text, encoding="utf-8")
    assert errata_of("first")[0].says == "not `x < y` always"


def test_the_about_is_the_paper_unless_it_is_said():
    assert Erratum("wrong", "a", "b", "c").about == "the paper"


OWN = '''
"""Halves."""

from hypothesis import strategies as st

from prefsim.papers import Erratum, apart, claim

ERRATA: tuple[Erratum, ...] = (Erratum("less sharp", "says", "true", "known"),)


@claim("halves", "identity", source="school", stated="derived", given={"x": st.floats(0, 1)})
def two_halves_are_a_whole(x):
    """Two halves of x are x."""
    return apart(x / 2 + x / 2, x)
'''


def test_a_file_of_ones_own_has_them_in_itself(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN, encoding="utf-8")
    assert errata_of(file) == load(file).errata == (Erratum("less sharp", "says", "true", "known"),)
    file = tmp_path / "other.py"
    file.write_text(OWN.replace("ERRATA", "NOTES"), encoding="utf-8")
    assert errata_of(file) == load(file).errata == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"wrong"',
            '"untrue"',
            "kind of erratum 1 of paper first must be one of 'wrong', 'less sharp', got 'untrue'",
        ),
        ('kind="wrong",', "", "erratum 1 of paper first must have the fields kind, says, true, "),
        ("kind=", "sort=", "must have the fields .*: got an unexpected keyword argument 'sort'"),
        ("`x < y` always", " ", "says of erratum 1 of paper first must be text of one line"),
        ("always", "al\\nways", "says of erratum 1 of paper first must be text of one line"),
        ('"released code"', "3", "about of erratum 1 of paper first must be text of one line"),
        ("`x < y`", "`x < y", "says of erratum 1 of paper first must close every code mark"),
        (
            "https://arxiv.org",
            "claims.py",
            "links in true of erratum 1 of paper first must begin with https://, got 'claims.py'",
        ),
        (f"({ENTRY},)", f"({ENTRY})", r"must be a tuple of Erratum, got Erratum\("),
        (f"({ENTRY},)", f"[{ENTRY}]", r"must be a tuple of Erratum, got \[Erratum\("),
        (f"({ENTRY},)", "(3,)", r"must be a tuple of Erratum, got \(3,\)"),
        ("ERRATA", "NOTES", "ERRATA of paper first must be a tuple of Erratum, got None"),
    ],
)
def test_a_malformed_entry(paper, old, new, message):
    assert old in ERRATA
    (paper / "errata.py").write_text(ERRATA.replace(old, new), encoding="utf-8")
    for function in (errata_of, load):
        with pytest.raises(ValueError, match=message):
            function("first")


def test_a_malformed_entry_of_a_file_is_one_clear_error(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN.replace('"known"', '"known", "more", "still more"'), encoding="utf-8")
    with pytest.raises(ValueError, match="erratum 1 of paper mine must have the fields kind,"):
        load(file)


def test_code_is_no_link():
    text = "`x[0](y)`"
    assert as_html(text) == "<code>x[0](y)</code>"
    assert as_text(text).plain == text


def test_what_is_said_of_a_paper_changes_no_result_of_it(paper):
    settings = {"quick": True, "seed": 0}
    before = fingerprint("first", settings)
    (paper / "errata.py").write_text(ERRATA.replace("always", "never"), encoding="utf-8")
    assert fingerprint("first", settings) == before
    (paper / "errata.py").unlink()
    assert fingerprint("first", settings) == before


# --- where they are shown ---


def test_the_terminal_shows_them(paper):
    stream = io.StringIO()
    Console(file=stream, width=90).print(errata_list(errata_of("first")))
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert lines == [
        "Errata",
        "",
        "wrong · released code: `x < y` always",
        "  Where x is small (https://arxiv.org) & <b>fair</b>.",
        "  How we know: `prefsim check first`",
    ]


def test_the_command_shows_them(paper, capsys):
    from prefsim.cli import main

    for arguments in (["show", "first"], ["show", "first", "--json"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        out = capsys.readouterr().out
        if "--json" in arguments:
            (row,) = json.loads(out)["errata"]
            assert row == errata_of("first")[0]._asdict()
        else:
            assert "wrong · released code: `x < y` always" in out


def test_the_page_of_results_shows_them(paper, fake_papers, tmp_path):
    fake_papers("second")
    check_papers(["first", "second"], examples=3, out=tmp_path / "r")
    text = write_index(tmp_path / "r").read_text(encoding="utf-8")
    assert "could: 1 entry</summary>" in text
    assert "<strong>released code: <code>x &lt; y</code> always</strong>" in text
    assert 'Where <em>x</em> is <a href="https://arxiv.org">small</a> &amp; &lt;b&gt;' in text
    assert text.count("How we know: <code>prefsim check first</code>") == 1
    assert "second-errata" not in text


def test_the_page_shows_results_whose_paper_is_gone(paper, tmp_path):
    check_papers(["first"], examples=3, out=tmp_path / "r")
    (paper / "claims.py").unlink()
    text = write_index(tmp_path / "r").read_text(encoding="utf-8")
    assert 'id="first"' in text
    assert "first-errata" not in text


def test_the_notebook_shows_them(paper):
    cells = ["".join(cell["source"]) for cell in notebook_of("first")["cells"]]
    (shown,) = [cell for cell in cells if cell.startswith("## What the paper or its code says")]
    assert "- **released code: `x < y` always.** Where *x* is [small]" in shown
    assert "*How we know:* `prefsim check first`" in shown


# --- those of this project ---

ALL = [(slug, erratum) for slug in all_slugs() for erratum in errata_of(slug)]


@pytest.mark.parametrize(("slug", "erratum"), ALL, ids=lambda value: str(value)[:20])
def test_an_entry_is_read_as_it_was_meant(slug, erratum):
    """Formulas are full of marks; none of them is lost, and only words are emphasised."""
    assert erratum.kind in ERRATUM_KINDS
    assert not erratum.says.endswith(".")
    assert erratum.true[-1] in ".)"
    for text in erratum[1:]:
        page = as_html(text)
        emphasised = re.findall(r"<em>(.*?)</em>", page)
        assert all(word.isalpha() for word in emphasised), emphasised
        marks = text.count("*") - 2 * len(emphasised)
        assert as_text(text).plain.count("*") == page.count("*") == marks
        for name in re.findall(r"`prefsim (?:check|repro) (\w+)`", text):
            assert name in all_slugs()
