"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.hypo_coverage.extrapolation import Extrapolation, Found
from paper_repros.theory.hypo_coverage.rare_response import (
    DELTAS,
    LEVELS,
    OFFLINE,
    ONLINE,
    STEP,
    Paths,
    WorstCase,
)
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, COLOURS, GREEN, ORANGE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def caption(worlds: list[Extrapolation]) -> str:
    return (
        "J is the regularised value, J* its optimum; lower is better in the two panels of J* − J."
        " Top left: descent on pairs that never show a rare response, with and without a KL term"
        " from samples of the policy (circles: drawn rather than enumerated; dotted: samples of"
        " the reference in their place). Top middle: what two"
        " methods whose rewards are equally wrong on the data lose, by how rare the response is;"
        " dashed, what error and coverage allow. Top right: the ratio to the reference that each"
        " needs. Bottom: the best response is in no pair. Its probability (left), what becomes of"
        f" the responses in the pairs (middle), and the end in {len(worlds)} drawn worlds (right),"
        " where the dashed line is the optimal policy."
    )


def draw(
    paths: dict[str, Paths],
    worst: WorstCase,
    worlds: list[Extrapolation],
    found: dict[str, list[Found]],
    ladder: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    figure, axes = panels(
        2,
        3,
        title="Coverage: what offline pairs do not show, a KL ball or a shared feature must supply",
        width=5.6,
        height=4,
    )
    draw_hybrid(axes[0, 0], paths)
    draw_worst_case(axes[0, 1], worst)
    draw_coverage(axes[0, 2], worst)
    draw_unseen(axes[1, 0], worlds[0], ladder)
    draw_changes(axes[1, 1], *ladder["log-linear"])
    draw_worlds(axes[1, 2], worlds, found)
    return figure


def draw_hybrid(axis: Any, paths: dict[str, Paths]) -> None:
    """Draw the value that is lost along the descent."""
    exact, online, offline = paths.values()
    for k, level in enumerate(LEVELS):
        name = "DPO (λ = 0)" if level == 0 else f"HyPO, λ = {level:g}"
        axis.plot(exact.steps, exact.gap[:, k], lw=2, color=COLOURS[k], label=name)
        if level > 0:
            sampled = online.steps[5::10], online.gap[5::10, k]
            axis.plot(*sampled, "o", ms=4, mfc="white", color=COLOURS[k])
    axis.plot([], [], "o", ms=4, mfc="white", color="0.4", label=f"KL from {ONLINE}")
    label = f"λ = {LEVELS[-1]:g}, {OFFLINE}"
    axis.plot(offline.steps, offline.gap[:, -1], lw=1.5, ls=":", color="black", label=label)
    axis.set(
        yscale="log",
        xlabel=f"gradient steps of {STEP}",
        ylabel="J* − J, units of reward",
        title="An online KL term removes mass the pairs do not see",
    )
    axis.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 0.8))


def draw_worst_case(axis: Any, worst: WorstCase) -> None:
    """Draw the value that is lost, and what the error and the coverage allow."""
    curves = {
        "DPO, half the mass there": (worst.dpo.gap, worst.bounds[0]),
        "RLHF, bounded reward as wrong on the data": (worst.rlhf.gap, worst.bounds[1]),
    }
    for k, (name, (gaps, bound)) in enumerate(curves.items()):
        # Below rounding there is nothing to draw on a logarithmic axis.
        shown = np.maximum(gaps, 1e-16)
        axis.plot(DELTAS, shown, lw=2, marker="o", ms=3, color=COLOURS[k], label=name)
        axis.plot(DELTAS, bound, lw=1, ls="--", color=COLOURS[k])
    axis.plot([], [], lw=1, ls="--", color="0.4", label="bound by coverage and error")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="reference mass δ of the rare response",
        ylabel="J* − J, units of reward",
        title="A small error on the data says nothing about DPO's value",
    )
    axis.legend(frameon=False, loc="lower right", fontsize=8)


def draw_coverage(axis: Any, worst: WorstCase) -> None:
    """Draw the ratios to the reference."""
    curves = {
        "every policy": (worst.every, "0.5", ":"),
        "DPO, half the mass there": (worst.dpo.coverage, BLUE, "-"),
        "RLHF, bounded reward": (worst.rlhf.coverage, ORANGE, "-"),
    }
    for name, (coverage, color, style) in curves.items():
        axis.plot(DELTAS, coverage, lw=2, ls=style, color=color, label=name)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="reference mass δ of the rare response",
        ylabel="coverage, largest π/π_ref",
        title="What differs is the coverage that each needs",
    )
    axis.legend(frameon=False, fontsize=8)


def draw_unseen(
    axis: Any, world: Extrapolation, ladder: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Draw the probability of the best response along training."""
    for color, (kind, (steps, record)) in zip((BLUE, VERMILION), ladder.items(), strict=True):
        axis.plot(steps, np.exp(record[:, 0]), lw=2, color=color, label=f"{kind} DPO")
    optimal = np.exp(world.optimum()[0, world.best])
    axis.axhline(optimal, color="0.5", ls="--", lw=1, label="optimal policy π*")
    axis.set(
        xlabel="gradient steps",
        ylabel="π(best response)",
        ylim=(0, None),
        title="The best response is in no pair: features find it",
    )
    axis.legend(frameon=False)


def draw_changes(axis: Any, steps: np.ndarray, record: np.ndarray) -> None:
    """Draw how the log-probabilities of seen and unseen responses change along training."""
    names = ("unseen best response", "chosen responses (mean)", "rejected responses (mean)")
    for name, change, colour in zip(
        names, (record - record[0]).T, (BLUE, GREEN, VERMILION), strict=True
    ):
        axis.plot(steps, change, lw=2, color=colour)
        # Beside the end of its line, where the line does not come from.
        place, beside = (steps[-1], change[-1]), 5 if change[-1] > 0 else -14
        axis.annotate(
            name, place, xytext=(0, beside), textcoords="offset points", ha="right", color=colour
        )
    axis.axhline(0.0, color="0.5", ls=":", lw=1)
    axis.set(
        xlabel="gradient steps",
        ylabel="change of log π, nats",
        title="Log-linear DPO: chosen and rejected both fall",
    )
    axis.margins(y=0.12)


def draw_worlds(axis: Any, worlds: list[Extrapolation], found: dict[str, list[Found]]) -> None:
    """Draw what is found of the unseen best response in every world."""
    optimal = [float(np.exp(world.optimum()[0, world.best])) for world in worlds]
    axis.plot([0, 1], [0, 1], color="0.5", ls="--", lw=1, label="π*")
    for color, (kind, cases) in zip((BLUE, VERMILION), found.items(), strict=True):
        axis.plot(optimal, [case.best for case in cases], "o", color=color, label=f"{kind} DPO")
    axis.axhline(1 / 8, color="0.5", ls=":", lw=1, label="before training")
    axis.set(
        xlabel="π*(best response)",
        ylabel="π(best response) after training",
        title=f"{len(worlds)} drawn worlds",
    )
    axis.legend(frameon=False, fontsize=8)
