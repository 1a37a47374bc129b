r"""Losses of reward models that say how sure they are: a normal reward for every step of a segment.

Rewards are independent, so that the log-odds of a comparison are normal with the difference of the
sums of means, and with the sum of all variances. (Variances add, deviations do not.)
"""

from __future__ import annotations

import math

from prefsim.checks import (
    as_floats,
    check_choice,
    check_no_nan,
    check_nonnegative,
    check_number,
    check_same_shape,
)
from prefsim.containers import GaussianRewards
from prefsim.losses.edge import checked
from prefsim.losses.links import positive_part
from prefsim.losses.pair_fields import check_last_axis, needed
from prefsim.losses.tokenwise import masked_sum
from prefsim.numerics import (
    array_namespace,
    logsumexp,
    over_rows,
    softplus,
    stop_gradient,
    widened,
)
from prefsim.raters.logistic_normal import log_sigmoid_of_law, softplus_of_law
from prefsim.typing import Array, ArrayT, Number

__all__ = ["FORMS", "entropy_hinge", "gaussian_bradley_terry", "log_odds_law"]

FORMS = ("expected", "sampled", "marginal")
# Entropy of a standard normal law, in nats.
UNIT_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)


def entropy_hinge(log_deviation: ArrayT, *, floor: Number = 0.5) -> ArrayT:
    r"""Return by how much the entropy of a normal law is below a floor, ``(...)`` in nats.

    .. math:: \max(0,\ \eta - \tfrac12\log(2\pi e\,\sigma^2))

    It is 0 exactly where :math:`\sigma \ge e^\eta/\sqrt{2\pi e}`.

    Parameters
    ----------
    log_deviation
        log σ, ``(...)``.
    floor
        η, any number of nats.

    Raises
    ------
    ValueError
        If ``floor`` is no finite number, or a deviation is NaN.

    References
    ----------
    Liu et al. 2023, robust reward learning, arXiv:2306.03615.

    Examples
    --------
    >>> import numpy as np
    >>> entropy_hinge(np.log([0.3, 0.5])).round(6)
    array([0.285034, 0.      ])
    """
    check_number(arrays=True, floor=floor)
    (log_deviation,) = as_floats(log_deviation=log_deviation)
    return positive_part(floor - UNIT_ENTROPY - log_deviation)


def log_odds_law(rewards: GaussianRewards[ArrayT]) -> tuple[ArrayT, ArrayT]:
    r"""Return mean and standard deviation of the log-odds of the chosen segment, each ``(..., n)``.

    .. math:: d = \sum_t \mu^w_t - \sum_t \mu^l_t,\qquad
        v = \Big(\sum_t (\sigma^w_t)^2 + \sum_t (\sigma^l_t)^2\Big)^{1/2}

    Raises
    ------
    ValueError
        If shapes differ, a mask is not boolean, or there is no step.
    """
    _check_steps(rewards)
    mean = masked_sum(rewards.chosen, rewards.chosen_mask)
    mean = mean - masked_sum(rewards.rejected, rewards.rejected_mask)
    return mean, _total_deviation(rewards)


def _check_steps(rewards: GaussianRewards[ArrayT]) -> None:
    shapes = rewards._asdict()
    check_same_shape(**{name: x for name, x in shapes.items() if not name.endswith("noise")})
    check_last_axis(rewards.chosen, "chosen", "step")
    for name in ("chosen_mask", "rejected_mask"):
        counted = getattr(rewards, name)
        if not array_namespace(counted).isdtype(counted.dtype, "bool"):
            raise ValueError(f"{name} must hold booleans, got dtype {counted.dtype}")
    draws = []
    for name in ("chosen_noise", "rejected_noise"):
        noise = getattr(rewards, name)
        if noise is None:
            continue
        steps = tuple(rewards.chosen.shape)
        if (*noise.shape[:-2], *noise.shape[-1:]) != steps or noise.shape[-2] == 0:
            raise ValueError(
                f"{name} must have shape (..., n, K, T) of at least one draw K, got"
                f" {tuple(noise.shape)} beside {steps}"
            )
        draws.append(noise.shape[-2])
    if len(set(draws)) > 1:
        raise ValueError(
            f"chosen_noise and rejected_noise must have as many draws, got {draws[0]} and"
            f" {draws[1]}"
        )


def _total_deviation(rewards: GaussianRewards[ArrayT]) -> ArrayT:
    """Return v in logarithms, where nothing over- or underflows on the way."""
    xp = array_namespace(rewards.chosen)
    logs = [
        # Far below any deviation, and finite: a segment without a step has none.
        xp.where(mask, each, xp.full_like(each, -1e4))
        for each, mask in (
            (widened(rewards.chosen_log_deviation), rewards.chosen_mask),
            (widened(rewards.rejected_log_deviation), rewards.rejected_mask),
        )
    ]
    total = xp.exp(0.5 * logsumexp(2.0 * xp.concat(logs, axis=-1)))
    return xp.astype(total, rewards.chosen.dtype, copy=False)


