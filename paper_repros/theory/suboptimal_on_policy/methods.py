"""Which methods are compared and how they are drawn; and what one step of a divergence does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paper_repros.theory.suboptimal_on_policy.didactic import (
    PUSH,
    Method,
    dpo,
    imitate_best,
    reinforce,
)
from paper_repros.theory.suboptimal_on_policy.sampled import BEST, BEST_AND_WORST, DPO
from prefsim.analysis import kl_gradients, logarithmic_mean
from prefsim.numerics import log_softmax
from prefsim.papers.figures import BLUE, GREEN, PURPLE, SKY, VERMILION

SMALL = 0.1
"""A β at which DPO on fixed data goes astray."""
SMALL_NAME = f"DPO, β = {SMALL}"
ESCAPE = 1000
"""Steps after which DPO with that β has escaped where it samples anew."""
REUSE = (1, 5, 50)
LEARNERS = {"best of 10": BEST, "DPO": DPO, "best and worst of 10": BEST_AND_WORST}


class Setting(NamedTuple):
    """A method, how it is trained and how it is drawn."""

    method: Method
    rate: float
    on_policy: bool
    colour: str

    @property
    def style(self) -> str:
        """The line: solid where samples are the policy's own."""
        return "-" if self.on_policy else "--"


SETTINGS = {
    "best of 10": Setting(imitate_best(), 1.0, False, BLUE),
    "best of 10, own samples": Setting(imitate_best(), 1.0, True, BLUE),
    "best of 10, worst pushed": Setting(imitate_best(PUSH), 1.0, False, SKY),
    "policy gradient": Setting(reinforce, 10.0, True, GREEN),
    "DPO, β = 1": Setting(dpo(1.0), 20.0, False, VERMILION),
    "DPO, β = 1, own samples": Setting(dpo(1.0), 20.0, True, VERMILION),
    SMALL_NAME: Setting(dpo(SMALL), 20.0, False, PURPLE),
    f"{SMALL_NAME}, own samples": Setting(dpo(SMALL), 20.0, True, PURPLE),
}


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
