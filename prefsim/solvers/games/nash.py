"""Nash equilibria of preference games.

One call for every method, whole batches at once, always with a certificate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import check_choice, check_integer, check_nonnegative, names_shapes
from prefsim.numerics import array_namespace
from prefsim.solvers.games.certificates import gap_to_best_response, largest_gain
from prefsim.solvers.games.exact import solve_at_once, solve_exactly
from prefsim.solvers.games.game_input import game_matrix
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.solvers.games.nash_options import (
    DIRECT_METHODS,
    Step,
    StepSizeWarning,
    check_options,
    log_policy,
    method_options,
    step_sizes,
)
from prefsim.solvers.games.play import UPDATE_TOLERANCE, play
from prefsim.solvers.games.regularised import solve_regularised
from prefsim.solvers.games.results import NashHistory, NashResult
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array
from prefsim.worlds.game import PreferenceGame

METHODS = (*DIRECT_METHODS, *UPDATES)
REGULARISED_ITERATIONS = 200
UPDATE_ITERATIONS = 10_000

__all__ = ["METHODS", "NashHistory", "NashResult", "StepSizeWarning", "nash_path", "solve_nash"]


@names_shapes
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

    ==================== ======== =========================================================
    method               penalty  what it does
    ==================== ======== =========================================================
    lp                   no       exact equilibrium, of several the one with the largest
                                  support (pivoting where there is one only, else
                                  path-following)
    regularised          yes      exact :math:`\pi^*_\tau`, to rounding error (EGPO, then
                                  damped Newton)
    mwu, sppo, dno, spo  no       multiplicative weights; the average policy converges
    apo                  no       the same with ``momentum`` (0.3 unless given); for games
                                  with a best response
    regret_matching      no       predictive regret matching⁺; the average policy converges,
                                  without a step size
    fictitious_play      no       best responses to the mean of all play; converges slowly,
                                  without a step size
    comal                τ/step   equilibria with penalty τ towards the last one, to the
                                  equilibrium without penalty
    mirror_descent, inpo yes      online mirror descent; linear for steps up to
                                  :math:`4\tau/(1+4\tau^2)`
    mmd                  yes      magnetic mirror descent; linear for steps up to
                                  :math:`4\tau`
    nash_md              yes      Nash-MD; with a constant step its limit is off by O(step)
    nash_md_pg           yes      policy gradient in the logits against the ``mixture`` with
                                  the reference (κ = 0, self-play, unless given; with κ > 0
                                  the limit is off by O(κ))
    online_ipo           yes      gradient descent on online IPO's loss with pairs from the
                                  policy: self-play policy gradient
    egpo, extragradient  either   extragradient; linear for steps up to
                                  :math:`\min(1/(2\tau+1), 1/2)`
    optimistic           either   optimistic multiplicative weights; with a penalty as
                                  ``egpo``
    ==================== ======== =========================================================

    Methods on one line make the same exact update; they are different algorithms only on samples,
    where each has a loss of its own in :mod:`prefsim.losses`.

    Parameters
    ----------
    game
        A :class:`PreferenceGame` or its matrix ``(..., n, n)``; leading axes are independent games.
    method
        One of the above.
    reference
        μ ``(n,)`` or ``(..., n)`` with full support: what the penalty is measured from, and where
        the iterative methods start. Uniform unless given. Not for ``"lp"``.
    tau
        Strength τ >= 0 of the KL penalty; for ``"comal"`` that of each of its steps, towards the
        last policy.
    step
        Step size η of the iterative methods, or a function of the iteration (from 0). The one with
        the best guarantee unless given.
    max_iterations
        Largest number of updates; of ``"lp"`` that of exchanges and that of steps of the path. As
        many as have always been enough for ``"lp"``, 200 for ``"regularised"`` and 10,000 for the
        iterative methods unless given.
    tolerance
        Bound on the certificate; ``eps**0.75`` of the dtype (2e-12 in float64) for the direct
        methods and 1e-8 for the iterative ones unless given. With 0 an iterative method makes
        exactly ``max_iterations`` updates, and no warning is given.
    initial
        Initial policy ``(n,)`` or ``(..., n)`` of the iterative methods, with full support; the
        reference unless given.
    record
        Keep policies and certificates of every so many iterations (and of the first and the last)
        in ``history``; 0 keeps none. Where only they are wanted see :func:`nash_path`. K records of
        B games take ``16 * K * B * (n + 1)`` bytes in double precision, and twice that while they
        are put together: 200 of 100,000 games of three responses 1.3 GB, and 2.6 at the peak.
    momentum
        α in [0, 1) of ``"apo"``.
    mixture
        κ in [0, 1] of ``"nash_md_pg"``, the weight of the reference in the opponent.

    Returns
    -------
    NashResult

    Notes
    -----
    With numba, of the extra ``fast``, ``"lp"`` solves games in double precision of up to 400
    responses by compiled exchanges: ten responses in a few microseconds, a hundred in a fifth of a
    millisecond. They are compiled when first used, in some seconds, and kept on disk.

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
    >>> from prefsim.worlds import TEXTBOOK_REFERENCE, textbook_game
    >>> result = solve_nash(textbook_game(), method="lp")
    >>> result.policy.round(6), bool(result.exploitability < 1e-9)
    (array([0.444444, 0.222222, 0.333333]), True)
    >>> near = solve_nash(
    ...     textbook_game(), method="regularised", reference=TEXTBOOK_REFERENCE, tau=0.1
    ... )
    >>> near.policy.round(10)
    array([0.53018642, 0.19236821, 0.27744536])
    """
    if isinstance(method, str) and method == "lp" and isinstance(tau, float) and tau == 0.0:
        bare = reference is step is max_iterations is tolerance is initial is momentum is None
        # A small game is solved in microseconds, in less than it takes to look at all options.
        if bare and mixture is None and type(record) is int and record == 0:
            at_once = solve_at_once(game)
            if at_once is not None:
                return at_once
    check_choice(METHODS, method=method)
    check_nonnegative(tau=tau)
    preference = game_matrix(game)
    check_options(method, tau, reference, step, initial, record)
    options = method_options(method, {"momentum": momentum, "mixture": mixture})
    direct = method in DIRECT_METHODS
    exact = float(array_namespace(preference).finfo(preference.dtype).eps) ** 0.75
    goal = tolerance
    if goal is None:
        goal = exact if direct else UPDATE_TOLERANCE
    check_nonnegative(tolerance=goal)
    iterations = UPDATE_ITERATIONS if max_iterations is None else max_iterations
    check_integer(low=0, max_iterations=iterations)
    log_reference = log_policy(reference, preference, "reference")
    if direct:
        result = _solve_directly(preference, log_reference, tau, goal, max_iterations, exact)
    else:
        result = _iterate(
            preference,
            log_reference,
            method=method,
            tau=tau,
            step=step,
            iterations=iterations,
            goal=goal,
            initial=initial,
            record=record,
            options=options,
        )
    _warn_unless_converged(result, method, goal if tolerance != 0 else None)
    return result


