"""The experiments of ``sppo``: the rate of the average policy, a small network trained on its own samples, and the figure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.loops import descent, self_play, table_judge
from prefsim.numerics import sigmoid
from prefsim.policies import NetworkPolicy
from prefsim.solvers import solve_nash
from prefsim.solvers.games.certificates import expected_preference
from prefsim.worlds.game import PreferenceGame

RESPONSES = 10
ROUNDS, SAMPLES, PROMPTS, CHOICES, FEATURES, DRAWS = 3, 5, 24, 20, 6, 4
BETA = 0.1


class Rate(NamedTuple):
    """Exploitability of the average and the last policy ``(horizons, games)``, and the theorem's bound ``(horizons,)``."""

    horizon: np.ndarray
    average: np.ndarray
    last: np.ndarray
    bound: np.ndarray

    @property
    def slope(self) -> float:
        """Of the logarithm of the mean average exploitability against log T."""
        return float(np.polyfit(np.log(self.horizon), np.log(self.average.mean(axis=1)), 1)[0])


def play(game: PreferenceGame, horizons: Iterable[int]) -> Rate:
    """Play multiplicative weights from the uniform policy with η = √(8 log n/T) for each horizon."""
    horizon, logn = np.asarray(list(horizons)), np.log(game.n_responses)
    runs = [
        solve_nash(
            game, method="sppo", step=float(np.sqrt(8 * logn / t)), max_iterations=int(t), tolerance=0.0
        )
        for t in horizon
    ]
    average, last = (
        np.stack([to_numpy(getattr(run, name)) for run in runs])
        for name in ("average_exploitability", "exploitability")
    )
    return Rate(horizon, average, last, np.sqrt(logn / (2 * horizon)))


class Path(NamedTuple):
    """What three rounds did to each of B networks, each ``(rounds, B)``: mean changes of log-likelihood in nats, wins against the start."""

    chosen: np.ndarray
    rejected: np.ndarray
    wins: np.ndarray


def prompts(seed: int, networks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features ``(X, F)`` and preferences ``(B, X, Y, Y)``: a linear reward of the features plus a bilinear cyclic part."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((PROMPTS, FEATURES))
    reward, left, right = features @ (
        rng.standard_normal((3, networks, FEATURES, CHOICES)) / np.sqrt(FEATURES)
    )
    one_way = reward[..., :, None] + left[..., :, None] * right[..., None, :]
    return features, sigmoid(one_way - np.swapaxes(one_way, -1, -2))


def train(
    name: str,
    loss: Callable[..., Any],
    preference: np.ndarray,
    features: np.ndarray,
    *,
    step: float,
    iterations: int,
    seed: int,
) -> Path:
    """Train networks from equal starts on the best against the worst of their own samples."""
    import torch

    networks = [
        NetworkPolicy.mlp(features, CHOICES, hidden=(32,), seed=seed + i)
        for i in range(len(preference))
    ]
    start = networks[0].with_parameters(torch.stack([network.parameters for network in networks]))
    rounds = self_play(
        start,
        loss,
        table_judge(preference),
        rounds=ROUNDS,
        n_samples=SAMPLES,
        draws=DRAWS,
        train=descent(step=step, iterations=iterations),
        seed=seed,
    )
    after = [[to_numpy(side) for side in r.pairs.log_probs(r.policy)] for r in rounds]
    chosen = np.stack(
        [(a - r.pairs.old_chosen).mean(axis=-1) for (a, _), r in zip(after, rounds, strict=True)]
    )
    rejected = np.stack(
        [(b - r.pairs.old_rejected).mean(axis=-1) for (_, b), r in zip(after, rounds, strict=True)]
    )
    first = to_numpy(start.probs)
    wins = np.stack(
        [
            expected_preference(preference, to_numpy(r.policy.probs), first).mean(axis=-1)
            for r in rounds
        ]
    )
    return Path(chosen, rejected, wins)


def methods() -> dict[str, tuple[Callable[..., Any], float]]:
    """Return each method's loss and gradient step.

    At the start of a round the gradients are 1/(4β), β/2 and 1/τ times the difference of two
    features (for a win rate of 3/4): the steps make up for that, so that all methods set out alike.
    DPO has a second entry with a twentieth of the step.
    """
    dpo = functools.partial(losses.dpo, beta=BETA)
    return {
        "SPPO": (functools.partial(losses.sppo, beta=BETA), 4 * BETA),
        "iterative DPO": (dpo, 2 / BETA),
        "iterative DPO, step/20": (dpo, 0.1 / BETA),
        "iterative IPO": (functools.partial(losses.ipo, tau=BETA), BETA),
    }


def draw(rate: Rate, paths: dict[str, Path], iterations: int) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(rate.horizon, rate.bound, "k--", lw=1, label="theorem: √(log n / 2T)")
    left.plot(rate.horizon, rate.last.mean(axis=1), "C1s-", label="last policy")
    left.plot(
        rate.horizon,
        rate.average.mean(axis=1),
        "C0o-",
        label=f"average policy, slope {rate.slope:.2f}",
    )
    left.fill_between(
        rate.horizon,
        rate.average.min(axis=1),
        rate.average.max(axis=1),
        color="C0",
        alpha=0.15,
        label="range of the games",
    )
    left.set(
        xscale="log",
        yscale="log",
        xlabel="horizon T, with η = √(8 log n / T)",
        ylabel="exploitability (probability)",
    )
    left.set_title(f"Exact steps, {rate.average.shape[1]} games, n = {RESPONSES}")
    rounds = np.arange(1, ROUNDS + 1)
    for axes, side in ((middle, "chosen"), (right, "rejected")):
        for (name, path), marker in zip(paths.items(), "os^D", strict=True):
            values = getattr(path, side)
            error = values.std(axis=1) / np.sqrt(values.shape[1])
            axes.errorbar(rounds, values.mean(axis=1), error, marker=marker, capsize=3, label=name)
        axes.axhline(0, color="grey", lw=0.8)
        axes.set(
            xlabel="iteration",
            ylabel="change of mean log-likelihood (nats)",
            xticks=rounds,
            title=f"{side.capitalize()} responses",
        )
    right.set_yscale("symlog", linthresh=1)
    right.yaxis.set_major_formatter("{x:g}")
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    for axes in (left, right):
        axes.legend(fontsize=8)
    networks = paths["SPPO"].chosen.shape[1]
    figure.suptitle(
        "SPPO's average policy keeps to the theorem; trained on samples it raises the chosen"
        f" response and lowers the rejected one\n(middle, right: {networks} networks, {iterations}"
        f" gradient steps an iteration, best against worst of {SAMPLES} samples, ± s.e.)",
        fontsize=11,
    )
    return figure
