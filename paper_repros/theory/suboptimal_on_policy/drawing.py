"""The figure: rewards along training, what goes astray, samples, and who moves mass faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.suboptimal_on_policy.didactic import Bandit, Path, dpo_loss
from paper_repros.theory.suboptimal_on_policy.methods import REUSE, SETTINGS, SMALL, SMALL_NAME
from paper_repros.theory.suboptimal_on_policy.relocation import Relocation
from prefsim.numerics import categorical_kl
from prefsim.papers import panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(
    world: Bandit,
    paths: dict[str, Path],
    learned: dict[str, np.ndarray],
    relocated: Relocation,
) -> Figure:
    figure, axes = panels(
        2,
        3,
        title=(
            "A peak that the data hardly cover is found by sampling anew and by pushing responses"
            " down; maximum likelihood on fixed data stops at the best of what it saw"
        ),
        width=5.0,
        height=3.9,
    )
    for index, title in enumerate(("The peak is far from the data", "The peak is near the data")):
        axis = axes[0, index]
        for name, path in paths.items():
            setting = SETTINGS[name]
            if SMALL_NAME not in name:
                axis.plot(
                    np.maximum(path.steps, 5),
                    path.rewards(world)[:, index],
                    setting.style,
                    color=setting.colour,
                    label=name,
                )
        axis.set(
            xscale="log", xlabel="steps", ylabel="expected reward", title=title, ylim=(0, 1.03)
        )
    axes[0, 1].legend(frameon=False, fontsize=8, loc="lower right")
    _draw_astray(axes[1, 0], world, paths)
    _draw_reuse(axes[1, 1], learned)
    _draw_divergence(axes[0, 2], world, paths)
    _draw_relocation(axes[1, 2], relocated)
    return figure


def _draw_divergence(axis: Any, world: Bandit, paths: dict[str, Path]) -> None:
    """Draw the reward over the divergence from the data, far peak."""
    for name, path in paths.items():
        if SMALL_NAME not in name:
            setting = SETTINGS[name]
            moved = categorical_kl(path.log_policies[:, 0], world.log_data[0])
            line = {"color": setting.colour, "ls": setting.style}
            axis.plot(moved, path.rewards(world)[:, 0], **line)
    axis.set(
        xlabel="KL(π‖data), nats",
        ylabel="expected reward",
        ylim=(0, 1.03),
        title="Far peak: what a nat of divergence buys",
    )


def _draw_relocation(axis: Any, relocated: Relocation) -> None:
    """Draw which direction separates two responses more, over p."""
    faster = relocated.measured * np.sign(relocated.predicted / (relocated.share - 1)) > 0
    for chosen, colour, label in (
        (faster, "#009e73", "reverse KL separates them more"),
        (~faster, "#d55e00", "forward KL separates them more"),
    ):
        size = np.abs(relocated.measured[chosen])
        axis.scatter(relocated.share[chosen], size, s=8, color=colour, label=label)
    axis.axvline(1.0, color="0.3", lw=1)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="p over the logarithmic mean of both targets",
        ylabel="difference of the separations, nats",
        title="Reverse KL is faster above the logarithmic mean",
    )
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_astray(axis: Any, world: Bandit, paths: dict[str, Path]) -> None:
    """Draw the reward of DPO at a small β, and its loss on the data."""
    for name in (SMALL_NAME, f"{SMALL_NAME}, own samples"):
        path, setting = paths[name], SETTINGS[name]
        axis.plot(
            np.maximum(path.steps, 5),
            path.rewards(world)[:, 0],
            setting.style,
            color=setting.colour,
            label=f"reward, {'own samples' if setting.on_policy else 'the data'}",
        )
    path = paths[SMALL_NAME]
    loss = dpo_loss(world, path.log_policies, SMALL)
    axis.plot(np.maximum(path.steps, 5), loss[:, 0], ":", color="0.3", label="loss, the data")
    axis.set(
        xscale="log",
        xlabel="steps",
        ylim=(0, 1.03),
        title=f"{SMALL_NAME}, far peak: loss and reward fall",
    )
    axis.legend(frameon=False, fontsize=8)


def _draw_reuse(axis: Any, learned: dict[str, np.ndarray]) -> None:
    """Draw the reward over how many steps a batch serves, and what fixed data give."""
    colours = {"best of 10": "#0072b2", "best and worst of 10": "#56b4e9", "DPO": "#d55e00"}
    for name, by_use in learned.items():
        mean, error = by_use.mean(axis=-1), by_use.std(axis=-1) / np.sqrt(by_use.shape[-1])
        axis.errorbar(
            REUSE, mean[1:], 2 * error[1:], marker="o", capsize=3, color=colours[name], label=name
        )
        axis.axhline(mean[0], color=colours[name], ls="--", lw=1)
    axis.annotate("on the data (dashed)", (REUSE[0], 0.42), fontsize=8, color="0.3")
    axis.set(
        xscale="log",
        xlabel="steps that a sampled batch serves",
        ylabel="reward at the end, mean ± 2 s.e.",
        title=f"{by_use.shape[-1]} drawn worlds: fresh samples are worth most",
        ylim=(0, 1.03),
    )
    axis.set_xticks(REUSE, [str(use) for use in REUSE])
    axis.legend(frameon=False, fontsize=8, loc="center right")
