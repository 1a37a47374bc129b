"""Every paper: its card, what it implements, each of its claims, and its quick reproduction."""

import ast
import importlib
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import settings

from prefsim.data.locate import data_folder
from prefsim.papers import FAMILIES, Run, all_slugs, card, cards, find, load
from prefsim.papers.checking import check_claim
from prefsim.papers.reproducing import run_reproduction
from prefsim.papers.sabotage import functions_of, resolve

SLUGS = all_slugs()


def claims():
    """Yield (slug, claim id) of every claim; a paper that cannot be imported has one test."""
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
    if result.holds is None:
        pytest.skip(result.detail)
    assert result.holds, result.detail
    # A bound that nothing comes near says little, and a wrong constant in it would pass.
    if result.used is not None and "loose" not in claim.statement:
        assert result.used >= 0.01, "sharpen the bound, draw nearer to it, or say that it is loose"


@pytest.mark.parametrize("slug", SLUGS)
def test_quick_reproduction(slug, tmp_path):
    outcome = run_reproduction(slug, out=tmp_path, quick=True, data=data_folder())
    assert outcome.error is None
    failed = [row for row in outcome.result["criteria"] if not row["passed"]]
    assert not failed
    assert outcome.result["table"]
    # How to read the figure takes more than a few words, and what was cut is said where it was.
    assert len(outcome.result["caption"].split()) >= 15
    sources = [file.read_text(encoding="utf-8") for file in find(slug).files()]
    assert bool(outcome.result["cut"]) == any("run.quick" in text for text in sources)


@pytest.mark.parametrize("slug", SLUGS)
def test_card(slug):
    paper = load(slug).paper
    assert card(slug) == paper, "the card must be written with literals"
    assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv)
    assert 2000 < paper.year < 2100
    assert paper.title
    assert paper.summary
    assert paper.implements
    assert find(slug).family in FAMILIES


@pytest.mark.parametrize("slug", SLUGS)
def test_what_a_paper_implements_exists(slug):
    assert all(callable(resolve(name)) for name in card(slug).implements)
    assert functions_of(load(slug))


def imported_papers(file: Path) -> set[str]:
    """Return the slugs of the papers that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names if name.startswith("paper_repros.")]
    return {part[2] for part in parts if len(part) > 2}


@pytest.mark.parametrize("slug", SLUGS)
def test_a_paper_is_a_few_short_files_and_imports_no_other(slug):
    source = find(slug)
    # Errata are what is said of the paper, and no part of it.
    names = {file.name for file in source.files()} - {"errata.py"}
    assert {"__init__.py", "claims.py", "reproduction.py"} <= names
    assert len(names) <= 7, "what a paper needs beyond its subject belongs in prefsim"
    for file in source.files():
        assert imported_papers(file) <= {slug}, file
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 420, file


def test_nothing_of_a_paper_lies_outside_its_folder():
    root = find(SLUGS[0]).path.parents[1]
    assert [path.name for path in root.glob("*.py")] == ["__init__.py"]
    for family in (path for path in root.iterdir() if (path / "__init__.py").is_file()):
        assert [path.name for path in family.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("slug", SLUGS)
def test_no_text_speaks_of_notes_that_a_reader_does_not_have(slug):
    for file in find(slug).files():
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\bthe page\b|\bspecification\b|PAGE_|\bgolden\b", text, re.I), file


def test_cards_are_listed_by_family():
    listed = cards()
    assert [paper.slug for _, paper in listed] != []
    order = [list(FAMILIES).index(family) for family, _ in listed]
    assert order == sorted(order)
    assert {paper.slug for _, paper in listed} == set(SLUGS)
    assert Run().quick is False


@pytest.mark.slow
@pytest.mark.skipif(
    "PREFSIM_BUDGET" not in os.environ, reason="measures CPU time: set PREFSIM_BUDGET=1"
)
@pytest.mark.parametrize("slug", SLUGS)
def test_budget(slug, tmp_path, record_property):
    """What a paper costs in the suite: its claims and its quick reproduction, in CPU seconds."""
    # The suite imports these once, whatever papers it has.
    for name in (
        *("torch", "torch._dynamo", "matplotlib.pyplot", "scipy.optimize", "gymnasium"),
        "sklearn.datasets",
    ):
        importlib.import_module(name)
    claims = load(slug).claims
    start = time.process_time()
    for claim in claims:
        check_claim(claim, examples=settings.default.max_examples)
    checked = time.process_time()
    run_reproduction(slug, out=tmp_path, quick=True, data=data_folder())
    ended = time.process_time()
    record_property("cpu", ended - start)
    print(f"{slug}: claims {checked - start:.1f} s, reproduction {ended - checked:.1f} s")
