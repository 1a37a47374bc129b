"""Uniformity and tolerance against the temperature: clusters on a sphere, and digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from paper_repros.robust.contrastive_behaviour.encoders import (
    Encoders,
    Measured,
    by_the_library,
    on_clusters,
    pair_by_pair,
    start_of,
    written_out,
)
from prefsim.analysis import tolerance, uniformity
from prefsim.analysis.representations import neighbour_accuracy
from prefsim.containers import ClassLogits
from prefsim.data.views import digit_views
from prefsim.losses.contrastive import negative_weights
from prefsim.papers import Reproduction, Run, at_least, at_most, below, panels, rising
from prefsim.papers.criteria import Criterion
from prefsim.papers.figures import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEMPERATURES = (0.05, 0.1, 0.3, 1.0, 3.0, 10.0)
HIGH = (3.0, 10.0)
COMPARED = (0.3, *HIGH)  # from the most uniform temperature on
NOISES = (0.0, 0.1, 0.3)
SHARE = 0.25  # of the negatives that the hard losses keep
SHOWN = (0.07, 0.2, 1.0)  # temperatures of the penalties drawn
COLOURS = (BLUE, ORANGE, GREEN)
DIGITS = (20,) * 10  # of each digit that are trained on
DIGITS_SPHERE = 16


class Study(NamedTuple):
    """One set of views: every temperature, the hard loss at the high ones, both linear losses."""

    name: str
    temperatures: tuple[float, ...]
    soft: Measured
    hard: Measured
    linear: Measured
    hard_linear: Measured

    def at(self, part: str, temperatures: Sequence[float]) -> np.ndarray:
        """Return ``uniformity`` or ``tolerance`` at temperatures, ``(temperatures, seeds)``."""
        rows = [self.temperatures.index(t) for t in temperatures]
        return np.asarray(getattr(self.soft, part)[rows])


class Digits(NamedTuple):
    """Encoders of digits: measures and accuracy ``(temperatures, seeds)``, soft and hard."""

    soft: Measured
    hard: Measured
    accuracy: np.ndarray
    hard_accuracy: np.ndarray


def study(name: str, encoders: Encoders, temperatures: tuple[float, ...], steps: int) -> Study:
    return Study(
        name,
        temperatures,
        soft=encoders.across_temperatures(temperatures, steps=steps),
        hard=encoders.across_temperatures(HIGH, share=SHARE, steps=steps),
        linear=encoders.of_the_linear_loss(steps=steps),
        hard_linear=encoders.of_the_linear_loss(share=SHARE, steps=steps),
    )


def study_of_digits(seeds: range, steps: int) -> Digits | None:
    views = digit_views(DIGITS, seeds, n_test=40)
    if views is None:
        return None
    encoders, n = Encoders(views, start_of(views, seeds, DIGITS_SPHERE)), sum(DIGITS)

    def trained(temperatures: tuple[float, ...], share: float) -> tuple[Measured, np.ndarray]:
        embeddings = encoders.embeddings(temperatures, share=share, steps=steps)
        label = views.repeated(len(temperatures)).label
        accuracy = neighbour_accuracy(embeddings, label, n=n)
        return encoders.measured(embeddings, after=n), accuracy.reshape(-1, len(seeds))

    soft, accuracy = trained(TEMPERATURES, 1.0)
    hard, hard_accuracy = trained(HIGH, SHARE)
    return Digits(soft, hard, accuracy, hard_accuracy)


def reproduce(run: Run) -> Reproduction:
    seeds = range(100 * run.seed, 100 * run.seed + (4 if run.quick else 8))
    temperatures = (0.05, *COMPARED) if run.quick else TEMPERATURES
    noises = NOISES[1:2] if run.quick else NOISES
    studies = []
    for noise in run.progress(noises, "noises"):
        encoders = on_clusters(noise, seeds, views=1 if run.quick else 2)
        name, steps = f"views with noise {noise:g}", 150 if run.quick else 300
        studies.append(study(name, encoders, temperatures, steps))
    digits = None if run.quick else study_of_digits(seeds[:5], 100)
    criteria = [criterion_of_definitions(run.seed), criterion_of_measures(run.seed)]
    for found in studies:
        criteria += criteria_of(found)
    if digits is not None:
        criteria += criteria_of_digits(digits)
    cut = (
        f"4 encoders rather than 8, one noise rather than {len(NOISES)}, {len(temperatures)}"
        f" temperatures rather than {len(TEMPERATURES)}, half of the steps, one pair of views, no"
        " digits"
    )
    return Reproduction(
        draw(studies, digits), table_of(studies, digits), tuple(criteria), caption=CAPTION, cut=cut
    )


def criterion_of_definitions(seed: int) -> Criterion:
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-1, 1, (20, 9))
    options = {"temperature": 0.3, "share": 0.5, "weight": 0.7}
    differences = [by_the_library(s, **options) - written_out(s, **options) for s in rows]
    return at_most(
        "losses of twenty rows, soft, hard and linear, and the penalties' entropy, less what is"
        " written",
        np.abs(differences),
        1e-12,
        stated="derived",
    )


def criterion_of_measures(seed: int) -> Criterion:
    points = np.random.default_rng(seed).standard_normal((8, 3))
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    label = np.arange(8) % 3
    found = np.asarray([uniformity(points), tolerance(points, label)])
    return at_most(
        "uniformity and tolerance of eight points less their means over pairs",
        np.abs(found - pair_by_pair(points, label)),
        1e-12,
        stated="derived",
    )


def criteria_of(found: Study) -> list[Criterion]:
    name, (low, high) = found.name, (COMPARED[0], HIGH[1])
    criteria = []
    for part in ("uniformity", "tolerance"):
        values = found.at(part, COMPARED)
        criteria += [
            rising(
                f"{name}: mean {part} at τ = {', '.join(f'{t:g}' for t in COMPARED)}",
                values.mean(axis=1),
                stated="paper",
                paper="rises with the temperature (figures)",
            ),
            at_least(
                f"{name}: share of {values.shape[1]} seeds with a larger {part} at τ = {high:g}"
                f" than at {low:g}",
                np.mean(values[-1] > values[0]),
                0.75,
                stated="chosen",
            ),
        ]
    smallest, best = found.at("uniformity", (0.05, low)).mean(axis=1)
    return [
        *criteria,
        below(
            f"{name}: mean uniformity at τ = {low:g} against τ = 0.05, where the loss vanishes"
            " behind the positive",
            best,
            smallest,
            stated="derived",
            paper="the smaller the temperature, the more uniform (figures)",
        ),
        below(
            f"{name}: mean uniformity with the hardest {SHARE:.0%} of negatives at"
            f" τ = {HIGH[1]:g} and in the linear loss, against all negatives",
            # At the smaller one all negatives come as far where training is long.
            [found.hard.uniformity[1].mean(), found.hard_linear.uniformity.mean()],
            [found.at("uniformity", HIGH[1:]).mean(), found.linear.uniformity.mean()],
            stated="paper",
            paper="hard negatives keep uniformity at large temperatures",
        ),
    ]


def criteria_of_digits(digits: Digits) -> list[Criterion]:
    rows = [TEMPERATURES.index(t) for t in COMPARED]
    return [
        *(
            rising(
                f"digits: mean {part} at τ = {', '.join(f'{t:g}' for t in COMPARED)}",
                getattr(digits.soft, part)[rows].mean(axis=1),
                stated="paper",
                paper="rises with the temperature (figures)",
            )
            for part in ("uniformity", "tolerance")
        ),
        below(
            f"digits: mean uniformity with the hardest {SHARE:.0%} of negatives at"
            f" τ = {HIGH[1]:g}, against all negatives",
            digits.hard.uniformity[1].mean(),
            digits.soft.uniformity[rows[2]].mean(),
            stated="paper",
            paper="hard negatives keep uniformity at large temperatures",
        ),
    ]


def table_of(studies: list[Study], digits: Digits | None) -> list[dict[str, str | float | int]]:
    def row(
        data: str, loss: str, tau: float | str, found: Measured, which: int, accuracy: str = ""
    ) -> dict[str, str | float | int]:
        u, t = found.uniformity[which], found.tolerance[which]
        return {
            "data": data,
            "loss": loss,
            "τ": tau,
            "seeds": u.size,
            "uniformity": round(float(u.mean()), 4),
            "its sd": round(float(u.std(ddof=1)), 4),
            "tolerance": round(float(t.mean()), 4),
            "sd of that": round(float(t.std(ddof=1)), 4),
            "accuracy": accuracy,
        }

    rows = []
    for study in studies:
        name = study.name
        rows += [row(name, "soft", t, study.soft, k) for k, t in enumerate(study.temperatures)]
        rows += [row(name, "hard", t, study.hard, k) for k, t in enumerate(HIGH)]
        rows += [
            row(name, "linear", "–", study.linear, 0),
            row(name, "hard linear", "–", study.hard_linear, 0),
        ]
    if digits is None:
        return rows
    for kind, temperatures, found, accuracy in (
        ("soft", TEMPERATURES, digits.soft, digits.accuracy),
        ("hard", HIGH, digits.hard, digits.hard_accuracy),
    ):
        for k, t in enumerate(temperatures):
            shown = f"{accuracy[k].mean():.3f} ± {accuracy[k].std(ddof=1):.3f}"
            rows.append(row("digits", kind, t, found, k, shown))
    return rows


CAPTION = (
    "Left: the share of the penalty that a negative gets, by its similarity to the anchor; a small"
    " temperature asks only about the nearest. Middle: how evenly trained embeddings lie on the"
    " sphere, lower is more even. Right: how near points of one class stay to one another, higher"
    " is nearer. Open squares: the same losses with the hardest negatives alone."
)


def draw(studies: list[Study], digits: Digits | None) -> Figure:
    figure, axes = panels(
        1,
        3 if digits is None else 4,
        title=(
            "Above τ ≈ 0.3 embeddings get less uniform and more tolerant; hard negatives keep them"
            " uniform, and below τ ≈ 0.3 the gain is gone"
        ),
    )
    penalties, even, alike, *last = axes[0]
    draw_penalties(penalties)
    for axis, part in ((even, "uniformity"), (alike, "tolerance")):
        for found, colour in zip(studies, COLOURS, strict=False):
            means = getattr(found.soft, part).mean(axis=1)
            axis.plot(found.temperatures, means, "o-", ms=4, color=colour, label=found.name)
            hard = getattr(found.hard, part).mean(axis=1)
            axis.plot(HIGH, hard, "s--", ms=5, color=colour, mfc="white")
        axis.set(xscale="log", xlabel="temperature τ", ylabel=f"mean {part}")
    even.plot([], [], "s--", color="0.4", mfc="white", label=f"hardest {SHARE:.0%} of negatives")
    even.legend(frameon=False, fontsize=8)
    even.set_title("Uniformity (lower is more even)")
    alike.set_title("Tolerance of one class")
    if digits is not None:
        draw_digits(last[0], digits)
    return figure


def draw_penalties(axis: Axes) -> None:
    s = np.concatenate([[0.9], np.linspace(-1.0, 0.9, 60)])
    for tau, colour in zip(SHOWN, COLOURS, strict=True):
        share = negative_weights(ClassLogits(s, np.asarray(0)), temperature=tau)
        axis.plot(s[1:], share, color=colour, label=f"τ = {tau:g}")
    axis.set(
        xlabel="similarity of a negative",
        ylabel="its share of the penalty",
        title="The penalty is a Boltzmann law",
        yscale="log",
        ylim=(1e-6, 1),
    )
    axis.legend(frameon=False, fontsize=8)


def draw_digits(axis: Axes, digits: Digits) -> None:
    parts = (
        ("o-", TEMPERATURES, digits.accuracy, COLOURS[0], "all negatives"),
        ("s--", HIGH, digits.hard_accuracy, COLOURS[1], f"hardest {SHARE:.0%}"),
    )
    for form, temperatures, accuracy, colour, name in parts:
        axis.errorbar(
            temperatures,
            accuracy.mean(axis=1),
            accuracy.std(axis=1, ddof=1),
            fmt=form,
            ms=5,
            capsize=3,
            color=colour,
            label=name,
        )
    axis.set(
        xscale="log",
        xlabel="temperature τ",
        ylabel="accuracy of five neighbours",
        title="Digits: mean ± sd of five splits",
    )
    axis.legend(frameon=False, fontsize=8)
