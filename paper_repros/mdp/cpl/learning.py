"""Policies learned from compared segments: in grids, from half of the actions, and in gymnasium."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.returns import mean_return, scaled_return
from prefsim.backend import to_numpy
from prefsim.data import Segments
from prefsim.losses.segments import cpl
from prefsim.numerics import array_namespace
from prefsim.policies import InMemoryPolicy, TabularPolicy
from prefsim.solvers import fit
from prefsim.solvers.planning import (
    policy_iteration,
    soft_value_iteration,
    uniform_over_reachable,
)
from prefsim.worlds import TabularMDP

Array = Any
ALPHA, DISCOUNT, LENGTH = 0.5, 0.95, 3


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
    return to_numpy(fit(TabularPolicy.uniform(states, actions), loss, data, **options).policy.probs)


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
    rewards = fit(RewardTable(np.zeros((16, 4))), logistic, data, penalty=ridge).policy.table
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


# --- the bias λ ---


def population_error(lambda_: float, seed: int) -> float:
    """Return the largest error of a probability that the exact population of pairs teaches."""
    mdp = TabularMDP.random(4, 3, discount=0.9, seed=seed, deterministic=True)
    expert = soft_value_iteration(mdp, temperature=ALPHA)
    data = Segments.population(mdp, 2, scores=expert.advantage, discount=0.9)
    return float(
        np.abs(cpl_policies(data, 4, 3, lambda_=lambda_, discount=0.9) - expert.policy).max()
    )


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
