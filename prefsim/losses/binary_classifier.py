"""Binary classifier optimisation on single completions.

With its running reward shift and its weights for prompts.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import like, to_numpy
from prefsim.checks import (
    as_float_array,
    check_boolean,
    check_nonnegative,
    check_number,
    check_positive,
    check_same_shape,
    check_unit_interval,
)
from prefsim.containers import UnpairedLogps
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.losses.running import RunningLoss
from prefsim.numerics import array_namespace, stop_gradient
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "RewardShift",
    "RunningShift",
    "bco_unpaired",
    "density_ratio_weights",
    "running_bco",
]


class RewardShift(NamedTuple):
    """The mean of all implicit rewards seen so far, δ of BCO.

    A value that is updated with each training batch before its loss, as :func:`running_bco` does.

    Attributes
    ----------
    mean
        δ, in nats.
    seen
        Number of rewards seen, or their weight together where they have weights.

    Examples
    --------
    >>> shift = RewardShift().updated([0.5, -0.25]).updated([1.0])
    >>> shift.seen, round(shift.mean, 6)
    (3, 0.416667)
    """

    mean: float = 0.0
    seen: float = 0

    def updated(self, rewards: Array, weight: Array | None = None) -> RewardShift:
        """Return the shift after a further batch of rewards ``β log π/π_ref`` of any shape.

        Classes weigh by their counts. ``weight`` of the same shape, >= 0, counts a reward more or
        less than once.

        Raises
        ------
        ValueError
            If the batch is empty or of no weight, or holds a value that is not finite.
        """
        batch = as_float_array(rewards, "rewards", graph=True)
        if batch.size == 0:
            raise ValueError("rewards must hold at least one value, got 0")
        mean = float(batch.mean())
        size: float = batch.size
        if weight is not None:
            mean, size = _weighted_mean(batch, weight)
        seen = self.seen + size
        return RewardShift(self.mean + (mean - self.mean) * size / seen, seen)


class RunningShift(NamedTuple):
    """The :class:`RewardShift` of a training at one strength β: the state of :func:`running_bco`.

    Attributes
    ----------
    beta
        Strength of the rewards ``β log π/π_ref``, > 0.
    mean, seen
        As in :class:`RewardShift`.
    """

    beta: float
    mean: float = 0.0
    seen: float = 0

    def after(self, logps: UnpairedLogps[Any], weight: Array | None = None) -> RunningShift:
        """Return the shift after a further batch of log-probabilities."""
        rewards = self.beta * to_numpy(stop_gradient(logps.logp - logps.ref_logp))
        counted = None if weight is None else to_numpy(weight)
        return RunningShift(self.beta, *RewardShift(self.mean, self.seen).updated(rewards, counted))

    def settled(self, logps: UnpairedLogps[Any], weight: Array | None = None) -> RunningShift:
        """Return the shift that is the mean reward of this batch alone."""
        return RunningShift(self.beta).after(logps, weight)

    def options(self, logps: UnpairedLogps[Any]) -> dict[str, Any]:
        """Return the shift as an option of :func:`bco_unpaired`."""
        return {"shift": self.mean}


def _weighted_mean(values: Any, weight: Any) -> tuple[float, float]:
    """Return the weighted mean and the sum of the weights."""
    counted = as_float_array(weight, "weight", graph=True)
    check_same_shape(rewards=values, weight=counted)
    total = float(counted.sum())
    if (counted < 0).any() or total <= 0:
        raise ValueError(
            f"weight must be >= 0 and not zero everywhere, got a sum of {total} and a smallest"
            f" entry of {float(np.min(counted))}"
        )
    return float((counted * values).sum()) / total, total


def density_ratio_weights(prob: Any, *, low: float = 0.5, high: float = 10.0) -> Any:
    r"""Return weights of undesirable completions, :math:`\mathrm{clip}(p/(1 - p), low, high)`.

    Parameters
    ----------
    prob
        Probability that a prompt comes from the desirable completions, by a classifier of prompts
        trained on balanced classes, any shape. Unbalanced classes inflate every weight by their
        ratio.
    low, high
        Bounds of the weight, 0 <= low <= high.

    Returns
    -------
    NumPy array of the shape of ``prob``.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1], or a bound is out of range.

    References
    ----------
    Jung et al. 2024, section on underlying distribution matching, arXiv:2404.04656.

    Examples
    --------
    >>> density_ratio_weights([0.75, 0.25, 0.99])
    array([ 3. ,  0.5, 10. ])
    """
    table = as_float_array(prob, "prob")
    check_unit_interval(table, "prob")
    check_positive(high=high)
    check_nonnegative(low=low)
    if low > high:
        raise ValueError(f"low must be <= high, got {low} and {high}")
    xp = array_namespace(table)
    certain = table >= 1
    ratio = xp.where(
        certain,
        xp.full_like(table, high),
        table / xp.where(certain, xp.ones_like(table), 1 - table),
    )
    return xp.clip(ratio, low, high)


@checked
def bco_unpaired(
    logps: UnpairedLogps[ArrayT],
    *,
    beta: Number = 0.1,
    shift: Number | None = None,
    density_ratio: Number | None = None,
) -> ArrayT:
    r"""Binary classifier optimisation, one value per completion.

    .. math:: \ell(r - \delta) \text{ if desirable, else } w\,\ell(\delta - r),\qquad
        r = \beta\log\pi/\pi_{ref}

    Parameters
    ----------
    logps
        Each ``(..., n)``, nats; ``desirable`` boolean.
    beta
        Strength of the KL penalty, > 0.
    shift
        Reward shift δ, for instance ``RewardShift.mean`` of the training so far. Unless given, the
        mean reward of the batch (last axis), a constant of differentiation: this couples the batch.
    density_ratio
        Weight w of undesirable completions, a number or ``(..., n)``, see
        :func:`density_ratio_weights`; unless given that of the batch, and 1 where it has none.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter is out of range, or shapes differ.

    References
    ----------
    Jung et al. 2024, eqs. 7–9, arXiv:2404.04656 (equation numbers not confirmed).
    """
    check_positive(arrays=True, beta=beta)
    check_same_shape(logp=logps.logp, ref_logp=logps.ref_logp, desirable=logps.desirable)
    check_boolean(logps.desirable, "desirable")
    xp = array_namespace(logps.logp, logps.ref_logp)
    reward = beta * (logps.logp - logps.ref_logp)
    if shift is not None:
        check_number(arrays=True, shift=shift)
    else:
        shift = stop_gradient(xp.sum(reward, axis=-1, keepdims=True) / max(reward.shape[-1], 1))
    z = reward - shift
    if density_ratio is None:
        check_same_shape(logp=logps.logp, density_ratio=logps.density_ratio)
        density_ratio = logps.density_ratio
    weight: Any = 1.0
    if density_ratio is not None:
        check_nonnegative(arrays=True, density_ratio=density_ratio)
        weight = like(density_ratio, reward)
    return xp.where(logps.desirable, soft_logistic(z, 1), weight * soft_logistic(-z, 1))


def running_bco(*, beta: float = 0.1) -> RunningLoss:
    r"""Return BCO with its running reward shift: :func:`bco_unpaired`, running.

    At every batch of a training :math:`\delta` becomes the mean of all rewards so far, this batch's
    included, and then prices the batch.

    Parameters
    ----------
    beta
        Strength of the KL penalty, > 0.

    Returns
    -------
    RunningLoss

    Raises
    ------
    ValueError
        If ``beta`` is out of range.

    References
    ----------
    Jung et al. 2024, section on the reward shift, arXiv:2404.04656; the plain mean over the
    training as in the authors' contribution to TRL.

    Examples
    --------
    >>> import numpy as np
    >>> batch = UnpairedLogps(np.asarray([2.0, 0.0]), np.zeros(2), np.asarray([True, False]))
    >>> loss = running_bco(beta=0.5).after(batch)
    >>> loss.state.mean, loss(batch).round(8)
    (0.5, array([0.47407698, 0.47407698]))
    """
    check_positive(beta=beta)
    return RunningLoss(functools.partial(bco_unpaired, beta=beta), RunningShift(beta))
