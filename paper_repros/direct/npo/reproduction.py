"""Unlearn the forget cluster of the random-feature world with six methods.

The clusters of forget and retain inputs are apart, or coincide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.direct.npo.random_features import (
    METHODS,
    STEPS,
    Distances,
    Forget,
    World,
    pretrain,
    speed_at_the_start,
    unlearn,
)
from prefsim.papers import Reproduction, Run, at_least, between, near, panels
from prefsim.papers.figures import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = list(METHODS)
GA, NPO = NAMES.index("GA"), NAMES.index("NPO")
LOOKS = (
    (VERMILION, "-", "o"),
    (BLUE, "-", "s"),
    (ORANGE, "--", "v"),
    (SKY, "--", "^"),
    (GREY, "--", "P"),
    (GREEN, "--", "D"),
)
STYLES = {
    name: dict(zip(("color", "ls", "marker"), look, strict=True))
    for name, look in zip(NAMES, LOOKS, strict=True)
}
WORLDS, FITTING, STRIDE = (8, 2), (20_000, 1500), (1, 5)  # of a full run, and of a quick one


def reproduce(run: Run) -> Reproduction:
    worlds, fitting, stride = (of[run.quick] for of in (WORLDS, FITTING, STRIDE))
    seeds = [run.seed + 1000 * (s + 1) for s in range(worlds)]
    found, speeds = {}, []
    for alpha in run.progress((1.0, 0.0), "worlds"):
        world = World.draw(alpha, seeds)
        reference, retrained = pretrain(world, fitting)
        found[alpha] = unlearn(world, reference, retrained, stride=stride)
        speeds.append(speed_at_the_start(Forget.of(world, reference)))

    ratios = {alpha: final_ratios(distances) for alpha, distances in found.items()}
    alike = retain_ratios(found[1.0])
    criteria = (
        near(
            "slope of NPO at the start over that of GA, each example",
            speeds,
            1,
            within=1e-12,
            stated="paper",
        ),
        *(
            at_least(
                f"α = {alpha:g}: final retain distance, GA over NPO, median of the worlds",
                np.median(values),
                5,
                stated="chosen",
            )
            for alpha, values in ratios.items()
        ),
        # Read off finely, neither curve is below the other throughout: one path, walked at two
        # speeds (as on a single example), up to the weights.
        between(
            "α = 1: retain distance of NPO over GA's at equal forget distance"
            " (a quarter, half and three quarters of the way that both come)",
            alike,
            2 / 3,
            1.5,
            stated="chosen",
        ),
    )
    caption = (
        f"KL of the model retrained without the forget examples to each method's, mean of {worlds}"
        " worlds; less is better everywhere. Left on forget inputs, in the middle on retain"
        " inputs, both over the steps; right one against the other, from the cross to the mark"
        f" after {STEPS} steps, so that lower left is better. Above, the two kinds of inputs lie"
        " apart; below they have one law, where all methods move along one path and differ in how"
        " far they go. Thick: the two methods that see no retain examples; dashed: with these"
        " (RT). Look at where gradient ascent (GA) and NPO end on retain inputs: the ratio of the"
        f" two, in the median world, is {np.median(ratios[1.0]):.3g} above and"
        f" {np.median(ratios[0.0]):.3g} below."
    )
    cut = (
        f"{WORLDS[1]} worlds rather than {WORLDS[0]}, {FITTING[1]:,} steps to fit the models rather"
        f" than {FITTING[0]:,}, unlearning in steps {STRIDE[1]} times as long, of which there are"
        f" {STEPS // STRIDE[1]}"
    )
    figure, table = draw(found, worlds), tabulate(seeds, found)
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)


def tabulate(seeds: list[int], found: dict[float, Distances]) -> list[dict[str, str | float | int]]:
    """Return a row for each method, means over the worlds, and one for each world."""
    table: list[dict[str, str | float | int]] = [
        {
            "α": alpha,
            "method": name,
            "final forget": round(float(distances.forget[-1, :, k].mean()), 4),
            "final retain": round(float(distances.retain[-1, :, k].mean()), 4),
        }
        for alpha, distances in found.items()
        for k, name in enumerate(NAMES)
    ]
    for alpha, distances in found.items():
        nearest = distances.forget[:, :, GA].min(axis=0) / distances.forget[:, :, NPO].min(axis=0)
        rows = zip(seeds, final_ratios(distances), retain_ratios(distances), nearest, strict=True)
        for seed, final, (quarter, half, most), near_by in rows:
            table.append(
                {
                    "α": alpha,
                    "method": f"world {seed}: retain distances",
                    "GA/NPO at the end": round(float(final), 3),
                    "nearest forget distance, GA/NPO": round(float(near_by), 3),
                    "NPO/GA at a quarter of the common way": round(float(quarter), 3),
                    "at half": round(float(half), 3),
                    "at three quarters": round(float(most), 3),
                }
            )
    return table


def final_ratios(distances: Distances) -> np.ndarray:
    """Return how much farther gradient ascent ends from the retrained model on retain inputs."""
    return distances.retain[-1, :, GA] / distances.retain[-1, :, NPO]


def retain_ratios(distances: Distances) -> np.ndarray:
    """Return NPO's retain distance over GA's at equal forget distances, ``(worlds, 3)``.

    At a quarter, half and three quarters of the way that both come, in the logarithm of the
    distance: one of them may turn away before it has come far.
    """
    ratios = []
    for forget, retain in zip(
        distances.forget.swapaxes(0, 1), distances.retain.swapaxes(0, 1), strict=True
    ):
        nearest = max(forget[:, NPO].min(), forget[:, GA].min())
        levels = np.geomspace(forget[0, NPO], nearest, 5)[1:-1]
        npo, ga = (
            [retain_at(forget[:, k], retain[:, k], level) for level in levels] for k in (NPO, GA)
        )
        ratios.append(np.divide(npo, ga))
    return np.stack(ratios)


def retain_at(forget_path: np.ndarray, retain_path: np.ndarray, level: float) -> float:
    """Return the retain distance where the forget distance first falls to ``level``.

    Interpolated; NaN if it never does.
    """
    end = int(forget_path.argmin()) + 1
    # A path that never comes nearer has all its levels at the start, to rounding.
    if not (1 - 1e-12) * forget_path[end - 1] <= level <= (1 + 1e-12) * forget_path[0]:
        return float("nan")
    return float(np.interp(-level, -np.minimum.accumulate(forget_path[:end]), retain_path[:end]))


def draw(found: dict[float, Distances], worlds: int) -> Figure:
    figure, axes = panels(
        2,
        3,
        title=(
            "Gradient ascent ends far from the retrained model on what should be retained, NPO"
            f" much nearer (mean of {worlds} worlds)"
        ),
        width=4.7,
        height=3.75,
    )
    for (forget_axis, retain_axis, both_axis), (alpha, distances) in zip(
        axes, found.items(), strict=True
    ):
        forget, retain = distances.forget.mean(axis=1), distances.retain.mean(axis=1)
        for k, (name, look) in enumerate(STYLES.items()):
            style = look | {"label": name, "lw": 2.4 if k in (GA, NPO) else 1.5}
            # So many of the records have a marker, each method's elsewhere.
            sparse = style | {"markevery": (2 * k, 16), "ms": 5}
            forget_axis.plot(distances.steps, forget[:, k], **sparse)
            retain_axis.plot(distances.steps, retain[:, k], **sparse)
            both_axis.plot(forget[:, k], retain[:, k], **style | {"markevery": [-1], "ms": 8})
        both_axis.plot(forget[0, GA], retain[0, GA], "kx", ms=8, mew=2, zorder=5)
        inputs = "inputs apart" if alpha else "inputs alike"
        forget_axis.set(
            xlabel="gradient steps",
            ylabel="forget distance, nats",
            yscale="log",
            title=f"α = {alpha:g} ({inputs}): on forget inputs",
        )
        retain_axis.set(
            xlabel="gradient steps",
            ylabel="retain distance, nats",
            yscale="log",
            title=f"α = {alpha:g}: on retain inputs",
        )
        both_axis.set(
            xlabel="forget distance, nats",
            ylabel="retain distance, nats",
            xscale="log",
            yscale="log",
            title=f"α = {alpha:g}: one against the other",
        )
        both_axis.margins(0.1)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure
