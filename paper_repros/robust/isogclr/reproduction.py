"""Learned temperatures against how frequent a class is, small batches, digits of a long tail."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from paper_repros.robust.isogclr.long_tail import (
    LEVELS,
    LOWEST,
    SmallBatches,
    Trained,
    differences_from_definitions,
    in_small_batches,
    start_of,
    temperatures_of_two_levels,
    train,
)
from prefsim.analysis.representations import neighbour_accuracy
from prefsim.data.views import Views, clustered_views, digit_views
from prefsim.papers import Reproduction, Run, at_least, at_most, falling, panels, rising
from prefsim.papers.criteria import Criterion
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARES = np.unique(np.round(np.geomspace(1, 180, 40))) / LEVELS
RADII = (0.1, 0.3, 1.0, 2.0)
SIZES, SPHERE, NOISE = (40, 20, 10, 5, 3, 2), 4, 0.1
RADIUS = 0.1  # of the encoders' anchors
MIXINGS = (1.0, 0.8, 0.3)
BATCH = 8
# Of each digit: a long tail, as the paper's imbalanced sets.
DIGITS = (100, 77, 60, 46, 36, 28, 22, 17, 13, 10)
DIGITS_SPHERE = 16
FIXED = (0.1, 0.3, 1.0)  # temperatures of InfoNCE
DIGIT_RADII = (0.1, 0.3)
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)


Row = dict[str, str | float | int]


class Digits(NamedTuple):
    """Balanced accuracy ``(splits,)`` by method, and what iSogCLR learned at the first radius."""

    accuracy: dict[str, np.ndarray]
    temperature: np.ndarray
    label: np.ndarray


def rank_correlations(
    temperature: np.ndarray, label: np.ndarray, sizes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean temperatures ``(sets, classes)`` and their rank correlation with the sizes."""
    classes = range(len(sizes))
    means = np.stack(
        [
            [row[own == c].mean() for c in classes]
            for row, own in zip(temperature, label, strict=True)
        ]
    )
    return means, np.asarray([spearmanr(row, sizes).statistic for row in means])


def study_of_digits(seeds: range, steps: int) -> Digits | None:
    views = digit_views(DIGITS, seeds, n_test=70)
    if views is None:
        return None
    start, n = start_of(views, seeds, DIGITS_SPHERE), sum(DIGITS)

    def accuracy(found: Trained) -> np.ndarray:
        return neighbour_accuracy(found.embeddings, views.label, n=n)

    learned = {
        f"iSogCLR, ρ = {radius:g}": train(views, start, steps=steps, radius=radius)
        for radius in DIGIT_RADII
    }
    fixed = {
        f"InfoNCE, τ = {tau:g}": train(views, start, steps=steps, temperature=tau) for tau in FIXED
    }
    first = next(iter(learned.values()))
    every = {name: accuracy(found) for name, found in (fixed | learned).items()}
    return Digits(every, first.temperature, views.label[:, :n])


def reproduce(run: Run) -> Reproduction:
    base = 100 * run.seed
    seeds = range(base, base + (4 if run.quick else 10))
    curves = {radius: temperatures_of_two_levels(SHARES, radius) for radius in RADII}
    clusters = clustered_views(SIZES, seeds, noise=NOISE, views=1)
    start = start_of(clusters, seeds, SPHERE)
    trained = train(clusters, start, steps=200 if run.quick else 1500, radius=RADIUS)
    small = in_small_batches(
        clusters,
        start,
        mixings=MIXINGS,
        size=BATCH,
        steps=300 if run.quick else 2000,
        seed=run.seed,
        temperature=0.2,
    )
    digits = None if run.quick else study_of_digits(range(base, base + 5), 150)
    means, correlations = rank_correlations(trained.temperature, clusters.label, SIZES)
    criteria = (
        criterion_of_definitions(run.seed),
        *criteria_of_two_levels(curves),
        at_most(
            "encoders: mean distance of a learned temperature from the exact one of its anchor",
            np.abs(trained.temperature - trained.exact).mean(),
            0.05,
            stated="chosen",
        ),
        *criteria_of_small_batches(small, quick=run.quick),
    )
    table = table_of(curves, means, correlations, small, digits)
    cut = "4 seeds rather than 10, 200 and 300 steps rather than 1,500 and 2,000, no digits"
    return Reproduction(
        draw(curves, clusters, trained, small, digits), table, criteria, caption=CAPTION, cut=cut
    )


