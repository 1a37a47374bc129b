"""Papers are found by slug and by path, and a wrong one is refused with the reason."""

import re
import sys
import types

import pytest

from prefsim.papers import FAMILIES, all_slugs, card, cards, discovery, find, load
from prefsim.papers.checking import check_claim


def test_cards_are_read_without_importing(fake_papers):
    fake_papers("second", family="nash")
    fake_papers("first", family="nash")
    fake_papers("other", family="direct")
    fake_papers("_helper")
    assert all_slugs() == ("first", "other", "second")
    assert [(family, paper.slug) for family, paper in cards()] == [
        ("direct", "other"),
        ("nash", "first"),
        ("nash", "second"),
    ]
    assert [paper.slug for _, paper in cards("nash")] == ["first", "second"]
    assert not any(name.startswith("paper_repros.") for name in sys.modules)
    assert card("first") == load("first").paper


def test_a_listing_looks_for_packages_once(fake_papers, monkeypatch):
    for name in ("first", "second", "third"):
        fake_papers(name)
    asked = []
    offered = discovery._offered
    monkeypatch.setattr(discovery, "_offered", lambda: asked.append(1) or offered())
    assert len(cards()) == 3
    assert len(asked) == 1


def test_a_card_that_is_computed_is_imported(fake_papers):
    file = fake_papers("late") / "__init__.py"
    file.write_text(file.read_text().replace("year=2024", "year=2000 + 24"))
    assert card("late").year == 2024
    assert "paper_repros.direct.late" in sys.modules


def test_a_paper_is_loaded_whole(fake_papers):
    folder = fake_papers("p", family="nash")
    module = load("p")
    assert module.family == "nash"
    assert module.path == folder
    assert [claim.id for claim in module.claims] == ["zero", "bound"]
    assert callable(module.reproduce)


def test_an_unknown_family_is_refused():
    with pytest.raises(
        ValueError, match=f"family must be one of {', '.join(map(repr, FAMILIES))}, got 'north'"
    ):
        cards("north")


def test_a_family_of_another_package_comes_last(fake_papers):
    fake_papers("q", family="alpine")
    fake_papers("p", family="plural")
    assert [family for family, _ in cards()] == ["plural", "alpine"]


@pytest.mark.parametrize("function", [card, load, find])
@pytest.mark.parametrize(
    ("slug", "hint"),
    [("frist", "did you mean 'first'"), ("zzz", "1 are known, none like it")],
)
def test_an_unknown_slug_names_the_closest(fake_papers, function, slug, hint):
    fake_papers("first")
    with pytest.raises(ValueError, match=re.escape(f"paper {slug!r} is not known; {hint}")):
        function(slug)


def test_two_papers_of_one_slug_are_refused(fake_papers):
    fake_papers("p", family="nash")
    fake_papers("p", family="direct")
    with pytest.raises(ValueError, match=r"papers must have one slug each, got .*direct.*nash"):
        all_slugs()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("__init__.py", "slug='p'", "slug='q'", r"slug of the paper in .* must be 'p', got 'q'"),
        ("__init__.py", "PAPER =", "OTHER =", r"__init__.py must define PAPER, got None"),
        ("reproduction.py", "def reproduce", "def produce", r"must define reproduce\(run\)"),
        ("claims.py", '"bound"', '"zero"', "must have one id each, got 'zero' twice"),
        (
            "claims.py",
            '"inequality"',
            '"inequal"',
            "kind of claim 'bound' must be one of .*, got 'inequal'",
        ),
        (
            "claims.py",
            "tolerance=1e-9",
            "tolerance=-1e-9",
            "tolerance of claim 'zero' must be a finite number >= 0, got -1e-09",
        ),
        (
            "claims.py",
            "tolerance=1e-9",
            "tolerance=float('nan')",
            "tolerance of claim 'zero' must be a finite number >= 0, got nan",
        ),
        (
            "claims.py",
            'stated="derived"',
            'stated="guessed"',
            "stated of claim 'bound' must be one of 'paper', 'derived', 'chosen', got 'guessed'",
        ),
        (
            "claims.py",
            "tolerance=1e-9",
            "tolerance=1e-9, examples=0",
            "examples of claim 'zero' must be an integer >= 1, got 0",
        ),
    ],
)
def test_a_wrong_paper(fake_papers, file, old, new, message):
    path = fake_papers("p") / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load("p")


def test_a_paper_without_claims(fake_papers):
    fake_papers("p", source="x = 1")
    with pytest.raises(ValueError, match="paper p must have at least one claim"):
        load("p")


# --- papers of one's own, by path ---

OWN = '''
"""Halves."""

from hypothesis import strategies as st

from prefsim.papers import apart, claim


@claim(
    "halves", "identity", source="school", stated="derived", given={"x": st.floats(0, 1)},
)
def two_halves_are_a_whole(x):
    """Two halves of x are x."""
    return apart(x / 2 + x / 2, x)
'''


@pytest.fixture
def own_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    return file


def test_a_file_of_ones_own(own_file, monkeypatch):
    monkeypatch.chdir(own_file.parent)
    module = load("./mine.py")
    assert module.paper.slug == "mine"
    assert module.paper.title == "Halves."
    assert module.reproduce is None
    assert module.path == own_file
    (claim,) = module.claims
    assert check_claim(claim, examples=5).holds
    assert find(own_file).module == find("./mine.py").module
    assert card("./mine.py") == module.paper


def test_a_folder_of_ones_own_may_import_its_neighbours(fake_papers, tmp_path):
    folder = fake_papers("q").rename(tmp_path / "outside")
    card_file = folder / "__init__.py"
    card_file.write_text(card_file.read_text().replace("'q'", "'outside'"))
    (folder / "subject.py").write_text("HALF = 0.5\n")
    claims = folder / "claims.py"
    claims.write_text("from .subject import HALF\n" + claims.read_text())
    module = load(str(folder))
    assert [claim.id for claim in module.claims] == ["zero", "bound"]
    assert callable(module.reproduce)
    assert load(str(folder / "claims.py")).path == folder


def test_the_path_of_an_offered_paper_is_that_paper(fake_papers):
    folder = fake_papers("p")
    assert find(str(folder)) == find("p")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.py", None, "paper must be a file or a folder that exists, got"),
        ("notes.txt", "x", "the file of a paper must end in .py, got"),
        ("my-paper.py", OWN, "the name of a paper must be a Python name, got 'my-paper'"),
        ("empty.py", "x = 1", "paper empty must have at least one claim, got none"),
    ],
)
def test_a_wrong_path(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load(str(tmp_path / name))


def test_a_folder_that_is_no_paper(tmp_path):
    with pytest.raises(ValueError, match=r"must hold __init__.py and claims.py"):
        load(f"{tmp_path}/")


def test_an_installed_package_offers_papers(tmp_path, monkeypatch, fake_papers):
    fake_papers("first")
    folder = fake_papers("second")
    other = tmp_path / "theirs" / "their_papers"
    (other / "nash").mkdir(parents=True)
    (other / "__init__.py").write_text("")
    folder.rename(other / "nash" / "second")
    monkeypatch.syspath_prepend(tmp_path / "theirs")
    points = [
        types.SimpleNamespace(name="ours", value="paper_repros"),
        types.SimpleNamespace(name="theirs", value="their_papers"),
    ]
    monkeypatch.setattr(discovery, "entry_points", lambda group: points)
    assert all_slugs() == ("first", "second")
    assert load("second").family == "nash"
    points.append(types.SimpleNamespace(name="gone", value="no_such_package"))
    with pytest.raises(ValueError, match="must name a package that holds papers, got 'no_such"):
        all_slugs()
