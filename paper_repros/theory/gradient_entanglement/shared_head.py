"""Sequences whose tokens share one output matrix: gradients of log-probabilities in closed form.

Token i of a response is drawn from softmax(W h_i) with a fixed context h_i, so that log π of a
response has the gradient Σ_i (1[y_i] − p_i) h_iᵀ in W. Everything broadcasts over leading axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis import Entanglement, PairDerivatives, entanglement, pair_derivatives
from prefsim.losses import PairLogps
from prefsim.numerics import log_softmax


class Response(NamedTuple):
    """A response: its tokens ``(..., T)``, and the contexts ``(..., T, d)`` they are drawn in."""

    tokens: np.ndarray
    contexts: np.ndarray

    def log_prob(self, weights: np.ndarray) -> np.ndarray:
        """Return log π under W ``(..., V, d)``, ``(...)`` in nats."""
        return np.asarray(self._token_log_probs(weights).sum(axis=-1))

    def errors(self, weights: np.ndarray) -> np.ndarray:
        """Return 1[y_i] − p_i for each token, ``(..., T, V)``."""
        probs = np.exp(log_softmax(self._logits(weights)))
        return np.asarray(np.eye(weights.shape[-2])[self.tokens] - probs)

    def gradient(self, weights: np.ndarray) -> np.ndarray:
        """Return the gradient of log π in W, ``(..., V, d)``."""
        return np.einsum("...tv,...td->...vd", self.errors(weights), self.contexts)

    def _logits(self, weights: np.ndarray) -> np.ndarray:
        return np.einsum("...vd,...td->...tv", weights, self.contexts)

    def _token_log_probs(self, weights: np.ndarray) -> np.ndarray:
        logs = log_softmax(self._logits(weights))
        return np.take_along_axis(logs, self.tokens[..., None], axis=-1)[..., 0]


class Pair(NamedTuple):
    """A compared pair of responses."""

    chosen: Response
    rejected: Response

    def log_probs(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log π of both, each ``(...)``."""
        return self.chosen.log_prob(weights), self.rejected.log_prob(weights)

    def gradients(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the gradients of both log-probabilities in W, each ``(..., V, d)``."""
        return self.chosen.gradient(weights), self.rejected.gradient(weights)

    def token_gram(self, weights: np.ndarray) -> np.ndarray:
        """Return ⟨∇log π(y_w,i), ∇log π(y_l,j)⟩ for all tokens, ``(..., T, T)``."""
        between = self.chosen.errors(weights) @ np.swapaxes(self.rejected.errors(weights), -1, -2)
        contexts = self.chosen.contexts @ np.swapaxes(self.rejected.contexts, -1, -2)
        return np.asarray(between * contexts)

    def entangled(
        self, weights: np.ndarray, slopes: PairDerivatives | None = None
    ) -> Entanglement[np.ndarray]:
        """Return what a step does that pulls with these slopes, 1 and 1 unless given."""
        chosen, rejected = self.gradients(weights)
        inner, first, second = (
            (left * right).sum(axis=(-2, -1))
            for left, right in ((chosen, rejected), (chosen, chosen), (rejected, rejected))
        )
        up, down = (1.0, 1.0) if slopes is None else slopes
        return entanglement(first, second, inner, chosen_slope=up, rejected_slope=down)


# --- the paper's kind of instances ---


def suffix_that_drags() -> tuple[Pair, np.ndarray]:
    """Return a pair with one shared suffix token and weights at which a margin loss lowers both.

    The suffix is likely after the chosen token, unlikely after the rejected one, and its contexts
    are similar.
    """
    weights = np.zeros((3, 3))
    weights[2] = 0.0, 3.0, -9.0
    first = [0.1, 0.0, 0.0]
    chosen = Response(np.array([0, 2]), np.array([first, [0.0, 1.0, 0.0]]))
    rejected = Response(np.array([1, 2]), np.array([first, [0.0, 0.9, 0.4]]))
    return Pair(chosen, rejected), weights


def single_token() -> tuple[Pair, np.ndarray]:
    """Return two single tokens whose logits are trained themselves."""
    context = np.ones((1, 1))
    pair = Pair(Response(np.array([0]), context), Response(np.array([1]), context))
    return pair, np.array([[0.5], [0.2], [-0.3]])


def with_suffix(
    rng: np.random.Generator,
    length: int,
    *,
    draws: int,
    correlation: float = 0.8,
    vocabulary: int = 8,
    width: int = 12,
) -> tuple[Pair, np.ndarray]:
    """Return drawn pairs that differ in the first token and share a suffix.

    The contexts of the suffix are correlated between the responses.
    """
    weights = 0.5 * rng.standard_normal((draws, vocabulary, width))
    first = rng.standard_normal((draws, 1, width))
    base = rng.standard_normal((draws, length, width))
    distinct = np.argsort(rng.random((draws, vocabulary)), axis=-1)[:, :2]
    suffix = rng.integers(vocabulary, size=(draws, length))
    responses = []
    for token in distinct.T:
        own = rng.standard_normal((draws, length, width))
        contexts = np.sqrt(correlation) * base + np.sqrt(1 - correlation) * own
        responses.append(
            Response(
                np.concatenate([token[:, None], suffix], axis=-1),
                np.concatenate([first, contexts], axis=-2),
            )
        )
    return Pair(*responses), weights


# --- training on one pair ---

PairLoss = Callable[[PairLogps[Any]], Any]


class Path(NamedTuple):
    """Log-probabilities of both responses along training, ``(steps + 1,)`` each."""

    chosen: np.ndarray
    rejected: np.ndarray

    @property
    def moved(self) -> tuple[float, float]:
        """How far both have come."""
        chosen, rejected = (float(x[-1] - x[0]) for x in self)
        return chosen, rejected


def logps_of(pair: Pair, weights: np.ndarray, start: np.ndarray) -> PairLogps[np.ndarray]:
    """Return what losses take of one pair; the reference is the policy at ``start``."""
    here, there = pair.log_probs(weights), pair.log_probs(start)
    tokens = np.array([float(pair.chosen.tokens.shape[-1])])
    fields = (np.atleast_1d(x) for x in (*here, *there))
    return PairLogps(*fields)._replace(chosen_length=tokens, rejected_length=tokens)


def step(
    pair: Pair, weights: np.ndarray, start: np.ndarray, loss: PairLoss, rate: float
) -> np.ndarray:
    """Return the weights after one step down a loss whose reference is the policy at ``start``."""
    slopes = pair_derivatives(loss, logps_of(pair, weights, start))
    chosen, rejected = pair.gradients(weights)
    moved = weights + rate * (slopes.chosen * chosen - slopes.rejected * rejected)
    return np.asarray(moved)


def train(pair: Pair, start: np.ndarray, loss: PairLoss, *, rate: float, steps: int) -> Path:
    """Descend a loss on one pair in plain steps; the reference is the start."""
    weights, path = start, [pair.log_probs(start)]
    for _ in range(steps):
        weights = step(pair, weights, start, loss, rate)
        path.append(pair.log_probs(weights))
    return Path(*np.array(path).T)


def normalised(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Return the direction g_w/‖g_w‖ − g_l/‖g_l‖, which raises one and lowers the other."""
    parts = (g / np.linalg.norm(g, axis=(-2, -1), keepdims=True) for g in (chosen, rejected))
    up, down = parts
    return np.asarray(up - down)


def train_normalised(
    pair: Pair, start: np.ndarray, loss: PairLoss, *, rate: float, steps: int
) -> Path:
    """Follow the normalised direction in steps as long as the loss pulls the chosen response."""
    weights, path = start, [pair.log_probs(start)]
    for _ in range(steps):
        scale = pair_derivatives(loss, logps_of(pair, weights, start)).chosen
        weights = weights + rate * scale * normalised(*pair.gradients(weights))
        path.append(pair.log_probs(weights))
    return Path(*np.array(path).T)
