"""The picture: strengths, what each decile teaches, what treatments do, and looking ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.robust.secrets_rm.added_terms import Looked
from paper_repros.robust.secrets_rm.doubted_labels import RECIPES, Study
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, SKY, GREEN, VERMILION, ORANGE)
MARKS = "os^Dv"
LINES = ("-", "--", "-", "-", "--")


CAPTION = (
    "Top left: pairs by how strongly an ensemble that was not fitted to them prefers their label,"
    " wrong labels in front; a good ensemble puts them left. Top right: accuracy of models fitted"
    " to one tenth of the pairs, weakest first; below .5 those labels teach the opposite. Bottom"
    " left: accuracy gained by each treatment of doubted labels; intervals across the line show"
    " none. Bottom right: what looking ahead changes on new responses; above the line it helps."
)


def draw(
    strength: np.ndarray,
    is_wrong: np.ndarray,
    studies: dict[str, list[Study]],
    looked: dict[float, Looked],
) -> Figure:
    figure, axes = panels(
        2,
        2,
        title=(
            "An ensemble finds labels against the reward, and weak deciles teach the opposite, with"
            " or without wrong labels; treating them helps where the ridge is too small"
        ),
        width=5.6,
    )
    draw_strengths(axes[0, 0], strength, is_wrong)
    draw_deciles(axes[0, 1], studies)
    draw_gains(axes[1, 0], studies)
    draw_looked(axes[1, 1], looked)
    return figure


def draw_strengths(axes: Axes, strength: np.ndarray, is_wrong: np.ndarray) -> None:
    bins = np.linspace(strength.min(), strength.max(), 31).tolist()
    parts = [strength[is_wrong], strength[~is_wrong]]
    names = ["label against the reward", "label with the reward"]
    colours = [COLOURS[3], COLOURS[0]]
    axes.hist(parts, bins=bins, stacked=True, color=colours, label=names)
    axes.axvline(float(np.quantile(strength, 0.2)), color="black", ls="--", label="lowest fifth")
    axes.set(
        xlabel="strength: mean margin of models not fitted to the pair, log-odds",
        ylabel="pairs",
        title="Linear reward, a quarter of labels flipped",
    )
    axes.legend(frameon=False, fontsize=8)


def draw_deciles(axes: Axes, studies: dict[str, list[Study]]) -> None:
    for (name, found), colour, mark, line in zip(
        studies.items(), COLOURS, MARKS, LINES, strict=False
    ):
        table = np.stack([each.deciles for each in found])
        axes.errorbar(
            np.arange(1, 11),
            table.mean(axis=0),
            table.std(axis=0, ddof=1),
            fmt=mark + line,
            ms=5,
            capsize=2,
            color=colour,
            label=name,
        )
    axes.axhline(0.5, color="0.4", lw=1)
    axes.set_xticks(range(1, 11))
    axes.set(
        xlabel="decile of strength that a model is fitted to",
        ylabel="accuracy on other pairs",
        title="Mean ± sd over worlds or splits",
        ylim=(0, 1),
    )
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def draw_gains(axes: Axes, studies: dict[str, list[Study]]) -> None:
    places = np.arange(len(RECIPES))
    for k, (name, found) in enumerate(studies.items()):
        table = np.array([[each.gain(recipe) for recipe in RECIPES] for each in found])
        axes.errorbar(
            places + 0.14 * (k - 2),
            table.mean(axis=0),
            1.96 * table.std(axis=0, ddof=1) / np.sqrt(len(table)),
            fmt=MARKS[k],
            ms=5,
            capsize=2,
            color=COLOURS[k],
            label=name,
        )
    axes.axhline(0.0, color="0.4", lw=1)
    axes.set_xticks(places, RECIPES)
    axes.margins(y=0.3)  # room for the legend
    axes.set(
        ylabel="accuracy less that of labels as they are",
        title="Treating doubted labels: mean, 95 % interval",
    )
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper right")


def draw_looked(axes: Axes, looked: dict[float, Looked]) -> None:
    aheads = np.array(list(looked))
    gain = np.stack([found.difference - looked[0.0].difference for found in looked.values()])
    better = np.stack([found.accuracy - looked[0.0].accuracy for found in looked.values()])
    for table, colour, mark, name in (
        (gain, COLOURS[0], "o-", "difference of rewards J"),
        (better, COLOURS[3], "D--", "accuracy"),
    ):
        error = 1.96 * table.std(axis=1, ddof=1) / np.sqrt(table.shape[1])
        axes.errorbar(
            aheads, table.mean(axis=1), error, fmt=mark, color=colour, capsize=2, label=name
        )
    axes.axhline(0.0, color="0.4", lw=1)
    axes.set(
        xlabel="how far MetaRM looks ahead, η",
        ylabel="on new responses, less plain training",
        title="Linear rewards: looking ahead, mean and 95 % interval",
    )
    axes.legend(frameon=False, fontsize=8)
