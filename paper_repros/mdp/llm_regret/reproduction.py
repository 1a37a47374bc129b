"""Regret of agents on seven families of losses, in games, and of layers trained by the regret-loss.

Losses, games and layers are drawn here; the language models of the paper are not at hand, and
agents that look at the last round, or respond with noise that does not grow, stand for how they
fail.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from paper_repros.mdp.llm_regret import layers
from paper_repros.mdp.llm_regret.agents import (
    ADAPTIVE,
    GAME_ROUNDS,
    NAMES,
    QUANTAL,
    Gaps,
    Measured,
    agents,
    bandit_bound,
    bandit_step,
    measure,
    play_all,
    self_play,
)
from paper_repros.mdp.llm_regret.figure import caption, draw
from paper_repros.mdp.llm_regret.layers import BEST, LEADER, NOTHING, ON_BALL, SHORT, Learned
from prefsim.analysis import external_regret, loss_variation
from prefsim.loops.online_play import play_bandit
from prefsim.papers import Reproduction, Run, at_least, at_most, below, near
from prefsim.papers.criteria import Criterion
from prefsim.solvers.online_learning.ftpl import NOISES, ftpl
from prefsim.solvers.online_learning.ftrl import ENTROPY, ftrl
from prefsim.solvers.online_learning.hedge import hedge, hedge_bound, hedge_step
from prefsim.solvers.online_learning.linear_attention import cumulative_before
from prefsim.worlds.loss_sequences import FAMILIES, drawn_losses

FAILING = ("alternating", ADAPTIVE)
ROUNDS = 100
TAUGHT = {"fair coins": layers.fair_coins, "uniform": layers.uniform_losses}
Row = dict[str, str | float]


def reproduce(run: Run) -> Reproduction:
    n, starts = (80, 8) if run.quick else (400, 30)
    rng = np.random.default_rng(run.seed)
    losses = drawn_losses(list(FAMILIES), n, ROUNDS, seed=rng)
    found = {
        name: measure(play_all(agent, losses))
        for name, agent in run.progress(agents(ROUNDS).items(), "agents")
    }
    bandit, estimated = play_bandit(losses, step=bandit_step(ROUNDS, 2), seed=rng)
    games = {d: self_play(100, d, GAME_ROUNDS, rng) for d in (2, 3)}
    lesson = layers.Lesson(steps=200 if run.quick else 600)
    short = drawn_losses(list(FAMILIES), 50, lesson.rounds, seed=rng)
    taught = {
        name: measure(
            play_all(layers.layer_agent(layers.taught(law, seed=rng, lesson=lesson)), short)
        )
        for name, law in run.progress(TAUGHT.items(), "layers")
    }
    learned = layers.learn_from_signs(starts, run.seed)
    criteria = (
        *criteria_of_agents(found, losses),
        criterion_of_leaders(losses[:, :2]),
        at_most(
            "Exp3, which sees the loss of its action alone: mean regret, largest of six families",
            external_regret(*bandit).mean(axis=-1),
            bandit_bound(ROUNDS, 2),
            stated="derived",
        ),
        near(
            "what it estimates of a loss, less the loss: mean of all rounds and runs",
            (estimated - losses.sum(axis=-2)).mean() / ROUNDS,
            0.0,
            # Weights of rare actions have a long tail: on 200 seeds a deviation of .004, and .035
            # once.
            within=0.1,
            stated="derived",
        ),
        *criteria_of_games(games),
        *criteria_of_training(learned),
        *criteria_of_taught(taught, lesson),
    )
    table = [
        *rows_of(found, f"{n} runs, T = {ROUNDS}"),
        *rows_of(
            {f"layer taught on {name}": each for name, each in taught.items()},
            f"50 runs, T = {lesson.rounds}",
        ),
        *rows_of_games(games),
        *(
            {"what": "signs, T = 4, unit ball", "agent": name, "family": "all 256 sequences"}
            | {"mean R²": learned.loss[name], "largest R": learned.worst[name]}
            for name in learned.loss
        ),
    ]
    cut = (
        "80 runs an agent rather than 400, 8 starts of the linear layer rather than 30, 200 steps"
        " of teaching rather than 600"
    )
    return Reproduction(
        draw(found, taught, learned, lesson.rounds), table, criteria, caption(lesson.rounds), cut
    )


# --- criteria ---


def criteria_of_agents(found: dict[str, Measured], losses: np.ndarray) -> tuple[Criterion, ...]:
    quantal, hedged = found["quantal"], found["Hedge"]
    rounds = losses.shape[-2]
    halves = quantal.path[NAMES.index(ADAPTIVE), 0, [rounds // 2 - 1, rounds - 1]]
    gain = 1 / (1 + np.exp(-1 / QUANTAL)) - 0.5
    alternating = losses[NAMES.index("alternating"), 0]
    return (
        at_most(
            f"regret of Hedge in all runs of all families, T = {rounds}",
            hedged.path[..., -1],
            hedge_bound(rounds, 2),
            stated="derived",
        ),
        at_most(
            "regret of the Gaussian perturbed leader in all runs of all families",
            found["FTPL"].path[..., -1],
            1.5 * np.sqrt(2 * rounds * np.log(2)),
            stated="derived",
            paper="no-regret",
        ),
        at_least(
            "share of runs that pass the regression test, Hedge and FTPL, each family",
            [found[name].passed(f)[1] for name in ("Hedge", "FTPL") for f in NAMES],
            # The least shares are near .84, of eighty runs in quick mode.
            0.7,
            stated="chosen",
            paper="GPT-4 passes on most families",
        ),
        near(
            "regret of the leader on alternating losses (uniform first round)",
            found["FTL"].regret("alternating"),
            rounds / 2 - 0.25,
            within=1e-9,
            stated="derived",
        ),
        at_least(
            "regret over T on the losses where models fail, FTL and recency",
            [found[name].regret(f) / rounds for name in ("FTL", "recency") for f in FAILING],
            0.49,
            stated="derived",
            paper="GPT-4 fails on such losses",
        ),
        at_least(
            "exponent of their regret in t",
            [found[name].slope[NAMES.index(f)] for name in ("FTL", "recency") for f in FAILING],
            1.0,
            stated="chosen",
        ),
        at_most(
            "share of their runs that pass either test",
            [found[name].passed(f) for name in ("FTL", "recency") for f in FAILING],
            0.0,
            stated="chosen",
        ),
        near(
            "regret of the quantal agent against the adaptive adversary, at T/2 and T: linear",
            halves,
            np.array([0.25, 0.5]) * rounds * gain,
            within=1e-9,
            stated="derived",
        ),
        near(
            "regret of the Gaussian perturbed leader against it, which grows as √T",
            found["FTPL"].path[NAMES.index(ADAPTIVE), 0, -1],
            np.sum(ndtr(1 / np.sqrt(2 * np.arange(2, rounds + 1, 2))) - 0.5),
            within=1e-9,
            stated="derived",
        ),
        at_least(
            "and yet: share of runs of the quantal agent that pass the regression test",
            quantal.passed(ADAPTIVE)[1],
            1.0,
            stated="derived",
        ),
        at_most(
            "share of runs of Hedge that pass the trend test: uniform, sine, adaptive",
            [hedged.passed(f)[0] for f in ("uniform", "sine", ADAPTIVE)],
            0.4,
            stated="chosen",
            paper="the trend test is to validate no-regret",
        ),
        near(
            "p-value of its trend against the adaptive adversary, whose every second round is a"
            " fall: a coin's",
            hedged.trend[NAMES.index(ADAPTIVE), 0],
            0.5,
            within=1e-9,
            stated="derived",
        ),
        near(
            "exponents of Hedge, first run of each family, as of a polynomial fit",
            hedged.slope[:, 0],
            np.polyfit(
                np.log(np.arange(1, rounds + 1)),
                np.log(np.maximum(hedged.path[:, 0], 1e-2)).T,
                1,
            )[0],
            within=1e-9,
            stated="derived",
        ),
        at_least(
            "dynamic regret over T against the adaptive adversary, every agent",
            [each.dynamic[NAMES.index(ADAPTIVE)] / rounds for each in found.values()],
            0.5,
            stated="derived",
        ),
        near(
            "variation of the alternating losses, and their dynamic less external regret for Hedge",
            [
                loss_variation(alternating),
                (hedged.dynamic - hedged.path[..., -1])[NAMES.index("alternating"), 0],
            ],
            [rounds - 1, rounds / 2 - 0.5],
            within=1e-9,
            stated="derived",
        ),
    )


def criterion_of_leaders(losses: np.ndarray) -> Criterion:
    """Return how far apart three ways to Hedge are on the histories of some runs."""
    seen, step = cumulative_before(losses), hedge_step(losses.shape[-2], 2)
    played = hedge(seen, step=step)
    others = (
        ftrl(seen, step=step, regulariser=ENTROPY._replace(exact=None)),
        ftpl(seen, scale=1 / step),
        ftpl(seen, scale=1 / step, noise=NOISES["gumbel"]),
    )
    return near(
        "Hedge, the leader regularised by entropy and that perturbed by Gumbel noise: largest"
        " difference on all histories",
        [np.abs(other - played).max() for other in others],
        0.0,
        within=1e-10,
        stated="derived",
    )


def criteria_of_games(games: dict[int, Gaps]) -> tuple[Criterion, ...]:
    bounds = {d: hedge_bound(GAME_ROUNDS, d) / GAME_ROUNDS for d in games}
    return (
        at_most(
            f"Hedge with itself, 100 games each of 2 and 3 actions, T = {GAME_ROUNDS}: largest gap"
            " to coarse correlated equilibrium over its bound",
            [each.coarse.max() / bounds[d] for d, each in games.items()],
            1.0,
            stated="derived",
        ),
        near(
            "two actions: mean gap to coarse correlated equilibrium",
            games[2].coarse.mean(),
            0.0127,
            within=0.001,
            stated="derived",
        ),
        near(
            "largest distance of the gaps, coarse and correlated, from external and swap regret"
            " over T",
            [
                np.abs(one - other).max()
                for each in games.values()
                for one, other in ((each.coarse, each.external), (each.correlated, each.swap))
            ],
            0.0,
            within=1e-12,
            stated="paper",
        ),
        at_most(
            "games of sum zero: largest duality gap of the averages over twice the bound",
            [each.nash.max() / (2 * bounds[d]) for d, each in games.items()],
            1.0,
            stated="derived",
        ),
    )


def criteria_of_training(learned: Learned) -> tuple[Criterion, ...]:
    trained = learned.trained
    near_best = np.abs(trained.loss / learned.loss[BEST] - 1) < 1e-3
    return (
        near(
            "signs, T = 4: least loss of all sums of quadratic tokens less that of −a*L",
            learned.least - learned.loss[BEST],
            0.0,
            within=1e-9,
            stated="derived",
        ),
        near(
            "a*, and the losses of −a*L, of the leader and of nothing",
            [learned.step, *(learned.loss[name] for name in (BEST, LEADER, NOTHING))],
            [0.36789684, 6.37582294, 6.45665560, 8.0],
            within=1e-8,
            stated="derived",
        ),
        at_least(
            f"share of {trained.loss.size} starts from which training ends within 1e-3 of it",
            near_best.mean(),
            # Of 170 starts 11 ended elsewhere, so that four of 8 do for one seed in a thousand, and
            # seven of 30 for one in four hundred.
            0.5 if trained.loss.size < 20 else 0.7,
            stated="chosen",
            paper="the minimiser is a known no-regret algorithm",
        ),
        at_least(
            "least loss that training reaches, over that of −a*L",
            trained.loss.min() / learned.loss[BEST],
            1 - 1e-9,
            stated="derived",
        ),
        below(
            "largest regret over all sequences, trained below the leader's",
            trained.worst[near_best],
            learned.worst[LEADER],
            stated="derived",
        ),
        at_least(
            "longest decision of what is trained, where the ball has radius 1",
            trained.longest[near_best],
            1.5,
            stated="derived",
        ),
        below(
            "projected onto the ball a* is not the best step: loss of 1.25 a* below that of a*",
            learned.loss[SHORT],
            learned.loss[ON_BALL],
            stated="derived",
        ),
    )


def criteria_of_taught(taught: dict[str, Measured], lesson: layers.Lesson) -> tuple[Criterion, ...]:
    bound = hedge_bound(lesson.rounds, 2)
    return (
        at_most(
            f"layer taught on fair coins, N = {lesson.sequences}, k = {lesson.k:g}, T ="
            f" {lesson.rounds}: regret on the losses where models fail, which it has not seen, over"
            " Hedge's bound",
            [taught["fair coins"].regret(f).max() / bound for f in FAILING],
            1.0,
            stated="chosen",
            paper="trained Transformers are no-regret where GPT-4 fails",
        ),
        at_least(
            "the same taught on uniform losses, which are smaller",
            [taught["uniform"].regret(f).max() / bound for f in FAILING],
            1.0,
            stated="chosen",
        ),
    )


# --- the table ---


def rows_of(found: dict[str, Measured], what: str) -> list[Row]:
    return [
        {
            "what": what,
            "agent": name,
            "family": family,
            "mean regret": float(each.regret(family).mean()),
            "mean dynamic regret": float(each.dynamic[NAMES.index(family)].mean()),
            "passes the trend test": each.passed(family)[0],
            "passes the regression": each.passed(family)[1],
            "mean exponent": float(each.slope[NAMES.index(family)].mean()),
        }
        for name, each in found.items()
        for family in NAMES
    ]


def rows_of_games(games: dict[int, Gaps]) -> list[Row]:
    return [
        {
            "what": f"100 games, T = {GAME_ROUNDS}",
            "agent": "Hedge with itself",
            "family": f"{d} actions",
            "mean coarse gap": float(each.coarse.mean()),
            "largest coarse gap": float(each.coarse.max()),
            "largest correlated gap": float(each.correlated.max()),
            "largest duality gap, sum zero": float(each.nash.max()),
        }
        for d, each in games.items()
    ]
