"""Policies over tokens, learnt from what another policy wrote; every optimum is enumerated."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Rankings, ScoredPairs
from prefsim.divergences import total_variation
from prefsim.policies import TokenTreePolicy
from prefsim.solvers import fit, gradient_descent, optimal_policy
from prefsim.solvers.optimisers.policy_gradient import off_policy_limit
from prefsim.worlds import ContextualBandit, TokenTree

BETA = 0.5
VOCABULARY, LENGTH, END = 3, 3, 2
PROMPTS = ([0], [1])
# Rewards lie between 0 and this.
LARGEST = 2.0
# What the plain policy gradient takes from the rewards of a prompt.
BASELINES = ("none", "mean reward")
# Of gradient descent, and how many steps have texts of their own.
STEP, FRESH = 4.0, 100


class Task(NamedTuple):
    """Texts with rewards, who wrote them, and the reference of the penalty.

    Attributes
    ----------
    tree
        The texts, with rewards to two prompts.
    reference, behaviour
        Policies over its tokens; the second writes the data.
    """

    tree: TokenTree
    reference: TokenTreePolicy
    behaviour: TokenTreePolicy

    @classmethod
    def draw(cls, seed: int | tuple[int, int], reference: Any = None) -> Task:
        """Draw rewards of texts, and the reference ``(X, N)`` unless it is given.

        The behaviour is the reference turned against the reward: what it writes is poor.
        """
        rng = np.random.default_rng(seed)
        bare = TokenTree(VOCABULARY, LENGTH, end_token=END)
        reward = LARGEST * rng.random((len(PROMPTS), bare.n_sequences))
        tree = TokenTree(VOCABULARY, LENGTH, end_token=END, reward=reward)
        if reference is None:
            reference = TokenTreePolicy.random(tree, seed=rng).probs
        turned = to_numpy(reference) * np.exp(-reward)
        policies = (
            TokenTreePolicy.from_sequence_probs(tree, probs / probs.sum(axis=-1, keepdims=True))
            for probs in (to_numpy(reference), turned)
        )
        return cls(tree, *policies)

    @property
    def world(self) -> ContextualBandit:
        """The texts as responses of a bandit."""
        return self.tree.to_bandit()

    def optimum(self) -> np.ndarray:
        """Return the probabilities ``(X, N)`` of the regularised optimum."""
        reference = to_numpy(self.reference.probs)
        return optimal_policy(to_numpy(self.tree.reward), reference, beta=BETA)

    def distance(self, probs: Any, goal: np.ndarray | None = None) -> float:
        """Return the total variation distance to the optimum, largest of the prompts."""
        goal = self.optimum() if goal is None else goal
        return float(total_variation(to_numpy(probs), goal).max())

    def baseline(self, name: str) -> np.ndarray:
        """Return what the plain policy gradient takes from the rewards of each prompt, ``(X,)``."""
        mean = (to_numpy(self.behaviour.probs) * to_numpy(self.tree.reward)).sum(axis=-1)
        return mean if name == "mean reward" else np.zeros_like(mean)

    def wrong_limit(self, name: str) -> np.ndarray:
        """Return where the plain policy gradient ends on texts of the behaviour, ``(X, N)``."""
        behaviour, reference = (
            to_numpy(policy.log_probs) for policy in (self.behaviour, self.reference)
        )
        reward, baseline = to_numpy(self.tree.reward), self.baseline(name)
        return np.exp(off_policy_limit(reward, behaviour, reference, beta=BETA, baseline=baseline))

    def texts_of(self, policy: TokenTreePolicy, baseline: str = "none") -> Rankings:
        """Return every text with its reward, weighted by how often the policy writes it."""
        prompt, text = np.indices((self.tree.n_contexts, self.tree.n_sequences)).reshape(2, -1)
        reward = to_numpy(self.tree.reward) - self.baseline(baseline)[:, None]
        weight = to_numpy(policy.probs).ravel() / len(PROMPTS)
        return Rankings(prompt, text[:, None], reward.reshape(-1, 1), weight)


def ends_of(task: Task, *, steps: int) -> dict[str, np.ndarray]:
    """Return the policies ``(X, N)`` that methods learn over tokens, from all that may be written.

    The plain policy gradient also learns from its own texts, drawn anew at every step.
    """
    start = task.reference
    pairs = ScoredPairs.population(task.world, task.behaviour)
    copg = fit(start, functools.partial(losses.copg, beta=BETA), pairs, reference=start)
    ends = {"CoPG": copg.policy}
    plain = functools.partial(losses.reinforce, beta=BETA)
    options: dict[str, Any] = {"reference": start, "step": STEP}
    for name in BASELINES:
        texts = task.texts_of(task.behaviour, name)
        result, _ = gradient_descent(start, plain, texts, iterations=steps, **options)
        ends[name] = result.policy
    own = start
    for _ in range(FRESH):
        texts = task.texts_of(own)
        own = gradient_descent(own, plain, texts, iterations=1, **options)[0].policy
    return {name: to_numpy(policy.probs) for name, policy in (ends | {"on policy": own}).items()}


# --- a transformer ---

TRANSFORMER: dict[str, Any] = {
    "n_embd": 32,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 8,
    "bos_token_id": None,
    "eos_token_id": END,
    # Far from uniform.
    "initializer_range": 0.1,
}
TRAINING: dict[str, Any] = {
    "steps": 500,
    "batch_size": 64,
    "learning_rate": 1e-2,
    "schedule": "cosine",
    "warmup": 0.05,
    "max_grad_norm": None,
    "progress": False,
}
# Pairs that the behaviour wrote.
WRITTEN = 2000


class Learnt(NamedTuple):
    """The task of a transformer, and the policies ``(X, N)`` that it learns by each method."""

    task: Task
    ends: dict[str, np.ndarray]


def learn_by_transformer(seed: int) -> Learnt:
    """Train a small transformer on texts that a poor behaviour wrote once; it is the reference."""
    from transformers import GPT2Config

    from prefsim.lm import CausalLM, TextRankings, tree_completions, tree_pairs, tree_policy

    start = CausalLM.from_config(GPT2Config(vocab_size=VOCABULARY, **TRANSFORMER), seed=seed)
    bare = TokenTree(VOCABULARY, LENGTH, end_token=END, reward=None, context_probs=[0.5, 0.5])
    task = Task.draw(seed, tree_policy(start, bare, PROMPTS).probs)
    pairs = ScoredPairs.sample(task.world, WRITTEN, seed=seed, policy=task.behaviour)
    copg = functools.partial(losses.copg, beta=BETA)
    data: dict[str, tuple[Any, Any]] = {"CoPG": (copg, tree_pairs(task.tree, pairs, PROMPTS))}
    texts, prompts = tree_completions(task.tree), [PROMPTS[x] for x in pairs.prompt]
    both = [[texts[i], texts[j]] for i, j in zip(pairs.chosen, pairs.rejected, strict=True)]
    scores = np.stack([pairs.chosen_score, pairs.rejected_score], axis=-1)
    for name in BASELINES:
        shifted = scores - task.baseline(name)[pairs.prompt][:, None]
        plain = functools.partial(losses.reinforce, beta=BETA)
        data[name] = (plain, TextRankings(prompts, both, shifted))
    ends = {}
    for name, (loss, written) in data.items():
        learnt = fit(start, loss, written, reference=start, **TRAINING | {"seed": seed})
        ends[name] = to_numpy(tree_policy(learnt.policy, task.tree, PROMPTS).probs)
    return Learnt(task, ends)
