"""Nash equilibria of preference games.

One call for every method, whole batches at once, always with a certificate.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from array_api_compat import is_torch_array

from prefsim.backend import asarray, like, to_numpy
from prefsim.checks import (
    check_choice,
    check_full_support,
    check_integer,
    check_interval,
    check_nonnegative,
    check_positive,
    check_preference,
    check_shape,
)
from prefsim.numerics import array_namespace, stop_gradient
from prefsim.solvers.games.certificates import exploitability, log_probs, regularised_gap
from prefsim.solvers.games.path_following import follow_path
from prefsim.solvers.games.regularised import solve_regularised
from prefsim.solvers.games.results import NashHistory, NashResult
from prefsim.solvers.games.updates import UPDATES, Update
from prefsim.solvers.results import ConvergenceWarning
from prefsim.worlds.game import PreferenceGame

Array = Any
Step = float | Callable[[int], float]

METHODS = ("lp", "regularised", *UPDATES)
DIRECT_ITERATIONS = 200
UPDATE_ITERATIONS = 10_000
UPDATE_TOLERANCE = 1e-8
CHECK_EVERY = 10
OPTION_RANGES = {"momentum": "left", "mixture": "both"}

__all__ = ["METHODS", "NashHistory", "NashResult", "StepSizeWarning", "solve_nash"]


class StepSizeWarning(UserWarning):
    """A step larger than the largest one with a guarantee of convergence."""


def solve_nash(
    game: PreferenceGame | Any,
    *,
    method: str,
    reference: Any = None,
    tau: float = 0.0,
    step: Step | None = None,
    max_iterations: int | None = None,
    tolerance: float | None = None,
    initial: Any = None,
    record: int = 0,
    momentum: float | None = None,
    mixture: float | None = None,
) -> NashResult:
    r"""Solve preference games, all of a batch together.

    ==================== ======== ====================================================================================================
    method               penalty  what it does
    ==================== ======== ====================================================================================================
    lp                   no       exact equilibrium, of several the one with the largest support (path-following, dense)
    regularised          yes      exact :math:`\pi^*_\tau`, to rounding error (EGPO, then damped Newton)
    mwu, sppo, dno, spo  no       multiplicative weights; the average policy converges
    apo                  no       the same with ``momentum`` (0.3 unless given); for games with a best response
    regret_matching      no       predictive regret matching⁺; the average policy converges, without a step size
    fictitious_play      no       best responses to the mean of all play; converges slowly, without a step size
    comal                τ/step   equilibria with penalty τ towards the last one, to the equilibrium without penalty
    mirror_descent, inpo yes      online mirror descent; linear for steps up to :math:`4\tau/(1+4\tau^2)`
    mmd                  yes      magnetic mirror descent; linear for steps up to :math:`4\tau`
    nash_md              yes      Nash-MD; with a constant step its limit is off by O(step)
    nash_md_pg           yes      policy gradient in the logits against the ``mixture`` with the reference (κ = 0, self-play, unless
                                  given; with κ > 0 the limit is off by O(κ))
    online_ipo           yes      gradient descent on online IPO's loss with pairs from the policy: self-play policy gradient
    egpo, extragradient  either   extragradient; linear for steps up to :math:`\min(1/(2\tau+1), 1/2)`
    optimistic           either   optimistic multiplicative weights; with a penalty as ``egpo``
    ==================== ======== ====================================================================================================

    Methods on one line make the same exact update; they are different algorithms only on samples, where each has a loss of its own in
    :mod:`prefsim.losses`.

    Parameters
    ----------
    game
        A :class:`PreferenceGame` or its matrix ``(..., n, n)``; leading axes are independent games.
    method
        One of the above.
    reference
        μ ``(n,)`` or ``(..., n)`` with full support: what the penalty is measured from, and where the iterative methods start. Uniform
        unless given. Not for ``"lp"``.
    tau
        Strength τ >= 0 of the KL penalty; for ``"comal"`` that of each of its steps, towards the last policy.
    step
        Step size η of the iterative methods, or a function of the iteration (from 0). The one with the best guarantee unless given.
    max_iterations
        Largest number of updates; 200 for the direct methods and 10,000 for the iterative ones unless given.
    tolerance
        Bound on the certificate; ``eps**0.75`` of the dtype (2e-12 in float64) for the direct methods and 1e-8 for the iterative ones
        unless given. With 0 an iterative method makes exactly ``max_iterations`` updates, and no warning is given.
    initial
        Initial policy ``(n,)`` or ``(..., n)`` of the iterative methods, with full support; the reference unless given.
    record
        Keep policies and certificates of every so many iterations (and of the first and the last) in ``history``; 0 keeps none.
    momentum
        α in [0, 1) of ``"apo"``.
    mixture
        κ in [0, 1] of ``"nash_md_pg"``, the weight of the reference in the opponent.

    Returns
    -------
    NashResult

    Raises
    ------
    ValueError
        If the game or a policy is none, the method does not know an option, or ``step * tau > 1``.

    Warns
    -----
    ConvergenceWarning
        If a certificate misses ``tolerance``.
    StepSizeWarning
        If ``step`` exceeds the largest one that is known to converge.

    References
    ----------
    Munos et al. 2023 (Nash-MD), arXiv:2312.00886; those of :mod:`prefsim.solvers.games.updates`.

    Examples
    --------
    >>> P = [[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]]
    >>> result = solve_nash(P, method="lp")
    >>> result.policy.round(6), bool(result.exploitability < 1e-9)
    (array([0.444444, 0.222222, 0.333333]), True)
    >>> solve_nash(P, method="regularised", reference=[0.5, 0.3, 0.2], tau=0.1).policy.round(10)
    array([0.53018642, 0.19236821, 0.27744536])
    """
    check_choice(METHODS, method=method)
    check_nonnegative(tau=tau)
    preference = _matrix(game)
    direct = method not in UPDATES
    update = UPDATES.get(method)
    _check_options(method, tau, reference, step, initial, record)
    options = _options(method, {"momentum": momentum, "mixture": mixture})
    exact = float(array_namespace(preference).finfo(preference.dtype).eps) ** 0.75
    goal = tolerance if tolerance is not None else exact if direct else UPDATE_TOLERANCE
    check_nonnegative(tolerance=goal)
    if max_iterations is None:
        max_iterations = DIRECT_ITERATIONS if direct else UPDATE_ITERATIONS
    check_integer(low=0, max_iterations=max_iterations)
    log_reference = _log_policy(reference, preference, "reference")
    if update is None:
        result = _solve_directly(preference, log_reference, tau, goal, max_iterations, exact)
    else:
        start = log_reference if initial is None else _log_policy(initial, preference, "initial")
        steps = _steps(step, update, method, preference.shape[-1], tau, max_iterations)
        result = _iterate(
            update, preference, log_reference, start, tau, steps, options, goal, record
        )
    _warn_unless_converged(result, method, goal if tolerance != 0 else None)
    return result


def _matrix(game: PreferenceGame | Any) -> Array:
    """Return the preference matrix as a constant floating array of the caller's library."""
    if isinstance(game, PreferenceGame):
        return stop_gradient(game.preference)
    matrix = game if is_torch_array(game) and game.is_floating_point() else asarray(game)
    table = to_numpy(matrix)
    check_preference(
        table, tolerance=max(1e-9, 4 * float(array_namespace(matrix).finfo(matrix.dtype).eps))
    )
    return stop_gradient(matrix)


