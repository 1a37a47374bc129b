"""The style that no linter knows: one thought a line."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("prefsim", "paper_repros", "tests", "benchmarks", "examples", "docs")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))


def nested(node):
    """Yield the conditional expressions that stand inside another."""
    for outer in ast.walk(node):
        if isinstance(outer, ast.IfExp):
            yield from (
                inner.lineno
                for child in (outer.test, outer.body, outer.orelse)
                for inner in ast.walk(child)
                if isinstance(inner, ast.IfExp)
            )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_style(file):
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert not list(nested(tree)), "a conditional expression inside another"
    assert "fmt: " + "skip" not in text, "the formatter lays lines out"
    assert "fmt: " + "off" not in text
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert "_" not in names, "a function without a name"


def test_no_module_is_called_utils():
    assert not [file for file in FILES if file.stem in ("utils", "helpers", "misc", "common")]
