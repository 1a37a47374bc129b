"""Tables and the page say what the results say, and nothing in a result can break them."""

import io
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from rich.console import Console

from prefsim.papers import cards, load
from prefsim.papers.checking import ClaimResult
from prefsim.papers.report import collect, write_index
from prefsim.papers.reproducing import run_reproduction
from prefsim.papers.tables import (
    cards_table,
    checks_table,
    claims_table,
    criteria_table,
    format_number,
)
from prefsim.papers.verdicts import check_papers, write_verdicts
from prefsim.progress import Bars

VOID = {"meta", "img", "br", "link", "input"}


def shown(table):
    stream = io.StringIO()
    Console(file=stream, width=200).print(table)
    return stream.getvalue()


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in turn; keeps ids, links and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        self.sources += [attributes["src"]] if "src" in attributes else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


@pytest.fixture
def results(fake_papers, tmp_path):
    fake_papers("zeta", family="direct")
    fake_papers("alpha", family="nash", body="passed = False")
    fake_papers("beta", family="direct")
    for slug in ("zeta", "alpha", "beta"):
        run_reproduction(slug, out=tmp_path / "results", quick=True, seed=4)
    write_verdicts(tmp_path / "results", check_papers(["alpha"], examples=10), examples=10, seed=0)
    return tmp_path / "results"


def test_results_come_in_the_order_of_families(results):
    (results / "stray").mkdir()
    (results / "note.txt").write_text("")
    found = collect(results)
    assert [paper["slug"] for paper in found] == ["beta", "zeta", "alpha"]
    assert all(paper["result"]["current"] for paper in found)
    assert [paper["verdicts"] is not None for paper in found] == [False, False, True]
    assert found[2]["verdicts"]["current"]


def test_verdicts_alone_are_shown(fake_papers, tmp_path):
    fake_papers("p")
    write_verdicts(tmp_path / "r", check_papers(["p"], examples=10), examples=10, seed=0)
    (paper,) = collect(tmp_path / "r")
    assert paper["result"] is None
    page = Page(write_index(tmp_path / "r").read_text(encoding="utf-8"))
    assert "2 of 2 claims checked hold, 0 of 0 criteria pass" in " ".join(page.text.split())
    assert "p-bound" in page.ids