@names_shapes
def nash_path(
    game: PreferenceGame | Any,
    *,
    method: str,
    iterations: int,
    record: int = 1,
    reference: Any = None,
    tau: float = 0.0,
    step: Step | None = None,
    initial: Any = None,
    momentum: float | None = None,
    mixture: float | None = None,
) -> NashHistory:
    """Make exactly so many updates of an iterative method, and return what was recorded.

    :func:`solve_nash` stops where its certificate is met; this one shows the way there and beyond.

    Parameters
    ----------
    game
        A :class:`PreferenceGame` or its matrix ``(..., n, n)``; leading axes are independent games.
    method
        One of the iterative methods of :func:`solve_nash`.
    iterations
        Number of updates, >= 0.
    record
        Keep every so many iterations, >= 1, and always the first (the initial policy) and the last.
        What they take is said at :func:`solve_nash`.
    reference, tau, step, initial, momentum, mixture
        As in :func:`solve_nash`. A step unless given is the one with the best guarantee for so many
        iterations.

    Returns
    -------
    NashHistory
        With ``record=1`` record k is the policy after k updates, ``iterations + 1`` records in all.

    Raises
    ------
    ValueError
        If the game or a policy is none, the method is a direct one or does not know an option, or
        ``step * tau > 1``.

    Warns
    -----
    StepSizeWarning
        If ``step`` exceeds the largest one that is known to converge.

    Examples
    --------
    >>> from prefsim.worlds import textbook_game
    >>> path = nash_path(textbook_game(), method="mwu", iterations=2000, step=0.1, record=1000)
    >>> path.iteration, path.policy.shape
    (array([   0, 1000, 2000]), (3, 3))
    >>> path.average_exploitability.round(4)
    array([0.0333, 0.0051, 0.0007])
    """
    check_choice(tuple(UPDATES), method=method)
    check_integer(low=0, iterations=iterations)
    check_integer(low=1, record=record)
    check_nonnegative(tau=tau)
    preference = game_matrix(game)
    check_options(method, tau, reference, step, initial, record)
    result = _iterate(
        preference,
        log_policy(reference, preference, "reference"),
        method=method,
        tau=tau,
        step=step,
        iterations=iterations,
        goal=0.0,
        initial=initial,
        record=record,
        options=method_options(method, {"momentum": momentum, "mixture": mixture}),
    )
    # A history is kept wherever anything is recorded, and at least the first record is.
    assert result.history is not None
    return result.history