@checked
def gaussian_bradley_terry(
    rewards: GaussianRewards[ArrayT],
    *,
    form: str = "expected",
    mean_weight: Number = 1.0,
    spread_weight: Number = 1.0,
    entropy_weight: Number = 0.1,
    entropy_floor: Number = 0.5,
) -> ArrayT:
    r"""Bradley–Terry losses of a pair of segments whose rewards are normal.

    .. math:: c_0\,\ell(d) + c_1\,E\,\ell(\Delta)
        + c_2\,\overline{\max(0,\ \eta - h(\sigma_t))},\qquad \Delta \sim N(d, v^2)

    with :math:`\ell = -\log\sigma`, d and v as in :func:`log_odds_law`, and the mean of
    :func:`entropy_hinge` over the steps of both segments.

    Parameters
    ----------
    rewards
        Means and deviations of the steps; a label of probability p enters once as it stands with
        weight p and once reversed.
    form
        What stands for :math:`E\,\ell(\Delta)`. ``"expected"``: itself, exactly. ``"sampled"``: its
        mean over the draws that are given, :math:`r_t = \mu_t + \sigma_t\epsilon_t`.
        ``"marginal"``: :math:`-\log E\,\sigma(\Delta)`, the likelihood of a rater whose log-odds
        are drawn anew for each comparison. The first two want no spread whatever the labels are,
        and learn nothing of it from them; the last one does.
    mean_weight
        c₀ >= 0.
    spread_weight
        c₁ >= 0.
    entropy_weight
        c₂ >= 0.
    entropy_floor
        η, any number of nats.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If an option is out of range, shapes differ, there is no step, or draws are missing.

    References
    ----------
    Liu et al. 2023, robust reward learning, arXiv:2306.03615 (weights not confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> mu, sigma = np.asarray([0.4, 0.1, 0.0]), np.asarray([0.5, 0.4, 0.3])
    >>> other_mu, other_sigma = np.asarray([0.2, 0.5, -0.1]), np.asarray([0.3, 0.2, 0.1])
    >>> steps = (mu, other_mu, np.log(sigma), np.log(other_sigma), *np.ones((2, 3), bool))
    >>> pair = GaussianRewards(*(each[None] for each in steps))
    >>> gaussian_bradley_terry(pair, mean_weight=0.0, entropy_weight=0.0).round(6)
    array([0.818883])
    """
    check_choice(FORMS, form=form)
    check_nonnegative(arrays=True, mean_weight=mean_weight, spread_weight=spread_weight)
    check_nonnegative(arrays=True, entropy_weight=entropy_weight)
    check_number(arrays=True, entropy_floor=entropy_floor)
    mean, deviation = log_odds_law(rewards)
    spread: ArrayT | float
    if isinstance(spread_weight, int | float) and spread_weight == 0:
        spread = 0.0  # the one part that costs something
    elif form == "expected":
        spread = softplus_of_law(-mean, deviation)
    elif form == "marginal":
        spread = -log_sigmoid_of_law(mean, deviation)
    else:
        spread = _over_draws(rewards, mean)
    hinge = _mean_hinge(rewards, entropy_floor)
    return mean_weight * softplus(-mean) + spread_weight * spread + entropy_weight * hinge


def _over_draws(rewards: GaussianRewards[ArrayT], mean: ArrayT) -> ArrayT:
    """Return the mean of the loss over the draws that come with the rewards."""
    xp = array_namespace(mean)
    sums = []
    for name in ("chosen", "rejected"):
        noise: Array = needed(getattr(rewards, f"{name}_noise"), f"{name}_noise")
        mask = getattr(rewards, f"{name}_mask")
        log_deviation = getattr(rewards, f"{name}_log_deviation")
        # What lies behind the mask may be infinite.
        scale = xp.exp(xp.where(mask, log_deviation, xp.zeros_like(log_deviation)))
        error = scale[..., None, :] * stop_gradient(noise)
        sums.append(masked_sum(error, xp.broadcast_to(mask[..., None, :], tuple(error.shape))))
    return xp.mean(softplus(-(mean[..., None] + sums[0] - sums[1])), axis=-1)


def _mean_hinge(rewards: GaussianRewards[ArrayT], floor: Number) -> ArrayT:
    xp = array_namespace(rewards.chosen)
    total, count = xp.zeros_like(rewards.chosen[..., 0]), 0.0
    for side in ("chosen", "rejected"):
        name = f"{side}_log_deviation"
        log_deviation, mask = getattr(rewards, name), getattr(rewards, f"{side}_mask")
        # Here, for below it goes by another name.
        check_no_nan(log_deviation, name, counted=mask)
        seen = xp.where(mask, log_deviation, xp.zeros_like(log_deviation))
        total = total + masked_sum(entropy_hinge(seen, floor=over_rows(floor)), mask)
        count = count + xp.sum(xp.astype(mask, log_deviation.dtype), axis=-1)
    # Two segments without a step cost nothing.
    return total / xp.where(count > 0, count, xp.ones_like(count))