def test_what_was_not_run_is_shown_and_not_counted(fake_papers, tmp_path):
    fake_papers("p")
    results = check_papers(["p"], examples=10)
    for name, (holds, detail) in {
        "zero": (None, "not run: why"),
        "bound": (True, "so much"),
    }.items():
        results["p"][name] = results["p"][name]._replace(holds=holds, data="people", detail=detail)
    write_verdicts(tmp_path / "r", results, examples=10, seed=0)
    page = Page(write_index(tmp_path / "r").read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    assert "1 of 1 claims checked hold" in text
    assert "1 of 1 claims hold" in text
    assert "people: not run: why" in text
    assert "people: so much" in text
    assert "✗" not in text


def test_a_result_of_other_code_is_marked(results, fake_papers):
    folder = fake_papers("zeta", family="direct")
    with (folder / "reproduction.py").open("a") as file:
        file.write("# changed\n")
    current = [paper["result"]["current"] for paper in collect(results)]
    assert current == [True, False, True]
    (folder / "claims.py").unlink()
    current = [paper["result"]["current"] for paper in collect(results)]
    assert current == [True, False, True]
    page = write_index(results).read_text()
    assert page.count("of an earlier version of the code") == 1
    fake_papers("alpha", family="nash", body="passed = 1")
    assert write_index(results).read_text().count("checked with an earlier version") == 1


def test_the_table_of_criteria(results):
    whole = [paper["result"] for paper in collect(results)]
    text = shown(criteria_table(whole, {"gamma": "KeyError: [red]x"}))
    assert re.search(r"Slug +Criterion +Paper +Expected +Measured +Pass", text)
    assert re.search(r"alpha +first <c> +>= 0 & more +at least 0 +1\.235 +✓ pass", text)
    assert re.search(r"second +chosen here +\[red\]yes +0 of 1 +✗ FAIL", text)
    assert re.search(r"gamma +runs to its end +KeyError: \[red\]x +✗ FAIL", text)
    assert text.count("✓ pass") == 5


def test_the_table_of_criteria_that_fail(results):
    whole = [paper["result"] for paper in collect(results)]
    text = shown(criteria_table(whole, failing=True))
    assert re.search(r"alpha +second +chosen here +\[red\]yes +0 of 1 +✗ FAIL", text)
    assert "✓" not in text
    assert "beta" not in text


def test_the_table_of_claims_checked():
    checks = {
        "p": {
            "a": ClaimResult(True, 50, 1e-12, 1e-9, True, used=0.25),
            "b": ClaimResult(False, 0, float("nan"), 0.0, None, "why"),
            "c": ClaimResult(None, 0, float("nan"), 0.0, None, "why", data="people"),
        }
    }
    text = shown(checks_table(checks))
    assert re.search(r"p +a +drawn here +50 +1e-12 +1e-09 +25 % +found +✓ pass", text)
    assert re.search(r"b +drawn here +0 +nan +0 +– +– +✗ FAIL", text)
    assert re.search(r"c +people +0 +– +0 +– +– +not run", text)


def test_the_tables_of_cards_and_claims(fake_papers):
    fake_papers("p")
    assert re.search(r"direct +p +2024 +2401\.00001 +On <p> & more", shown(cards_table(cards())))
    text = shown(claims_table(load("p").claims))
    assert re.search(r"zero +identity +x & <x> agree +eq\. 3 +stated in the paper +1e-09 +–", text)
    assert re.search(r"bound +inequality +x <= 1 +eq\. 2 +derived here +1e-09 +x", text)


def test_the_page(results):
    path = write_index(results, {"gamma": "KeyError: <script>alert(1)</script>"})
    assert path == results / "index.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {"alpha", "alpha-claims", "alpha-bound", "error-gamma"} <= set(page.ids)
    assert page.links.count("https://arxiv.org/abs/2401.00001") == 3
    assert "prefers-color-scheme: dark" in text
    assert "2 of 2 claims checked hold, 5 of 6 criteria pass, 1 did not run to the end" in " ".join(
        page.text.split()
    )
    for said in (
        "On <beta> & more",
        "A [bold]summary[/bold] & <b>more</b>.",
        "first <c>",
        "error <e>",
        "x & <x> agree",
        "[red]yes",
    ):
        assert said in page.text
    assert "KeyError: <script>alert(1)</script>" in page.text
    assert re.search(r"How to <read> it\.\s+Quick run: one of <two>\.", page.text)
    assert re.search(r"first <c>\s*>= 0 & more\s*at least 0\s*1\.235\s*✓ pass", page.text)
    assert "quick run, seed 4, numpy" in page.text
    assert "prefsim repro alpha --quick --seed 4" in page.text
    assert re.search(
        r"On <beta> & more beta\s*Direct alignment\s*–\s*2 of 2\s*[\d.]+\s*✓", page.text
    )
    assert re.search(r"On <alpha> & more alpha\s*Games\s*2 of 2\s*1 of 2\s*[\d.]+\s*✗", page.text)
    assert re.search(r"eq\. 2; derived here\s*10", page.text)
    assert re.search(r"counterexample found\s*\(x\)", page.text)
    assert "{'x': " in page.text
    assert "Its claims have not been checked here: prefsim check beta" in page.text


@pytest.fixture
def handbook(results, tmp_path):
    """A handbook beside the papers, as it was built before `alpha` came."""
    page = tmp_path / "fake" / "docs" / "_build" / "html" / "papers" / "direct" / "beta.html"
    page.parent.mkdir(parents=True)
    page.write_text("<h1>beta</h1>")
    return page


def test_a_paper_leads_to_its_page_in_the_handbook(results, handbook):
    links = Page(write_index(results).read_text(encoding="utf-8")).links
    (link,) = [link for link in links if not link.startswith(("#", "https://"))]
    assert (results / link).resolve() == handbook
    assert not link.startswith("/"), "the folder of results may move with the handbook"


def test_the_handbook_may_lie_elsewhere(results, handbook, tmp_path, monkeypatch):
    elsewhere = tmp_path / "the site #1"
    (elsewhere / "papers" / "nash").mkdir(parents=True)
    page = elsewhere / "papers" / "nash" / "alpha.html"
    page.write_text("<h1>alpha</h1>")
    monkeypatch.setenv("PREFSIM_HANDBOOK", str(elsewhere))
    links = Page(write_index(results).read_text(encoding="utf-8")).links
    (link,) = [link for link in links if not link.startswith(("#", "https://"))]
    assert (results / unquote(link)).resolve() == page
    assert "#" not in link
    monkeypatch.setenv("PREFSIM_HANDBOOK", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="PREFSIM_HANDBOOK must be a folder that exists, got"):
        write_index(results)


def test_a_link_that_leads_nowhere_is_not_written(results, handbook, tmp_path):
    handbook.unlink()
    mine = tmp_path / "mine.py"
    mine.write_text((tmp_path / "fake/paper_repros/direct/beta/claims.py").read_text())
    check_papers([str(mine)], examples=3, out=results)
    links = Page(write_index(results).read_text(encoding="utf-8")).links
    assert all(link.startswith(("#", "https://")) for link in links)


def test_the_page_stands_alone(results):
    text = write_index(results).read_text(encoding="utf-8")
    assert all(source.startswith("data:image/svg+xml;base64,") for source in Page(text).sources)
    assert "<link" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert oct((results / "index.html").stat().st_mode & 0o777) == "0o644"
    assert [path.name for path in results.glob(".*")] == []


def test_a_page_of_nothing(tmp_path):
    text = write_index(tmp_path).read_text(encoding="utf-8")
    assert "0 papers" in Page(text).text
    with pytest.raises(ValueError, match="folder of results must be a folder that exists, got"):
        write_index(tmp_path / "none")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-16, "1e-16"), (123456.7, "1.235e+05"), (10**7, "10000000"), (True, "True"), ("", "")],
)
def test_numbers(value, text):
    assert format_number(value) == text


def test_bars_on_a_terminal_and_elsewhere():
    def run(terminal):
        stream = io.StringIO()
        with Bars(
            "papers", 2, console=Console(file=stream, force_terminal=terminal, width=100)
        ) as bars:
            assert bars.live is terminal
            bars.loop("p", "seeds", 0, 10)
            bars.loop("p", "seeds", 10, 10)
            bars.whole(1, 2)
            bars._progress.refresh()
            bars.finished("p", "✓ p: [red]fine")
        return stream.getvalue()

    assert run(False) == "✓ p: [red]fine\n"
    live = run(True)
    assert "p: seeds" in live
    assert "10/10" in live
    assert "✓ p: [red]fine" in live
