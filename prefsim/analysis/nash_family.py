"""Every method for preference games on the same games, in one figure.

It shows how exploitable a method's last and its average policy are.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import check_choice, check_positive
from prefsim.solvers.games.nash import StepSizeWarning, solve_nash
from prefsim.solvers.games.updates import UPDATES
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

__all__ = ["FAMILY", "MethodTrace", "compare_methods", "draw_comparison", "family_games"]


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


def _penalised(method: str) -> bool:
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
    check_positive(tau=tau, step=step, iterations=iterations, record=record)
    for method in methods:
        check_choice(tuple(UPDATES), methods=method)
    traces = []
    for name, game in games.items():
        for method in methods:
            update = UPDATES[method]
            options = {"tau": tau} if _penalised(method) or update.penalty == "proximal" else {}
            with warnings.catch_warnings():
                # One step for all is the point, also where it is larger than the theory of a method
                # allows.
                warnings.simplefilter("ignore", StepSizeWarning)
                run = solve_nash(
                    game,
                    method=method,
                    step=None if update.default_step is None else step,
                    max_iterations=iterations,
                    tolerance=0.0,
                    record=record,
                    **options,
                )
            history = run.history
            assert history is not None
            traces.append(
                MethodTrace(
                    name,
                    method,
                    history.iteration,
                    to_numpy(history.exploitability),
                    to_numpy(history.average_exploitability),
                )
            )
    return traces


def draw_comparison(traces: Sequence[MethodTrace], *, floor: float = 1e-10) -> Any:
    """Draw exploitability against iterations.

    A column a game, the last policy above and the average below.

    Parameters
    ----------
    traces
        From :func:`compare_methods`.
    floor
        Smallest exploitability drawn; smaller ones lie on it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    games = list(dict.fromkeys(trace.game for trace in traces))
    methods = list(dict.fromkeys(trace.method for trace in traces))
    colour = {method: colormaps["tab10"](i % 10) for i, method in enumerate(methods)}
    style = {method: "--" if _penalised(method) else "-" for method in methods}
    figure = Figure(figsize=(3.4 * len(games) + 3.2, 6.4), layout="constrained")
    axes = figure.subplots(2, len(games), sharex=True, sharey=True, squeeze=False)
    for row, part in enumerate(("last", "average")):
        for column, game in enumerate(games):
            axis = axes[row, column]
            for trace in traces:
                if trace.game == game:
                    axis.loglog(
                        trace.iteration + 1,
                        np.maximum(getattr(trace, part), floor),
                        color=colour[trace.method],
                        linestyle=style[trace.method],
                        linewidth=1.4,
                    )
            axis.grid(alpha=0.25)
            if row == 0:
                axis.set_title(game)
            else:
                axis.set_xlabel("updates + 1")
        axes[row, 0].set_ylabel(f"exploitability of the\n{part} policy (probability)")
    handles = [
        axes[0, 0].plot([], [], color=colour[m], linestyle=style[m], label=FAMILY.get(m, m))[0]
        for m in methods
    ]
    figure.legend(
        handles=handles,
        loc="outside right center",
        frameon=False,
        title="solid: without penalty\ndashed: with KL penalty τ",
    )
    figure.suptitle("One family, the same games: who converges, and in which sense")
    return figure
