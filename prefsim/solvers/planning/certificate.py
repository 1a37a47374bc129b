"""The planners' result with its certificate, and the stopping rule of their sweeps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._numpy_kernels import range_of_rows
from prefsim._readable import readable
from prefsim.backend import like, to_numpy
from prefsim.numerics import array_namespace
from prefsim.solvers.planning.bellman import Criterion, action_values, reward_unit
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array, ArrayT
from prefsim.worlds.mdp import TabularMDP

__all__ = [
    "PlanningResult",
    "SpanStop",
    "certify",
    "require_no_better_without_end",
    "residual_limit",
    "rounding_error",
    "warn_unless",
]

ROUNDING_UNITS = 16
"""A residual of this many units in the last place of the largest value is as good as zero."""


@readable
class PlanningResult(NamedTuple):
    """Values of a decision process with their certificate.

    With a finite horizon H every table gains a time axis before the states: ``value`` has ``H + 1``
    entries along it (the last is 0), the others have ``H``.

    Attributes
    ----------
    value
        ``(*batch, S)``.
    q_value, advantage, policy
        ``(*batch, S, A)``: action values, action values minus values, and probabilities of actions.
        A policy of the hard maximum shares its mass equally among the optimal actions.
    residual
        Largest absolute Bellman residual, computed afresh from ``value`` at the end: a float, or
        ``(*batch,)``. The error of the values is at most ``residual / (1 - discount)``.
    iterations
        Sweeps, or improvement steps; see the function.
    converged
        Whether the residual meets the tolerance: a bool, or ``(*batch,)``.
    """

    value: Array
    q_value: Array
    advantage: Array
    policy: Array
    residual: Any
    iterations: int
    converged: Any


def rounding_error(value: ArrayT, least: Any) -> ArrayT:
    """Return ``(*batch,)``: what rounding may leave of a residual of values ``(*batch, S)``.

    In proportion to the largest of them, which counts as ``least`` at least.
    """
    xp = array_namespace(value)
    unit = ROUNDING_UNITS * float(xp.finfo(value.dtype).eps)
    if isinstance(value, np.ndarray):
        # Without temporaries: this is asked after every sweep.
        low, high = range_of_rows(value)
        return unit * np.maximum(np.maximum(high, -low), least)
    largest = xp.max(xp.abs(value), axis=-1)
    return unit * xp.maximum(largest, least + xp.zeros_like(largest))


def residual_limit(value: ArrayT, tolerance: float, unit: Any) -> ArrayT:
    """Return ``(*batch,)``.

    The tolerance times the unit (see :class:`~prefsim.solvers.planning.bellman.Criterion`), or
    where that is larger the rounding error of the largest value.
    """
    rounding = rounding_error(value, unit)
    xp = array_namespace(rounding)
    return xp.maximum(rounding, tolerance * unit + xp.zeros_like(rounding))


class SpanStop:
    r"""The stopping rule of sweeps.

    What the change :math:`Tv - v` of the last one says about the values :math:`Tv`.

    Without terminal states all values may be shifted together, to the middle of the bounds that the
    change sets, and half the span of the change remains. With terminal states, whose values are
    known to be 0, the largest change counts.

    References
    ----------
    Puterman 1994, theorem 6.6.6 (bounds of MacQueen and Porteus).
    """

    def __init__(self, mdp: TabularMDP) -> None:
        xp = array_namespace(mdp.terminal)
        self.discount = mdp.discount
        self.endless = ~xp.any(mdp.terminal, axis=-1)
        # One answer for all processes spares a selection in every sweep, which at small S costs as
        # much as the sweep.
        every, some = bool(xp.all(self.endless)), bool(xp.any(self.endless))
        self.uniform = every if every == some else None

    @staticmethod
    def bounds(change: Array) -> tuple[Array, Array]:
        """Return the smallest and the largest change, ``(*batch,)``."""
        if isinstance(change, np.ndarray):
            return range_of_rows(change)
        xp = array_namespace(change)
        return xp.min(change, axis=-1), xp.max(change, axis=-1)

    def gap(self, low: Array, high: Array) -> Array:
        r"""Return the Bellman residual of :math:`Tv` after the shift."""
        if self.uniform is True:
            return 0.5 * self.discount * (high - low)
        xp = array_namespace(low)
        largest = xp.where(high > -low, high, -low)
        return self.discount * (
            largest
            if self.uniform is False
            else xp.where(self.endless, 0.5 * (high - low), largest)
        )

    def shifted(self, value: Array, low: Array, high: Array) -> Array:
        r"""Return :math:`Tv` (``value``) moved to the middle of its bounds."""
        if self.uniform is False:
            return value
        middle = 0.5 * (low + high) * (self.discount / (1.0 - self.discount))
        if self.uniform is None:
            xp = array_namespace(value)
            middle = xp.where(self.endless, middle, xp.zeros_like(middle))
        return value + middle[..., None]


def certify(
    name: str,
    mdp: TabularMDP,
    value: Array,
    criterion: Criterion,
    *,
    tolerance: float,
    iterations: int,
    q_value: Array | None = None,
) -> PlanningResult:
    """Return the result for values of an infinite horizon.

    The residual is computed here, whatever the caller believes it to be.

    ``q_value`` may be given by a caller who has just backed up these very values.
    """
    xp = array_namespace(value)
    if q_value is None:
        q_value = action_values(mdp.transitions, mdp.reward, value, discount=mdp.discount)
    residual = to_numpy(xp.max(xp.abs(criterion.maximum(q_value) - value), axis=-1))
    limit = to_numpy(residual_limit(value, tolerance, criterion.unit))
    # Written so that a NaN counts as a failure.
    converged = residual <= limit
    warn_unless(name, converged, residual, limit, iterations)
    single = residual.ndim == 0
    return PlanningResult(
        value=value,
        q_value=q_value,
        advantage=q_value - value[..., None],
        policy=criterion.policy(q_value),
        residual=float(residual) if single else residual,
        iterations=iterations,
        converged=bool(converged) if single else converged,
    )


def require_no_better_without_end(
    name: str, mdp: TabularMDP, result: PlanningResult
) -> PlanningResult:
    r"""Return the result, unless never ending beats it in an undiscounted process.

    Without a discount Bellman's equation may have several solutions. The difference of two is
    constant on states between which one may move for ever by optimal actions; there the sum of the
    rewards comes back to 0 again and again, which is better than a negative value.

    Raises
    ------
    ValueError
        If there are such states, naming one.

    References
    ----------
    Bertsekas and Tsitsiklis 1991, "An analysis of stochastic shortest path problems" (without
    these states the solution is unique).
    """
    if mdp.discount < 1.0 or mdp.horizon is not None:
        return result
    value, optimal = to_numpy(result.value), to_numpy(result.policy) > 0
    limit = to_numpy(residual_limit(result.value, 1e-9, reward_unit(mdp)))
    staying = (value < -limit[..., None]) & ~to_numpy(mdp.terminal)
    nothing = 0 * mdp.reward
    while staying.any():
        outside = like((~staying).astype(value.dtype), result.value)
        leaving = to_numpy(action_values(mdp.transitions, nothing, outside, discount=1.0)) > 0
        kept = staying & np.any(optimal & ~leaving, axis=-1)
        if (kept == staying).all():
            where = tuple(int(i) for i in np.argwhere(staying)[0])
            state = ", ".join(map(str, where))
            raise ValueError(
                f"{name} found {value[where]:.6g} for state {state}, from where the undiscounted"
                " process can go on for ever without loss, which is better: give a discount < 1 or"
                " another end"
            )
        staying = kept
    return result


def warn_unless(name: str, converged: Any, residual: Any, limit: Any, iterations: int) -> None:
    """Warn where a certificate misses its limit."""
    if np.all(converged):
        return
    worst = np.argmax(np.where(converged, -np.inf, np.where(np.isnan(residual), np.inf, residual)))
    found, wanted = np.ravel(residual)[worst], np.ravel(limit)[worst]
    of_batch = (
        ""
        if np.ndim(residual) == 0
        else f" for {int(np.sum(~np.asarray(converged)))} of {np.size(residual)} processes"
    )
    warn_caller(
        f"{name} stopped after {iterations} iterations with Bellman residual {found:.3g} >"
        f" {wanted:.3g}{of_batch}",
    )
