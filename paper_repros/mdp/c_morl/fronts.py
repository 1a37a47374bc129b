"""Random processes with several rewards, and training in them by exact programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.pareto import expected_utility, hypervolume, sparsity
from prefsim.loops.front_extension import ExtensionRound, extend_front
from prefsim.numerics import log_softmax
from prefsim.solvers.optimisers.trust_region import barrier_penalty, constrained_step
from prefsim.solvers.pareto import weight_grid
from prefsim.solvers.planning import policy_evaluation, policy_iteration
from prefsim.solvers.planning.constrained import (
    ConstrainedOptimum,
    InfeasibleError,
    constrained_program,
    lagrangian_bound,
    largest_slack,
)
from prefsim.solvers.planning.log_barrier import log_barrier_optimum
from prefsim.solvers.planning.objectives import combined, visits_of
from prefsim.worlds import TabularMDP

__all__ = [
    "SHARE",
    "TESTS",
    "ZERO",
    "Archives",
    "barrier_trainer",
    "beaten_by",
    "below_front",
    "climb",
    "climb_barrier",
    "dominated_by",
    "draw_process",
    "exact_trainer",
    "extension",
    "fill_front",
    "followed",
    "front_area",
    "indifferent",
    "is_unique",
    "measure",
]

DISCOUNT = 0.95
ZERO = np.zeros(2)
TESTS = weight_grid(2, 10)
"""Preferences whose expected utility is measured."""
SHARE = 0.97
"""What other objectives must keep of their value; with the release's .9 steps are coarser."""

NEARLY = 1e-4
"""Actions that are worse by less than this are taken for equally good."""
MARGIN = 1e-6
"""What a level is lowered by where returns are their own level."""

Train = Callable[[Any, np.ndarray, np.ndarray], list[tuple[np.ndarray, np.ndarray]]]


def draw_process(
    seed: int, *, n_states: int = 8, n_actions: int = 4, n_objectives: int = 2
) -> TabularMDP:
    """Draw moves from Dirichlet(.3) and rewards uniform on [0, 1], of which returns are means."""
    rng = np.random.default_rng(seed)
    moves = rng.dirichlet(np.full(n_states, 0.3), size=(n_states, n_actions))
    rewards = rng.random((n_objectives, n_states, n_actions))
    return TabularMDP(moves, (1 - DISCOUNT) * rewards, discount=DISCOUNT)


def indifferent(mdp: TabularMDP) -> TabularMDP:
    """Return a process whose first reward is the same everywhere: all policies tie in it."""
    first = np.full((1, mdp.n_states, mdp.n_actions), 1 - DISCOUNT)
    return mdp.with_reward(np.concatenate([first, np.asarray(mdp.reward)[1:]]))


