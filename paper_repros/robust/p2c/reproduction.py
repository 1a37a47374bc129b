"""Heads held apart, small classifiers of drawn crowds, listeners, and sets with drawn annotators.

Judgements by people come from a folder with real data; without them that part is not run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paper_repros.robust.p2c import written_out
from paper_repros.robust.p2c.crowds import (
    DISAGREEMENT,
    INCONSISTENCY,
    MAJORITY,
    NO_CONSISTENCY,
    NO_DIVERSITY,
    NO_HEADS,
    ORDER_ONLY,
    P2C,
    PAIRS,
    SHARES,
    Crowd,
    Method,
    Scores,
    drawn_crowd,
    predicted,
    scores,
)
from paper_repros.robust.p2c.real_crowds import N_TRAIN, drawn_annotators, sound_crowd
from prefsim.analysis.intervals import mean_half_width
from prefsim.gradients import gradient
from prefsim.losses.paired_classes import head_diversity, head_preference
from prefsim.numerics import sigmoid
from prefsim.papers import Reproduction, Run, at_least, at_most, below, panels
from prefsim.papers.criteria import Criterion
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARE_OF_LIMIT = np.asarray([0.0, 0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2.0])
RATE = 0.6  # win rate that the heads learn
EXAMPLES, ANNOTATORS = 40, 15
FEWER_AND_MORE = (1, 3, 5, 45)
QUICK = (SHARES, P2C)
FULL = (
    SHARES,
    P2C,
    NO_DIVERSITY,
    NO_HEADS,
    ORDER_ONLY,
    NO_CONSISTENCY,
    PAIRS,
    DISAGREEMENT,
    INCONSISTENCY,
)
ON_REAL_DATA = (SHARES, P2C, NO_HEADS, PAIRS)
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
SOUND = "listeners"

Row = dict[str, str | float | int]


class Study(NamedTuple):
    """Scores of every method, by its name, on the sets of one crowd."""

    name: str
    by_method: dict[str, Scores]

    def gain(self, method: Method, measure: str) -> np.ndarray:
        """Return by how much each set's score is above that with the majority label."""
        mine, base = (getattr(self.by_method[m.name], measure) for m in (method, MAJORITY))
        return np.asarray(mine - base)


def study(name: str, crowd: Crowd, methods: Iterable[Method], *, steps: int, run: Run) -> Study:
    """Train every method on every set of a crowd, and the majority label beside them."""
    found = {
        method.name: scores(predicted(crowd, method, steps=steps, seed=run.seed), crowd.test_votes)
        for method in run.progress((MAJORITY, *methods), name)
    }
    return Study(name, found)


def spreads(heads: int, steps: int, seed: int) -> np.ndarray:
    """Return how far apart the probabilities of heads end, by the weight of diversity."""
    rng = np.random.default_rng(seed)
    margins = rng.uniform(-1.5, 1.5, (SHARE_OF_LIMIT.size, 10, heads))
    weight = (SHARE_OF_LIMIT * (heads - 1) / heads)[:, None]

    def cost(m: Any) -> Any:
        diversity = head_diversity(m)
        weights = diversity.new_tensor(weight)
        return head_preference(m, 0 * diversity + RATE) - weights * diversity

    for _ in range(steps):
        # Rewards in (−1, 1) end at most at margins of ±2.
        margins = np.clip(margins - 4 * heads * gradient(cost, margins), -2.0, 2.0)
    chances = sigmoid(margins)
    return np.asarray(np.ptp(chances, axis=-1))


def reproduce(run: Run) -> Reproduction:
    sets, steps = (20, 100) if run.quick else (60, 300)
    heads = (3,) if run.quick else (2, 3, 5)
    apart = {count: spreads(count, 200, run.seed) for count in heads}
    drawn = study(
        f"{ANNOTATORS} annotators",
        drawn_crowd(sets, EXAMPLES, ANNOTATORS, seed=run.seed),
        QUICK if run.quick else FULL,
        steps=steps,
        run=run,
    )
    counts = FEWER_AND_MORE[:1] if run.quick else FEWER_AND_MORE
    by_count = {
        count: study(
            "one annotator" if count == 1 else f"{count} annotators",
            drawn_crowd(sets, EXAMPLES, count, seed=run.seed),
            (P2C,) if run.quick else (SHARES, P2C),
            steps=steps,
            run=run,
        )
        for count in counts
    }
    real = [] if run.quick else list(real_studies(run))
    criteria = (
        criterion_of_definitions(run.seed),
        *criteria_of_heads(apart),
        *criteria_of_crowds(drawn, by_count[1]),
        *criteria_of_people(real),
    )
    by_count = dict(sorted((by_count | {ANNOTATORS: drawn}).items()))
    table = [row for each in (*by_count.values(), *real) for row in rows_of(each)]
    if not run.quick and run.data is None:
        table.append({"data": SOUND, "method": "not run: no such judgements"})
    cut = (
        "20 data sets rather than 60, 100 steps rather than 300, one number of heads, two methods,"
        " no data of people"
    )
    return Reproduction(
        draw(apart, drawn, by_count, real), table, criteria, caption=CAPTION, cut=cut
    )


