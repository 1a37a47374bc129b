"""Exact steps beside two rivals, regression on samples, and small networks with a teacher."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from paper_repros.nash.dno.self_play import (
    DNO,
    DPO,
    SAMPLES,
    Errors,
    Trace,
    exact_steps,
    learned_steps,
    objective_and_entropy,
    regression_errors,
    sampled_steps,
    traces,
)
from paper_repros.nash.dno.teaching import ROUNDS, Taught, teach
from prefsim.backend import to_numpy
from prefsim.papers import Reproduction, Run, at_least, at_most, below, near, panels
from prefsim.solvers import nash_path
from prefsim.worlds import TEXTBOOK_REFERENCE, PreferenceGame, textbook_game

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ETA, HORIZON = 0.5, 300
ROUNDS_LEARNED, DRAWS = 4, 4000
SHOWN = (1, 5, 20, 100, 300)
GENTLE = "gentle steps"
TEACHING = (
    (GENTLE, {"step": 0.5, "with_teacher": True}),
    ("steps four times as long", {"step": 2.0, "with_teacher": True}),
    ("gentle, without a teacher", {"step": 0.5, "with_teacher": False}),
)


def reproduce(run: Run) -> Reproduction:
    game, reference = to_numpy(textbook_game().preference), np.asarray(TEXTBOOK_REFERENCE)
    in_textbook = traces(game, reference, eta=ETA, steps=HORIZON)
    games = to_numpy(
        PreferenceGame.random(10, seed=run.seed, batch_shape=(4 if run.quick else 20,)).preference
    )
    uniform = np.full((len(games), 10), 0.1)
    in_random = traces(games, uniform, eta=ETA, steps=HORIZON)
    # The same rounds by the loss: on all pairs, and on what samples show of them.
    contexts = ((game[None], reference[None]), (games, uniform))
    exact, learned = (
        [play(*context, step=1 / ETA, rounds=ROUNDS_LEARNED) for context in contexts]
        for play in (exact_steps, learned_steps)
    )
    left = np.array([objective_and_entropy(*context, step=1 / ETA) for context in contexts])
    sampled = sampled_steps(
        *contexts[0], step=1 / ETA, rounds=ROUNDS_LEARNED, draws=DRAWS, seed=run.seed
    )
    tuned_eta = math.sqrt(HORIZON / (8 * math.log(3)))
    tuned = nash_path(
        game,
        method="dno",
        initial=reference,
        step=1 / tuned_eta,
        iterations=HORIZON,
        record=HORIZON,
    )
    averages = [in_textbook[DNO].average[-1], tuned.average_exploitability[-1]]
    farthest = math.log(1 / reference.min())
    bounds = [eta * farthest / HORIZON + 1 / (8 * eta) for eta in (ETA, tuned_eta)]
    sizes = (250, 1000, 4000, 16000) if run.quick else (250, 500, 1000, 2000, 4000, 8000, 16000)
    errors = regression_errors(
        game,
        np.array([0.4, 0.4, 0.2]),
        eta=ETA,
        sizes=sizes,
        runs=400 if run.quick else 4000,
        seed=run.seed,
    )
    networks = 10 if run.quick else 30
    taught = {
        name: teach(networks, seed=run.seed, **options)
        for name, options in run.progress(TEACHING, "networks")
    }

    dpo, gentle = in_textbook[DPO], taught[GENTLE]
    leaders = np.argmax(dpo.policy[100:], axis=-1)
    average = in_random[DNO].average[-1].mean()
    rivals = [t.average[-1].mean() for name, t in in_random.items() if name != DNO]
    last = [t.exploited[-1].mean() for t in in_random.values()]
    criteria = (
        at_most(
            f"probabilities after 1 to {ROUNDS_LEARNED} rounds of DNO's loss on all pairs less"
            " those of exact steps, all games",
            [np.abs(a - b).max() for a, b in zip(learned, exact, strict=True)],
            1e-9,
            stated="derived",
        ),
        near(
            "DNO's objective at the first exact step over the mean entropy of its labels",
            left[:, 0] / left[:, 1],
            1,
            within=1e-12,
            stated="derived",
        ),
        at_most(
            f"probabilities after 1 to {ROUNDS_LEARNED} rounds on all pairs of {SAMPLES} samples,"
            f" drawn {DRAWS} times, less those of exact steps, textbook game",
            np.abs(sampled - exact[0]).max(axis=(1, 2)),
            0.01,
            stated="chosen",
        ),
        below(
            f"exploitability of DNO's average policy, textbook game, T = {HORIZON}, η = {ETA:g}"
            " and √(T/(8 log n)), against η log(1/π_min)/T + 1/(8η)",
            averages,
            bounds,
            stated="derived",
        ),
        near(
            "exploitability of iterative DPO's last policy, textbook game, t = 1, 5, 20",
            dpo.exploited[[1, 5, 20]],
            [0.075, 0.252, 0.378],
            within=6e-4,
            stated="derived",
        ),
        at_least(
            "exploitability of iterative DPO's last policy, textbook game, t = 100",
            dpo.exploited[100],
            0.3,
            stated="chosen",
        ),
        at_least(
            "responses that lead in iterative DPO after t = 100, textbook game: a cycle",
            len(set(leaders.tolist())),
            3,
            stated="derived",
        ),
        at_least(
            "largest exploitability of iterative DPO after t = 100, textbook game",
            dpo.exploited[100:].max(),
            0.35,
            stated="chosen",
        ),
        below(
            "exploitability of DNO's average policy, random games, n = 10, against that of its"
            " rivals' averages and of all last policies",
            average,
            rivals + last,
            stated="chosen",
        ),
        near(
            f"error of regression on {', '.join(map(str, sizes))} sampled pairs over its limit"
            f" {errors.limit:.2f}/N",
            errors.scaled / errors.limit,
            1,
            within=0.3 if run.quick else 0.15,
            stated="derived",
            paper="theorem 1: O(1/N)",
        ),
        at_least(
            f"share of {networks} small networks that win more against their teacher after"
            f" {ROUNDS} iterations of DNO-Prct",
            (gentle.against_teacher[-1] > gentle.against_teacher[0]).mean(),
            0.9,
            stated="chosen",
        ),
        at_least(
            f"share of {networks} small networks that beat their last policy and win more against"
            f" their teacher in each of {ROUNDS} iterations (gentle steps)",
            gentle.monotone.mean(),
            0.9,
            stated="chosen",
            paper="monotonic improvement, of exact steps",
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "games": label,
            "method": name,
            "t": t,
            "e(last)": round(float(np.mean(found.exploited[t])), 5),
            "e(average)": round(float(np.mean(found.average[t - 1])), 5),
            "P(π_t ≻ start)": round(float(np.mean(found.wins[t])), 5),
        }
        for label, by_name in (("textbook", in_textbook), (f"{len(games)} random", in_random))
        for name, found in by_name.items()
        for t in SHOWN
    ]
    table += [
        {"pairs N": n, "N·error": float(error), "limit": errors.limit}
        for n, error in zip(sizes, errors.scaled, strict=True)
    ]
    table += [
        {
            "networks": name,
            "iteration": i,
            "P(π ≻ teacher)": round(float(found.against_teacher[i].mean()), 4),
            "P(π ≻ last)": round(float(found.against_last[i].mean()), 4),
            "better in each iteration": f"{found.monotone.sum()} of {networks}",
        }
        for name, found in taught.items()
        for i in range(ROUNDS + 1)
    ]
    return Reproduction(draw(in_textbook, bounds[0], sizes, errors, taught), table, criteria)


def draw(
    by_method: dict[str, Trace],
    bound: float,
    sizes: tuple[int, ...],
    errors: Errors,
    taught: dict[str, Taught],
) -> Figure:
    figure, axes = panels(
        2,
        2,
        width=6.2,
        height=4.2,
        title=(
            "Direct Nash optimisation: exact self-play, its regression from samples, and the"
            " practical version with a teacher"
        ),
    )
    (exploited, ahead), (samples, teacher) = axes
    steps = np.arange(1, HORIZON + 1)
    for (name, played), colour in zip(by_method.items(), ("C0", "C1", "C2"), strict=True):
        exploited.plot(steps, played.exploited[1:], colour, lw=1, label=f"{name}, last policy")
        ahead.plot(steps, played.wins[1:], colour, label=name)
    exploited.plot(steps, by_method[DNO].average, "C0", lw=2.5, label="DNO, average policy")
    label = f"bound for DNO's average at T = {HORIZON}"
    exploited.axhline(bound, color="k", ls="--", lw=1, label=label)
    exploited.set(
        xscale="log",
        xlabel="step t",
        ylabel="exploitability (probability)",
        ylim=(0, 0.64),
        title=f"Cyclic game, exact steps, η = {ETA:g}: only the average settles",
    )
    ahead.axhline(0.5, color="grey", lw=0.8)
    ahead.set(
        xscale="log",
        xlabel="step t",
        ylabel="P(policy ≻ first policy)",
        title="Better than the last policy is not better than the first",
    )
    samples.plot(sizes, errors.scaled, "C0o-", label="measured")
    label = f"limit from the Fisher information, {errors.limit:.2f}"
    samples.axhline(errors.limit, color="k", ls="--", lw=1, label=label)
    samples.set(
        xscale="log",
        xlabel="sampled pairs N",
        ylabel="N × mean squared error of f̂  (nats²)",
        ylim=(0, 1.6 * errors.limit),
        title="Regression on N pairs errs by c/N",
    )
    for (name, found), marker in zip(taught.items(), "os^", strict=True):
        wins = found.against_teacher
        error = wins.std(axis=1) / np.sqrt(wins.shape[1])
        teacher.errorbar(
            range(ROUNDS + 1), wins.mean(axis=1), error, marker=marker, capsize=3, label=name
        )
    teacher.axhline(0.5, color="grey", lw=0.8)
    teacher.set(
        xlabel="iteration",
        ylabel="P(policy ≻ teacher)",
        xticks=range(ROUNDS + 1),
        title=f"DNO-Prct, {wins.shape[1]} small networks (mean ± s.e.)",
    )
    for axis in (exploited, ahead, samples, teacher):
        axis.legend(fontsize=8, loc="lower right" if axis is teacher else "best")
    return figure
