"""Policy gradients on a toy bandit and over tokens, off policy; reward at each KL, offline.

A transformer needs the package transformers, and more time than a quick run has.
"""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.nash.copg.baselines import (
    GROUP,
    RIGHT,
    TOY,
    WRONG,
    Path,
    ascended,
    descended,
    drawn_toy,
    paths,
)
from paper_repros.nash.copg.frontier import Bandits, Front, fronts
from paper_repros.nash.copg.token_policies import (
    BASELINES,
    Learnt,
    Task,
    ends_of,
    learn_by_transformer,
)
from prefsim.papers import Criterion, Reproduction, Run, at_least, at_most, below, near, panels
from prefsim.papers.figures import BLUE, GREEN, OLIVE, ORANGE, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP = 0.05
LONG_STEP, EARLY = 0.5, 50  # gradient steps that are compared one by one
PATH_STYLES = {
    "CoPG": (BLUE, "-"),
    "b = E_μ R_β": (GREEN, "--"),
    "b = V^π": (PURPLE, ":"),
    "no baseline": (VERMILION, "-"),
    "b = E_μ R": (ORANGE, "-."),
}
METHODS = {
    "CoPG": "CoPG",
    "none": "PG, no baseline",
    "mean reward": "PG, b = E_μ R",
    "on policy": "PG, own texts",
}
FRONT_STYLES = {
    "CoPG": (BLUE, "o-"),
    "IPO": (SKY, "^-"),
    "PG, b = E_μ R": (ORANGE, "s-."),
    "PG, no baseline": (VERMILION, "D-"),
}
TOKEN_HUES = {"CoPG": BLUE, "none": VERMILION, "mean reward": ORANGE, "on policy": OLIVE}
LEAST_DRAWN = 1e-4
# Gradient steps, bandits, tasks over tokens and transformers.
FULL, QUICK = (200_000, 50, 5, 2), (7_000, 6, 3, 0)


def reproduce(run: Run) -> Reproduction:
    steps, worlds, n_tasks, n_transformers = QUICK if run.quick else FULL
    toy_paths = paths(TOY, step=STEP, steps=steps, progress=run.progress)
    distances = {name: float(TOY.distance(path.end)) for name, path in toy_paths.items()}
    bandits = Bandits.draw(worlds, run.seed)
    earned = fronts(bandits, progress=run.progress)
    missing = {name: float(front.shortfall.mean()) for name, front in earned.items()}
    others = [name for name in earned if name != "CoPG"]

    apart = [
        np.abs(passed - ascended(toy, step=LONG_STEP, steps=EARLY)).max()
        for toy in (TOY, drawn_toy(run.seed))
        for passed in descended(toy, step=LONG_STEP, steps=EARLY).values()
    ]
    trees = learn_over_tokens(run, n_tasks)
    transformers = learn_by_transformers(run, n_transformers)

    criteria = (
        at_most(
            f"log-probabilities in {EARLY} gradient steps on copg, and on copg_group with"
            f" K = {GROUP}, both forms, two bandits, less those along the enumerated contrast",
            apart,
            1e-12,
            stated="derived",
        ),
        *(
            at_most(
                f"{name}: total variation to π* after {steps} steps",
                distances[name],
                1e-6,
                stated="derived",
            )
            for name in RIGHT
        ),
        *(
            at_least(
                f"{name}: total variation to π* after {steps} steps",
                distances[name],
                0.2,
                stated="chosen",
            )
            for name in WRONG
        ),
        *(
            near(
                f"{name}: probabilities after {steps} steps",
                toy_paths[name].end,
                TOY.wrong_limit(name),
                within=1e-6,
                stated="derived",
            )
            for name in WRONG
        ),
        at_most(
            "CoPG: distance to the reward–KL frontier, for every β",
            np.abs(earned["CoPG"].reward - earned["CoPG"].best),
            1e-9,
            stated="derived",
        ),
        below(
            f"reward missing at a KL of 1 nat: CoPG below {', '.join(others)}",
            missing["CoPG"],
            [missing[name] for name in others],
            by=0.01,
            stated="chosen",
            paper="CoPG reaches a higher reward than IPO",
        ),
        *criteria_of_trees(trees),
        *(criteria_of_transformers(transformers) if transformers else ()),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "method": name,
            "TV to π*": distances[name],
            **{f"π({k + 1})": float(p) for k, p in enumerate(path.end)},
        }
        for name, path in toy_paths.items()
    ]
    table += [
        {"method": name, "β": float(beta), "KL (nats)": float(kl), "E R": float(reward)}
        for name, front in earned.items()
        for beta, kl, reward in zip(
            front.beta, front.kl.mean(axis=1), front.reward.mean(axis=1), strict=True
        )
    ]
    table += rows_of_tokens("a table of next tokens", trees)
    table += rows_of_tokens("a transformer", transformers)
    if not transformers:
        table.append({"method": "a transformer: left out (full runs only)"})
    figure = draw(toy_paths, earned, trees, transformers)
    caption = (
        "Lower is better in the first two panels, and further left in the third. Left: distance to"
        " the optimum by gradient step, on a bandit of three arms whose samples come from another"
        " policy; the lines that stay up have the wrong baseline. Middle: reward that is missing at"
        " the KL that was reached, a mark for each strength of the penalty; lines end at the"
        " weakest, so that the plain gradients get no further. Against the most that 1 nat (grey"
        " line) can earn, at 1 nat or where a method stops before, "
        + ", ".join(f"{name} misses {short:.2f}" for name, short in missing.items())
        + ". Right: distance to the optimum of policies over tokens after training, by method, and"
        " where theory says that the wrong baselines end (bars)."
    )
    cut = (
        f"{QUICK[0]} gradient steps rather than {FULL[0]}, {QUICK[1]} bandits rather than"
        f" {FULL[1]}, {QUICK[2]} tasks over tokens rather than {FULL[2]} and half of their steps,"
        " no transformers"
    )
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)


