"""Reward against distance from the reference for every divergence, exact and trained."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.analysis.frontier import Frontier, optimal_frontier
from prefsim.backend import like, to_numpy
from prefsim.data.replicates import replicated_comparisons
from prefsim.numerics import categorical_entropy
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, optimal_policy
from prefsim.worlds import ContextualBandit

PENALTIES = np.geomspace(0.02, 50.0, 800)
KINDS: dict[str, dict[str, Any]] = {
    "reverse KL": {"divergence": "reverse_kl"},
    "α = 0.3": {"divergence": "alpha", "alpha": 0.3},
    "Jensen–Shannon": {"divergence": "jensen_shannon"},
    "α = 0.7": {"divergence": "alpha", "alpha": 0.7},
    "forward KL": {"divergence": "forward_kl"},
}
PAIRS = 2000  # that each policy is trained on
# Of the ridge on the logits, over β²: a response that always lost has no finite minimiser.
RIDGE = 0.5e-4


def draw_bandit(n: int, seed: Any) -> tuple[ContextualBandit, np.ndarray]:
    """Return a bandit with one prompt and log π_ref, with rewards 0.5 to 1.5 within reach.

    π_ref comes from a flat Dirichlet and r from a normal distribution.
    """
    rng = np.random.default_rng(seed)
    while True:
        reference, reward = rng.dirichlet(np.ones(n)), rng.standard_normal(n)
        if reference @ reward < 0.35 and reward.max() > 1.7:
            return ContextualBandit(reward=reward[None]), np.log(reference)[None]


def exact_frontier(
    world: ContextualBandit, log_reference: np.ndarray, kind: str, penalties: Any = PENALTIES
) -> Frontier:
    """Return the frontier of the optima for one of :data:`KINDS`."""
    return optimal_frontier(world, log_reference, penalties, **KINDS[kind])


def frontier_error(
    world: ContextualBandit, log_reference: np.ndarray, kind: str, penalties: Sequence[float]
) -> float:
    """Return how far a frontier at falling penalties is from single optima, measured one by one."""
    frontier = exact_frontier(world, log_reference, kind, penalties)
    reward = np.asarray(world.reward)
    optima = [
        np.log(optimal_policy(reward, np.exp(log_reference), beta=beta, **KINDS[kind]))
        for beta in penalties
    ]
    stated = {
        "penalty": penalties,
        "reward": [expected_reward(policy, world) for policy in optima],
        "reverse_kl": [kl_to_reference(policy, log_reference, world) for policy in optima],
        "entropy": [world.context_probs @ categorical_entropy(policy) for policy in optima],
    }
    return max(float(np.abs(getattr(frontier, at) - x).max()) for at, x in stated.items())


def entropy_at_reward_one(
    world: ContextualBandit, log_reference: np.ndarray, kind: str, penalties: Any = PENALTIES
) -> float:
    """Return the entropy that the optimum of expected reward 1 keeps, in nats."""
    frontier = exact_frontier(world, log_reference, kind, penalties)
    return float(frontier.at_reward(1.0, "entropy"))


def trained_rewards(
    world: ContextualBandit,
    log_reference: np.ndarray,
    kind: str,
    strengths: Sequence[float],
    seeds: int,
    seed: int,
) -> np.ndarray:
    """Return the expected reward ``(strengths, seeds)`` of f-DPO trained on sampled pairs."""
    reference = TabularPolicy.from_logits(log_reference)
    rng = np.random.default_rng((seed, 0, 1))  # not the stream that drew the bandit
    data = replicated_comparisons(world, PAIRS, seeds, seed=rng, policy=reference, distinct=True)
    rewards = []
    for beta in strengths:

        def ridge(policy: Any, beta: float = beta) -> Any:
            moved = policy.parameters - like(reference.parameters, policy.parameters)
            return RIDGE * beta**2 * (moved**2).sum(-1)

        loss = functools.partial(losses.f_dpo, beta=beta, **KINDS[kind])
        policy = fit(reference, loss, data, reference=reference, penalty=ridge).policy
        rewards.append(to_numpy(expected_reward(policy.log_probs, world)))
    return np.asarray(rewards)


def entropy_gain(responses: int, seed: Any) -> float:
    """Return how much more entropy forward KL keeps than reverse KL at reward 1."""
    bandit = draw_bandit(responses, seed)
    # Every eighth penalty is fine enough for the sign.
    forward, reverse = (
        entropy_at_reward_one(*bandit, kind, PENALTIES[::8])
        for kind in ("forward KL", "reverse KL")
    )
    return forward - reverse
