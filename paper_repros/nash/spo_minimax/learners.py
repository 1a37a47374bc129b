"""Hedge as a regression on pairs and by backups of a tree; the policy gradient without samples."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import gradient
from prefsim.numerics import softmax
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers import nash_path, objective
from prefsim.solvers.planning.tree_backup import score_gradient_in_tree, soft_backup
from prefsim.worlds import PreferenceGame, TokenTree


def hedge_by_regression(preference: np.ndarray, *, step: float, iterations: int) -> np.ndarray:
    """Return the policies ``(games, n)`` that gradient steps of the loss lead to, from the uniform.

    On uniform pairs of n responses one step of size n/4 reaches the minimiser, a step of Hedge.
    """
    n_games, n = preference.shape[:2]
    world, policy = PreferenceGame(preference).to_bandit(), TabularPolicy.uniform(n_games, n)
    # The loss is the same for both orders of a pair.
    pairs = Comparisons.population(world, policy).relabelled(1.0)
    loss = functools.partial(losses.mirror_descent, step=step, tau=0.0)
    for _ in range(iterations):
        data = Comparisons.self_play(world, policy, pairs=pairs)

        def value(logits: Any, policy: Any = policy, data: Comparisons = data) -> Any:
            return objective(policy.with_parameters(logits), loss, data)

        # The loss is the mean over the games.
        slope = gradient(value, policy.parameters)
        policy = policy.with_parameters(policy.parameters - n_games * n / 4 * slope)
    return to_numpy(policy.probs)


def regression_error(preference: np.ndarray, iterations: int) -> float:
    """Return how far Hedge by regression ends from Hedge in the games ``(games, n, n)``."""
    step = 0.5
    flat = nash_path(preference, method="spo", step=step, iterations=iterations, record=iterations)
    found = hedge_by_regression(preference, step=step, iterations=iterations)
    return float(np.abs(found - flat.policy[-1]).max())


def average_without_samples(
    policy: TokenTreePolicy, preference: np.ndarray, *, step: float, iterations: int
) -> np.ndarray:
    """Return the mean policy ``(games, N)`` of exact policy gradients against itself."""
    total = np.zeros(preference.shape[:-1])
    for _ in range(iterations):
        probs = to_numpy(policy.probs)[..., 0, :]
        total = total + probs
        ahead = (preference @ probs[..., None])[..., 0] - 0.5
        slope = score_gradient_in_tree(policy, (probs * ahead)[..., None, :])
        policy = TokenTreePolicy(policy.tree, policy.logits + step * slope)
    return total / iterations


def backed_up(policy: TokenTreePolicy, values: np.ndarray) -> np.ndarray:
    """Return the policy ``(X, N)`` of one backward induction."""
    return np.asarray(soft_backup(policy, values).policy.probs)


def merged_by_depth(policy: TokenTreePolicy, values: np.ndarray) -> np.ndarray:
    """Return the closest policy to Hedge's, by its marginals, that knows only the depth."""
    tree, target = policy.tree, softmax(np.asarray(policy.log_probs) + values)
    product = np.ones_like(target)
    for tokens in tree.sequences.T:
        picks = tokens == np.arange(tree.vocabulary_size)[:, None]
        shares = target @ picks.T
        product = product * shares[:, tokens]
    return product


def uniform_on_random_tree(seed: int) -> TokenTreePolicy:
    return TokenTreePolicy.uniform(TokenTree.random(2, 3, seed=seed))
