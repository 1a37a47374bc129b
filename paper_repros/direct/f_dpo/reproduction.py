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
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from prefsim.policies import TabularPolicy
from prefsim.solvers import optimal_policy
from prefsim.worlds import ContextualBandit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESPONSES = 50
OTHER_BANDITS = 40
TARGETS = (0.5, 1.0, 1.5)  # rewards at which the frontiers are compared
BETWEEN = tuple(KINDS)[1:-1]
LOOKS = (
    (BLUE, "-", "o"),
    (GREEN, "--", "v"),
    (PURPLE, "-.", "s"),
    (ORANGE, "--", "^"),
    (VERMILION, "-", "D"),
)
STYLES = {
    name: dict(zip(("color", "ls", "marker"), look, strict=True))
    for name, look in zip(KINDS, LOOKS, strict=True)
}
# Strengths β, data sets, penalties of the trained policies: of a full run, and of a quick one.
TRAINED = (
    ((0.3, 1.0, 3.0), 20, tuple(KINDS)),
    ((0.3, 3.0), 2, ("reverse KL", "forward KL")),
)


def reproduce(run: Run) -> Reproduction:
    bandit = draw_bandit(RESPONSES, run.seed)
    curves = {name: exact_frontier(*bandit, name) for name in KINDS}
    strengths, sets, taught = TRAINED[run.quick]
    trained = {
        name: trained_rewards(*bandit, name, strengths, sets, run.seed)
        for name in run.progress(taught, "training f-DPO")
    }
    means = np.stack([rewards.mean(axis=1) for rewards in trained.values()])
    others = run.progress(range(OTHER_BANDITS), "entropy on other bandits")
    gains = np.array([entropy_gain(RESPONSES, (run.seed, 1 + i)) for i in others])

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
    caption = (
        f"Exact optima of five penalties on one bandit of {RESPONSES} responses, over their"
        " expected reward. Above, how much farther from the reference each is than the optimum of"
        " reverse KL (left, by reverse KL) or forward KL (right, by forward KL): lower is better,"
        " and 0 is the penalty that measures its own distance. Lower left, how much more entropy"
        " each keeps than the optimum of reverse KL: which keeps most depends on the bandit. Lower"
        f" right, f-DPO trained on {PAIRS} pairs: mean and standard deviation of the reward over"
        f" {sets} data sets, less the exact reward, with a ridge of {2 * RIDGE:g} β² on the logits;"
        " nearer to 0 is better."
    )
    (every_beta, many, every_kind), (betas, few, kinds) = TRAINED
    cut = (
        f"f-DPO trained with {len(kinds)} penalties rather than {len(every_kind)}, at {len(betas)}"
        f" strengths rather than {len(every_beta)}, on {few} data sets rather than {many}"
    )
    figure = draw(curves, trained, strengths)
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)


def judge_small(seed: int) -> tuple[Criterion, ...]:
    """Return what is expected of every divergence on a drawn bandit of six responses."""
    rng = np.random.default_rng(seed)
    world = ContextualBandit.random(2, 6, seed=rng)
    reference = TabularPolicy.random(2, 6, seed=rng)
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


def exact_rewards(curve: Frontier, strengths: Sequence[float]) -> np.ndarray:
    """Return the rewards of the exact optima at these strengths of the penalty."""
    # Penalties in rising order, as interpolation asks.
    return np.interp(np.log(strengths), np.log(curve.penalty[::-1]), curve.reward[::-1])


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
    axes[0, 0].set_title("KL(π‖π_ref) is least for reverse KL")
    axes[0, 1].set_title("KL(π_ref‖π) is least for forward KL")
    axes[1, 0].set_title(f"At reward 1 forward KL keeps {kept} entropy than reverse KL here")
    draw_trained(axes[1, 1], curves, trained, strengths)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
        title="penalty",
    )
    return figure


def draw_beyond(axis: Any, curves: dict[str, Frontier], base: str, column: str, label: str) -> None:
    """Draw how far every penalty is beyond one of them, over the rewards."""
    reward = np.linspace(0.4, 1.6, 121)
    for name, curve in curves.items():
        beyond = curve.at_reward(reward, column) - curves[base].at_reward(reward, column)
        axis.plot(reward, beyond, label=name, markevery=20, ms=5, **STYLES[name])
    axis.set(xlabel="expected reward", ylabel=f"{label} minus that of {base}, nats")


def draw_trained(
    axis: Any,
    curves: dict[str, Frontier],
    trained: dict[str, np.ndarray],
    strengths: Sequence[float],
) -> None:
    """Draw the rewards of trained policies less the exact ones, at every strength."""
    farthest = 0.0
    for i, (name, rewards) in enumerate(trained.items()):
        off = rewards - exact_rewards(curves[name], strengths)[:, None]
        farthest = max(farthest, float(np.abs(off.mean(axis=1)).max()))
        axis.errorbar(
            # Side by side, not one over the other.
            np.arange(len(strengths)) + 0.12 * (i - (len(trained) - 1) / 2),
            off.mean(axis=1),
            yerr=off.std(axis=1),
            color=STYLES[name]["color"],
            marker=STYLES[name]["marker"],
            ls="none",
            capsize=3,
        )
    axis.axhline(0.0, color="k", lw=0.8)
    exact = [[exact_rewards(curves[name], [beta])[0] for name in trained] for beta in strengths]
    axis.set_xticks(
        range(len(strengths)),
        [
            f"β = {beta:g}\n(exact: {min(rewards):.2f} to {max(rewards):.2f})"
            for beta, rewards in zip(strengths, exact, strict=True)
        ],
    )
    axis.set(
        ylabel="reward minus exact reward",
        title=f"Trained on {PAIRS} pairs: on average at most {farthest:.3f} from exact",
        xlim=(-0.5, len(strengths) - 0.5),
    )