def exact_trainer(mdp: TabularMDP) -> Train:
    """Return training by a linear program: the optimum under the constraints, or nothing."""

    def train(
        start: Any, weights: np.ndarray, at_least: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        try:
            found = constrained_program(mdp, weights, at_least)
        except InfeasibleError:
            return []
        return [(found.policy, found.returns)]

    return train


def barrier_trainer(mdp: TabularMDP, sharpness: float) -> Train:
    """Return training in which constraints are logarithms, as in interior-point optimisation."""
    exact = exact_trainer(mdp)

    def train(
        start: Any, weights: np.ndarray, at_least: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        if not np.isfinite(at_least).any():
            return exact(start, weights, at_least)
        found = log_barrier_optimum(mdp, weights, at_least, sharpness=sharpness)
        return [(found.policy, found.returns)]

    return train


def fill_front(train: Train, *, rounds: int, share: float = SHARE) -> list[ExtensionRound]:
    """Return the archives of two objectives: three weights, then five extensions a round."""
    return extend_front(train, weight_grid(2, 2), rounds=rounds, select=5, share=share)


def extension(
    mdp: TabularMDP, returns: np.ndarray, objective: int, level: np.ndarray
) -> ConstrainedOptimum:
    """Return the best policy for one objective, the others kept at a level."""
    asked = np.where(np.arange(returns.size) == objective, -np.inf, level)
    return constrained_program(mdp, np.eye(returns.size)[objective], asked)


def followed(mdp: TabularMDP, *, steps: int, share: float, last: bool) -> np.ndarray:
    """Return the second objective while the first is improved by steps, ``(steps + 1,)``.

    Each step must keep a share of the second objective: of what it was at the start, or of the
    ``last`` step's, as where the level is computed from the current batch.
    """
    current = constrained_program(mdp, [0.0, 1.0]).returns
    path = [current[1]]
    for _ in range(steps):
        level = share * np.array([0.0, path[-1] if last else path[0]])
        current = extension(mdp, current, 0, level).returns
        path.append(current[1])
    return np.array(path)


class Gain(NamedTuple):
    """How much more the objectives can sum to, and the largest sum of prices that was paid for it.

    Where prices are high the front is so steep that rounding in one objective is much in another.
    """

    gain: float
    steepness: float


def dominated_by(mdp: TabularMDP, returns: np.ndarray) -> Gain:
    """Return by how much the sum of the objectives can be raised without lowering one of them.

    A bound from above, by the prices of levels a little lower, which leave something to choose.
    """
    ones = np.ones(returns.size)
    prices = constrained_program(mdp, ones, returns - MARGIN).multipliers
    bound, _ = lagrangian_bound(mdp, ones, returns, prices)
    return Gain(max(float(bound - returns.sum()), 0.0), float(prices.sum()))


def is_unique(mdp: TabularMDP, found: ConstrainedOptimum, objective: int) -> bool:
    """Return whether an extension is the only optimum, by more than rounding.

    In the process that its prices make, every action that it does not take is worse.
    """
    weights = np.eye(found.returns.size)[objective] + found.multipliers
    plan = policy_iteration(combined(mdp, weights))
    best = int((np.asarray(plan.advantage) > -NEARLY).sum())
    return best == mdp.n_states + int((found.multipliers > 0).sum())


def beaten_by(mdp: TabularMDP, returns: np.ndarray) -> float:
    """Return by how much all objectives can be raised at once."""
    return float(largest_slack(mdp, returns)[0])


def front_area(corners: np.ndarray) -> float:
    """Return the area between the axes and a front of two objectives, by its corners.

    What an archive dominates tends to it as gaps close.
    """
    first, second = corners[np.argsort(corners[:, 0])].T
    between = 0.5 * (np.diff(first) * (second[1:] + second[:-1])).sum()
    return float(first[0] * second[0] + between)


def below_front(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return how far points lie below a front, along the nearer of two axes, ``(n,)``."""
    first, second = corners[np.argsort(corners[:, 0])].T
    upwards = np.interp(points[:, 0], first, second) - points[:, 1]
    onwards = np.interp(points[:, 1], second[::-1], first[::-1]) - points[:, 0]
    return np.minimum(upwards, onwards)


class Search(NamedTuple):
    """What exact policy search ends at.

    Attributes
    ----------
    returns
        ``(m,)``.
    used
        Half the squared length of the first step, over the radius.
    """

    returns: np.ndarray
    used: float


def climb(mdp: TabularMDP, level: float, *, steps: int, radius: float) -> Search:
    """Return where constrained policy optimisation ends, from the uniform policy.

    The first objective rises, the second is to stay above a level; gradients and Fisher matrices
    are exact. The radius falls, so that steps do not go to and fro.
    """
    logits, used = np.zeros((mdp.n_states, mdp.n_actions)), []
    for k in range(steps):
        returns, slopes, fisher = _slopes(mdp, logits)
        size = radius / (1 + k)
        excess = level - returns[1]
        step = constrained_step(slopes[0], -slopes[1], excess, fisher, radius=size).step
        used.append(0.5 * step @ fisher @ step / size)
        logits = logits + step.reshape(logits.shape)
    return Search(_slopes(mdp, logits)[0], float(used[0]))


def climb_barrier(
    mdp: TabularMDP, level: float, *, sharpness: float, steps: int, radius: float
) -> Search:
    """Return where interior-point policy optimisation ends, from the policy with most to spare."""
    _, safest = largest_slack(mdp, np.array([-np.inf, level]))
    logits = np.log(0.95 * safest + 0.05 / mdp.n_actions)
    shift = 1e-6
    for k in range(steps):
        returns, slopes, fisher = _slopes(mdp, logits)
        slack = returns[1] - level + shift * np.array([1.0, -1.0])
        above, below = barrier_penalty(slack, sharpness=sharpness, extended=True)
        slope = slopes[0] - (above - below) / (2 * shift) * slopes[1]
        natural = np.linalg.solve(fisher, slope)
        length = np.sqrt(2 * radius / (1 + k) / (slope @ natural))
        # Near the optimum the natural step itself is the shorter one.
        logits = logits + min(length, 1.0) * natural.reshape(logits.shape)
    return Search(_slopes(mdp, logits)[0], 1.0)


def _slopes(mdp: TabularMDP, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the returns ``(m,)``, their gradients ``(m, SA)`` in logits, and the Fisher matrix."""
    policy = np.exp(log_softmax(logits))
    visits = visits_of(mdp, policy)
    found = policy_evaluation(mdp, policy)
    returns = np.asarray(found.value) @ np.asarray(mdp.start_probs)
    slopes = (visits * np.asarray(found.advantage)).reshape(len(returns), -1)
    fisher = np.zeros((*logits.shape, *logits.shape))
    for s, (seen, probs) in enumerate(zip(visits.sum(axis=1), policy, strict=True)):
        fisher[s, :, s] = (1 - DISCOUNT) * seen * (np.diag(probs) - np.outer(probs, probs))
    # A little more, since adding a constant to the logits of a state changes nothing.
    size = logits.size
    return returns, slopes, fisher.reshape(size, size) + 1e-4 * np.eye(size)


class Archives(NamedTuple):
    """What was measured along the rounds in one process.

    Attributes
    ----------
    returns
        Of the archive after each round, the first stage first.
    volume, gap, utility
        Hypervolume, sparsity and expected utility of each.
    failed
        Trainings without a policy that meets the constraints.
    """

    returns: list[np.ndarray]
    volume: np.ndarray
    gap: np.ndarray
    utility: np.ndarray
    failed: int


def measure(path: list[ExtensionRound]) -> Archives:
    """Return the measures of the archives of a path."""
    returns = [step.archive.returns for step in path]
    return Archives(
        returns,
        np.array([hypervolume(each, ZERO) for each in returns]),
        np.array([sparsity(each) for each in returns]),
        np.array([expected_utility(each, TESTS) for each in returns]),
        sum(step.failed for step in path),
    )
