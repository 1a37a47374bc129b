"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.mdp.pearl.clouds import (
    MISMATCHES,
    ONE,
    Transfers,
)
from paper_repros.mdp.pearl.spreads import Spreads
from paper_repros.mdp.pearl.two_tasks import MANY, SAME, SOME, Tasks
from prefsim.papers import (
    panels,
)
from prefsim.papers.figures import BLUE, GREEN, GREY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


CAPTION = (
    "Left: the share of labels that are right in the target, by how unlike the two tasks are; the"
    " dotted line is a coin. Middle: how much better than Bradley–Terry two losses with a spread"
    " rank rewards; on the line at 0 the spread gains nothing. Numbers in brackets are"
    " Bradley–Terry's own rank correlations. Right: what the whole algorithm earns in the target,"
    " scaled so that playing at random has 0 and the optimum 1; dashed, what labels of its own"
    " would earn."
)


def draw(arrived: dict[str, Transfers], spreads: Spreads, tasks: Tasks) -> Figure:
    figure, axes = panels(
        1,
        3,
        title="Labels cross to another task while the two are alike; a spread that is only kept"
        " from vanishing learns no more than Bradley–Terry",
        width=5.4,
        height=5.2,
    )
    draw_clouds(axes[0, 0], arrived)
    draw_spreads(axes[0, 1], spreads)
    draw_tasks(axes[0, 2], tasks)
    return figure


def draw_clouds(axes: Axes, arrived: dict[str, Transfers]) -> None:
    at = np.arange(len(MISMATCHES))
    for k, (label, found) in enumerate(arrived.items()):
        mean = found.accuracy.mean(axis=0)
        error = 2 * found.accuracy.std(axis=0) / np.sqrt(len(found.accuracy))
        # Side by side, as the first two are alike.
        axes.errorbar(
            at + 0.08 * (k - 1),
            mean,
            error,
            marker="os^"[k],
            color=(BLUE, VERMILION, GREEN)[k],
            capsize=3,
            label=label,
        )
    axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes.annotate("chance", (at[2], 0.5), textcoords="offset points", xytext=(0, 4), fontsize=8)
    axes.set_xticks(at, [f"{moved:g}" for moved in MISMATCHES])
    axes.set(
        xlabel="mismatch ν of the clouds (spread of a cloud is 1)",
        ylabel="share of labels that arrive (± 2 s.e.)",
        ylim=(0.45, 1.03),
        title=f"Eight points in space, {len(arrived[ONE].accuracy)} clouds",
    )
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 0.12))


def draw_spreads(axes: Axes, found: Spreads) -> None:
    names = list(found.plain)
    at = np.arange(len(names))[::-1]
    for k, (values, label, colour) in enumerate(
        (
            (found.robust, "robust reward learning", BLUE),
            (found.marginal, "likelihood of a noisy rater", VERMILION),
        )
    ):
        shown = [name for name in names if name in values]
        gains = [values[name] - found.plain[name] for name in shown]
        axes.errorbar(
            [gain.mean() for gain in gains],
            [at[names.index(name)] + 0.12 - 0.24 * k for name in shown],
            xerr=[2 * gain.std() / np.sqrt(gain.size) for gain in gains],
            fmt="os"[k],
            color=colour,
            capsize=3,
            label=label,
        )
    axes.axvline(0.0, color=GREY, linewidth=1)
    labels = [f"{name}\n(BT {found.plain[name].mean():.3f})" for name in names]
    axes.set_yticks(at, labels, fontsize=8)
    axes.set(
        xlabel="gain in rank correlation over Bradley–Terry (± 2 s.e.)",
        ylim=(-0.5, len(names) + 0.1),
        title="The expected loss cannot tell noisy labels",
    )
    axes.legend(loc="upper right", fontsize=8)


def draw_tasks(axes: Axes, found: Tasks) -> None:
    at = np.arange(len(found.moved))
    for k, (name, colour, mark) in enumerate(
        ((SAME, GREEN, "^"), (MANY, BLUE, "o"), (SOME, VERMILION, "s"))
    ):
        values = found.robust[name]
        error = 2 * values.std(axis=1) / np.sqrt(values.shape[1])
        beside = at + 0.06 * (k - 1)
        axes.errorbar(
            beside, values.mean(axis=1), error, marker=mark, color=colour, capsize=3, label=name
        )
    fewest = min(found.few)
    for label, height, line in (
        ("all labels of its own", found.oracle.mean(), "--"),
        (f"{fewest} labels of its own", found.few[fewest].mean(), "--"),
        ("at random", 0.0, ":"),
    ):
        axes.axhline(height, color=GREY, linestyle=line, linewidth=1)
        axes.annotate(
            label,
            (at[-1] + 0.95, height),
            textcoords="offset points",
            xytext=(0, 3),
            ha="right",
            fontsize=8,
        )
    axes.set_xticks(at, [f"{moved:g}" for moved in found.moved])
    axes.set(
        xlabel="mismatch ν of the tasks",
        ylabel="scaled return in the target (± 2 s.e.)",
        xlim=(at[0] - 0.3, at[-1] + 1.0),
        ylim=(axes.get_ylim()[0] - 0.4, 1.2),  # room for the legend
        title="The whole algorithm on tabular tasks",
    )
    axes.legend(loc="lower left", fontsize=8)
