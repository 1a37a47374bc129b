"""Self-play with Hedge: its bounds, preferences that it is tried on, and other routes to it.

The routes are regression on pairs, backups of a tree, and the policy gradient without samples.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.voting import borda_scores
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import gradient
from prefsim.numerics import normal_log_cdf, sigmoid, softmax
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers import nash_path, objective
from prefsim.solvers.planning.tree_backup import score_gradient_in_tree, soft_backup
from prefsim.worlds import PreferenceGame, TokenTree


def hedge_bound(horizon: Any, n: int) -> Any:
    """Return √(log n/(2T)), which bounds the exploitability of the average of n responses.

    The step is √(8 log n/T).
    """
    return np.sqrt(math.log(n) / (2 * np.asarray(horizon, dtype=float)))


def fast_bound(n: int, margin: float) -> float:
    """Return the bound on Σ_t (1 − π_t(y*)) with the step Δ/2 from the uniform policy."""
    step = margin / 2
    return math.log(n) / (step * margin - (math.exp(step) - 1 - step))


def margin_games(seed: int, n: int, margin: float, n_games: int) -> np.ndarray:
    """Return random games ``(n_games, n, n)`` in which response 0 beats all by ``margin`` or more.

    The closest one is beaten by exactly that.
    """
    rng = np.random.default_rng(seed)
    games = to_numpy(PreferenceGame.random(n, seed=rng, batch_shape=(n_games,)).preference).copy()
    lead = margin + (0.5 - margin) * rng.random((n_games, n - 1))
    lead[np.arange(n_games), rng.integers(0, n - 1, n_games)] = margin
    games[:, 0, 1:], games[:, 1:, 0] = 0.5 + lead, 0.5 - lead
    return games


LINKS = {
    "logistic": sigmoid,
    "probit": lambda x: np.exp(normal_log_cdf(x)),
    "clipped": lambda x: np.clip(0.5 + x / 4, 0.0, 1.0),
    "certain": lambda x: 0.5 * (1 + np.sign(x)),
}


class Utility(NamedTuple):
    """Preferences ``(n, n)``, and the utility ``(n,)`` that they are said to come from."""

    preference: np.ndarray
    utility: np.ndarray


def with_link(utility: np.ndarray, best: int, link: str) -> Utility:
    """Raise one of the utilities above all others, and compare by a link."""
    raised = utility.copy()
    raised[best % raised.size] = raised.max() + 0.1
    return Utility(LINKS[link](raised[:, None] - raised[None, :]), raised)


def with_borda_scores(game: PreferenceGame) -> Utility:
    preference = np.asarray(game.preference)
    return Utility(preference, borda_scores(preference))


def margin_game(seed: int, n: int, margin: float) -> PreferenceGame:
    return PreferenceGame(margin_games(seed, n, margin, 1)[0])


def as_preferred(table: np.ndarray) -> np.ndarray:
    """Return the preferences."""
    return table


def by_majority(table: np.ndarray) -> np.ndarray:
    """Return sure preferences for whatever wins more often than not."""
    return 0.5 * (1 + np.sign(table - 0.5))


# --- other routes ---


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
