r"""The equilibrium of a KL-regularised preference game to rounding error, many games at once.

With ``A = P − ½`` the equilibrium is the only root, up to a constant, of
``G(θ) = θ − log μ − A softmax(θ)/τ``. Its Jacobian is ``I − A S/τ`` with S the covariance of the
softmax. The eigenvalues of ``A S`` are those of ``S^½ A S^½``, a skew matrix, hence imaginary: the
Jacobian is nowhere singular. G grows without bound with θ, because ``A softmax(θ)`` does not. So
the damped Newton method has no false root to stop at, and it ends quadratically. The start decides
how many steps it takes: extragradient steps (EGPO) where τ is not small, else the equilibrium of
the game without penalty and, for games where that is far off (they have many equilibria), the path
of equilibria as τ falls.
"""

from __future__ import annotations

from typing import NamedTuple

from prefsim.numerics import array_namespace, log_softmax
from prefsim.solvers.games.certificates import mirror_step, payoff
from prefsim.solvers.games.exact import solve_exactly
from prefsim.typing import Array, ArrayT

WARM_STEPS = 8  # of extragradient, which bring the start into Newton's reach
# Below this penalty Newton's reach is too small for a warm start: the equilibrium is followed down
# from here, by a factor at a time that keeps the predicted point inside of it.
SMALL_TAU = 0.02
FALL_OF_TAU = 1.4
HALVINGS = 40  # a step of 2⁻⁴⁰ changes nothing that could be measured
# Residuals in nats: below the first Newton converges at full steps, above the second after all
# steps the start was too far off.
NEAR = 1e-8
ASTRAY = 1e-6

__all__ = ["RegularisedEquilibrium", "solve_regularised"]


class RegularisedEquilibrium(NamedTuple):
    """Log-policies ``(B, n)``, their residuals and Newton steps, each ``(B,)``.

    A residual is the largest of ``log π = log BR_τ(π)``.
    """

    log_policy: Array
    residual: Array
    iterations: Array


def solve_regularised(
    preference: Array, log_reference: Array, *, tau: float, max_iterations: int
) -> RegularisedEquilibrium:
    r"""Return the fixed point :math:`\pi = \mathrm{BR}_\tau(\pi)` of every game.

    Games ``(B, n, n)`` with their log-references ``(B, n)``.
    """
    xp = array_namespace(preference)
    skew = preference - 0.5
    if tau >= SMALL_TAU:
        start = _extragradient_start(skew, log_reference, tau)
        theta, iterations = _newton(skew, log_reference, start, tau, max_iterations)
        return RegularisedEquilibrium(theta, _worst(skew, log_reference, theta, tau), iterations)
    theta, iterations = _newton(
        skew, log_reference, _equilibrium_start(skew, log_reference, tau), tau, max_iterations
    )
    residual = _worst(skew, log_reference, theta, tau)
    astray = xp.nonzero(residual > ASTRAY)[0]
    if astray.shape[0] > 0:
        again, steps = _lower_tau(skew[astray, ...], log_reference[astray, :], tau, max_iterations)
        new = _worst(skew[astray, ...], log_reference[astray, :], again, tau)
        better = new < residual[astray]
        theta[astray, :] = xp.where(better[:, None], again, theta[astray, :])
        residual[astray] = xp.where(better, new, residual[astray])
        iterations[astray] += steps
    return RegularisedEquilibrium(theta, residual, iterations)


def _residual(skew: ArrayT, theta: Array, log_reference: Array, tau: float) -> ArrayT:
    xp = array_namespace(theta)
    return theta - log_softmax(log_reference + payoff(skew, xp.exp(theta)) / tau)


def _worst(skew: ArrayT, log_reference: Array, theta: Array, tau: float) -> ArrayT:
    xp = array_namespace(theta)
    return xp.max(xp.abs(_residual(skew, theta, log_reference, tau)), axis=-1)


def _norm(residual: ArrayT) -> ArrayT:
    """Return the length of the residual without its constant, which the softmax ignores."""
    xp = array_namespace(residual)
    centred = residual - xp.mean(residual, axis=-1, keepdims=True)
    return xp.sqrt(xp.sum(centred * centred, axis=-1))


def _floor(theta: ArrayT) -> ArrayT:
    """Return the rounding error of a residual, below which no step is worth its while."""
    xp = array_namespace(theta)
    return 4.0 * xp.finfo(theta.dtype).eps * (1.0 + 0.25 * xp.max(xp.abs(theta), axis=-1))


class _Games(NamedTuple):
    """The games still being solved: ``(B, n, n)``, four times ``(B, n)``, ``(B,)``."""

    skew: Array
    log_reference: Array
    theta: Array
    residual: Array
    norm: Array


