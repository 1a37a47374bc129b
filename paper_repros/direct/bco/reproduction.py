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
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Worlds, data sets of each, gradient steps: of a full run, and of a quick one.
SIZES = ((10, 10, 400), (2, 3, 100))
STYLES = {
    UNSHIFTED: (ORANGE, "v", "--"),
    "BCO": (BLUE, "o", "-"),
    "BCO, exact weights": (PURPLE, "s", "-"),
    "BCO, learned weights": (SKY, "^", "-"),
    "KTO": (GREEN, "X", "-."),
    "DPO": (VERMILION, "D", ":"),
    "DPO on the pairs": (VERMILION, "D", ":"),
}


def reproduce(run: Run) -> Reproduction:
    worlds, sets, steps = SIZES[run.quick]
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
    caption = (
        "Upper left, prompts that differ by class: the implicit rewards of thumbs up and thumbs"
        " down over the steps, and the shift δ, which BCO keeps halfway between them. Upper right:"
        " how far the classifier's loss lies above DPO's on the same pairs; it never falls to 0."
        " Lower left, a thumb for both responses of each pair: the distance from the optimum π*,"
        " less is better; look at how near BCO comes to DPO. Lower right, prompts that differ by"
        " class: where each method ends, the lower right corner is best; the bars go over all"
        f" {worlds} worlds. Every mark is a mean of {sets} data sets a world."
    )
    full, quick = SIZES
    cut = (
        f"{quick[0]} worlds rather than {full[0]}, {quick[1]} data sets of each rather than"
        f" {full[1]}, {quick[2]} gradient steps rather than {full[2]}"
    )
    return Reproduction(draw(paired, parted), table, criteria, caption=caption, cut=cut)


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


def draw(paired: Paths, parted: Paths) -> Figure:
    figure, axes = panels(
        2,
        2,
        title=(
            "Thumbs for both responses teach nearly what pairs teach; where prompts differ by"
            " class, exact weights bring BCO nearer to the optimum"
        ),
        width=6.4,
        height=3.8,
    )
    (rewards, excess), (along, ends) = axes
    for name in (UNSHIFTED, "BCO"):
        path, (colour, shape, _) = parted[name], STYLES[name]
        for values, style, label in (
            (path.up, "-", "thumbs up"),
            (path.shift, ":", "δ"),
            (path.down, "--", "thumbs down"),
        ):
            line = {"color": colour, "marker": shape, "markevery": 8, "ms": 5}
            rewards.plot(path.steps, _mean(values), style, label=f"{name}: {label}", **line)
        for paths, style, label in (
            (paired, "-", "same prompts"),
            (parted, "--", "prompts differ"),
        ):
            gap = _mean(paths[name].excess["bco_unpaired"])
            line = {"color": colour, "marker": shape, "markevery": 8, "ms": 5, "lw": 2}
            excess.plot(path.steps, gap, style, label=f"{name}:\n{label}", **line)
    rewards.set(
        xlabel="gradient steps",
        ylabel="mean implicit reward, nats",
        title="BCO's shift δ follows the mean reward",
    )
    excess.set(
        xlabel="gradient steps",
        ylabel="classifier loss − DPO loss, nats",
        title="An upper bound of DPO all along",
    )
    for name, path in paired.items():
        colour, shape, style = STYLES[name]
        line = {"color": colour, "marker": shape, "markevery": 8, "ms": 5, "lw": 2}
        along.plot(path.steps, _mean(path.kl), style, label=name, **line)
    along.set(
        xlabel="gradient steps",
        ylabel="KL(π*‖π), nats (less is better)",
        title="A thumb for both responses: nearly as near as DPO",
    )
    for name, path in parted.items():
        kl, reward = path.per_world("kl"), path.per_world("reward")
        colour, shape, _ = STYLES[name]
        ends.plot([reward.mean()] * 2, [kl.min(), kl.max()], color=colour)
        ends.plot(reward.mean(), kl.mean(), shape, ms=8, color=colour, label=name)
    ends.annotate(
        "better",
        (0.98, 0.03),
        xytext=(-46, 30),
        xycoords="axes fraction",
        textcoords="offset points",
        arrowprops={"arrowstyle": "->", "color": "0.4"},
        color="0.4",
    )
    ends.set(
        xlabel="expected reward (more is better)",
        ylabel="KL(π*‖π), nats (less is better)",
        title="Prompts differ by class: where each method ends",
    )
    ends.margins(x=0.12, y=0.12)
    for axis in axes.flat:
        axis.legend(
            frameon=False, fontsize=8, handlelength=3.5, loc="upper left", bbox_to_anchor=(1.0, 1.0)
        )
    return figure


def _mean(values: np.ndarray) -> Any:
    return values.mean(axis=(1, 2))
