"""Every claim of every paper, one test each.

And what the discovery of papers says of wrong modules.
"""

import importlib
import re
import sys

import pytest
from hypothesis import settings

from prefsim.papers import FAMILIES, all_slugs, card, cards, load
from prefsim.papers.checking import check_claim

SLUGS = all_slugs()


def claims():
    """Yield (slug, claim id) of every claim.

    A module that cannot be imported has one test, which says why.
    """
    for slug in SLUGS:
        try:
            names = [claim.id for claim in load(slug).claims]
        except Exception:
            names = ["import"]
        yield from ((slug, name) for name in names)


@pytest.mark.parametrize(("slug", "name"), list(claims()))
def test_claim(slug, name):
    (claim,) = (claim for claim in load(slug).claims if claim.id == name)
    result = check_claim(claim, examples=settings.default.max_examples)
    assert result.holds, result.detail


@pytest.mark.parametrize("slug", SLUGS)
def test_card(slug):
    paper = load(slug).paper
    assert card(slug) == paper, "the card must be written with literals"
    assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
    assert 2000 < paper.year < 2100
    assert paper.title
    assert paper.summary
    assert paper.implements


@pytest.mark.parametrize("slug", SLUGS)
def test_what_a_paper_implements_exists(slug):
    for name in load(slug).paper.implements:
        parts = name.split(".")
        found = None
        for cut in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:cut]))
            except ModuleNotFoundError:
                continue
            for part in parts[cut:]:
                found = getattr(found, part)
            break
        assert callable(found) or hasattr(found, "__file__"), name


def test_cards_are_read_without_importing(fake_papers):
    fake_papers("second", family="nash")
    fake_papers("first", family="nash")
    fake_papers("other", family="direct")
    fake_papers("_helper")
    assert all_slugs() == ("first", "other", "second")
    assert [paper.slug for paper in cards()] == ["other", "first", "second"]
    assert [paper.slug for paper in cards("nash")] == ["first", "second"]
    assert not any(name.startswith("paper_repros.") for name in sys.modules)
    assert card("first") == load("first").paper


def test_a_card_that_is_computed_is_imported(fake_papers):
    file = fake_papers("late")
    file.write_text(file.read_text().replace("year=2024", "year=2000 + 24"))
    assert card("late").year == 2024
    assert "paper_repros.late" in sys.modules


def test_an_unknown_family():
    with pytest.raises(
        ValueError, match=f"family must be one of {', '.join(map(repr, FAMILIES))}, got 'north'"
    ):
        cards("north")


@pytest.mark.parametrize("function", [card, load])
@pytest.mark.parametrize(
    ("slug", "hint"),
    [
        ("frist", "did you mean 'first'"),
        ("zzz", "1 are known, none like it"),
        ("../first", "did you mean 'first'"),
    ],
)
def test_an_unknown_slug_names_the_closest(fake_papers, function, slug, hint):
    fake_papers("first")
    with pytest.raises(ValueError, match=re.escape(f"paper {slug!r} is not known; {hint}")):
        function(slug)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("slug='p'", "slug='q'", r"slug of the paper in p.py must be 'p', got 'q'"),
        ("family='direct'", "family='north'", "family of paper p must be one of .*, got 'north'"),
        (
            "def reproduce",
            "def produce",
            "must define PAPER, CLAIMS and reproduce, got no reproduce",
        ),
        (
            'Claim("bound"',
            'Claim("zero"',
            "claims of paper p must have one id each, got 'zero' twice",
        ),
        (
            '"inequality"',
            '"inequal"',
            "kind of claim 'bound' of paper p must be one of .*, got 'inequal'",
        ),
        (
            "shift, 1e-9",
            "shift, -1e-9",
            "tolerance of claim 'bound' of paper p must be a finite number >= 0, got -1e-09",
        ),
        (
            "shift, 1e-9",
            "shift, float('nan')",
            "tolerance of claim 'bound' of paper p must be a finite number >= 0, got nan",
        ),
        (
            "shift, 1e-9",
            "'shift', 1e-9",
            "check of claim 'bound' of paper p must be a function, got 'shift'",
        ),
        (
            "breaks=",
            "examples=0, breaks=",
            "examples of claim 'bound' of paper p must be an integer >= 1, got 0",
        ),
    ],
)
def test_a_wrong_module(fake_papers, old, new, message):
    file = fake_papers("p")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load("p")


def test_a_paper_without_claims(fake_papers):
    file = fake_papers("p")
    file.write_text(file.read_text() + "\nCLAIMS = ()\n")
    with pytest.raises(ValueError, match="CLAIMS of paper p must hold at least one claim"):
        load("p")
