"""Unlearn one response of four log-linear policies.

GA, NPO and D²O, with its exact anchor and with K samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.direct.d2o.unlearning import LEVELS, World
from prefsim.papers import Reproduction, Run, at_most, below, near, panels
from prefsim.papers.figures import BLUE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = (1, 4, 16)
STYLES = {
    "GA": {"color": VERMILION, "lw": 2.4, "label": "gradient ascent (GA)"},
    "NPO": {"color": "black", "lw": 2.4, "ls": "--", "label": "NPO"},
    "D²O": {"color": BLUE, "lw": 2.4, "label": "D²O, exact"},
    1: {"color": "#c9b8e0", "lw": 0.9, "label": "D²O, K = 1"},
    4: {"color": "#f5b461", "lw": 0.9, "label": "D²O, K = 4"},
    16: {"color": "#7cc58a", "lw": 0.9, "label": "D²O, K = 16"},
}


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
    repeats, draws = (5, 2000) if run.quick else (20, 20_000)
    levels = np.linspace(0.0, LEVELS[-1], 25)[1:]
    marks = {
        name: int(np.abs(levels - level).argmin())
        for name, level in zip(("0.1ρ", "0.01ρ"), LEVELS, strict=True)
    }
    curves, at_the_start, halfway = {}, [], []
    for seed in run.progress(range(run.seed, run.seed + 4), "worlds"):
        world, rng = World.draw(seed), np.random.default_rng((run.seed, seed))
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
    return Reproduction(draw(curves, levels), table, criteria)


def draw(curves: dict[int, dict[str | int, np.ndarray]], levels: np.ndarray) -> Figure:
    figure, axes = panels(
        1,
        len(curves),
        title=(
            "Unlearning one of 20 responses: D²O with its exact anchor disturbs the others less"
            " than GA and NPO; with few samples it need not"
        ),
    )
    for axis, (seed, by_method) in zip(axes[0], curves.items(), strict=True):
        for name, kl in by_method.items():
            drawn = np.insert(kl[:5], 0, 0.0, axis=1).T
            label = [STYLES[name]["label"], *[None] * (drawn.shape[1] - 1)]
            # The methods over the many paths from samples.
            order = 3 if len(kl) == 1 else 2
            style = STYLES[name] | {"label": label, "zorder": order}
            axis.plot(np.append(0.0, levels), drawn, **style)
        axis.invert_xaxis()
        axis.set(
            xlabel="log π(y_l)/π_ref(y_l), nats",
            title=f"world {seed}",
            ylim=(0, 1.6 * float(by_method["GA"].max())),
        )
    axes[0, 0].set_ylabel("KL(π_ref‖π) on the other responses, nats")
    axes[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    return figure
