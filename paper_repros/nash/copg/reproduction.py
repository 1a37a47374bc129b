"""Five policy gradients on a toy bandit, and how much reward offline methods earn at each KL."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from prefsim.papers import Reproduction, Run, at_least, at_most, below, near, panels

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
    return Reproduction(draw(toy_paths, earned, bandits.mean_frontier()), table, criteria)


def draw(toy_paths: dict[str, Path], earned: dict[str, Front], frontier: np.ndarray) -> Figure:
    figure, axes = panels(
        1,
        2,
        title="Contrastive policy gradient learns the regularised optimum from any samples",
        width=6.5,
        height=5.0,
    )
    left, right = axes[0]
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
