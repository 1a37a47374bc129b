"""Optimiser state in main memory: the same numbers; on a CPU nothing at all."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lm_made import random_pairs

from prefsim import losses
from prefsim.lm import TrainingOptions
from prefsim.lm.training.checkpoint import optimizer_tensors, put_optimizer
from prefsim.lm.training.narrow_adamw import NarrowAdamW
from prefsim.lm.training.optimizer import make_optimizer, placement
from prefsim.lm.training.sharding import check_sharding
from prefsim.solvers import fit

MOMENTS = [torch.float32, torch.bfloat16, torch.uint8]


def after_steps(moments, *, offload, steps=4, state=None):
    parameters = [
        torch.nn.Parameter(torch.linspace(-1, 1, 600).reshape(2, 300)),
        torch.nn.Parameter(torch.ones(5)),
    ]
    optimizer = NarrowAdamW(parameters, lr=0.1, moments=moments, seed=0, offload=offload)
    names = {parameter: str(i) for i, parameter in enumerate(parameters)}
    if state is not None:
        put_optimizer(optimizer, names, state.items(), "a test")
    for _ in range(steps):
        sum((p**3 - p).sum() for p in parameters).backward()
        optimizer.step()
        optimizer.zero_grad()
    return parameters, optimizer_tensors(optimizer, names)


@pytest.mark.parametrize("moments", MOMENTS)
def test_where_a_state_lies_changes_no_number(moments):
    """Here both lie in main memory; `tests/gpu` has the same on a GPU."""
    (there, state), (here, expected) = (
        after_steps(moments, offload=offload) for offload in (True, False)
    )
    assert all(torch.equal(one, other) for one, other in zip(there, here, strict=True))
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    again, _ = after_steps(moments, offload=True, steps=1, state=state)
    assert not torch.equal(again[0], there[0])


def accelerator(device, **state):
    return SimpleNamespace(
        device=torch.device(device),
        num_processes=1,
        state=SimpleNamespace(fsdp_plugin=None),
        **state,
    )


@pytest.mark.parametrize("name", ["adamw", "adamw_bf16", "adamw_8bit", "sgd"])
def test_what_is_offloaded_where(name):
    options = TrainingOptions(optimizer=name, offload_optimizer=True)
    assert placement(options, accelerator("cuda"))["offload"]
    assert not placement(options, accelerator("cpu"))["offload"]
    assert not placement(TrainingOptions(optimizer=name), accelerator("cuda"))["offload"]
    made = make_optimizer(options, [torch.nn.Parameter(torch.ones(2, 2))], offload=True)
    if name == "sgd":  # which remembers nothing
        assert isinstance(made, torch.optim.SGD)
    else:
        assert isinstance(made, NarrowAdamW) and made.offload


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_on_a_cpu_it_is_the_same_training(name, tiny, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    data = random_pairs(6)
    how = {"steps": 3, "batch_size": 3, "learning_rate": 1e-3, "progress": False}
    runs = [
        fit(tiny, losses.simpo, data, optimizer=name, offload_optimizer=offload, **how)
        for offload in (True, False)
    ]
    np.testing.assert_array_equal(*(run.history for run in runs))
    for one, other in zip(*(run.policy.model.parameters() for run in runs), strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_offloaded_is_refused():
    with pytest.raises(ValueError, match="offload_optimizer is for an optimiser by name"):
        TrainingOptions(optimizer=torch.optim.AdamW, offload_optimizer=True)
    sharding = accelerator("cuda", distributed_type=SimpleNamespace(value="FSDP"), is_fsdp2=True)
    setup = SimpleNamespace(options=TrainingOptions(offload_optimizer=True))
    with pytest.raises(ValueError, match="fsdp_offload_params: true"):
        check_sharding(setup, sharding, None)