def real_studies(run: Run) -> Iterable[Study]:
    """Yield what was found on listeners and on the sets that are at hand."""
    base = 100 * run.seed
    sound = None if run.data is None else sound_crowd(run.data, range(base, base + 30))
    crowds = {SOUND: sound} | {
        name: drawn_annotators(name, range(base, base + 10)) for name in N_TRAIN
    }
    for name, crowd in crowds.items():
        if crowd is not None:
            yield study(name.replace("_", " "), crowd, ON_REAL_DATA, steps=200, run=run)


# --- criteria ---


def criterion_of_definitions(seed: int) -> Criterion:
    off = written_out.distances(seed)
    return at_most(
        f"{len(off)} functions on drawn entries: distance from what is written out",
        list(off.values()),
        1e-12,
        stated="derived",
    )


def criteria_of_heads(apart: dict[int, np.ndarray]) -> tuple[Criterion, ...]:
    named = ", ".join(str(count) for count in apart)
    held = np.concatenate([found[SHARE_OF_LIMIT < 1].ravel() for found in apart.values()])
    driven = np.concatenate([found[SHARE_OF_LIMIT > 1].ravel() for found in apart.values()])
    return (
        at_most(
            f"{named} heads, λ_d up to .9 λ_p(T − 1)/T: spread of their probabilities at the end",
            held,
            1e-4,
            stated="derived",
            paper="the diversity term makes heads differ",
        ),
        at_least(
            f"{named} heads, λ_d from 1.1 λ_p(T − 1)/T on: the same spread",
            driven,
            0.3,
            stated="derived",
            paper="the diversity term makes heads differ",
        ),
    )


def criteria_of_crowds(drawn: Study, single: Study) -> tuple[Criterion, ...]:
    error = {name: found.error.mean() for name, found in drawn.by_method.items()}
    sets = drawn.gain(P2C, "rank").size
    return (
        at_least(
            f"{ANNOTATORS} annotators: rank correlation with the true chance, P2C less majority"
            f" label, mean of {sets} sets",
            drawn.gain(P2C, "rank").mean(),
            0.0,
            stated="chosen",
            paper="consistent gains over the baselines",
        ),
        at_least(
            f"{ANNOTATORS} annotators: the same of accuracy",
            drawn.gain(P2C, "accuracy").mean(),
            0.0,
            stated="chosen",
            paper="up to 11.55 % of the errors less",
        ),
        below(
            f"the gain in rank correlation with one annotator, below that with {ANNOTATORS}",
            single.gain(P2C, "rank").mean(),
            drawn.gain(P2C, "rank").mean(),
            stated="derived",
        ),
        below(
            f"{ANNOTATORS} annotators: mean squared error of probabilities, P2C below majority"
            " label, vote shares below P2C",
            [error[P2C.name], error[SHARES.name]],
            [error[MAJORITY.name], error[P2C.name]],
            stated="chosen",
        ),
    )


def criteria_of_people(real: list[Study]) -> tuple[Criterion, ...]:
    return tuple(
        at_most(
            f"{SOUND}: mean squared error of probabilities, P2C less majority label, mean",
            each.gain(P2C, "error").mean(),
            0.0,
            stated="chosen",
            paper="consistent gains over the baselines",
        )
        for each in real
        if each.name == SOUND
    )


# --- the table ---


def rows_of(found: Study) -> list[Row]:
    """Return the scores of every method on one crowd, with the interval of each difference."""
    rows: list[Row] = []
    for name, own in found.by_method.items():
        row: Row = {"data": found.name, "method": name, "sets": own.error.size}
        for measure in Scores._fields:
            values = getattr(own, measure)
            lead = values - getattr(found.by_method[MAJORITY.name], measure)
            row[measure] = round(float(values.mean()), 4)
            row[f"{measure}, less majority's"] = round(float(lead.mean()), 4)
            row[f"± ({measure})"] = round(mean_half_width(lead), 4)
        rows.append(row)
    return rows


