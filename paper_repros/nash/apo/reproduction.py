"""Momentum on Bradley–Terry rewards, in games, and with DPO fitted to sampled pairs."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from paper_repros.nash.apo.figure import draw
from paper_repros.nash.apo.momentum import (
    CYCLE,
    CYCLE_START,
    DOMINANCE,
    MOMENTA,
    Bandit,
    coefficients,
    distance,
    equilibrium,
    equilibrium_of_a_cycle,
    play_game,
    rounds_on_reward,
    tilted_references,
)
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.loops import accelerate, momentum_coefficients
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.papers import (
    Reproduction,
    Run,
    apart,
    at_least,
    at_most,
    below,
    near,
    worst,
)
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.worlds import ContextualBandit

BETA, SLOW_BETA = 0.5, 50.0
# A best reward that is ahead by less takes thousands of slow rounds.
LEAST_LEAD = 0.2
LONGEST = 40  # rounds, of which the figure shows 20
GOAL = 1e-3  # the shortfall to which rounds are counted
# 20 000 policies, the first being the start.
LONG = 19_999
LAST, AVERAGE = (0.061, 0.337, 0.398), (0.0004, 0.0020, 0.0023)
SAMPLED_MOMENTA = (0.0, 0.3)
FIVE_ARMS = Bandit(np.array([0.0, 0.3, 0.6, 0.9, 1.2]), np.full(5, 0.2))
SAMPLED: Any = {"beta": 2.0, "rounds": 6}
# Of the sampled pairs.
REPLICATES, QUICK_REPLICATES = 40, 5
SHOWN_ROUNDS = (1, 5, 10, 20)
FOLLOWED = 3  # the round that the caption speaks of

# --- numbers ---


class RewardPath(NamedTuple):
    """Shortfall, its bound and KL from the reference of the fitted policies, ``(rounds,)``."""

    shortfall: np.ndarray
    bound: np.ndarray
    drift: np.ndarray
    error: float


def follow(bandit: Bandit, momentum: float) -> RewardPath:
    """Return what rounds reach, and how far they are from their closed form (relative)."""
    options: Any = {"beta": BETA, "momentum": momentum, "rounds": LONGEST}
    run = rounds_on_reward(bandit, **options)
    errors = [
        apart(found, exact, scale=1 + np.abs(exact).max(axis=-1, keepdims=True))
        for found, exact in zip(run, tilted_references(bandit, **options), strict=True)
    ]
    return RewardPath(
        bandit.shortfall(run.fitted),
        bandit.bound(BETA, coefficients(momentum, LONGEST).fitted),
        categorical_kl(run.fitted, np.log(bandit.reference)),
        worst(*errors).error,
    )


def rounds_to_goal(bandit: Bandit, beta: float, momentum: float, rounds: int) -> int:
    """Return the first of so many rounds whose fitted policy misses the best reward by ``GOAL``."""
    run = rounds_on_reward(bandit, beta=beta, momentum=momentum, rounds=rounds)
    met = bandit.shortfall(run.fitted) <= GOAL
    if not met.any():
        raise ValueError(f"rounds must be enough to reach {GOAL}, got {rounds}")
    return int(np.argmax(met)) + 1


class Counts(NamedTuple):
    """Rounds to ``GOAL`` with one β by momentum: counted, and those that c_T predicts."""

    found: dict[float, int]
    predicted: dict[float, int]


def tilt_to_goal(bandit: Bandit) -> float:
    """Return the smallest t for which π_ref exp(t r) misses the best reward by ``GOAL`` at most."""

    def missed(tilt: float) -> float:
        tilted = log_softmax(np.log(bandit.reference) + tilt * bandit.reward)
        return float(bandit.shortfall(tilted)) - GOAL

    # The shortfall falls as exp(−t gap) from at most the range times the odds n − 1 < 20.
    enough = math.log(20 * float(np.ptp(bandit.reward)) / GOAL) / lead(bandit)
    return float(brentq(missed, 0.0, enough, xtol=1e-12))


def counts_of(bandit: Bandit, beta: float) -> Counts:
    """Count the rounds for every momentum."""
    plain = beta * tilt_to_goal(bandit)
    predicted = {alpha: rounds_worth(plain, alpha) for alpha in MOMENTA}
    found = {a: rounds_to_goal(bandit, beta, a, predicted[a] + 5) for a in MOMENTA}
    return Counts(found, predicted)


def rounds_worth(plain: float, momentum: float) -> int:
    """Return the first round that is worth so many plain ones."""
    worth = (
        momentum_coefficients(t, momentum=momentum).fitted for t in range(math.ceil(plain) + 1)
    )
    return next(t for t, c in enumerate(worth) if c >= plain)


def lead(bandit: Bandit) -> float:
    """Return by how much the best reward is ahead of the next."""
    return float(np.diff(np.sort(bandit.reward))[-1])


def drawn_bandit(rng: np.random.Generator) -> Bandit:
    """Return twenty normal rewards, the best at least ``LEAST_LEAD`` ahead, and even odds."""
    reward = rng.standard_normal(20)
    best = int(reward.argmax())
    reward[best] = max(reward[best], np.delete(reward, best).max() + LEAST_LEAD)
    return Bandit(reward, np.full(20, 1 / 20))


def sampled_shortfall(momentum: float, *, pairs: int, replicates: int, seed: int) -> np.ndarray:
    """Return the mean shortfall ``(rounds,)`` of DPO on labelled pairs of the last policy."""
    world = ContextualBandit(reward=FIVE_ARMS.reward[None])
    rng = np.random.default_rng(seed)

    def improve(policy: TabularPolicy, t: int) -> TabularPolicy:
        # All labelled pairs with their probabilities: a draw is how often each one was seen.
        every = Comparisons.population(world, policy)
        chance = 2 * every.weight * every.prob
        seen = rng.multinomial(pairs, chance / chance.sum(axis=-1, keepdims=True))
        data = Comparisons(every.prompt, every.chosen, every.rejected, weight=seen / pairs)
        before = policy.logits

        # A response that was hardly drawn may win every time: a small ridge keeps its logit finite.
        def ridge(fitted: TabularPolicy) -> Any:
            import torch

            return 1e-3 * ((fitted.logits - torch.as_tensor(before)) ** 2).sum(dim=(-2, -1))

        loss = functools.partial(losses.dpo, beta=SAMPLED["beta"])
        return fit(policy, loss, data, reference=policy, penalty=ridge).policy

    start = TabularPolicy(np.zeros((replicates, 1, FIVE_ARMS.reward.size)))
    path = accelerate(improve, start, momentum=momentum, rounds=SAMPLED["rounds"])
    fitted = np.stack([to_numpy(passed.fitted.log_probs)[:, 0] for passed in path])
    return FIVE_ARMS.shortfall(fitted).mean(axis=-1)


# --- criteria, table, figure ---


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    bandit = drawn_bandit(rng)
    paths = {alpha: follow(bandit, alpha) for alpha in run.progress(MOMENTA, "rewards")}
    slow, fast = counts_of(bandit, SLOW_BETA), counts_of(bandit, BETA)
    plain = slow.found[0.0]

    dominance = play_game(DOMINANCE, np.full(3, 1 / 3), step=0.5, rounds=150)
    cycle = play_game(CYCLE, CYCLE_START, step=0.05, rounds=LONG, record=10)
    is_hundredth = (cycle.iteration % 100 == 0) & (cycle.iteration > 0)
    spiral = distance(cycle, CYCLE)[is_hundredth]

    replicates = QUICK_REPLICATES if run.quick else REPLICATES
    exact = {
        alpha: FIVE_ARMS.shortfall(rounds_on_reward(FIVE_ARMS, momentum=alpha, **SAMPLED).fitted)
        for alpha in SAMPLED_MOMENTA
    }
    sampled = {
        alpha: sampled_shortfall(alpha, pairs=1000, replicates=replicates, seed=run.seed)
        for alpha in run.progress(SAMPLED_MOMENTA, "sampled rounds")
    }

    criteria = (
        at_most(
            "log-policies against log π_ref + c_T r/β, relative",
            [path.error for path in paths.values()],
            1e-9,
            stated="derived",
        ),
        at_most(
            "shortfall less its bound β log(1/π_ref(y*))/c_T, largest of all rounds",
            [np.max(path.shortfall - path.bound) for path in paths.values()],
            1e-12,
            stated="derived",
            paper="O((1 − α)/T)",
        ),
        *(
            near(
                f"slow rounds (β = 50): count at α = {alpha:g} over 1 − α of the plain one",
                slow.found[alpha] / (1 - alpha) / plain,
                1,
                # The transient of α/(1 − α)² rounds is a small part of the count, or explains it.
                within=max(0.1, 1.2 * alpha / (1 - alpha) ** 2 / plain),
                stated="chosen",
                paper="momentum saves the factor 1 − α",
            )
            for alpha in MOMENTA[1:]
        ),
        *(
            near(
                f"{name} rounds (β = {beta:g}): counts against what c_T predicts",
                list(counts.found.values()),
                list(counts.predicted.values()),
                within=0,
                stated="derived",
            )
            for name, beta, counts in (("slow", SLOW_BETA, slow), ("fast", BETA, fast))
        ),
        at_most(
            "fast rounds (β = .5): counts with more momentum less those with less",
            np.diff(list(fast.found.values())),
            0,
            stated="derived",
        ),
        at_least(
            "fast rounds (β = .5): count at α = .9 over the plain one, as the transient dominates",
            fast.found[0.9] / fast.found[0.0],
            0.11,
            stated="chosen",
        ),
        near(
            "dominance game: exploitability after 20 rounds, α = 0, .3, .6",
            dominance.exploitability[20],
            (0.0418, 0.0283, 0.0114),
            within=6e-5,
            stated="derived",
        ),
        near(
            "cyclic game: exploitability of the last of 20 000 policies, α = 0, .3, .6",
            cycle.exploitability[-1],
            LAST,
            within=6e-4,
            stated="derived",
        ),
        near(
            "cyclic game: exploitability of their average, α = 0, .3, .6",
            cycle.average_exploitability[-1],
            AVERAGE,
            within=6e-5,
            stated="derived",
        ),
        near(
            "equilibria of the two games, by the linear program",
            [equilibrium(DOMINANCE), equilibrium(CYCLE)],
            [np.eye(3)[0], equilibrium_of_a_cycle(CYCLE)],
            within=1e-9,
            stated="derived",
        ),
        below(
            "cyclic game: KL(π*‖π̂_T) at every hundredth round, with less momentum and with more",
            spiral[:, :-1],
            spiral[:, 1:],
            stated="derived",
        ),
        at_least(
            "DPO on 1000 pairs a round: shortfall after 6 rounds, α = 0 over α = .3",
            sampled[0.0][-1] / sampled[0.3][-1],
            1.1,
            stated="chosen",
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "momentum": alpha,
            **{f"shortfall, T = {t}": float(path.shortfall[t - 1]) for t in SHOWN_ROUNDS},
            **{f"KL from the reference, T = {t}": float(path.drift[t - 1]) for t in SHOWN_ROUNDS},
            "rounds to 1e-3, β = 50": slow.found[alpha],
            "rounds to 1e-3, β = 0.5": fast.found[alpha],
        }
        for alpha, path in paths.items()
    ]
    for t in range(SAMPLED["rounds"]):
        row: dict[str, str | float | int] = {"round": t + 1}
        for alpha in SAMPLED_MOMENTA:
            row[f"shortfall, α = {alpha:g}, exact"] = float(exact[alpha][t])
            row[f"shortfall, α = {alpha:g}, 1000 pairs a round"] = float(sampled[alpha][t])
        table.append(row)
    figure = draw(bandit, paths, (dominance, cycle), (exact, sampled), replicates)
    caption = (
        "Shortfall: the best reward less the expected one; lower is better throughout. Top left:"
        f" exact rounds on drawn rewards, and their bounds (dotted); in round {FOLLOWED} it is"
        f" {paths[0.9].shortfall[FOLLOWED - 1]:.1g} with the momentum α = 0.9 and"
        f" {paths[0.0].shortfall[FOLLOWED - 1]:.1g} without. Top right: a marker a round, every"
        " α on the one curve of tilted references; the number is the round. Bottom left: distance"
        " of the last policy from the equilibrium of two games, which falls where a response beats"
        " all others (solid) and grows in a cycle (dashed). Bottom right: rounds of DPO on pairs"
        f" that the last policy drew, mean of {replicates} draws, beside exact rounds."
    )
    cut = f"{QUICK_REPLICATES} draws of the sampled pairs rather than {REPLICATES}"
    return Reproduction(figure, table, criteria, caption=caption, cut=cut)
