"""Four panels: the front, whom a preference serves, what a region is, and digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from paper_repros.robust.ibcl.digit_tasks import CREDAL, METHODS, SplitResult
from paper_repros.robust.ibcl.exact_tasks import (
    POINTS,
    TRUTHS,
    VERTICES,
)
from prefsim.analysis import (
    central_box,
    gaussian_barycentre,
    mixture_density_region,
)
from prefsim.analysis.intervals import mean_half_width
from prefsim.papers import panels
from prefsim.papers.figures import BLUE, GREY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Three posteriors on a line, and how much they are preferred.
MEAN, DEVIATION = np.array([-1.0, 0.5, 2.0]), np.array([0.3, 0.5, 0.8])
WEIGHT = np.array([0.5, 0.3, 0.2])


CAPTION = (
    "From left: what mixtures of three posteriors are worth for two tasks, a dot a preference, with"
    " the front of all parameters; up and right is better. What is lost by putting all weight on"
    " one task's posterior (bars: 95 % intervals over worlds); lower is better. A mixture of"
    " Gaussians, its smallest set of 75 % (shaded) and the box that one Gaussian in its place would"
    " give. Where scikit-learn is installed, accuracy on digits when tasks are weighted as"
    " preferred, a dot a split."
)


def draw(
    scores: np.ndarray, score_of: np.ndarray, lost: np.ndarray, digits: SplitResult | None
) -> Figure:
    """Draw one world's front, mean losses over worlds, a region, and digits where there are."""
    figure, axes = panels(
        1,
        3 if digits is None else 4,
        title=(
            "Preferences select mixtures without training, but a task's posteriors hold all tasks"
            " before it: the second is served better by preferring the third"
        ),
        width=4.2,
    )
    draw_front(axes[0, 0], scores, score_of)
    draw_served(axes[0, 1], lost)
    draw_region(axes[0, 2])
    if digits is not None:
        draw_digits(axes[0, 3], digits)
    return figure


def draw_front(axis: Axes, scores: np.ndarray, score_of: np.ndarray) -> None:
    first, last = score_of[0], score_of[-1]
    best = np.sort([first.argmax(), last.argmax()])
    front = slice(best[0], best[1] + 1)
    near = (POINTS > -2.5) & (POINTS < 3.5)
    axis.plot(first[near], last[near], color=GREY, lw=1)
    axis.plot(first[front], last[front], color="black", lw=2.5, label="front of single θ")
    axis.plot(scores[:, 0], scores[:, -1], "o", ms=3, color=BLUE, label="66 preferences")
    for k, place in enumerate(VERTICES):
        axis.plot(scores[place, 0], scores[place, -1], "s", ms=7, color=VERMILION)
        axis.annotate(
            f"all on {k + 1}",
            (scores[place, 0], scores[place, -1]),
            xytext=(-50, -3),
            textcoords="offset points",
            ha="right",
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.8},
            fontsize=9,
        )
    axis.set(
        xlabel="expected log-likelihood of task 1, nats an example",
        ylabel="of task 3",
        xlim=(scores[:, 0].min() - 0.4, None),
        ylim=(scores[:, -1].min() - 0.1, None),
        title="One world on the grid",
    )
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def draw_served(axis: Axes, lost: np.ndarray) -> None:
    places = np.arange(len(TRUTHS))
    for i, colour in enumerate((GREY, VERMILION, BLUE)):
        mean = lost[:, i].mean(axis=0)
        error = [mean_half_width(column) for column in lost[:, i].T]
        axis.bar(
            places + 0.26 * (i - 1),
            mean,
            0.25,
            yerr=error,
            color=colour,
            capsize=2,
            label=f"all weight on task {i + 1}",
        )
    axis.set_xticks(places, [f"task {k + 1}\nθ = {truth:g}" for k, truth in enumerate(TRUTHS)])
    axis.set(
        ylabel="nats an example lost to the best θ",
        title=f"Mean of {len(lost)} worlds: task 2 is best served by 3",
    )
    axis.legend(frameon=False, fontsize=8)


def draw_region(axis: Axes) -> None:
    x = np.linspace(-2.5, 4.5, 600)
    density = norm.pdf(x[:, None], MEAN, DEVIATION) @ WEIGHT
    region = mixture_density_region(MEAN, DEVIATION, WEIGHT, level=0.75)
    found = gaussian_barycentre(MEAN[:, None], DEVIATION[:, None], WEIGHT)
    box = central_box(found.mean, found.deviation, level=0.75)
    held = np.diff(norm.cdf(np.array([box.lower, box.upper]), MEAN, DEVIATION) @ WEIGHT)[0]
    axis.plot(x, density, color=BLUE, lw=2, label="mixture")
    for low, high in region.intervals:
        axis.fill_between(x, density, where=(x >= low) & (x <= high), color=BLUE, alpha=0.25, lw=0)
    axis.axhline(region.threshold, color=BLUE, lw=0.8, ls=":")
    axis.plot(
        x, norm.pdf(x, found.mean[0], found.deviation[0]), color=VERMILION, label="barycentre"
    )
    axis.axvspan(
        box.lower[0], box.upper[0], color=VERMILION, alpha=0.12, lw=0, label="box of the barycentre"
    )
    axis.set(
        xlabel="parameter",
        ylabel="density",
        title=f"Shaded: 75 % of the mixture\nThe box of 75 % holds {held:.0%} of it",
    )
    axis.legend(frameon=False, fontsize=8)


def draw_digits(axis: Axes, digits: SplitResult) -> None:
    for place, (name, values) in enumerate(zip(METHODS, digits.preferred.T, strict=True)):
        colour = VERMILION if name == CREDAL else BLUE
        axis.plot(values, np.full(values.size, place), "o", ms=4, alpha=0.35, color=colour)
        axis.errorbar(
            values.mean(), place, xerr=mean_half_width(values), fmt="D", color=colour, capsize=3
        )
    axis.set_yticks(range(len(METHODS)), METHODS)
    axis.invert_yaxis()
    axis.set(
        xlabel="accuracy, tasks weighted as preferred",
        title=f"Digits, {len(digits.preferred)} splits: a refit is ahead",
    )
