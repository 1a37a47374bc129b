"""Labels of noisy people and of a biased model, routed by a predicted score; labels of listeners.

Judgements by people come from a folder with real data; without them that part is not run. Every row
says whose labels its number comes from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.robust.hybrid_routing.listeners import (
    OTHERS,
    OWN,
    RANDOM_HALF,
    ROUTED_HALF,
    SOUND,
    Listeners,
    listen,
)
from paper_repros.robust.hybrid_routing.pool import (
    HUMAN_ONLY,
    HYBRID,
    MODEL_ONLY,
    RANDOM,
    SIMULATED,
    WORTHWHILE,
    Routed,
    route,
)
from prefsim.papers import Reproduction, Run, at_least, at_most, below, between, holds, near, panels
from prefsim.papers.criteria import Criterion
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE
from prefsim.solvers.performance_model import PerformanceModel, route_greedily

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, str | float | int]
DRAWN = "labels drawn here"

# Mean scores of twenty pools in another implementation, and four deviations of the score of one.
KNOWN = {
    MODEL_ONLY: (81.07, 20.0),
    RANDOM: (91.56, 8.5),
    HYBRID: (96.67, 5.5),
    HUMAN_ONLY: (95.92, 6.5),
}


def reproduce(run: Run) -> Reproduction:
    pools, shares = (8, 3) if run.quick else (20, 11)
    rng = np.random.default_rng(run.seed)
    at = tuple(np.linspace(0, 1, shares).tolist())
    found = [route(rng, at) for _ in run.progress(range(pools), "pools")]
    listeners = None
    if run.data is not None:
        listeners = listen(run.data, every=4 if run.quick else 1, seed=run.seed)
    criteria = (
        *criteria_of_pools(found),
        criterion_of_greed(),
        *(criteria_of_listeners(listeners) if listeners else ()),
    )
    table = [
        *rows_of_pools(found),
        *(
            rows_of_listeners(listeners)
            if listeners
            else [row_of(SOUND, "", "not run", "no such judgements")]
        ),
    ]
    cut = "8 pools rather than 20, 3 shares rather than 11, every fourth listener"
    return Reproduction(draw(found, listeners), table, criteria, caption=CAPTION, cut=cut)


def scores_of(found: list[Routed], name: str) -> np.ndarray:
    """Return the scores of one routing, one for each pool."""
    return np.array([routed.scores[name] for routed in found])


# --- criteria ---


def criteria_of_pools(found: list[Routed]) -> tuple[Criterion, ...]:
    hybrid, n = scores_of(found, HYBRID), len(found)
    biased, all_ = np.array([routed.biased for routed in found]).T
    ranks = np.array([routed.rank_correlation for routed in found])
    return (
        at_least(
            "mean score of the largest gains less that of the model alone",
            np.mean(hybrid - scores_of(found, MODEL_ONLY)),
            8.0,
            stated="chosen",
            paper="better than either source",
        ),
        at_least(
            f"share of {n} pools in which the largest gains beat a random half",
            np.mean(hybrid > scores_of(found, RANDOM)),
            0.6,
            stated="chosen",
            paper="7 to 13 points on RewardBench",
        ),
        at_least(
            "mean score of the largest gains, of all positive gains and of the simulated routing"
            " less that of people alone",
            [
                np.mean(scores_of(found, name) - scores_of(found, HUMAN_ONLY))
                for name in (HYBRID, WORTHWHILE, SIMULATED)
            ],
            -1.0,
            stated="chosen",
            paper="better than either source",
        ),
        *(
            near(
                f"mean score, {name}",
                scores_of(found, name).mean(),
                known,
                within=spread / np.sqrt(n),
                stated="derived",
            )
            for name, (known, spread) in KNOWN.items()
        ),
        below(
            "share of all pairs on which the model is biased below that of the pairs that people"
            " label, each pool",
            all_,
            biased,
            stated="derived",
        ),
        near(
            "share of such pairs among those that people label, mean",
            biased.mean(),
            0.706,
            within=0.05,
            stated="derived",
        ),
        at_least(
            "rank correlation of predicted and measured scores of unseen routings: mean",
            ranks.mean(),
            0.8,
            stated="chosen",
        ),
        at_most(
            "root mean square error of predicted scores of unseen routings, mean, in points",
            np.mean([routed.error for routed in found]),
            4.0,
            stated="chosen",
        ),
        at_most(
            "predicted score of the largest gains, less the intercept and their sum",
            max(routed.unexplained for routed in found),
            1e-9,
            stated="derived",
        ),
    )


def criterion_of_greed() -> Criterion:
    """Return what marginal gains reach where the largest gains are not the best."""
    model = PerformanceModel(0.0, np.array([3.0, 2.5]), -np.eye(2))
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    return holds(
        "three instances, quadratic model",
        [route_greedily(model, features, 2).tolist() == [True, False, True]],
        "marginal gains take one instance of each feature",
        stated="derived",
    )


def criteria_of_listeners(found: Listeners) -> tuple[Criterion, ...]:
    own, another = own_and_another(found)
    gain = found.accuracy[ROUTED_HALF] - found.accuracy[RANDOM_HALF]
    return (
        at_least(
            f"{SOUND}: share of {own.size} listeners whose own labels predict them better than"
            " another's do in the mean",
            np.mean(own > another),
            0.8,
            stated="chosen",
        ),
        between(
            f"{SOUND}: accuracy of own labels less that of what most others said, mean",
            np.mean(own - found.pooled),
            0.0,
            0.03,
            stated="chosen",
        ),
        at_most(
            f"{SOUND}: gain of routing over a random half in accuracy, distance of the mean from 0"
            f" in standard errors ({gain.size} listeners)",
            np.abs(gain.mean()) / (gain.std(ddof=1) / np.sqrt(gain.size)),
            3.0,
            stated="chosen",
            paper="hybrid beats random",
        ),
    )


def own_and_another(found: Listeners) -> tuple[np.ndarray, np.ndarray]:
    """Return how well own labels predict each listener, and labels of another in the mean."""
    own = np.diagonal(found.helped)
    return own, (found.helped.sum(axis=1) - own) / (own.size - 1)


# --- the table ---


def row_of(data: str, labels: str, measure: str, value: float | str) -> Row:
    return {"data": data, "labels": labels, "measure": measure, "value": value}


def rows_of_pools(found: list[Routed]) -> list[Row]:
    data = f"{DRAWN}, {len(found)} pools"
    ranks = np.array([routed.rank_correlation for routed in found])
    return [
        *(
            row_of(data, name, "mean score, % in order", float(scores_of(found, name).mean()))
            for name in found[0].scores
        ),
        row_of(data, "unseen routings", "mean rank correlation", float(ranks.mean())),
        row_of(data, "unseen routings", "least rank correlation", float(ranks.min())),
    ]


def rows_of_listeners(found: Listeners) -> list[Row]:
    own, another = own_and_another(found)
    data = f"{SOUND}, {own.size} listeners"
    rows = [
        row_of(data, OWN, "mean accuracy, all later judgements", float(own.mean())),
        row_of(
            data,
            "labels of one other",
            "mean accuracy, all later judgements",
            float(another.mean()),
        ),
        row_of(data, OTHERS, "mean accuracy, all later judgements", float(found.pooled.mean())),
        row_of(
            data,
            OTHERS,
            "listeners whom they help more than their own",
            int((found.pooled > own).sum()),
        ),
    ]
    size = found.accuracy[OWN].size
    for name, accuracy in found.accuracy.items():
        error = accuracy.std(ddof=1) / np.sqrt(size)
        shown = f"{accuracy.mean():.4f} ± {error:.4f}"
        rows.append(row_of(data, name, f"mean accuracy of {size}, half of the judgements", shown))
    gain = found.accuracy[ROUTED_HALF] - found.accuracy[RANDOM_HALF]
    shown = f"{gain.mean():.4f} ± {gain.std(ddof=1) / np.sqrt(size):.4f}"
    rows.append(row_of(data, ROUTED_HALF, "gain over a random half", shown))
    return rows


# --- the figure ---

COLOURS = {HYBRID: BLUE, RANDOM: "0.5", MODEL_ONLY: ORANGE, HUMAN_ONLY: GREEN}


CAPTION = (
    "Test pairs that the learned reward puts in order, in per cent; higher is better. Left: by the"
    " share of pairs that people label, where the model labels the rest; thin lines are single"
    " pools. Right of it: each routing's pools (dots) and their mean. Where judgements of listeners"
    " are at hand, the last panel shows how well labels predict what each listener says later."
)


def draw(found: list[Routed], listeners: Listeners | None) -> Figure:
    without = "" if listeners else " (labels by people: not run, they are not at hand)"
    figure, axes = panels(
        1,
        3 if listeners else 2,
        title=(
            "Labels by people pay most where the model is biased: half of the labels, routed, are"
            f" worth no less than all{without}"
        ),
        width=5.4,
    )
    draw_curves(axes[0, 0], found)
    draw_pools(axes[0, 1], found)
    if listeners:
        draw_listeners(axes[0, 2], listeners)
    return figure


def draw_curves(axes: Axes, found: list[Routed]) -> None:
    for name, marker in ((HYBRID, "o"), (RANDOM, "s")):
        curves = np.array([list(routed.curves[name].values()) for routed in found])
        at = 100 * np.array(list(found[0].curves[name]))
        axes.plot(at, curves.T, color=COLOURS[name], lw=0.6, alpha=0.3)
        axes.plot(at, curves.mean(axis=0), marker=marker, color=COLOURS[name], lw=2.2, label=name)
    axes.set(
        xlabel="pairs labelled by people (%)",
        ylabel="test pairs in order (%)",
        title="Score by the share of labels by people",
    )
    axes.legend(frameon=False, loc="lower right")


def draw_pools(axes: Axes, found: list[Routed]) -> None:
    names = list(found[0].scores)
    for place, name in enumerate(names):
        scores, colour = scores_of(found, name), COLOURS.get(name, PURPLE)
        axes.plot(scores, np.full(scores.size, place), "o", color=colour, ms=4, alpha=0.4)
        axes.plot(scores.mean(), place, "D", color=colour, ms=8, mec="white")
        axes.text(scores.mean(), place - 0.28, f"{scores.mean():.1f}", ha="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set(
        xlabel="test pairs in order (%)",
        title="Half of the labels by people, or as said",
        ylim=(len(names) - 0.5, -0.6),
    )


def draw_listeners(axes: Axes, found: Listeners) -> None:
    names = (OTHERS, RANDOM_HALF, ROUTED_HALF, OWN)
    for place, name in enumerate(names):
        accuracy = 100 * found.accuracy[name]
        error = 2 * accuracy.std(ddof=1) / np.sqrt(accuracy.size)
        axes.errorbar(accuracy.mean(), place, xerr=error, fmt="D", color=BLUE, capsize=3)
    labels = [name.replace("labels for", "labels\nfor") for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set(
        xlabel="later judgements predicted (%), ± 2 standard errors",
        title="Listeners: no gain of routing is seen",
        ylim=(len(names) - 0.5, -0.5),
    )
