"""Policies over tokens that learn from the texts of an older policy; the optimum is enumerated."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Rankings, ScoredPairs
from prefsim.divergences import total_variation
from prefsim.policies import TokenTreePolicy
from prefsim.solvers import gradient_descent, optimal_policy
from prefsim.worlds import TokenTree

BETA, EPSILON = 0.5, 0.2
VOCABULARY, LENGTH, END, PROMPTS = 3, 3, 2, 2
LARGEST = 2.0  # reward
STEP = 4.0
# Gradient steps on the texts of one policy before new ones are drawn.
REUSED = 4

UNCLIPPED: dict[str, Any] = {"beta": BETA, "epsilon": math.inf, "weight_clip": math.inf}
CLIPPED: dict[str, Any] = {"beta": BETA, "epsilon": EPSILON}


class Task(NamedTuple):
    """Texts with rewards, the reference of the penalty, and an older policy that wrote the data.

    Attributes
    ----------
    tree
        The texts, with their rewards.
    reference, behaviour
        Policies over its tokens; learning starts at the second.
    """

    tree: TokenTree
    reference: TokenTreePolicy
    behaviour: TokenTreePolicy

    @classmethod
    def draw(cls, seed: int | tuple[int, int]) -> Task:
        """Draw rewards and a reference; the behaviour is that turned against the reward."""
        rng = np.random.default_rng(seed)
        bare = TokenTree(VOCABULARY, LENGTH, end_token=END)
        reward = LARGEST * rng.random((PROMPTS, bare.n_sequences))
        tree = TokenTree(VOCABULARY, LENGTH, end_token=END, reward=reward)
        reference = TokenTreePolicy.random(tree, seed=rng)
        turned = to_numpy(reference.probs) * np.exp(-reward)
        turned /= turned.sum(axis=-1, keepdims=True)
        return cls(tree, reference, TokenTreePolicy.from_sequence_probs(tree, turned))

    def distance(self, policy: TokenTreePolicy) -> float:
        """Return the total variation to the regularised optimum, largest of the prompts."""
        reference = to_numpy(self.reference.probs)
        best = optimal_policy(to_numpy(self.tree.reward), reference, beta=BETA)
        return float(total_variation(to_numpy(policy.probs), best).max())

    def margins_moved(self, policy: TokenTreePolicy) -> float:
        """Return how far log π(y)/π(y') is from the behaviour's, nats.

        The mean over its pairs of different texts: a behaviour that mostly repeats one text has
        few of them.
        """
        moved = to_numpy(policy.log_probs) - to_numpy(self.behaviour.log_probs)
        wrote = to_numpy(self.behaviour.probs)
        differ = wrote[:, :, None] * wrote[:, None, :] * (1 - np.eye(wrote.shape[-1]))
        apart = np.abs(moved[:, :, None] - moved[:, None, :])
        return float(((differ * apart).sum(axis=(1, 2)) / differ.sum(axis=(1, 2))).mean())

    def pairs(self, policy: TokenTreePolicy) -> ScoredPairs:
        """Return all pairs of texts that a policy writes."""
        return ScoredPairs.population(self.tree.to_bandit(), policy)

    def texts(self) -> Rankings:
        """Return every text, weighted by how often the behaviour writes it."""
        prompt, text = np.indices((PROMPTS, self.tree.n_sequences)).reshape(2, -1)
        reward = to_numpy(self.tree.reward).reshape(-1, 1)
        weight = to_numpy(self.behaviour.probs).ravel() / PROMPTS
        return Rankings(prompt, text[:, None], reward, weight)

    def learn(self, start: TokenTreePolicy, loss: Any, data: Any, steps: int) -> TokenTreePolicy:
        """Return where gradient descent gets to."""
        result, _ = gradient_descent(
            start, loss, data, reference=self.reference, step=STEP, iterations=steps
        )
        policy: Any = result.policy
        return policy


WEIGHTED = "P3O, weights, no clipping"
AS_ITS_OWN = "P3O, texts taken for its own"
ONCE = "P3O, clipped, texts of the start"
AGAIN = "P3O, clipped, new texts"
PLAIN = "policy gradient, texts taken for its own"
METHODS = (WEIGHTED, AS_ITS_OWN, AGAIN, ONCE, PLAIN)


def ends_of(task: Task, *, steps: int) -> dict[str, TokenTreePolicy]:
    """Return the policies that methods learn from an older policy's texts, by method."""
    start, written = task.behaviour, task.pairs(task.behaviour)
    exact, clipped = (functools.partial(losses.p3o, **how) for how in (UNCLIPPED, CLIPPED))
    plain = functools.partial(losses.reinforce, beta=BETA)
    ends = {
        WEIGHTED: task.learn(start, exact, written, steps),
        AS_ITS_OWN: task.learn(start, exact, written.without_behaviour(), steps),
        ONCE: task.learn(start, clipped, written, steps),
        PLAIN: task.learn(start, plain, task.texts(), steps),
    }
    policy = start
    for _ in range(steps // REUSED):
        policy = task.learn(policy, clipped, task.pairs(policy), REUSED)
    return ends | {AGAIN: policy}
