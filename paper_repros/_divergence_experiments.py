"""The experiment of the paper on f-DPO in small: reward against distance for every divergence, exact and trained."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import expected_reward
from prefsim.analysis.frontier import Frontier, optimal_frontier
from prefsim.backend import to_numpy
from prefsim.data.replicates import replicated_comparisons
from prefsim.papers import Criterion, Reproduction, Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.worlds import ContextualBandit

PENALTIES = np.geomspace(0.02, 50.0, 800)
TARGETS = (0.5, 1.0, 1.5)
KINDS = {
    "reverse KL": ("reverse_kl", 0.5, "C0"),
    "α = 0.3": ("alpha", 0.3, "C2"),
    "Jensen–Shannon": ("jensen_shannon", 0.5, "C4"),
    "α = 0.7": ("alpha", 0.7, "C1"),
    "forward KL": ("forward_kl", 0.5, "C3"),
}
BETWEEN = tuple(KINDS)[1:4]


def frontier_study(n: int, seed: int) -> tuple[ContextualBandit, np.ndarray]:
    """Draw π_ref from a flat Dirichlet and r from a normal distribution until rewards 0.5 to 1.5 lie within reach."""
    rng = np.random.default_rng(seed)
    while True:
        reference, reward = rng.dirichlet(np.ones(n)), rng.standard_normal(n)
        if reference @ reward < 0.35 and reward.max() > 1.7:
            return ContextualBandit(reward=reward[None]), np.log(reference)[None]


def _trained(
    world: ContextualBandit,
    log_reference: np.ndarray,
    name: str,
    strengths: tuple[float, ...],
    seeds: int,
    seed: int,
) -> np.ndarray:
    """Return the expected reward ``(strengths, seeds)`` of f-DPO trained on 2000 sampled pairs with a small ridge on the logits."""
    divergence, alpha, _ = KINDS[name]
    reference = TabularPolicy.from_logits(log_reference)
    data = replicated_comparisons(world, 2000, seeds, seed=seed, policy=reference)
    rewards = []
    for beta in strengths:

        def ridge(policy: Any, beta: float = beta) -> Any:
            import torch

            return (
                0.5e-4
                * beta**2
                * ((policy.parameters - torch.as_tensor(reference.parameters)) ** 2).sum(-1)
            )

        loss = functools.partial(losses.f_dpo, beta=beta, divergence=divergence, alpha=alpha)
        policy = fit(reference, loss, data, reference=reference, penalty=ridge).policy
        rewards.append(to_numpy(expected_reward(policy.log_probs, world)))
    return np.asarray(rewards)


def frontier_experiment(run: Run) -> Reproduction:
    world, log_reference = frontier_study(50, run.seed)
    curves = {
        name: optimal_frontier(world, log_reference, PENALTIES, divergence=divergence, alpha=alpha)
        for name, (divergence, alpha, _) in KINDS.items()
    }
    strengths, seeds = ((0.3, 3.0), 2) if run.quick else ((0.3, 1.0, 3.0), 20)
    taught = ("reverse KL", "Jensen–Shannon", "forward KL") if run.quick else tuple(KINDS)
    trained = {
        name: _trained(world, log_reference, name, strengths, seeds, run.seed)
        for name in run.progress(taught, "training f-DPO")
    }
    extra = np.asarray(
        [
            _extra_entropy(*frontier_study(50, run.seed + 1 + i))
            for i in run.progress(range(40), "entropy on other bandits")
        ]
    )
    criteria = _criteria(curves, trained, strengths, seeds, extra)
    return Reproduction(_figure(curves, trained, strengths, seeds), _table(curves), criteria)


def _extra_entropy(world: ContextualBandit, log_reference: np.ndarray) -> float:
    """Return how much more entropy forward KL keeps than reverse KL at reward 1."""
    forward, reverse = (
        optimal_frontier(world, log_reference, PENALTIES[::8], divergence=name).at_reward(
            1.0, "entropy"
        )
        for name in ("forward_kl", "reverse_kl")
    )
    return float(forward - reverse)


def _table(curves: dict[str, Frontier]) -> list[dict[str, str | float | int]]:
    names = {"reverse_kl": "KL(π‖π_ref)", "forward_kl": "KL(π_ref‖π)", "entropy": "entropy"}
    return [
        {
            "reward": target,
            "penalty": name,
            **{title: float(curve.at_reward(target, column)) for column, title in names.items()},
        }
        for target in TARGETS
        for name, curve in curves.items()
    ]


def _distance_to_exact(curve: Frontier, rewards: np.ndarray, strengths: tuple[float, ...]) -> float:
    """Return the largest distance of the mean trained reward from the exact optimum's over the strengths."""
    exact = np.interp(np.log(strengths), np.log(curve.penalty[::-1]), curve.reward[::-1])
    return float(np.abs(rewards.mean(axis=1) - exact).max())


