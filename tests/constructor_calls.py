"""A valid call of what makes values and of functions of other rooms, by name."""

from __future__ import annotations

import numpy as np
from public_calls import FEATURES, GAME, LOGS, OTHER, PROBS, REF, REWARD, WORLD

from prefsim.data import Comparisons, Feedback, Negatives, Rankings, Rollouts
from prefsim.divergences import f_divergence, total_variation
from prefsim.policies import LogLinearPolicy, NetworkPolicy, TabularPolicy, TokenTreePolicy
from prefsim.raters import MatrixRater, UserPopulation
from prefsim.solvers import count_matrix, fit_bradley_terry
from prefsim.worlds import ContextualBandit, PreferenceGame, TokenTree, bradley_terry_matrix

TREE = TokenTree(2, 2, end_token=1)
FIRST, HALVES = np.array([0, 1]), np.array([0.5, 0.5])
POLICY = TabularPolicy.from_probs(PROBS)
COUNTS = np.array([[0.0, 3.0, 2.0], [1.0, 0.0, 2.0], [2.0, 1.0, 0.0]])


def example(function, **arguments):
    return function, arguments


# Values, and what they are made by.
MADE = {
    "MatrixRater": example(MatrixRater, preference=GAME),
    "UserPopulation": example(
        UserPopulation,
        weights=np.array([0.25, 0.75]),
        preferences=np.stack([GAME, GAME.T]),
    ),
    "TabularPolicy": example(TabularPolicy, logits=LOGS),
    "TabularPolicy.from_probs": example(TabularPolicy.from_probs, probs=PROBS),
    "TabularPolicy.from_logits": example(TabularPolicy.from_logits, logits=LOGS),
    "TabularPolicy.uniform": example(TabularPolicy.uniform, n_contexts=2, n_responses=3),
    "TabularPolicy.random": example(
        TabularPolicy.random, n_contexts=2, n_responses=3, seed=0, concentration=1.0
    ),
    "LogLinearPolicy.from_features": example(
        LogLinearPolicy.from_features,
        features=FEATURES,
        weights=np.array([0.5, -1.0]),
        base=TabularPolicy.uniform(2, 3),
    ),
    "NetworkPolicy.mlp": example(NetworkPolicy.mlp, inputs=PROBS, n_responses=3, seed=0),
    "TokenTreePolicy.uniform": example(TokenTreePolicy.uniform, tree=TREE),
    "TokenTreePolicy.from_sequence_probs": example(
        TokenTreePolicy.from_sequence_probs, tree=TREE, probs=PROBS
    ),
    "ContextualBandit": example(
        ContextualBandit, reward=REWARD, context_probs=np.array([0.5, 0.5])
    ),
    "PreferenceGame": example(PreferenceGame, preference=GAME),
    "Comparisons": example(
        Comparisons,
        prompt=FIRST,
        chosen=FIRST,
        rejected=FIRST + 1,
        prob=HALVES,
        weight=HALVES,
        old_chosen=-HALVES,
        old_rejected=-HALVES - 1,
    ),
    "Comparisons.sample": example(
        Comparisons.sample, world=WORLD, n=3, seed=0, policy=POLICY, distinct=True
    ),
    "Comparisons.population": example(
        Comparisons.population, world=WORLD, policy=POLICY, distinct=True
    ),
    "Feedback": example(
        Feedback, prompt=FIRST, completion=FIRST, label=HALVES, weight=HALVES, density_ratio=HALVES
    ),
    "Feedback.population": example(
        Feedback.population, desirable=PROBS, policy=POLICY, context_probs=HALVES
    ),
    "Feedback.sample": example(Feedback.sample, desirable=PROBS, n=3, seed=0, policy=POLICY),
    "Rankings": example(
        Rankings,
        prompt=FIRST,
        completions=np.array([[0, 1, 2], [2, 1, 0]]),
        scores=REWARD,
        weight=HALVES,
    ),
    "Rollouts": example(
        Rollouts,
        prompt=FIRST,
        completions=np.array([[0, 1, 2], [2, 1, 0]]),
        scores=REWARD,
        old_logp=-(REWARD[..., None] ** 2),
        advantage=REWARD[..., None],
        weight=HALVES,
    ),
    "Rollouts.population": example(Rollouts.population, world=WORLD, policy=POLICY, k=2),
    "Rollouts.sample": example(Rollouts.sample, world=WORLD, policy=POLICY, n=3, k=2, seed=0),
    "Negatives": example(
        Negatives,
        prompt=FIRST,
        rejected=FIRST,
        samples=np.array([[1, 2], [0, 2]]),
        sample_weight=np.array([[0.5, 0.5], [0.2, 0.8]]),
    ),
    "TokenTree": example(TokenTree, vocabulary_size=2, max_length=2, end_token=1),
    "bradley_terry_matrix": example(bradley_terry_matrix, reward=REWARD),
    "fit_bradley_terry": example(
        fit_bradley_terry, counts=COUNTS, ridge=0.1, tolerance=1e-9, max_iterations=100
    ),
    "count_matrix": example(
        count_matrix, chosen=FIRST, rejected=FIRST + 1, n_items=3, weight=HALVES, sparse=False
    ),
    "f_divergence": example(
        f_divergence, logp=LOGS, logq=REF, divergence="jensen_shannon", alpha=0.5
    ),
    "total_variation": example(total_variation, p=PROBS, q=OTHER),
    "log_prob": example(
        TabularPolicy.from_probs(PROBS).log_prob,
        prompt=np.array([0, 1]),
        response=np.array([2, 0]),
    ),
}
