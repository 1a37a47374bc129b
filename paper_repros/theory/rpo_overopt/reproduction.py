"""The gap over the number of comparisons, and the chosen responses along training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.theory.rpo_overopt.overoptimisation import (
    BETA,
    DPO,
    FIXED,
    TUNED,
    measure_gaps,
    price_of_pessimism,
    three_ways,
    trajectories,
)
from prefsim.papers import Reproduction, Run, at_most, below, falling, near, panels, rising

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = (25, 50, 100, 200, 400, 1600)
FEW, MANY = np.array(SIZES) <= 50, np.array(SIZES) >= 400


def reproduce(run: Run) -> Reproduction:
    seeds = 200 if run.quick else 2000
    gaps = measure_gaps(SIZES, seeds, run)
    mean = {rule: gap.mean(axis=-1) for rule, gap in gaps.items()}
    tail = {rule: np.quantile(gap, 0.95, axis=-1) for rule, gap in gaps.items()}
    steps, paths = trajectories(200 if run.quick else 1000)
    agreement = three_ways(run.seed, sets=8 if run.quick else 100)
    taken, coverage = price_of_pessimism()

    others = np.max([values for rule, values in mean.items() if rule != FIXED], axis=0)
    criteria = (
        at_most(
            "mean gap, RPO(0.5/√N) over DPO, N = 25 and 50",
            (mean[TUNED] / mean[DPO])[FEW],
            0.9,
            stated="chosen",
        ),
        at_most(
            "95 % quantile, the same ratio", (tail[TUNED] / tail[DPO])[FEW], 0.75, stated="chosen"
        ),
        at_most(
            "difference of mean gaps, N = 400 and 1600",
            np.abs(mean[TUNED] - mean[DPO])[MANY],
            0.03,
            stated="chosen",
        ),
        below(
            f"largest mean gap of the other rules, and that of {FIXED}, N = 400 and 1600",
            others[MANY],
            mean[FIXED][MANY],
            stated="chosen",
        ),
        at_most(
            "distance from the game's policy: of RPO's least loss, of DPO with the SFT term",
            [agreement.of_loss, agreement.of_term],
            1e-7,
            stated="derived",
        ),
        at_most(
            "distance from the game's value: of RPO's least loss + ηβ E log π_ref",
            agreement.of_values,
            1e-9,
            stated="derived",
        ),
        near(
            "coverage C of each response, found as what the worst reward takes from it, √(·/2)/η",
            taken,
            coverage,
            within=0.01,
            stated="derived",
        ),
        falling(
            "mean log π(chosen) under DPO, before and after",
            paths["DPO"][[0, -1]],
            stated="paper",
            paper="falls (fig. 1)",
        ),
        rising(
            "mean log π(chosen) under RPO, before and after",
            paths["RPO, η = 1"][[0, -1]],
            stated="paper",
            paper="does not fall (fig. 1)",
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "rule": rule,
            "N": n,
            "mean gap": round(float(mean[rule][k]), 4),
            "95 % quantile": round(float(tail[rule][k]), 4),
            "seeds": seeds,
        }
        for rule in gaps
        for k, n in enumerate(SIZES)
    ]
    drawn = {f"Mean over {seeds} data sets": mean, "95 % quantile: how bad it gets": tail}
    cut = (
        "200 data sets rather than 2,000, 200 gradient steps rather than 1,000, and the game,"
        " the loss and DPO with SFT compared on 8 data sets rather than 100"
    )
    return Reproduction(draw(drawn, steps, paths), table, criteria, caption=CAPTION, cut=cut)


CAPTION = (
    "Left and middle: by how much the learned policy's reward falls short of the best response's,"
    " mean and bad luck, by the number of comparisons; lower is better, and η weighs the SFT term."
    " Right: mean log-probability of the chosen responses along training; below the dotted line"
    " they have become less likely than they were."
)


def draw(
    gaps: dict[str, dict[str, np.ndarray]], steps: np.ndarray, paths: dict[str, np.ndarray]
) -> Figure:
    figure, axes = panels(
        1,
        3,
        title=(
            "The SFT term protects against rewards guessed from few comparisons (5 responses,"
            f" β = {BETA})"
        ),
    )
    for axis, (title, by_rule) in zip(axes[0], gaps.items(), strict=False):
        for rule, values in by_rule.items():
            width = 2 if rule in (DPO, TUNED) else 1.2
            axis.plot(SIZES, values, marker="o", ms=4, label=rule, lw=width)
        axis.set(
            xscale="log",
            xlabel="comparisons N",
            ylabel="reward gap to the best response",
            title=title,
            ylim=(0, None),
        )
        axis.set_xticks(SIZES, [str(n) for n in SIZES])
        axis.minorticks_off()
    axes[0, 0].legend(frameon=False)

    along = axes[0, 2]
    for name, values in paths.items():
        along.plot(steps, values, lw=2, label=name)
    along.axhline(paths["DPO"][0], color="0.6", lw=1, ls=":")
    along.set(
        xlabel="gradient steps",
        ylabel="mean log π(chosen), nats",
        title="DPO lowers its own winners; RPO does not",
    )
    along.legend(frameon=False)
    return figure
