"""The reference has every public name, each of them with a docstring; links lead somewhere."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

from prefsim.papers.sabotage import resolve

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
make_reference = importlib.import_module("make_reference")

# The reference is written from docstrings and is no document of its own.
WRITTEN = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "reference"]
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/RESULTS.md")]
DOCUMENTS = [*OTHERS, *sorted(WRITTEN)]


@pytest.fixture(scope="module")
def pages():
    return make_reference.pages()


def test_a_room_has_a_page(pages):
    assert {"prefsim.md", "losses.md", "solvers.games.md", "lm.training.md"} <= set(pages)
    assert "## `prefsim.losses.pairwise`" in pages["losses.md"]
    assert "### `value_iteration`" in pages["solvers.planning.md"]
    assert "### `PairLogps`" in pages["containers.md"]
    index = pages["index.md"]
    assert set(re.findall(r"\]\(([\w.]+)\)", index)) | {"index.md"} == set(pages)
    assert "  - `solve_nash`: " in index


@pytest.mark.parametrize("room", make_reference.rooms())
def test_what_a_face_shows_is_in_the_reference(room, pages):
    face = importlib.import_module(room)
    for name in getattr(face, "__all__", []):
        value = getattr(face, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert any(f"### `{name}`\n" in text for text in pages.values()), name


@pytest.mark.parametrize("module_name", make_reference.public_modules())
def test_public_names_are_documented(module_name):
    module = importlib.import_module(module_name)
    assert inspect.getdoc(module)
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), f"{module_name}.{name} has no docstring"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_what_is_named_in_code_marks_exists(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"`(prefsim(?:\.\w+)+)`", text):
        assert resolve(name) is not None, f"{path.name} names {name}"
    for place in re.findall(r"`((?:prefsim|paper_repros|tests|docs|benchmarks)/[\w/.]+)`", text):
        assert place == "docs/reference/" or (ROOT / place).exists(), f"{path.name} names {place}"
