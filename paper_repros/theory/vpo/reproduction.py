"""Pessimism on data that are given, optimism on data that are gathered, each in exact regret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.theory.vpo.gathered_data import SAMPLERS, online_regret, rounds_of_regret
from paper_repros.theory.vpo.given_data import drawn, offline_gaps, optimistic_gaps, two_ways
from prefsim.analysis import log_log_slope
from prefsim.papers import Reproduction, Run, at_least, at_most, below, falling, near, panels
from prefsim.papers.figures import BLUE, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = (20, 50, 100, 200, 1000)
FEW = np.array(SIZES) <= 200
SCALES = (0.0, 1.0, 10.0)
ALPHAS = (0.0, 0.1, 1.0)
FITTED_ALPHAS = (0.0, 5.0)
COLOURS = ("0.35", BLUE, VERMILION)


def in_errors(differences: np.ndarray) -> np.ndarray:
    """Return means over the last axis in standard errors."""
    error = differences.std(axis=-1, ddof=1) / np.sqrt(differences.shape[-1])
    return np.asarray(differences.mean(axis=-1) / error)


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    worlds = drawn(rng, 100 if run.quick else 400)
    # (sizes, scales, worlds)
    gaps = np.stack([offline_gaps(worlds, n, SCALES, rng) for n in run.progress(SIZES, "sizes")])
    gained = in_errors(gaps[:, :1] - gaps[:, 1:])
    mean = gaps.mean(axis=-1)
    hopeful = drawn(rng, 15 if run.quick else 60)
    hope = optimistic_gaps(hopeful, 50, 10.0, rng)
    agreement = two_ways(rng, 5 if run.quick else 40)

    rounds = 100 if run.quick else 1000
    regret = online_regret(drawn(rng, 20 if run.quick else 80), ALPHAS, rounds, rng, run)
    paid = regret[:, 1:] - regret[:, :1]
    ends = [rounds // 2 - 1, rounds - 1]
    growth = [log_log_slope([rounds // 2, rounds], path[ends]) for path in regret.mean(-1).T]

    by_sampler = {
        sampler: rounds_of_regret(
            FITTED_ALPHAS, sampler, 6 if run.quick else 24, rng, rounds=20 if run.quick else 30
        )
        for sampler in run.progress(SAMPLERS, "samplers")
    }
    kept = {
        sampler: path[len(path) // 2 :, -1].mean() / path[1 : len(path) // 2, -1].mean()
        for sampler, path in by_sampler.items()
    }
    criteria = (
        at_least(
            "given data: what pessimism gains on maximum likelihood, in standard errors, c = 1 and"
            " 10, N up to 200",
            gained[FEW],
            2.0,
            stated="paper",
            paper="below maximum likelihood (figure, right panel)",
        ),
        at_least("the same at N = 1000", gained[-1], -2.0, stated="chosen"),
        falling("mean gap of maximum likelihood over N", mean[:, 0], stated="derived"),
        below(
            "N = 50, c = 10: mean gap with the value subtracted, of maximum likelihood, and the"
            " latter against the value added",
            [mean[1, 2], hope.likelihood.mean()],
            [mean[1, 0], hope.optimistic.mean()],
            stated="derived",
        ),
        at_most(
            "the value added with weight 0 against maximum likelihood: distance of regrets",
            np.abs(hope.weightless - hope.likelihood),
            1e-6,
            stated="derived",
        ),
        at_most(
            "distance of the loss on pairs from the game: of policies, of values",
            [agreement.of_policies, agreement.of_values],
            1e-8,
            stated="derived",
        ),
        at_most(
            f"gathered data: exponent of the regret's growth, rounds {rounds // 2} to {rounds}",
            growth,
            0.95 if run.quick else 0.6,
            stated="chosen",
            paper="√T up to logarithms",
        ),
        at_least(
            f"what optimism costs, in standard errors, α = 1 in {rounds // 2} rounds and in all,"
            " α = .1 in all",
            [
                *in_errors(paid[[rounds // 2 - 1, -1], 1]),
                float(in_errors(paid[-1, 0])),
            ],
            -2.0,
            stated="derived",
            paper="a worse start, and less regret in the end (figure, left panel)",
        ),
        at_least(
            "regret after a tenth of the rounds, α = 1 over maximum likelihood",
            regret[rounds // 10 - 1, 2].mean() / regret[rounds // 10 - 1, 0].mean(),
            1.0,
            stated="paper",
            paper="a worse start",
        ),
        near(
            "fitted to the end, β small, α = 5, both responses from the policy: late regret over"
            " early",
            kept[SAMPLERS[0]],
            1.0,
            within=0.1,
            stated="derived",
        ),
        at_most(
            "the same with one response from the reference",
            kept[SAMPLERS[1]],
            0.7,
            stated="derived",
        ),
    )
    table: list[dict[str, Any]] = [
        {
            "data": f"given, N = {n}",
            "weight of the value": f"−{scale:g}/√N" if scale else "0",
            "mean regret": round(float(mean[k, c]), 4),
            "less than maximum likelihood by": spread(gaps[k, 0] - gaps[k, c]),
        }
        for k, n in enumerate(SIZES)
        for c, scale in enumerate(SCALES)
    ]
    table += [
        {
            "data": f"gathered, {n} rounds",
            "weight of the value": f"+{alpha:g}/n" if alpha else "0",
            "cumulative regret": round(float(regret[n - 1, c].mean()), 2),
            "less than maximum likelihood by": spread(regret[n - 1, 0] - regret[n - 1, c]),
        }
        for n in (rounds // 10, rounds)
        for c, alpha in enumerate(ALPHAS)
    ]
    table += [
        {
            "data": f"gathered, {sampler}",
            "weight of the value": f"+{alpha:g}/n" if alpha else "0",
            "mean regret": round(float(path[len(path) // 2 :, c].mean()), 4),
        }
        for sampler, path in by_sampler.items()
        for c, alpha in enumerate(FITTED_ALPHAS)
    ]
    cut = (
        "100 worlds of given data rather than 400, 20 of gathered data and 100 rounds rather than"
        " 80 and 1,000, and fewer worlds and rounds elsewhere"
    )
    return Reproduction(draw(gaps, regret, by_sampler), table, criteria, caption=CAPTION, cut=cut)


def spread(differences: np.ndarray) -> str:
    """Return a mean and twice its standard error."""
    error = differences.std(ddof=1) / np.sqrt(differences.size)
    return f"{differences.mean():.3g} ± {2 * error:.2g}"


CAPTION = (
    "Regret is the value lost against the optimal policy; lower is better. Left: policies learned"
    " from N given comparisons, with the value subtracted as a sign of caution, on logarithmic axes"
    " (bars: 2 standard errors). Middle: regret summed up while policies gather their own"
    " comparisons, with the value added as a sign of hope; a band that covers another line shows no"
    " difference. Right: regret of the policy where it is nearly deterministic, by who draws the"
    " responses that are compared."
)


def draw(gaps: np.ndarray, regret: np.ndarray, by_sampler: dict[str, np.ndarray]) -> Figure:
    figure, axes = panels(
        1,
        3,
        title=(
            "Subtracting the value (pessimism) helps where data are few and given; adding it"
            " (optimism) gained nothing where the policy gathers them"
        ),
        width=5.0,
    )
    _draw_given(axes[0, 0], gaps)
    _draw_gathered(axes[0, 1], regret)
    _draw_samplers(axes[0, 2], by_sampler)
    return figure


def _draw_given(axis: Any, gaps: np.ndarray) -> None:
    mean, error = gaps.mean(axis=-1), gaps.std(axis=-1) / np.sqrt(gaps.shape[-1])
    for c, (scale, colour) in enumerate(zip(SCALES, COLOURS, strict=True)):
        label = f"value subtracted, α = {scale:g}/√N" if scale else "maximum likelihood"
        axis.errorbar(
            SIZES, mean[:, c], 2 * error[:, c], marker="o", ms=4, color=colour, label=label
        )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="comparisons N",
        ylabel="regret J*(r*) − J(r*, π), mean ± 2 s.e.",
        title=f"Given data: {gaps.shape[-1]} worlds",
    )
    axis.set_xticks(SIZES, [str(n) for n in SIZES])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_gathered(axis: Any, regret: np.ndarray) -> None:
    rounds = np.arange(1, len(regret) + 1)
    for c, (alpha, colour) in enumerate(zip(ALPHAS, COLOURS, strict=True)):
        label = f"value added, α = {alpha:g}/n" if alpha else "maximum likelihood"
        mean = regret[:, c].mean(axis=-1)
        axis.plot(rounds, mean, color=colour, label=label)
        if alpha:
            paid = regret[:, c] - regret[:, 0]
            error = 2 * paid.std(axis=-1) / np.sqrt(paid.shape[-1])
            axis.fill_between(rounds, mean - error, mean + error, color=colour, alpha=0.15, lw=0)
    axis.set(
        xlabel="rounds",
        ylabel="cumulative regret",
        title=f"Gathered data: {regret.shape[-1]} worlds\n(bands: ± 2 s.e. of the difference)",
    )
    axis.legend(frameon=False, fontsize=8, loc="lower right")


def _draw_samplers(axis: Any, by_sampler: dict[str, np.ndarray]) -> None:
    for (sampler, path), style in zip(by_sampler.items(), ("-", "--"), strict=True):
        for c, alpha in enumerate(FITTED_ALPHAS):
            rounds = 20 * np.arange(len(path))
            axis.plot(
                rounds,
                path[:, c].mean(axis=-1),
                style,
                color=COLOURS[2 * c],
                label=f"α = {alpha:g}, {sampler}",
            )
    axis.set(
        xlabel="comparisons",
        ylabel="regret of the policy",
        ylim=(0, 1.5 * max(path.mean(axis=-1).max() for path in by_sampler.values())),
        title="β a tenth of the rewards: a nearly deterministic\npolicy compares responses with"
        " themselves",
    )
    axis.legend(frameon=False, fontsize=8, loc="upper right")
