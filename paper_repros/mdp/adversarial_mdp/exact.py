"""What is computed layer by layer, held against sums over every episode."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim.data.episodes import Episodes, enumerate_episodes, losses_to_go
from prefsim.policies.inverse_transform import inverse_transform
from prefsim.solvers.bandit_feedback.bonuses import dilated_bonus, exploration_bonus
from prefsim.solvers.bandit_feedback.covariance import (
    draws_for_relative_bound,
    empirical_inverse,
    expected_empirical_inverse,
    expected_resampled_inverse,
    feature_covariance,
    regularised_inverse,
    relative_spectrum,
    resampled_inverse,
)
from prefsim.solvers.bandit_feedback.estimates import (
    EstimateMoments,
    estimate_moments,
    estimate_weights,
    magnitude_reduced,
    reduced_estimate,
    standard_estimate,
)
from prefsim.solvers.planning.layered import layered_occupancy, layered_values, linear_q_residual
from prefsim.worlds import LinearMDP


class Layers(NamedTuple):
    """A policy in processes, and every episode with it.

    Attributes
    ----------
    process
        A batch of W processes.
    losses, policy
        ``(W, H, S, A)``.
    gamma
        Of the inverse covariance.
    """

    process: LinearMDP
    losses: np.ndarray
    policy: np.ndarray
    gamma: float

    @property
    def moves(self) -> np.ndarray:
        """Return the laws of the next state."""
        return np.asarray(self.process.transitions)

    def visits(self) -> np.ndarray:
        """Return how likely each state and action is, ``(W, H, S, A)``."""
        start = self.process.start_probs
        return np.asarray(layered_occupancy(self.moves, self.policy, start))

    def law(self) -> np.ndarray:
        """Return the same for pairs, ``(W, H, S * A)``."""
        return flat(self.visits())

    def q_values(self) -> np.ndarray:
        """Return the action values ``(W, H, S, A)``."""
        return np.asarray(layered_values(self.moves, self.losses, self.policy))

    def value(self) -> np.ndarray:
        """Return the value ``(W,)`` of the start."""
        first = (self.policy * self.q_values())[..., 0, :, :].sum(axis=-1)
        return np.asarray((self.process.start_probs * first).sum(axis=-1))

    def inverse(self) -> np.ndarray:
        """Return the regularised inverse ``(W, H, d, d)`` of the covariance of each layer."""
        covariance = feature_covariance(self.process.pair_features, self.law())
        return np.asarray(regularised_inverse(covariance, gamma=self.gamma))

    def weights(self) -> np.ndarray:
        """Return the weights ``(W, H, n, n)`` of the estimates."""
        return np.asarray(estimate_weights(self.process.pair_features, self.inverse()))

    def bonus(self, strength: float) -> np.ndarray:
        """Return the bonus of each layer, ``(W, H, S, A)``."""
        return exploration_bonus(self.weights(), self.policy, strength=strength)


def flat(table: np.ndarray) -> np.ndarray:
    """Return a table ``(..., S, A)`` by pairs, ``(..., S * A)``."""
    return table.reshape(*table.shape[:-2], -1)


class Moments(NamedTuple):
    """Exact moments ``(W, H, n)`` of both estimates, and those of their weights.

    Attributes
    ----------
    standard, reduced
        Of the two estimates.
    mean
        What both should be on average, φ·Σ̂†E[φQ].
    square
        Of the weights, times the square of the largest loss of an episode.
    norms
        The squared norms of the features in the inverse covariance, times the same.
    """

    standard: EstimateMoments
    reduced: EstimateMoments
    mean: np.ndarray
    square: np.ndarray
    norms: np.ndarray


def moments(layers: Layers, episodes: Episodes, law: np.ndarray | None = None) -> Moments:
    """Return the moments of the estimates over every episode.

    ``law`` is what the negative part is expected under, that of the policy unless given.
    """
    weights, played = layers.weights(), layers.law()
    width = layers.process.n_actions
    bound = float(layers.process.n_layers)
    pairs = episodes.states * width + episodes.actions
    losses = np.asarray(layers.losses)[:, None]
    suffered = losses_to_go(losses, episodes.states, episodes.actions)
    each = weights[:, None]
    expected_under = (played if law is None else law)[:, None]
    # Episodes before layers: (W, m, H, n), and for the moments (W, H, m, n).
    standard, reduced = (
        estimate_moments(np.swapaxes(estimate, 1, 2), episodes.prob[:, None])
        for estimate in (
            standard_estimate(each, pairs, suffered),
            reduced_estimate(each, expected_under, pairs, suffered, bound=bound),
        )
    )
    features = np.asarray(layers.process.pair_features)
    met = np.swapaxes(features, -1, -2) @ (played * flat(layers.q_values()))[..., None]
    mean = (features @ layers.inverse() @ met)[..., 0]
    square = bound**2 * (weights**2 @ played[..., None])[..., 0]
    norms = bound**2 * np.diagonal(weights, axis1=-2, axis2=-1)
    return Moments(standard, reduced, mean, square, norms)


class Distances(NamedTuple):
    """Largest distances of what is computed in layers from sums over all episodes.

    Attributes
    ----------
    visits, values, dilated
        Of how likely pairs are, of the value of the start, of the dilated bonus.
    spread
        Of the mean bonus from 2 β times the trace of the inverse covariance times the covariance.
    difference
        Of the gain over another policy from the performance difference lemma.
    mean
        Of the means of both estimates, relative to the largest weight.
    inverse
        Of the regularised inverse times γI + Σ from the identity.
    constant
        Of action values from linear in a constant, less that from their mean.
    """

    visits: float
    values: float
    dilated: float
    spread: float
    difference: float
    mean: float
    inverse: float
    constant: float


def distances(layers: Layers, other: np.ndarray, strength: float) -> Distances:
    """Compare a policy's values, visits, bonuses and estimates with sums over all episodes."""
    process, policy = layers.process, layers.policy
    episodes = enumerate_episodes(process, policy)
    prob, bonus = episodes.prob, layers.bonus(strength)
    elsewhere = layers._replace(policy=other)
    counted = np.zeros(bonus.shape)
    steps = np.arange(process.n_layers)
    each = np.arange(len(prob))[:, None, None]
    np.add.at(counted, (each, steps, episodes.states, episodes.actions), prob[:, :, None])
    met = losses_to_go(np.asarray(layers.losses)[:, None], episodes.states, episodes.actions)
    growth = (1 + 1 / process.n_layers) ** steps
    path = bonus[:, steps, episodes.states, episodes.actions]
    first = (policy * np.asarray(dilated_bonus(layers.moves, bonus, policy)))[:, 0].sum(axis=-1)
    carried = (process.start_probs * first).sum(axis=-1)
    pairs = np.asarray(process.features)[:, steps, episodes.states, episodes.actions]
    covariance = np.einsum("wm,wmhd,wmhe->whde", prob, pairs, pairs)
    identity = np.eye(process.dim)
    gain = elsewhere.visits().sum(axis=-1) * ((policy - other) * layers.q_values()).sum(axis=-1)
    found = moments(layers, episodes)
    size = 1 + np.abs(layers.weights()).max(axis=(-2, -1))[..., None]
    trace = np.diagonal(layers.weights(), axis1=-2, axis2=-1)
    mass = (layers.law() * trace).sum(axis=-1)

    def largest(one: np.ndarray, two: np.ndarray) -> float:
        return float(np.abs(one - two).max())

    return Distances(
        largest(counted, layers.visits()),
        largest((prob * met[..., 0]).sum(axis=-1), layers.value()),
        largest((prob * (path * growth).sum(axis=-1)).sum(axis=-1), carried),
        largest((layers.visits() * bonus).sum(axis=(-2, -1)), 2 * strength * mass),
        largest(layers.value() - elsewhere.value(), gain.sum(axis=(-2, -1))),
        max(largest(each.mean / size, found.mean / size) for each in found[:2]),
        largest(layers.inverse() @ (layers.gamma * identity + covariance), identity),
        largest(*distance_of_a_constant(layers)),
    )


