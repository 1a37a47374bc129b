"""A drifting point in the plane, whose expert is known, and a policy that is a mean alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import like
from prefsim.losses import TokenPairLogps
from prefsim.losses.segments import cpl, squared_error_logps
from prefsim.numerics import sigmoid, xlogy
from prefsim.solvers.optimisers.newton import minimise

Array = Any
STEPS = 3  # of a segment


class Plane(NamedTuple):
    """A point that drifts in the plane and is pushed: s' = drift R s + push u, R a rotation.

    A step costs |s|² + effort |u|². By symmetry the optimal value is −p |s|², the best push is
    K s, and the advantage of another one is −m |u − K s|².
    """

    angle: float
    drift: float
    push: float
    effort: float
    discount: float

    @property
    def turning(self) -> np.ndarray:
        """The drift as a matrix, ``(2, 2)``."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return self.drift * np.array([[cosine, -sine], [sine, cosine]])

    def curvatures(self) -> tuple[float, float]:
        """Return p and m: the fixed point of the Riccati equation, a quadratic in p."""
        pull, drift = self.discount * self.push**2, self.discount * self.drift**2
        # p = 1 + drift p − drift pull p² / (effort + pull p).
        linear = self.effort - pull - drift * self.effort
        value = (-linear + np.sqrt(linear**2 + 4 * pull * self.effort)) / (2 * pull)
        return float(value), float(self.effort + pull * value)

    def gain(self) -> np.ndarray:
        """Return K, ``(2, 2)``."""
        value, advantage = self.curvatures()
        return -self.discount * self.push * value / advantage * self.turning

    def move(self, state: np.ndarray, push: np.ndarray) -> np.ndarray:
        """Return the next state."""
        return state @ self.turning.T + self.push * push

    def draw(self, n: int, seed: int) -> Pushes:
        """Draw pairs of segments of random pushes, and label them by regret."""
        rng = np.random.default_rng(seed)
        actions = rng.standard_normal((n, 2, STEPS, 2))
        states = [rng.standard_normal((n, 2, 2))]
        for t in range(STEPS - 1):
            states.append(self.move(states[-1], actions[:, :, t]))
        along = np.stack(states, axis=2)
        _, advantage = self.curvatures()
        off = ((actions - along @ self.gain().T) ** 2).sum(axis=-1)
        worth = -advantage * off @ self.discount ** np.arange(STEPS)
        return Pushes(along, actions, sigmoid(worth[:, 0] - worth[:, 1]))


class Pushes(NamedTuple):
    """Compared segments ``(n, 2, T, 2)`` of states and pushes, and P(first preferred) ``(n,)``."""

    states: np.ndarray
    actions: np.ndarray
    prob: np.ndarray

    def drawn(self, seed: int) -> Pushes:
        """Return the segments with one label drawn for each pair."""
        rng = np.random.default_rng(seed)
        return self._replace(prob=(rng.random(len(self.prob)) < self.prob).astype(float))

    def entropy(self) -> float:
        """Return the mean entropy of the labels, in nats: the least that a loss can be."""
        first, second = self.prob, 1 - self.prob
        return float(-(xlogy(first, first) + xlogy(second, second)).mean())

    def loss(self, gain: Array, *, alpha: float, discount: float) -> Array:
        """Return the mean of CPL where squared distances from ``K s`` stand for log-probabilities.

        ``gain`` is ``(2, 2)``.
        """
        states, actions, prob = (like(part, gain) for part in self)
        logps = squared_error_logps(actions, states @ gain.T)
        nothing = 0 * logps[:, 0]
        every = nothing == 0
        pairs = TokenPairLogps(logps[:, 0], logps[:, 1], nothing, nothing, every, every)
        options = {"alpha": alpha, "lambda_": 1.0, "discount": discount}
        both = prob * cpl(pairs, **options) + (1 - prob) * cpl(pairs.swapped(), **options)
        return both.mean()

    def fitted_gain(self, *, alpha: float, discount: float) -> np.ndarray:
        """Return the gain ``(2, 2)`` of least loss, from none at all."""
        import torch

        def objective(theta: Array) -> Array:
            gain = theta.reshape(2, 2)
            return self.loss(gain, alpha=alpha, discount=discount)[None]

        start = torch.zeros(1, 4, dtype=torch.float64)
        found = minimise(objective, start, tolerance=1e-10, max_iterations=200)
        return found.parameters.numpy().reshape(2, 2)