def criterion_of_definitions(seed: int) -> Criterion:
    off = differences_from_definitions(seed)
    return at_most(
        "five drawn rows, distance from what is written out: " + ", ".join(off),
        list(off.values()),
        1e-10,
        stated="derived",
    )


def criteria_of_two_levels(curves: dict[float, np.ndarray]) -> tuple[Criterion, ...]:
    small = curves[RADII[0]]
    rare = SHARES <= 0.4
    beyond = np.concatenate(
        [curve[math.exp(-radius) + 0.005 < SHARES] for radius, curve in curves.items()]
    )
    return (
        rising(
            f"two levels, ρ = {RADII[0]:g}: temperature as the share of near negatives grows to .4",
            small[rare],
            stated="derived",
            paper="frequent semantics have larger temperatures",
        ),
        at_least(
            f"two levels, ρ = {', '.join(f'{r:g}' for r in RADII[1:])}: largest temperature less"
            " that at the largest share",
            [curves[radius].max() - curves[radius][-1] for radius in RADII[1:]],
            0.1,
            stated="derived",
            paper="frequent semantics have larger temperatures",
        ),
        at_most(
            "two levels, ρ ≥ log(1/share): temperature less the lowest",
            beyond - LOWEST,
            0.0,
            stated="derived",
        ),
    )


def criteria_of_small_batches(small: SmallBatches, *, quick: bool) -> tuple[Criterion, ...]:
    named = ", ".join(f"{mixing:g}" for mixing in MIXINGS)
    nearer = falling(
        f"batches of {BATCH}: mean error of the log-normaliser at γ = {named}",
        small.log_normaliser,
        stated="paper",
        paper="a moving average of the normaliser serves small batches",
    )
    if quick:
        # A few hundred batches do not tell a bias of a tenth from their own noise.
        return (nearer,)
    less_biased = at_least(
        f"batches of {BATCH}: bias of the gradient at γ = {MIXINGS[0]:g} over that at"
        f" {MIXINGS[-1]:g}",
        small.bias[0] / small.bias[-1],
        1.2,
        stated="chosen",
        paper="a moving average of the normaliser serves small batches",
    )
    return nearer, less_biased


def table_of(
    curves: dict[float, np.ndarray],
    means: np.ndarray,
    correlations: np.ndarray,
    small: SmallBatches,
    digits: Digits | None,
) -> list[Row]:
    def row(part: str, case: str, what: str, value: float, spread: float | str = "") -> Row:
        shown = spread if isinstance(spread, str) else round(float(spread), 4)
        return {"part": part, "case": case, "what": what, "value": round(value, 4), "sd": shown}

    rows = [
        row("two levels", f"ρ = {radius:g}", "share of the largest temperature", SHARES[at])
        for radius, curve in curves.items()
        for at in [int(curve.argmax())]
    ]
    rows += [
        row("encoders", f"cluster of {size}", "mean τ", column.mean(), column.std(ddof=1))
        for size, column in zip(SIZES, means.T, strict=True)
    ]
    rows.append(
        row("encoders", "", "rank correlation", correlations.mean(), correlations.std(ddof=1))
    )
    for k, mixing in enumerate(MIXINGS):
        rows += [
            row(f"batches of {BATCH}", f"γ = {mixing:g}", "bias of the gradient", small.bias[k]),
            row(
                f"batches of {BATCH}", f"γ = {mixing:g}", "error of log u", small.log_normaliser[k]
            ),
        ]
    if digits is None:
        return rows
    best = max(
        (name for name in digits.accuracy if name.startswith("InfoNCE")),
        key=lambda name: digits.accuracy[name].mean(),
    )
    for name, accuracy in digits.accuracy.items():
        rows.append(row("digits", name, "accuracy", accuracy.mean(), accuracy.std(ddof=1)))
        gain = accuracy - digits.accuracy[best]
        error = gain.std(ddof=1) / math.sqrt(gain.size)
        rows.append(row("digits", name, f"less that of {best}; standard error", gain.mean(), error))
    _, correlation = rank_correlations(digits.temperature, digits.label, DIGITS)
    rows.append(
        row(
            "digits",
            f"iSogCLR, ρ = {DIGIT_RADII[0]:g}",
            "rank correlation of τ with the class's size",
            correlation.mean(),
            correlation.std(ddof=1),
        )
    )
    return rows