def _check_options(
    method: str, tau: float, reference: Any, step: Any, initial: Any, record: int
) -> None:
    update = UPDATES.get(method)
    penalty = update.penalty if update else {"lp": "none", "regularised": "needed"}[method]
    if penalty in ("needed", "proximal") and tau == 0:
        raise ValueError(
            f"method {method!r} is for games with a penalty: tau must be > 0, got {tau!r}"
        )
    if penalty == "none" and tau > 0:
        raise ValueError(
            f"method {method!r} is for games without a penalty: tau must be 0, got {tau!r}"
        )
    check_integer(low=0, record=record)
    unknown = {"initial": initial is not None, "record": record > 0} if update is None else {}
    unknown["step"] = step is not None and (update is None or update.default_step is None)
    unknown["reference"] = method == "lp" and reference is not None
    for option, given in unknown.items():
        if given:
            raise ValueError(f"method {method!r} has no use for the option {option}")


def _options(method: str, given: dict[str, float | None]) -> dict[str, float]:
    """Return the method's own options, of which ``given`` overrides the defaults."""
    options = dict(UPDATES[method].options) if method in UPDATES else {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in options:
            raise ValueError(f"method {method!r} has no use for the option {name}")
        check_interval(low=0.0, high=1.0, closed=OPTION_RANGES[name], **{name: value})
        options[name] = value
    return options


def _log_policy(policy: Any, preference: Array, name: str) -> Array:
    """Return the log-probabilities of a policy with full support, uniform where none is given."""
    n = preference.shape[-1]
    table = (
        np.full(n, 1.0 / n) if policy is None else np.asarray(to_numpy(policy), dtype=np.float64)
    )
    check_shape(table, name, (n,))
    check_full_support(table, name)
    return log_probs(like(table, preference))


def _steps(
    step: Step | None, update: Update, method: str, n: int, tau: float, iterations: int
) -> Iterable[float | None]:
    if update.default_step is None:
        return itertools.repeat(None, iterations)
    if callable(step):
        steps = [float(step(t)) for t in range(iterations)]
        for value in (min(steps, default=1.0), max(steps, default=1.0)):
            check_positive(step=value)
    else:
        steps = [update.default_step(n, tau, iterations) if step is None else step]
        check_positive(step=steps[0])
    largest = update.largest_step(tau)
    # A step that rounding carries over the edge is meant to be at the edge.
    if max(steps, default=0.0) > largest * (1 + 1e-12):
        warnings.warn(
            f"a step of {max(steps):.4g} exceeds {largest:.4g}, the largest with which {method!r}"
            f" is known to converge at tau={tau:g}",
            StepSizeWarning,
            stacklevel=3,
        )
    return steps if callable(step) else itertools.repeat(steps[0], iterations)


def _solve_directly(
    preference: Array, log_reference: Array, tau: float, goal: float, iterations: int, exact: float
) -> NashResult:
    xp = array_namespace(preference)
    n = preference.shape[-1]
    batch = np.broadcast_shapes(tuple(preference.shape[:-2]), tuple(log_reference.shape[:-1]))
    games = xp.reshape(xp.broadcast_to(preference, (*batch, n, n)), (-1, n, n))
    if tau == 0:
        path = follow_path(games, tolerance=goal, max_iterations=iterations)
        policy, used = path.policy, path.iterations
        gap = None
    else:
        logs = xp.reshape(xp.broadcast_to(log_reference, (*batch, n)), (-1, n))
        root = solve_regularised(games, logs, tau=tau, max_iterations=iterations)
        policy, used = xp.exp(root.log_policy), root.iterations
        gap = xp.reshape(regularised_gap(games, policy, reference=xp.exp(logs), tau=tau), batch)[()]
    exploited = xp.reshape(exploitability(games, policy), batch)[()]
    converged = (exploited if gap is None else gap) <= (goal if goal > 0 else exact)
    return NashResult(
        xp.reshape(policy, (*batch, n)),
        None,
        exploited,
        gap,
        xp.reshape(used, batch)[()],
        converged,
    )


def _iterate(
    update: Update,
    preference: Array,
    log_reference: Array,
    start: Array,
    tau: float,
    steps: Iterable[float | None],
    options: dict[str, float],
    goal: float,
    record: int,
) -> NashResult:
    xp = array_namespace(preference)
    reference = xp.exp(log_reference)
    batch = np.broadcast_shapes(
        tuple(preference.shape[:-2]), tuple(log_reference.shape[:-1]), tuple(start.shape[:-1])
    )
    state = update.start(xp.broadcast_to(start, (*batch, start.shape[-1])), preference)
    total = xp.zeros_like(state[0])
    used = xp.zeros(batch, dtype=xp.int64, device=preference.device)
    active = xp.ones(batch, dtype=xp.bool, device=preference.device)
    settings = {
        **options,
        **({"tau": tau} if update.default_step is not None or update.penalty == "proximal" else {}),
    }
    penalised = tau > 0 and update.penalty != "proximal"
    records: list[tuple[Any, ...]] = []
    everyone = True

    def certificates() -> tuple[Array, ...]:
        policy = xp.exp(state[0])
        played = xp.sum(total, axis=-1, keepdims=True)
        average = xp.where(
            played > 0, total / xp.where(played > 0, played, xp.ones_like(played)), policy
        )
        gap = (
            regularised_gap(preference, policy, reference=reference, tau=tau) if penalised else None
        )
        return (
            policy,
            average,
            exploitability(preference, policy),
            exploitability(preference, average),
            gap,
        )

    def certificate(found: tuple[Array, ...]) -> Array:
        return found[4] if penalised else found[3] if update.certified == "average" else found[2]

    for done, step in enumerate(steps):
        if done % CHECK_EVERY == 0 and goal > 0:
            active = active & ~(certificate(certificates()) <= goal)
            if not bool(xp.any(active)):
                break
            everyone = bool(xp.all(active))
        if record and done % record == 0:
            records.append((done, *certificates()))
        played = update.weight(done) * xp.exp(state[0])
        new = update.apply(
            state, preference, log_reference, **settings, **({} if step is None else {"step": step})
        )
        if not everyone:
            # A game that has met the tolerance stays as it is, so that it does not matter which
            # games are solved together.
            going = active[..., None]
            played = xp.where(going, played, xp.zeros_like(played))
            new = tuple(
                xp.where(going, after, before) for after, before in zip(new, state, strict=True)
            )
        total, state = total + played, new
        used = used + xp.astype(active, xp.int64)
    found = certificates()
    if record:
        records.append((int(xp.max(used)) if used.shape != () else int(used), *found))
    policy, average, exploited, average_exploited, gap = found
    return NashResult(
        policy,
        average,
        exploited,
        gap,
        used,
        certificate(found) <= (goal if goal > 0 else UPDATE_TOLERANCE),
        _history(records) if record else None,
        average_exploited,
    )


def _history(records: list[tuple[Any, ...]]) -> NashHistory:
    xp = array_namespace(records[0][1])
    columns = list(zip(*records, strict=True))
    stacked = [None if column[0] is None else xp.stack(column) for column in columns[1:]]
    return NashHistory(np.array(columns[0]), *stacked)


def _warn_unless_converged(result: NashResult, method: str, goal: float | None) -> None:
    missed = ~np.asarray(to_numpy(result.converged))
    if goal is None or not missed.any():
        return
    if method in UPDATES and UPDATES[method].certified == "average":
        name, certificate = "exploitability of the average policy", result.average_exploitability
    elif result.regularised_gap is None:
        name, certificate = "exploitability", result.exploitability
    else:
        name, certificate = "regularised gap", result.regularised_gap
    warnings.warn(
        f"solve_nash(method={method!r}): {missed.sum()} of {missed.size} games missed the tolerance"
        f" {goal:.3g} after {int(np.max(to_numpy(result.iterations)))} iterations; the largest"
        f" {name} is {np.max(to_numpy(certificate)):.3g}",
        ConvergenceWarning,
        stacklevel=3,
    )
