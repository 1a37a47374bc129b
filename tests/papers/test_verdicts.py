"""Claims of several papers are checked, and the verdicts are kept beside the results."""

import json

import pytest

from prefsim.papers.verdicts import check_papers, claim_json, read_verdicts, write_verdicts


def test_papers_are_checked_in_order_and_a_broken_one_hides_no_other(fake_papers):
    fake_papers("whole")
    fake_papers("broken", source="x = 1 / 0")
    told = []
    results = check_papers(
        ["broken", "whole"], examples=10, report=lambda *event: told.append(event)
    )
    assert list(results) == ["broken", "whole"]
    assert not results["broken"]["import"].holds
    assert "ZeroDivisionError" in results["broken"]["import"].detail
    held = {name: result.holds for name, result in results["whole"].items()}
    assert held == {"zero": True, "bound": True}
    assert told == [("whole", "claims", 1, 2), ("whole", "claims", 2, 2)]


def test_of_a_file_that_cannot_be_read_its_own_line_is_named(tmp_path):
    file = tmp_path / "torn.py"
    file.write_text("x = 1\ndef half(:\n")
    found = check_papers([str(file)])[str(file)]["import"]
    assert found.detail == "raised SyntaxError: invalid syntax (torn.py, line 2)"


@pytest.mark.parametrize(
    ("slugs", "options", "message"),
    [
        (["whol"], {}, "paper 'whol' is not known; did you mean 'whole'"),
        (["whole"], {"jobs": 0}, "jobs must be an integer >= 1, or -1 for one a core, got 0"),
        (["whole"], {"examples": -3}, "examples must be"),
        (["whole"], {"seed": -3}, "seed must be"),
    ],
)
def test_bad_options(fake_papers, slugs, options, message):
    fake_papers("whole")
    with pytest.raises(ValueError, match=message):
        check_papers(slugs, **options)


def test_verdicts_are_kept_and_read(fake_papers, tmp_path):
    fake_papers("p", family="nash")
    results = check_papers(["p"], examples=10, seed=2)
    folder = write_verdicts(tmp_path / "deep" / "results", results, examples=10, seed=2)
    assert [path.name for path in (folder / "p").iterdir()] == ["claims.json"]
    held = read_verdicts(folder / "p")
    assert held["holds"] is True
    assert held["family"] == "nash"
    assert held["settings"] == {"examples": 10, "seed": 2, "data": None}
    zero, bound = held["claims"]
    assert zero["counterexample_found"] is None
    assert (bound["stated"], bound["dropped"]) == ("derived", [["x"]])
    assert bound["counterexample_found"] is True
    assert bound["counterexample"].startswith("{'x': ")
    assert 0 < bound["used"] <= 1
    assert bound["statement"] == "x <= 1"


ABOUT_PEOPLE = """
from prefsim.papers import RealData
@claim(
    "people", "identity", source="s", stated="paper", given={"x": st.floats(0, 1)},
    data=RealData("labels by people", lambda: False),
)
def people(x):
    '''x = x'''
    return apart(x, x)
"""


def test_what_was_not_run_neither_holds_nor_fails(fake_papers, tmp_path):
    fake_papers("p", claims=ABOUT_PEOPLE)
    results = check_papers(["p"], examples=5)
    held = read_verdicts(write_verdicts(tmp_path, results, examples=5, seed=0) / "p")
    assert held["holds"] is True
    rows = {row["id"]: row for row in held["claims"]}
    assert rows["people"]["holds"] is rows["people"]["worst"] is None
    assert rows["people"]["data"] == "labels by people"
    assert rows["people"]["detail"].startswith("not run")
    others = [row for name, row in rows.items() if name != "people"]
    assert all(row["holds"] is True and row["data"] == "drawn here" for row in others)


def test_the_verdicts_on_a_paper_are_kept_as_soon_as_they_are_complete(fake_papers, tmp_path):
    interrupts = """
@claim("stops", "identity", source="s", stated="paper", given={"x": st.floats(0, 1)})
def stops(x):
    '''x = x'''
    raise KeyboardInterrupt
"""
    fake_papers("a")
    fake_papers("b", claims=interrupts)
    with pytest.raises(KeyboardInterrupt):
        check_papers(["a", "b"], examples=5, out=tmp_path / "r")
    assert read_verdicts(tmp_path / "r" / "a")["holds"]
    assert read_verdicts(tmp_path / "r" / "b") is None


def test_what_could_not_be_checked_leaves_the_earlier_verdict(fake_papers, tmp_path):
    fake_papers("p")
    write_verdicts(tmp_path, check_papers(["p"], examples=5), examples=5, seed=0)
    earlier = read_verdicts(tmp_path / "p")
    fake_papers("p", source="x = 1 / 0")
    write_verdicts(tmp_path, check_papers(["p"], examples=5), examples=5, seed=0)
    assert read_verdicts(tmp_path / "p") == earlier


@pytest.mark.parametrize("content", ["", "[]", "{}", "{"])
def test_damaged_verdicts_are_none(tmp_path, content):
    (tmp_path / "claims.json").write_text(content)
    assert read_verdicts(tmp_path) is None
    assert read_verdicts(tmp_path / "no") is None


def test_verdicts_that_somebody_changed_are_none(fake_papers, tmp_path):
    fake_papers("p")
    write_verdicts(tmp_path, check_papers(["p"], examples=5), examples=5, seed=0)
    file = tmp_path / "p" / "claims.json"
    file.write_text(file.read_text().replace('"holds": true', '"holds": false', 1))
    assert read_verdicts(tmp_path / "p") is None


def test_a_number_that_is_not_finite_becomes_null(fake_papers):
    raises = '''
@claim("raises", "identity", source="s", stated="paper", given={"x": st.floats(0, 1)})
def divides(x):
    """x = x"""
    return Verdict(1 / 0)
'''
    fake_papers("p", claims=raises)
    row = claim_json(check_papers(["p"], examples=5)["p"]["raises"])
    assert row["worst"] is None
    assert "ZeroDivisionError" in row["detail"]
    json.dumps(row, allow_nan=False)
