"""The experiments of ``inpo``: exact play with and without the penalty, rates, play on sampled pairs, and the figure."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from paper_repros._inpo_checks import scheduled
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data.drawn import labelled_pairs
from prefsim.loops.rounds import play_rounds
from prefsim.numerics import categorical_kl
from prefsim.policies import TabularPolicy
from prefsim.solvers import solve_nash
from prefsim.solvers.games.certificates import regularised_gap
from prefsim.solvers.games.nash import StepSizeWarning
from prefsim.worlds import ContextualBandit

GOLDEN = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
REFERENCE = np.array([0.5, 0.3, 0.2])
SIZES = (500, 2000, 8000)
SEEDS = 20


class Gaps(NamedTuple):
    """Regularised gaps of the last iterates by iteration, ``(K,)`` and ``(K, games)``."""

    iteration: np.ndarray
    gap: np.ndarray

    def at(self, iteration: int) -> Any:
        """Return the gaps of one recorded iteration."""
        return self.gap[np.flatnonzero(self.iteration == iteration)[0]]


def exact_gaps(
    games: np.ndarray,
    reference: np.ndarray,
    *,
    tau: float,
    step: float,
    iterations: int,
    penalised: bool,
) -> Gaps:
    """Play with the penalty, or without it and measure with it all the same."""
    method, penalty = ("inpo", tau) if penalised else ("mwu", 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        run = solve_nash(
            games,
            method=method,
            reference=reference,
            tau=penalty,
            step=step,
            max_iterations=iterations,
            tolerance=0.0,
            record=10,
        )
    assert run.history is not None
    return Gaps(
        run.history.iteration,
        to_numpy(regularised_gap(games, run.history.policy, reference=reference, tau=tau)),
    )


class Rate(NamedTuple):
    """A quantity ``(K,)`` (the worst game's) by the number of iterations, and the bound on it."""

    iteration: np.ndarray
    worst: np.ndarray
    bound: np.ndarray

    @property
    def slope(self) -> float:
        """Of the logarithms, over the last decade of iterations."""
        late = self.iteration >= self.iteration[-1] / 10
        return float(np.polyfit(np.log(self.iteration[late]), np.log(self.worst[late]), 1)[0])

    @property
    def share(self) -> float:
        """Of the bound that is used, at most."""
        return float(np.max(self.worst / self.bound))


def last_iterate_rate(
    games: np.ndarray, reference: np.ndarray, *, tau: float, iterations: int
) -> Rate:
    """Play with the decreasing steps of the theorem."""
    target = solve_nash(games, method="regularised", reference=reference, tau=tau).policy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        run = solve_nash(
            games,
            method="inpo",
            reference=reference,
            tau=tau,
            step=scheduled(tau),
            max_iterations=iterations,
            tolerance=0.0,
            record=10,
        )
    assert run.history is not None
    distance = to_numpy(categorical_kl(np.log(target), np.log(run.history.policy))).max(axis=1)[1:]
    done = run.history.iteration[1:]
    return Rate(done, distance, 2 / (tau**2 * (done + 1)))


def average_rate(
    games: np.ndarray, reference: np.ndarray, *, tau: float, horizons: Iterable[int]
) -> Rate:
    """Play with the constant step of the regret theorem for each horizon, and measure the average policy."""
    done = np.array(list(horizons))
    farthest = float(np.log(1 / reference.min()))
    worst = []
    for horizon in done.tolist():
        step = min(np.sqrt(2 * farthest / horizon), 1 / tau)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StepSizeWarning)
            run = solve_nash(
                games,
                method="inpo",
                reference=reference,
                tau=tau,
                step=step,
                max_iterations=horizon,
                tolerance=0.0,
            )
        worst.append(
            float(np.max(regularised_gap(games, run.average_policy, reference=reference, tau=tau)))
        )
    return Rate(done, np.array(worst), 2 * np.sqrt(2 * farthest / done))


