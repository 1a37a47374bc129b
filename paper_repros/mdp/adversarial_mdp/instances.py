"""What claims draw: costs in turn, layers with features in a ball, processes with policies."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from paper_repros.mdp.adversarial_mdp.exact import Layers, flat
from prefsim.numerics import softmax
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
    estimate_weights,
    reduced_estimate,
    standard_estimate,
)
from prefsim.solvers.online_learning.log_barrier import log_barrier, log_barrier_step
from prefsim.worlds import LinearMDP

TINY = 1e-300


class Regulariser(NamedTuple):
    """A regulariser of the leader: its minimiser, its value, and its divergence."""

    leader: Callable[[np.ndarray, float], np.ndarray]
    value: Callable[[np.ndarray], np.ndarray]
    divergence: Callable[[np.ndarray, np.ndarray], np.ndarray]


def negative_entropy(policy: np.ndarray) -> np.ndarray:
    return np.asarray((policy * np.log(np.maximum(policy, TINY))).sum(axis=-1))


def barrier_divergence(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    ratio = new / old
    return np.asarray((ratio - 1 - np.log(ratio)).sum(axis=-1))


def entropy_divergence(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    # Far below every rounding: what underflowed has a logarithm too.
    return np.asarray((new * np.log(np.maximum(new, TINY) / np.maximum(old, TINY))).sum(axis=-1))


BARRIER = Regulariser(
    lambda costs, step: np.asarray(log_barrier_step(costs, step=step).policy),
    log_barrier,
    barrier_divergence,
)
ENTROPY = Regulariser(
    lambda costs, step: softmax(-step * costs), negative_entropy, entropy_divergence
)


class Sides(NamedTuple):
    """A regret, and its bound."""

    regret: float
    bound: float


def regret_and_bound(
    regulariser: Regulariser,
    step: float,
    comparator: np.ndarray | None,
    rounds: int,
    cost_of: Callable[[np.ndarray], np.ndarray],
    actions: int = 2,
) -> Sides:
    """Return both sides of the regret bound of the leader; a cost may depend on the policy.

    (Ψ(y) − Ψ(p₁))/η + η Σ_t Σ_a p c², where p₁ is uniform. The comparator y is the leader at the
    end unless given, against which the regret is nearest to its bound.
    """
    total = np.zeros(actions)
    suffered = spread = 0.0
    first = np.full(actions, 1 / actions)
    for _ in range(rounds):
        policy = regulariser.leader(total, step)
        cost = cost_of(policy)
        total = total + cost
        suffered += float(policy @ cost)
        spread += float(policy @ cost**2)
    comparator = regulariser.leader(total, step) if comparator is None else comparator
    regret = suffered - float(comparator @ total)
    distance = float(regulariser.value(comparator) - regulariser.value(first))
    return Sides(regret, distance / step + step * spread)


def added_by_a_step(seed: int, regulariser: Regulariser) -> np.ndarray:
    """Return what a step adds to the regret as a share of η Σ p c², for fifty policies and costs.

    It adds ⟨p − p', c⟩ − D(p', p)/η.
    """
    rng = np.random.default_rng(seed)
    actions, step = int(rng.integers(2, 7)), 10 ** rng.uniform(-3, 1)
    before, cost = (
        rng.standard_normal((50, actions)) * 10 ** rng.uniform(-2, 3, (50, 1)) for _ in range(2)
    )
    # Two even actions, where it is tight.
    before[0], cost[0] = 1e3 / step, 0.0
    before[0, :2], cost[0, :2] = 0.0, np.array([0.01, -0.01]) / step
    policy, after = (regulariser.leader(each, step) for each in (before, before + cost))
    added = ((policy - after) * cost).sum(axis=-1) - regulariser.divergence(after, policy) / step
    return np.asarray(np.maximum(added, 0) / (step * (policy * cost**2).sum(axis=-1)))


def excess_and_divergence(seed: int, regulariser: Regulariser) -> tuple[np.ndarray, np.ndarray]:
    """Return what other policies y exceed the leader's objective by, and their divergence from it.

    η⟨y − p, C⟩ + Ψ(y) − Ψ(p), and D(y, p).
    """
    rng = np.random.default_rng(seed)
    actions, step = int(rng.integers(2, 7)), 10 ** rng.uniform(-3, 1)
    costs = rng.standard_normal((20, actions)) / step
    policy, other = regulariser.leader(costs, step), rng.dirichlet(np.ones(actions), 20)
    excess = step * ((other - policy) * costs).sum(axis=-1)
    excess = excess + regulariser.value(other) - regulariser.value(policy)
    return excess, regulariser.divergence(other, policy)


def costs_of_either_sign(
    rng: np.random.Generator, step: float, actions: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Return costs of any size: lasting ones, Gaussian ones, very negative ones of seldom plays."""
    scale, kind = 10 ** rng.uniform(-1, 3.7), rng.random()
    lasting = 0.3 / step * (np.arange(actions) > 0)

    def drawn(policy: np.ndarray) -> np.ndarray:
        if kind < 0.3:
            return lasting
        if rng.random() < 0.5:
            return scale * rng.standard_normal(actions)
        chosen = rng.random(actions) < 0.5
        return np.where(chosen, -rng.random(actions) / np.maximum(policy, 1e-12), 0.0)

    return drawn


