"""A training waits for its device as seldom as can be: once a step, for loss and gradient norm."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lm_made import random_pairs
from torch.utils._python_dispatch import TorchDispatchMode

from prefsim import losses
from prefsim.lm import TextComparisons, TrainingOptions, collate, references_of
from prefsim.lm.training.engine import _Engine
from prefsim.lm.training.loss_evaluator import LossEvaluator, needs_of
from prefsim.lm.training.optimizer import can_fuse, make_optimizer
from prefsim.lm.training.reference import as_reference
from prefsim.lm.training.token_rows import token_rows
from prefsim.losses import container_of
from prefsim.solvers import fit

# What has to know values, or how many there are, before the next kernel can be launched.
WAITS = {
    "aten._local_scalar_dense.default",
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten._unique2.default",
    "aten.repeat_interleave.Tensor",
}


class Waits(TorchDispatchMode):
    """Counts the operations that a device is waited for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        by_mask = name == "aten.index.Tensor" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.count += name in WAITS or by_mask
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("loss", "held_to"),
    [
        (functools.partial(losses.dpo, beta=0.1), "model"),
        (functools.partial(losses.dpo, beta=0.1), "stored"),
        (losses.simpo, "none"),
        (functools.partial(losses.tdpo1, beta=0.1), "model"),
    ],
)
@pytest.mark.parametrize("packing", [False, True])
def test_a_micro_batch_waits_for_nothing(tiny, loss, held_to, packing):
    rng = np.random.default_rng(0)
    data = TextComparisons(
        *([rng.integers(3, 64, rng.integers(2, 8)).tolist() for _ in range(4)] for _ in range(3))
    )
    # Beside which others have room in one row.
    data.chosen[0].extend(range(3, 20))
    kind = container_of(loss)
    rows = token_rows(tiny, data, kind)
    given = {"none": lambda: None, "model": tiny.frozen}
    given["stored"] = lambda: references_of(tiny, data, loss)
    reference = as_reference(given[held_to](), tiny)
    needs = needs_of(loss)
    evaluator = LossEvaluator(tiny, data, rows, loss, needs, reference, packing=packing)
    # Made of Python's lists, on the processor.
    batch = evaluator.batch(range(4), torch.device("cpu"))
    assert (batch.position_ids is not None) == packing
    evaluator.batch = lambda examples, device: batch
    model = tiny.log_prob_model
    with Waits() as waits:
        seen = evaluator.examples(model, model, range(4))
        seen.container.chosen.sum().backward()
    assert waits.count == 0


def test_a_step_waits_for_nothing_but_its_loss_and_its_norm(tiny, monkeypatch):
    """Read as one tensor, which is not an operation; batches are made on the processor."""
    made, counted = {}, []
    batch, step = LossEvaluator.batch, _Engine._step

    def kept(self, examples, device):
        key = tuple(map(int, examples))
        if key not in made:
            made[key] = batch(self, examples, device)
        return made[key]

    def watched(self, number, rows):
        with Waits() as waits:
            found = step(self, number, rows)
        counted.append(waits.count)
        return found

    monkeypatch.setattr(LossEvaluator, "batch", kept)
    monkeypatch.setattr(_Engine, "_step", watched)
    options = {"batch_size": 8, "gradient_accumulation": 4, "optimizer": "sgd", "order": "given"}
    fit(tiny, losses.dpo, random_pairs(8), reference=tiny, steps=3, progress=False, **options)
    # At first every batch is made.
    assert counted[0] > 0 and counted[1:] == [0, 0]


def test_the_count_counts():
    """Without its indices the mask of a batch is read, and waited for."""
    with Waits() as waits:
        torch.tensor([True, False]).nonzero()
        bool(torch.ones(1).any())
        torch.ones(3)[torch.tensor([True, False, True])]
    assert waits.count >= 3


def test_indices_of_scored_tokens():
    from prefsim.lm.model.tokens import Tokens

    rows = [Tokens([3, 4], [5]), Tokens([6], [7, 8, 9]), Tokens([3], [4, 5])]
    for side in ("left", "right"):
        batch = collate(rows, pad_id=0, side=side)
        scored = batch.input_ids.reshape(-1)[batch.scored.positions]
        assert scored.tolist() == [5, 7, 8, 9, 4, 5]
        assert batch.scored.places.tolist() == [0, 3, 4, 5, 6, 7]
        assert batch.scored.width == 3 and batch.scored.counts == (1, 3, 2)
        assert batch.is_left_aligned == (side == "right")


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_number_depends_on_how_the_mask_is_told(tiny64, side):
    rng = np.random.default_rng(0)
    prompts, completions = (
        [rng.integers(3, 64, rng.integers(2, 8)).tolist() for _ in range(5)] for _ in range(2)
    )
    batch = collate(tiny64.encode(prompts, completions), pad_id=0, side=side)
    told = tiny64.log_prob_model(batch).logp
    read = tiny64.log_prob_model(batch._replace(scored=None, is_left_aligned=False)).logp
    torch.testing.assert_close(told, read, rtol=1e-12, atol=1e-12)
    assert (told != 0).sum() == len(batch.scored.positions)


def test_one_kernel_for_all_parameters_takes_the_same_steps():
    ends = []
    for fused in (False, True):
        parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(3))]
        options = TrainingOptions(learning_rate=0.1, weight_decay=0.01)
        optimizer = make_optimizer(options, parameters, fused=fused)
        for _ in range(3):
            sum((p**2).sum() for p in parameters).backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(torch.cat([p.detach().reshape(-1) for p in parameters]))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("device", "processes", "fused"),
    [("cuda", 1, True), ("cuda", 2, True), ("cpu", 1, True), ("cpu", 2, False), ("mps", 1, False)],
)
def test_where_steps_are_one_kernel(device, processes, fused):
    state = SimpleNamespace(fsdp_plugin=None)
    accelerator = SimpleNamespace(device=torch.device(device), num_processes=processes, state=state)
    assert can_fuse(accelerator) is fused
    state.fsdp_plugin = SimpleNamespace(cpu_offload=True)
    assert not can_fuse(accelerator)
