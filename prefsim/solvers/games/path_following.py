r"""Exact Nash equilibria of preference games by primal–dual path following.

Many games at once.

With the skew matrix ``A = P − ½`` a policy x is an equilibrium exactly if ``Ax <= 0``. The central
path keeps ``x > 0`` and ``w = v·1 − Ax > 0`` with ``x_i w_i = μ`` for all i and lets μ fall to
zero. Since ``xᵀAx = 0``, summing gives ``v Σx = nμ``: along the path ``v = nμ`` and ``Σx = 1`` hold
by themselves, and ``v`` bounds the exploitability. A Newton step solves with ``diag(w/x) − A``, a
positive diagonal plus a skew matrix, which is never singular, whatever ties, duplicates or
dominated responses the game has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import is_torch_array

from prefsim.numerics import array_namespace
from prefsim.solvers.games.certificates import payoff
from prefsim.typing import Array

# Below this bound, in units of the rounding error, the Newton matrices of games with duplicates may
# lose their last digit and become singular.
SMALLEST_BOUND = 50.0

__all__ = ["EquilibriumPath", "follow_path"]


class EquilibriumPath(NamedTuple):
    """Where the path ended: policies ``(B, n)``, exploitabilities and steps ``(B,)``."""

    policy: Array
    exploitability: Array
    iterations: Array


def follow_path(preference: Array, *, tolerance: float, max_iterations: int) -> EquilibriumPath:
    """Follow the central path of every game of ``preference (B, n, n)`` to its end.

    That is until its exploitability is at most ``tolerance``.

    The path ends in the relative interior of the set of equilibria: of several the one returned has
    the largest support. Responses outside of it end at exactly zero, unless only the traces left of
    them keep the exploitability within ``tolerance``.

    References
    ----------
    Mehrotra 1992, "On the implementation of a primal-dual interior point method" (predictor and
    corrector).
    """
    xp = array_namespace(preference)
    batch, n = preference.shape[0], preference.shape[-1]
    like = {"dtype": preference.dtype, "device": preference.device}
    policy = xp.full((batch, n), 1.0 / n, **like)
    skew = preference - 0.5
    gap = _worst(skew, policy)
    floor = SMALLEST_BOUND * xp.finfo(preference.dtype).eps
    iterations = xp.zeros(batch, dtype=xp.int64, device=preference.device)
    active = xp.nonzero(gap > tolerance)[0]
    state = _Point(policy[active, :], xp.ones(active.shape[0], **like), skew[active, ...])
    for _ in range(max_iterations):
        if active.shape[0] == 0:
            break
        state = _step(state)
        swept = _without_dust(state)
        clean = _worst(state.skew, swept) <= tolerance
        candidate = xp.where(clean[:, None], swept, state.policy)
        reached = _worst(state.skew, candidate)
        better = clean | (reached < gap[active])
        policy[active, :] = xp.where(better[:, None], candidate, policy[active, :])
        gap[active] = xp.where(better, reached, gap[active])
        iterations[active] += 1
        going = xp.nonzero(~clean & (state.bound > floor))[0]
        if going.shape[0] < active.shape[0]:
            active = active[going]
            state = _Point(*(part[going, ...] for part in state))
    return EquilibriumPath(policy, gap, iterations)


class _Point(NamedTuple):
    """Interior points x ``(B, n)``, their bounds v ``(B,)``, and skew matrices ``(B, n, n)``."""

    policy: Array
    bound: Array
    skew: Array


def _step(point: _Point) -> _Point:
    """Take one predictor–corrector step towards μ = 0."""
    x, v, skew = point
    xp = array_namespace(x)
    n = x.shape[-1]
    # On the path w = μ/x >= v/n; rounding in the payoffs must not carry it to zero.
    w = xp.maximum(v[:, None] - payoff(skew, x), xp.finfo(x.dtype).eps * v[:, None])
    # In a row first: of tables in column order that is a copy.
    entries = xp.reshape(-skew, (-1, n * n))
    entries[:, :: n + 1] += w / x
    solve = _factorise(xp.reshape(entries, (-1, n, n)))

    def direction(centring: Array, product: Array) -> tuple[Array, Array]:
        fall = (centring - 1.0) * v
        dx = solve((centring * v / n)[:, None] / x - product / x - w - fall[:, None])
        return dx, fall[:, None] - payoff(skew, dx)

    dx, dw = direction(xp.zeros_like(v), xp.zeros_like(x))
    centring = (1.0 - _longest(x, w, dx, dw, 1.0)) ** 3
    dx, dw = direction(centring, dx * dw)
    length = _longest(x, w, dx, dw, xp.clip(1.0 - v, 0.99, 1.0 - 1e-6))
    x = x + length[:, None] * dx
    return _Point(
        x / xp.sum(x, axis=-1, keepdims=True), v * (1.0 + length * (centring - 1.0)), skew
    )


def _longest(x: Array, w: Array, dx: Array, dw: Array, fraction: Any) -> Array:
    """Return the largest step in [0, 1] that stays clear of the boundary.

    It goes at most ``fraction`` of the way there.
    """
    xp = array_namespace(x)
    steepest = xp.maximum(xp.max(-dx / x, axis=-1), xp.max(-dw / w, axis=-1))
    return fraction / xp.where(steepest > fraction, steepest, fraction)


def _worst(skew: Array, policy: Array) -> Array:
    return array_namespace(skew).max(payoff(skew, policy), axis=-1)


def _without_dust(point: _Point) -> Array:
    """Return the policies with zeros for what the path seems to send to zero (x < w)."""
    x, v, skew = point
    xp = array_namespace(x)
    kept = xp.where(x < v[:, None] - payoff(skew, x), xp.zeros_like(x), x)
    total = xp.sum(kept, axis=-1, keepdims=True)
    # Far from the end a small x is no dust yet: only what hardly moves the policy is swept away.
    dust = (total > 0.5) & (xp.max(x - kept, axis=-1, keepdims=True) < 1e-6)
    return xp.where(dust, kept / xp.where(total > 0, total, xp.ones_like(total)), x)


def _factorise(matrix: Array) -> Callable[[Array], Array]:
    """Factorise every matrix ``(B, n, n)`` once and return the solver.

    It takes right-hand sides ``(B, n)``.
    """
    if is_torch_array(matrix):
        import torch

        factor = torch.linalg.lu_factor(matrix)
        return lambda right: torch.linalg.lu_solve(*factor, right[..., None])[..., 0]
    import numpy as np
    from scipy.linalg import get_lapack_funcs

    if matrix.shape[0] == 1:
        factorise, substitute = get_lapack_funcs(("getrf", "getrs"), (matrix,))
        # The transpose is in Fortran order, so that LAPACK factorises it in place.
        factor, pivots, _ = factorise(matrix[0].T, overwrite_a=True)
        return lambda right: substitute(factor, pivots, right[0], trans=1)[0][None]
    # NumPy has no batched factor to keep; for the small games that come in batches a second solve
    # is cheaper than a loop.
    return lambda right: np.linalg.solve(matrix, right[..., None])[..., 0]
