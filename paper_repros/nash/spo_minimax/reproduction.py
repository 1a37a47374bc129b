"""Self-play against reward models: on a tree, on samples, on gymnasium's cart, in elections."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paper_repros.nash.spo_minimax import trajectories
from paper_repros.nash.spo_minimax.cart_pole import (
    Learnt,
    criteria_of,
    draw_learnt,
    learn_all,
    rows_of,
)
from paper_repros.nash.spo_minimax.hedge import (
    fast_bound,
    hedge_bound,
    margin_games,
    regression_error,
)
from paper_repros.nash.spo_minimax.trajectories import (
    CYCLIC,
    HORIZONS,
    LATE,
    MAX_REWARD,
    NOISY,
    Outcome,
    Sampled,
    family,
)
from prefsim.analysis import log_log_slope
from prefsim.analysis.elections import Election, elect
from prefsim.analysis.voting import borda_scores, condorcet_margin, copeland_scores
from prefsim.backend import to_numpy
from prefsim.papers import (
    Reproduction,
    Run,
    at_most,
    below,
    between,
    holds,
    near,
    panels,
)
from prefsim.papers.figures import BLUE, GREEN, INDIGO, ORANGE, PURPLE, SKY, VERMILION, WINE
from prefsim.solvers import nash_path, solve_nash
from prefsim.solvers.games.certificates import exploitability, payoff
from prefsim.worlds import synthetic_ballots

N = trajectories.N
GAMES, MANY_GAMES = 20, 200
# Games on samples, their iterations, and those of the fast rate.
FULL, QUICK = (GAMES, 3000, 20_000), (10, 300, 4000)
# Of each method, on the cart.
LEARNERS = 5
MARGINS = (0.2, 0.4)
# What the majorities of three voters can lead a Borda winner to lose.
BEATEN_BY = 1 / 6
STYLES = (("o", BLUE), ("s", ORANGE), ("D", GREEN), ("^", PURPLE))
FLIPPED = (STYLES[0], ("v", SKY), *STYLES[1:3])


class FastRate(NamedTuple):
    """Largest exploitability of the averages by iteration, and its bound, ``(K,)`` each."""

    iterations: np.ndarray
    exploited: np.ndarray
    bound: np.ndarray

    @property
    def slope(self) -> float:
        """Over the last half of the iterations (in logarithms)."""
        late = self.iterations >= np.sqrt(self.iterations[-1] * self.iterations[0])
        return float(log_log_slope(self.iterations[late], self.exploited[late]))


def fast_rate(games: np.ndarray, margin: float, horizon: int) -> FastRate:
    """Play games with a Condorcet winner of this margin."""
    record = max(1, horizon // 64)
    path = nash_path(games, method="spo", step=margin / 2, iterations=horizon, record=record)
    rounds = path.iteration[1:]
    exploited = to_numpy(path.average_exploitability)[1:].max(axis=1)
    return FastRate(rounds, exploited, fast_bound(N, margin) / (2 * rounds))


class Contest(NamedTuple):
    """An election, with the exploitability of SPO's average and its bound."""

    election: Election
    exploitability: float
    bound: float

    def row(self) -> dict[str, str | float | int]:
        """Return who wins by every rule."""
        labels, table = self.election.labels, to_numpy(self.election.game.preference)
        borda = int(borda_scores(table).argmax())
        return self.election.row() | {
            "Borda": labels[borda],
            "exploitability, Borda": float(exploitability(table, np.eye(len(table))[borda])),
            "Copeland": labels[int(copeland_scores(table).argmax())],
            "exploitability, SPO": self.exploitability,
            "bound, SPO": self.bound,
        }


