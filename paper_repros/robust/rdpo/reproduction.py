"""Flip labels at several rates, and see what reward three losses lose against the best policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.robust.rdpo.flipped_labels import NAMES, NEARLY_EVEN, Estimates, LinearTask
from prefsim.papers import Reproduction, Run, at_most, below, between, falling, near, panels
from prefsim.papers.figures import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
N = 2000
SIZES = (500, 2000, 8000)
WORST_RATE = RATES[-1]
# Of the part that holds errors against the theorem, on preferences that are nearly even.
FEW_RATES = (0.0, 0.2, 0.4)
LARGE = (4000, 16_000, 64_000)
CHANCE = 0.001  # δ: chance with which an error may exceed its bound
STYLES = {"DPO": (BLUE, "o"), "cDPO": (ORANGE, "s"), "rDPO": (GREEN, "D")}

Lost = dict[str, np.ndarray]


def reproduce(run: Run) -> Reproduction:
    study, repeats = LinearTask.study(run.seed), 30 if run.quick else 300

    def lost(rate: float, n: int, names: tuple[str, ...]) -> Lost:
        return study._replace(flip_rate=rate).reward_lost(names, n, repeats, run.seed + 1000)

    by_rate = {rate: lost(rate, N, NAMES) for rate in run.progress(RATES, "flip rates")}
    by_size = {
        n: lost(WORST_RATE, n, ("DPO", "rDPO"))
        for n in run.progress(SIZES, f"data sizes at flip rate {WORST_RATE}")
    }

    sets = 100 if run.quick else 400
    estimates = {
        rate: [
            Estimates.draw(
                LinearTask.draw(run.seed, rate, scale=NEARLY_EVEN), n, sets, run.seed + n
            )
            for n in LARGE
        ]
        for rate in run.progress(FEW_RATES, "flip rates of the theorem")
    }
    largest = [found[-1] for found in estimates.values()]

    # Means of every loss at the rates above zero, and at the sizes.
    flipped = {name: np.array([by_rate[rate][name].mean() for rate in RATES[1:]]) for name in NAMES}
    sized = {name: np.array([by_size[n][name].mean() for n in SIZES]) for name in ("DPO", "rDPO")}
    criteria = (
        at_most(
            "reward lost by rDPO over that by DPO, ε ≥ 0.1",
            flipped["rDPO"] / flipped["DPO"],
            0.2,
            stated="chosen",
            paper="rDPO keeps its reward where DPO loses it",
        ),
        below(
            "smoothing loses more: reward lost by DPO, and by cDPO, ε ≥ 0.1",
            flipped["DPO"],
            flipped["cDPO"],
            stated="derived",
        ),
        at_most(
            "reward lost at ε = 0: cDPO and rDPO, largest difference from DPO",
            [np.abs(by_rate[0.0][name] - by_rate[0.0]["DPO"]).max() for name in ("cDPO", "rDPO")],
            1e-10,
            stated="derived",
        ),
        falling(
            f"reward lost by rDPO at ε = {WORST_RATE}, n = 500, 2000, 8000",
            sized["rDPO"],
            stated="derived",
        ),
        at_most(
            f"reward lost by DPO at ε = {WORST_RATE}, n = 500, 2000, 8000: largest over least − 1",
            sized["DPO"].max() / sized["DPO"].min() - 1,
            0.1,
            stated="chosen",
        ),
        between(
            "error of rDPO over its bound, the largest of the data sets, ε = 0, 0.2, 0.4",
            [np.max(found.distance / found.bound(chance=CHANCE)) for found in largest],
            0.0,
            1.0,
            stated="derived",
            paper="theorem 4.2: O((1/(γβ(1 − 2ε)))√((d + log 1/δ)/n))",
        ),
        near(
            "mean squared error over that which the bound implies for normal errors",
            [found.normal_share(chance=CHANCE) for found in largest],
            1.0,
            within=0.35,
            stated="derived",
        ),
        near(
            "mean squared error over that of the sandwich covariance",
            [found.whitened() for found in largest],
            1.0,
            within=0.3,
            stated="derived",
        ),
        between(
            "KL(π*‖π̂) over ½ κ × error², the largest of the data sets",
            [found.divergence_share().max() for found in largest],
            0.8,
            1.0,
            stated="derived",
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {"flip rate": rate, "n": n, **{name: float(gaps.mean()) for name, gaps in row.items()}}
        for rate, n, row in (
            *((rate, N, by_rate[rate]) for rate in RATES),
            *((WORST_RATE, n, by_size[n]) for n in SIZES if n != N),
        )
    ]
    cut = "30 data sets rather than 300, and 100 rather than 400 for the bound"
    return Reproduction(
        draw(by_rate, by_size, repeats, estimates), table, criteria, caption=CAPTION, cut=cut
    )


CAPTION = (
    "Left and middle: reward lost against the optimal policy, by how many labels are flipped and by"
    " how many comparisons there are, on logarithmic axes; lower is better. Right: the largest"
    " error of the learned parameter among many data sets (full) and the bound that must stay above"
    " it (dashed), colour by colour."
)


def draw(
    by_rate: dict[float, Lost],
    by_size: dict[int, Lost],
    repeats: int,
    estimates: dict[float, list[Estimates]],
) -> Figure:
    figure, axes = panels(
        1,
        3,
        title=(
            "Correcting the loss for flipped labels keeps the reward; smoothing loses it"
            f" (mean and 95 % interval of {repeats} data sets)"
        ),
        width=5.0,
    )
    left, right, errors = axes[0]
    draw_means(left, list(by_rate), list(by_rate.values()))
    draw_means(right, list(by_size), list(by_size.values()))
    left.set(xlabel="flip rate ε of the labels", title=f"n = {N} comparisons", xticks=RATES)
    right.set(
        xlabel="comparisons n",
        title=f"flip rate ε = {WORST_RATE}",
        xscale="log",
        xticks=SIZES,
        xticklabels=[str(n) for n in SIZES],
    )
    right.minorticks_off()
    for colour, (rate, found) in zip((SKY, PURPLE, VERMILION), estimates.items(), strict=True):
        sizes = [each.n for each in found]
        worst = [each.distance.max() for each in found]
        bounds = [each.bound(chance=CHANCE) for each in found]
        errors.plot(sizes, worst, "o-", color=colour, label=f"ε = {rate:g}")
        errors.plot(sizes, bounds, "--", color=colour)
    errors.set(
        xlabel="comparisons n",
        ylabel="error of θ̂ in the norm of Σ̂ + λI",
        title="Even preferences: largest error (–), bound (- -)",
        xscale="log",
        yscale="log",
    )
    errors.set_xticks(LARGE, [str(n) for n in LARGE])
    errors.minorticks_off()
    errors.legend(frameon=False)
    return figure


def draw_means(axis: Any, at: Sequence[float], lost: Sequence[Lost]) -> None:
    """Draw the mean reward lost by each loss, with its interval over data sets."""
    for name in lost[0]:
        colour, marker = STYLES[name]
        rows = np.asarray([gaps[name] for gaps in lost])
        error = 1.96 * rows.std(axis=1) / math.sqrt(rows.shape[1])
        axis.errorbar(
            at,
            rows.mean(axis=1),
            yerr=error,
            color=colour,
            marker=marker,
            capsize=3,
            label=name,
        )
    axis.set(yscale="log", ylabel="reward lost against π*  (units of reward)")
    axis.grid(alpha=0.3, which="both")
    axis.legend(title="loss")
