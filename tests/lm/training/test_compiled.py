"""Training by compiled layers: the same losses, names and files."""

import functools

import numpy as np
import pytest
import torch
from lm_made import adapted_llama, largest_difference, random_pairs
from safetensors import safe_open

from prefsim import losses
from prefsim.lm import OnlineKL
from prefsim.lm.model.compiled import check_compiles, compiled_layers, layers_of
from prefsim.solvers import fit

dpo = functools.partial(losses.dpo, beta=0.5)
OPTIONS = {
    "batch_size": 4,
    "optimizer": "sgd",
    "learning_rate": 1e-2,
    "schedule": "constant",
    "warmup": 0.0,
    "order": "shuffled",
    "progress": False,
}


@pytest.fixture(scope="module", autouse=True)
def compiler(tiny64):
    try:
        check_compiles(tiny64.model)
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture
def counted():
    """Numbers of graphs and breaks of this test."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    return counters


def is_compiled(policy):
    return [layer._compiled_call_impl is not None for layer in layers_of(policy.model)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"gradient_checkpointing": True},
        {"penalty": OnlineKL(weight=0.1, max_new_tokens=4), "diagnostics": ("kl", "entanglement")},
        {"packing": True},
    ],
    ids=["plain", "checkpointing", "draws", "packing"],
)
def test_losses_and_parameters_are_the_same(tiny64, counted, more):
    data = random_pairs(9)
    found = [
        fit(tiny64, dpo, data, reference=tiny64, steps=4, compile=flag, **OPTIONS, **more)
        for flag in (False, True)
    ]
    # Norms are in float32 in between, which compiled code need not round to.
    np.testing.assert_allclose(found[1].history, found[0].history, rtol=1e-5)
    assert largest_difference(found[0].policy, found[1].policy) < 1e-6
    # For all lengths and layers one version with gradients and one of the reference, and the line
    # that is tried first; diagnostics evaluate the policy, and single rows; packed rows have a
    # mask.
    assert counted["stats"]["unique_graphs"] == 3 or more.keys() & {"penalty", "packing"}
    assert counted["stats"]["unique_graphs"] <= 7
    assert not counted["graph_break"]
    names = [list(each.policy.module.state_dict()) for each in found]
    assert names[0] == names[1]
    assert not any(is_compiled(found[1].policy) + is_compiled(tiny64))


@pytest.mark.slow
def test_adapters_are_switched_off_for_the_reference(counted):
    policy, data = adapted_llama(), random_pairs(7)
    found = [
        fit(policy, dpo, data, reference=policy.without_adapters(), steps=3, compile=f, **OPTIONS)
        for f in (False, True)
    ]
    np.testing.assert_allclose(found[1].history, found[0].history, rtol=2e-4)
    assert found[1].history[0, 0] == pytest.approx(np.log(2), abs=1e-6)
    # One more than with all parameters: the first layer's input needs no gradient.
    assert counted["stats"]["unique_graphs"] == 4


@pytest.mark.slow
def test_a_compiled_training_resumes_bit_for_bit(tiny64, tmp_path):
    def train(folder, steps):
        return fit(
            tiny64,
            dpo,
            random_pairs(7),
            reference=tiny64,
            compile=True,
            steps=steps,
            save_every=2,
            resume=True,
            out=tmp_path / folder,
            **OPTIONS,
        )

    whole = train("whole", 4)
    train("parts", 2)
    resumed = train("parts", 4)
    assert np.array_equal(whole.history, resumed.history)
    assert largest_difference(whole.policy, resumed.policy) == 0
    (file,) = (tmp_path / "whole" / "model").glob("*.safetensors")
    with safe_open(file, "pt") as stored:
        assert set(stored.keys()) == {
            name for name, _ in tiny64.model.named_parameters() if "_orig_mod" not in name
        }


def test_layers_are_as_they_were_afterwards(tiny64):
    def own(*_, **__):
        raise AssertionError("is not called")

    first, *rest = layers_of(tiny64.model)
    first._compiled_call_impl = own
    try:
        with compiled_layers([tiny64.model, tiny64.module]):
            assert all(is_compiled(tiny64)) and first._compiled_call_impl is not own
        assert first._compiled_call_impl is own
        assert not any(layer._compiled_call_impl for layer in rest)
    finally:
        first._compiled_call_impl = None


def test_what_cannot_be_compiled_is_refused_before_training(tiny64, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"compile needs a model of layers .* got none in Linear"):
        check_compiles(torch.nn.Linear(2, 2))

    def fails(*_, **__):
        raise RuntimeError("\nno C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(ValueError, match=r"compile needs .* fails: RuntimeError: no C.. compiler$"):
        fit(tiny64, dpo, random_pairs(), reference=tiny64, compile=True, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
