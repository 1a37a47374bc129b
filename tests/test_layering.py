"""Imports run one way: no circle of modules, and no room imports from one above it."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import prefsim

ROOT = Path(prefsim.__file__).parent

# From the ground up: a room imports from itself and from those before it.
GROUND = [
    "typing",
    "_frozen",
    "_colours",
    "_instances",
    "_torch_kernels",
    "_numpy_kernels",
    "numerics",
    "_readable",
    "checks",
    "backend",
    "containers",
    "divergences",
]
TOOLS = ["gradients", "progress", "parallel", "environment"]
HOUSE = ["worlds", "raters", "policies", "data", "logic", "losses", "solvers", "loops", "analysis"]
ROOMS = {
    "prefsim": [*GROUND, *TOOLS, *HOUSE, "testing", "lm", "papers", "cli", "__main__"],
    "prefsim.lm": ["model", "data", "training", "fitting", "online", "command"],
}
TRANSFORMERS = {"transformers", "accelerate", "peft", "datasets"}


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(node, *, inside_functions=True):
    """The names of modules that are imported below a node, those for type checkers left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: a relative import"
            full = {f"{child.module}.{alias.name}" for alias in child.names}
            yield from (name if name in FILES else child.module for name in full)
        else:
            yield from imported(child, inside_functions=inside_functions)


TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
IMPORTS = {name: set(imported(tree)) for name, tree in TREES.items()}


def test_no_module_is_part_of_a_circle():
    graph = {name: names & set(FILES) for name, names in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_from_below(package):
    height = {f"{package}.{room}": place for place, room in enumerate(ROOMS[package])}

    def room_of(name):
        return ".".join(name.split(".")[: package.count(".") + 2])

    inside = [name for name in FILES if name.startswith(f"{package}.")]
    assert {room_of(name) for name in inside} == set(height), "a room without a place, or none"
    for name in inside:
        for other in IMPORTS[name]:
            if room_of(other) in height:
                here, there = room_of(name), room_of(other)
                assert height[there] <= height[here], f"{name} imports {other}"


def test_the_library_knows_no_paper_of_its_own():
    for name, names in IMPORTS.items():
        assert not any(other.split(".")[0] == "paper_repros" for other in names), name


def test_what_is_slow_to_import_is_imported_where_it_is_used():
    for name, tree in TREES.items():
        if name.startswith("prefsim.lm"):
            continue
        file = name.rpartition(".")[2]
        kernels = {library for library in ("torch", "numba") if file.startswith(f"_{library}_")}
        slow = {*TRANSFORMERS, "torch", "numba"} - kernels
        at_once = {other.split(".")[0] for other in imported(tree, inside_functions=False)}
        assert not at_once & slow, f"{name} imports {sorted(at_once & slow)} with itself"