def distance_of_a_constant(layers: Layers) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of action values from linear in a constant, and that from their mean."""
    constant = np.ones_like(layers.process.features)[..., :1]
    alone = linear_q_residual(layers.moves, layers.losses, constant, layers.policy)
    q_value = flat(layers.q_values())
    return alone, np.abs(q_value - q_value.mean(axis=-1, keepdims=True)).max(axis=-1)


class Shares(NamedTuple):
    """How much of their bounds the moments use, the largest of all pairs.

    Attributes
    ----------
    square
        E Q̂² of the reduced estimate over H² E x².
    norm
        H² E x² over H² times the squared norm.
    mean
        What magnitude reduction changes in the mean of a weight, relative to the largest weight.
    """

    square: float
    norm: float
    mean: float


def shares(layers: Layers) -> Shares:
    """Return what share of their bounds the moments of a policy's estimates use."""
    found = moments(layers, enumerate_episodes(layers.process, layers.policy))
    # The weight of every pair, as a variable of which pair is played.
    weights, law = layers.weights(), layers.law()[..., None, :]
    one, two = ((law * z).sum(axis=-1) for z in (weights, magnitude_reduced(weights, law)))
    return Shares(
        float((found.reduced.square / found.square).max()),
        float((found.square / found.norms).max()),
        float(np.abs(one - two).max() / np.abs(weights).max()),
    )


