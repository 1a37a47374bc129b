"""Backends, conversion and seeds; and what ``import prefsim`` costs."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from prefsim import use_backend
from prefsim.backend import asarray, current_backend, index_array, like, random_generator, to_numpy
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.worlds import ContextualBandit


def test_default_is_numpy_float64_and_blocks_nest():
    assert asarray([1]).dtype == np.float64
    with use_backend("torch", dtype="float32"):
        assert asarray([1]).dtype == torch.float32 and index_array([1]).dtype == torch.int64
        with use_backend("numpy", dtype="float32"):
            assert asarray(torch.ones(1)).dtype == np.float32
        assert current_backend().name == "torch"
    assert current_backend().name == "numpy"


@pytest.mark.parametrize(
    "options",
    [
        {"name": "jax"},
        {"name": "torch", "dtype": "int8"},
        {"name": "numpy", "device": "cuda"},
        {"name": "torch", "device": "cuda:99"},
    ],
)
def test_bad_backends(options):
    with (
        pytest.raises(ValueError, match="must be"),
        use_backend(options.pop("name"), **options),
    ):
        pytest.fail("the block must not be entered")


def test_the_same_seed_gives_the_same_draws_on_both():
    def draws():
        world = ContextualBandit.random(3, 4, seed=0, n_features=2)
        policy = TabularPolicy.random(3, 4, seed=1)
        data = Comparisons.sample(world, 20, seed=2, policy=policy)
        return [
            to_numpy(x)
            for x in (
                world.reward,
                world.features,
                policy.probs,
                policy.sample(np.arange(3), 5, 3),
                data.chosen,
            )
        ]

    numpy_draws = draws()
    with use_backend("torch"):
        torch_draws = draws()
    for a, b in zip(numpy_draws, torch_draws, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)


def test_seeds():
    assert random_generator(3).random() == random_generator(np.int64(3)).random()
    rng = np.random.default_rng(0)
    assert random_generator(rng) is rng
    for bad in (-1, 1.5, "x", None, True):
        with pytest.raises(ValueError, match="seed must be an integer"):
            random_generator(bad)


def test_like_follows_the_other_array():
    assert like([1, 2], torch.ones(1, dtype=torch.float32)).dtype == torch.float32
    assert like(torch.ones(2), np.ones(1)).dtype == np.float64
    assert like(np.broadcast_to(np.ones(1), 3), torch.ones(1), integer=True).tolist() == [1, 1, 1]
    assert to_numpy(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32


def test_import_is_light():
    code = (
        "import sys, prefsim, prefsim.worlds, prefsim.losses, prefsim.solvers, prefsim.policies,"
        " prefsim.data;print([m for m in ('torch', 'cvxpy', 'matplotlib', 'transformers',"
        " 'gymnasium', 'hypothesis') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_the_library_by_itself_imports_no_room_and_nothing_but_numpy():
    # Modules are counted rather than seconds: a busy machine imports no more of them.
    code = "import sys, prefsim; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    packages = {name.partition(".")[0] for name in imported}
    assert not packages & {"scipy", "torch", "joblib", "threadpoolctl", "pydantic", "typer", "rich"}
    # It takes as long as NumPy itself, and waits for the first array.
    assert "array_api_compat.numpy" not in imported
    ours = {name.split(".")[1] for name in imported if name.startswith("prefsim.")}
    assert ours == {"_numpy_kernels", "backend", "checks", "numerics", "typing"}


@pytest.mark.parametrize("plan", ["policy_iteration", "linear_program", "soft_value_iteration"])
def test_planners_solve_in_half_precision(plan):
    from prefsim.solvers import planning
    from prefsim.worlds import TabularMDP

    options = {"temperature": 0.3} if plan.startswith("soft") else {}

    def value():
        found = getattr(planning, plan)(TabularMDP.random(3, 2, discount=0.5, seed=0), **options)
        return to_numpy(found.value).astype(np.float64)

    exact = value()
    with use_backend("torch", dtype="bfloat16"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(value(), exact, rtol=0.1, atol=0.05)
