"""What a user sees after ``import prefsim``: every room by its name, and in a room its names."""

import importlib
import pkgutil
import subprocess
import sys
import types

import pytest

import prefsim

# What a user has no use for: the command line and what it shows.
INNER = {"__main__", "cli", "environment", "progress"}
PACKAGES = sorted(module.name for module in pkgutil.iter_modules(prefsim.__path__) if module.ispkg)
MODULES = sorted(
    module.name
    for module in pkgutil.iter_modules(prefsim.__path__)
    if not module.name.startswith("_") and module.name not in INNER
)


def fresh(code):
    """Run code in an interpreter that has imported nothing yet, and return what it prints."""
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    return run.stdout.strip()


@pytest.mark.parametrize("room", PACKAGES)
def test_a_room_answers_after_import_prefsim(room):
    """In a fresh interpreter, as another test may have imported the room."""
    code = f"import prefsim; print(prefsim.{room}.__name__, sorted(prefsim.{room}.__all__)[0])"
    module, first = fresh(code).split()
    assert module == f"prefsim.{room}"
    assert first == sorted(importlib.import_module(module).__all__)[0]


def test_all_public_modules_answer():
    listed = fresh(
        "import prefsim; print(*(n for n in dir(prefsim)"
        " if type(getattr(prefsim, n)).__name__ == 'module'))"
    )
    assert listed.split() == MODULES
    assert set(dir(prefsim)) == {*MODULES, "__version__", "use_backend"}


def test_import_prefsim_is_light():
    loaded = fresh("import sys, prefsim; print(*sys.modules)").split()
    assert not {"torch", "matplotlib", "scipy", "hypothesis", "transformers"} & set(loaded)
    # Nothing but what `use_backend` needs (it checks its options): the rooms are imported where
    # they are asked for.
    rooms = {name.split(".")[1] for name in loaded if name.startswith("prefsim.")}
    assert rooms & set(PACKAGES) <= {"checks"}


@pytest.mark.parametrize("room", PACKAGES)
def test_no_room_imports_torch_or_matplotlib(room):
    code = f"import sys, prefsim.{room}; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    assert fresh(code) == "False False"


@pytest.mark.parametrize("room", PACKAGES)
def test_a_room_shows_its_names_and_not_its_files(room):
    module = importlib.import_module(f"prefsim.{room}")
    assert dir(module) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        # Rooms within a room, such as solvers.games, are names; files are not.
        assert not isinstance(value, types.ModuleType) or hasattr(value, "__path__")


def test_losses_and_analyses_are_found_by_name():
    assert prefsim.losses.dpo.__module__ == "prefsim.losses.pairwise"
    assert prefsim.analysis.log_log_slope([1, 10], [1.0, 0.1]) == pytest.approx(-1.0)
    assert "pairwise" not in dir(prefsim.losses)


def test_what_is_not_there():
    with pytest.raises(AttributeError, match="module 'prefsim' has no attribute 'lossses'"):
        _ = prefsim.lossses
    with pytest.raises(ImportError, match="cannot import name 'lossses'"):
        exec("from prefsim import lossses")
