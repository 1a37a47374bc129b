"""The picture: judges told apart and won over, and what people look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.robust.preference_dissection.judges import FEW, PAIRS, Families, WonOver
from paper_repros.robust.preference_dissection.people import Harmless, Raters, Weights
from prefsim.numerics import sigmoid
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


CAPTION = (
    "Top left: correlation of what drawn judges look at; members of a family share most of it. Top"
    " middle: weights found from 500 choices of one judge, with the truth. Top right: how often a"
    " response wins after three properties were added that its judge likes most or least, a line a"
    " judge. The second row, where judgements by people are at hand: what made an answer the more"
    " harmless one; how alike a rater's weights are before and after, against other raters'; and"
    " by how much more those who speak its language prefer a school."
)


def draw(
    families: list[Families],
    judges: list[WonOver],
    harmless: Harmless | None,
    raters: Raters | None,
    schools: dict[str, Weights] | None,
) -> Figure:
    real = [part for part in (harmless, raters, schools) if part is not None]
    without = "" if real else " (judgements by people: not run, they are not at hand)"
    figure, axes = panels(
        2 if real else 1,
        3,
        title=(
            "What judges look at tells their families apart, and adding what they like most wins"
            f" them over{without}"
        ),
        width=5.2,
    )
    draw_families(axes[0, 0], families[0])
    draw_recovery(axes[0, 1], judges)
    draw_wins(axes[0, 2], judges)
    if not real:
        return figure
    if harmless:
        draw_weights(axes[1, 0], harmless.weights, "People, the more harmless answer")
    if raters:
        draw_raters(axes[1, 1], raters)
    if schools:
        draw_schools(axes[1, 2], schools)
    for axis, part in zip(axes[1], (harmless, raters, schools), strict=True):
        axis.set_visible(part is not None)
    return figure


def draw_families(axes: Axes, family: Families) -> None:
    table = family.alike()
    axes.imshow(table, cmap="cividis", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(table):
        dark = value < 0.2
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="w" if dark else "k")
    names = [f"{'AB'[k // 3]}{k % 3 + 1}" for k in range(len(table))]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.set_title("Correlation of weights: families A and B")


def draw_recovery(axes: Axes, judges: list[WonOver]) -> None:
    judge = judges[0]
    order = np.argsort(judge.weights)
    rows = np.arange(FEW)
    ends = sigmoid(judge.low[order]), sigmoid(judge.high[order])
    axes.hlines(rows, *ends, color=BLUE, lw=2, label="90 % interval")
    axes.plot(sigmoid(judge.mean[order]), rows, "o", color=BLUE, label="posterior mean")
    axes.plot(sigmoid(judge.weights[order]), rows, "D", color="black", ms=4, label="true")
    axes.axvline(0.5, color="0.5", ls="--", lw=1)
    axes.set(
        xlabel="chance to be preferred with this property alone, σ(α)",
        ylabel="property of a drawn judge",
        title=f"Weights from {PAIRS} choices",
    )
    axes.legend(frameon=False, fontsize=8)


def draw_wins(axes: Axes, judges: list[WonOver]) -> None:
    wins = np.stack([judge.wins for judge in judges])
    axes.plot(range(3), wins.T, color="0.7", lw=0.8)
    for place, colour in enumerate((ORANGE, "0.3", BLUE)):
        axes.plot(np.full(len(wins), place), wins[:, place], "o", color=colour, ms=5)
    axes.axhline(0.5, color="0.5", ls="--", lw=1)
    axes.set_xticks(range(3), ["3 it likes least", "nothing", "3 it likes most"])
    axes.set(
        xlim=(-0.4, 2.4),
        ylabel="win rate against an unchanged response",
        title="Properties added to a response",
    )


def draw_weights(axes: Axes, weights: Weights, title: str) -> None:
    rows = np.arange(len(weights.names))[::-1]
    axes.hlines(rows, sigmoid(weights.low), sigmoid(weights.high), color=BLUE, lw=2)
    axes.plot(sigmoid(weights.mean), rows, "o", color=BLUE)
    axes.axvline(0.5, color="0.5", ls="--", lw=1)
    axes.set_yticks(rows, weights.names)
    axes.set(xlabel="σ(α), mean and 95 % interval", title=title)


def draw_raters(axes: Axes, found: Raters) -> None:
    axes.hist(found.own, bins=np.linspace(-1, 1, 41).tolist(), color=BLUE, alpha=0.8)
    marks = ((found.others, "another rater, mean"), (found.own.mean(), "same rater, mean"))
    for (value, name), style in zip(marks, (":", "--"), strict=True):
        axes.axvline(value, color="black", ls=style, label=f"{name} {value:.2f}")
    axes.set(
        xlabel="correlation of a rater's weights before and after",
        ylabel="raters of sound",
        title="Raters are more like themselves than like others",
    )
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def draw_schools(axes: Axes, found: dict[str, Weights]) -> None:
    names = next(iter(found.values())).names
    rows = np.arange(len(names))[::-1]
    styles = zip(found.items(), (BLUE, ORANGE, GREEN), "os^", strict=True)
    for k, ((language, weights), colour, marker) in enumerate(styles):
        at = rows + 0.22 * (1 - k)
        axes.hlines(at, weights.low, weights.high, color=colour, lw=2)
        axes.plot(
            weights.mean, at, marker, color=colour, label=f"{language.capitalize()} spoken well"
        )
    axes.axvline(0.0, color="0.5", ls="--", lw=1)
    axes.set_yticks(rows, names)
    axes.set(
        xlabel="more log-odds by those who speak the language",
        title="Students like the school of their language",
    )
    axes.legend(frameon=False, fontsize=8, loc="lower right")
