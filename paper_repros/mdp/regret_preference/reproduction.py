"""Rewards learned from labels by people (where they are at hand), by simulated raters, and in gym.

People's labels come from a folder with real data; without them that part is not run. Every row says
whose labels its number comes from.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paper_repros.mdp.regret_preference.delivery import (
    EARLY,
    HUMAN_LOSSES,
    MODELS,
    PEOPLE,
    Boards,
    Curve,
    People,
    Simulated,
    Taught,
    learn_by_each,
    learn_from_people,
    learn_on_boards,
    share_near_optimal,
    simulate_study,
)
from paper_repros.mdp.regret_preference.figure import CAPTION, draw
from paper_repros.mdp.regret_preference.instances import LIBRARY
from paper_repros.mdp.regret_preference.recorded import ENVIRONMENTS, learn_from_recorded
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    near,
)
from prefsim.papers.criteria import Criterion

Row = dict[str, str | float | int]


def learn_from_raters(run: Run) -> dict[str, dict[int, Boards]]:
    """Return what simulated raters teach on random boards, by their model and number of labels."""
    boards, restarts, sizes = (
        (12, 1, (3, 30, 300)) if run.quick else (30, 2, (3, 10, 30, 100, 300, 1000, 3000))
    )
    seeds = range(1000 * run.seed, 1000 * run.seed + boards)
    taught: dict[str, dict[int, Boards]] = {"regret": {}, "partial return": {}}
    cases = [(source, n) for source in taught for n in sizes]
    for source, n in run.progress(cases, "simulated raters"):
        taught[source][n] = learn_on_boards(seeds, source, n, restarts=restarts)
    return taught


def reproduce(run: Run) -> Reproduction:
    people = learn_from_people(run)
    simulated = {model: simulate_study(model, run.seed) for model in MODELS}
    taught = learn_from_raters(run)
    boards, iterations, restarts = (5, 500, 0) if run.quick else (30, 5000, 2)
    seeds = range(boards * run.seed, boards * (run.seed + 1))
    algorithms = [
        learn_by_each(seed, 300, iterations=iterations, restarts=restarts)
        for seed in run.progress(seeds, "algorithms")
    ]
    sizes = (30, 300) if run.quick else (30, 100, 300, 1000, 3000)
    recorded = {
        name: learn_from_recorded(name, run.progress(sizes, name), seed=run.seed)
        for name in ENVIRONMENTS
    }
    curves = {
        source: {n: boards.returns for n, boards in by_size.items()}
        for source, by_size in taught.items()
    }

    leads = [
        share_near_optimal(returns["regret"]) - share_near_optimal(returns["partial return"])
        for returns in curves["regret"].values()
    ]
    most = {source: by_size[max(by_size)].losses for source, by_size in taught.items()}
    criteria = (
        *(criteria_of(people) if people else ()),
        *criteria_of_simulated(simulated),
        near(
            "random boards: reported value of a fit over the mean loss at its weights, by model",
            [[fit.reported / fit.found for fit in by_model.values()] for by_model in algorithms],
            1.0,
            within=1e-6,
            stated="derived",
        ),
        below(
            "random boards, labels by regret: mean cross-entropy that algorithm 1 reaches below"
            " that of partial return",
            mean_of(algorithms, LIBRARY, "reported"),
            mean_of(algorithms, "partial return", "reported"),
            stated="chosen",
        ),
        at_least(
            "random boards, labels by regret: lead of the regret model in the share of near-optimal"
            " policies, for each number of labels",
            leads,
            0.0,
            stated="paper",
        ),
        below(
            "random boards, labels by regret and by partial return: cross-entropy of their own"
            " model below that of the other",
            [most["regret"]["regret"], most["partial return"]["partial return"]],
            [most["regret"]["partial return"], most["partial return"]["regret"]],
            stated="derived",
        ),
        *(
            at_most(
                f"{name}, labels by regret: share of the optimal return that the regret model"
                f" misses after {max(sizes)} recorded comparisons",
                np.abs(1 - world.returns[max(sizes)]["regret"] / world.optimum),
                0.02,
                stated="chosen",
            )
            for name, world in recorded.items()
        ),
    )
    table = [
        *(rows_of(people) if people else [row_of(PEOPLE.name, "", 0, "not run", "no such labels")]),
        *rows_of_simulated(simulated),
        *(
            row
            for source, curve in curves.items()
            for row in share_rows(f"simulated rater by {source}, random boards", curve)
        ),
        *rows_of_algorithms(algorithms),
        *(
            row_of(f"simulated rater by regret, {name}", model, n, "return", returns[model])
            for name, world in recorded.items()
            for n, returns in world.returns.items()
            for model in MODELS
        ),
    ]
    cut = (
        "12 random boards rather than 30 and up to 300 labels rather than 3,000, 5 boards for the"
        " algorithms rather than 30, one restart and two sizes of the human labels"
    )
    return Reproduction(
        draw(people, simulated, curves, algorithms, recorded), table, criteria, CAPTION, cut
    )


def mean_of(algorithms: list[dict[str, Taught]], model: str, part: str) -> float:
    """Return the mean over boards of what a model's fits report, or of what they teach."""
    return float(np.mean([getattr(by_model[model], part) for by_model in algorithms]))


