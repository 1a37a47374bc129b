"""Models whose hidden states are parameters: five words, and training on pairs.

Token k of a response is drawn from softmax(W h), h a free vector for each prefix. All pairs here
differ in their first token, so that a pair shares the hidden state of its prompt and no other.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis import FeatureGradient, ches_score, feature_gradient, pair_derivatives
from prefsim.losses import PairLogps
from prefsim.numerics import softmax

WORDS = ("No", "Never", "Yes", "Sure", "Other")
NO, NEVER, YES, SURE, OTHER = range(5)
BETA = 0.1


class Model(NamedTuple):
    """The parameters: W ``(..., V, d)``, and the hidden states of both responses.

    Those of n pairs are ``(..., n, T, d)``; the first, of the prompt, is the same in both.
    """

    unembedding: np.ndarray
    chosen_states: np.ndarray
    rejected_states: np.ndarray


class Pairs(NamedTuple):
    """Tokens of pairs and masks of where a response has one, ``(..., n, T)`` each."""

    chosen: np.ndarray
    rejected: np.ndarray
    chosen_mask: np.ndarray
    rejected_mask: np.ndarray

    def gradients(self, model: Model) -> tuple[FeatureGradient[Any], FeatureGradient[Any]]:
        """Return the log-probabilities of both responses and their gradients."""
        # One W for the n pairs.
        weights = model.unembedding[..., None, :, :]
        return (
            feature_gradient(weights, model.chosen_states, self.chosen, self.chosen_mask),
            feature_gradient(weights, model.rejected_states, self.rejected, self.rejected_mask),
        )

    def log_probs(self, model: Model) -> tuple[np.ndarray, np.ndarray]:
        """Return log π of both responses, ``(..., n)`` each."""
        chosen, rejected = self.gradients(model)
        return chosen.log_prob, rejected.log_prob

    def ches(self, model: Model) -> np.ndarray:
        """Return the similarity of each pair, ``(..., n)``."""
        states = model.chosen_states, model.rejected_states
        return np.asarray(ches_score(*states, self.chosen_mask, self.rejected_mask))


# --- five words, one prompt ---


def five_words() -> Model:
    """Return a model of one prompt in which "Never" has a longer embedding than "No"."""
    rows = [[2, 1, 0], [2, 2.5, 0], [2, -2, 0], [1, -2, 0.5], [-1, 0, 1]]
    state = np.array([[[0.8, 0.1, 0.0]]])
    return Model(np.array(rows, dtype=float), state, state)


def over(chosen: int, rejected: int) -> Pairs:
    """Return the one pair that prefers a word over another."""
    every = np.ones((1, 1), dtype=bool)
    return Pairs(np.full((1, 1), chosen), np.full((1, 1), rejected), every, every)


def probabilities(model: Model) -> np.ndarray:
    """Return the law of the first token of the first pair, ``(..., V)``."""
    return np.asarray(
        softmax((model.unembedding @ model.chosen_states[..., 0, 0, :, None])[..., 0])
    )


# --- training ---

PairLoss = Callable[[PairLogps[Any]], Any]


def trained(
    model: Model,
    pairs: Pairs,
    loss: PairLoss,
    *,
    rate: float,
    steps: int,
    states: float = 1.0,
) -> Iterator[Model]:
    """Yield the model before and after each step down the summed loss; the reference is the start.

    The hidden states move at ``states`` times the rate.
    """
    start = pairs.log_probs(model)
    yield model
    for _ in range(steps):
        model = step(model, pairs, start, loss, rate=rate, states=states)
        yield model


def step(
    model: Model,
    pairs: Pairs,
    start: tuple[np.ndarray, np.ndarray],
    loss: PairLoss,
    *,
    rate: float,
    states: float = 1.0,
) -> Model:
    """Return the model after one step of gradient descent on all parameters."""
    chosen, rejected = pairs.gradients(model)
    logps = PairLogps(chosen.log_prob, rejected.log_prob, *start)
    up, down = (slope[..., None, None] for slope in pair_derivatives(loss, logps))
    moved = (up * chosen.unembedding - down * rejected.unembedding).sum(axis=-3)
    moves = [up * chosen.states, -down * rejected.states]
    # One parameter: the state of the prompt.
    moves[0][..., 0, :] += moves[1][..., 0, :]
    moves[1][..., 0, :] = moves[0][..., 0, :]
    own = (before + rate * states * move for before, move in zip(model[1:], moves, strict=True))
    return Model(model.unembedding + rate * moved, *own)


def last_of(path: Iterator[Model]) -> Model:
    """Return where a training ends."""
    return collections.deque(path, maxlen=1)[0]
