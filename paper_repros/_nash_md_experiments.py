"""The experiments of ``nash_md``: distances by iteration, elections, and the figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.numerics import categorical_kl
from prefsim.solvers import solve_nash
from prefsim.worlds.game import PreferenceGame

MIXTURES = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
NASH_MD, DESCENT, WEIGHTS = "Nash-MD", "mirror descent", "multiplicative weights"


def random_games(n_games: int, rng: np.random.Generator) -> np.ndarray:
    lower = np.tril(rng.random((n_games, 10, 10)), -1)
    return lower + np.triu(1 - np.swapaxes(lower, -1, -2), 1) + 0.5 * np.eye(10)


class Curve(NamedTuple):
    """Distances KL(π*‖π_t) by iteration, ``(K,)`` and ``(K, games)``."""

    iteration: np.ndarray
    distance: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Over the games, ``(K,)``."""
        return self.distance.mean(axis=1)


def play_games(
    method: str, games: np.ndarray, tau: float, horizon: int, step: float | None = None
) -> Curve:
    target = to_numpy(solve_nash(games, method="regularised", tau=tau).policy)
    penalty = 0.0 if method == "mwu" else tau
    run = solve_nash(
        games,
        method=method,
        tau=penalty,
        step=step,
        max_iterations=horizon,
        tolerance=0.0,
        record=max(1, horizon // 500),
    )
    assert run.history is not None
    return Curve(
        run.history.iteration, categorical_kl(np.log(target), np.log(to_numpy(run.history.policy)))
    )


class Convergence(NamedTuple):
    """Nash-MD with one penalty: the last distance of each horizon, the largest excess over the bound, curve and bound of the longest."""

    last: dict[int, float]
    excess: float
    curve: Curve
    bound: np.ndarray

    @property
    def slope(self) -> float:
        """Of the last log-distance against the log-horizon."""
        return float(np.polyfit(np.log(list(self.last)), np.log(list(self.last.values())), 1)[0])


def converge(games: np.ndarray, tau: float, horizons: tuple[int, ...]) -> Convergence:
    last, excess = {}, -math.inf
    for horizon in horizons:
        weight = min(math.log(horizon) / horizon, 0.5)
        curve = play_games("nash_md", games, tau, horizon, weight / tau)
        bound = (1 - weight) ** curve.iteration[:, None] * curve.distance[0] + weight / (8 * tau**2)
        excess = max(excess, float(np.max(curve.distance - bound)))
        last[horizon] = float(curve.mean[-1])
    return Convergence(last, excess, curve, bound.mean(axis=1))


class Election(NamedTuple):
    """A ballot file's game, its equilibrium, and how far Nash-MD came to the regularised one."""

    game: PreferenceGame
    equilibrium: np.ndarray
    exploitability: float
    distance: float

    @property
    def winner(self) -> int:
        """Condorcet winner, -1 if there is none."""
        return int(self.game.condorcet_winner())

    @property
    def sensible(self) -> bool:
        """Whether the equilibrium is the Condorcet winner or, where there is none, mixes responses."""
        return bool(
            (self.equilibrium > 0).sum() > 1
            if self.winner < 0
            else self.equilibrium[self.winner] > 1 - 1e-9
        )

    def row(self) -> dict[str, str | float | int]:
        """Return what the table says of the election."""
        ballots = self.game.ballots
        assert ballots is not None
        shares = [
            f"{label} {share:.3f}"
            for label, share in zip(ballots.labels, self.equilibrium, strict=True)
            if share > 0
        ]
        return {
            "ballots": ballots.title,
            "voters": ballots.n_voters,
            "Condorcet winner": "none" if self.winner < 0 else ballots.labels[self.winner],
            "equilibrium": ", ".join(shares),
            "exploitability": self.exploitability,
            "KL(π*‖Nash-MD), τ = 0.1": self.distance,
        }


def elect(path: Path) -> Election:
    game = PreferenceGame.from_preflib(path)
    exact = solve_nash(game, method="lp")
    played = solve_nash(game, method="nash_md", tau=0.1, max_iterations=2000, tolerance=0.0)
    target = to_numpy(solve_nash(game, method="regularised", tau=0.1).policy)
    return Election(
        game,
        to_numpy(exact.policy),
        float(exact.exploitability),
        float(categorical_kl(np.log(target), np.log(to_numpy(played.policy)))),
    )


def draw(
    converged: dict[float, Convergence],
    others: dict[str, Curve],
    exploited: np.ndarray,
    wins: np.ndarray,
) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    shown = converged[0.1]
    for name, curve in {
        WEIGHTS: others[WEIGHTS],
        DESCENT: others[DESCENT],
        NASH_MD: shown.curve,
    }.items():
        left.plot(curve.iteration[1:], curve.mean[1:], label=name)
    left.plot(shown.curve.iteration[1:], shown.bound[1:], "k--", lw=1, label="bound for Nash-MD")
    left.set(
        xscale="log",
        yscale="log",
        xlabel="iteration t",
        ylabel="distance KL(π*‖π$_t$)  (nats)",
        ylim=(1e-14, 30),
    )
    left.set_title("last iterates, τ = 0.1, mean of 10 games")
    for marker, (tau, c) in zip("osD", converged.items(), strict=True):
        middle.plot(
            list(c.last),
            list(c.last.values()),
            marker=marker,
            label=f"τ = {tau:g}, slope {c.slope:.2f}",
        )
    middle.set(
        xscale="log",
        yscale="log",
        xlabel="horizon T, with η = log T / (τT)",
        ylabel="distance of the last iterate KL(π*‖π$_T$)  (nats)",
    )
    middle.set_title("faster than the 1/T of the theorem")
    right.plot(
        MIXTURES,
        exploited,
        color="C0",
        alpha=0.15,
        lw=1,
        label=["exploitability, each of 20 games", *[None] * (exploited.shape[1] - 1)],
    )
    right.plot(MIXTURES, exploited.mean(axis=1), "C0o-", label="exploitability, mean")
    right.plot(MIXTURES, wins[:, 0], "C3s--", label="wins against self-play (κ = 0)")
    right.axhline(0.5, color="grey", lw=0.8)
    right.set(
        xlabel="mixture κ of the opponent (0: self, 1: reference)",
        ylabel="probability",
        ylim=(0, 0.62),
    )
    right.set_title("stationary points of Nash-MD-PG")
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(
        "Nash-MD reaches the regularised equilibrium; the more its opponent is the reference, the"
        " more it can be exploited"
    )
    return figure
