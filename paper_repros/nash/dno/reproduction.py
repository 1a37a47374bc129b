"""Exact steps beside two rivals, regression on samples, and small networks with a teacher."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from paper_repros.nash.dno.self_play import (
    DNO,
    DPO,
    SAMPLES,
    SFT,
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
from prefsim.papers.figures import BLUE, GREEN, OLIVE, ORANGE, PURPLE, VERMILION
from prefsim.solvers import nash_path, solve_nash
from prefsim.worlds import TEXTBOOK_REFERENCE, PreferenceGame, textbook_game

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ETA, HORIZON = 0.5, 300
ROUNDS_LEARNED, DRAWS = 4, 4000
GAMES, QUICK_GAMES = 20, 4
NETWORKS, QUICK_NETWORKS = 30, 10
# Of the regression: pairs, and how often so many are drawn.
SIZES, RUNS = (250, 500, 1000, 2000, 4000, 8000, 16000), 4000
QUICK_SIZES, QUICK_RUNS = (250, 1000, 4000, 16000), 400
SHOWN = (1, 5, 20, 100, 300)
PATH = 60  # steps that are drawn in the triangle
HUES = {DNO: BLUE, DPO: ORANGE, SFT: GREEN}
GENTLE = "gentle steps"
TEACHING = (
    (GENTLE, {"step": 0.5, "with_teacher": True}),
    ("steps four times as long", {"step": 2.0, "with_teacher": True}),
    ("gentle, without a teacher", {"step": 0.5, "with_teacher": False}),
)


def reproduce(run: Run) -> Reproduction:
    game, reference = to_numpy(textbook_game().preference), np.asarray(TEXTBOOK_REFERENCE)
    in_textbook = traces(game, reference, eta=ETA, steps=HORIZON)
    n_games = QUICK_GAMES if run.quick else GAMES
    games = to_numpy(PreferenceGame.random(10, seed=run.seed, batch_shape=(n_games,)).preference)
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
    sizes, runs = (QUICK_SIZES, QUICK_RUNS) if run.quick else (SIZES, RUNS)
    # Fewer repetitions leave more noise.
    within = 0.3 if run.quick else 0.15
    errors = regression_errors(
        game,
        np.array([0.4, 0.4, 0.2]),
        eta=ETA,
        sizes=sizes,
        runs=runs,
        seed=run.seed,
    )
    networks = QUICK_NETWORKS if run.quick else NETWORKS
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
            within=within,
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
    figure = draw(game, in_textbook, sizes, errors, within, taught)
    caption = (
        f"Top left: policies over the three responses of a cyclic game in {PATH} exact steps from"
        " the dot; the last policies go round and outwards, the mean of DNO's stays near the"
        " equilibrium (star). Top right: how much a strategy can be exploited, lower is better:"
        f" DNO's mean reaches {averages[0]:.3f} at T = {HORIZON}, where its bound (dashed) is"
        f" {bounds[0]:.2f}, while its last policies come to"
        f" {in_textbook[DNO].exploited[HORIZON // 2 :].max():.2f} (dotted). Bottom left: N times"
        " the squared error of scores learnt from N pairs; on the dashed line it is what maximum"
        " likelihood leaves, and the band is what is accepted. Bottom right: how often networks win"
        f" against their teacher, mean and standard error of {networks}; higher is better."
    )
    cut = (
        f"{QUICK_GAMES} random games rather than {GAMES}, {QUICK_NETWORKS} networks rather than"
        f" {NETWORKS}, {len(QUICK_SIZES)} numbers of pairs rather than {len(SIZES)} and"
        f" {QUICK_RUNS} repetitions rather than {RUNS}"
    )
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)


def draw(
    game: np.ndarray,
    by_method: dict[str, Trace],
    sizes: tuple[int, ...],
    errors: Errors,
    within: float,
    taught: dict[str, Taught],
) -> Figure:
    figure, axes = panels(
        2,
        2,
        width=6.2,
        height=4.4,
        title=(
            "In a cyclic game DNO's average policy settles and its last one does not; from N pairs"
            " its regression errs by c/N"
        ),
    )
    (paths, exploited), (samples, teacher) = axes
    draw_paths(paths, game, by_method)
    draw_exploited(exploited, by_method)
    draw_samples(samples, sizes, errors, within)
    draw_teaching(teacher, taught)
    return figure


def draw_paths(axis: Any, game: np.ndarray, by_method: dict[str, Trace]) -> None:
    """Draw what is played over the three responses, in their triangle."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]])
    axis.plot(*corners[[0, 1, 2, 0]].T, color="0.6", lw=1)
    for k, (corner, side) in enumerate(zip(corners, ("right", "left", "left"), strict=True)):
        axis.annotate(
            f"response {k + 1}",
            corner,
            (-6 if side == "right" else 6, 0),
            textcoords="offset points",
            ha=side,
            va="center",
        )
    for name, style in ((DPO, "s--"), (DNO, "o-")):
        path = by_method[name].policy[: PATH + 1] @ corners
        label = f"{name}, last policy"
        axis.plot(*path.T, style, color=HUES[name], ms=2.5, lw=0.9, label=label)
    played = by_method[DNO].policy[:PATH]
    means = np.cumsum(played, axis=0) / np.arange(1, PATH + 1)[:, None]
    axis.plot(*(means @ corners).T, color=HUES[DNO], lw=3, label="DNO, average policy")
    axis.plot(*(played[0] @ corners), "ko", ms=6)
    equilibrium = to_numpy(solve_nash(game, method="lp").policy)
    axis.plot(*(equilibrium @ corners), "k*", ms=13, label="equilibrium", zorder=5)
    axis.set(
        aspect="equal",
        xlim=(-0.3, 1.3),
        xticks=[],
        yticks=[],
        title=f"Cyclic game, {PATH} exact steps, η = {ETA:g}: policies go round",
    )
    axis.grid(visible=False)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.legend(fontsize=8, loc="upper left")