class Layer(NamedTuple):
    """Pairs of a layer, how often they are played, and the weights of their estimates."""

    features: np.ndarray
    law: np.ndarray
    gamma: float

    @classmethod
    def draw(cls, seed: int, gamma: float, radius: float = 1.0) -> Layer:
        """Draw features in a ball, and a law that may leave some pairs out."""
        rng = np.random.default_rng(seed)
        n, d = rng.integers(2, 8), rng.integers(1, 4)
        features = rng.standard_normal((n, d))
        length = rng.random((n, 1)) ** 0.3
        features *= radius * length / np.linalg.norm(features, axis=-1, keepdims=True)
        law = np.where(rng.random(n) < 0.3, 0.0, rng.dirichlet(np.full(n, 0.5)))
        law[0] += 1e-6
        return cls(features, law / law.sum(), gamma)

    @property
    def covariance(self) -> np.ndarray:
        """Return the covariance of the features that are played."""
        return feature_covariance(self.features, self.law)

    @property
    def inverse(self) -> np.ndarray:
        """Return its regularised inverse."""
        return regularised_inverse(self.covariance, gamma=self.gamma)

    @property
    def weights(self) -> np.ndarray:
        """Return the weights of the estimates."""
        return estimate_weights(self.features, self.inverse)

    def first_three(self) -> Layer:
        """Return the layer of the first three pairs alone."""
        law = self.law[:3] / self.law[:3].sum()
        return self._replace(features=self.features[:3], law=law)

    @property
    def norms(self) -> np.ndarray:
        """Return the squared norms of the features in the inverse."""
        return np.diagonal(self.weights)

    def mean_of_empirical(self, draws: int) -> np.ndarray:
        """Return the mean of the empirical inverse over every sequence of draws."""
        sequences = np.array(list(itertools.product(range(len(self.law)), repeat=draws)))
        drawn = self.features[sequences]
        covariance = np.einsum("wnd,wne->wde", drawn, drawn) / draws
        each = np.linalg.inv(self.gamma * np.eye(drawn.shape[-1]) + covariance)
        return np.asarray(np.tensordot(self.law[sequences].prod(axis=-1), each, axes=1))

    def mean_of_resampled(self, scale: float, length: int, fresh: bool) -> np.ndarray:
        """Return the mean of the resampled inverse over every sequence of draws.

        Draws that are not fresh are one draw, taken again and again.
        """
        pairs = range(len(self.law))
        ways = itertools.product(pairs, repeat=length) if fresh else ([j] * length for j in pairs)
        sequences = np.array(list(ways))
        prob = self.law[sequences if fresh else sequences[:, :1]].prod(axis=-1)
        drawn = self.features[sequences][:, None]
        each = resampled_inverse(drawn, gamma=self.gamma, scale=scale)
        return np.asarray(np.tensordot(prob, each, axes=1))

    def expected_resampled(self, scale: float, length: int) -> np.ndarray:
        """Return the same mean in closed form."""
        return expected_resampled_inverse(
            self.covariance, gamma=self.gamma, scale=scale, length=length
        )

    def expected_empirical(self, draws: int) -> np.ndarray:
        """Return the mean of the empirical inverse, by its counts."""
        return expected_empirical_inverse(self.features, self.law, gamma=self.gamma, draws=draws)

    def partial_sum(self, scale: float, length: int) -> np.ndarray:
        """Return c Σ (I − c(γI + Σ))ⁿ, term by term."""
        identity = np.eye(self.features.shape[1])
        step = identity - scale * (self.gamma * identity + self.covariance)
        powers = (np.linalg.matrix_power(step, n) for n in range(length + 1))
        return np.asarray(scale * sum(powers))