# --- inverses from a simulator ---

SIMULATED_GAMMA, LENGTH = 0.05, 200
SCALE = 1 / (1 + SIMULATED_GAMMA)


class Simulated(NamedTuple):
    """Inverses from draws of a simulator, in the layers of some policies.

    Attributes
    ----------
    spectra
        Eigenvalues of the estimated inverse times γI + Σ, ``(..., d)``, by the kind of the inverse
        and the number of draws.
    allowed
        How far from 1 the paper's bound lets them be, from ``needed`` draws on.
    needed
        That number of draws.
    z_scores
        Of the mean of many inverses against what is expected, by kind: the largest of all entries.
    """

    spectra: dict[tuple[str, int], np.ndarray]
    allowed: float
    needed: int
    z_scores: dict[str, float]

    def sizes(self, kind: str) -> list[int]:
        """Return the numbers of draws."""
        return sorted(size for each, size in self.spectra if each == kind)

    def errors(self, kind: str) -> list[float]:
        """Return how far the farthest eigenvalue is from 1 on average, by number of draws."""
        spectra = (self.spectra[kind, size] for size in self.sizes(kind))
        return [float(np.abs(each - 1).max(axis=-1).mean()) for each in spectra]


RESAMPLED, EMPIRICAL = "geometric resampling", "empirical covariance"


def simulate(
    layers: Layers, sizes: tuple[int, ...], rng: np.random.Generator, repeats: int = 3
) -> Simulated:
    """Estimate inverses from so many draws, with γ = .05; repeats of resampling take 200 draws."""
    process, law = layers.process, layers.law()
    law = law / law.sum(axis=-1, keepdims=True)
    features, gamma = np.asarray(process.pair_features), SIMULATED_GAMMA
    covariance = feature_covariance(features, law)
    needed = draws_for_relative_bound(process.dim, gamma=gamma, failure=0.01)
    spectra = {}
    for size in sizes:
        drawn = resampled(features, law, rng, (repeats, size // LENGTH, LENGTH))
        symmetric = 0.5 * (drawn + np.swapaxes(drawn, -1, -2))
        spectra[RESAMPLED, size] = relative_spectrum(symmetric, covariance, gamma=gamma)
    for size in (*sizes, needed):
        counts = rng.multinomial(size, law, size=(repeats, *law.shape[:-1]))
        inverse = empirical_inverse(features, counts, gamma=gamma)
        spectra[EMPIRICAL, size] = relative_spectrum(inverse, covariance, gamma=gamma)
    return Simulated(spectra, 2 * gamma**0.5, needed, z_scores(features[0, -1], law[0, -1], rng))


def resampled(
    features: np.ndarray, law: np.ndarray, rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray:
    """Return resampled inverses ``(repeats, *law, d, d)`` from draws of ``(repeats, M, N)``."""
    repeats, *each = shape
    lead = law.shape[:-1]
    row = np.arange(int(np.prod(lead))).reshape(*lead, 1, 1)
    sums = np.cumsum(law, axis=-1).reshape(-1, law.shape[-1])
    heights = rng.random((repeats, *lead, *each)) * sums[row, -1]
    pairs = inverse_transform(sums, row, heights)
    drawn = features.reshape(-1, *features.shape[-2:])[row, pairs]
    return np.asarray(resampled_inverse(drawn, gamma=SIMULATED_GAMMA, scale=SCALE))


def z_scores(
    features: np.ndarray, law: np.ndarray, rng: np.random.Generator, repeats: int = 3000
) -> dict[str, float]:
    """Return how far means of inverses are from what is expected, in standard errors."""
    short, gamma = 6, SIMULATED_GAMMA
    covariance = feature_covariance(features, law)
    each = {
        RESAMPLED: resampled(features, law, rng, (repeats, 1, LENGTH)),
        EMPIRICAL: empirical_inverse(
            features, rng.multinomial(short, law, size=repeats), gamma=gamma
        ),
    }
    expected = {
        RESAMPLED: expected_resampled_inverse(covariance, gamma=gamma, scale=SCALE, length=LENGTH),
        EMPIRICAL: expected_empirical_inverse(features, law, gamma=gamma, draws=short),
    }
    return {
        kind: float(
            (np.abs(drawn.mean(axis=0) - expected[kind]) / (drawn.std(axis=0) / repeats**0.5)).max()
        )
        for kind, drawn in each.items()
    }
