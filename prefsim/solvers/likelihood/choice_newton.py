"""Damped Newton for the concave log-likelihoods of choice models (Bradley–Terry, Plackett–Luce).

No line search: along any direction ``d`` the third derivative of these likelihoods is at most ``R``
times the second, with ``R`` the largest difference of ``d`` inside one choice, so a step of length
``log(1 + R) / R`` never lowers the likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

__all__ = [
    "RATIO_RANGE",
    "ChoiceModel",
    "ChoiceNewtonResult",
    "Derivatives",
    "conjugate_gradient",
    "log_odds_start",
    "maximise",
]

# Largest spread of rewards at which exp(r) and its squares stay inside float64.
RATIO_RANGE = 600.0
# Below this spread a full Newton step is certain to raise the likelihood ((e^R - R - 1) / R^2 < 1
# up to R = 1.79).
FULL_STEP = 1.0
# A gradient can be small for want of information; the last step must have been small too.
LAST_STEP = 1e-3
# Rounding of a computed difference of rewards, relative to the largest reward.
ROUNDING = 4.0 * float(np.finfo(np.float64).eps)
# Conjugate gradients lose their conjugacy to rounding well before the residual falls further.
SMALLEST_FORCING = 1e-8


class Derivatives(NamedTuple):
    """Gradient and negative Hessian of a log-likelihood at one point.

    It is valid until the model is evaluated again.

    ``flow`` is the sum of the absolute terms of each entry of the gradient: what the gradient is
    small against.
    """

    gradient: np.ndarray
    flow: np.ndarray
    diagonal: np.ndarray
    product: Callable[[np.ndarray], np.ndarray]
    solve_directly: Callable[[np.ndarray], np.ndarray | None] | None


class ChoiceModel(Protocol):
    """A concave log-likelihood of rewards ``(..., n)`` that ignores a shift of all of them."""

    def derivatives(self, reward: np.ndarray) -> Derivatives:
        """Return gradient and curvature at ``reward``."""

    def spread(self, direction: np.ndarray) -> np.ndarray:
        """Return the largest difference of ``direction`` inside one choice, ``(...,)``."""


class ChoiceNewtonResult(NamedTuple):
    """Rewards ``(..., n)`` of mean 0, the gradient there, and the steps taken.

    ``converged`` says whether each member met the tolerance.
    """

    reward: np.ndarray
    gradient: np.ndarray
    iterations: int
    converged: np.ndarray


def _centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=-1, keepdims=True)


def log_odds_start(wins: np.ndarray, comparisons: np.ndarray) -> np.ndarray:
    """Return log-odds of winning, stretched for the spread of the opponents.

    An item meets opponents of different strength, which flattens its share of wins: a normal spread
    of variance v divides log-odds by about ``sqrt(1 + pi v / 8)``. The start undoes that, within a
    factor of two.
    """
    known = np.where(comparisons > 0, comparisons, 1.0)
    share = np.where(comparisons > 0, np.clip(wins / known, 1e-3, 1 - 1e-3), 0.5)
    odds = _centred(np.log(share) - np.log1p(-share))
    flattening = 1.0 - np.pi / 8.0 * np.mean(odds * odds, axis=-1, keepdims=True)
    return odds / np.sqrt(np.maximum(flattening, 0.25))


def conjugate_gradient(
    point: Derivatives, *, forcing: float, max_products: int
) -> tuple[np.ndarray, bool]:
    """Solve ``H d = gradient`` by conjugate gradients, all members of a batch at once.

    The diagonal is the preconditioner.

    Every iterate satisfies ``d·H d = d·gradient``, which is all that the step length rule needs:
    stopping early is safe.

    Returns
    -------
    The direction and whether the preconditioned residual of every member fell by the factor
    ``forcing``.
    """
    inverse = 1.0 / np.where(point.diagonal > 0, point.diagonal, 1.0)
    residual = point.gradient
    solution = np.zeros_like(residual)
    search = inverse * residual
    size = np.sum(residual * search, axis=-1, keepdims=True)
    target = forcing**2 * size
    for _ in range(max_products):
        image = point.product(search)
        curvature = np.sum(search * image, axis=-1, keepdims=True)
        moving = (size > target) & (curvature > 0)
        length = np.where(moving, size, 0.0) / np.where(moving, curvature, 1.0)
        solution = solution + length * search
        residual = residual - length * image
        scaled = inverse * residual
        previous, size = size, np.sum(residual * scaled, axis=-1, keepdims=True)
        if not np.any(size > target):
            return solution, True
        search = scaled + size / np.where(previous > 0, previous, 1.0) * search
    return solution, False


def maximise(
    model: ChoiceModel,
    start: np.ndarray,
    *,
    tolerance: float,
    max_iterations: int,
    max_products: int,
) -> ChoiceNewtonResult:
    """Maximise a choice likelihood from ``start``.

    Until every ``|gradient_i| <= tolerance * flow_i``, up to rounding.

    Newton directions come from conjugate gradients, which need a handful of products on
    well-connected comparisons. Where ``max_products`` do not suffice the comparisons are badly
    connected, and the model's direct solver takes over for good.

    References
    ----------
    Bach 2010, "Self-concordant analysis for logistic regression", arXiv:0910.4627, for the bound
    behind the step length.
    """
    reward = _centred(start)
    last_step = np.full(reward.shape[:-1], np.inf)
    direct = max_products == 0
    iteration = 0
    while True:
        point = model.derivatives(reward)
        # Rewards far from zero are rounded, and the gradient moves with them.
        rounding = ROUNDING * np.max(np.abs(reward), axis=-1, keepdims=True) * point.diagonal
        allowed = tolerance * point.flow + rounding
        error = tolerance * np.max(
            np.abs(point.gradient) / np.where(allowed > 0, allowed, 1.0), axis=-1
        )
        converged = (error <= tolerance) & (last_step <= LAST_STEP)
        if converged.all() or iteration == max_iterations:
            return ChoiceNewtonResult(reward, point.gradient, iteration, converged)
        direction = None
        if not direct:
            # The residual must shrink with the gradient for the convergence to stay quadratic, but
            # never below what reaches ``tolerance``.
            worst = float(error.max())
            forcing = min(
                0.1, max(worst, 0.1 * tolerance / worst if worst > 0 else 0.1, SMALLEST_FORCING)
            )
            direction, solved = conjugate_gradient(
                point, forcing=forcing, max_products=max_products
            )
            direct = not solved and point.solve_directly is not None
        if direct and point.solve_directly is not None:
            direction = point.solve_directly(point.gradient)
        if direction is None:
            direction, _ = conjugate_gradient(
                point, forcing=0.01, max_products=10 * reward.shape[-1]
            )
        direction = _centred(direction)
        step = np.max(direction, axis=-1) - np.min(direction, axis=-1)
        if np.any(step > FULL_STEP):
            step = np.where(step > FULL_STEP, model.spread(direction), step)
        damped = np.maximum(step, FULL_STEP)
        length = np.where(step > FULL_STEP, np.log1p(damped) / damped, 1.0)
        move = np.where(converged, 0.0, length)[..., None] * direction
        reward = _centred(reward + move)
        last_step = np.where(converged, last_step, step)
        iteration += 1