def criteria_of_simulated(simulated: dict[str, Simulated]) -> tuple[Criterion, ...]:
    """Return what is expected of simulated raters on the board of the study."""
    return (
        below(
            "board of the study, simulated raters: held-out cross-entropy of the model that drew"
            " the labels below that of the other",
            [study.losses[model] for model, study in simulated.items()],
            [max(study.losses.values()) for study in simulated.values()],
            stated="derived",
        ),
        near(
            "board of the study, simulated raters: held-out cross-entropy less −log P of the rater",
            [study.losses[model] - study.surprise for model, study in simulated.items()],
            0.0,
            within=0.005,
            stated="derived",
        ),
    )


def criteria_of(people: People) -> tuple[Criterion, ...]:
    """Return what is expected of labels by people."""
    n, few = max(people.curve), min(people.curve)
    best = {model: float(returns[0]) for model, returns in people.curve[n].items()}
    shares = {model: share_near_optimal(r) for model, r in people.curve[few].items()}
    return (
        at_most(
            f"{n:,} human comparisons replayed: difference from recorded returns and values",
            people.gap,
            1e-9,
            stated="derived",
        ),
        *(
            near(
                f"{condition}: held-out cross-entropy of partial return and regret",
                [losses[model] for model in MODELS],
                HUMAN_LOSSES[condition],
                within=0.002,
                stated="derived",
                paper="0.62 and 0.57" if condition == "Privileged-Control" else "",
            )
            for condition, (losses, _) in people.losses.items()
        ),
        at_least(
            f"scaled return of what all {n:,} human labels teach by regret",
            best["regret"],
            0.98,
            stated="chosen",
        ),
        below(
            f"scaled return of what all {n:,} human labels teach: partial return below regret",
            best["partial return"],
            best["regret"],
            stated="paper",
        ),
        below(
            f"share of near-optimal policies from {few} human labels: partial return, fitted to the"
            " end and stopped early, below regret",
            [shares["partial return"], shares[EARLY]],
            shares["regret"],
            stated="paper",
        ),
    )


def row_of(data: str, model: str, labels: int, measure: str, value: float | str) -> Row:
    return {"data": data, "model": model, "labels": labels, "measure": measure, "value": value}


def share_rows(data: str, curve: Curve) -> Iterator[Row]:
    """Yield a row for each number of labels and model."""
    for n, by_model in curve.items():
        for model, returns in by_model.items():
            yield row_of(data, model, n, "share near-optimal", share_near_optimal(returns))


def rows_of(people: People) -> Iterator[Row]:
    """Yield what the table says of labels by people."""
    for condition, (losses, n) in people.losses.items():
        for model, value in losses.items():
            yield row_of(f"people, {condition}", model, n, "held-out cross-entropy", value)
    yield from share_rows(f"people, {next(iter(people.losses))}", people.curve)


def rows_of_simulated(simulated: dict[str, Simulated]) -> Iterator[Row]:
    """Yield what the table says of simulated raters on the board of the study."""
    for source, study in simulated.items():
        for model, value in study.losses.items():
            whose = f"simulated rater by {source}, board of the study"
            yield row_of(whose, model, 1793, "held-out cross-entropy", value)


def rows_of_algorithms(algorithms: list[dict[str, Taught]]) -> Iterator[Row]:
    """Yield what each algorithm reaches on random boards, in the mean."""
    for model in algorithms[0]:
        whose = f"simulated rater by regret, {len(algorithms)} random boards"
        for part, measure in (("reported", "cross-entropy"), ("scaled", "scaled return")):
            value = mean_of(algorithms, model, part)
            yield row_of(whose, model, 300, f"mean {measure}", value)