def layers_of(seed: int, gamma: float, *, dim: int | None = 3) -> Layers:
    """Draw a process, losses and a policy; features tell all pairs apart where ``dim`` is None."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 4)), int(rng.integers(1, 4)), int(rng.integers(2, 4)))
    if dim is None:
        laws = rng.dirichlet(np.ones(shape[1]), (1, shape[0] - 1, *shape[1:]))
        process = LinearMDP.tabular(laws)
    else:
        process = LinearMDP.random(*shape, dim, seed=rng, batch_shape=(1,))
    losses = np.asarray(process.losses(rng.random((1, process.n_layers, process.dim))))
    policy = rng.dirichlet(np.ones(shape[2]), (1, *shape[:2]))
    return Layers(process, losses, policy, gamma)


def other_policy(layers: Layers, seed: int) -> np.ndarray:
    """Draw another policy for a process."""
    rng = np.random.default_rng([seed, 1])
    return rng.dirichlet(np.ones(layers.policy.shape[-1]), layers.policy.shape[:-1])


def rough_losses(layers: Layers, seed: int) -> Layers:
    """Return the process with losses that are not linear in its features."""
    rng = np.random.default_rng([seed, 2])
    return layers._replace(losses=rng.random(layers.losses.shape))


def estimates_in_a_table(layers: Layers, loss: float, bound: float) -> tuple[np.ndarray, ...]:
    """Return both estimates where each pair in turn is played, and 1{visited} L / (q + γ)."""
    law, weights = layers.law(), layers.weights()
    suffered = np.full(law.shape[:-1], loss)
    every = []
    for j in range(law.shape[-1]):
        played = np.full(suffered.shape, j)
        visited = np.arange(law.shape[-1]) == j
        every.append(
            (
                standard_estimate(weights, played, suffered),
                reduced_estimate(weights, law, played, suffered, bound=bound),
                np.where(visited, loss / (law + layers.gamma), 0.0),
            )
        )
    return tuple(np.stack(each) for each in zip(*every, strict=True))


def spectra_of_draws(seed: int, gamma: float, draws: int | None) -> np.ndarray:
    """Return the spectra of sixty empirical inverses, of nine features that mix three.

    From as many draws as the relative bound asks for, unless given.
    """
    rng = np.random.default_rng(seed)
    features, law = rng.dirichlet(np.full(3, 0.5), 9), rng.dirichlet(np.full(9, 0.5))
    needed = draws_for_relative_bound(3, gamma=gamma, failure=0.01)
    counts = rng.multinomial(needed if draws is None else draws, law, size=60)
    inverse = empirical_inverse(features, counts, gamma=gamma)
    return relative_spectrum(inverse, feature_covariance(features, law), gamma=gamma)


def mean_by_parameters(layers: Layers) -> np.ndarray:
    """Return φ·Σ̂†Σθ of all pairs, with θ fitted to the action values."""
    features = np.asarray(layers.process.pair_features)
    theta = np.linalg.pinv(features) @ flat(layers.q_values())[..., None]
    covariance = np.einsum("whn,whnd,whne->whde", layers.law(), features, features)
    inverse = np.linalg.inv(layers.gamma * np.eye(features.shape[-1]) + covariance)
    return np.asarray((features @ inverse @ covariance @ theta)[..., 0])


def extremes_and_more(pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Draw losses in [0, 1]: extremes, where what is convex is largest, and some between."""
    return np.concatenate([rng.random((20, pairs)) < 0.5, rng.random((5, pairs))])


def dilated_by_hand(layers: Layers, bonus: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return b plus (1 + 1/H) times what is found to follow, under the policy that played."""
    onward = (layers.policy * found).sum(axis=-1)[:, 1:]
    after = np.einsum("whsat,wht->whsa", layers.moves, onward)
    nothing = np.zeros_like(bonus[:, :1])
    return np.asarray(
        bonus + (1 + 1 / layers.process.n_layers) * np.concatenate([after, nothing], axis=1)
    )
