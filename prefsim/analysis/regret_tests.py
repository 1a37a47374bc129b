r"""Does regret grow more slowly than time: two tests on the regret after every round.

Neither proves anything about a learner, whose regret is a statement about all sequences; both say
how one run looks. The first loses its power where the average regret is near zero or below, of
which it sees only the noise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import as_float_array, check_positive

# A regression of two points has no errors left, and a trend of one pair no chance below one half.
LEAST_ROUNDS = 3
# Share of an average regret by which it has to fall: of less than that rounding decides.
ROUNDING = 1e-12

__all__ = ["RegressionTest", "TrendTest", "regret_regression_test", "regret_trend_test"]


class TrendTest(NamedTuple):
    """Result of :func:`regret_trend_test`.

    Attributes
    ----------
    falls
        How often the average regret fell from a round to the next, integers ``(...)``.
    p_value
        How likely so many falls or more are where each comes with chance one half, ``(...)``.
    """

    falls: np.ndarray
    p_value: np.ndarray


class RegressionTest(NamedTuple):
    """Result of :func:`regret_regression_test`.

    Attributes
    ----------
    slope, intercept
        Of log regret on log t, ``(...)``.
    p_value
        One-sided, of slopes this small or smaller where the true one is 1, ``(...)``.
    """

    slope: np.ndarray
    intercept: np.ndarray
    p_value: np.ndarray


def _path(regrets: Any) -> np.ndarray:
    path = as_float_array(regrets, "regrets", min_ndim=1)
    if path.shape[-1] < LEAST_ROUNDS:
        raise ValueError(
            f"regrets must be those of at least {LEAST_ROUNDS} rounds, got {path.shape[-1]}"
        )
    return path


def regret_trend_test(regrets: Any) -> TrendTest:
    r"""Test whether the average regret falls more often than by chance.

    With E the number of rounds t < T at which :math:`R_t/t > R_{t+1}/(t+1)`,

    .. math:: p = 2^{-(T-1)}\sum_{s=E}^{T-1}\binom{T-1}{s}

    Parameters
    ----------
    regrets
        Regret after each round, ``(..., T)`` with T >= 3.

    Returns
    -------
    TrendTest

    Raises
    ------
    ValueError
        If there are fewer than three rounds or a regret is not finite.

    References
    ----------
    Park et al. 2024, trend-checking, arXiv:2403.16843. The chances of successive falls are not
    independent, even for losses that are: it is a yardstick rather than a level.

    Examples
    --------
    >>> import numpy as np
    >>> test = regret_trend_test(np.sqrt(np.arange(1, 26)))
    >>> int(test.falls), float((test.p_value * 2**24).round(9))
    (24, 1.0)
    """
    from scipy.special import bdtrc

    path = _path(regrets)
    rounds = path.shape[-1]
    average = path / np.arange(1, rounds + 1)
    before, after = average[..., :-1], average[..., 1:]
    falls = np.sum(before - after > ROUNDING * np.abs(before), axis=-1)
    # The chance of more than E − 1 of T − 1; of −1 or more it is one.
    chance = np.where(falls > 0, bdtrc(np.maximum(falls, 1) - 1, rounds - 1, 0.5), 1.0)
    return TrendTest(falls, chance)


def regret_regression_test(regrets: Any, *, floor: float = 1e-2) -> RegressionTest:
    r"""Test whether regret grows like a power of t below 1.

    Least squares of :math:`\log\max(R_t, \epsilon)` on :math:`\log t`, and the one-sided t test of
    a slope below 1.

    Parameters
    ----------
    regrets
        Regret after each round, ``(..., T)`` with T >= 3.
    floor
        ε > 0 that stands for smaller regrets, negative ones among them.

    Returns
    -------
    RegressionTest
        Where the points lie on a line, the p-value is 0 for a slope below 1, else 1.

    Raises
    ------
    ValueError
        If there are fewer than three rounds, a regret is not finite, or ``floor`` is not > 0.

    References
    ----------
    Park et al. 2024, regression-based validation, arXiv:2403.16843. Regrets of successive rounds
    are not independent: it is a yardstick rather than a level.

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(1, 26)
    >>> [regret_regression_test(path).slope.round(6).item() for path in (np.sqrt(t), 2.0 * t)]
    [0.5, 1.0]
    """
    from scipy.special import stdtr

    check_positive(floor=floor)
    path = _path(regrets)
    rounds = path.shape[-1]
    where = np.log(np.arange(1, rounds + 1))
    deviation = where - where.mean()
    spread = deviation @ deviation
    heights = np.log(np.maximum(path, floor))
    slope = heights @ deviation / spread
    middle = heights.mean(axis=-1)
    left = heights - middle[..., None] - slope[..., None] * deviation
    error = np.sqrt(np.sum(left**2, axis=-1) / (rounds - 2) / spread)
    # What is left of points on a line is rounding, of logarithms of this size.
    exact = error <= 1e-12 * (1 + np.abs(heights).max(axis=-1))
    lead = slope - 1.0
    ratio = lead / np.where(exact, 1.0, error)
    certain = np.where(lead < -1e-12, 0.0, 1.0)
    chance = np.where(exact, certain, stdtr(rounds - 2, ratio))
    return RegressionTest(slope, middle - slope * where.mean(), chance)