def _order(curves: dict[str, Frontier], column: str, first: str, last: str) -> tuple[str, bool]:
    """Say how far the best is ahead at each target, and whether the others lie between it and the last."""
    rows = [
        {name: float(curve.at_reward(target, column)) for name, curve in curves.items()}
        for target in TARGETS
    ]
    inside = all(row[first] < row[name] < row[last] for row in rows for name in BETWEEN)
    ahead = ", ".join(f"{min(row[name] for name in BETWEEN) - row[first]:.4f}" for row in rows)
    return f"{ahead} nats ahead; others {'between' if inside else 'not between'}", inside


def _criteria(
    curves: dict[str, Frontier],
    trained: dict[str, np.ndarray],
    strengths: tuple[float, ...],
    seeds: int,
    extra: np.ndarray,
) -> tuple[Criterion, ...]:
    lowest = "lowest at rewards 0.5, 1, 1.5; α and JS between it and"
    kept = {name: float(curve.at_reward(1.0, "entropy")) for name, curve in curves.items()}
    falls = all(bool(np.all(np.diff(rewards.mean(axis=1)) < 0)) for rewards in trained.values())
    off = {
        name: _distance_to_exact(curves[name], rewards, strengths)
        for name, rewards in trained.items()
    }
    farthest = max(off, key=lambda name: off[name])
    more = (
        f"{kept['forward KL'] - kept['reverse KL']:+.3f} nats here; on {np.sum(extra < 0)} of"
        f" {extra.size} others it keeps less"
    )
    taught = (
        f"for every divergence at β = {', '.join(map(str, strengths))} (mean of {seeds} seeds), as"
        " exactly"
    )
    measured = (
        f"{'falls' if falls else 'does not fall'}; off the exact reward by at most"
        f" {off[farthest]:.3f} ({farthest})"
    )
    rows = (
        (
            "reverse KL is nearest in KL(π‖π_ref)",
            f"{lowest} forward KL",
            *_order(curves, "reverse_kl", "reverse KL", "forward KL"),
        ),
        (
            "forward KL is nearest in KL(π_ref‖π)",
            f"{lowest} reverse KL",
            *_order(curves, "forward_kl", "forward KL", "reverse KL"),
        ),
        (
            "forward KL need not be the most diverse",
            "at reward 1 it may keep less entropy than reverse KL",
            more,
            bool(np.any(extra < 0)),
        ),
        ("trained on 2000 pairs, the reward falls with β", taught, measured, falls),
    )
    return tuple(Criterion(*row) for row in rows)


def _figure(
    curves: dict[str, Frontier],
    trained: dict[str, np.ndarray],
    strengths: tuple[float, ...],
    seeds: int,
) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, 2)
    reward = np.linspace(0.4, 1.6, 121)
    kept = (
        "more"
        if curves["forward KL"].at_reward(1.0, "entropy")
        > curves["reverse KL"].at_reward(1.0, "entropy")
        else "less"
    )
    shown = [
        (
            "reverse_kl",
            "reverse KL",
            "KL(π‖π_ref) beyond that of reverse KL  (nats)",
            "Nearest in KL(π‖π_ref): reverse KL",
        ),
        (
            "forward_kl",
            "forward KL",
            "KL(π_ref‖π) beyond that of forward KL  (nats)",
            "Nearest in KL(π_ref‖π): forward KL",
        ),
        (
            "entropy",
            "reverse KL",
            "entropy beyond that of reverse KL  (nats)",
            f"Entropy: forward KL keeps {kept} than reverse KL here",
        ),
    ]
    for axes, (column, base, label, title) in zip(panels.flat, shown, strict=False):
        for name, curve in curves.items():
            axes.plot(
                reward,
                curve.at_reward(reward, column) - curves[base].at_reward(reward, column),
                color=KINDS[name][2],
                label=name,
            )
        axes.set(xlabel="expected reward", ylabel=label, title=title)
        axes.grid(alpha=0.3)
    last = panels[1, 1]
    for i, (name, rewards) in enumerate(trained.items()):
        colour, at = KINDS[name][2], np.asarray(strengths) * 1.06 ** (i - 2)
        last.plot(curves[name].penalty, curves[name].reward, color=colour)
        last.errorbar(
            at,
            rewards.mean(axis=1),
            yerr=rewards.std(axis=1),
            color=colour,
            fmt="o",
            markersize=4,
            capsize=3,
        )
    last.set(
        xscale="log",
        xlim=(0.05, 10),
        xlabel="penalty β",
        ylabel="expected reward",
        title="Trained on 2000 pairs (points), exact (lines)",
    )
    last.text(
        0.03,
        0.05,
        f"points: mean ± sd of {seeds} seeds,\nridge on the logits of 1e-4 β²",
        transform=last.transAxes,
        fontsize=9,
    )
    last.grid(alpha=0.3)
    panels[0, 0].legend(title="penalty")
    figure.suptitle(
        "At equal reward each divergence is smallest for its own optimum; none is best at"
        " everything  (50 responses)"
    )
    return figure