def learn_over_tokens(run: Run, n_tasks: int) -> list[Learnt]:
    """Return what tables of next tokens learn from texts of a poor behaviour."""
    tasks = [Task.draw((run.seed, k)) for k in range(n_tasks)]
    steps = 200 if run.quick else 400
    return [Learnt(task, ends_of(task, steps=steps)) for task in run.progress(tasks, "tasks")]


def learn_by_transformers(run: Run, n_tasks: int) -> list[Learnt]:
    """Return what transformers learn from such texts; nothing where the package is missing."""
    if importlib.util.find_spec("transformers") is None:
        return []
    # No two runs share one.
    seeds = range(n_tasks * run.seed, n_tasks * (run.seed + 1))
    return [learn_by_transformer(seed) for seed in run.progress(seeds, "transformers")]


def distances_of(learnt: list[Learnt], method: str) -> list[float]:
    """Return the distances to the optimum, by task."""
    return [each.task.distance(each.ends[method]) for each in learnt]


def criteria_of_trees(trees: list[Learnt]) -> tuple[Criterion, ...]:
    """Return what is expected of policies with a table of next tokens."""
    missed = [
        each.task.distance(each.ends[name], each.task.wrong_limit(name))
        for each in trees
        for name in BASELINES
    ]
    return (
        at_most(
            "tokens: total variation of CoPG, off policy, to π*",
            distances_of(trees, "CoPG"),
            1e-9,
            stated="derived",
        ),
        at_least(
            "tokens: total variation of the plain policy gradient, off policy, to π*",
            distances_of(trees, "none"),
            0.15,
            stated="chosen",
        ),
        at_least(
            "tokens: the same with the mean reward as baseline",
            distances_of(trees, "mean reward"),
            0.05,
            stated="chosen",
        ),
        at_most(
            "tokens: total variation of these two to where they end in theory",
            missed,
            0.02,
            stated="derived",
        ),
        at_most(
            "tokens: total variation of the plain policy gradient to π*, texts of its own",
            distances_of(trees, "on policy"),
            0.05,
            stated="derived",
        ),
    )


def criteria_of_transformers(learnt: list[Learnt]) -> tuple[Criterion, ...]:
    """Return what is expected of transformers, which learn from sampled texts in small steps."""
    copg = distances_of(learnt, "CoPG")
    return (
        at_most(
            "transformer: total variation of CoPG, off policy, to π*", copg, 0.15, stated="chosen"
        ),
        *(
            below(
                f"transformer: CoPG's distance below a policy gradient's, baseline: {name}",
                copg,
                distances_of(learnt, name),
                by=0.05,
                stated="chosen",
            )
            for name in BASELINES
        ),
    )