def _iterate(
    preference: Array,
    log_reference: Array,
    *,
    method: str,
    tau: float,
    step: Step | None,
    iterations: int,
    goal: float,
    initial: Any,
    record: int,
    options: dict[str, float],
) -> NashResult:
    """Play a method from its start.

    The warning of a step names the caller of the public function that calls this one.
    """
    update = UPDATES[method]
    start = log_reference if initial is None else log_policy(initial, preference, "initial")
    steps = step_sizes(step, update, method, preference.shape[-1], tau, iterations)
    return play(
        update,
        preference,
        log_reference,
        start,
        tau=tau,
        steps=steps,
        options=options,
        goal=goal,
        record=record,
    )


def _solve_directly(
    preference: Array,
    log_reference: Array,
    tau: float,
    goal: float,
    max_iterations: int | None,
    exact: float,
) -> NashResult:
    xp = array_namespace(preference)
    n = preference.shape[-1]
    batch = np.broadcast_shapes(tuple(preference.shape[:-2]), tuple(log_reference.shape[:-1]))
    games = xp.reshape(xp.broadcast_to(preference, (*batch, n, n)), (-1, n, n))
    if tau == 0:
        policy, used = solve_exactly(games, tolerance=goal, max_iterations=max_iterations)
        gap = None
    else:
        logs = xp.reshape(xp.broadcast_to(log_reference, (*batch, n)), (-1, n))
        steps = REGULARISED_ITERATIONS if max_iterations is None else max_iterations
        root = solve_regularised(games, logs, tau=tau, max_iterations=steps)
        policy, used = xp.exp(root.log_policy), root.iterations
        gap = xp.reshape(gap_to_best_response(games, policy, logs, tau=tau), batch)[()]
    exploited = xp.reshape(largest_gain(games, policy), batch)[()]
    converged = (exploited if gap is None else gap) <= (goal if goal > 0 else exact)
    return NashResult(
        policy=xp.reshape(policy, (*batch, n)),
        average_policy=None,
        exploitability=exploited,
        regularised_gap=gap,
        iterations=xp.reshape(used, batch)[()],
        converged=converged,
    )


def _warn_unless_converged(result: NashResult, method: str, goal: float | None) -> None:
    missed = ~np.asarray(to_numpy(result.converged))
    if goal is None or not missed.any():
        return
    if result.certified == "average_policy":
        name, certificate = "exploitability of the average policy", result.average_exploitability
    elif result.regularised_gap is None:
        name, certificate = "exploitability", result.exploitability
    else:
        name, certificate = "regularised gap", result.regularised_gap
    warn_caller(
        f"solve_nash(method={method!r}): {missed.sum()} of {missed.size} games missed the tolerance"
        f" {goal:.3g} after {int(np.max(to_numpy(result.iterations)))} iterations; the largest"
        f" {name} is {np.max(to_numpy(certificate)):.3g}",
    )
