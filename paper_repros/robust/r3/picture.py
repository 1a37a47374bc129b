"""The picture: what each reward writes, whether gold follows, and what a learned reward prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.robust.r3.preferences import Confounded, angles
from paper_repros.robust.r3.token_world import (
    BETAS,
    HARD,
    MIDDLE,
    Terms,
    all_responses,
    checkpoints,
    gold_along,
    means,
    optimum,
)
from prefsim.numerics import categorical_kl
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"QR": BLUE, "LI": "0.45", "LI·QR": VERMILION, "R³": GREEN}
# Points by which labels stand off the ends of lines that end together.
BESIDE = {"QR": (4, 2), "LI": (4, -11), "LI·QR": (4, -1), "R³": (-4, 6)}


CAPTION = (
    "Top: what the optima of four rewards make of relevance, of the length incentive and of the"
    " share of distinct trigrams, by how far they have gone from the reference; the fall on the"
    " right is hacking. Bottom left: gold by how hard each proxy is pushed; higher is better."
    " Bottom middle: distance of two optimisers from the optimum. Bottom right: how much length"
    " weighs in a reward learned where length goes with relevance, against the prediction; above"
    " the dashed line long answers off the topic win."
)


def draw(
    terms: Terms, left: dict[str, np.ndarray], learned: dict[Confounded, np.ndarray]
) -> Figure:
    figure, axes = panels(
        2,
        3,
        title=(
            "Relevance is hacked by copies, length does not stop it, and a factor for what is"
            " repeated does (all 1,092 responses of up to six tokens)"
        ),
        width=5.0,
        height=4.2,
    )
    names = {"relevance": "E QR: relevance", "length": "E LI: length incentive"}
    names["distinct"] = "E RP: share of distinct trigrams"
    for axis, (term, label) in zip(axes[0], names.items(), strict=True):
        draw_term(axis, terms, term, label)
    draw_gold(axes[1, 0], terms)
    draw_ascents(axes[1, 1], left)
    draw_learned(axes[1, 2], learned)
    return figure


def label_end(axis: Axes, name: str, x: float, y: float) -> None:
    colour = COLOURS[name]
    axis.annotate(name, (x, y), BESIDE[name], textcoords="offset points", color=colour)


def draw_term(axis: Axes, terms: Terms, term: str, label: str) -> None:
    inverse = np.geomspace(0.1, 1 / HARD, 60)
    for name, colour in COLOURS.items():
        log_policy, _ = optimum(terms.reward(name), inverse)
        distance = categorical_kl(log_policy, all_responses().log_reference)
        values = means(log_policy, getattr(terms, term))
        axis.plot(distance, values, color=colour, lw=2)
        marks = [int(np.abs(inverse - 1 / b).argmin()) for b in BETAS]
        axis.plot(distance[marks], values[marks], "o", ms=4, color=colour)
        label_end(axis, name, distance[-1], values[-1])
    axis.set(xlabel="KL(π*‖π_ref), nats; dots at β = .5, .1, .05, .02", ylabel=label)
    axis.set_xlim(None, 9.6)
    axis.margins(y=0.08)


def draw_gold(axis: Axes, terms: Terms) -> None:
    for name, colour in COLOURS.items():
        values = gold_along(terms, name)
        axis.plot(checkpoints(HARD), values, marker="o", ms=4, lw=2, color=colour)
        label_end(axis, name, 1 / HARD, values[-1])
    axis.axvline(1 / MIDDLE, color="0.6", ls=":")
    axis.margins(y=0.1)
    axis.set(
        xlabel="1/β: how hard the proxy is pushed (dotted: β = .05)",
        ylabel="mean gold reward",
        title="Pushed harder, LI·QR loses gold that R³ keeps",
        xlim=(None, 118),
    )


def draw_ascents(axis: Axes, left: dict[str, np.ndarray]) -> None:
    for column, (name, colour) in enumerate(COLOURS.items()):
        for how, style in (("plain", ":"), ("Adam", "-")):
            values = left[how][:, column]
            axis.loglog(np.arange(len(values)) + 1, values, style, color=colour, lw=1.6)
        axis.plot([], [], color=colour, label=name)
    axis.axhline(1e-4, color="0.6", lw=1)
    axis.set(
        xlabel="steps of exact policy gradient",
        ylabel=f"β log Z − J, β = {MIDDLE}",
        title="Adam (solid) arrives, plain steps (dotted) crawl",
    )
    axis.legend(frameon=False, fontsize=8)


def draw_learned(axis: Axes, learned: dict[Confounded, np.ndarray]) -> None:
    expected = np.array([case.ratio() for case in learned])
    grid = np.linspace(0.0, expected.max() * 1.05, 50)
    axis.plot(grid, grid, color="0.6", label="σ²ρ/(1 − ρ²)")
    axis.plot(expected, np.tan(angles(learned)), "o", color=BLUE, label="learned")
    axis.axhline(1.0, color="black", ls="--", lw=1)
    axis.annotate("above: long off-topic wins", (2.7, 1.0), (0, 4), textcoords="offset points")
    axis.set(
        xlabel="expected weight of length over that of relevance",
        ylabel="learned",
        title="A reward learned where length goes with relevance",
    )
    axis.legend(frameon=False, loc="upper left")