def _newton(
    skew: Array, log_reference: Array, start: Array, tau: float, max_iterations: int
) -> tuple[Array, Array]:
    """Return where damped Newton steps from ``start`` end, and how many there were."""
    xp = array_namespace(start)
    theta = start + xp.zeros_like(start)
    residual = _residual(skew, theta, log_reference, tau)
    norm = _norm(residual)
    iterations = xp.zeros(theta.shape[0], dtype=xp.int64, device=theta.device)
    active = xp.nonzero(norm > _floor(theta))[0]
    games = _Games(
        skew[active, ...],
        log_reference[active, :],
        theta[active, :],
        residual[active, :],
        norm[active],
    )
    for _ in range(max_iterations):
        if active.shape[0] == 0:
            break
        new = _newton_step(games, tau)
        improved = new.norm < games.norm
        theta[active, :] = xp.where(improved[:, None], new.theta, games.theta)
        iterations[active] += 1
        going = xp.nonzero(improved & (new.norm > _floor(new.theta)))[0]
        if going.shape[0] < active.shape[0]:
            active, new = active[going], _Games(*(field[going, ...] for field in new))
        games = new
    return theta, iterations


def _jacobian(skew: ArrayT, theta: Array, tau: float) -> ArrayT:
    """Return ``I − A S/τ``."""
    xp = array_namespace(theta)
    n = theta.shape[-1]
    policy = xp.exp(theta)
    matrix = (payoff(skew, policy)[..., None] - skew) * (policy / tau)[..., None, :]
    # In a row first: of tables in column order that is a copy.
    entries = xp.reshape(matrix, (-1, n * n))
    entries[:, :: n + 1] += 1.0
    return xp.reshape(entries, matrix.shape)


def _newton_step(games: _Games, tau: float) -> _Games:
    """Take one Newton step, halved for each game until the residual falls."""
    xp = array_namespace(games.theta)
    direction = xp.linalg.solve(_jacobian(games.skew, games.theta, tau), games.residual[..., None])[
        ..., 0
    ]
    theta = log_softmax(games.theta - direction)
    residual = _residual(games.skew, theta, games.log_reference, tau)
    norm = _norm(residual)
    # Close to the root the full step is right, and rounding would stop a search for a smaller one.
    far = games.norm > NEAR
    length = xp.ones_like(norm)
    for _ in range(HALVINGS):
        failing = xp.nonzero(far & ~(norm <= (1.0 - 1e-4 * length) * games.norm))[0]
        if failing.shape[0] == 0:
            break
        length[failing] *= 0.5
        shorter = log_softmax(
            games.theta[failing, :] - length[failing][:, None] * direction[failing, :]
        )
        theta[failing, :] = shorter
        residual[failing, :] = _residual(
            games.skew[failing, ...], shorter, games.log_reference[failing, :], tau
        )
        norm[failing] = _norm(residual[failing, :])
    return _Games(games.skew, games.log_reference, theta, residual, norm)


def _extragradient_start(skew: Array, log_reference: ArrayT, tau: float) -> ArrayT:
    xp = array_namespace(skew)
    theta = log_reference
    step = 1.0 / (tau + 0.5)
    for _ in range(WARM_STEPS):
        half = mirror_step(theta, log_reference, payoff(skew, xp.exp(theta)), step=step, tau=tau)
        theta = mirror_step(theta, log_reference, payoff(skew, xp.exp(half)), step=step, tau=tau)
    return theta


def _equilibrium_start(skew: ArrayT, log_reference: Array, tau: float) -> ArrayT:
    """Return the unregularised equilibrium, with the best response's mass where it has none."""
    xp = array_namespace(skew)
    policy, _ = solve_exactly(
        skew + 0.5, tolerance=float(xp.finfo(skew.dtype).eps) ** 0.75, max_iterations=None
    )
    supported = policy > 1e-9
    inside = xp.log(xp.where(supported, policy, xp.ones_like(policy)))
    return log_softmax(
        xp.where(supported, inside, log_reference + xp.clip(payoff(skew, policy), max=0.0) / tau)
    )


def _lower_tau(
    skew: Array, log_reference: Array, tau: float, max_iterations: int
) -> tuple[Array, Array]:
    """Return the equilibrium followed from a larger τ down to ``tau``.

    With the Newton steps taken on the way.
    """
    xp = array_namespace(skew)
    current = SMALL_TAU
    theta, iterations = _newton(
        skew,
        log_reference,
        _extragradient_start(skew, log_reference, current),
        current,
        max_iterations,
    )
    while current > tau:
        following = max(tau, current / FALL_OF_TAU)
        # dθ/d(1/τ) along the path of equilibria: J dθ = Aπ d(1/τ).
        slope = xp.linalg.solve(
            _jacobian(skew, theta, current), payoff(skew, xp.exp(theta))[..., None]
        )[..., 0]
        theta, steps = _newton(
            skew,
            log_reference,
            log_softmax(theta + (1.0 / following - 1.0 / current) * slope),
            following,
            max_iterations,
        )
        iterations, current = iterations + steps, following
    return theta, iterations
