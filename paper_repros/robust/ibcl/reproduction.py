"""What a preference selects: on a grid, of Gaussians, and on digits that are learned in sequence.

The digits are those of scikit-learn; without it that part is not run.
"""

from __future__ import annotations

import numpy as np

from paper_repros.robust.ibcl.digit_tasks import (
    CREDAL,
    LAST,
    LEVELS,
    METHODS,
    REFIT,
    SINGLE,
    THRESHOLDS,
    SplitResult,
    study_digits,
)
from paper_repros.robust.ibcl.exact_tasks import (
    THRESHOLD,
    TRUTHS,
    VERTICES,
    WANTED,
    GridWorld,
    Line,
    grid_world,
    line,
    lost_of,
)
from paper_repros.robust.ibcl.picture import CAPTION, draw
from prefsim.analysis.intervals import mean_half_width
from prefsim.papers import Reproduction, Run, at_least, at_most, near, rising
from prefsim.papers.criteria import Criterion

Row = dict[str, str | float | int]


def reproduce(run: Run) -> Reproduction:
    worlds, lines, splits, width = (30, 30, 4, 40) if run.quick else (300, 300, 20, 100)
    base = 1000 * run.seed
    grid = [grid_world(seed) for seed in run.progress(range(base, base + worlds), "worlds")]
    gaussians = [line(seed) for seed in range(base, base + lines)]
    digits = study_digits(width, range(base, base + splits), run)
    criteria = (
        *criteria_of_grid(grid),
        *criteria_of_gaussians(gaussians),
        *(criteria_of_digits(digits) if digits else ()),
    )
    table = [
        *rows_of_grid(grid),
        *rows_of_gaussians(gaussians),
        *(rows_of_digits(digits) if digits else [row("digits", "", "not run", "no scikit-learn")]),
    ]
    figure = draw(grid[0].scores, grid[0].score_of, lost_of(grid), digits)
    cut = (
        "30 worlds and 30 lines rather than 300, 4 splits of digits rather than 20, smaller"
        " networks"
    )
    return Reproduction(figure, table, criteria, caption=CAPTION, cut=cut)


def stacked(grid: list[GridWorld], field: str) -> np.ndarray:
    return np.stack([np.asarray(getattr(world, field)) for world in grid])


# --- criteria ---


def criteria_of_grid(grid: list[GridWorld]) -> tuple[Criterion, ...]:
    bent = [world.scores - WANTED @ world.scores[VERTICES] for world in grid]
    moved = stacked(grid, "moved")
    lost = lost_of(grid)
    return (
        at_least(
            f"grid: what regions hold beyond 1 − α, {len(WANTED)} preferences",
            stacked(grid, "held"),
            -1e-12,
            stated="paper",
            paper="the preferred parameter is inside with probability 1 − α or more",
        ),
        at_most(
            "grid: the same without the least probable point",
            stacked(grid, "bare"),
            1e-12,
            stated="derived",
        ),
        at_most(
            "grid: likelihoods that were evaluated for preferences",
            np.diff(stacked(grid, "evaluations"), axis=-1),
            0,
            stated="paper",
            paper="zero-shot",
        ),
        at_most(
            "grid: distance of expected log-likelihoods from linear in the preference",
            np.abs(bent),
            1e-12,
            stated="derived",
        ),
        at_most(
            "grid: all weight on the last task, distance from the posterior of all data",
            stacked(grid, "of_all"),
            1e-12,
            stated="derived",
        ),
        at_least(
            "grid: and from that of the last task's data alone, mean",
            stacked(grid, "of_last").mean(),
            0.3,
            stated="chosen",
        ),
        at_most(
            "grid: how far θ > 0 is outside its lower and upper probability",
            stacked(grid, "outside"),
            1e-12,
            stated="derived",
        ),
        at_most(
            "grid: posterior of mixed priors, weights by evidence",
            moved[:, 0],
            1e-12,
            stated="derived",
        ),
        at_least(
            "grid: mean loss on the second task with all weight on it, less that with all on the"
            " third, nats an example",
            (lost[:, 1, 1] - lost[:, 2, 1]).mean(),
            0.01,
            stated="chosen",
        ),
        at_most(
            "grid: all weight on the last task, share of worlds whose 90 % region holds its true"
            " parameter",
            stacked(grid, "inside")[:, -1].mean(),
            0.3,
            stated="chosen",
            paper="the preferred parameter is inside (one drawn from the mixture)",
        ),
    )


def criteria_of_gaussians(gaussians: list[Line]) -> tuple[Criterion, ...]:
    held = np.stack([each.held for each in gaussians])
    away = np.stack([each.away for each in gaussians])
    return (
        at_most(
            "Gaussians: posteriors of tasks in sequence, distance from those of their data at once",
            [each.sequence for each in gaussians],
            1e-12,
            stated="derived",
        ),
        near(
            "Gaussians: what 90 % regions of mixtures and equal tails hold, less 90 %",
            [each.missed for each in gaussians],
            0.0,
            within=1e-10,
            stated="derived",
        ),
        at_least(
            "Gaussians: length of equal tails, less that of the region",
            [each.shorter for each in gaussians],
            -1e-12,
            stated="derived",
        ),
        near(
            "Gaussians: deviation of the mixture, less that by the barycentre and the variances of"
            " means and deviations",
            [each.wider for each in gaussians],
            0.0,
            within=1e-12,
            stated="derived",
        ),
        near(
            "Gaussians: what a box of 90 % of the barycentre holds of it, less the box's mass",
            held[:, 0],
            0.0,
            within=1e-12,
            stated="derived",
        ),
        at_most(
            "Gaussians: what it holds of the mixture that the barycentre stands for, mean",
            held[:, 1].mean(),
            0.88,
            stated="chosen",
            paper="one Gaussian in the place of the mixture (the authors' code)",
        ),
        at_most(
            f"Gaussians: distance of posteriors from their stand-ins, threshold {THRESHOLD}",
            away[:, 0],
            THRESHOLD,
            stated="paper",
        ),
        at_least(
            "Gaussians: distance of extremes from each other",
            # Where one extreme stands for all there is no distance.
            away[np.isfinite(away[:, 1]), 1],
            THRESHOLD,
            stated="derived",
        ),
    )


