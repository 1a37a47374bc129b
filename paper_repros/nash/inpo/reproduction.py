"""Play exactly with and without the penalty, and on sampled labels; measure both theorems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.nash.inpo.convergence import (
    SEEDS,
    SIZES,
    Gaps,
    Rate,
    average_policy_rate,
    gaps,
    gaps_of_sampled_play,
    last_policy_rate,
)
from prefsim.analysis.rates import log_log_slope
from prefsim.backend import to_numpy
from prefsim.numerics import softmax
from prefsim.papers import Reproduction, Run, at_least, at_most, near, panels
from prefsim.papers.figures import BLUE, ORANGE, VERMILION
from prefsim.testing.games import random_games
from prefsim.worlds import TEXTBOOK_REFERENCE, textbook_game

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TAU, STEP, ITERATIONS = 0.1, 0.5, 1000

# A fifth above the largest step that is known to converge.
LARGEST_STEP = 1.2 * 4 * TAU / (1 + 4 * TAU**2)

SHOWN = (10, 100, 1000)

# Iterations with decreasing steps, and of the runs whose average is taken.
FULL, QUICK = (5000, (100, 300, 1000, 3000, 10_000)), (1000, (100, 300, 1000))

# Below this the gaps of exact play are rounding.
LEAST_DRAWN = 1e-18


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    games, references = random_games(20, seed=rng), softmax(rng.standard_normal((20, 10)))
    textbook, reference = to_numpy(textbook_game().preference), np.asarray(TEXTBOOK_REFERENCE)
    exact: dict[str, Any] = {"tau": TAU, "step": STEP, "iterations": ITERATIONS}
    penalties = {"INPO": True, "no penalty": False}
    in_textbook = {
        name: gaps(textbook, reference, penalised=on, **exact) for name, on in penalties.items()
    }
    in_random = {
        name: gaps(games, references, penalised=on, **exact) for name, on in penalties.items()
    }
    within = gaps(games, references, penalised=True, **exact | {"step": LARGEST_STEP})
    iterations, horizons = QUICK if run.quick else FULL
    last = last_policy_rate(games, references, tau=TAU, iterations=iterations)
    average = average_policy_rate(games, references, tau=TAU, horizons=horizons)
    sampled_games = {"textbook game": (textbook, reference)}
    if not run.quick:
        sampled_games["a random game of 10 responses"] = (games[0], references[0])
    sampled = {
        name: gaps_of_sampled_play(
            *game, tau=TAU, step=STEP, rounds=100, seed=run.seed, progress=run.progress
        )
        for name, game in sampled_games.items()
    }

    shown = {name: [float(g.at(t)) for t in SHOWN] for name, g in in_textbook.items()}
    criteria = (
        near(
            "gap of INPO, textbook game, t = 10, 100, over 7.8e-3, 1.6e-6",
            np.divide(shown["INPO"][:2], [7.8e-3, 1.6e-6]),
            1,
            within=0.05,
            stated="derived",
        ),
        at_most(
            f"gap of INPO, textbook game, t = {ITERATIONS}",
            shown["INPO"][-1],
            1e-10,
            stated="chosen",
            paper="the last iterate converges",
        ),
        near(
            "gap without penalty, textbook game, t = 10, 100, 1000, over 7.8e-3, 2.2e-2, 2.2e-1",
            np.divide(shown["no penalty"], [7.8e-3, 2.2e-2, 2.2e-1]),
            1,
            within=0.05,
            stated="derived",
        ),
        at_least(
            f"gap without penalty, textbook game, t = {ITERATIONS}",
            shown["no penalty"][-1],
            1e-2,
            stated="chosen",
        ),
        at_most(
            f"gap of INPO, 20 random games, t = {ITERATIONS}, step {LARGEST_STEP:.3f}",
            within.gap[-1],
            1e-10,
            stated="chosen",
            paper="the last iterate converges",
        ),
        at_most(
            "decreasing steps: KL(π*‖π_t) over its bound of the spans s_k of the gradient met,"
            " Σ_{k<t} s_k² (k + 1)/(k + 2) / (2τ² t (t + 1)), worst game and t",
            last.share,
            1,
            stated="derived",
            paper="O(1/(τ²T))",
        ),
        near(
            "decreasing steps: log–log slope of KL(π*‖π_t) in t, of weights 2/t that shrink it by"
            " 1 − 4/t",
            last.slope,
            -4,
            within=0.4,
            stated="derived",
            paper="O(1/(τ²T))",
        ),
        at_most(
            "gap of the average policy over 2√(2 log(1/μ_min)/T), worst game and T",
            average.share,
            1,
            stated="derived",
            paper="O(1/√T)",
        ),
        at_most(
            "log–log slope of the average policy's gap in T",
            average.slope,
            -0.5,
            stated="paper",
            paper="O(1/√T)",
        ),
        *(
            near(
                f"sampled play, {name}, with {', '.join(map(str, SIZES))} pairs: log–log slope of"
                " the mean gap in their number",
                log_log_slope(SIZES, by_size.mean(axis=1)),
                -1,
                within=0.3,
                stated="derived",
            )
            for name, by_size in sampled.items()
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "game": "textbook",
            "method": name,
            **{f"gap at t = {t}": gap for t, gap in zip(SHOWN, found, strict=True)},
        }
        for name, found in shown.items()
    ]
    table += [
        {
            "game": "20 random ones",
            "method": name,
            "median gap at the end": float(np.median(found.gap[-1])),
            "largest gap at the end": float(found.gap[-1].max()),
        }
        for name, found in (in_random | {f"INPO, step {LARGEST_STEP:.3f}": within}).items()
    ]
    table += [
        {
            "game": name,
            "method": "sampled play",
            "pairs per round": size,
            "mean gap": float(found.mean()),
            "largest gap": float(found.max()),
        }
        for name, by_size in sampled.items()
        for size, found in zip(SIZES, by_size, strict=True)
    ]
    figure = draw(in_textbook, in_random, last, average, sampled)
    caption = (
        "Lower is better everywhere, and all axes are logarithmic. Top left: regularised gap of the"
        f" last policy in exact play, which after {SHOWN[1]} iterations of the textbook game is"
        f" {shown['INPO'][1]:.1g} with the penalty and {shown['no penalty'][1]:.1g} without; the"
        " band is that of 20 random games. Top right: the distance of the last policy with the"
        " decreasing steps of one theorem; bottom left: the gap of the average policy after a run"
        " of each length with the constant step of the other; the worst of the random games, and"
        f" its bound (dashed). Bottom right: gap after 100 rounds on sampled labels, {SEEDS} draws"
        " (faint) and their mean, which falls about as one over the pairs."
    )
    cut = (
        f"{QUICK[0]} iterations of decreasing steps rather than {FULL[0]}, averages of"
        f" {max(QUICK[1])} iterations at most rather than {max(FULL[1])}, samples of the textbook"
        " game alone"
    )
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)


def draw(
    in_textbook: dict[str, Gaps],
    in_random: dict[str, Gaps],
    last: Rate,
    average: Rate,
    sampled: dict[str, np.ndarray],
) -> Figure:
    figure, axes = panels(
        2,
        2,
        title=(
            "With its penalty INPO's last policy reaches the equilibrium; from samples its gap"
            " falls about as one over their number"
        ),
        width=6.2,
        height=4.2,
    )
    (exact, decreasing), (means, samples) = axes
    draw_exact(exact, in_textbook, in_random)
    draw_rate(decreasing, last, "-")
    decreasing.set(
        xlabel="iteration t",
        ylabel="KL(π*‖π$_t$), nats, worst of 20 games",
        title="last policy, decreasing steps",
    )
    draw_rate(means, average, "o-")
    means.set(
        xlabel="iterations T of a run",
        ylabel="regularised gap, worst of 20 games",
        title="average policy, constant step",
    )
    draw_samples(samples, sampled)
    return figure


def slope_text(slope: float) -> str:
    """Return a slope with the sign that axes have too."""
    return f"slope {slope:.2f}".replace("-", "−")


def draw_exact(axis: Any, in_textbook: dict[str, Gaps], in_random: dict[str, Gaps]) -> None:
    """Draw the gaps of exact play with and without the penalty."""
    for (name, curve), (colour, style) in zip(
        in_textbook.items(), ((BLUE, "-"), (VERMILION, "--")), strict=True
    ):
        several = np.maximum(in_random[name].gap[1:], LEAST_DRAWN)
        axis.fill_between(
            in_random[name].iteration[1:],
            several.min(axis=1),
            several.max(axis=1),
            color=colour,
            alpha=0.2,
            lw=0,
            label=f"{name}, 20 random games",
        )
        shown = np.maximum(curve.gap[1:], LEAST_DRAWN)
        label = f"{name}, textbook game"
        axis.plot(curve.iteration[1:], shown, style, color=colour, lw=2, label=label)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="iteration t",
        ylabel="regularised gap of the last policy",
        ylim=(LEAST_DRAWN, 30),
        title=f"exact play, τ = {TAU}, step {STEP}",
    )
    axis.legend(fontsize=8, loc="lower left")


def draw_rate(axis: Any, rate: Rate, style: str) -> None:
    """Draw the worst of the games and its bound."""
    axis.plot(rate.iteration, rate.worst, style, color=BLUE, label=slope_text(rate.slope))
    axis.plot(rate.iteration, rate.bound.max(axis=1), "k--", lw=1, label="bound of the theorem")
    axis.set(xscale="log", yscale="log")
    axis.legend(fontsize=8, loc="lower left")


def draw_samples(axis: Any, sampled: dict[str, np.ndarray]) -> None:
    """Draw the gaps of all seeds, and their means, by the pairs of a round."""
    # Side by side, so that the marks of one game do not hide another's.
    styles = ((BLUE, "o", 1.0), (ORANGE, "s", 1.1))
    for (colour, marker, shift), (name, by_size) in zip(styles, sampled.items(), strict=False):
        means, where = by_size.mean(axis=1), shift * np.array(SIZES)
        label = f"{name}, {slope_text(float(log_log_slope(SIZES, means)))}"
        each = np.repeat(where, SEEDS)
        axis.plot(each, by_size.ravel(), marker, color=colour, alpha=0.25, ms=4)
        axis.plot(where, means, marker + "-", color=colour, label=label)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="labelled pairs per round",
        ylabel="regularised gap after the last round",
        title=f"sampled play: {SEEDS} seeds and their mean",
    )
    axis.set_xticks(SIZES, [str(size) for size in SIZES])
    axis.minorticks_off()
    axis.legend(fontsize=8, loc="upper right")
