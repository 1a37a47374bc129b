"""Rewards learned from labels by people (where they are at hand), by simulated raters, and in gym.

People's labels come from a folder with real data; everything else needs none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paper_repros.mdp.regret_preference.delivery import (
    EARLY,
    MODELS,
    Boards,
    held_out,
    human,
    learn_from_parts,
    learn_on_boards,
    margins,
    share_near_optimal,
)
from paper_repros.mdp.regret_preference.recorded import ENVIRONMENTS, Recorded, learn_from_recorded
from prefsim.data.delivery import HumanComparisons
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    below,
    near,
    panels,
)
from prefsim.papers.criteria import Criterion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Cross-entropy of held-out human labels by partial return and by regret, computed from the same
# files by other code.
HUMAN_LOSSES = {
    "Privileged-Control": (0.6202, 0.5732),
    "Trained-Control": (0.5268, 0.4368),
    "Question-Control": (0.5307, 0.4839),
}

Curve = dict[int, dict[str, np.ndarray]]
Row = dict[str, str | float | int]


class People(NamedTuple):
    """What is learned from labels by people.

    Attributes
    ----------
    gap
        Largest difference between recorded and replayed returns and values.
    losses
        Cross-entropy of held-out labels of both models, and the number of labels, by condition.
    curve
        Scaled returns of what disjoint parts of the labels teach, by their size.
    """

    gap: float
    losses: dict[str, tuple[dict[str, float], int]]
    curve: Curve


def replay_gap(people: HumanComparisons) -> float:
    """Return the largest difference between what was recorded of the segments and their replay."""
    total, start, end = people.statistics.T  # second minus first
    replayed = margins(people.segments)
    gaps = replayed["partial return"] + total, replayed["regret"] + total + end - start
    return float(np.abs(gaps).max())


def learn_from_people(run: Run) -> People | None:
    """Return what human labels teach, or None where there are none."""
    people = human(run.data)
    if people is None:
        return None
    segments, losses = people.segments, {}
    for condition in HUMAN_LOSSES:
        found = human(run.data, condition)
        if found is not None:
            losses[condition] = held_out(found.segments), len(found.segments)
    restarts, counts = (3, (20, 5, 1)) if run.quick else (5, (20, 10, 5, 2, 1))
    curve = {
        len(segments) // parts: learn_from_parts(
            segments, parts, restarts=restarts, iterations=300, seed=100 + run.seed
        )
        for parts in run.progress(counts, "parts of the human labels")
    }
    return People(replay_gap(people), losses, curve)


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
    taught = learn_from_raters(run)
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
        at_least(
            "labels by regret: lead of the regret model in the share of near-optimal policies, for"
            " each number of labels",
            leads,
            0.0,
            stated="paper",
        ),
        below(
            "labels by regret and by partial return: cross-entropy of their own model below that of"
            " the other",
            [most["regret"]["regret"], most["partial return"]["partial return"]],
            [most["regret"]["partial return"], most["partial return"]["regret"]],
            stated="derived",
        ),
        *(
            at_most(
                f"{name}: share of the optimal return that the regret model misses after"
                f" {max(sizes)} recorded comparisons",
                np.abs(1 - world.returns[max(sizes)]["regret"] / world.optimum),
                1e-6,
                stated="derived",
            )
            for name, world in recorded.items()
        ),
    )
    table = [
        *(rows_of(people) if people else ()),
        *(
            row
            for source, curve in curves.items()
            for row in share_rows(f"simulated rater by {source}", curve)
        ),
        *(
            row_of(name, model, n, "return", returns[model])
            for name, world in recorded.items()
            for n, returns in world.returns.items()
            for model in MODELS
        ),
    ]
    return Reproduction(draw(people, curves, recorded), table, criteria)


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


def row_of(part: str, model: str, labels: int, measure: str, value: float) -> Row:
    return {"part": part, "model": model, "labels": labels, "measure": measure, "value": value}


def share_rows(part: str, curve: Curve) -> Iterator[Row]:
    """Yield a row for each number of labels and model."""
    for n, by_model in curve.items():
        for model, returns in by_model.items():
            yield row_of(part, model, n, "share near-optimal", share_near_optimal(returns))


def rows_of(people: People) -> Iterator[Row]:
    """Yield what the table says of labels by people."""
    for condition, (losses, n) in people.losses.items():
        for model, value in losses.items():
            yield row_of(f"people, {condition}", model, n, "held-out cross-entropy", value)
    yield from share_rows("people", people.curve)


# --- the figure ---

COLOURS = {"partial return": "tab:orange", EARLY: "tab:red", "regret": "tab:blue"}


def draw(people: People | None, curves: dict[str, Curve], recorded: dict[str, Recorded]) -> Figure:
    figure, axes = panels(
        2 if people else 1,
        2,
        title="Rewards learned from compared segments, by regret or by partial return",
        width=6.0,
    )
    if people:
        draw_losses(axes[0, 0], people)
        draw_shares(axes[0, 1], {"regret": people.curve}, title="Labels by people, delivery task")
    draw_shares(axes[-1, 0], curves, title="Labels by simulated raters, random 5 x 5 boards")
    draw_recorded(axes[-1, 1], recorded)
    return figure


def count_axis(axes: Axes, sizes: list[int], label: str) -> None:
    """Count labels on a logarithmic axis."""
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.minorticks_off()
    axes.set_xlabel(label)


def draw_losses(axes: Axes, people: People) -> None:
    places, conditions = np.arange(len(people.losses)), list(people.losses)
    for i, model in enumerate(MODELS):
        at = places + 0.4 * i - 0.2
        heights = [losses[model] for losses, _ in people.losses.values()]
        bars = axes.bar(at, heights, 0.36, color=COLOURS[model], label=f"{model} model")
        axes.bar_label(bars, fmt="%.4f", label_type="center", color="white")
        expected = [HUMAN_LOSSES[condition][i] for condition in conditions]
        label = "computed by other code" if i else None
        axes.scatter(at, expected, marker="D", color="black", zorder=3, label=label)
    axes.axhline(math.log(2), color="grey", linestyle="--", label="uninformed (log 2)")
    axes.set_xticks(places, conditions)
    axes.set(
        xlim=(-0.6, len(conditions) - 0.4),
        ylim=(0.4, 0.8),
        ylabel="held-out cross-entropy (nats)",
        title="Labels by people: prediction, one scale fitted",
    )
    axes.legend(fontsize=8, loc="upper right", ncols=2)


def draw_shares(axes: Axes, curves: dict[str, Curve], *, title: str) -> None:
    several = len(curves) > 1
    for source, curve in curves.items():
        style: dict[str, Any] = {"ls": "-", "marker": "o", "alpha": 1.0}
        if source != "regret":
            style = {"ls": "--", "marker": "s", "alpha": 0.6}
        sizes = sorted(curve)
        for model, colour in COLOURS.items():
            if model not in curve[sizes[0]]:
                continue
            shares = [100 * share_near_optimal(curve[n][model]) for n in sizes]
            name = model if model == EARLY else f"{model} model"
            label = f"{name}, labels by {source}" if several else name
            axes.plot(sizes, shares, color=colour, label=label, clip_on=False, **style)
    count_axis(axes, sorted(next(iter(curves.values()))), "comparisons to learn from")
    axes.set(ylabel="policies with scaled return > 0.9 (%)", ylim=(0, 105), title=title)
    axes.legend(fontsize=8, loc="lower right" if several else "lower left")


def draw_recorded(axes: Axes, recorded: dict[str, Recorded]) -> None:
    for style, (name, world) in zip(("-o", "--s"), recorded.items(), strict=True):
        for model in MODELS:
            lost = [
                100 * (world.optimum - returns[model]) / abs(world.optimum)
                for returns in world.returns.values()
            ]
            label = f"{model} model, {name.split('-')[0]}"
            axes.plot(
                list(world.returns), lost, style, color=COLOURS[model], label=label, clip_on=False
            )
    sizes = sorted(next(iter(recorded.values())).returns)
    count_axis(axes, sizes, "comparisons recorded in the environment")
    axes.set(
        ylabel="return lost against the optimum (%)",
        ylim=(0, None),
        title="gymnasium, rater by regret: distance to the optimum",
    )
    axes.legend(fontsize=8, loc="upper right")
