"""Linear rewards of tokens, learned from pairs of responses, taken as found or at their least."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paper_repros.mdp.rto.token_worlds import TokenWorld, next_tokens
from prefsim.backend import to_numpy
from prefsim.policies import TokenTreePolicy
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward, pessimistic_reward
from prefsim.solvers.planning import expected_backup
from prefsim.worlds import TokenTree

RIDGE, BETA = 0.5, 0.3
CAUTIONS = (0.0, 0.1, 0.25, 0.5, 1.0)


class Setting(NamedTuple):
    """What is known of tokens, and whose responses are compared.

    Attributes
    ----------
    length
        Of responses of two tokens each.
    features
        Shared by all tokens, 0 for a weight of every prefix and next token.
    spread
        Of the logits of the reference.
    of_the_best
        Share of the compared responses that the optimum wrote, the others being the reference's.
    pairs
        How many are compared.
    """

    length: int
    features: int
    spread: float
    of_the_best: float
    pairs: int


SHARED = Setting(length=4, features=4, spread=1.5, of_the_best=0.0, pairs=40)
SINGLE = Setting(length=3, features=0, spread=0.5, of_the_best=0.8, pairs=20)


class Cautious(NamedTuple):
    """Worlds with linear rewards, one along the first axis, and what pairs say of each.

    Attributes
    ----------
    world
        With rewards φ·θ.
    features
        φ, ``(worlds, cells, d)``, of every prefix and next token.
    weights
        The fit, ``(worlds, d)``.
    differences
        Of the features of whole responses, the preferred one first, ``(worlds, n, d)``.
    radius
        How far the fit is from θ in the norm of Σ, ``(worlds,)``: the least that is safe.
    """

    world: TokenWorld
    features: np.ndarray
    weights: np.ndarray
    differences: np.ndarray
    radius: np.ndarray

    @classmethod
    def draw(cls, seeds: range, setting: Setting) -> Cautious:
        """Draw a world of each seed, and pairs of responses that a rater has ordered."""
        tree = TokenTree(2, setting.length)
        drawn = [_draw(tree, np.random.default_rng(seed), setting) for seed in seeds]
        logits, features, theta, differences = (np.stack(each) for each in zip(*drawn, strict=True))
        weights = fit_linear_reward(differences, ridge=RIDGE / setting.pairs).weights
        off = weights - theta
        seen = (differences @ off[..., None])[..., 0]
        radius = np.sqrt(RIDGE * (off**2).sum(axis=-1) + (seen**2).sum(axis=-1))
        rewards = (features @ theta[..., None]).reshape(len(seeds), 1, tree.n_nodes, 2)
        world = TokenWorld(TokenTreePolicy(tree, logits), rewards, BETA)
        return cls(world, features, weights, differences, radius)

    def pessimistic(self, caution: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the rewards at their least, for a share of the radius, and what was taken off."""
        given = (self.features, self.weights, self.differences)
        found, off = (pessimistic_reward(*given, radius=r, ridge=RIDGE) for r in (0.0, 1.0))
        bound = (caution * self.radius[:, None] * (found - off)).reshape(self.world.rewards.shape)
        return found.reshape(bound.shape) - bound, bound

    def lost(self, caution: float) -> tuple[np.ndarray, np.ndarray]:
        """Return what the objective loses, and the bound on that, ``(worlds,)`` each."""
        low, bound = self.pessimistic(caution)
        lost, most = lost_and_bound(self.world, low, bound)
        return lost[..., 0], most[..., 0]


def _draw(tree: TokenTree, rng: np.random.Generator, setting: Setting) -> tuple[np.ndarray, ...]:
    """Draw logits, features, weights, and the differences of pairs, the preferred one first."""
    cells = tree.n_nodes * 2
    logits = setting.spread * rng.standard_normal((1, tree.n_nodes, 2))
    features = np.eye(cells)
    if setting.features:
        features = rng.standard_normal((cells, setting.features))
    theta = rng.standard_normal(features.shape[-1])
    rewards = (features @ theta).reshape(logits.shape)
    world = TokenWorld(TokenTreePolicy(tree, logits), rewards, BETA)
    written = [to_numpy(each.probs)[0] for each in (world.optimum()[0], world.reference)]
    probs = np.average(written, axis=0, weights=[setting.of_the_best, 1 - setting.of_the_best])
    first, second = rng.choice(probs.size, (2, setting.pairs), p=probs / probs.sum())
    sums = tree.along(features.T.reshape(-1, tree.n_nodes, 2)).sum(axis=-1).T
    gap = sums[first] - sums[second]
    preferred = rng.random(setting.pairs) < 1 / (1 + np.exp(-gap @ theta))
    return logits, features, theta, np.where(preferred[:, None], gap, -gap)


def lost_and_bound(
    world: TokenWorld, believed: np.ndarray, bound: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the optimum of a believed reward loses, and 2 E_π* Σ b − β E_π* Σ log π*/π̂.

    ``(..., X)`` each.
    """
    best, _ = world.optimum()
    found, _ = world._replace(rewards=believed).optimum()
    lost = world.objective(best) - world.objective(found)
    off = next_tokens(best) - next_tokens(found)
    paid = expected_backup(best, token_values=2 * bound - world.beta * off)
    return lost, to_numpy(paid.value)[..., 0]
