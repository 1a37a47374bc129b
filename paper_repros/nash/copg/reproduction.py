"""Policy gradients on a toy bandit and over tokens, off policy; reward at each KL, offline.

A transformer needs the package transformers, and more time than a quick run has.
"""

from __future__ import annotations

import importlib.util
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP = 0.05
LONG_STEP, EARLY = 0.5, 50  # gradient steps that are compared one by one
PATH_STYLES = {
    "CoPG": "C0-",
    "b = E_μ R_β": "C2--",
    "b = V^π": "C4:",
    "no baseline": "C3-",
    "b = E_μ R": "C1-",
}
METHODS = {
    "CoPG": "CoPG",
    "none": "PG, no baseline",
    "mean reward": "PG, b = E_μ R",
    "on policy": "PG, own texts",
}
FRONT_STYLES = {"CoPG": "C0o", "IPO": "C5o-", "PG, b = E_μ R": "C1o-", "PG, no baseline": "C3o-"}


def reproduce(run: Run) -> Reproduction:
    steps, worlds = (7_000, 6) if run.quick else (200_000, 50)
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
    trees = learn_over_tokens(run)
    transformers = learn_by_transformers(run)

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
    figure = draw(toy_paths, earned, bandits.mean_frontier(), trees, transformers)
    return Reproduction(figure, table, criteria)


def learn_over_tokens(run: Run) -> list[Learnt]:
    """Return what tables of next tokens learn from texts of a poor behaviour."""
    tasks = [Task.draw(run.seed + k) for k in range(1 if run.quick else 5)]
    steps = 200 if run.quick else 400
    return [Learnt(task, ends_of(task, steps=steps)) for task in run.progress(tasks, "tasks")]


def learn_by_transformers(run: Run) -> list[Learnt]:
    """Return what transformers learn from such texts; nothing where that part is left out."""
    if run.quick or importlib.util.find_spec("transformers") is None:
        return []
    seeds = [run.seed + k for k in range(2)]
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
    frontier: np.ndarray,
    trees: list[Learnt],
    transformers: list[Learnt],
) -> Figure:
    figure, axes = panels(
        1,
        3,
        title="Contrastive policy gradient learns the regularised optimum from any samples",
        width=6.5,
        height=5.0,
    )
    left, right, tokens = axes[0]
    draw_tokens(tokens, {"table of next tokens": trees, "transformer": transformers})
    for name, style in PATH_STYLES.items():
        path, label = toy_paths[name], name if name == "CoPG" else f"policy gradient, {name}"
        # A distance of zero has no logarithm.
        left.loglog(path.step, np.maximum(path.distance, 1e-16), style, lw=2, label=label)
    left.set(
        xlabel=f"gradient steps (size {STEP:g})",
        ylabel="total variation distance to the optimum π*",
        title=(
            "Three arms, samples from a poor behaviour policy:\nonly the right baseline leads to π*"
        ),
        ylim=(1e-9, 1),
    )
    left.legend(frameon=False, loc="lower left")
    right.plot(*frontier, "k-", lw=0.8, label="largest reward at each KL")
    for name, style in FRONT_STYLES.items():
        front = earned[name]
        right.plot(front.kl.mean(axis=1), front.reward.mean(axis=1), style, ms=4, label=name)
    right.set(
        xlabel="KL(π‖π_ref) (nats)",
        ylabel="expected reward",
        title=(
            f"20 arms, pairs from π_ref, exact limits, mean of {earned['CoPG'].kl.shape[1]}"
            " bandits:\nno penalty takes the plain gradients further than this"
        ),
        xlim=(0, 2.6),
    )
    right.legend(frameon=False, loc="lower right")
    return figure


def draw_tokens(axis: Any, models: dict[str, list[Learnt]]) -> None:
    for m, (model, learnt) in enumerate((k, v) for k, v in models.items() if v):
        for x, name in enumerate(METHODS):
            if name in learnt[0].ends:
                # A distance of zero has no logarithm.
                distance = np.maximum(distances_of(learnt, name), 1e-4)
                where = np.full(len(distance), x + 0.15 * m)
                label = None if x else f"{model}, a dot a task"
                axis.plot(where, distance, "os"[m], color=f"C{m}", alpha=0.7, label=label)
    axis.set(
        yscale="log",
        xticks=np.arange(len(METHODS)),
        ylabel="total variation distance to π* (0.0001: at most)",
        title=(
            "policies over tokens, texts of a poor behaviour policy:\n"
            "only CoPG does without texts of its own"
        ),
    )
    axis.set_xticklabels([name.replace(", ", ",\n") for name in METHODS.values()], fontsize="small")
    axis.legend(frameon=False, loc="lower right")
