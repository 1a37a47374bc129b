"""``fit`` for language models.

The same call as for every other policy, on one CPU, one GPU or many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    check_choice,
    check_integer,
    check_interval,
    check_nonnegative,
    check_positive,
)
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.reference import ReferenceLogps
from prefsim.lm.training.batches import ORDERS
from prefsim.lm.training.data import TextData
from prefsim.lm.training.diagnostics import Diagnostics
from prefsim.solvers.fit import Loss

__all__ = ["TrainResult", "TrainingOptions", "learning_rate_factor", "train"]

SCHEDULES = ("linear", "cosine", "constant")
OPTIMIZERS = ("adamw", "sgd")


class TrainResult(NamedTuple):
    """A trained language model.

    Attributes
    ----------
    policy
        The trained policy.
    value
        Loss of the last step's batch, before that step: the mean of the loss's values over its
        examples, weighted.
    grad_norm
        Euclidean norm of that step's gradient, before clipping.
    steps
        Optimiser steps done, those before a resumption included.
    history
        ``(steps, 2)``: loss and gradient norm of every step.
    metrics
        The lines of ``metrics.jsonl``, diagnostics included.
    folder
        Where it was written, or None.
    """

    policy: CausalLM
    value: float
    grad_norm: float
    steps: int
    history: np.ndarray
    metrics: tuple[dict[str, float], ...]
    folder: Path | None


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a language model is trained: the options of ``fit`` for a :class:`~prefsim.lm.CausalLM`.

    Attributes
    ----------
    steps, epochs
        Optimiser steps, or passes over the data (a fraction is allowed); one of the two, one epoch
        unless given.
    batch_size
        Examples of one step, over all processes and micro-batches together: how a step is split
        changes no number of a per-example loss.
    gradient_accumulation
        Micro-batches that a step is split into on each process. A loss that couples its batch sees
        one micro-batch at a time, and so depends on this and on the number of processes.
    learning_rate, schedule, warmup
        Peak rate; how it falls to zero behind the warm-up (``"linear"``, ``"cosine"``) or not
        (``"constant"``); the fraction of all steps over which it rises linearly.
    optimizer, weight_decay
        ``"adamw"``, ``"sgd"``, or a function from parameter groups to a torch optimiser. Decay is
        of matrices, not of biases and norms.
    max_grad_norm
        Bound on the norm of the gradient; ``None`` for none.
    precision
        ``"float32"``: everything as the model is. ``"bf16"``: products in bfloat16 (autocast),
        trained parameters and optimiser in float32; a reference model is evaluated alike, while
        log-probabilities that :func:`references_of` made from a model stored in bfloat16 are that
        model's own, some tenths of a nat from it: make them from the model loaded in float32.
        ``None``: what the model's own dtype asks for.
    gradient_checkpointing
        Compute activations again in the backward pass: less memory, a third more time.
    order
        ``"by_length"`` (shuffled, with rows of similar length together), ``"shuffled"`` or
        ``"given"``.
    seed
        Of the order of the data.
    in_place
        Train the given policy itself instead of a copy of its trained parameters, to save memory.
        It cannot be its own reference then.
    out
        Folder for metrics, checkpoints and the trained model; ``None`` writes nothing.
    save_every, keep
        Steps between checkpoints (``None`` for none), and how many of the newest are kept.
    resume
        Go on from the newest checkpoint in ``out`` if there is one, to the same end as without the
        interruption. The options must be the same, but for the number of processes and how a step
        is split.
    log_every
        Steps between lines of metrics.
    diagnostics
        What is measured on some of the pairs as training goes on: names out of
        ``prefsim.lm.DIAGNOSTICS``, or
        :class:`~prefsim.lm.Diagnostics` with more settings.
    progress
        Whether a bar is shown on a terminal.
    """

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 8
    gradient_accumulation: int = 1
    learning_rate: float = 1e-6
    schedule: str = "linear"
    warmup: float = 0.1
    optimizer: str | Callable[[list[dict[str, Any]]], Any] = "adamw"
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    precision: str | None = None
    gradient_checkpointing: bool = False
    order: str = "by_length"
    seed: int = 0
    in_place: bool = False
    out: str | Path | None = None
    save_every: int | None = None
    keep: int = 2
    resume: bool = False
    log_every: int = 10
    diagnostics: Diagnostics | Sequence[str] = ()
    progress: bool = True

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                f"steps or epochs may be given, got both: {self.steps} and {self.epochs}"
            )
        counts = {
            name: getattr(self, name)
            for name in ("batch_size", "gradient_accumulation", "log_every", "keep")
        }
        counts |= {
            name: value
            for name in ("steps", "save_every")
            if (value := getattr(self, name)) is not None
        }
        check_integer(low=1, **counts)
        check_integer(low=0, seed=self.seed)
        check_positive(
            learning_rate=self.learning_rate,
            **({} if self.epochs is None else {"epochs": self.epochs}),
        )
        check_nonnegative(weight_decay=self.weight_decay)
        check_interval(low=0.0, high=1.0, warmup=self.warmup)
        check_choice(SCHEDULES, schedule=self.schedule)
        check_choice(ORDERS, order=self.order)
        if not callable(self.optimizer):
            check_choice(OPTIMIZERS, optimizer=self.optimizer)
        if self.max_grad_norm is not None:
            check_positive(max_grad_norm=self.max_grad_norm)
        if self.precision is not None:
            check_choice(("float32", "bf16"), precision=self.precision)
        if self.out is None and (self.save_every is not None or self.resume):
            raise ValueError(
                f"{'resume' if self.resume else 'save_every'} needs out, the folder of the training"
            )
        if not isinstance(self.diagnostics, Diagnostics):
            object.__setattr__(self, "diagnostics", Diagnostics(tuple(self.diagnostics)))

    def total_steps(self, examples: int) -> int:
        """Return the number of optimiser steps on data of so many examples."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil((self.epochs or 1) * math.ceil(examples / self.batch_size) - 1e-9))


def learning_rate_factor(step: int, total: int, *, schedule: str, warmup: float) -> float:
    """Return what the peak learning rate is multiplied by at ``step`` (from 0) of ``total``.

    Examples
    --------
    >>> [round(learning_rate_factor(step, 6, schedule="linear", warmup=0.34), 2) for step in range(6)]
    [0.33, 0.67, 1.0, 1.0, 0.67, 0.33]
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / (total - rising)
    return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[
        schedule
    ]


def train(
    policy: CausalLM,
    loss: Loss,
    data: TextData,
    *,
    reference: CausalLM | ReferenceLogps | None = None,
    **options: Any,
) -> TrainResult:
    """Train a language model; what :func:`prefsim.solvers.fit` does for one.

    Parameters
    ----------
    policy
        Where to start. It is not changed, but for the device that its frozen parameters lie on.
    loss
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``; the annotation of its
        first argument says what is computed.
    data
        Preference pairs, completions or lists of them, see :mod:`prefsim.lm.training.data`.
    reference
        A policy (the one given, with its adapters switched off where it has some, or any other of
        the same vocabulary), its log-probabilities from :func:`prefsim.lm.references_of`, or
        ``None``, which stands for log-probabilities of zero and makes the loss reference-free.
        Which of them is given changes no number.
    **options
        See :class:`TrainingOptions`.

    Returns
    -------
    TrainResult

    Raises
    ------
    TypeError
        If an option is not known.
    ValueError
        If the loss does not fit the data or the reference, an option is out of range, ``out`` holds
        another training, or the loss stops being finite. Everything that can be is checked before
        the first step.
    """
    from prefsim.lm.training.engine import Engine

    return Engine(policy, loss, data, reference, TrainingOptions(**options)).run()
