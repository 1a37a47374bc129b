"""What a type checker sees of the library in a user's script."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import functools

import numpy as np
import torch
from numpy.typing import NDArray

from prefsim import data, losses, policies, solvers, worlds
from prefsim.losses import PairLogps, TokenPairLogps
from prefsim.numerics import log_sigmoid
from prefsim.typing import Array


def on_numpy(x: NDArray[np.float64], mask: NDArray[np.bool_], steps: NDArray[np.int64]) -> None:
    pairs = PairLogps(x, x, x, x, chosen_length=steps, rejected_length=steps)
    reveal_type(losses.dpo(pairs))  # NDArray
    reveal_type(losses.simpo(pairs, beta=2.0))  # NDArray
    reveal_type(losses.cpl(TokenPairLogps(x, x, x, x, mask, mask)))  # NDArray
    reveal_type(losses.srpo(losses.SelfImprovementLogps.example()))  # NDArray
    reveal_type(pairs.swapped().chosen)  # NDArray
    reveal_type(log_sigmoid(x))  # NDArray


def on_torch(x: torch.Tensor) -> None:
    pairs = PairLogps(x, x, x, x)
    reveal_type(losses.dpo(pairs))  # Tensor
    reveal_type(functools.partial(losses.ipo, tau=0.2)(pairs))  # Tensor
    losses.ipo(pairs).mean().backward()


def on_any_library(x: Array) -> None:
    reveal_type(losses.dpo(PairLogps(x, x, x, x)))  # Array
    reveal_type(x.shape)  # tuple


def by_a_user(logps: PairLogps) -> Array:
    return (logps.chosen - logps.rejected) ** 2


world = worlds.ContextualBandit(reward=[[0.0, 1.0]])
start = policies.TabularPolicy.uniform(1, 2)
rows = data.Comparisons.population(world, start)
reveal_type(solvers.fit(start, by_a_user, rows).converged)  # bool
"""
WRONG = """
import torch

from prefsim import losses
from prefsim.losses import PairLogps

x = torch.zeros(2)
pairs = PairLogps(x, x, x, x)
losses.dpo(pairs, beta="strong")  # [arg-type]
losses.dpo(pairs, strength=0.1)  # [call-arg]
losses.dpo(x)  # [arg-type]
PairLogps(x, x, x)  # [call-arg]
PairLogps("yes", x, x, x)  # [type-var]
"""
KINDS = {
    "NDArray": "numpy.ndarray[",
    "Tensor": "torch._tensor.Tensor",
    "Array": "prefsim.typing.Array",
    "tuple": "tuple[int, ...]",
    "bool": "bool",
}


def mypy(folder: Path, script: str) -> list[str]:
    """Return the lines that mypy prints about a user's script, outside our checkout."""
    (folder / "script.py").write_text(script, encoding="utf-8")
    settings = [
        "[mypy]",
        f"mypy_path = {ROOT}",
        f"cache_dir = {folder / 'cache'}",
        "ignore_missing_imports = True",
        "[mypy-prefsim.*]",
        "follow_imports = silent",
    ]
    (folder / "mypy.ini").write_text("\n".join(settings), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "script.py"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not run.stderr
    return run.stdout.splitlines()


def expected(script: str) -> dict[int, str]:
    """Return what the comments of a script say, by line."""
    lines = enumerate(script.splitlines(), start=1)
    return {number: line.rpartition("  # ")[2] for number, line in lines if "  # " in line}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("user")


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "prefsim" / "py.typed").exists()


def test_a_loss_returns_the_kind_of_array_that_it_is_given(folder):
    said = {int(line.split(":")[1]): line for line in mypy(folder, SCRIPT)}
    stated = expected(SCRIPT)
    assert said.keys() == stated.keys(), said
    for number, kind in stated.items():
        assert f'Revealed type is "{KINDS[kind]}' in said[number], said[number]


def test_wrong_calls_are_errors(folder):
    said = {int(line.split(":")[1]): line for line in mypy(folder, WRONG) if ": error: " in line}
    stated = expected(WRONG)
    assert said.keys() == stated.keys(), said
    for number, code in stated.items():
        assert said[number].endswith(code), said[number]
