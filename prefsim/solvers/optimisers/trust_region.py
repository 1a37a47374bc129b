"""Steps within a trust region that keep to a constraint, and logarithms that keep off its edge."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    as_floats,
    check_entries,
    check_flag,
    check_no_nan,
    check_positive,
    check_same_shape,
    check_shape,
    known_values,
    names_shapes,
    tolerance_of,
)
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = ["ConstrainedStep", "barrier_penalty", "constrained_step"]

PARALLEL = 1e-12
"""Share of a gradient's squared length across the other that counts as none."""


class ConstrainedStep(NamedTuple):
    r"""A step and the two multipliers that make it optimal.

    Attributes
    ----------
    step
        x, ``(..., n)``.
    radius_multiplier
        :math:`\lambda \ge 0`, ``(...)``: :math:`\lambda Hx = g - \nu b`. It is 0 where the radius
        does not bind, as with gradients that are parallel, and where nothing is feasible.
    constraint_multiplier
        :math:`\nu \ge 0`, ``(...)``; infinite where nothing is feasible.
    feasible
        Booleans ``(...)``: whether the trust region meets the constraint at all. Where it does not
        the step lowers the constraint as much as the region allows.
    """

    step: Array
    radius_multiplier: Array
    constraint_multiplier: Array
    feasible: Array


@names_shapes
def constrained_step(
    gradient: Any, constraint_gradient: Any, excess: Any, curvature: Any, *, radius: float
) -> ConstrainedStep:
    r"""Return the step of constrained policy optimisation.

    It maximises :math:`g^\top x` subject to :math:`c + b^\top x \le 0` and
    :math:`\tfrac12 x^\top H x \le \delta`.

    Where the plain step :math:`\sqrt{2\delta/q}\,H^{-1}g` keeps to the constraint it is the
    solution. Else both bind: with :math:`q = g^\top H^{-1} g`, :math:`r = g^\top H^{-1} b` and
    :math:`s = b^\top H^{-1} b`,

    .. math:: \lambda^2 = \frac{q - r^2/s}{2\delta - c^2/s}, \qquad \nu = \frac{r + \lambda c}{s}.

    Parameters
    ----------
    gradient, constraint_gradient
        g and b, ``(..., n)``; of what is to rise and of the cost that must not.
    excess
        c, ``(...)``: by how much the constraint is violated now, negative where there is room.
    curvature
        H, ``(..., n, n)``, symmetric and positive definite.
    radius
        :math:`\delta > 0`.

    Returns
    -------
    ConstrainedStep

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is NaN, the radius is not positive, or the curvature is not
        symmetric and positive definite.

    References
    ----------
    Achiam, Held, Tamar and Abbeel 2017, "Constrained policy optimization", arXiv:1705.10528,
    theorem 2 (which minimises, so that its g is ours with the other sign).

    Examples
    --------
    >>> found = constrained_step([1.0, 0.0], [1.0, 1.0], -0.5, [[1.0, 0.0], [0.0, 1.0]], radius=0.5)
    >>> found.step.round(6), found.constraint_multiplier.round(6)
    (array([ 0.911438, -0.411438]), np.float64(0.311018))
    """
    gradient, constraint_gradient, excess, curvature = as_floats(
        gradient=gradient,
        constraint_gradient=constraint_gradient,
        excess=excess,
        curvature=curvature,
    )
    check_positive(radius=radius)
    check_same_shape(gradient=gradient, constraint_gradient=constraint_gradient)
    size = gradient.shape[-1]
    check_shape(curvature, "curvature", (size, size))
    _check_definite(curvature)
    xp = array_namespace(gradient)
    sides = xp.stack([gradient, constraint_gradient], axis=-1)
    solved = xp.linalg.solve(curvature, sides)
    towards, across = solved[..., 0], solved[..., 1]
    q = xp.sum(gradient * towards, axis=-1)
    r = xp.sum(gradient * across, axis=-1)
    s = xp.sum(constraint_gradient * across, axis=-1)
    none = xp.zeros_like(q + excess)
    excess = excess + none
    plain = xp.sqrt(2 * radius / _or_one(q)) * xp.where(q > 0, 1.0, 0.0) + none
    met = excess + plain * r <= 0
    # What of the radius is left once the constraint is met, and of the gradient along it.
    left = 2 * radius - excess**2 / _or_one(s)
    along = q - r**2 / _or_one(s)
    # What rounding leaves of parallel gradients is no direction.
    along = xp.where(along > PARALLEL * q, along, none)
    reachable = (excess <= 0) | ((s > 0) & (left >= 0))
    binding = reachable & ~met
    length = xp.sqrt(xp.where(binding & (left > 0), left, none) / _or_one(along))
    length = xp.where(along > 0, length, none)
    share = (excess + length * r) / _or_one(s)
    away = -xp.sqrt(2 * radius / _or_one(s))
    first = xp.where(met, plain, xp.where(binding, length, none))
    second = xp.where(met, none, xp.where(binding, -share, away + none))
    scale = xp.where(first > 0, 1 / _or_one(first), none)
    both = xp.where(first > 0, scale * share, r / _or_one(s))
    price = xp.where(met, none, xp.where(binding, both, none + xp.inf))
    return ConstrainedStep(
        step=first[..., None] * towards + second[..., None] * across,
        radius_multiplier=xp.where(reachable, scale, none),
        constraint_multiplier=price,
        feasible=reachable,
    )


