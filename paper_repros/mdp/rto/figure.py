"""The figure, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper_repros.mdp.rto.caution import CAUTIONS
from paper_repros.mdp.rto.credit import RESPONSE, REWARDS, STEP, TOKEN, Credit
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {RESPONSE: ORANGE, TOKEN: BLUE}


def caption(found: Credit) -> str:
    worlds = found.cosines[TOKEN].shape[1]
    return (
        f"{worlds} token worlds. Top left: direction of the expected gradient against the true"
        " one, by λ of the advantage estimates; 1 is right. Top right: distance from the optimum"
        " along exact ascent; lower is better. Bottom left: how much the gradient of one sampled"
        " response scatters, from the first policy (left) to the optimum (right); lower is better."
        " Bottom right: what is lost by policies that are optimal for a learned reward, by how"
        " pessimistic the reward is; at 0 it is the fit itself."
    )


def draw(found: Credit, lost: dict[str, np.ndarray]) -> Figure:
    figure, axes = panels(
        2,
        2,
        title=(
            "Without a critic, rewards of tokens credit the right ones at any λ and lead to the"
            " optimum; near the reference they are the noisier"
        ),
        width=6.2,
        height=4.2,
    )
    draw_cosines(axes[0, 0], found)
    draw_paths(axes[0, 1], found)
    draw_noise(axes[1, 0], found)
    draw_caution(axes[1, 1], lost)
    return figure


def draw_cosines(axes: Axes, found: Credit) -> None:
    for name in REWARDS:
        axes.plot(found.traces, found.cosines[name], color=COLOURS[name], lw=0.5, alpha=0.35)
        mean = found.cosines[name].mean(axis=1)
        axes.plot(found.traces, mean, "o-", color=COLOURS[name], lw=2.2, label=name)
    axes.set(
        xlabel="λ of the advantage estimates",
        ylabel="cosine with the true gradient",
        title="Expected gradient, first policy\n(thin: single worlds)",
        ylim=(-0.65, 1.05),
    )
    axes.legend(frameon=False, loc="lower right")


def draw_paths(axes: Axes, found: Credit) -> None:
    styles = {0.0: "-", 0.5: "--", 1.0: ":"}
    for (name, trace), path in found.paths.items():
        colour = "k" if trace == 1.0 else COLOURS[name]
        label = "either, λ = 1" if trace == 1.0 else f"{name}, λ = {trace:g}"
        axes.plot(path.mean(axis=1), styles[trace], color=colour, lw=2, label=label)
    axes.set(
        xlabel=f"exact gradient steps (size {STEP:g})",
        ylabel="total variation to the optimum, mean",
        title="Where ascent without a critic leads",
        ylim=(0, 1.35),
        yticks=np.linspace(0, 1, 6),
    )
    axes.legend(frameon=False, loc="upper center", fontsize="small", ncols=2)


def draw_noise(axes: Axes, found: Credit) -> None:
    for name in REWARDS:
        noise = found.noise[name, False]
        axes.plot(found.shares, noise, color=COLOURS[name], lw=0.5, alpha=0.35)
        label = f"{name}, no critic"
        axes.plot(found.shares, noise.mean(axis=1), "o-", color=COLOURS[name], lw=2.2, label=label)
    exact = found.noise[TOKEN, True].mean(axis=1)
    axes.plot(found.shares, exact, "k:", lw=2, label="either, exact critic")
    axes.set(
        xlabel="share of the way from the first policy to the optimum",
        ylabel="deviation of the gradient of one response",
        title="Noise at λ = 1, where both are unbiased",
        ylim=(0, 1.35 * max(noise.max() for noise in found.noise.values())),
    )
    axes.legend(frameon=False, loc="upper right")


def draw_caution(axes: Axes, lost: dict[str, np.ndarray]) -> None:
    # Side by side: the error bars overlap.
    for (name, each), marker, colour, shift in zip(
        lost.items(), "sD", (PURPLE, GREEN), (-0.008, 0.008), strict=True
    ):
        losses = each[:, 0]
        error = 2 * losses.std(axis=-1, ddof=1) / np.sqrt(losses.shape[-1])
        axes.errorbar(
            np.add(CAUTIONS, shift),
            losses.mean(axis=-1),
            error,
            marker=marker,
            color=colour,
            label=name,
            capsize=3,
        )
    axes.set(
        xlabel="pessimism (share of the safe radius; 0: the fit itself)",
        ylabel="lost objective, ± 2 standard errors",
        title="Pessimistic rewards help or cost by what is compared",
        ylim=(0, None),
    )
    axes.legend(frameon=False, loc="upper left")
