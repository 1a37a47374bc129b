"""Trace reward against distance and entropy for every divergence, and train f-DPO on pairs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.direct.f_dpo.frontiers import (
    KINDS,
    PAIRS,
    RIDGE,
    draw_bandit,
    entropy_gain,
    exact_frontier,
    frontier_error,
    trained_rewards,
)
from paper_repros.direct.f_dpo.optima import learnt, objective_over_entropy, shares_of_bounds
from prefsim import losses
from prefsim.analysis.frontier import Frontier
from prefsim.divergences import DIVERGENCES
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    between,
    near,
    panels,
)
from prefsim.papers.criteria import Criterion
from prefsim.policies import TabularPolicy
from prefsim.solvers import optimal_policy
from prefsim.worlds import ContextualBandit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESPONSES = 50
OTHER_BANDITS = 40
TARGETS = (0.5, 1.0, 1.5)  # rewards at which the frontiers are compared
BETWEEN = tuple(KINDS)[1:-1]
COLOURS = dict(zip(KINDS, ("C0", "C2", "C4", "C1", "C3"), strict=True))


def reproduce(run: Run) -> Reproduction:
    bandit = draw_bandit(RESPONSES, run.seed)
    curves = {name: exact_frontier(*bandit, name) for name in KINDS}
    strengths, seeds = ((0.3, 3.0), 2) if run.quick else ((0.3, 1.0, 3.0), 20)
    taught = ("reverse KL", "forward KL") if run.quick else tuple(KINDS)
    trained = {
        name: trained_rewards(*bandit, name, strengths, seeds, run.seed)
        for name in run.progress(taught, "training f-DPO")
    }
    means = np.stack([rewards.mean(axis=1) for rewards in trained.values()])
    others = run.progress(range(OTHER_BANDITS), "entropy on other bandits")
    gains = np.array([entropy_gain(RESPONSES, run.seed + 1 + i) for i in others])

    criteria = (
        *judge_small(run.seed),
        at_most(
            "penalty, reward, KL and entropy on each frontier less those of single optima",
            [frontier_error(*bandit, name, (3.0, 1.0, 0.3)) for name in KINDS],
            1e-9,
            stated="derived",
        ),
        nearest("reverse KL", "KL(π‖π_ref)", "reverse_kl", curves, farthest="forward KL"),
        nearest("forward KL", "KL(π_ref‖π)", "forward_kl", curves, farthest="reverse KL"),
        at_least(
            f"bandits of {OTHER_BANDITS} on which forward KL keeps less entropy than reverse KL at"
            " reward 1",
            np.sum(gains < 0),
            1,
            stated="derived",
            paper="forward KL is the most diverse (in its experiments)",
        ),
        below(
            f"trained on {PAIRS} pairs: reward at each β = {', '.join(map(str, strengths[1:]))}"
            " below that at the β before",
            means[:, 1:],
            means[:, :-1],
            stated="derived",
        ),
    )
    columns = {"KL(π‖π_ref)": "reverse_kl", "KL(π_ref‖π)": "forward_kl", "entropy": "entropy"}
    table: list[dict[str, str | float | int]] = [
        {
            "reward": target,
            "penalty": name,
            **{title: float(curve.at_reward(target, at)) for title, at in columns.items()},
        }
        for target in TARGETS
        for name, curve in curves.items()
    ]
    return Reproduction(draw(curves, trained, strengths), table, criteria)


def judge_small(seed: int) -> tuple[Criterion, ...]:
    """Return what is expected of every divergence on a drawn bandit of six responses."""
    world, reference = (
        ContextualBandit.random(2, 6, seed=seed),
        TabularPolicy.random(2, 6, seed=seed),
    )
    reward, bandit = np.asarray(world.reward), (world, reference)
    off, ratios = [], []
    for name in DIVERGENCES:
        options: dict[str, Any] = {"beta": 0.5, "divergence": name, "alpha": 0.5}
        loss = functools.partial(losses.f_dpo, **options)
        optimum = optimal_policy(reward, reference.probs, **options)
        off.append(np.abs(learnt(bandit, loss) - optimum).max())
        ratios.append(objective_over_entropy(bandit, loss, optimum))
    coin = np.array([0.5, 0.5])
    # Near the reference every constant is nearly reached.
    nearby = optimal_policy(np.array([1.0, 0.0]), coin, beta=5.0)
    return (
        at_most(
            "f-DPO on the population, six responses: distance from the optimum, every divergence",
            off,
            1e-6,
            stated="derived",
            paper="theorem 1",
        ),
        near(
            "f-DPO's objective at the optimum over the mean entropy of labels, every divergence",
            ratios,
            1,
            within=1e-10,
            stated="derived",
        ),
        between(
            "total variation over its bound c√D, near a fair coin, every divergence",
            list(shares_of_bounds(nearby, coin).values()),
            0.99,
            1.0,
            stated="derived",
        ),
    )


def nearest(
    first: str, distance: str, column: str, curves: dict[str, Frontier], *, farthest: str
) -> Criterion:
    """Expect one penalty to be nearest at each target, and all others before the farthest."""
    at = {name: [curve.at_reward(x, column) for x in TARGETS] for name, curve in curves.items()}
    return below(
        f"{distance} at equal reward: {first} below α and JS, these below {farthest}",
        [at[first] for _ in BETWEEN] + [at[name] for name in BETWEEN],
        [at[name] for name in BETWEEN] + [at[farthest] for _ in BETWEEN],
        stated="derived",
    )


def farthest_from_exact(curve: Frontier, rewards: np.ndarray, strengths: Sequence[float]) -> float:
    """Return the largest distance of the mean trained reward from the exact optimum's."""
    # Penalties in rising order, as interpolation asks.
    exact = np.interp(np.log(strengths), np.log(curve.penalty[::-1]), curve.reward[::-1])
    return float(np.abs(rewards.mean(axis=1) - exact).max())


