"""Judges told apart by their weights and won over by what they like; people taken apart.

Judgements by people come from a folder with real data; without them those parts are not run. Every
row says whose judgements its number comes from.
"""

from __future__ import annotations

import numpy as np

from paper_repros.robust.preference_dissection.judges import (
    CHANGED,
    FEW,
    Families,
    WonOver,
    choices,
    study_families,
    win_over,
    within_and_between,
)
from paper_repros.robust.preference_dissection.people import (
    HARMLESS,
    SCHOOLS,
    SOUND,
    SPOKEN,
    Harmless,
    Raters,
    Weights,
    dissect_harmless,
    dissect_raters,
    dissect_schools,
)
from paper_repros.robust.preference_dissection.picture import CAPTION, draw
from prefsim.analysis import judge_similarity
from prefsim.data.properties import compare_lengths, compare_scores
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    between,
    holds,
    near,
)
from prefsim.papers.criteria import Criterion

Row = dict[str, str | float | int]
DRAWN = "judges drawn here"

# Labels of lengths by the authors' rule: words of the first, of the second, label.
LENGTHS = np.array(
    [
        *((100, 60, 1), (60, 100, -1), (100, 95, 0), (12, 22, -1), (5, 9, 0), (5, 10, -1)),
        *((400, 350, 1), (400, 360, 1), (80, 100, -1)),
    ]
)


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    draws = range(5 if run.quick else 20)
    families = [study_families(rng) for _ in run.progress(draws, "families of judges")]
    judges = [win_over(rng) for _ in run.progress(draws, "judges won over")]
    harmless, raters, schools = None, None, None
    if run.data is not None:
        splits, pairings = (10, 1000) if run.quick else (100, 10_000)
        harmless = dissect_harmless(run.data, splits=splits, seed=run.seed)
        raters = dissect_raters(run.data, pairings=pairings, seed=run.seed)
        schools = dissect_schools(run.data, seed=run.seed)
    criteria = (
        *criteria_of_families(families, rng),
        *criteria_of_judges(judges),
        *(criteria_of_harmless(harmless) if harmless else ()),
        *(criteria_of_raters(raters) if raters else ()),
        *(criteria_of_schools(schools) if schools else ()),
    )
    table = [
        *rows_of_drawn(families, judges),
        *(rows_of_harmless(harmless) if harmless else [not_run(HARMLESS)]),
        *(rows_of_raters(raters) if raters else [not_run(SOUND)]),
        *(rows_of_schools(schools) if schools else [not_run(SCHOOLS)]),
    ]
    cut = (
        "5 draws of families and judges rather than 20, 10 splits rather than 100, 1,000 pairings"
        " rather than 10,000"
    )
    return Reproduction(
        draw(families, judges, harmless, raters, schools), table, criteria, caption=CAPTION, cut=cut
    )


# --- criteria ---


def criteria_of_families(
    families: list[Families], rng: np.random.Generator
) -> tuple[Criterion, ...]:
    parts = [within_and_between(family.alike()) for family in families]
    first, second = rng.binomial(3, 0.5, (2, 20_000))
    compared = compare_scores(first, second)
    odds = rng.normal(size=2000)
    state = rng.bit_generator.state
    with_bias = choices(odds, rng)
    rng.bit_generator.state = state
    return (
        near(
            "labels of nine pairs of lengths",
            compare_lengths(LENGTHS[:, 0], LENGTHS[:, 1]),
            LENGTHS[:, 2],
            within=0,
            stated="paper",
        ),
        near(
            "ratings drawn from 0 to 3: share of first better rated, less share of second; and of"
            " differing ratings",
            [compared[first > second].mean(), np.abs(compared).mean()],
            # The sum of the squared probabilities of four ratings is 20/64.
            [1.0, 44 / 64],
            within=0.02,
            stated="derived",
        ),
        near(
            "share of choices that a bias of the first place changes",
            np.mean(with_bias != choices(odds, rng, bias=0.0)),
            0.0,
            within=0,
            stated="derived",
        ),
        at_least(
            f"share of {len(families)} draws in which any two judges of a family are more alike"
            " than any two of different families",
            np.mean([within.min() > between_.max() for within, between_ in parts]),
            0.9,
            stated="chosen",
            paper="models of similar size are alike",
        ),
        near(
            "correlation of each judge with itself, range over draws",
            [np.diagonal(family.alike()) for family in families],
            1.0,
            within=1e-9,
            stated="derived",
        ),
        at_least(
            "mean correlation of weights found with true ones, in one scenario",
            np.mean([correlations(family) for family in families]),
            0.85,
            stated="chosen",
        ),
    )


def correlations(family: Families) -> np.ndarray:
    """Return the correlations of the weights found in each scenario with the true ones."""
    both = np.stack([np.broadcast_to(family.weights, family.found.shape), family.found], axis=-2)
    return np.asarray(judge_similarity(both)[..., 0, 1])


def criteria_of_judges(judges: list[WonOver]) -> tuple[Criterion, ...]:
    worst, none, best = np.stack([judge.wins for judge in judges]).T
    inside = [(judge.low <= judge.weights) & (judge.weights <= judge.high) for judge in judges]
    return (
        between(
            f"share of {FEW * len(judges)} true weights inside their 90 % intervals",
            np.mean(inside),
            0.78,
            0.99,
            stated="derived",
        ),
        at_most(
            "sum of the attributions of a judgement, less its log-odds and their mean",
            max(judge.unexplained for judge in judges),
            1e-12,
            stated="derived",
        ),
        at_most(
            "what is left of the pulls of the data at the mode, in units of 1/b",
            max(judge.left for judge in judges),
            1e-7,
            stated="derived",
        ),
        near(
            "win rate of a response to which nothing is added",
            none,
            0.5,
            within=1e-9,
            stated="derived",
        ),
        below(
            "win rate with the three properties that the fit likes least, below ½",
            worst,
            0.5,
            stated="paper",
            paper="scores fall",
        ),
        below(
            "½ below the win rate with the three properties that the fit likes most",
            np.full(len(judges), 0.5),
            best,
            stated="paper",
            paper="score shifts up to .59 on MT-Bench, 31.94 on AlpacaEval 2.0",
        ),
    )