def criteria_of_digits(found: SplitResult) -> tuple[Criterion, ...]:
    of = dict(zip(METHODS, found.preferred.T, strict=True))
    return (
        at_most(
            "digits: pull of the data less that of the prior at the first mode",
            found.left,
            1e-6,
            stated="derived",
        ),
        at_least(
            "digits: accuracy weighted as preferred, less that of the last task alone",
            np.mean(of[CREDAL] - of[SINGLE]),
            0.08,
            stated="chosen",
            paper="+23 % average and +15 % peak accuracy over baselines",
        ),
        at_least(
            "digits: that of a refit for each preference, less that of the credal set",
            np.mean(of[REFIT] - of[CREDAL]),
            0.02,
            stated="chosen",
        ),
        at_most(
            "digits: accuracy of the last posterior on tasks before, less that with all weight on"
            " them, which is as when they were learned",
            np.mean(found.later - found.learned),
            -0.05,
            stated="chosen",
            paper="near-zero or positive backward transfer",
        ),
        rising(
            f"digits: spread of models drawn at kept masses {', '.join(map(str, LEVELS))}",
            found.spread.mean(axis=0),
            stated="derived",
        ),
        at_least(
            "digits: weighted accuracy of models drawn at the least kept mass, less that at the"
            " largest",
            np.mean(found.at_level[:, 0] - found.at_level[:, -1]),
            0.1,
            stated="chosen",
        ),
        at_least(
            "digits: that of models at the largest kept mass whose weights are drawn apart, less"
            " that of models moved by one number",
            np.mean(found.at_level_apart[:, -1] - found.at_level[:, -1]),
            0.05,
            stated="chosen",
        ),
    )


# --- the table ---


def row(part: str, case: str, what: str, value: float | str, spread: float | str = "") -> Row:
    value, spread = (x if isinstance(x, str) else round(float(x), 4) for x in (value, spread))
    return {"part": part, "case": case, "what": what, "value": value, "±": spread}


def mean_row(part: str, case: str, what: str, values: np.ndarray) -> Row:
    return row(part, case, what, values.mean(), mean_half_width(values))


def rows_of_grid(grid: list[GridWorld]) -> list[Row]:
    lost, inside, moved = lost_of(grid), stacked(grid, "inside"), stacked(grid, "moved")
    alone = stacked(grid, "lost_alone")
    what = "nats an example lost to the best parameter"
    rows = [
        mean_row("grid", f"all weight on task {i + 1}, task {k + 1}", what, lost[:, i, k])
        for i in range(len(TRUTHS))
        for k in range(len(TRUTHS))
    ]
    rows += [
        mean_row("grid", f"data of task {k + 1} alone, task {k + 1}", what, alone[:, k])
        for k in range(len(TRUTHS))
    ]
    rows += [
        row(
            "grid",
            f"all weight on task {k + 1}",
            "share of worlds whose 90 % region holds the task's parameter",
            inside[:, k].mean(),
        )
        for k in range(len(TRUTHS))
    ]
    rows.append(
        mean_row(
            "grid",
            "posterior of mixed priors",
            "total variation of equal weights from weights by evidence",
            moved[:, 1],
        )
    )
    return rows


def rows_of_gaussians(gaussians: list[Line]) -> list[Row]:
    held = np.stack([each.held for each in gaussians])[:, 1]
    shorter = np.asarray([each.shorter for each in gaussians])
    return [
        mean_row("Gaussians", "box of 90 % of the barycentre", "mass of the mixture in it", held),
        mean_row("Gaussians", "regions of 90 %", "length less than of equal tails", shorter),
    ]


def rows_of_digits(found: SplitResult) -> list[Row]:
    rows = []
    measures = {
        "accuracy weighted as preferred": found.preferred,
        "mean accuracy over tasks": found.average,
        "peak accuracy over tasks": found.peak,
    }
    for what, values in measures.items():
        credal = values[:, METHODS.index(CREDAL)]
        for name, column in zip(METHODS, values.T, strict=True):
            rows.append(mean_row("digits", name, what, column))
            if name != CREDAL:
                rows.append(mean_row("digits", f"credal set less {name}", what, credal - column))
    rows += [
        mean_row("digits", "all weight on a task", "accuracy on it, the last apart", found.learned),
        mean_row("digits", LAST, "accuracy on tasks before", found.later),
        mean_row("digits", LAST, "backward transfer", found.later - found.learned),
    ]
    for k, level in enumerate(LEVELS):
        case = f"kept mass {level:g}"
        rows.append(mean_row("digits", case, "deviation of weights", found.spread[:, k]))
        rows.append(mean_row("digits", case, "weighted accuracy", found.at_level[:, k]))
        rows.append(
            mean_row(
                "digits", f"{case}, weights apart", "weighted accuracy", found.at_level_apart[:, k]
            )
        )
    rows += [
        mean_row("digits", f"threshold {each:g}", "extremes kept of 15", found.kept[:, k])
        for k, each in enumerate(THRESHOLDS)
    ]
    return rows