def draw_exploited(axis: Any, by_method: dict[str, Trace]) -> None:
    """Draw exploitability by step: of averages, and the worst last policy of late."""
    steps = np.arange(1, HORIZON + 1)
    for (name, played), marker in zip(by_method.items(), "os^", strict=True):
        style = {"color": HUES[name], "marker": marker, "markevery": (0.1, 0.2), "ms": 5}
        axis.plot(steps, played.average, **style, label=f"{name}, average policy")
    worst = [by_method[DNO].exploited[t // 2 + 1 : t + 1].max() for t in steps]
    label = "DNO, worst last policy of steps t/2 to t"
    axis.plot(steps, worst, ":", color=HUES[DNO], lw=2, label=label)
    start = by_method[DNO].policy[0].min()
    bound = ETA * math.log(1 / start) / steps + 1 / (8 * ETA)
    axis.plot(steps, bound, "k--", lw=1, label="bound for DNO's average")
    axis.set(
        xscale="log",
        yscale="log",
        ylim=(3e-3, 3),
        xlabel="step t",
        ylabel="exploitability (probability)",
        title="DNO's average settles, its last policy does not",
    )
    axis.legend(fontsize=8, loc="upper right", ncols=2)


def draw_samples(axis: Any, sizes: tuple[int, ...], errors: Errors, within: float) -> None:
    """Draw N times the error of regression on N pairs, and the band that is accepted."""
    band = errors.limit * np.array([1 - within, 1 + within])
    axis.axhspan(*band, color="0.5", alpha=0.15, lw=0, label="accepted")
    label = f"limit from the Fisher information, {errors.limit:.2f}"
    axis.axhline(errors.limit, color="k", ls="--", lw=1, label=label)
    axis.plot(sizes, errors.scaled, "o-", color=HUES[DNO], label="measured")
    axis.set(
        xscale="log",
        xlabel="sampled pairs N",
        ylabel="N × mean squared error of scores (nats²)",
        ylim=(0, 1.6 * errors.limit),
        title="Regression on N pairs errs by c/N",
    )
    axis.legend(fontsize=8, loc="lower left")


def draw_teaching(axis: Any, taught: dict[str, Taught]) -> None:
    """Draw how often networks win against their teacher."""
    for (name, found), marker, colour in zip(
        taught.items(), "Dv<", (PURPLE, VERMILION, OLIVE), strict=True
    ):
        wins = found.against_teacher
        error = wins.std(axis=1) / np.sqrt(wins.shape[1])
        style = {"color": colour, "marker": marker, "capsize": 3, "label": name}
        axis.errorbar(range(ROUNDS + 1), wins.mean(axis=1), error, **style)
    axis.axhline(0.5, color="grey", lw=0.8)
    axis.set(
        xlabel="iteration",
        ylabel="P(policy ≻ teacher)",
        xticks=range(ROUNDS + 1),
        title=f"DNO-Prct, {wins.shape[1]} small networks (mean ± s.e.)",
    )
    axis.legend(fontsize=8, loc="lower right")
