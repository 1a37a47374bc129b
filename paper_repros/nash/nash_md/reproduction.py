"""Last iterates in random games, the opponents of Nash-MD-PG, and elections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paper_repros.nash.nash_md.convergence import Convergence, Curve, converge, curve_of
from prefsim.analysis.elections import Election, elect
from prefsim.backend import to_numpy
from prefsim.numerics import softmax
from prefsim.papers import (
    Reproduction,
    Run,
    at_most,
    below,
    holds,
    panels,
    rising,
)
from prefsim.solvers.games.certificates import expected_preference, exploitability
from prefsim.solvers.games.stationary_point import nash_md_pg_stationary_point
from prefsim.testing.games import random_games
from prefsim.worlds import synthetic_ballots

TAUS = (0.01, 0.1, 1.0)
SHOWN_TAU = 0.1
MIXTURES = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
OTHERS = {"multiplicative weights": "mwu", "mirror descent": "mirror_descent"}


class Rivals(NamedTuple):
    """Stationary points of Nash-MD-PG against each other.

    Attributes
    ----------
    exploitability
        ``(mixtures, games)``.
    wins
        ``(mixtures, mixtures)``: how often the first is preferred to the second, over the games.
    """

    exploitability: np.ndarray
    wins: np.ndarray


def rivals_in(games: np.ndarray, references: np.ndarray) -> Rivals:
    """Return how the stationary points of all mixtures κ fare in games ``(B, n, n)``."""
    points = [
        to_numpy(nash_md_pg_stationary_point(games, references, tau=0.05, mixture=kappa))
        for kappa in MIXTURES
    ]
    wins = [[expected_preference(games, a, b).mean() for b in points] for a in points]
    return Rivals(np.stack([exploitability(games, policy) for policy in points]), np.array(wins))


class Contest(NamedTuple):
    """An election, and how far the last iterate of Nash-MD is from its regularised equilibrium."""

    election: Election
    distance: float

    @property
    def is_sensible(self) -> bool:
        """Whether the Condorcet winner wins or, where there is none, several do."""
        election = self.election
        has_winner = election.condorcet_winner >= 0
        return election.respects_majorities and (has_winner or election.is_mixed)

    def row(self) -> dict[str, str | float | int]:
        """Return what the table says of it."""
        return self.election.row() | {
            "exploitability": self.election.exploitability,
            f"KL(π*‖Nash-MD), τ = {SHOWN_TAU:g}": self.distance,
        }


def contest(path: Path) -> Contest:
    """Solve an election exactly, and by 2000 steps of Nash-MD."""
    election = elect(path)
    games = to_numpy(election.game.preference)[None]
    return Contest(election, float(curve_of("nash_md", games, SHOWN_TAU, 2000).mean[-1]))


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    games = random_games(10, seed=rng)
    horizons = (30, 100, 300, 1000) if run.quick else (30, 100, 300, 1000, 3000, 10_000)
    converged = {tau: converge(games, tau, horizons) for tau in run.progress(TAUS, "penalties")}
    others = {
        name: curve_of(method, games, SHOWN_TAU, horizons[-1]) for name, method in OTHERS.items()
    }
    rivals = rivals_in(random_games(20, seed=rng), softmax(rng.standard_normal((20, 10))))
    real = sorted((run.data / "preflib").glob("*.so[ci]")) if run.data else []
    contests = [contest(p) for p in run.progress([synthetic_ballots(), *real], "ballot files")]

    mean_exploitability = rivals.exploitability.mean(axis=1)
    criteria = (
        at_most(
            "KL(π*‖π_t) less its bound (1 − ητ)^t KL(π*‖π₀) + η/(8τ), largest for each τ",
            [c.excess for c in converged.values()],
            1e-12,
            stated="derived",
            paper="2η² a step, for which the bound here has η²/8",
        ),
        at_most(
            "slope of log KL(π*‖π_T) against log T, for each τ",
            [c.slope for c in converged.values()],
            -0.9,
            stated="chosen",
            paper="O(log T/(τ² T))",
        ),
        rising(
            "exploitability of the stationary point, as κ rises from 0 to 1",
            mean_exploitability,
            stated="chosen",
            paper="small mixtures beat the best response to the reference",
        ),
        below(
            "how often κ = 1 wins against every κ < 1, below ½",
            rivals.wins[-1, :-1],
            0.5,
            stated="chosen",
            paper="small mixtures beat the best response to the reference",
        ),
        at_most(
            "ballots: exploitability of the exact equilibria",
            [c.election.exploitability for c in contests],
            1e-9,
            stated="chosen",
        ),
        holds(
            "ballots: who wins",
            [c.is_sensible for c in contests],
            "the Condorcet winner; a mixture where there is none",
            stated="derived",
        ),
        at_most(
            "ballots: KL(π*‖π_T) of Nash-MD after 2000 steps, τ = 0.1",
            [c.distance for c in contests],
            1e-4,
            stated="chosen",
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "penalty τ": tau,
            **{f"KL(π*‖π_T), T = {horizon}": value for horizon, value in c.last.items()},
            "slope": c.slope,
        }
        for tau, c in converged.items()
    ]
    table += [
        {
            "mixture κ": kappa,
            "exploitability": float(mean_exploitability[i]),
            **{f"wins against κ = {k:g}": float(rivals.wins[i, j]) for j, k in enumerate(MIXTURES)},
        }
        for i, kappa in enumerate(MIXTURES)
    ]
    table += [c.row() for c in contests]
    return Reproduction(draw(converged, others, rivals), table, criteria)


def draw(converged: dict[float, Convergence], others: dict[str, Curve], rivals: Rivals) -> Any:
    figure, axes = panels(
        1,
        3,
        title=(
            "Nash-MD reaches the regularised equilibrium; the more its opponent is the reference,"
            " the more it can be exploited"
        ),
    )
    iterates, horizons, mixtures = axes[0]
    shown = converged[SHOWN_TAU]
    for name, curve in (others | {"Nash-MD": shown.curve}).items():
        iterates.plot(curve.iteration[1:], curve.mean[1:], label=name)
    iterates.plot(
        shown.curve.iteration[1:], shown.bound[1:], "k--", lw=1, label="bound for Nash-MD"
    )
    iterates.set(
        xscale="log",
        yscale="log",
        xlabel="iteration t",
        ylabel="distance KL(π*‖π$_t$)  (nats)",
        ylim=(1e-14, 30),
        title=f"last iterates, τ = {SHOWN_TAU:g}, mean of 10 games",
    )
    for marker, (tau, c) in zip("osD", converged.items(), strict=True):
        label = f"τ = {tau:g}, slope {c.slope:.2f}"
        horizons.plot(list(c.last), list(c.last.values()), marker=marker, label=label)
    horizons.set(
        xscale="log",
        yscale="log",
        xlabel="horizon T, with η = log T / (τT)",
        ylabel="distance of the last iterate KL(π*‖π$_T$)  (nats)",
        title="faster than the 1/T of the theorem",
    )
    exploited = rivals.exploitability
    labels = ["exploitability, each of 20 games", *[None] * (exploited.shape[1] - 1)]
    mixtures.plot(MIXTURES, exploited, color="C0", alpha=0.15, lw=1, label=labels)
    mixtures.plot(MIXTURES, exploited.mean(axis=1), "C0o-", label="exploitability, mean")
    mixtures.plot(MIXTURES, rivals.wins[:, 0], "C3s--", label="wins against self-play (κ = 0)")
    mixtures.axhline(0.5, color="grey", lw=0.8)
    mixtures.set(
        xlabel="mixture κ of the opponent (0: self, 1: reference)",
        ylabel="probability",
        ylim=(0, 0.62),
        title="stationary points of Nash-MD-PG",
    )
    for axis in axes.flat:
        axis.legend(fontsize=8)
    return figure
