"""Policies learned from compared segments: in grids, from half of the actions, and in gymnasium."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from prefsim.analysis.returns import mean_return, scaled_return
from prefsim.backend import to_numpy
from prefsim.data import Segments
from prefsim.data.trajectories import Trajectories, sample_trajectories
from prefsim.losses import ListLogps, TokenPairLogps
from prefsim.losses.segments import cpl, cpl_ranked
from prefsim.numerics import array_namespace, xlogy
from prefsim.policies import InMemoryPolicy, TabularPolicy
from prefsim.raters.regret import segment_return
from prefsim.solvers import fit, gradient_descent, objective
from prefsim.solvers.planning import (
    policy_iteration,
    soft_value_iteration,
    uniform_over_reachable,
)
from prefsim.worlds import TabularMDP

Array = Any
ALPHA, DISCOUNT, LENGTH = 0.5, 0.95, 3
LAMBDAS = (0.25, 0.5, 0.75, 0.9, 1.0)
PHASES = ("CPL alone", "cloning, then CPL")


@dataclass(frozen=True, eq=False)
class RewardTable(InMemoryPolicy):
    """Rewards in the place of log-probabilities.

    The loss then is the logistic regression of the partial-return model.
    """

    table: Array

    @property
    def parameters(self) -> Array:
        """The table, flattened."""
        return array_namespace(self.table).reshape(self.table, (*self.table.shape[:-2], -1))

    def with_parameters(self, parameters: Array) -> RewardTable:
        """Return another table."""
        shape = (*parameters.shape[:-1], *self.table.shape[-2:])
        return RewardTable(array_namespace(parameters).reshape(parameters, shape))

    @property
    def log_probs(self) -> Array:
        """The table as it is."""
        return self.table


def ridge(policy: InMemoryPolicy, weight: float = 1e-2) -> Array:
    """Return ``weight`` times the mean square of the parameters."""
    return weight * array_namespace(policy.parameters).mean(policy.parameters**2, axis=-1)


def cpl_policies(
    data: Segments,
    states: int,
    actions: int,
    *,
    lambda_: float = 1.0,
    alpha: float = ALPHA,
    discount: float = DISCOUNT,
    **options: Any,
) -> np.ndarray:
    """Return the policies ``(*batch, S, A)`` that the loss teaches, from the uniform one."""
    loss = functools.partial(cpl, alpha=alpha, lambda_=lambda_, discount=discount)
    start = TabularPolicy.uniform(states, actions)
    return to_numpy(fit(start, loss, data, reference=None, **options).policy.probs)


# --- grids ---


def corner_grid(seed: int, side: int = 4) -> TabularMDP:
    """Return a square grid with random costs of its cells and 5 for the corner that ends it."""
    reward = -np.random.default_rng(seed).uniform(0.1, 1.0, (side, side))
    reward[-1, -1] = 5.0
    corner = np.zeros((side, side), dtype=bool)
    corner[-1, -1] = True
    return TabularMDP.grid_world(reward, terminal=corner, discount=DISCOUNT)


def grid_returns(n: int, seeds: Iterable[int]) -> dict[str, np.ndarray]:
    """Return what ``n`` comparisons of random-action segments teach, in one grid a seed.

    Scaled soft returns ``(seeds,)``, 0 for the uniform policy and 1 for the expert: of CPL, and of
    soft planning with the reward that the partial-return model learns.
    """
    grids = {seed: corner_grid(seed) for seed in seeds}
    samples = []
    for seed, mdp in grids.items():
        scores = soft_value_iteration(mdp, temperature=ALPHA).advantage
        samples.append(
            Segments.sample(mdp, n, LENGTH, seed=1000 + seed, scores=scores, discount=DISCOUNT)
        )
    data = Segments.stack(samples)
    contrastive = cpl_policies(data, 16, 4, penalty=ridge)
    logistic = functools.partial(cpl, alpha=1.0, lambda_=1.0, discount=DISCOUNT)
    table = RewardTable(np.zeros((16, 4)))
    rewards = fit(table, logistic, data, reference=None, penalty=ridge).policy.table
    planned = [
        soft_value_iteration(
            mdp.with_reward(np.where(mdp.terminal[:, None], 0.0, table)), temperature=ALPHA
        ).policy
        for mdp, table in zip(grids.values(), rewards, strict=True)
    ]
    return {
        name: np.array(
            [
                float(scaled_return(mdp, policy, temperature=ALPHA))
                for mdp, policy in zip(grids.values(), policies, strict=True)
            ]
        )
        for name, policies in (("CPL", contrastive), ("partial return", planned))
    }


# --- lists of segments with scores ---


@dataclass(frozen=True)
class RankedSegments:
    """Lists of K segments, and what each segment was scored.

    Attributes
    ----------
    ways
        The segments, ``(n, K, T)``; their probabilities play no part.
    scores
        ``(n, K)``; the higher is the better.
    """

    ways: Trajectories
    scores: np.ndarray

    @classmethod
    def draw(cls, mdp: TabularMDP, n: int, k: int, *, seed: int) -> Self:
        """Draw lists of random-action segments.

        Scores are sums of advantages with Gumbel noise: two of them are ordered as the logistic
        model of regret orders two segments.
        """
        rng = np.random.default_rng(seed)
        drawn = sample_trajectories(mdp, n * k, LENGTH, seed=rng)
        ways = Trajectories(*(part.reshape(n, k, *part.shape[1:]) for part in drawn))
        advantage = np.asarray(soft_value_iteration(mdp, temperature=ALPHA).advantage)
        steps = advantage[ways.states[..., :-1], ways.actions]
        worth = segment_return(steps, ways.mask, discount=DISCOUNT)
        return cls(ways, worth + rng.gumbel(size=worth.shape))

    def __len__(self) -> int:
        return len(self.scores)

    def log_probs(self, policy: InMemoryPolicy) -> tuple[Array]:
        """Return Σ γ^t log π(a|s) of every segment, ``(n, K)``."""
        states, actions = self.ways.states[..., :-1], self.ways.actions
        flat = policy.log_prob(states.reshape(-1), actions.reshape(-1))
        xp = array_namespace(flat)
        steps = xp.reshape(flat, states.shape)
        mask = xp.asarray(self.ways.mask, device=getattr(flat, "device", None))
        return (segment_return(steps, mask, discount=DISCOUNT),)

    def examples(
        self, policy: InMemoryPolicy, ref_logps: tuple[Array] | None, kind: type
    ) -> tuple[ListLogps, Array]:
        """Return what a loss of lists sees, and equal weights."""
        (logps,) = self.log_probs(policy)
        xp = array_namespace(logps)
        reference = xp.zeros_like(logps) if ref_logps is None else ref_logps[0]
        scores = xp.asarray(self.scores, device=getattr(logps, "device", None))
        weight = xp.full_like(logps[:, 0], 1 / len(self))
        return kind(logps=logps, ref_logps=reference, scores=scores), weight

    def pairs(self) -> Segments:
        """Return all comparisons of two segments of one list."""
        first, second = np.triu_indices(self.scores.shape[1], 1)
        states, actions, mask = (
            np.stack([part[:, first], part[:, second]], axis=2).reshape(-1, 2, part.shape[-1])
            for part in self.ways[:3]
        )
        higher = self.scores[:, first] > self.scores[:, second]
        return Segments(states, actions, higher.reshape(-1).astype(float), None, mask)


LOSS: dict[str, Any] = {"alpha": ALPHA, "lambda_": 1.0}


class FromLists(NamedTuple):
    """What lists taught.

    Attributes
    ----------
    soft
        Scaled soft return of the policy learned.
    over_pairs
        Its loss on the lists over that of CPL on all their pairs.
    """

    soft: float
    over_pairs: float


def learned_from_lists(seed: int, n: int, k: int) -> FromLists:
    """Return what ``n`` lists of k random-action segments teach in a grid."""
    mdp = corner_grid(seed)
    lists = RankedSegments.draw(mdp, n, k, seed=2000 + seed)
    loss = functools.partial(cpl_ranked, **LOSS)
    in_pairs = functools.partial(cpl, discount=DISCOUNT, **LOSS)
    policy = fit(TabularPolicy.uniform(16, 4), loss, lists, reference=None, penalty=ridge).policy
    one_by_one = objective(policy, in_pairs, lists.pairs(), reference=None)
    ratio = float(objective(policy, loss, lists, reference=None) / one_by_one)
    return FromLists(float(scaled_return(mdp, policy.probs, temperature=ALPHA)), ratio)


# --- the bias λ ---


class Exact(NamedTuple):
    """The exact population of pairs of two steps, in a random process, and who labels them."""

    data: Segments
    expert: np.ndarray

    @classmethod
    def draw(cls, seed: int) -> Exact:
        """Draw a process of four states and three actions."""
        mdp = TabularMDP.random(4, 3, discount=0.9, seed=seed, deterministic=True)
        plan = soft_value_iteration(mdp, temperature=ALPHA)
        data = Segments.population(mdp, 2, scores=plan.advantage, discount=0.9)
        return cls(data, np.asarray(plan.policy))

    def error(self, lambda_: float) -> float:
        """Return the largest error of a probability that they teach."""
        found = cpl_policies(self.data, 4, 3, lambda_=lambda_, discount=0.9)
        return float(np.abs(found - self.expert).max())

    def least_loss(self) -> tuple[float, float]:
        """Return the loss of the expert for λ = 1, and the entropy of the labels, in nats."""
        loss = functools.partial(cpl, alpha=ALPHA, lambda_=1.0, discount=0.9)
        found = objective(TabularPolicy.from_probs(self.expert), loss, self.data, reference=None)
        first, second = self.data.prob, 1 - self.data.prob
        entropy = -self.data.weight @ (xlogy(first, first) + xlogy(second, second))
        return float(found), float(entropy)


class HalfCovered(NamedTuple):
    """Comparisons that show two actions of four in every state of a grid.

    Attributes
    ----------
    data
        The comparisons.
    shown
        Which actions they show, ``(S, 4)``.
    """

    data: Segments
    shown: np.ndarray

    @classmethod
    def draw(cls, n: int, seed: int) -> HalfCovered:
        """Draw a grid of nine cells, two actions for each, and ``n`` comparisons."""
        mdp = corner_grid(seed, side=3)
        expert, states = soft_value_iteration(mdp, temperature=ALPHA), mdp.n_states
        order = np.random.default_rng(seed).permuted(np.tile(np.arange(4), (states, 1)), axis=1)
        shown = np.zeros((states, 4), dtype=bool)
        np.put_along_axis(shown, order[:, :2], True, axis=1)
        data = Segments.sample(
            mdp,
            n,
            LENGTH,
            seed=seed,
            scores=expert.advantage,
            discount=DISCOUNT,
            policy=TabularPolicy.from_probs(shown / 2.0),
        )
        return cls(data, shown)

    def mass_outside(self, lambda_: float) -> float:
        """Return the mean probability of the actions that the data never show."""
        policy = cpl_policies(self.data, *self.shown.shape, lambda_=lambda_, penalty=ridge)
        # The last cell ends the episode.
        return float(np.where(self.shown, 0.0, policy)[:-1].sum(axis=-1).mean())


# --- two phases: behaviour cloning first ---


def behaviour_cloning(logps: TokenPairLogps) -> Array:
    """Return the mean ``−log π`` of the steps of both segments: what ``bc_coeff`` adds to CPL."""
    return cpl(logps, bc_coeff=1.0) - cpl(logps)


def preferred_cloning(logps: TokenPairLogps) -> Array:
    """Return the mean ``−log π`` of the steps of the preferred segment alone."""
    return cpl(logps, bc_chosen_coeff=1.0) - cpl(logps)


class Phases(NamedTuple):
    """Gradient descent on CPL with λ = 1 from the uniform policy, and from a cloned one.

    Attributes
    ----------
    steps
        ``(records,)``.
    outside
        Mean probability of the actions that the data never show, ``(records, 2)``.
    loss
        Mean contrast of the comparisons, ``(records, 2)``.
    """

    steps: np.ndarray
    outside: np.ndarray
    loss: np.ndarray


def in_two_phases(half: HalfCovered, *, step: float, iterations: int) -> Phases:
    """Follow CPL where half of the actions are shown, with and without cloning before it."""
    uniform, every = TabularPolicy.uniform(*half.shown.shape), iterations // 20
    contrast = functools.partial(cpl, alpha=ALPHA, lambda_=1.0, discount=DISCOUNT)
    cloned, _ = gradient_descent(
        uniform, behaviour_cloning, half.data, step=4 * step, iterations=iterations // 2
    )
    starts = TabularPolicy(np.stack([uniform.logits, to_numpy(cloned.policy.logits)]))

    def seen(policy: InMemoryPolicy) -> tuple[np.ndarray, np.ndarray]:
        outside = np.where(half.shown, 0.0, to_numpy(policy.probs))
        # The last cell ends the episode.
        mean = outside[:, :-1].sum(axis=-1).mean(axis=-1)
        return mean, to_numpy(objective(policy, contrast, half.data, reference=None))

    _, path = gradient_descent(
        starts,
        contrast,
        half.data,
        reference=None,
        step=step,
        iterations=iterations,
        record=seen,
        record_every=every,
    )
    return Phases(
        np.arange(len(path)) * every, *(np.stack(part) for part in zip(*path, strict=True))
    )


# --- gymnasium ---

# Units of reward that make one nat of the rater.
UNITS = {"FrozenLake-v1": 100.0, "CliffWalking-v1": 5.0}


class Recorded(NamedTuple):
    """What segments taught that were recorded in an environment.

    Attributes
    ----------
    soft
        Scaled soft return of the policy learned: 0 uniform, 1 the expert.
    greedy
        True return of its most probable actions.
    optimum
        The largest return there is.
    """

    soft: float
    greedy: float
    optimum: float

    @property
    def lost(self) -> float:
        """Share of the optimal return that the most probable actions lose."""
        return (self.optimum - self.greedy) / abs(self.optimum)


def learn_from_recorded(name: str, n: int, seed: int) -> Recorded:
    """Return what ``n`` comparisons teach that are recorded in an environment of gymnasium."""
    unit = UNITS[name]
    mdp = TabularMDP.from_gymnasium(name, discount=0.97)
    mdp = mdp.with_reward(unit * mdp.reward)
    expert = soft_value_iteration(mdp, temperature=1.0)
    data = Segments.from_gymnasium(
        name,
        n,
        LENGTH,
        seed=seed,
        scores=expert.advantage,
        discount=0.97,
        start=uniform_over_reachable(mdp),
    )
    light = functools.partial(ridge, weight=1e-3)
    policy = cpl_policies(data, mdp.n_states, 4, alpha=1.0, discount=0.97, penalty=light)
    return Recorded(
        float(scaled_return(mdp, policy, temperature=1.0)),
        float(mean_return(mdp, np.eye(4)[policy.argmax(axis=-1)])) / unit,
        float(policy_iteration(mdp).value @ mdp.start_probs) / unit,
    )