# --- the figure ---


CAPTION = (
    "Left: how far apart heads end that learn one win rate, by the weight of the term that asks"
    " for diversity; beyond the dashed line it outweighs what they learn. Middle: rank correlation"
    " with the truth gained over training on majority labels, by method; right of the line is"
    " gained, bars are 95 % intervals over data sets. Right: the same by the number of annotators."
    " Where data of people are used, the last panel shows the same gain for them."
)


def draw(
    apart: dict[int, np.ndarray], drawn: Study, by_count: dict[int, Study], real: list[Study]
) -> Figure:
    figure, axes = panels(
        1,
        4 if real else 3,
        title=(
            "Votes help where class probabilities are kept consistent with them; heads agree until"
            " diversity outweighs what they learn"
        ),
        width=4.8,
    )
    draw_heads(axes[0, 0], apart)
    draw_methods(axes[0, 1], drawn)
    draw_counts(axes[0, 2], by_count)
    if real:
        draw_real(axes[0, 3], real)
    return figure


def draw_heads(axis: Axes, apart: dict[int, np.ndarray]) -> None:
    for (count, found), colour, marker in zip(apart.items(), COLOURS, "osD", strict=False):
        axis.plot(
            SHARE_OF_LIMIT,
            found.mean(axis=-1),
            marker=marker,
            ms=12 - 2 * count,
            color=colour,
            label=f"{count} heads",
        )
    axis.axvline(1.0, color="0.4", lw=1, ls="--")
    axis.set(
        xlabel="weight λ_d of diversity, over λ_p(T − 1)/T",
        ylabel="spread of the heads' probabilities at the end",
        title=f"Heads that learn a win rate of {RATE:g}",
    )
    axis.legend(frameon=False, fontsize=8)


def draw_methods(axis: Axes, drawn: Study) -> None:
    names = [name for name in drawn.by_method if name != MAJORITY.name]
    for place, name in enumerate(names):
        lead = drawn.by_method[name].rank - drawn.by_method[MAJORITY.name].rank
        colour = COLOURS[1] if name == SHARES.name else COLOURS[0]
        bar(axis, lead, place, colour)
    axis.axvline(0.0, color="0.5", lw=1)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set(
        xlabel="gain in rank correlation over the majority label",
        title=f"{EXAMPLES} examples, {ANNOTATORS} drawn annotators each",
    )


def bar(axis: Axes, lead: np.ndarray, place: float, colour: str) -> None:
    """Draw a mean with its 95 % interval in a row."""
    half = mean_half_width(lead)
    axis.errorbar(lead.mean(), place, xerr=half, fmt="o", color=colour, ms=4, capsize=2)


def draw_counts(axis: Axes, by_count: dict[int, Study]) -> None:
    for method, colour in ((P2C, COLOURS[0]), (SHARES, COLOURS[1])):
        studies = {
            count: each.gain(method, "rank")
            for count, each in by_count.items()
            if method.name in each.by_method
        }
        means = [lead.mean() for lead in studies.values()]
        half = [mean_half_width(lead) for lead in studies.values()]
        axis.errorbar(
            list(studies), means, yerr=half, fmt="o-", color=colour, capsize=2, label=method.name
        )
    axis.axhline(0.0, color="0.5", lw=1)
    axis.set_xscale("log")
    axis.set_xticks(list(by_count), [str(count) for count in by_count])
    axis.minorticks_off()
    axis.set(
        xlabel="annotators of each example",
        ylabel="gain in rank correlation, 95 % interval",
        title="One annotator knows no order within a class",
    )
    axis.legend(frameon=False, fontsize=8)


def draw_real(axis: Axes, real: list[Study]) -> None:
    shown = ((SHARES, COLOURS[1]), (P2C, COLOURS[0]), (PAIRS, COLOURS[2]))
    for place, each in enumerate(real):
        for shift, (method, colour) in zip((-0.2, 0.0, 0.2), shown, strict=True):
            bar(axis, -each.gain(method, "error"), place + shift, colour)
    for method, colour in shown:
        axis.errorbar([], [], fmt="o", color=colour, label=method.name)
    axis.axvline(0.0, color="0.5", lw=1)
    axis.set_yticks(range(len(real)), [each.name for each in real])
    axis.invert_yaxis()
    axis.set(
        xlabel="squared error below that of the majority label",
        title="Listeners, and sets with drawn annotators",
    )
    axis.legend(frameon=False, fontsize=8)
