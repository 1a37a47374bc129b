r"""β-DPO as its method trains it: a moving mean of the margin, and a filter of each batch.

.. math:: M_0 \leftarrow 0.9\,M_0 + 0.1\,\bar h,\qquad
    \sigma_0 \leftarrow 0.9\,\sigma_0 + 0.1\,\mathrm{sd}(h)

with the batch's margins ``h``; then a share of its pairs is drawn without replacement, each with
the density of its margin under :math:`N(M_0, \sigma_0^2)`, and β follows the mean of what was
drawn.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import (
    as_float_array,
    check_integer,
    check_interval,
    check_nonnegative,
    check_number,
)
from prefsim.containers import PairLogps
from prefsim.losses.batchwise import beta_dpo
from prefsim.losses.pairwise import reward_margin
from prefsim.losses.running import RunningLoss
from prefsim.numerics import stop_gradient
from prefsim.typing import Array

__all__ = ["MovingMargin", "guided_filter", "running_beta_dpo"]


def guided_filter(
    margin: Any, *, mean: float, deviation: float, keep: float = 0.8, seed: Seed
) -> np.ndarray:
    r"""Draw which pairs of a batch are kept: those of an ordinary margin, rather than outliers.

    ``floor(keep n)`` pairs, at least one, without replacement, each with weight
    :math:`\exp(-\frac12 ((h - M_0)/\sigma_0)^2)`.

    Parameters
    ----------
    margin
        Margins h of the batch in nats, ``(n,)``.
    mean, deviation
        M₀ and σ₀ >= 0 in nats; where σ₀ is zero every pair is as likely as any.
    keep
        Share of the pairs that is kept, in (0, 1]; one minus the paper's ρ.
    seed
        Of the draw.

    Returns
    -------
    Booleans ``(n,)``.

    Raises
    ------
    ValueError
        If a parameter is out of range or the margins have another shape.

    References
    ----------
    Wu et al. 2024, section on β-guided filtering, arXiv:2407.08639; weights, rounding and the draw
    as in the authors' code.

    Examples
    --------
    >>> margins = [0.9, 1.1, 40.0, 1.0, 1.2]
    >>> guided_filter(margins, mean=1.0, deviation=0.5, seed=0)
    array([ True,  True, False,  True,  True])
    """
    check_interval(keep=keep, low=0.0, high=1.0, closed="right")
    check_nonnegative(deviation=deviation)
    check_number(mean=mean)
    h = as_float_array(margin, "margin", ndim=1, graph=True)
    if h.size == 0:
        return np.zeros(0, dtype=bool)
    # A product such as 0.8 of 5 is 4 and no less, though 0.7 of 10 is 7 - 9e-16.
    count = max(1, math.floor(keep * h.size + 1e-9))
    scaled = (h - mean) / deviation if deviation > 0 else np.zeros_like(h)
    # The largest of weights in logarithms plus Gumbel noise are a draw without replacement, and no
    # weight underflows.
    ranked = np.argsort(-(random_generator(seed).gumbel(size=h.size) - 0.5 * scaled**2))
    kept = np.zeros(h.size, dtype=bool)
    kept[ranked[:count]] = True
    return kept


class MovingMargin(NamedTuple):
    """Moving mean and deviation of a batch's margins, and how it is filtered by them.

    Attributes
    ----------
    momentum
        Weight of what was before, in [0, 1).
    keep
        Share of each batch that is kept, in (0, 1]; 1 filters nothing.
    seed
        Of the draws, >= 0.
    mean, deviation
        M₀ and σ₀ in nats, both zero before the first batch.
    batches
        Number of batches seen.

    References
    ----------
    Wu et al. 2024, eqs. 6–8, arXiv:2407.08639 (equation numbers not confirmed); the start at zero,
    the deviation with n − 1 and the update before its use as in the authors' code.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(3)
    >>> batch = PairLogps(np.asarray([1.0, -2.75, 4.0]), zero, zero, zero)
    >>> state = MovingMargin().after(batch)
    >>> round(state.mean, 6), round(state.deviation, 6), state.batches
    (0.075, 0.338194, 1)
    """

    momentum: float = 0.9
    keep: float = 0.8
    seed: int = 0
    mean: float = 0.0
    deviation: float = 0.0
    batches: int = 0

    def after(self, logps: PairLogps[Any], weight: Array | None = None) -> MovingMargin:
        """Return the state after a further batch, whose pairs count alike."""
        mean, deviation = _mean_and_deviation(logps)
        old, new = self.momentum, 1 - self.momentum
        return self._replace(
            mean=old * self.mean + new * mean,
            deviation=old * self.deviation + new * deviation,
            batches=self.batches + 1,
        )

    def settled(self, logps: PairLogps[Any], weight: Array | None = None) -> MovingMargin:
        """Return the state with mean and deviation of this batch."""
        mean, deviation = _mean_and_deviation(logps)
        return self._replace(mean=mean, deviation=deviation)

    def options(self, logps: PairLogps[Any]) -> dict[str, Any]:
        """Return M₀, and what the filter keeps of this batch."""
        if self.keep == 1:
            return {"margin_mean": self.mean}
        kept = guided_filter(
            stop_gradient(reward_margin(logps)),
            mean=self.mean,
            deviation=self.deviation,
            keep=self.keep,
            seed=np.random.default_rng([self.seed, self.batches]),
        )
        return {"margin_mean": self.mean, "kept": kept}


def _mean_and_deviation(logps: PairLogps[Any]) -> tuple[float, float]:
    margin = as_float_array(stop_gradient(reward_margin(logps)), "margin", ndim=1)
    if margin.size == 0:
        raise ValueError("margin must hold at least one value, got 0")
    deviation = margin.std(ddof=1) if margin.size > 1 else 0.0
    return float(margin.mean()), float(deviation)


def running_beta_dpo(
    *,
    beta: float = 0.1,
    alpha: float = 0.6,
    smallest_beta: float = 1e-3,
    momentum: float = 0.9,
    keep: float = 0.8,
    seed: int = 0,
) -> RunningLoss:
    r"""Return β-DPO with its moving mean and its filter: :func:`prefsim.losses.beta_dpo`, running.

    At every batch of a training the state moves first; the batch is then filtered, and β follows
    the mean margin of what is left. Where the margin has stopped to move,
    :math:`\beta_b = \beta`.

    Parameters
    ----------
    beta, alpha, smallest_beta
        As for :func:`prefsim.losses.beta_dpo`.
    momentum
        Weight of what was before in the moving mean and deviation, in [0, 1).
    keep
        Share of each batch that is kept, in (0, 1]; 1 filters nothing. A draw decides, so that
        :func:`prefsim.solvers.fit` of an in-memory policy, which asks for a smooth function, wants
        1.
    seed
        Of the draws, >= 0.

    Returns
    -------
    RunningLoss

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    Wu et al. 2024, "β-DPO: Direct Preference Optimization with Dynamic β", arXiv:2407.08639; order
    of steps as in the authors' code.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(3)
    >>> batch = PairLogps(np.asarray([1.0, -2.75, 4.0]), zero, zero, zero)
    >>> loss = running_beta_dpo(keep=1.0).after(batch)
    >>> loss(batch).round(8)
    array([0.62536268, 0.90488045, 0.4511188 ])
    """
    check_interval(momentum=momentum, low=0.0, high=1.0)
    check_interval(keep=keep, low=0.0, high=1.0, closed="right")
    check_integer(low=0, seed=seed)
    loss = functools.partial(beta_dpo, beta=beta, alpha=alpha, smallest_beta=smallest_beta)
    # Losses check the range of their options when they are called.
    loss(PairLogps.example())
    return RunningLoss(loss, MovingMargin(momentum, keep, seed))
