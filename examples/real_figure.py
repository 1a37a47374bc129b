"""The four panels of the study of a real model."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from prefsim.papers.figures import panels

CHOSEN, REJECTED, TRAINED = "#0072B2", "#D55E00", "#009E73"


def figure(found: dict[str, Any]) -> Figure:
    """Return rankings, the prediction of displacement, gradients, and drift by position."""
    drift = found["held_out"]["drift"]
    drawn, axes = panels(
        2,
        2,
        title=(
            f"{found['settings']['steps']} steps of DPO move the chosen log-probability by"
            f" {drift['chosen']['mean']:+.1f} nats on held-out pairs, the rejected by"
            f" {drift['rejected']['mean']:+.1f}"
        ),
        width=5.6,
    )
    draw_rankings(axes[0, 0], found)
    draw_prediction(axes[0, 1], found)
    draw_gradients(axes[1, 0], found["entanglement"])
    draw_positions(axes[1, 1], found["held_out"]["by_position"])
    return drawn


def draw_rankings(axis: Any, found: dict[str, Any]) -> None:
    """Draw which shares of pairs are ranked as people did."""
    before, after = found["rankings_before"], found["rankings_after"]
    rows = [
        ("before, tokens summed", before["summed"]),
        ("before, averaged", before["averaged"]),
        ("after, tokens summed", after["summed"]),
        ("after, averaged", after["averaged"]),
        ("after, by implicit reward", found["held_out"]["reward_accuracy"]),
    ]
    places = np.arange(len(rows))[::-1]
    axis.errorbar(
        [row["value"] for _, row in rows],
        places,
        xerr=[1.96 * row["standard_error"] for _, row in rows],
        fmt="o",
        color=CHOSEN,
        capsize=3,
    )
    axis.set_yticks(places, [name for name, _ in rows])
    for votes, value in before["idealised"].items():
        axis.axvline(value, color="grey", linestyle=":", linewidth=1)
        axis.annotate(
            f"optimum, α = {votes}",
            (value, 0.5),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize=7,
            ha="right",
            va="center",
            color="dimgrey",
        )
    axis.axvline(0.5, color="black", linewidth=0.8)
    axis.set_xlim(0.2, 1.03)
    axis.set_xlabel("pairs ranked as people did (95 % interval)")


def draw_prediction(axis: Any, found: dict[str, Any]) -> None:
    """Draw the fall of the chosen log-probability against the score that should foretell it."""
    said = []
    for group, colour in (("held_out", CHOSEN), ("trained_on", TRAINED)):
        row = found[group]["prediction"]["ches"]
        fall = -np.asarray(found[group]["drift"]["chosen"]["values"])
        low, high = row["interval"]
        name = group.replace("_", " ")
        axis.plot(row["values"], fall, "o", markersize=4, color=colour, alpha=0.7, label=name)
        said.append(f"{name} {row['value']:+.2f} [{low:+.2f}, {high:+.2f}]")
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set_xlabel("CHES score before training")
    axis.set_ylabel("fall of the chosen log-probability (nats)")
    axis.set_title("rank correlation: " + "\n".join(said), fontsize="medium")
    axis.legend(fontsize="small")


def draw_gradients(axis: Any, entangled: dict[str, Any]) -> None:
    """Draw how the gradients of chosen and rejected lie to each other."""
    cosine = np.sort(entangled["cosine"])
    axis.plot(cosine, np.arange(1, len(cosine) + 1), "o-", color=CHOSEN, markersize=4)
    axis.axvline(0.0, color="black", linewidth=0.8)
    axis.set_xlabel("cosine of the gradients of chosen and rejected")
    axis.set_ylabel("pairs up to it")
    axis.set_title(
        f"one step on one pair: chosen rises on {entangled['chosen_rises']:.0%},"
        f" rejected falls on {entangled['rejected_falls']:.0%}",
        fontsize="medium",
    )


def draw_positions(axis: Any, positions: dict[str, Any]) -> None:
    """Draw the change of each token's log-probability by its place in the completion."""
    for name, colour in (("chosen", CHOSEN), ("rejected", REJECTED)):
        mean, error = (np.asarray(positions[name][part]) for part in ("mean", "standard_error"))
        place = np.arange(1, len(mean) + 1)
        axis.plot(place, mean, color=colour)
        axis.fill_between(place, mean - error, mean + error, color=colour, alpha=0.25, linewidth=0)
        axis.annotate(
            name, (place[-1], mean[-1]), color=colour, xytext=(4, 0), textcoords="offset points"
        )
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set_xlabel("token of the completion")
    axis.set_ylabel("change of its log-probability (nats)")
    axis.margins(x=0.25)
