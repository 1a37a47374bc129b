r"""The equilibrium of a KL-regularised preference game to rounding error, many games at once.

With ``A = P − ½`` the equilibrium is the only root, up to a constant, of ``G(θ) = θ − log μ − A softmax(θ)/τ``. Its Jacobian is ``I − A S/τ``
with S the covariance of the softmax. The eigenvalues of ``A S`` are those of ``S^½ A S^½``, a skew matrix, hence imaginary: the Jacobian
is nowhere singular. G grows without bound with θ, because ``A softmax(θ)`` does not. So the damped Newton method reaches the root from every
start, and quadratically. A good start saves steps: extragradient steps (EGPO) where τ is not small, else the unregularised equilibrium.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from prefsim.numerics import array_namespace, log_softmax
from prefsim.solvers.games import log_best_response, mirror_step, payoff
from prefsim.solvers.path_following import follow_path

Array = Any

WARM_STEPS = 8
SMALL_TAU = 0.02
HALVINGS = 40

__all__ = ["Root", "solve_regularised"]


class Root(NamedTuple):
    """Log-policies ``(B, n)``, largest residuals of ``log π = log BR_τ(π)`` ``(B,)``, and Newton steps ``(B,)``."""

    log_policy: Array
    residual: Array
    iterations: Array


def solve_regularised(preference: Array, log_reference: Array, *, tau: float, max_iterations: int) -> Root:
    r"""Return the fixed point :math:`\pi = \mathrm{BR}_\tau(\pi)` of every game of ``preference (B, n, n)``, references ``(B, n)`` in nats."""
    xp = array_namespace(preference)
    skew = preference - 0.5
    start = _extragradient_start if tau >= SMALL_TAU else _equilibrium_start
    theta = start(skew, log_reference, tau)
    residual = _residual(skew, theta, log_reference, tau)
    norm = _norm(residual)
    iterations = xp.zeros(theta.shape[0], dtype=xp.int64, device=theta.device)
    active = xp.nonzero(norm > _floor(theta))[0]
    part = _Part(skew[active, ...], log_reference[active, :], theta[active, :], residual[active, :], norm[active])
    for _ in range(max_iterations):
        if active.shape[0] == 0:
            break
        new = _newton_step(part, tau)
        improved = new.norm < part.norm
        theta[active, :] = xp.where(improved[:, None], new.theta, part.theta)
        iterations[active] += 1
        going = xp.nonzero(improved & (new.norm > _floor(new.theta)))[0]
        if going.shape[0] < active.shape[0]:
            active, new = active[going], _Part(*(field[going, ...] for field in new))
        part = new
    final = xp.max(xp.abs(_residual(skew, theta, log_reference, tau)), axis=-1)
    return Root(theta, final, iterations)


class _Part(NamedTuple):
    """The games still being solved."""

    skew: Array
    log_reference: Array
    theta: Array
    residual: Array
    norm: Array


def _residual(skew: Array, theta: Array, log_reference: Array, tau: float) -> Array:
    xp = array_namespace(theta)
    return theta - log_best_response(skew, xp.exp(theta), log_reference, tau=tau)


def _norm(residual: Array) -> Array:
    """Return the length of the residual without its constant, which the softmax ignores."""
    xp = array_namespace(residual)
    centred = residual - xp.mean(residual, axis=-1, keepdims=True)
    return xp.sqrt(xp.sum(centred * centred, axis=-1))


def _floor(theta: Array) -> Array:
    """Return the rounding error of a residual, below which no step is worth its while."""
    xp = array_namespace(theta)
    return 4.0 * xp.finfo(theta.dtype).eps * (1.0 + 0.25 * xp.max(xp.abs(theta), axis=-1))


def _newton_step(part: _Part, tau: float) -> _Part:
    """Take one Newton step, halved for each game until the residual falls."""
    xp = array_namespace(part.theta)
    n = part.theta.shape[-1]
    policy = xp.exp(part.theta)
    jacobian = (payoff(part.skew, policy)[..., None] - part.skew) * (policy / tau)[..., None, :]
    xp.reshape(jacobian, (-1, n * n))[:, :: n + 1] += 1.0
    direction = xp.linalg.solve(jacobian, part.residual[..., None])[..., 0]
    theta = log_softmax(part.theta - direction)
    residual = _residual(part.skew, theta, part.log_reference, tau)
    norm = _norm(residual)
    # Close to the root the full step is right, and rounding would stop a search for a smaller one.
    far = part.norm > 1e-8
    length = xp.ones_like(norm)
    for _ in range(HALVINGS):
        failing = xp.nonzero(far & ~(norm <= (1.0 - 1e-4 * length) * part.norm))[0]
        if failing.shape[0] == 0:
            break
        length[failing] *= 0.5
        shorter = log_softmax(part.theta[failing, :] - length[failing][:, None] * direction[failing, :])
        theta[failing, :] = shorter
        residual[failing, :] = _residual(part.skew[failing, ...], shorter, part.log_reference[failing, :], tau)
        norm[failing] = _norm(residual[failing, :])
    return _Part(part.skew, part.log_reference, theta, residual, norm)


def _extragradient_start(skew: Array, log_reference: Array, tau: float) -> Array:
    xp = array_namespace(skew)
    theta = log_reference + xp.zeros_like(skew[..., 0])
    step = 1.0 / (tau + 0.5)
    for _ in range(WARM_STEPS):
        half = mirror_step(theta, log_reference, payoff(skew, xp.exp(theta)), step=step, tau=tau)
        theta = mirror_step(theta, log_reference, payoff(skew, xp.exp(half)), step=step, tau=tau)
    return theta


def _equilibrium_start(skew: Array, log_reference: Array, tau: float) -> Array:
    """Return the unregularised equilibrium, with the best response's mass where it has none."""
    xp = array_namespace(skew)
    policy = follow_path(skew + 0.5, tol=float(xp.finfo(skew.dtype).eps) ** 0.75, max_iterations=100).policy
    supported = policy > 1e-9
    inside = xp.log(xp.where(supported, policy, xp.ones_like(policy)))
    return log_softmax(xp.where(supported, inside, log_reference + xp.clip(payoff(skew, policy), max=0.0) / tau))
