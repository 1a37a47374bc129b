"""The figure: order and direction, sampling and deciding, and outputs that end at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.utility_probability.decoding import (
    LENGTH,
    NOISE,
    REFERENCES,
    TEMPERATURES,
    VOCABULARY,
    Decoded,
    Ending,
    Unrelated,
)
from paper_repros.theory.utility_probability.linear_scores import Order
from prefsim.analysis import noisy_token_accuracy
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = dict(zip(REFERENCES, (VERMILION, ORANGE, GREEN, BLUE), strict=True))


CAPTION = (
    "Top left: along maximum likelihood, the share of observed outputs that score highest, and the"
    " probability that they have; thin lines are single worlds. Top middle: the margin of the"
    " direction as a share of the largest, while the norm grows. Top right: exact match of samples,"
    " by temperature; dotted, of the highest score. Bottom left: what sharpening gains in a quality"
    " that has nothing to do with the utility, a dot a draw. Bottom middle: share of right tokens,"
    " by how outputs are chosen; the two decisions lie on one another. Bottom right:"
    " log-probabilities of the empty and of a full output, by its length: above the dashed line the"
    " full one wins."
)


def draw(
    seen: Order,
    best: np.ndarray,
    found: Decoded,
    drawn_apart: Unrelated,
    endings: list[Ending],
) -> Figure:
    figure, axes = panels(
        2,
        3,
        title=(
            "Scores have the right order long before their softmax is sure; sampling wastes what"
            " the order knows, and sharpening pays where utility and quality agree"
        ),
        width=5.0,
        height=3.9,
    )
    _draw_order(axes[0, 0], seen)
    _draw_margin(axes[0, 1], seen, best)
    _draw_sharpening(axes[0, 2], found)
    _draw_unrelated(axes[1, 0], drawn_apart)
    _draw_decisions(axes[1, 1], found)
    _draw_endings(axes[1, 2], endings)
    return figure


def _draw_order(axis: Any, seen: Order) -> None:
    lines = (
        (seen.right, BLUE, "ranked right"),
        (seen.observed, ORANGE, "mean π(observed)"),
        (seen.least_observed, VERMILION, "least π(observed)"),
    )
    for values, colour, label in lines:
        axis.plot(np.maximum(seen.steps, 1), values, color=colour, lw=0.6, alpha=0.5)
        axis.plot(np.maximum(seen.steps, 1), values.mean(axis=-1), color=colour, lw=2, label=label)
    axis.set(
        xscale="log",
        xlabel="steps of maximum likelihood",
        ylabel="share, probability",
        ylim=(0, 1.03),
        title=f"Order first: {seen.right.shape[-1]} drawn worlds",
    )
    axis.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_margin(axis: Any, seen: Order, best: np.ndarray) -> None:
    after = seen.steps >= 10
    share = seen.margin[after] / seen.norm[after] / best
    axis.plot(
        seen.steps[after],
        share,
        color=BLUE,
        lw=0.8,
        label=["margin/‖W‖ over γ*"] + [""] * (best.size - 1),
    )
    axis.plot(
        seen.steps[after],
        seen.norm[after].mean(axis=-1) / seen.norm[-1].mean(),
        color="0.3",
        ls="--",
        label="mean ‖W‖ over its last",
    )
    axis.axhline(1.0, color="0.6", lw=0.8)
    axis.set(
        xscale="log",
        xlabel="steps of maximum likelihood",
        ylim=(-0.1, 1.05),
        title="The norm grows for ever, the direction settles",
    )
    axis.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_sharpening(axis: Any, found: Decoded) -> None:
    for n, row, cold in zip(REFERENCES, found.exact, found.cold, strict=True):
        axis.plot(TEMPERATURES, row, marker="o", color=COLOURS[n])
        axis.axhline(cold, color=COLOURS[n], lw=0.8, ls=":")
        # Halfway all lines are apart.
        label = f"{n} references" if n > 1 else "1 reference"
        axis.annotate(
            label, (0.5, row[1]), (-6, -10), textcoords="offset points", ha="right", fontsize=8
        )
    grid = np.geomspace(0.1, 1.0, 40)
    axis.plot(
        grid,
        noisy_token_accuracy(NOISE, grid, vocabulary_size=VOCABULARY) ** LENGTH,
        color="0.2",
        ls="--",
        lw=1,
        label="by the law itself, a_τ^L",
    )
    axis.set(
        xscale="log",
        xlabel="temperature τ",
        ylabel="exact match",
        ylim=(-0.06, 1.03),
        title="Sampling is bad where the utility is good\n(noisy references; dotted: τ → 0)",
    )
    axis.set_xticks(TEMPERATURES, [f"{tau:g}" for tau in TEMPERATURES])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def _draw_unrelated(axis: Any, drawn_apart: Unrelated) -> None:
    shown = slice(0, 1000)
    covariance, gain = -drawn_apart.slope[shown], drawn_apart.gain[shown]
    for chosen, colour, label in (
        (gain >= 0, GREEN, "sharper is better"),
        (gain < 0, VERMILION, "sharper is worse"),
    ):
        axis.scatter(covariance[chosen], gain[chosen], s=6, color=colour, label=label)
    axis.axvline(0.0, color="0.3", lw=0.8)
    worse = (drawn_apart.gain < 0).mean()
    axis.set(
        xlabel="Cov(R, U) at τ = 1",
        ylabel="gain of expected quality, τ = 1 to ½",
        title=f"Quality unrelated to utility: {worse:.0%} lose",
    )
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_decisions(axis: Any, found: Decoded) -> None:
    for name, colour, style, label in (
        ("by_map", BLUE, "-", "MAP of 20 candidates"),
        ("by_mbr", GREEN, "--", "MBR of 20 candidates"),
        ("sampled", VERMILION, "-", "a sample"),
    ):
        mean = [getattr(decided, name).mean() for decided in found.decided]
        axis.plot(REFERENCES, mean, style, marker="o", ms=4, color=colour, label=label)
    axis.set(
        xscale="log",
        xlabel="noisy references",
        ylabel="right tokens",
        ylim=(0, 1.03),
        title="Deciding beats sampling;\nMBR and MAP decide nearly alike",
    )
    axis.set_xticks(REFERENCES, [str(n) for n in REFERENCES])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_endings(axis: Any, endings: list[Ending]) -> None:
    lengths = [ending.length for ending in endings]
    for power, colour, label in ((0.0, VERMILION, "log π"), (1.0, BLUE, "log π per token")):
        both = np.array([ending.utility(power)[[0, -1]] for ending in endings])
        axis.plot(lengths, both[:, 1], marker="o", color=colour, label=f"{label}, a full output")
    axis.plot(lengths, both[:, 0], color="0.2", ls="--", label="the empty output, both")
    axis.set(
        xlabel="words of a full output",
        ylabel="nats",
        title="The most likely output is empty\n(nine outputs in ten are full)",
    )
    axis.set_xticks(lengths)
    axis.legend(frameon=False, fontsize=8, loc="lower left")
