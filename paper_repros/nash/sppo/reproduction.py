"""Play random games for several horizons; train small networks on their own samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.nash.sppo.rounds import (
    ROUNDS,
    SAMPLES,
    Likelihoods,
    Rate,
    Start,
    exploitability_by_horizon,
    first_pushes,
    left_and_stated,
    losses_and_steps,
    preferences_by_prompt,
    shortfalls,
    trained_on_own_samples,
)
from prefsim.analysis import log_log_slope
from prefsim.backend import to_numpy
from prefsim.papers import (
    Reproduction,
    Run,
    at_least,
    at_most,
    between,
    holds,
    near,
    panels,
)
from prefsim.papers.figures import BLUE, COLOURS, ORANGE
from prefsim.worlds.game import PreferenceGame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESPONSES = 10
# The mean of so many games is within a few per cent of that of others; a fit to a tenth tells all.
N_GAMES, N_FITTED = 60, 6
STEPS = (0.2, 0.1, 0.05)
# Horizons, networks, and their gradient steps in an iteration.
FULL, QUICK = ((64, 256, 1024, 4096), 16, 100), ((64, 256, 1024), 4, 40)

# Mean exploitability of the average policy over twenty other draws of games.
OTHER_DRAWS = {64: 0.0428, 256: 0.0223, 1024: 0.0109, 4096: 0.0057}


def reproduce(run: Run) -> Reproduction:
    horizons, networks, iterations = QUICK if run.quick else FULL
    games = PreferenceGame.random(RESPONSES, seed=run.seed, batch_shape=(N_GAMES,))
    rate = exploitability_by_horizon(games, horizons)
    uniform = np.full((N_FITTED, RESPONSES), 1 / RESPONSES)
    start = Start(to_numpy(games.preference)[:N_FITTED], uniform)
    left, stated = np.transpose([left_and_stated(start, step) for step in STEPS])
    missed = shortfalls(start, STEPS)
    features, preference = preferences_by_prompt(run.seed, networks)
    paths = {
        name: trained_on_own_samples(
            loss, preference, features, step=step, iterations=iterations, seed=run.seed
        )
        for name, (loss, step) in run.progress(losses_and_steps().items(), "methods")
    }
    means, sppo = rate.average.mean(axis=1), paths["SPPO"]
    parted = np.stack([sppo.parts_them, paths["SPPO, hard labels"].parts_them])
    criteria = (
        at_most(
            "exploitability of the average policy less √(log n/(2T)), worst game of each T",
            (rate.average - rate.bound[:, None]).max(axis=1),
            0,
            stated="derived",
            paper="theorem 4.1: a duality gap of O(1/√T)",
        ),
        between(
            "log–log slope of the average's exploitability in T",
            rate.slope,
            -0.6,
            -0.4,
            stated="chosen",
            paper="theorem 4.1: at most O(1/√T)",
        ),
        near(
            "the average's exploitability over that in other draws of games",
            means / [OTHER_DRAWS[t] for t in horizons],
            1,
            within=0.15,
            stated="chosen",
        ),
        at_most(
            "loss at an exact step of η = .2, .1, .05 less (log Z − η/2)², relative",
            np.abs(left / stated - 1),
            1e-9,
            stated="derived",
        ),
        near(
            "log–log slope in η of how far the loss's minimiser is from an exact step",
            log_log_slope(STEPS, missed),
            3,
            within=0.1,
            stated="derived",
            paper="η/2 stands for log Z",
        ),
        near(
            "what the first gradient step of each method adds to the chosen log-ratio",
            first_pushes(),
            [0.05 if "/20" in name else 1.0 for name in paths],
            within=1e-12,
            stated="derived",
        ),
        at_most(
            "log-probabilities of a round's reference less those of the last iterate, all methods",
            [path.reference_error.max() for path in paths.values()],
            1e-6,
            stated="derived",
        ),
        holds(
            f"SPPO, soft and hard, {SAMPLES} samples, {networks} small networks, each iteration",
            parted.flat,
            "mean log-likelihood of chosen up and of rejected down",
            stated="paper",
        ),
        at_least(
            f"iterations of {sppo.chosen.size} in which DPO, set out with the same first gradient,"
            " lowers the chosen response too",
            (paths["iterative DPO"].chosen < 0).sum(),
            1,
            stated="chosen",
            paper="symmetric pairwise losses see only the difference of the two",
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {"horizon T": int(t), "e(average)": float(a), "e(last)": float(b), "bound": float(c)}
        for t, a, b, c in zip(horizons, means, rate.last.mean(axis=1), rate.bound, strict=True)
    ]
    table += [
        {
            "method": name,
            "iteration": i + 1,
            "chosen, nats": round(float(path.chosen[i].mean()), 4),
            "rejected, nats": round(float(path.rejected[i].mean()), 4),
            "networks whose chosen fell": int((path.chosen[i] < 0).sum()),
            "wins against the start": round(float(path.wins[i].mean()), 4),
        }
        for name, path in paths.items()
        for i in range(ROUNDS)
    ]
    figure = draw(rate, paths)
    caption = (
        f"Left: exploitability of the average policy in {N_GAMES} random games, mean and range of"
        " the games, against the bound of the theorem (dashed) and the last policy; lower is"
        f" better. Middle and right: what an iteration on the best and the worst of {SAMPLES} own"
        " samples does to the mean log-likelihood of chosen and of rejected responses, mean and"
        f" standard error of {networks} networks; the axis is linear from −1 to 1. All methods set"
        " out with the same first gradient, but for the DPO of a twentieth of the step. Chosen"
        f" should rise and rejected fall: SPPO's chosen gain {sppo.chosen[0].mean():.1f} nats in"
        f" the first iteration, DPO's {paths['iterative DPO'].chosen[0].mean():.1f}."
    )
    cut = (
        f"no horizon of {FULL[0][-1]}, {QUICK[1]} networks rather than {FULL[1]}, {QUICK[2]}"
        f" gradient steps an iteration rather than {FULL[2]}"
    )
    return Reproduction(figure, table, criteria, caption=caption.replace(" -", " −"), cut=cut)


def draw(rate: Rate, paths: dict[str, Likelihoods]) -> Figure:
    networks = paths["SPPO"].chosen.shape[1]
    figure, axes = panels(
        1,
        3,
        title=(
            "SPPO's average policy keeps to the theorem; on its own samples SPPO raises the chosen"
            " response and lowers the rejected one"
        ),
        width=4.8,
    )
    left, middle, right = axes[0]
    draw_rate(left, rate)
    right.sharey(middle)
    rounds = np.arange(1, ROUNDS + 1)
    for axis, side in ((middle, "chosen"), (right, "rejected")):
        for m, ((name, path), marker) in enumerate(zip(paths.items(), "os^Dv", strict=True)):
            values = getattr(path, side)
            error = values.std(axis=1) / np.sqrt(networks)
            # Set apart, so that no mark hides another.
            where = rounds + 0.07 * (m - 2)
            style = {"marker": marker, "color": COLOURS[m], "capsize": 3, "label": name}
            axis.errorbar(where, values.mean(axis=1), error, **style)
        axis.axhline(0, color="grey", lw=0.8)
        axis.set_yscale("symlog", linthresh=1, linscale=1)
        axis.set(
            xlabel="iteration",
            xticks=rounds,
            title=f"{side.capitalize()} responses, {networks} networks",
        )
    middle.set_yticks([1, 0.5, 0, -0.5, -1, -2, -5, -10, -20])
    middle.yaxis.set_major_formatter("{x:g}")
    middle.minorticks_off()
    middle.set_ylabel("change of mean log-likelihood (nats)")
    right.legend(fontsize=8, loc="upper right")
    return figure


def draw_rate(axis: Any, rate: Rate) -> None:
    """Draw exploitabilities by horizon."""
    mean, last = rate.average.mean(axis=1), rate.last.mean(axis=1)
    slope = f"{rate.slope:.2f}".replace("-", "−")
    axis.plot(rate.horizon, rate.bound, "k--", lw=1, label="theorem: √(log n / (2T))")
    axis.plot(rate.horizon, last, "s-", color=ORANGE, label="last policy, mean")
    label = f"average policy, mean, slope {slope}"
    axis.plot(rate.horizon, mean, "o-", color=BLUE, label=label)
    axis.fill_between(
        rate.horizon,
        rate.average.min(axis=1),
        rate.average.max(axis=1),
        color=BLUE,
        alpha=0.15,
        label="average policy, range of the games",
    )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="horizon T, with η = √(8 log n / T)",
        ylabel="exploitability (probability)",
        title=f"Exact steps, {rate.average.shape[1]} games, n = {RESPONSES}",
    )
    axis.legend(fontsize=8, loc="lower left")
