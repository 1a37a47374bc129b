"""How near the iterates of a method come to the regularised equilibrium, and how near they must."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis import log_log_slope
from prefsim.backend import to_numpy
from prefsim.numerics import categorical_kl
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from prefsim.solvers import nash_path, solve_nash
from prefsim.solvers.games.certificates import best_response

# A figure needs no more points.
RECORDS = 500


def theorem_weight(horizon: int) -> float:
    """Return the weight ητ = log T/T of the reference that the theorem asks for."""
    return math.log(horizon) / horizon


def bound(first: Any, weight: float, tau: float, iteration: Any) -> Any:
    """Return the bound (1 − ητ)^t KL(π*‖π₀) + η/(8τ) on KL(π*‖π_t), with η = weight/τ."""
    return (1 - weight) ** iteration * first + weight / (8 * tau**2)


def weight_of(horizon: int) -> float:
    """Return the weight that is used: short runs would else forget the policy altogether."""
    return min(theorem_weight(horizon), 0.5)


def slope_of_the_bias(horizons: tuple[int, ...]) -> float:
    """Return that of (log T/T)² in T, to which the bias of a constant step is proportional."""
    return float(log_log_slope(horizons, np.square([weight_of(t) for t in horizons])))


def mean_bias(games: np.ndarray, tau: float, weight: float) -> float:
    """Return the mean KL from the equilibrium of where steps of a constant weight end.

    That is the best response to the equilibrium with penalty τ/(1 − weight), from a uniform
    reference.
    """
    uniform = np.full(games.shape[:-1], 1 / games.shape[-1])
    target, stiffer = (
        solve_nash(games, method="regularised", tau=penalty).policy
        for penalty in (tau, tau / (1 - weight))
    )
    limit = best_response(games, stiffer, reference=uniform, tau=tau)
    return float(categorical_kl(np.log(to_numpy(target)), np.log(to_numpy(limit))).mean())


class Curve(NamedTuple):
    """Distances KL(π*‖π_t) in nats by iteration: ``(K,)`` and ``(K, games)``."""

    iteration: np.ndarray
    distance: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Over the games, ``(K,)``."""
        return self.distance.mean(axis=1)


def curve_of(
    method: str, games: np.ndarray, tau: float, horizon: int, step: float | None = None
) -> Curve:
    """Play games ``(B, n, n)`` and measure the distance from the equilibrium with penalty τ."""
    target = to_numpy(solve_nash(games, method="regularised", tau=tau).policy)
    path = nash_path(
        games,
        method=method,
        # Multiplicative weights know no penalty.
        tau=0.0 if method == "mwu" else tau,
        step=step,
        iterations=horizon,
        record=max(1, horizon // RECORDS),
    )
    return Curve(path.iteration, categorical_kl(np.log(target), np.log(to_numpy(path.policy))))


class Convergence(NamedTuple):
    """Nash-MD with one penalty.

    Attributes
    ----------
    last
        Mean last distance of each horizon.
    excess
        Largest of any distance over its bound.
    curve, bound
        Of the longest horizon; the bound ``(K,)`` is the mean of those of the games.
    over_bias
        The last mean distance of the longest horizon, over that of the limit of its constant step.
    """

    last: dict[int, float]
    excess: float
    curve: Curve
    bound: np.ndarray
    over_bias: float

    @property
    def slope(self) -> float:
        """Of the last log-distance against the log-horizon."""
        return float(log_log_slope(list(self.last), list(self.last.values())))


def converge(games: np.ndarray, tau: float, horizons: tuple[int, ...]) -> Convergence:
    """Run Nash-MD to each horizon with the step of the theorem."""
    last, excesses = {}, []
    for horizon in horizons:
        weight = weight_of(horizon)
        curve = curve_of("nash_md", games, tau, horizon, weight / tau)
        bounds = bound(curve.distance[0], weight, tau, curve.iteration[:, None])
        excesses.append(np.max(curve.distance - bounds))
        last[horizon] = float(curve.mean[-1])
    over_bias = last[horizons[-1]] / mean_bias(games, tau, weight_of(horizons[-1]))
    return Convergence(last, float(np.max(excesses)), curve, bounds.mean(axis=1), over_bias)


def draw_iterates(axis: Any, shown: Convergence, others: dict[str, Curve], tau: float) -> None:
    """Draw the mean distance of the last iterates of Nash-MD, its bound, and other methods."""
    styles = ((ORANGE, ":"), (GREEN, "-."), (BLUE, "-"))
    for (name, curve), (colour, style) in zip(
        (others | {"Nash-MD": shown.curve}).items(), styles, strict=True
    ):
        axis.plot(curve.iteration[1:], curve.mean[1:], style, color=colour, lw=2, label=name)
    axis.plot(shown.curve.iteration[1:], shown.bound[1:], "k--", lw=1, label="bound for Nash-MD")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="iteration t",
        ylabel="distance KL(π*‖π$_t$) (nats)",
        ylim=(1e-14, 30),
        title=f"last iterates, τ = {tau:g}, mean of 10 games",
    )
    axis.legend(fontsize=8, loc="lower left")


def draw_horizons(axis: Any, converged: dict[float, Convergence]) -> None:
    """Draw the last distance by the length of the run, for each penalty."""
    for marker, (tau, found), colour in zip(
        "osD", converged.items(), (PURPLE, BLUE, VERMILION), strict=True
    ):
        label = f"τ = {tau:g}, slope {found.slope:.2f}".replace("-", "−")
        style = {"color": colour, "marker": marker, "label": label}
        axis.plot(list(found.last), list(found.last.values()), **style)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="horizon T, with η = log T / (τT)",
        ylabel="last distance KL(π*‖π$_T$) (nats)",
        title="faster than the 1/T of the theorem",
    )
    axis.legend(fontsize=8, loc="lower left")
