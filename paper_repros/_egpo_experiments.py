"""The experiments of ``egpo``: the authors' five algorithms with exact gradients, EGPO with sampled ones, and the figure."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.solvers import solve_nash
from prefsim.solvers.games.certificates import (
    geometric_mixture,
    mirror_step,
    payoff,
    regularised_gap,
)
from prefsim.solvers.games.nash import StepSizeWarning

# A gradient step lr of a loss with uniform pairs among n responses is a mirror step η = 4 lr/(nβ).
ALGORITHMS: dict[str, tuple[str, Callable[[int, float, float], dict[str, float]]]] = {
    "EGPO": ("egpo", lambda n, beta, rate: {"step": 4 * rate / (n * beta)}),
    "online IPO 1": ("inpo", lambda n, beta, rate: {"step": 4 * rate / (n * beta)}),
    "online IPO 2": ("online_ipo", lambda n, beta, rate: {"step": 4 * rate / beta}),
    "Nash-MD": ("half", lambda n, beta, rate: {}),
    "Nash-MD-PG": ("nash_md_pg", lambda n, beta, rate: {"step": rate, "mixture": 2 * rate / n}),
}


class Setting(NamedTuple):
    """A penalty β of the authors, their number of steps and learning rate, and gaps found before at the end, median [largest]."""

    beta: float
    iterations: int
    rate: float
    found: dict[str, str]


SETTINGS = (
    Setting(
        0.1,
        1000,
        0.1,
        dict(
            zip(
                ALGORITHMS,
                ("0 [1e-16]", "0 [1e-16]", "5e-7 [7e-6]", "2e-5 [7e-5]", "2e-2 [0.10]"),
                strict=True,
            )
        ),
    ),
    Setting(
        0.01,
        5000,
        0.02,
        dict(
            zip(
                ALGORITHMS,
                ("2e-17 [6e-17]", "1e-12 [0.41]", "1e-4 [0.73]", "2e-5 [0.52]", "0.31 [0.65]"),
                strict=True,
            )
        ),
    ),
    Setting(
        0.001,
        100_000,
        2e-4,
        dict(
            zip(
                ALGORITHMS,
                ("1e-8 [8e-8]", "8e-3 [0.77]", "0.17 [0.93]", "8e-3 [0.77]", "0.31 [0.74]"),
                strict=True,
            )
        ),
    ),
)


class Curve(NamedTuple):
    """Regularised gaps by iteration, ``(K,)`` and ``(K, games)``."""

    iteration: np.ndarray
    gap: np.ndarray

    def text(self) -> str:
        """Return median and largest gap at the end."""
        return f"{np.median(self.gap[-1]):.1g} [{self.gap[-1].max():.1g}]"


def play(name: str, games: np.ndarray, reference: np.ndarray, setting: Setting) -> Curve:
    method, options = ALGORITHMS[name]
    every = max(1, setting.iterations // 200)
    if method == "half":
        return _half_mixture(games, reference, setting, every)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        run = solve_nash(
            games,
            method=method,
            reference=reference,
            tau=setting.beta,
            max_iterations=setting.iterations,
            tolerance=0.0,
            record=every,
            **options(games.shape[-1], setting.beta, setting.rate),
        )
    assert run.history is not None
    return Curve(run.history.iteration, to_numpy(run.history.regularised_gap))


def _half_mixture(games: np.ndarray, reference: np.ndarray, setting: Setting, every: int) -> Curve:
    """Nash-MD as the authors' code has it, against a mixture with half the weight that the reference has in the step."""
    log_reference, n = np.log(reference), games.shape[-1]
    log_policy, curve = log_reference, []
    step = 4 * setting.rate / (n * setting.beta)
    for t in range(setting.iterations + 1):
        if t % every == 0:
            curve.append(
                (
                    t,
                    regularised_gap(
                        games, np.exp(log_policy), reference=reference, tau=setting.beta
                    ),
                )
            )
        opponent = geometric_mixture(log_policy, log_reference, weight=step * setting.beta / 2)
        log_policy = mirror_step(
            log_policy, log_reference, payoff(games, np.exp(opponent)), step=step, tau=setting.beta
        )
    return Curve(np.array([t for t, _ in curve]), np.array([gap for _, gap in curve]))


def draw_figure(
    curves: dict[float, dict[str, Curve]], sampled: dict[int, np.ndarray], slope: float
) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.3 * (len(curves) + 1), 4.6), layout="constrained")
    *exact, right = figure.subplots(1, len(curves) + 1)
    for axes, (beta, by_name) in zip(exact, curves.items(), strict=True):
        for i, (name, curve) in enumerate(by_name.items()):
            shown = np.maximum(curve.gap, 1e-18)
            axes.plot(curve.iteration, np.median(shown, axis=1), color=f"C{i}", label=name)
            axes.plot(curve.iteration, shown.max(axis=1), ":", color=f"C{i}", lw=1)
        axes.set(
            yscale="log",
            xlabel="number of updates",
            ylabel="regularised duality gap",
            ylim=(1e-19, 3),
        )
        axes.set_title(f"exact gradients, β = {beta:g}")
    exact[0].plot([], [], "k-", label="median of 10 games")
    exact[0].plot([], [], "k:", lw=1, label="largest")
    for i, (triples, distance) in enumerate(sampled.items()):
        mean = distance.mean(axis=1)
        right.plot(
            np.arange(1, len(mean) + 1),
            mean,
            color=f"C{i}",
            label=f"m = {triples} triples a gradient",
        )
        right.fill_between(
            np.arange(1, len(mean) + 1),
            *np.quantile(distance, (0.1, 0.9), axis=1),
            color=f"C{i}",
            alpha=0.2,
        )
    right.fill_between(
        [], [], color="grey", alpha=0.3, label=f"10 to 90 % of {distance.shape[1]} seeds"
    )
    right.set(yscale="log", xlabel="number of updates", ylabel="distance KL(π*‖π) (nats)")
    right.set_title(f"EGPO sampled, β = 0.1, slope {slope:.2f}")
    for axes in (exact[0], right):
        axes.legend(fontsize=8)
    for axes in (*exact, right):
        axes.grid(alpha=0.3)
    figure.suptitle(
        "EGPO alone converges on every game, whatever the penalty; on m sampled triples, to a"
        " distance of order 1/m"
    )
    return figure