def draw(
    curves: dict[str, Frontier], trained: dict[str, np.ndarray], strengths: Sequence[float]
) -> Figure:
    figure, axes = panels(
        2,
        2,
        title=(
            "At equal reward each divergence is smallest for its own optimum; none is best at"
            f" everything ({RESPONSES} responses)"
        ),
        width=6,
        height=4,
    )
    more = curves["forward KL"].at_reward(1.0, "entropy") > curves["reverse KL"].at_reward(
        1.0, "entropy"
    )
    kept = "more" if more else "less"
    draw_beyond(axes[0, 0], curves, "reverse KL", "reverse_kl", "KL(π‖π_ref)")
    draw_beyond(axes[0, 1], curves, "forward KL", "forward_kl", "KL(π_ref‖π)")
    draw_beyond(axes[1, 0], curves, "reverse KL", "entropy", "entropy")
    axes[0, 0].set_title("Nearest in KL(π‖π_ref): reverse KL")
    axes[0, 1].set_title("Nearest in KL(π_ref‖π): forward KL")
    axes[1, 0].set_title(f"Entropy: forward KL keeps {kept} than reverse KL here")
    axes[0, 0].legend(title="penalty")
    draw_trained(axes[1, 1], curves, trained, strengths)
    return figure


def draw_beyond(axis: Any, curves: dict[str, Frontier], base: str, column: str, label: str) -> None:
    """Draw how far every penalty is beyond one of them, over the rewards."""
    reward = np.linspace(0.4, 1.6, 121)
    for name, curve in curves.items():
        beyond = curve.at_reward(reward, column) - curves[base].at_reward(reward, column)
        axis.plot(reward, beyond, color=COLOURS[name], label=name)
    axis.set(xlabel="expected reward", ylabel=f"{label} beyond that of {base}  (nats)")


def draw_trained(
    axis: Any,
    curves: dict[str, Frontier],
    trained: dict[str, np.ndarray],
    strengths: Sequence[float],
) -> None:
    """Draw the rewards of trained policies beside the exact ones, over the penalties."""
    for i, (name, rewards) in enumerate(trained.items()):
        axis.plot(curves[name].penalty, curves[name].reward, color=COLOURS[name])
        axis.errorbar(
            # Side by side, not one over the other.
            np.asarray(strengths) * 1.06 ** (i - 2),
            rewards.mean(axis=1),
            yerr=rewards.std(axis=1),
            color=COLOURS[name],
            fmt="o",
            markersize=4,
            capsize=3,
        )
    farthest = max(
        farthest_from_exact(curves[name], rewards, strengths) for name, rewards in trained.items()
    )
    seeds = next(iter(trained.values())).shape[1]
    axis.set(
        xscale="log",
        xlim=(0.05, 10),
        xlabel="penalty β",
        ylabel="expected reward",
        title=f"Trained on {PAIRS} pairs (points), exact (lines)",
    )
    axis.text(
        0.03,
        0.05,
        f"points: mean ± sd of {seeds} seeds, moved aside a little,\n"
        f"ridge on the logits of {2 * RIDGE:g} β²; at most {farthest:.3f} off the lines",
        transform=axis.transAxes,
        fontsize=9,
    )
