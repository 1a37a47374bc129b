"""What comes out of the training of a language model. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable

__all__ = ["TrainResult"]


@readable
class TrainResult(NamedTuple):
    """A trained language model.

    Attributes
    ----------
    policy
        The trained policy.
    value
        Loss of the last step's batch, before that step: the mean over its examples of the loss's
        values, each times its weight in units of the mean weight of all data.
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
    loss
        The loss as training left it: a :class:`prefsim.losses.RunningLoss` with its state, any
        other as it was given.
    best_step
        After how many steps the evaluation was best, the first time; None without an evaluation.
    """

    policy: Any
    value: float
    grad_norm: float
    steps: int
    history: np.ndarray
    metrics: tuple[dict[str, float], ...]
    folder: Path | None
    loss: Any = None
    best_step: int | None = None