def criteria_of_harmless(found: Harmless) -> tuple[Criterion, ...]:
    weights = found.weights
    place = {name: k for k, name in enumerate(weights.names)}
    return (
        below(
            f"{HARMLESS}: cross-entropy of pairs that weights were not fitted on, below log 2",
            found.losses,
            np.log(2),
            stated="chosen",
        ),
        at_least(
            f"{HARMLESS}: correlation of the weights of two halves, mean of {found.halves.size}"
            " splits",
            found.halves.mean(),
            0.8,
            stated="chosen",
        ),
        at_least(
            f"{HARMLESS}: lower ends of the 95 % intervals of apologies and first person",
            weights.low[[place["apologies"], place["first person"]]],
            0.0,
            stated="chosen",
        ),
        at_most(
            f"{HARMLESS}: upper end of the 95 % interval of length",
            weights.high[place["length"]],
            0.0,
            stated="chosen",
            paper="length has .48 where people ask for advice",
        ),
        holds(
            f"{HARMLESS}: properties that people are not seen to look at",
            [weights.low[place[name]] < 0 < weights.high[place[name]] for name in NOT_SEEN],
            f"0 inside the 95 % intervals of {', '.join(NOT_SEEN)}",
            stated="chosen",
        ),
    )


NOT_SEEN = ("questions", "hedges", "sentiment")


def criteria_of_raters(found: Raters) -> tuple[Criterion, ...]:
    return (
        at_least(
            f"{SOUND}: mean correlation of the weights of a rater before and after, less that with"
            " other raters",
            found.own.mean() - found.others,
            0.03,
            stated="chosen",
        ),
        at_most(
            f"{SOUND}: share of random pairings of raters as alike as each with themselves",
            found.chance,
            0.01,
            stated="chosen",
        ),
    )


def criteria_of_schools(found: dict[str, Weights]) -> tuple[Criterion, ...]:
    return (
        at_least(
            f"{SCHOOLS}: lower end of the 95 % interval of what speakers add to the school of their"
            f" language ({', '.join(f'{k}: {v}' for k, v in SPOKEN.items())})",
            [weights.low[weights.names.index(SPOKEN[k])] for k, weights in found.items()],
            0.5,
            stated="chosen",
        ),
    )


# --- the table ---


def row_of(data: str, what: str, measure: str, value: float | str) -> Row:
    return {"data": data, "of": what, "measure": measure, "value": value}


def not_run(data: str) -> Row:
    return row_of(data, "", "not run", "no such judgements")


def rows_of_drawn(families: list[Families], judges: list[WonOver]) -> list[Row]:
    parts = [within_and_between(family.alike()) for family in families]
    rows = []
    for name, values in zip(("one family", "two families"), zip(*parts, strict=True), strict=True):
        pooled = np.concatenate(values)
        rows.append(row_of(DRAWN, name, "mean correlation of weights", float(pooled.mean())))
        rows.append(row_of(DRAWN, name, "least correlation of weights", float(pooled.min())))
        rows.append(row_of(DRAWN, name, "largest correlation of weights", float(pooled.max())))
    wins = np.stack([judge.wins for judge in judges])
    for name, value in zip(("least", "none", "most"), wins.mean(axis=0), strict=True):
        what = f"{CHANGED} properties it likes {name}" if name != "none" else "nothing added"
        rows.append(row_of(DRAWN, what, "mean win rate", float(value)))
    return rows


def weight_rows(data: str, prefix: str, weights: Weights) -> list[Row]:
    rows = []
    for name, *numbers in zip(*weights, strict=True):
        mean, low, high = (float(x) for x in numbers)
        what = f"{prefix}{name}"
        rows.append(row_of(data, what, "weight", mean))
        rows.append(row_of(data, what, "95 % interval", f"{low:.3f} to {high:.3f}"))
    return rows


def rows_of_harmless(found: Harmless) -> list[Row]:
    data = f"{HARMLESS}, {found.pairs:,} pairs"
    return [
        *weight_rows(data, "", found.weights),
        row_of(data, "two halves", "mean correlation of weights", float(found.halves.mean())),
        row_of(data, "two halves", "least correlation of weights", float(found.halves.min())),
        row_of(data, "two halves", "held-out cross-entropy", float(found.losses.mean())),
    ]


def rows_of_raters(found: Raters) -> list[Row]:
    turned = int((found.own < 0).sum())
    return [
        row_of(SOUND, "before and after", "mean correlation, same rater", float(found.own.mean())),
        row_of(SOUND, "before and after", "median, same rater", float(np.median(found.own))),
        row_of(SOUND, "before and after", "mean correlation, another", float(found.others)),
        row_of(SOUND, "before and after", f"raters of {found.own.size} who turned round", turned),
        row_of(SOUND, "random pairings", "share as alike", float(found.chance)),
    ]


def rows_of_schools(found: dict[str, Weights]) -> list[Row]:
    return [
        row
        for language, weights in found.items()
        for row in weight_rows(SCHOOLS, f"{language} speakers more for ", weights)
    ]
