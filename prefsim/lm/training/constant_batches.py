"""Batches from which a loss that couples its examples learns nothing, told before the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from prefsim.containers import TokenListLogps
from prefsim.lm.data.text_data import TextData, TokenLogps
from prefsim.lm.training.batches import BatchPlan, micro_batches

__all__ = ["check_batches"]

# How far a log-ratio is moved, in nats: less than where a loss may clip or saturate.
_MOVE = 0.1
# Tokens of a made-up sequence.
_TOKENS = 2


def check_batches(
    loss: Callable[..., Any],
    kind: type,
    data: TextData,
    per_example: int,
    plan: BatchPlan,
    *,
    steps: int,
    accumulation: int,
) -> None:
    """Raise if a loss is the same on some micro-batch whatever the policy says.

    KTO's reference point is the mean log-ratio of the batch, and BCO's shift its mean reward: of
    one example alone nothing is left but itself.

    Parameters
    ----------
    loss
        A loss that couples its batch, of ``kind``.
    data, per_example
        The rows, and how many sequences each has.
    plan, steps, accumulation
        Which rows meet, and in how many parts on each process.

    Raises
    ------
    ValueError
        If there is such a micro-batch; it says of how many examples.
    """
    # Drawn responses of equal rewards teach nothing, and that is no fault of how they are split.
    if kind is TokenListLogps:
        return
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    parts = accumulation * processes
    batches = list(plan.batches(0, min(steps, plan.steps_per_epoch)))
    sizes = {
        len(part): len(batch)
        for batch in batches
        for part in micro_batches(batch, plan.lengths, parts, regroup=False)
        if len(part)
    }
    for size in sorted(sizes):
        if all(_is_constant(loss, kind, data, per_example, rows) for rows in _some_of(data, size)):
            raise ValueError(
                f"the loss couples the examples of its batch, and of {size} alone it is the same"
                f" whatever the policy says; a step of {sizes[size]} examples in"
                f" {parts} part{'s' * (parts > 1)} has such (batch_size = {plan.batch_size} of"
                f" {len(data)} rows): change batch_size or gradient_accumulation"
            )


def _some_of(data: TextData, size: int) -> list[np.ndarray]:
    """Return so many rows from one end, from the other, and from all over."""
    label = getattr(data, "label", np.zeros(len(data)))
    order = np.argsort(label, kind="stable")
    return [order[:size], order[-size:], order[np.linspace(0, len(data) - 1, size).astype(int)]]


def _is_constant(
    loss: Callable[..., Any], kind: type, data: TextData, per_example: int, rows: np.ndarray
) -> bool:
    """Return whether the values stay where they are as all log-ratios rise, or all fall."""
    chosen = data.take(rows)
    rng = np.random.default_rng(0)
    shape = (len(rows), per_example, _TOKENS)
    reference = torch.full(shape, -1.0, dtype=torch.float64)

    def values(direction: float) -> np.ndarray:
        move = torch.as_tensor(direction * _MOVE * rng.random(shape))
        token_logps = TokenLogps(
            logp=reference + move,
            ref_logp=reference,
            mask=torch.ones(shape, dtype=torch.bool),
            kl=torch.zeros_like(reference),
            collision=torch.zeros_like(reference),
        )
        container, _ = chosen.container(kind, token_logps)
        return np.asarray(loss(container))

    return any(
        np.allclose(values(direction), values(direction), rtol=1e-9, atol=1e-12)
        for direction in (1.0, -1.0)
    )
