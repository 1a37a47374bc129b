"""Unlearn one response of four log-linear policies.

GA, NPO and D²O, with its exact anchor and with K samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.direct.d2o.unlearning import LEVELS, World
from prefsim.papers import Reproduction, Run, at_most, below, near, panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORLDS = 4
SAMPLES = (1, 4, 16)
STYLES = {
    # NPO takes the way of gradient ascent: its dashes lie on the broad line.
    "GA": {"color": VERMILION, "lw": 4.0, "alpha": 0.6, "label": "gradient ascent (GA)"},
    "NPO": {"color": "black", "lw": 1.6, "ls": "--", "label": "NPO, on the line of GA"},
    "D²O": {"color": BLUE, "lw": 2.4, "label": "D²O, exact"},
    1: {"color": PURPLE, "lw": 1.0, "ls": ":", "label": "D²O, K = 1"},
    4: {"color": ORANGE, "lw": 1.0, "ls": "-.", "label": "D²O, K = 4"},
    16: {"color": GREEN, "lw": 1.0, "ls": "-", "label": "D²O, K = 16"},
}
RATIOS, SHOWN = (0.25, 0.5, 1, 2, 4), (0.22, 4.5)  # of the axis upwards
DRAWN = 5  # paths from samples, of each K
SIZES = ((20, 20_000), (5, 2000))  # paths, and gradients for a variance: full run, and quick one


def curves_of(
    world: World, levels: np.ndarray, repeats: int, rng: np.random.Generator
) -> dict[str | int, np.ndarray]:
    """Return the disturbances ``(paths, levels)`` of every method and number of samples."""
    curves: dict[str | int, np.ndarray] = {
        method: world.disturbances(world.flow(method, levels[-1]), levels)[None]
        for method in ("GA", "NPO", "D²O")
    }
    for k in SAMPLES:
        lines = world.lines(world.sampled_shares(k, repeats, rng))
        curves[k] = np.stack([world.disturbances(line, levels) for line in lines])
    return curves


def variances(world: World, theta: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the variance of the gradient at θ from each number of samples, ``(3,)``."""
    drawn = (world.gradients(theta, world.sampled_shares(k, draws, rng)) for k in SAMPLES)
    return np.asarray([slopes.var(axis=0).sum() for slopes in drawn])


def reproduce(run: Run) -> Reproduction:
    repeats, draws = SIZES[run.quick]
    levels = np.linspace(0.0, LEVELS[-1], 25)[1:]
    marks = {
        name: int(np.abs(levels - level).argmin())
        for name, level in zip(("0.1ρ", "0.01ρ"), LEVELS, strict=True)
    }
    curves, at_the_start, halfway = {}, [], []
    # No two runs share a world.
    seeds = range(WORLDS * run.seed, WORLDS * (run.seed + 1))
    for seed in run.progress(seeds, "worlds"):
        world, rng = World.draw(seed), np.random.default_rng((seed, 1))
        curves[seed] = curves_of(world, levels, repeats, rng)
        expected = [world.variance_at_the_start(k) for k in SAMPLES]
        at_the_start.append(variances(world, world.start, draws, rng) / expected)
        halfway.append(variances(world, world.straight().at(0.5), draws, rng))

    ga, npo, d2o = (
        np.stack([by_method[name][0] for by_method in curves.values()])
        for name in ("GA", "NPO", "D²O")
    )
    criteria = (
        *(
            below(
                f"KL(rest) at {name}: D²O (exact) below GA and NPO",
                d2o[:, mark],
                np.minimum(ga, npo)[:, mark],
                stated="chosen",
            )
            for name, mark in marks.items()
        ),
        at_most(
            "GA and NPO: one curve, relative difference",
            np.abs(npo / ga - 1).max(),
            1e-6,
            stated="derived",
        ),
        near(
            "variance of the K-sample gradient at the start, over β²/4K times that of the features",
            at_the_start,
            1,
            within=0.2,
            stated="derived",
        ),
        near(
            "variance of the K-sample gradient halfway, K = 4 over K = 16",
            [values[1] / values[2] for values in halfway],
            4,
            within=1,
            stated="derived",
            paper="∝ 1/K",
        ),
    )
    table = [
        {
            "seed": seed,
            "method": STYLES[name]["label"],
            "paths to 0.01ρ": f"{np.isfinite(kl[:, marks['0.01ρ']]).sum()} of {len(kl)}",
            **{
                f"KL(rest) at {at}": round(float(np.nanmedian(kl[:, mark])), 4)
                for at, mark in marks.items()
            },
        }
        for seed, by_method in curves.items()
        for name, kl in by_method.items()
    ]
    caption = (
        f"A panel for each of {WORLDS} log-linear worlds. To the right the response to unlearn"
        " becomes rarer; upwards how much the other responses are disturbed, over how much"
        " gradient ascent disturbs them when it is as rare: below 1 is better. Gradient ascent is"
        " the broad line at 1, and NPO (black dashes) takes the same way at another speed. The"
        " blue line is D²O with its exact anchor, the thin lines are D²O with K samples as its"
        f" anchor, {DRAWN} draws for each K; what leaves a panel goes on outside."
    )
    full, quick = SIZES
    cut = (
        f"{quick[0]} paths from samples for each K rather than {full[0]} (of which {DRAWN} are"
        f" drawn), variances from {quick[1]:,} gradients rather than {full[1]:,}"
    )
    return Reproduction(draw(curves, levels), table, criteria, caption=caption, cut=cut)


def draw(curves: dict[int, dict[str | int, np.ndarray]], levels: np.ndarray) -> Figure:
    figure, axes = panels(
        1,
        len(curves),
        height=4.2,
        sharey=True,
        title=(
            "Unlearning one of 20 responses: D²O with its exact anchor disturbs the others less"
            f" than GA and NPO{worse_with_samples(curves)}"
        ),
    )
    for axis, (seed, by_method) in zip(axes[0], curves.items(), strict=True):
        for name, kl in by_method.items():
            drawn = (kl[:DRAWN] / by_method["GA"]).T
            label = [STYLES[name]["label"], *[None] * (drawn.shape[1] - 1)]
            # The methods over the many paths from samples.
            order = 3 if len(kl) == 1 else 2
            style = STYLES[name] | {"label": label, "zorder": order}
            axis.plot(levels, drawn, **style)
        axis.set(
            xlabel="log π(y_l)/π_ref(y_l), nats",
            title=f"world {seed}",
            xlim=(0.1, 1.03 * levels[-1]),
            yscale="log",
            ylim=SHOWN,
            yticks=RATIOS,
            yticklabels=[f"{ratio:g}" for ratio in RATIOS],
        )
        axis.minorticks_off()
    axes[0, 0].set_ylabel("KL(π_ref‖π) on the other responses,\nover that of gradient ascent")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def worse_with_samples(curves: dict[int, dict[str | int, np.ndarray]]) -> str:
    """Return what the title says of anchors from samples: how many paths end above GA's."""
    ends = [
        (by_method[k][:, -1], by_method["GA"][0, -1])
        for by_method in curves.values()
        for k in SAMPLES
    ]
    worse = sum(int(np.sum(kl > of_ga)) for kl, of_ga in ends)
    paths = sum(int(np.isfinite(kl).sum()) for kl, _ in ends)
    return f"; with samples for the anchor {worse} of {paths} paths disturb them more"
