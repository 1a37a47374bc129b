"""The badges of the README say what the results say, and what there is."""

import importlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from prefsim.papers.discovery import all_slugs, load
from prefsim.papers.reproducing import run_reproduction
from prefsim.papers.storage import VERDICTS, read_record, write_record
from prefsim.papers.verdicts import check_papers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
make_badges = importlib.import_module("make_badges")

NAMES = ("papers", "claims", "criteria")


def committed(name):
    return (make_badges.FOLDER / f"{name}.svg").read_text(encoding="utf-8")


def said(name):
    title = re.search(r"<title>(.*)</title>", committed(name))
    assert title is not None
    return title[1]


def test_papers_and_claims_are_all_that_there_are():
    slugs = all_slugs()
    assert f" of {len(slugs)} " in said("papers"), "run `make docs`"
    found = re.fullmatch(r"claims: \d+ of (\d+) hold(?:, (\d+) not run)?", said("claims"))
    assert found is not None
    counted = int(found[1]) + int(found[2] or 0)
    assert counted == sum(len(load(slug).claims) for slug in slugs), "run `make docs`"


def test_the_numbers_are_those_of_the_results():
    """Where there are results of all papers, run as they were for the badges."""
    try:
        made = make_badges.badges(ROOT / "results")
    except ValueError as error:
        pytest.skip(str(error)[:80])
    alike = [badge for badge in made if f"<desc>{badge.made}</desc>" in committed(badge.name)]
    if not alike:
        pytest.skip("the results here were run in another way")
    for badge in alike:
        assert committed(badge.name) == badge.svg(), "run `make docs`"


def test_the_readme_shows_them():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]*\]\((docs/[^)]*/badges/[^)]*\.svg)\)", text)
    assert shown == [f"docs/_static/badges/{name}.svg" for name in NAMES]


@pytest.fixture
def results(fake_papers, tmp_path):
    fake_papers("first")
    fake_papers("second", body="passed = False")
    for slug in ("first", "second"):
        run_reproduction(slug, out=tmp_path / "results", quick=True, seed=4)
    check_papers(["first", "second"], examples=7, seed=3, out=tmp_path / "results")
    return tmp_path / "results"


def test_what_fails_and_what_was_not_run_is_counted(results, tmp_path):
    file = results / "first" / VERDICTS
    verdicts = read_record(file)
    verdicts["claims"][0]["holds"] = None
    write_record(file, verdicts)
    papers, claims, criteria = make_badges.badges(results)
    assert (papers.message, papers.good) == ("1 of 2 reproduced", False)
    assert (claims.message, claims.good) == ("3 of 3 hold, 1 not run", True)
    assert (criteria.message, criteria.good) == ("3 of 4 pass", False)
    assert papers.made == "prefsim repro: quick runs, seed 4, without real data"
    assert claims.made == "prefsim check: 7 instances, seed 3, without real data"
    make_badges.write(results, tmp_path / "badges")
    for badge in (papers, claims, criteria):
        text = (tmp_path / "badges" / f"{badge.name}.svg").read_text(encoding="utf-8")
        image = ElementTree.fromstring(text)
        texts = ["".join(part.itertext()) for part in image.iter() if part.tag.endswith("}text")]
        assert texts == [badge.name, badge.message]
        assert image.get("aria-label") == badge.said
        assert (make_badges.GOOD in text) is badge.good
        assert (make_badges.BAD in text) is not badge.good
        wide = [
            float(part.get("x")) + float(part.get("textLength"))
            for part in image.iter()
            if part.tag.endswith("}text")
        ]
        assert wide[0] < float(image.find(".//{*}text[2]").get("x"))
        assert wide[1] < float(image.get("width"))


def test_results_of_other_code_are_refused(results, fake_papers):
    folder = fake_papers("first")
    with (folder / "reproduction.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(ValueError, match="not so for first: run `make docs`"):
        make_badges.badges(results)
    fake_papers("third")
    with pytest.raises(ValueError, match="not so for first, third: run `make docs`"):
        make_badges.badges(results)
