"""Train online, with and without constants added to the rewards of each prompt, and off policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paper_repros.nash.p3o.estimates import variance_of_pairs
from paper_repros.nash.p3o.token_policies import (
    AGAIN,
    AS_ITS_OWN,
    EPSILON,
    ONCE,
    WEIGHTED,
    Task,
    ends_of,
)
from paper_repros.nash.p3o.token_policies import METHODS as OFF_POLICY
from paper_repros.nash.p3o.token_policies import PLAIN as TAKEN_FOR_ITS_OWN
from paper_repros.nash.p3o.training import (
    METHODS,
    PLAIN,
    SCALED,
    SCALES,
    Setting,
    Trained,
    train,
)
from prefsim.papers import (
    Criterion,
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    between,
    near,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = {
    "P3O (V2, joint)": "C0-",
    "P3O (V1, separate)": "C2--",
    "PPO, value baseline": "C1-.",
    "PPO, no baseline": "C3-",
    "online DPO": "C4:",
    SCALED: "C5-.",
}


def reproduce(run: Run) -> Reproduction:
    seeds, rollouts = (4, 100) if run.quick else (20, 300)
    setting = Setting.draw(seeds, run.seed)
    trained = {
        name: train(name, setting, seed=run.seed, rollouts=rollouts, progress=run.progress)
        for name in METHODS
    }
    moved = {
        name: np.abs([t.kl[:, 0] - t.kl[:, 1], t.reward[:, 0] - t.reward[:, 1]]).max()
        for name, t in trained.items()
    }
    # At a divergence of one nat, one number for each scale of the constants.
    earned = {name: mean_of_those_that_arrive(t.at(1.0)) for name, t in trained.items()}

    pairs = variance_of_pairs(setting, 200, run.seed)
    older = learn_from_older(run)

    curves = "largest change of a training curve by the constants"
    criteria = (
        *(
            at_most(f"{name}: {curves}", moved[name], 1e-9, stated="derived")
            for name in METHODS
            if name not in (PLAIN, SCALED)
        ),
        *(
            at_least(f"{name}: {curves}", moved[name], 0.05, stated="chosen")
            for name in (PLAIN, SCALED)
        ),
        near(
            f"{SCALED}: reward at KL = 1 nat over that of {METHODS[0]}, without constants",
            earned[SCALED][0] / earned[METHODS[0]][0],
            1,
            within=0.3,
            stated="chosen",
        ),
        near(
            f"{SCALED}: deviation of the rewards seen, constants of size 0 and {SCALES[1]:g}",
            trained[SCALED].spread,
            1,
            within=0.2,
            stated="derived",
        ),
        near(
            f"variance of P3O's gradient from a pair, over Var r − ‖∇‖², constants of size 0 and"
            f" {SCALES[1]:g}",
            pairs.sampled / pairs.exact,
            1,
            within=0.1,
            stated="derived",
        ),
        *(
            at_least(
                f"{name}: reward at KL = 1 nat less that of {PLAIN}, with constants of size"
                f" {SCALES[1]:g}",
                earned[name][1] - earned[PLAIN][1],
                0.0,
                stated="chosen",
                paper="rewards in the order DPO > P3O > PPO > SFT",
            )
            for name in METHODS[:2]
        ),
        *criteria_of_older(older),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "method": name,
            "constants": scale,
            "reward at KL = 1 nat": float(earned[name][k]),
            "seeds that reach it": int(np.isfinite(t.at(1.0)[k]).sum()),
            "final KL (nats)": float(t.kl[-1, k].mean()),
            "final reward": float(t.reward[-1, k].mean()),
        }
        for name, t in trained.items()
        for k, scale in enumerate(SCALES)
    ]
    table += [
        {"method": f"over tokens: {name}", "TV to the optimum": float(distance.mean())}
        for name, distance in older.distance.items()
    ]
    return Reproduction(draw(trained, older), table, criteria)


class FromOlder(NamedTuple):
    """What policies over tokens make of the texts of an older one, by method, ``(tasks,)`` each.

    Attributes
    ----------
    distance
        Total variation to the regularised optimum.
    moved
        How far the log-ratios of pairs are from the older policy's, nats.
    """

    distance: dict[str, np.ndarray]
    moved: dict[str, np.ndarray]


def learn_from_older(run: Run) -> FromOlder:
    """Return where every method ends over tokens."""
    tasks = [Task.draw(run.seed + k) for k in range(1 if run.quick else 6)]
    ends = [ends_of(task, steps=200) for task in run.progress(tasks, "policies over tokens")]
    both = list(zip(tasks, ends, strict=True))
    return FromOlder(
        {name: np.array([task.distance(end[name]) for task, end in both]) for name in OFF_POLICY},
        {name: np.array([task.margins_moved(end[name]) for task, end in both]) for name in ends[0]},
    )


def criteria_of_older(older: FromOlder) -> tuple[Criterion, ...]:
    """Return what is expected of policies over tokens."""
    distance = older.distance
    return (
        at_most(
            f"tokens: total variation to the optimum, {WEIGHTED}",
            distance[WEIGHTED],
            0.05,
            stated="derived",
        ),
        at_most(
            f"tokens: total variation to the optimum, {AGAIN}",
            distance[AGAIN],
            0.05,
            stated="chosen",
        ),
        at_least(
            f"tokens: total variation to the optimum, {TAKEN_FOR_ITS_OWN}",
            distance[TAKEN_FOR_ITS_OWN],
            0.15,
            stated="chosen",
        ),
        below(
            f"tokens: total variation to the optimum, {AS_ITS_OWN}, below that",
            distance[AS_ITS_OWN],
            distance[TAKEN_FOR_ITS_OWN],
            by=0.1,
            stated="chosen",
        ),
        at_least(
            f"tokens: total variation to the optimum, {ONCE}",
            distance[ONCE],
            0.2,
            stated="chosen",
        ),
        between(
            f"tokens: how far it moved the log-ratios of pairs, nats (ε = {EPSILON:g})",
            older.moved[ONCE],
            EPSILON / 2,
            4 * EPSILON,
            stated="chosen",
        ),
    )


def mean_of_those_that_arrive(table: np.ndarray) -> np.ndarray:
    """Return the means of rows over what is not NaN; NaN where nothing is."""
    arrived = np.isfinite(table).sum(axis=-1)
    return np.where(arrived, np.nansum(table, axis=-1) / np.maximum(arrived, 1), np.nan)


def draw(trained: dict[str, Trained], older: FromOlder) -> Figure:
    figure, axes = panels(
        1,
        3,
        title=(
            "Pairs make the policy gradient blind to what is added to a prompt's rewards; PPO needs"
            " a baseline for that"
        ),
        width=6.5,
        height=5.0,
    )
    axes[0, 1].sharex(axes[0, 0])
    axes[0, 1].sharey(axes[0, 0])
    draw_older(axes[0, 2], older)
    divergences = np.linspace(0.02, 1.5, 60)
    titles = ("rewards as they are", "a constant N(0, 10²) added to all rewards of a prompt")
    for k, (axis, title) in enumerate(zip(axes[0, :2], titles, strict=True)):
        for name, style in STYLES.items():
            # The mean is drawn as far as every seed reaches: one NaN makes it NaN.
            mean = [trained[name].at(kl)[k].mean() for kl in divergences]
            axis.plot(divergences, mean, style, lw=2, label=name)
        axis.axvline(1.0, color="0.8", zorder=0)
        axis.set(xlabel="KL(π‖π_ref) during training (nats)", title=title)
    seeds = trained[PLAIN].kl.shape[-1]
    axes[0, 0].set(ylabel=f"true expected reward, mean of {seeds} seeds")
    axes[0, 0].legend(frameon=False, loc="lower right")
    return figure


def draw_older(axis: Any, older: FromOlder) -> None:
    for x, (name, distance) in enumerate(older.distance.items()):
        axis.plot(np.full(distance.size, x), distance, "o", color=f"C{x}", alpha=0.7, label=name)
    axis.set(
        yscale="log",
        xticks=[],
        ylabel="total variation to the regularised optimum",
        title="policies over tokens, texts of an older policy; dots: tasks",
        ylim=(1e-3, 20),
    )
    axis.legend(frameon=False, loc="upper left")