def _check_definite(curvature: Array) -> None:
    """Raise unless matrices are symmetric and positive definite, where values may be looked at."""
    values = known_values(curvature)
    if values is None or not values.size:
        return
    check_entries(curvature, "curvature", "be finite", np.isfinite)
    sizes = np.abs(values).max(axis=(-2, -1), keepdims=True)
    skew = np.abs(values - np.swapaxes(values, -1, -2))
    least = np.linalg.eigvalsh(values)[..., :1]
    allowed = tolerance_of(curvature) * sizes
    if not (skew <= allowed).all() or not (least > 0).all():
        raise ValueError(
            "curvature must be symmetric and positive definite, got one with a least eigenvalue of"
            f" {least.min():.3g} and a largest difference from its transpose of {skew.max():.3g}"
        )


def _or_one(value: Array) -> Array:
    """Return a value where it is positive and 1 elsewhere, to divide by."""
    xp = array_namespace(value)
    return xp.where(value > 0, value, xp.ones_like(value))


def barrier_penalty(
    slack: ArrayT, *, sharpness: float, floor: float = 1e-3, extended: bool = False
) -> ArrayT:
    r"""Return :math:`-\frac1t \log s` of what constraints have to spare, to add to a loss.

    Below ``floor`` the logarithm is cut off: at its value there, so that a constraint once violated
    has no gradient and nothing brings it back; or, ``extended``, along its tangent, which pulls
    with :math:`1/(t\,\mathrm{floor})`.

    Parameters
    ----------
    slack
        s, of any shape: returns less what they must reach. In sampled policy optimisation that is
        the mean return of a batch, times the clipped ratio, less the level.
    sharpness
        t > 0, in units of one over a return.
    floor
        The least slack whose logarithm is taken, > 0.
    extended
        Whether the penalty goes on rising below the floor.

    Returns
    -------
    Array of the shape of ``slack``.

    Raises
    ------
    ValueError
        If an option is not positive, or a slack is NaN.

    Examples
    --------
    >>> barrier_penalty([0.5, -1.0], sharpness=20.0).round(3)
    array([0.035, 0.345])
    >>> barrier_penalty([0.5, -1.0], sharpness=20.0, extended=True).round(3).tolist()
    [0.035, 50.395]
    """
    (slack,) = as_floats(nan=True, slack=slack)
    check_no_nan(slack, "slack")
    check_positive(sharpness=sharpness, floor=floor)
    check_flag(extended=extended)
    xp = array_namespace(slack)
    least = xp.full_like(slack, floor)
    # Clamped before the logarithm, so that no gradient of what is not taken is NaN.
    inside = xp.where(slack > least, slack, least)
    value = -xp.log(inside)
    if extended:
        value = value + xp.where(slack > least, xp.zeros_like(slack), (least - slack) / floor)
    return value / sharpness