def sampled_gaps(
    preference: np.ndarray,
    reference: np.ndarray,
    *,
    tau: float,
    eta: float,
    rounds: int,
    seed: int,
    progress: Any,
) -> np.ndarray:
    """Play ``rounds`` rounds on sampled, labelled pairs, all seeds and sizes in one fit, and return the last gaps ``(sizes, seeds)``."""
    world = ContextualBandit(preference=preference[None])
    shape = (len(SIZES), SEEDS)
    start = TabularPolicy.from_probs(np.broadcast_to(reference, (*shape, 1, len(reference))))
    sizes = np.broadcast_to(np.array(SIZES)[:, None], shape)

    def draw(policy: Any, opponent: Any, rng: np.random.Generator) -> Any:
        return labelled_pairs(world, policy, sizes, seed=rng)

    loss = functools.partial(losses.inpo, step=1 / eta, tau=tau)
    played = play_rounds(
        start,
        draw,
        loss,
        rounds=rounds,
        seed=seed,
        reference=TabularPolicy.from_probs(reference[None]),
    )
    policy = start
    for _, played_round in zip(progress(range(rounds), "sampled rounds"), played, strict=True):
        policy = played_round.policy
    return to_numpy(
        regularised_gap(preference, policy.probs[..., 0, :], reference=reference, tau=tau)
    )


def slope(sizes: Iterable[float], values: np.ndarray) -> float:
    """Return the slope of log ``values`` against log ``sizes``."""
    return float(np.polyfit(np.log(list(sizes)), np.log(values), 1)[0])


def draw_figure(
    golden: dict[str, Gaps],
    random: dict[str, Gaps],
    last: Rate,
    average: Rate,
    sampled: dict[str, np.ndarray],
) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for colour, name in zip(("C0", "C3"), golden, strict=True):
        curves = random[name]
        for i, column in enumerate(curves.gap.T):
            label = f"{name}, 20 random games" if i == 0 else None
            left.plot(
                curves.iteration[1:],
                np.maximum(column[1:], 1e-18),
                color=colour,
                alpha=0.2,
                lw=0.8,
                label=label,
            )
        shown = golden[name]
        left.plot(
            shown.iteration[1:],
            np.maximum(shown.gap[1:], 1e-18),
            color=colour,
            lw=2,
            label=f"{name}, golden game",
        )
    left.set(
        xscale="log",
        yscale="log",
        xlabel="iteration t",
        ylabel="regularised gap of the last policy",
        ylim=(1e-18, 30),
    )
    left.set_title("exact play, τ = 0.1, step 0.5")
    for colour, marker, name, rate in (
        ("C0", "", "last policy, KL(π*‖π), nats", last),
        ("C1", "o", "average policy, gap", average),
    ):
        middle.plot(
            rate.iteration,
            rate.worst,
            color=colour,
            marker=marker,
            label=f"{name}, slope {rate.slope:.2f}",
        )
        middle.plot(rate.iteration, rate.bound, "--", color=colour, lw=1, label="its bound")
    middle.set(
        xscale="log", yscale="log", xlabel="number of iterations", ylabel="worst of 20 random games"
    )
    middle.set_title("two theorems: decreasing steps, and averages")
    for colour, marker, (name, gaps) in zip(("C0", "C2"), "os", sampled.items(), strict=False):
        right.plot(
            np.repeat(SIZES, SEEDS), gaps.reshape(-1), marker, color=colour, alpha=0.25, ms=4
        )
        right.plot(
            SIZES,
            gaps.mean(axis=1),
            marker + "-",
            color=colour,
            label=f"{name}, slope {slope(SIZES, gaps.mean(axis=1)):.2f}",
        )
    right.set(
        xscale="log",
        yscale="log",
        xlabel="labelled pairs per round",
        ylabel="regularised gap after the last round",
    )
    right.set_title(f"sampled play: {SEEDS} seeds and their mean")
    right.set_xticks(SIZES, [str(size) for size in SIZES])
    right.minorticks_off()
    for axes, place in ((left, "lower left"), (middle, "lower left"), (right, "upper right")):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc=place)
    figure.suptitle(
        "With its penalty, INPO's last policy reaches the equilibrium; on samples it comes as close"
        " as the labels allow"
    )
    return figure
