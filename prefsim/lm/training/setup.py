"""A training before it runs: what was asked for, checked before anything is loaded or written."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference_logps import ReferenceLogps
from prefsim.lm.training.batches import BatchPlan
from prefsim.lm.training.checkpoint import Checkpoint, latest
from prefsim.lm.training.diagnostic_probe import check_diagnostics
from prefsim.lm.training.loss_evaluator import couples, needs_of
from prefsim.lm.training.options import TrainingOptions
from prefsim.lm.training.reference import as_reference
from prefsim.lm.training.token_rows import token_rows
from prefsim.losses.registry import container_of
from prefsim.losses.running import RunningLoss
from prefsim.solvers.fit import Loss

__all__ = ["TrainingSetup"]

# The options that decide where a training ends. How a step is split, what is reported and where
# things are written do not.
_DECISIVE_OPTIONS = (
    "batch_size",
    "learning_rate",
    "schedule",
    "warmup",
    "weight_decay",
    "max_grad_norm",
    "order",
    "seed",
    "reference_weight",
    "reference_every",
)


_DEFAULTS = {"reference_weight": None, "reference_every": 1}


class TrainingSetup:
    """A training that was asked for, checked; :func:`prefsim.lm.training.engine.run` does it.

    Attributes
    ----------
    policy, loss, data, options
        As given.
    reference
        What was given as one, as a :class:`~prefsim.lm.training.reference.Reference`.
    rows
        The data as tokens.
    needs
        What the loss needs besides log-probabilities.
    couples
        Whether the loss couples the examples of its batch, by its value or by its state.
    total
        Optimiser steps.
    plan
        The batch of each.
    precision
        ``"float32"`` or ``"bf16"``.
    folder
        Where things are written, or None.
    checkpoint
        Where to go on from, or None.

    Raises
    ------
    ValueError
        As :func:`prefsim.lm.fitting.train`.
    """

    def __init__(
        self,
        policy: CausalLM,
        loss: Loss,
        data: TextData,
        reference: CausalLM | ReferenceLogps | None,
        options: TrainingOptions,
    ) -> None:
        kind = container_of(loss)
        if not isinstance(data, TextData):
            raise ValueError(
                "a language model is trained on TextComparisons and the like of prefsim.lm, got"
                f" {type(data).__name__}"
            )
        data.check(kind)
        if len(data) == 0:
            raise ValueError("data must hold at least one row, got 0")
        self.policy, self.loss, self.data, self.options = policy, loss, data, options
        if couples(loss):
            self._check_labels_of_a_batch()
        # What a state sees of a micro-batch follows from which rows are in it, as for a loss that
        # couples them.
        self.couples = couples(loss) or isinstance(loss, RunningLoss)
        self.rows = token_rows(policy, data, kind)
        self.total = options.total_steps(len(data))
        self.plan = BatchPlan(self.rows.lengths, options.batch_size, options.order, options.seed)
        self.needs = needs_of(loss)
        self.reference = as_reference(reference, policy, in_place=options.in_place)
        if self.needs.kl and not self.reference.is_model:
            raise ValueError(
                "the loss needs the KL divergence at every token, and so the reference model"
                f" itself; got {self.reference.description}"
            )
        self.reference.check_rows(self.rows.tokens)
        if options.reference_update is not None:
            self.reference.check_follows(policy)
        self.precision = self._precision()
        check_diagnostics(options.measured, data, self.reference)
        self.folder = None if options.out is None else Path(options.out)
        self.checkpoint = None if self.folder is None else latest(self.folder / "checkpoints")
        if self.checkpoint is not None:
            self._check_resumable(self.checkpoint)

    def _check_labels_of_a_batch(self) -> None:
        soft = getattr(self.data, "prob", getattr(self.data, "label", np.ones(1)))
        if np.ptp(self.data.weight) > 0 or not np.isin(soft, (0.0, 1.0)).all():
            raise ValueError(
                "the loss couples the examples of its batch and sees no weights, so that it needs"
                " hard labels of equal weight; got unequal weights or soft labels"
            )

    def _precision(self) -> str:
        parameters = list(self.policy.log_prob_model.parameters())
        dtypes = {parameter.dtype for parameter in parameters if parameter.is_floating_point()}
        narrow = dtypes & {torch.bfloat16, torch.float16}
        precision = self.options.precision or ("bf16" if narrow else "float32")
        if precision == "float32" and narrow:
            name = str(narrow.pop()).removeprefix("torch.")
            raise ValueError(
                f"precision 'float32' needs parameters of float32 or float64, got {name}; load the"
                " model with dtype='float32'"
            )
        if precision == "bf16" and torch.float64 in dtypes:
            raise ValueError("precision 'bf16' needs parameters of float32 or less, got float64")
        if not any(parameter.requires_grad for parameter in parameters):
            raise ValueError(
                "the policy must have a parameter that requires a gradient, got none (a frozen copy"
                " is for reference)"
            )
        return precision

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a resumed training to end where it would have ended."""
        digest = hashlib.sha256()
        for row in self.rows.tokens:
            digest.update(json.dumps(row).encode())
        for name in sorted(vars(self.data)):
            value = getattr(self.data, name)
            if isinstance(value, np.ndarray):
                digest.update(name.encode() + value.tobytes())
        optimizer = self.options.optimizer
        return {name: getattr(self.options, name) for name in _DECISIVE_OPTIONS} | {
            "optimizer": optimizer if isinstance(optimizer, str) else _named(optimizer),
            "precision": self.precision,
            "steps": self.total,
            "loss": _named(self.loss),
            "data": digest.hexdigest(),
            "reference": self.reference.is_given,
        }

    def _check_resumable(self, checkpoint: Checkpoint) -> None:
        if not self.options.resume:
            raise ValueError(
                f"folder {str(self.folder)!r} holds a training of {checkpoint.step} steps; give"
                " resume=True or another folder"
            )
        before = checkpoint.state["fingerprint"]
        for name, value in self.fingerprint.items():
            # Options that a training of before did not have yet were at their defaults.
            if before.get(name, _DEFAULTS.get(name)) != value:
                raise ValueError(
                    f"{name} must be what it was before the interruption, {before.get(name)!r}, got"
                    f" {value!r}"
                )


def _named(function: Callable[..., Any]) -> str:
    """Return which function it is, with the options bound to it: the same in every process."""
    if isinstance(function, functools.partial):
        options = [
            f"{name}={_named(value) if callable(value) else repr(value)}"
            for name, value in sorted(function.keywords.items())
        ]
        return f"{_named(function.func)}({', '.join([*map(repr, function.args), *options])})"
    if isinstance(function, RunningLoss):
        return f"{_named(function.loss)} from {function.state!r}"
    module = getattr(function, "__module__", "")
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}.{name}"
