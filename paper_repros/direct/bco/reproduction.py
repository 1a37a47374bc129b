"""Train on thumbs of pairs, and on thumbs whose prompts differ by class, beside DPO and KTO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.direct.bco.thumbs import (
    UNSHIFTED,
    Path,
    Paths,
    matching_gradients,
    train,
)
from prefsim.papers import Reproduction, Run, at_least, at_most, below, panels
from prefsim.papers.figures import BLUE, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reproduce(run: Run) -> Reproduction:
    worlds, sets, steps = (2, 3, 100) if run.quick else (10, 10, 400)
    slopes = matching_gradients(run.seed)
    matched, unmatched = (
        np.abs(slopes[name] - slopes["target"]).max() for name in ("matched", "unmatched")
    )
    paired, parted, before = train(worlds, sets, steps, run)

    def kl(paths: Paths, name: str) -> Any:
        return paths[name].per_world("kl").mean()

    def gain(name: str) -> Any:
        return (paired[name].per_world("reward") - before).mean()

    every_path = [*paired.values(), *parted.values()]
    criteria = (
        at_most(
            "gradient with exact weights less that on the positives' prompts",
            matched,
            1e-10,
            stated="derived",
        ),
        at_least("the same without weights", unmatched, 1e-3, stated="chosen"),
        at_most(
            "classifier's loss − DPO's along every path, less what theorem 1 states",
            [
                np.abs(excess - path.stated_excess).max()
                for path in every_path
                for excess in path.excess.values()
            ],
            1e-11,
            stated="paper",
            paper="log(1 + (e^{δ − r_w} + e^{r_l − δ})/(1 + e^{r_l − r_w})), for every δ",
        ),
        at_most(
            "KL(π*‖π) of BCO over that of DPO, thumbs for both responses",
            kl(paired, "BCO") / kl(paired, "DPO"),
            1.25,
            stated="chosen",
            paper="as good as DPO on paired data",
        ),
        at_least(
            "gain in reward of BCO over that of DPO, thumbs for both responses",
            gain("BCO") / gain("DPO"),
            0.8,
            stated="chosen",
            paper="as good as DPO on paired data",
        ),
        below(
            "KL(π*‖π) of BCO, and of KTO, thumbs for both responses",
            kl(paired, "BCO"),
            kl(paired, "KTO"),
            stated="paper",
            paper="ahead of KTO",
        ),
        below(
            "KL(π*‖π) of BCO with exact weights, and without, where prompts differ by class",
            kl(parted, "BCO, exact weights"),
            kl(parted, "BCO"),
            stated="paper",
            paper="prompts must be matched where they differ",
        ),
    )
    table = [
        _row(thumbs, name, path, before)
        for thumbs, paths in (("both responses", paired), ("prompts differ by class", parted))
        for name, path in paths.items()
    ]
    return Reproduction(draw(paired, parted, steps), table, criteria)


def _row(thumbs: str, name: str, path: Path, before: np.ndarray) -> dict[str, str | float | int]:
    kl, gain = path.per_world("kl"), path.per_world("reward") - before
    return {
        "thumbs": thumbs,
        "method": name,
        "KL(π*‖π)": round(float(kl.mean()), 4),
        "least": round(float(kl.min()), 4),
        "largest": round(float(kl.max()), 4),
        "gain in reward": round(float(gain.mean()), 4),
        "worlds": kl.size,
    }


def draw(paired: Paths, parted: Paths, steps: int) -> Figure:
    worlds, sets = paired["BCO"].kl.shape[1:]
    figure, axes = panels(
        2,
        2,
        title=(
            "Thumbs up and down teach nearly what pairs teach, if their prompts are matched"
            f" ({worlds} worlds of {sets} data sets, {steps} steps)"
        ),
        width=5.2,
        height=3.8,
    )
    (rewards, excess), (along, ends) = axes
    for name, colour in ((UNSHIFTED, ORANGE), ("BCO", BLUE)):
        path = parted[name]
        for values, style, label in (
            (path.up, "-", "mean r, thumbs up"),
            (path.down, "--", "mean r, thumbs down"),
            (path.shift, ":", "δ"),
        ):
            rewards.plot(path.steps, _mean(values), style, color=colour, label=f"{name}: {label}")
        for paths, style, label in ((paired, "-", "same prompts"), (parted, "--", "different")):
            gap = _mean(paths[name].excess["bco_unpaired"])
            excess.plot(path.steps, gap, style, color=colour, lw=2, label=f"{name}, {label}")
    rewards.set(
        xlabel="gradient steps",
        ylabel="implicit reward, nats",
        title="The shift follows the mean reward",
    )
    rewards.set_ylim(bottom=1.7 * rewards.get_ylim()[0])  # room for the legend
    excess.set(
        xlabel="gradient steps",
        ylabel="classifier loss − DPO loss, nats",
        title="An upper bound of DPO all along",
    )
    for name, path in paired.items():
        along.plot(path.steps, _mean(path.kl), lw=2, label=name)
    along.set(
        xlabel="gradient steps",
        ylabel="KL(π*‖π), nats (less is better)",
        title="Thumbs for both responses: as near as DPO",
    )
    for name, path in parted.items():
        kl, reward = path.per_world("kl"), path.per_world("reward")
        ends.plot(reward.mean(), kl.mean(), "o", ms=7, label=name)
        ends.plot([reward.mean()] * 2, [kl.min(), kl.max()], color=ends.lines[-1].get_color())
    ends.set(
        xlabel="expected reward (more is better)",
        ylabel="KL(π*‖π), nats (less is better)",
        title="Prompts that differ by class (bar: all worlds)",
    )
    for axis in axes.flat:
        axis.legend(frameon=False, fontsize=8)
    return figure


def _mean(values: np.ndarray) -> Any:
    return values.mean(axis=(1, 2))
