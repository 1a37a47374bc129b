"""Losses of reward models, on scalar rewards or on scores of a pair in their place."""

from __future__ import annotations

from typing import Any

from prefsim.checks import check_interval, check_nonnegative, check_positive, check_same_shape
from prefsim.containers import PairRewards
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.numerics import array_namespace, sigmoid
from prefsim.typing import ArrayT, Number

__all__ = ["bradley_terry", "score_regression"]


@checked
def bradley_terry(
    rewards: PairRewards[ArrayT],
    *,
    margin: Number = 0.0,
    label_smoothing: Number = 0.0,
    floor: Number = 0.0,
) -> ArrayT:
    r"""Bradley–Terry negative log-likelihood of each pair, :math:`-\log\sigma(r_w - r_l - m)`.

    With label smoothing α it is :math:`-(1-\alpha)\log\sigma(z) - \alpha\log\sigma(-z)` of
    :math:`z = r_w - r_l - m`: what labels cost on average that are flipped with probability α.

    Parameters
    ----------
    rewards
        Rewards in log-odds, each ``(..., n)``. A margin of each pair is added to that of all; a
        negative one is of a pair whose label is doubted.
    margin
        Required advantage m of the chosen response, >= 0.
    label_smoothing
        Assumed label flip rate α in [0, 0.5].
    floor
        Added to every σ before the logarithm, >= 0: 1e-5 in released trainers, which caps the loss
        at 11.51 and weakens the gradient of pairs that are wrong by far.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If an option is out of range, or shapes differ.

    References
    ----------
    Bradley and Terry 1952. Touvron et al. 2023, eq. 2 (margin), arXiv:2307.09288. Wang et al. 2024
    (adaptive margin, label smoothing; the floor as in the authors' code), arXiv:2401.06080.

    Examples
    --------
    >>> import numpy as np
    >>> pairs = PairRewards(np.asarray([1.0, 0.0]), np.asarray([0.0, 0.5]))
    >>> bradley_terry(pairs).round(6), bradley_terry(pairs, label_smoothing=0.1).round(6)
    (array([0.313262, 0.974077]), array([0.413262, 0.924077]))
    """
    check_nonnegative(arrays=True, margin=margin)
    check_interval(arrays=True, label_smoothing=label_smoothing, low=0.0, high=0.5, closed="both")
    check_nonnegative(arrays=True, floor=floor)
    z = _advantage(rewards) - margin
    exact = soft_logistic(z, 1 - label_smoothing)
    if isinstance(floor, int | float) and floor == 0:
        return exact
    xp = array_namespace(z)
    each: Any = floor + xp.zeros_like(exact)
    # Where there is none the logarithm may be −∞, and its derivative is not to be seen.
    lifted = xp.where(each > 0, each, xp.ones_like(each))
    as_labelled, exchanged = (xp.log(sigmoid(side) + lifted) for side in (z, -z))
    capped = -(1 - label_smoothing) * as_labelled - label_smoothing * exchanged
    return xp.where(each > 0, capped, exact)


@checked
def score_regression(rewards: PairRewards[ArrayT], *, target: Number = 10.0) -> ArrayT:
    r"""Regression of the advantage of the chosen response on a fixed one.

    :math:`\frac12 (r_w - r_l - m)^2`.

    The advantage of a certain winner stays finite, where that of :func:`bradley_terry` grows for
    ever. Rewards of a cycle are all equal at the minimum, so that its value there is
    :math:`m^2/2`; scores of a general preference model reach the target.

    Parameters
    ----------
    rewards
        Rewards in log-odds, each ``(..., n)``; of a general preference model
        ``PairRewards(score / temperature, 0)``, see :func:`prefsim.raters.skew_score`. A margin of
        each pair is added to the target of all.
    target
        Advantage m of the chosen response, > 0.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``target`` is out of range, or shapes differ.

    References
    ----------
    Zhang et al. 2024, arXiv:2410.02197, as in the authors' code, whose default is 10.

    Examples
    --------
    >>> import numpy as np
    >>> score_regression(PairRewards(np.asarray([4.0]), np.asarray([-4.0])))
    array([2.])
    """
    check_positive(arrays=True, target=target)
    return 0.5 * (_advantage(rewards) - target) ** 2


def _advantage(rewards: PairRewards[ArrayT]) -> ArrayT:
    """Return how far the chosen response is ahead, beyond the margin of its pair of any sign."""
    check_same_shape(**rewards._asdict())
    ahead = rewards.chosen - rewards.rejected
    if rewards.margin is None:
        return ahead
    return ahead - rewards.margin
