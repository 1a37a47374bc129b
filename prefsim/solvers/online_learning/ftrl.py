r"""Follow the regularised leader: the distribution that a convex function of it holds back.

.. math:: \pi = \arg\min_p\; \eta\langle p, L\rangle + R(p)

over the simplex or over a ball. A regulariser of the simplex is a sum :math:`R(p) = \sum_a r(p_a)`
of one convex function of each entry, and is said by the derivative of r and the inverse of that.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    as_floats,
    check_constant,
    check_entries,
    check_kind,
    check_nonnegative,
    check_positive,
    check_shape,
)
from prefsim.numerics import array_namespace, like, over_rows, sort
from prefsim.solvers.online_learning.hedge import hedge
from prefsim.typing import ArrayT, Number

__all__ = [
    "ENTROPY",
    "EUCLIDEAN",
    "Regulariser",
    "ftrl",
    "ftrl_ball",
    "project_to_ball",
    "project_to_simplex",
    "tsallis",
]

# A bracket of two numbers of double precision is halved no more often than that.
HALVINGS = 100


class Regulariser(NamedTuple):
    r"""A convex function :math:`R(p) = \sum_a r(p_a)` of distributions.

    Attributes
    ----------
    slope
        :math:`r'`, of a number in (0, 1].
    inverse_slope
        Of arrays: :math:`\arg\max_{x \ge 0} (sx - r(x))`, nondecreasing in s. For :math:`r'(0)`
        finite it is 0 below that.
    exact
        Takes ηL ``(..., d)`` and returns the distribution, where there is a closed form.
    """

    slope: Callable[[float], float]
    inverse_slope: Callable[[Any], Any]
    exact: Callable[[Any], Any] | None = None


def _shrunk(points: ArrayT) -> ArrayT:
    """Return the leader with the Euclidean regulariser, from ηL."""
    return project_to_simplex(-points)


def _of_entropy(weighted: ArrayT) -> ArrayT:
    return hedge(weighted, step=1.0)


# Functions with names, and not closures: a regulariser can be sent to other processes.
def _log_and_one(p: float) -> float:
    return math.log(p) + 1.0


def _itself(p: float) -> float:
    return p


def _exp(slope: ArrayT) -> ArrayT:
    return array_namespace(slope).exp(slope - 1.0)


def _positive_part(x: ArrayT) -> ArrayT:
    xp = array_namespace(x)
    return xp.where(x > 0, x, xp.zeros_like(x))


ENTROPY = Regulariser(_log_and_one, _exp, _of_entropy)
r"""Negative entropy :math:`\sum p\ln p`: the leader is Hedge."""

EUCLIDEAN = Regulariser(_itself, _positive_part, _shrunk)
r"""Half the square of the length: the leader is the projection of −ηL onto the simplex."""


def tsallis(order: float) -> Regulariser:
    r"""Return the negative Tsallis entropy, :math:`r(p) = (p - p^q)/(1 - q)`.

    At q = 1 it is :data:`ENTROPY`, at q = 2 twice :data:`EUCLIDEAN`, at q = ½ that of learners
    which are good on random and on adversarial losses alike.

    Parameters
    ----------
    order
        q > 0.

    References
    ----------
    Zimmert and Seldin 2021, "Tsallis-INF", arXiv:1807.07623.

    Examples
    --------
    >>> import numpy as np
    >>> ftrl(np.array([0.3, 1.2, -0.4]), step=0.7, regulariser=tsallis(0.5)).round(6)
    array([0.293345, 0.163073, 0.543583])
    """
    check_positive(order=order)
    if order == 1:
        return ENTROPY

    return Regulariser(
        functools.partial(_slope_of_tsallis, order), functools.partial(_inverse_of_tsallis, order)
    )


def _slope_of_tsallis(order: float, p: float) -> float:
    return float((1.0 - order * p ** (order - 1.0)) / (1.0 - order))


def _inverse_of_tsallis(order: float, slope: Any) -> Any:
    xp = array_namespace(slope)
    base = (1.0 - (1.0 - order) * slope) / order
    inside = base > 0
    safe = xp.where(inside, base, xp.ones_like(base))
    # Outside there is nothing left of an action (q > 1); no bracket reaches it for q < 1.
    return xp.where(inside, safe ** (1.0 / (order - 1.0)), xp.zeros_like(base))


def ftrl(cumulative_loss: ArrayT, *, step: Number, regulariser: Regulariser = ENTROPY) -> ArrayT:
    r"""Return the regularised leader on the simplex, ``(..., d)``.

    .. math:: \arg\min_{p \in \Delta(d)}\; \eta\langle p, L\rangle + \sum_a r(p_a)

    Parameters
    ----------
    cumulative_loss
        L ``(..., d)``: the sum of the losses of the rounds before.
    step
        η >= 0, a number or an array that broadcasts against the leading axes.
    regulariser
        :data:`ENTROPY`, :data:`EUCLIDEAN`, :func:`tsallis` or one of your own.

    Returns
    -------
    Array ``(..., d)`` of distributions. Closed forms are differentiable; where the multiplier of
    the constraint is found by bisection, to the last digit, a tensor that asks for a gradient is
    refused.

    Raises
    ------
    ValueError
        If the step is negative, a loss is NaN or infinite, or a gradient would be lost.

    References
    ----------
    Shalev-Shwartz 2012, "Online learning and online convex optimization", section 2.

    Examples
    --------
    >>> import numpy as np
    >>> ftrl(np.array([0.3, 1.2, -0.4]), step=0.7, regulariser=EUCLIDEAN).round(6)
    array([0.255, 0.   , 0.745])
    """
    check_nonnegative(arrays=True, step=step)
    check_kind(Regulariser, regulariser=regulariser)
    (cumulative_loss,) = as_floats(cumulative_loss=cumulative_loss)
    check_shape(cumulative_loss, "cumulative_loss", (None,))
    check_entries(cumulative_loss, "cumulative_loss", "be finite", np.isfinite)
    eta: Any = like(step, cumulative_loss) if getattr(step, "ndim", 0) else step
    weighted = over_rows(eta) * cumulative_loss
    if regulariser.exact is not None:
        return regulariser.exact(weighted)
    check_constant(cumulative_loss, "cumulative_loss")
    return _by_bisection(weighted, regulariser)


def _by_bisection(weighted: ArrayT, regulariser: Regulariser) -> ArrayT:
    """Return the leader by the multiplier at which its probabilities sum to one."""
    xp = array_namespace(weighted)
    best = xp.min(weighted, axis=-1, keepdims=True)
    beyond = weighted - best
    # With the smaller multiplier no entry is above 1/d, with the larger one the best is 1.
    low = xp.full_like(best, regulariser.slope(1.0 / weighted.shape[-1]))
    high = xp.full_like(best, regulariser.slope(1.0))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if bool(xp.all((middle == low) | (middle == high))):
            break
        total = xp.sum(regulariser.inverse_slope(middle - beyond), axis=-1, keepdims=True)
        low, high = xp.where(total < 1, middle, low), xp.where(total < 1, high, middle)
    found = regulariser.inverse_slope(high - beyond)
    return found / xp.sum(found, axis=-1, keepdims=True)


def project_to_simplex(points: ArrayT) -> ArrayT:
    r"""Return the nearest distributions, in Euclidean distance, ``(..., d)``.

    Parameters
    ----------
    points
        ``(..., d)``.

    Raises
    ------
    ValueError
        If a coordinate is not finite.

    References
    ----------
    Held, Wolfe and Crowder 1974; Duchi et al. 2008, "Efficient projections onto the l1-ball".

    Examples
    --------
    >>> import numpy as np
    >>> project_to_simplex(np.array([0.5, 0.9, -1.0]))
    array([0.3, 0.7, 0. ])
    """
    (points,) = as_floats(points=points)
    check_shape(points, "points", (None,))
    check_entries(points, "points", "be finite", np.isfinite)
    xp = array_namespace(points)
    # From the largest down; what all have in common changes nothing, and large numbers would round.
    points = points - xp.max(points, axis=-1, keepdims=True)
    ordered = -sort(-points)
    counts = xp.astype(
        xp.arange(1, points.shape[-1] + 1, dtype=xp.int64, device=points.device), points.dtype
    )
    shift = (xp.cumulative_sum(ordered, axis=-1) - 1.0) / counts
    # Along the prefix of entries that stay the shift rises: its largest is that of all of them.
    shift = xp.max(xp.where(ordered > shift, shift, xp.full_like(shift, -math.inf)), axis=-1)
    return _positive_part(points - shift[..., None])


def project_to_ball(points: ArrayT, *, radius: float = 1.0) -> ArrayT:
    r"""Return the nearest points of length at most ``radius``, ``(..., d)``.

    Parameters
    ----------
    points
        ``(..., d)``.
    radius
        > 0.

    Raises
    ------
    ValueError
        If the radius is not > 0 or a coordinate is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> project_to_ball(np.array([3.0, 4.0]))
    array([0.6, 0.8])
    """
    check_positive(radius=radius)
    (points,) = as_floats(points=points)
    check_shape(points, "points", (None,))
    check_entries(points, "points", "be finite", np.isfinite)
    xp = array_namespace(points)
    # In units of the largest coordinate, whose square is neither an overflow nor nothing.
    size = xp.max(xp.abs(points), axis=-1, keepdims=True)
    direction = points / xp.where(size > 0, size, xp.ones_like(size))
    square = xp.sum(direction * direction, axis=-1, keepdims=True)
    length = xp.sqrt(xp.where(size > 0, square, xp.ones_like(square)))
    outside = size > radius / length
    return xp.where(outside, direction * (radius / length), points)


def ftrl_ball(cumulative_loss: ArrayT, *, step: Number, radius: float = 1.0) -> ArrayT:
    r"""Return the regularised leader on a ball with half the squared length, ``(..., d)``.

    .. math:: \arg\min_{\|p\| \le r}\; \eta\langle p, L\rangle + \tfrac12\|p\|^2
        = \mathrm{Proj}(-\eta L)

    It is gradient descent that projects lazily.

    Parameters
    ----------
    cumulative_loss
        L ``(..., d)``.
    step
        η >= 0, a number or an array that broadcasts against the leading axes.
    radius
        r > 0.

    References
    ----------
    Zinkevich 2003, "Online convex programming and generalized infinitesimal gradient ascent".

    Examples
    --------
    >>> import numpy as np
    >>> ftrl_ball(np.array([3.0, 4.0]), step=0.1), ftrl_ball(np.array([3.0, 4.0]), step=1.0)
    (array([-0.3, -0.4]), array([-0.6, -0.8]))
    """
    check_nonnegative(arrays=True, step=step)
    (cumulative_loss,) = as_floats(cumulative_loss=cumulative_loss)
    check_shape(cumulative_loss, "cumulative_loss", (None,))
    eta: Any = like(step, cumulative_loss) if getattr(step, "ndim", 0) else step
    return project_to_ball(-over_rows(eta) * cumulative_loss, radius=radius)