def contest(path: Path, horizon: int = HORIZONS[-1]) -> Contest:
    """Solve an election exactly and by self-play."""
    election = elect(path)
    played = nash_path(election.game, method="spo", iterations=horizon, record=horizon)
    bound = hedge_bound(horizon, election.game.n_responses)
    return Contest(election, float(played.average_exploitability[-1]), float(bound))


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    # Every game has a seed of its own.
    seeds = range(MANY_GAMES * run.seed, MANY_GAMES * (run.seed + 1))
    games = {name: family(name, seeds[:GAMES]) for name in (MAX_REWARD, NOISY, CYCLIC, LATE)}
    # What is learnt from flipped labels is measured in the game without flips.
    truths = games | {NOISY: games[MAX_REWARD]}
    outcomes = {
        name: trajectories.compare(games[name], truths[name], rng)
        for name in run.progress(games, "families")
    }
    backup_error = trajectories.backup_error(games[CYCLIC], 100 if run.quick else 1000)
    hedge_error = regression_error(games[CYCLIC], 20 if run.quick else 200)
    n_played, iterations, longest = QUICK if run.quick else FULL
    sampled = trajectories.play_on_samples(seeds[:n_played], iterations, run)
    led = {margin: margin_games(run.seed, N, margin, GAMES) for margin in MARGINS}
    rates = {margin: fast_rate(of, margin, longest) for margin, of in led.items()}
    # Minutes: longer than all else together.
    learnt = {} if run.quick else learn_all(run, LEARNERS)
    real = sorted((run.data / "preflib").glob("*.so[ci]")) if run.data else []
    contests = [contest(path) for path in (synthetic_ballots(), *real)]

    # The others in a queue are as likely to be any trajectory, itself among them.
    in_queues = trajectories.queue_win_rates_of_all(games[CYCLIC][0], rng)
    expected = ((N - 1) * borda_scores(games[CYCLIC][0]) + 0.5) / N
    winners = to_numpy(solve_nash(games[CYCLIC], method="lp").policy)

    cyclic, easy = outcomes[CYCLIC], outcomes[MAX_REWARD]
    bounds = hedge_bound(HORIZONS, N)
    many = family(CYCLIC, seeds)
    beaten_by = exploitability(many, np.eye(N)[borda_scores(many).argmax(axis=-1)])
    is_beaten = beaten_by > 1e-9
    criteria = (
        at_most(
            "exploitability of SPO's average over its bound √(log 8/(2T)), largest by family",
            [np.max(o.played / bounds[:, None]) for o in outcomes.values()],
            1,
            stated="derived",
        ),
        at_most(
            "slope of the average's log-exploitability against log T, by family",
            [o.slope for o in outcomes.values()],
            -0.48,
            stated="chosen",
            paper="at least as fast as T^(−1/2)",
        ),
        holds(
            "intransitive, reward model: by how much the Borda winner is exploited",
            np.where(is_beaten, np.abs(beaten_by - BEATEN_BY) < 1e-9, True),
            "1/6 or nothing",
            stated="derived",
        ),
        between(
            f"intransitive, reward model: share of {MANY_GAMES} games in which it is exploited",
            is_beaten.mean(),
            0.25,
            0.55,
            stated="chosen",
        ),
        at_most(
            f"intransitive, SPO: exploitability at T = {HORIZONS[-1]} over √(log 8/(8T)), which is"
            " what it takes to learn a pure winner",
            cyclic.average[-1] / (bounds[-1] / 2),
            1.02,
            stated="chosen",
        ),
        near(
            "intransitive: the best win rate against a minimax winner",
            payoff(games[CYCLIC], winners).max(axis=-1),
            0.5,
            within=1e-9,
            stated="paper",
        ),
        near(
            "win rates in queues of ten uniform trajectories, against those of Borda's scores",
            in_queues,
            expected,
            within=0.02,
            stated="derived",
        ),
        at_most(
            "reward model: its win rates less Borda's scores, by family",
            [o.win_rate_error for o in outcomes.values()],
            0.12,
            stated="chosen",
            paper="a reward model's choice is Borda's",
        ),
        at_most(
            "transitive, reward model: exploitability",
            easy.model,
            1e-9,
            stated="paper",
        ),
        at_most(
            f"transitive, SPO: exploitability over its bound at T = {HORIZONS[-1]}",
            easy.average[-1] / bounds[-1],
            1,
            stated="derived",
        ),
        at_most(
            "Hedge by backups of the tree against Hedge over trajectories",
            backup_error,
            1e-10,
            stated="derived",
        ),
        at_most(
            "Hedge by gradient steps of the loss on uniform pairs against Hedge",
            hedge_error,
            1e-10,
            stated="derived",
        ),
        near(
            "games of the fast rate, Δ = .2, .4: margin of the Condorcet winner",
            [condorcet_margin(of).min() for of in led.values()],
            MARGINS,
            within=1e-12,
            stated="derived",
        ),
        near(
            "games of the fast rate, Δ = .2, .4: others that the winner beats",
            [copeland_scores(of)[:, 0].min() for of in led.values()],
            N - 1,
            within=1e-12,
            stated="derived",
        ),
        near(
            "slope of the fast rate, Δ = .2, .4",
            [rate.slope for rate in rates.values()],
            -1,
            within=0.05,
            stated="derived",
        ),
        at_most(
            "fast rate: exploitability over its bound, Δ = .2, .4",
            [np.max(rate.exploited / rate.bound) for rate in rates.values()],
            1,
            stated="derived",
        ),
        below(
            "on samples: exploitability after the last comparisons and after the first, by world",
            [line[-1] for line in sampled.exploited.values()],
            [line[0] for line in sampled.exploited.values()],
            stated="chosen",
        ),
        near(
            "on samples: exploitability after the last comparisons, against exact policy gradients",
            [line[-1] for line in sampled.exploited.values()],
            list(sampled.exactly.values()),
            within=0.02,
            stated="chosen",
        ),
        at_most(
            "ballots: exploitability of SPO's average over its bound",
            [c.exploitability / c.bound for c in contests],
            1,
            stated="derived",
        ),
        holds(
            "ballots: the minimax winner",
            [c.election.respects_majorities for c in contests],
            "the Condorcet winner, where there is one",
            stated="paper",
        ),
        *(criteria_of(learnt) if learnt else ()),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "family": name,
            **{f"SPO, T = {t}": float(o.average[i].mean()) for i, t in enumerate(HORIZONS)},
            "slope": o.slope,
            "Borda, worst": float(o.borda.max()),
            "reward model, mean": float(o.model.mean()),
        }
        for name, o in outcomes.items()
    ]
    for i, asked in enumerate(sampled.comparisons):
        row: dict[str, str | float | int] = {"comparisons": int(asked)}
        row |= {f"exploitability, {name}": float(x[i]) for name, x in sampled.exploited.items()}
        row |= {f"mass on the best, {name}": float(x[i]) for name, x in sampled.best.items()}
        table.append(row)
    table += [c.row() for c in contests]
    table += rows_of(learnt)
    caption = (
        "Lower is better in the first four panels. Top left: exploitability of SPO's average policy"
        " in exact play, mean of the games of each family, by its length; labels that flip are"
        " measured in the game without flips, for which the bound (dashed) does not hold. Top"
        f" right: {GAMES} games of intransitive majorities, ordered; of {MANY_GAMES} such games the"
        f" best reward is beaten in {100 * is_beaten.mean():.0f} %, by 1/6, while SPO stays at"
        f" {cyclic.average[-1].max():.3f} or less. Bottom left: SPO that asks for labels, by how"
        " many it asked. Bottom right: the worst game with a Condorcet winner, which costs 1/T."
    )
    if learnt:
        caption += (
            " Last row: share of steps that learners keep a pole upright, and how far they go to"
            " both sides for raters who want that; higher is better."
        )
    cut = (
        f"{QUICK[0]} games and {QUICK[1]} iterations on samples rather than {FULL[0]} and"
        f" {FULL[1]}, {QUICK[2]} of the fast rate rather than {FULL[2]}, no cart and pole"
    )
    figure = draw(outcomes, sampled, rates, learnt)
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)