CAPTION = (
    "Left: the best temperature of an anchor, by how many of its negatives are as near as its"
    " positive, for four radii ρ of the worst case; on the floor the temperature is the least"
    " allowed. Middle: temperatures that encoders learn, by the size of the anchor's cluster; grey"
    " lines are single seeds. Right: how far small batches are off, by how much of the moving"
    " normaliser is replaced each time (γ = 1: all of it); lower is better."
)


def draw(
    curves: dict[float, np.ndarray],
    clusters: Views,
    trained: Trained,
    small: SmallBatches,
    digits: Digits | None,
) -> Figure:
    figure, axes = panels(
        1,
        3 if digits is None else 4,
        title=(
            "Anchors of frequent classes get larger temperatures while ρ is small against log(1/q);"
            " a moving normaliser is nearer to the whole one"
        ),
    )
    levels, learned, batches, *last = axes[0]
    for (radius, curve), colour in zip(curves.items(), COLOURS, strict=True):
        levels.plot(SHARES, curve, color=colour, label=f"ρ = {radius:g}")
    levels.set(
        xscale="log",
        yscale="log",
        xlabel="share q of negatives as near as the positive",
        ylabel="temperature τ* of the anchor",
        title="Two levels of similarity",
    )
    levels.legend(frameon=False, fontsize=8)
    draw_learned(learned, clusters, trained)
    draw_small_batches(batches, small)
    if digits is not None:
        draw_digits(last[0], digits)
    return figure


def draw_learned(axis: Axes, clusters: Views, trained: Trained) -> None:
    means, correlations = rank_correlations(trained.temperature, clusters.label, SIZES)
    axis.plot(SIZES, means.T, "-", color="0.8", lw=0.8)
    axis.plot(SIZES, means.mean(axis=0), "o-", color=COLOURS[0], label="mean of the seeds")
    axis.set_xscale("log")
    axis.set_xticks(SIZES, [str(size) for size in SIZES])
    axis.minorticks_off()
    axis.set(
        xlabel="points of the cluster",
        ylabel="mean learned temperature",
        ylim=(0, None),
        title=f"Encoders: rank correlation {correlations.mean():.2f}",
    )
    axis.legend(frameon=False, fontsize=8)


def draw_small_batches(axis: Axes, small: SmallBatches) -> None:
    places = np.arange(len(MIXINGS))
    axis.bar(places - 0.2, small.bias, 0.4, color=COLOURS[0], label="bias of the gradient")
    axis.bar(places + 0.2, small.log_normaliser, 0.4, color=COLOURS[1], label="error of log u")
    axis.set_xticks(places, [f"γ = {mixing:g}" for mixing in MIXINGS])
    axis.set(ylabel="relative bias, error in nats", title=f"Batches of {BATCH} points")
    axis.legend(frameon=False, fontsize=8)


def draw_digits(axis: Axes, digits: Digits) -> None:
    for place, (name, accuracy) in enumerate(digits.accuracy.items()):
        colour = COLOURS[0] if name.startswith("InfoNCE") else COLOURS[1]
        axis.plot(accuracy, np.full(accuracy.size, place), "o", ms=4, alpha=0.5, color=colour)
        axis.plot(accuracy.mean(), place, "D", ms=8, color=colour, mec="white")
    axis.set_yticks(range(len(digits.accuracy)), list(digits.accuracy))
    axis.set(xlabel="balanced accuracy of five neighbours", title="Digits with a long tail")
    axis.invert_yaxis()
