"""Gradient flow: gradient descent in steps so small that only the path of the loss is left."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import as_float_array, check_integer, check_positive
from prefsim.gradients import gradient
from prefsim.typing import Array

__all__ = ["Flow", "gradient_flow"]


class Flow(NamedTuple):
    """A path of parameters in time.

    Attributes
    ----------
    at
        Parameters at a time in ``[0, end]``, of the shape of the start.
    end
        The last time: the duration, or when the flow had arrived.
    arrived
        Whether ``until`` fell to zero before the duration was over.
    """

    at: Callable[[float], np.ndarray]
    end: float
    arrived: bool


def gradient_flow(
    function: Callable[[Any], Array],
    start: Any,
    *,
    duration: float,
    until: Callable[[np.ndarray], float] | None = None,
    tolerance: float = 1e-9,
    max_gradients: int = 10_000,
) -> Flow:
    r"""Follow :math:`\dot\theta = -\nabla f(\theta)` from a start.

    Gradient descent with step η follows it as η → 0, where time is η times the number of steps.

    Parameters
    ----------
    function
        f: takes a float64 tensor of the shape of ``start`` and returns a tensor; where that has
        several values, the flow is that of their sum.
    start
        θ at time 0, of any shape.
    duration
        How long to follow it, > 0.
    until
        Stop where this function of the parameters, positive at the start, falls to zero.
    tolerance
        Relative error of a step of the integrator, > 0; the absolute one is a hundredth of it.
    max_gradients
        Give up after so many, >= 1: a path that runs to infinity in finite time takes smaller and
        smaller steps for ever.

    Returns
    -------
    Flow

    Raises
    ------
    TypeError
        If the function does not return a tensor.
    ValueError
        If an option is out of range or ``until`` is not positive at the start.
    RuntimeError
        If the flow cannot be followed: the gradient is not finite, or it took more than
        ``max_gradients``.

    Examples
    --------
    >>> flow = gradient_flow(lambda x: 0.5 * x**2, [1.0], duration=2.0)
    >>> flow.at(1.0).round(6), flow.end, flow.arrived
    (array([0.367879]), 2.0, False)
    >>> halved = gradient_flow(
    ...     lambda x: 0.5 * x**2, [1.0], duration=2.0, until=lambda x: float(x[0]) - 0.5
    ... )
    >>> round(halved.end, 6), halved.arrived
    (0.693147, True)
    """
    from scipy.integrate import solve_ivp

    check_positive(duration=duration, tolerance=tolerance)
    check_integer(low=1, max_gradients=max_gradients)
    first = as_float_array(start, "start")
    shape, events, calls = first.shape, None, itertools.count(1)

    def velocity(time: float, theta: np.ndarray) -> np.ndarray:
        slope = gradient(function, theta.reshape(shape)).ravel()
        # The integrator knows neither: it would go on from numbers that mean nothing.
        if next(calls) > max_gradients or not np.isfinite(slope).all():
            raise RuntimeError(f"the flow cannot be followed beyond time {time:.6g}")
        return -slope

    if until is not None:
        at_start = float(until(first))
        if not at_start > 0:
            raise ValueError(f"until must be positive at the start, got {at_start:.6g}")
        events = _event(until, shape)
    solution = solve_ivp(
        velocity,
        (0.0, duration),
        first.ravel(),
        method="LSODA",
        events=events,
        dense_output=True,
        rtol=tolerance,
        atol=0.01 * tolerance,
    )
    if not solution.success:
        raise RuntimeError(f"the flow stopped at time {solution.t[-1]:.6g}: {solution.message}")
    # One way to stop early is known to the integrator: that `until` fell to zero.
    arrived = solution.status == 1
    return Flow(lambda time: solution.sol(time).reshape(shape), float(solution.t[-1]), arrived)


def _event(until: Callable[[np.ndarray], float], shape: tuple[int, ...]) -> Any:
    def remaining(_: float, theta: np.ndarray) -> float:
        return float(until(theta.reshape(shape)))

    # What the integrator asks of an event function: to stop, and where it falls only.
    remaining.terminal = True  # type: ignore[attr-defined]
    remaining.direction = -1.0  # type: ignore[attr-defined]
    return remaining