def draw(
    outcomes: dict[str, Outcome],
    sampled: Sampled,
    rates: dict[float, FastRate],
    learnt: dict[str, Learnt],
) -> Any:
    figure, axes = panels(
        3 if learnt else 2,
        2,
        title=(
            "Self-play with a no-regret learner reaches the minimax winner, also where preferences"
            " are intransitive"
        ),
        width=6.25,
        height=4.2,
    )
    (exact, choices), (samples, fast) = axes[:2]
    draw_families(exact, outcomes)
    draw_choices(choices, outcomes[CYCLIC])
    for (name, line), (marker, colour) in zip(sampled.exploited.items(), FLIPPED, strict=True):
        samples.plot(sampled.comparisons, line, marker=marker, color=colour, ms=4, label=name)
    samples.set(
        xscale="log",
        ylim=(0, None),
        xlabel="comparisons asked",
        ylabel="exploitability of the average policy",
        title="SPO on samples: queue of 10, policy gradient",
    )
    for colour, (margin, rate) in zip((WINE, INDIGO), rates.items(), strict=True):
        label = f"Δ = {margin:g}, slope {rate.slope:.2f}".replace("-", "−")
        fast.plot(rate.iterations, rate.exploited, color=colour, lw=2, label=label)
        label = f"bound, Δ = {margin:g}"
        fast.plot(rate.iterations, rate.bound, color=colour, ls="--", lw=1, label=label)
    fast.set(
        xscale="log",
        yscale="log",
        xlabel="iterations T, with η = Δ/2",
        ylabel="largest exploitability of the average policy",
        title="a Condorcet winner with margin Δ: rate 1/T",
    )
    if learnt:
        draw_learnt(axes[2], learnt)
    for axis in axes.flat:
        # Between nothing and 1/6 there is no choice of a single trajectory.
        axis.legend(fontsize=8, loc="center left" if axis is choices else "best")
    return figure


