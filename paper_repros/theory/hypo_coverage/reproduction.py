"""What offline pairs do not show, and who supplies it: a KL ball, a bounded reward, features."""

from __future__ import annotations

import numpy as np

from paper_repros.theory.hypo_coverage.extrapolation import (
    KINDS,
    Extrapolation,
    Found,
    drawn,
    found_in,
)
from paper_repros.theory.hypo_coverage.figure import caption, draw
from paper_repros.theory.hypo_coverage.rare_response import (
    DELTAS,
    LEVELS,
    OFFLINE,
    ONLINE,
    PROMPTS,
    Paths,
    WorstCase,
    hybrid,
    worst_case,
)
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    between,
    falling,
    near,
    rising,
)

Row = dict[str, str | float | int]


def reproduce(run: Run) -> Reproduction:
    paths = hybrid(run)
    exact, online, offline = paths.values()
    worst = worst_case()
    count = 4 if run.quick else 20
    worlds = [drawn(1 + count * run.seed + i) for i in range(count)]
    found = {
        kind: [found_in(world, kind) for world in worlds]
        for kind in run.progress(KINDS, "policies")
    }
    ladder = {kind: worlds[0].path(kind, iterations=200 if run.quick else 1000) for kind in KINDS}

    criteria = (
        rising("value J over λ", -exact.gap[-1], stated="chosen"),
        falling("divergence from the reference over λ", exact.divergence[-1], stated="chosen"),
        at_most(f"J* − J at λ = {LEVELS[-1]:g}", exact.gap[-1, -1], 1e-3, stated="chosen"),
        near(
            f"{ONLINE}, two to each of {PROMPTS} prompts a step: J* − J over that by enumeration,"
            f" λ = {', '.join(f'{level:g}' for level in LEVELS[1:])}",
            online.gap[-1, 1:] / exact.gap[-1, 1:],
            1.0,
            within=0.2,
            stated="chosen",
            paper="the gradient of the KL is estimated from online samples",
        ),
        rising(
            f"{OFFLINE} in their place, which hardly ever show the rare response: J* − J over λ",
            offline.gap[-1],
            stated="chosen",
        ),
        near(
            "coverage times δ: half the mass on the rare response, the KL ball that it is the edge"
            " of, every policy",
            np.array([worst.dpo.coverage, worst.ball, worst.every]).T * DELTAS[:, None],
            np.tile([0.5, 0.5, 1.0], (len(DELTAS), 1)),
            within=1e-9,
            stated="derived",
        ),
        near(
            "error of DPO on the data over the mean over its pairs, for each δ",
            worst.dpo.error / worst.by_pairs,
            1.0,
            within=1e-9,
            stated="derived",
        ),
        between(
            "gap of worst-case DPO over what its error and coverage allow, for each δ",
            worst.dpo.gap / worst.bounds[0],
            0.1,
            1.0,
            stated="derived",
        ),
        at_most(
            "gap of RLHF over what its error and coverage allow, for each δ",
            worst.rlhf.gap / worst.bounds[1],
            1.0,
            stated="derived",
        ),
        at_most(f"gap of RLHF at δ = {DELTAS[-1]:g}", worst.rlhf.gap[-1], 1e-6, stated="chosen"),
        at_least("least gap of worst-case DPO over δ", worst.dpo.gap, 0.5, stated="chosen"),
        at_most(
            f"log-linear: distance to π* in {count} drawn worlds",
            [case.distance for case in found["log-linear"]],
            1e-9,
            stated="derived",
            paper="recovers π*",
        ),
        below(
            "log-linear: changes of mean log π of chosen and of rejected, and 0",
            [case.changes for case in found["log-linear"]],
            0.0,
            stated="paper",
            paper="both fall",
        ),
        below(
            "tabular: unseen best response, and where it began",
            [case.best for case in found["tabular"]],
            1 / 8,
            stated="derived",
        ),
        at_least(
            "tabular: J* − J",
            [case.gap for case in found["tabular"]],
            0.01,
            stated="chosen",
        ),
    )
    table = [*rows_of_hybrid(paths), *rows_of_worlds(worlds, found), *rows_of_worst_case(worst)]
    figure = draw(paths, worst, worlds, found, ladder)
    cut = (
        "4 drawn worlds rather than 20, the same time along the gradient flow in steps ten times as"
        " long, and a fifth of it where the best response is unseen"
    )
    return Reproduction(figure, table, criteria, caption(worlds), cut)


def rows_of_hybrid(paths: dict[str, Paths]) -> list[Row]:
    return [
        {
            "experiment": f"separation, divergence by {name}",
            "case": f"λ = {level:g}",
            "π(rare)": float(path.mass[-1, k]),
            "J* − J": float(path.gap[-1, k]),
            "KL": float(path.divergence[-1, k]),
        }
        for name, path in paths.items()
        for k, level in enumerate(LEVELS)
    ]


def rows_of_worlds(worlds: list[Extrapolation], found: dict[str, list[Found]]) -> list[Row]:
    return [
        {
            "experiment": "extrapolation",
            "case": f"{kind}, world {i + 1}",
            "π(unseen best)": case.best,
            "π*(unseen best)": float(np.exp(worlds[i].optimum()[0, worlds[i].best])),
            "J* − J": case.gap,
        }
        for kind, cases in found.items()
        for i, case in enumerate(cases)
    ]


def rows_of_worst_case(worst: WorstCase) -> list[Row]:
    return [
        {
            "experiment": "worst case",
            "case": f"δ = {delta:.1e}",
            "error": float(worst.dpo.error[k]),
            "gap DPO": float(worst.dpo.gap[k]),
            "gap RLHF": float(worst.rlhf.gap[k]),
            "coverage DPO": float(worst.dpo.coverage[k]),
            "coverage RLHF": float(worst.rlhf.coverage[k]),
        }
        for k, delta in enumerate(DELTAS)
    ]
