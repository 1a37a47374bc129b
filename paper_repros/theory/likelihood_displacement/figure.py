"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from paper_repros.theory.likelihood_displacement.drawn_pairs import (
    GROUPS,
    drawn,
)
from paper_repros.theory.likelihood_displacement.unconstrained import (
    NO,
    WORDS,
)
from prefsim.analysis import entanglement, feature_gram
from prefsim.papers import (
    Run,
    panels,
)
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COLOURS = {"No": BLUE, "Never": SKY, "Yes": VERMILION, "Sure": ORANGE, "Other": "0.5"}


def caption(drifts: dict[str, np.ndarray]) -> str:
    trainings = len(drifts["CHES"])
    return (
        "Top left: probabilities of five words while DPO learns to prefer No to Never; the margin"
        " grows all along. Top right: the preferred word alone, under other losses and where hidden"
        " states cannot move. Bottom left: how fast the chosen response rises at the first step,"
        " by the similarity score CHES, a dot a drawn pair; below the line it would fall. Bottom"
        f" right: its change after training on the 24 pairs of one score, {trainings} trainings"
        " (dots) and their mean; below the line it was displaced."
    )


def draw(run: Run, paths: dict[str, np.ndarray], drifts: dict[str, np.ndarray]) -> Figure:
    figure, axes = panels(
        2,
        2,
        title=(
            "A margin grows while its chosen response becomes less likely: the more alike the"
            " hidden states of the two responses, the more, and pairs drag one another"
        ),
        width=5.4,
        height=3.9,
    )
    _draw_words(axes[0, 0], paths["DPO, No over Never"])
    _draw_controls(axes[0, 1], paths)
    _draw_scores(axes[1, 0], run)
    _draw_groups(axes[1, 1], drifts)
    return figure


def _draw_words(axis: Any, path: np.ndarray) -> None:
    shown = path[:201]
    for word, line in zip(WORDS, shown.T, strict=True):
        axis.plot(line, color=COLOURS[word], lw=2)
        # Both end at 0.
        lifted = 0.035 if word == "Never" else 0.0
        axis.text(204, line[-1] + lifted, word, color=COLOURS[word], va="center", fontsize=10)
    axis.set(
        xlim=(0, 235),
        ylim=(-0.02, 0.85),
        xlabel="steps of DPO on No over Never",
        ylabel="probability",
        title="“Yes” gains what “No” and “Never” lose",
    )


def _draw_controls(axis: Any, paths: dict[str, np.ndarray]) -> None:
    places = ((255, 0.015), (8, 0.015), (8, 0.53), (40, 0.89), (222, 0.2))
    colours = (VERMILION, PURPLE, BLUE, GREEN, "0.3")
    for (name, path), place, colour in zip(paths.items(), places, colours, strict=True):
        axis.plot(path[:, NO], color=colour, lw=2)
        axis.text(*place, name, color=colour, fontsize=9)
    axis.set(
        xlabel="steps",
        ylabel="probability of No",
        ylim=(-0.02, 1.03),
        title="“No” need not fall, and comes back under DPO",
    )


def _draw_scores(axis: Any, run: Run) -> None:
    for mean, colour, label in ((0.0, "0.6", "no mean in common"), (1.0, BLUE, "a mean")):
        model, pairs = drawn(np.random.default_rng((run.seed, 0)), 300, shared_mean=mean)
        rate = entanglement(*feature_gram(*model, *pairs).total).chosen_rate
        found = spearmanr(pairs.ches(model), rate).statistic
        label = f"hidden states with {label}: rank correlation {found:.2f}"
        axis.scatter(pairs.ches(model), rate, s=9, color=colour, label=label, alpha=0.8)
    axis.axhline(0.0, color="0.3", lw=1)
    axis.set(
        xlabel="CHES of a drawn pair, equal lengths",
        ylabel="rate of log π(chosen), over g",
        title="CHES orders pairs where hidden states are alike",
    )
    axis.margins(y=0.25)
    axis.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_groups(axis: Any, drifts: dict[str, np.ndarray]) -> None:
    shown = {
        "CHES": (VERMILION, "by CHES, 24 pairs together"),
        "CHES, each pair alone": (BLUE, "by CHES, each pair alone"),
        "edit distance": ("0.5", "by edit distance, 24 together"),
    }
    for shift, (name, (colour, label)) in zip((-0.08, 0.0, 0.08), shown.items(), strict=True):
        places = np.arange(3) + shift
        for row in drifts[name]:
            axis.plot(places, row, "o", color=colour, ms=3, alpha=0.6)
        axis.plot(places, drifts[name].mean(axis=0), color=colour, lw=2, label=label)
    axis.axhline(0.0, color="0.3", lw=1)
    axis.set_xticks(range(3), [f"{group} score" for group in GROUPS])
    axis.set(
        ylabel="change of log π(chosen), nats",
        title="High CHES displaces, most of all in company",
    )
    axis.legend(frameon=False, fontsize=8, loc="lower left")
