"""One step down either divergence: which separates two responses more."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim.analysis import kl_gradients, logarithmic_mean
from prefsim.numerics import log_softmax


class Relocation(NamedTuple):
    """How much more a step of the reverse divergence separates two responses, ``(n,)`` each.

    Attributes
    ----------
    share
        Probability p of each of the two, over the logarithmic mean of their targets.
    measured, predicted
        The difference of log-ratios after the step, and what theory says.
    """

    share: np.ndarray
    measured: np.ndarray
    predicted: np.ndarray


def relocations(rng: np.random.Generator, n: int, step: float = 0.1) -> Relocation:
    """Return what a step does to the first two of four responses, which are equally likely."""
    logits = 1.5 * rng.standard_normal((n, 4))
    logits[:, 1] = logits[:, 0]
    log_policy, log_target = log_softmax(logits), log_softmax(2 * rng.standard_normal((n, 4)))
    slopes = kl_gradients(log_policy, log_target)
    forward, reverse = (log_policy - step * slope for slope in slopes)
    measured = (reverse - forward)[:, 0] - (reverse - forward)[:, 1]
    between = logarithmic_mean(log_target[:, 0], log_target[:, 1])
    level = np.exp(log_policy[:, 0])
    predicted = step * (log_target[:, 0] - log_target[:, 1]) * (level - between)
    return Relocation(level / between, measured, predicted)
