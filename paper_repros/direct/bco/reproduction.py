"""Train on thumbs whose prompts differ by class, with and without shift and prompt weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.direct.bco.thumbs import UNSHIFTED, Path, matching_gradients, train
from prefsim.papers import Reproduction, Run, at_least, at_most, below, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reproduce(run: Run) -> Reproduction:
    seeds, steps = (8, 120) if run.quick else (20, 400)
    slopes = matching_gradients(run.seed)
    matched, unmatched = (
        np.abs(slopes[name] - slopes["target"]).max() for name in ("matched", "unmatched")
    )
    paths = train(seeds, steps, run)
    criteria = (
        at_most(
            "gradient with exact weights less that on the positives' prompts",
            matched,
            1e-10,
            stated="derived",
        ),
        at_least("the same without weights", unmatched, 1e-3, stated="chosen"),
        below(
            "DPO's loss below the classifier's along every path",
            np.stack([path.dpo_loss for path in paths.values()]),
            np.stack([path.classifier_loss for path in paths.values()]),
            stated="paper",
            paper="an upper bound of DPO for every δ (theorem 1)",
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "method": name,
            "KL(π*‖π)": round(float(path.kl[-1].mean()), 4),
            "standard error": round(float(path.kl[-1].std() / np.sqrt(seeds)), 4),
            "reward": round(float(path.reward[-1].mean()), 4),
            "seeds": seeds,
        }
        for name, path in paths.items()
    ]
    return Reproduction(draw(paths, seeds, steps), table, criteria)


def draw(paths: dict[str, Path], seeds: int, steps: int) -> Figure:
    figure, axes = panels(
        1,
        3,
        title=(
            "Thumbs up and down from different prompts: what the shift and the prompt weights do"
            f" ({seeds} data sets, {steps} steps)"
        ),
        width=4.7,
    )
    rewards, losses, ends = axes[0]
    for name, colour in ((UNSHIFTED, "tab:orange"), ("BCO", "tab:blue")):
        path = paths[name]
        for values, style, label in (
            (path.up, "-", "mean r, thumbs up"),
            (path.down, "--", "mean r, thumbs down"),
            (path.shift, ":", "δ"),
        ):
            mean = values.mean(axis=1)
            rewards.plot(path.steps, mean, style, color=colour, label=f"{name}: {label}")
        gap = (path.classifier_loss - path.dpo_loss).mean(axis=1)
        losses.plot(path.steps, gap, color=colour, lw=2, label=name)
    rewards.set(
        xlabel="gradient steps",
        ylabel="implicit reward, nats",
        title="The shift follows the mean reward",
    )
    rewards.set_ylim(bottom=1.7 * rewards.get_ylim()[0])  # room for the legend
    losses.set(
        xlabel="gradient steps",
        ylabel="classifier loss − DPO loss, nats",
        title="An upper bound of DPO all along",
    )
    for name, path in paths.items():
        ends.errorbar(
            path.reward[-1].mean(),
            path.kl[-1].mean(),
            path.kl[-1].std() / np.sqrt(seeds),
            fmt="o",
            ms=7,
            capsize=3,
            label=name,
        )
    ends.set(
        xlabel="expected reward (more is better)",
        ylabel="KL(π*‖π), nats (less is better)",
        title="Where each method ends (± standard error)",
    )
    for axis in axes.flat:
        axis.legend(frameon=False, fontsize=8)
    return figure
