"""Every method for preference games on the same games: how exploitable its policies are.

The figure of it is :func:`prefsim.analysis.nash_figure.draw_comparison`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import check_choice, check_integer, check_kind, check_positive
from prefsim.solvers.games.nash import StepSizeWarning, nash_path
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.worlds.ballots import synthetic_ballots
from prefsim.worlds.game import PreferenceGame

# One name for each different update, with the papers that share it.
FAMILY = {
    "mwu": "multiplicative weights (SPPO, DNO, SPO)",
    "apo": "with momentum (APO)",
    "optimistic": "optimistic multiplicative weights",
    "regret_matching": "predictive regret matching⁺",
    "fictitious_play": "fictitious play",
    "comal": "proximal point (COMAL)",
    "mirror_descent": "mirror descent (INPO, online IPO)",
    "nash_md": "Nash-MD",
    "nash_md_pg": "self-play policy gradient (Nash-MD-PG, κ = 0)",
    "egpo": "extragradient (EGPO)",
}

__all__ = ["FAMILY", "MethodTrace", "compare_methods", "family_games", "is_penalised"]


class MethodTrace(NamedTuple):
    """What one method did on one game.

    Attributes
    ----------
    game, method
        Their names.
    iteration
        ``(K,)``, updates made.
    last, average
        ``(K,)``, exploitability in the game without penalty of the last and of the average policy.
    """

    game: str
    method: str
    iteration: np.ndarray
    last: np.ndarray
    average: np.ndarray


def is_penalised(method: str) -> bool:
    """Return whether the method runs with a KL penalty here.

    Extragradient could do without, but EGPO is the one with it.
    """
    return UPDATES[method].penalty == "needed" or UPDATES[method] is UPDATES["egpo"]


def family_games(ballots: Any = None, *, n: int = 10, seed: int = 0) -> dict[str, PreferenceGame]:
    """Return one game of each kind: transitive, cyclic, noisy, and an election.

    Parameters
    ----------
    ballots
        Path of a PrefLib file; the synthetic election that comes with the package unless given.
    n
        Responses of the first three, >= 3.
    seed
        Of the draws.
    """
    check_integer(low=3, n=n)
    return {
        "transitive (Bradley–Terry)": PreferenceGame.random(n, seed=seed, kind="transitive"),
        "cyclic": PreferenceGame.random(n, seed=seed, kind="cyclic"),
        "noisy (independent uniform)": PreferenceGame.random(n, seed=seed),
        "election": PreferenceGame.from_preflib(
            synthetic_ballots() if ballots is None else ballots
        ),
    }


def compare_methods(
    games: Mapping[str, PreferenceGame],
    *,
    methods: Sequence[str] = tuple(FAMILY),
    tau: float = 0.02,
    step: float = 0.5,
    iterations: int = 2000,
    record: int = 10,
) -> list[MethodTrace]:
    """Run every method on every game from the uniform policy, with one step size where it has one.

    Parameters
    ----------
    games
        Name to game.
    methods
        Iterative methods of :func:`prefsim.solvers.solve_nash`.
    tau
        KL penalty of the methods that have one, and of COMAL's steps; it bounds from below how
        exploitable they end.
    step
        η of every method with a step size.
    iterations, record
        Updates, and how often the certificates are kept.

    Returns
    -------
    list of MethodTrace, games first.

    Examples
    --------
    >>> traces = compare_methods(
    ...     {"any": PreferenceGame.random(3, seed=0)}, methods=["mwu", "egpo"], iterations=20
    ... )
    >>> [(trace.method, trace.iteration.tolist()) for trace in traces]
    [('mwu', [0, 10, 20]), ('egpo', [0, 10, 20])]
    """
    check_positive(tau=tau, step=step)
    check_integer(low=1, iterations=iterations, record=record)
    check_kind(Mapping, games=games)
    for name, game in games.items():
        check_kind(PreferenceGame, **{f"games[{name!r}]": game})
    for method in methods:
        check_choice(tuple(UPDATES), methods=method)
    traces = []
    for name, game in games.items():
        for method in methods:
            update = UPDATES[method]
            options = {"tau": tau} if is_penalised(method) or update.penalty == "proximal" else {}
            with warnings.catch_warnings():
                # One step for all is the point, also where it is larger than the theory of a method
                # allows.
                warnings.simplefilter("ignore", StepSizeWarning)
                path = nash_path(
                    game,
                    method=method,
                    step=None if update.default_step is None else step,
                    iterations=iterations,
                    record=record,
                    **options,
                )
            traces.append(
                MethodTrace(
                    name,
                    method,
                    path.iteration,
                    to_numpy(path.exploitability),
                    to_numpy(path.average_exploitability),
                )
            )
    return traces
