"""The reference covers every public name, each public name has a docstring, and links between documents lead somewhere."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
make_reference = importlib.import_module("make_reference")


def test_the_reference_has_every_public_name():
    pages = make_reference.pages()
    for name in (
        "dpo",
        "solve_nash",
        "fit",
        "TabularMDP",
        "value_iteration",
        "read_jsonl",
        "bandits",
    ):
        assert any(f"### `{name}`" in text for text in pages.values()), name
    assert "prefsim.losses.pairwise" in pages["index.md"]


@pytest.mark.parametrize("module_name", make_reference.public_modules())
def test_public_names_are_documented(module_name):
    module = importlib.import_module(module_name)
    assert inspect.getdoc(module)
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), f"{module_name}.{name} has no docstring"


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda p: p.name,
)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