def rows_of_tokens(model: str, learnt: list[Learnt]) -> list[dict[str, str | float | int]]:
    """Return the mean distance to the optimum of each method over tokens."""
    methods = learnt[0].ends if learnt else {}
    return [
        {"method": f"{model}, {METHODS[name]}", "TV to π*": float(np.mean(distances))}
        for name in methods
        for distances in [distances_of(learnt, name)]
    ]


def draw(
    toy_paths: dict[str, Path],
    earned: dict[str, Front],
    trees: list[Learnt],
    transformers: list[Learnt],
) -> Figure:
    figure, axes = panels(
        1,
        3,
        title="Contrastive policy gradient learns the regularised optimum from any samples",
        width=5.2,
        height=4.6,
    )
    left, middle, right = axes[0]
    for name, (colour, style) in PATH_STYLES.items():
        path, label = toy_paths[name], name if name == "CoPG" else f"policy gradient, {name}"
        # A distance of zero has no logarithm.
        far = np.maximum(path.distance, 1e-16)
        left.loglog(path.step, far, style, color=colour, lw=2, label=typeset(label))
    left.set(
        xlabel=f"gradient steps (size {STEP:g})",
        ylabel="total variation to the optimum π*",
        title="Three arms, samples of a poor behaviour:\nonly the right baseline leads to π*",
        ylim=(1e-9, 1),
    )
    left.legend(frameon=False, loc="lower left")
    for name, (colour, style) in FRONT_STYLES.items():
        front = earned[name]
        missing = (front.best - front.reward).mean(axis=1)
        kl = front.kl.mean(axis=1)
        middle.plot(kl, missing, style, color=colour, ms=5, label=typeset(name))
    middle.axvline(1.0, color="0.8", zorder=0)
    middle.set(
        xlabel="KL(π‖π$_{ref}$) (nats)",
        ylabel="largest reward at that KL − expected reward",
        title=(
            f"20 arms, pairs from π$_{{ref}}$, mean of {earned['CoPG'].kl.shape[1]} bandits:\n"
            "only CoPG misses nothing, at any penalty"
        ),
        xlim=(0, 2.6),
    )
    middle.legend(frameon=False)
    draw_tokens(right, {"table of next tokens": trees, "transformer": transformers})
    return figure


def typeset(name: str) -> str:
    """Return the name with its indices set as such."""
    return re.sub(r"([_^])(\w)", r"$\1\2$", name)


def draw_tokens(axis: Any, models: dict[str, list[Learnt]]) -> None:
    """Draw the distance to the optimum of every task, by method and model."""
    for m, (model, learnt) in enumerate((k, v) for k, v in models.items() if v):
        axis.plot([], [], "os"[m], color="0.4", label=f"{model}, a mark a task")
        for y, name in enumerate(METHODS):
            if name in learnt[0].ends:
                # A distance of zero has no logarithm.
                distance = np.maximum(distances_of(learnt, name), LEAST_DRAWN)
                where = np.full(len(distance), y + 0.2 * m)
                axis.plot(distance, where, "os"[m], color=TOKEN_HUES[name], alpha=0.7)
                if m == 0 and name in BASELINES:
                    draw_limits(axis, y, learnt, name)
    axis.plot([], [], "k|", ms=14, label="where it ends in theory")
    axis.set(
        xscale="log",
        xlim=(LEAST_DRAWN / 2, 1),
        ylim=(len(METHODS) + 0.5, -0.5),
        xlabel=f"total variation to π* ({LEAST_DRAWN:g}: or less)",
        title="Policies over tokens, texts of a poor behaviour:\nonly CoPG does without its own",
    )
    axis.set_yticks(np.arange(len(METHODS)), [typeset(name) for name in METHODS.values()])
    axis.legend(frameon=False, loc="lower left")


def draw_limits(axis: Any, y: float, learnt: list[Learnt], name: str) -> None:
    """Mark where the plain policy gradient ends in theory in each task."""
    limits = [each.task.distance(each.task.wrong_limit(name)) for each in learnt]
    axis.plot(limits, np.full(len(limits), y), "k|", ms=14)