def draw_families(axis: Any, outcomes: dict[str, Outcome]) -> None:
    """Draw the exploitability of exact play by its length, for each family of games."""
    for (name, outcome), (marker, colour) in zip(outcomes.items(), STYLES, strict=True):
        measured = ", in the clean game" if name == NOISY else ""
        label = f"{name}{measured}: slope {outcome.slope:.2f}".replace("-", "−")
        axis.plot(HORIZONS, outcome.average.mean(axis=1), marker=marker, color=colour, label=label)
    axis.plot(HORIZONS, hedge_bound(HORIZONS, N), "k--", lw=1, label="bound: slope −0.50")
    axis.set(
        xscale="log",
        yscale="log",
        ylim=(5e-3, 0.5),
        xlabel="iterations T, with η = √(8 log 8 / T)",
        ylabel="exploitability of the average policy",
        title="exact SPO on a tree of 8 trajectories",
    )


def draw_choices(axis: Any, cyclic: Outcome) -> None:
    """Draw how far the choices in each intransitive game can be exploited."""
    order = np.argsort(cyclic.borda, kind="stable")
    rank = np.arange(1, order.size + 1)
    label = "reward model on 2000 comparisons"
    axis.plot(rank, cyclic.borda[order], "s", color=VERMILION, label="best reward (Borda)")
    axis.plot(rank, cyclic.model[order], "x", color="k", label=label)
    axis.plot(rank, cyclic.average[-1][order], "o", color=BLUE, label=f"SPO, T = {HORIZONS[-1]}")
    axis.set(
        xticks=rank,
        xlabel="game (majorities of three random rankings)",
        ylabel="exploitability (probability)",
        title="intransitive majorities: the best reward may be beaten",
    )
