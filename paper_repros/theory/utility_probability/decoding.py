"""What decisions make of learned token laws: noisy references, candidates, and outputs that end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim.analysis import (
    length_normalised_utility,
    map_decision,
    mbr_decision,
    sharpening_slope,
    utility_probability,
)

LENGTH, VOCABULARY, NOISE = 6, 5, 0.15
REFERENCES = (1, 3, 10, 100)
TEMPERATURES = (1.0, 0.5, 0.2, 0.1)
COLD = 1e-6
"""At this temperature P_τ is uniform on the best, to rounding."""
CANDIDATES = 20


# --- laws of tokens, learned from noisy references ---


class Learned(NamedTuple):
    """What should be said, ``(contexts, LENGTH)``, and the log-law learned of each token.

    ``utility`` is ``(contexts, LENGTH, VOCABULARY)`` in nats.
    """

    target: np.ndarray
    utility: np.ndarray

    def is_right(self) -> np.ndarray:
        """Return 1 for the right token and 0 for others, of the shape of the utility."""
        return np.eye(VOCABULARY)[self.target]

    def accuracy(self, temperature: float) -> np.ndarray:
        """Return how often each token is right at a temperature, ``(contexts, LENGTH)``."""
        probs = utility_probability(self.utility, temperature)
        return np.asarray((probs * self.is_right()).sum(axis=-1))

    def exact_match(self, temperature: float) -> float:
        """Return how often the whole output is right, mean over contexts."""
        return float(self.accuracy(temperature).prod(axis=-1).mean())

    def best_tokens(self) -> np.ndarray:
        """Return the tokens of the output of highest utility, ``(contexts, LENGTH)``."""
        return np.asarray(map_decision(self.utility).choice)


def learned(references: int, rng: np.random.Generator, contexts: int = 200) -> Learned:
    """Return what maximum likelihood with half a count added learns from noisy references."""
    target = rng.integers(VOCABULARY, size=(contexts, LENGTH))
    shape = (contexts, references, LENGTH)
    is_wrong = rng.random(shape) < NOISE
    wrong = (target[:, None] + rng.integers(1, VOCABULARY, size=shape)) % VOCABULARY
    seen = np.where(is_wrong, wrong, target[:, None])
    counts = (seen[..., None] == np.arange(VOCABULARY)).sum(axis=1)
    return Learned(target, np.log((counts + 0.5) / (references + 0.5 * VOCABULARY)))


# --- decisions among candidates that the model drew ---


class Decided(NamedTuple):
    """Share of right tokens by rule, and expected overlaps with what P is over, ``(contexts,)``.

    ``worth`` is that of the MBR decision as the rule says it, ``summed`` as summed here, and
    ``worth_of_map`` that of the MAP.
    """

    sampled: np.ndarray
    by_map: np.ndarray
    by_mbr: np.ndarray
    worth: np.ndarray
    worth_of_map: np.ndarray
    summed: np.ndarray


def decide(
    model: Learned, temperature: float, rng: np.random.Generator, count: int = CANDIDATES
) -> Decided:
    """Draw candidates from a model, score them, and decide by each rule."""
    law = np.exp(model.utility)
    drawn = (law.cumsum(axis=-1)[:, None] < rng.random((len(law), count, LENGTH, 1))).sum(axis=-1)
    drawn = np.minimum(drawn, VOCABULARY - 1)
    utility = np.take_along_axis(model.utility[:, None], drawn[..., None], axis=-1)[..., 0].sum(-1)
    overlap = (drawn[:, :, None] == drawn[:, None]).mean(axis=-1)
    # Equal candidates are one.
    is_first = ~np.tril(overlap == 1, k=-1).any(axis=-1)
    probs = utility_probability(utility, temperature, is_first)
    best = map_decision(utility, is_first)
    agreed = mbr_decision(probs, overlap, is_first)
    right = (drawn == model.target[:, None]).mean(axis=-1)
    row = np.arange(len(law))
    expected = np.einsum("ckj,cj->ck", overlap, probs)
    return Decided(
        sampled=right.mean(axis=-1),
        by_map=right[row, best.choice],
        by_mbr=right[row, agreed.choice],
        worth=agreed.value,
        worth_of_map=expected[row, best.choice],
        summed=expected[row, agreed.choice],
    )


class Decoded(NamedTuple):
    """Exact match for each number of references and temperature, and by other rules.

    Attributes
    ----------
    exact, tokens
        Exact match and share of right tokens, ``(references, temperatures)``.
    cold, best
        Exact match in the cold limit and of the MAP, ``(references,)``.
    decided
        Decisions among candidates, one for each number of references.
    """

    exact: np.ndarray
    cold: np.ndarray
    best: np.ndarray
    tokens: np.ndarray
    decided: list[Decided]


def decode(models: list[Learned], rng: np.random.Generator) -> Decoded:
    """Decode models by every rule."""
    return Decoded(
        np.array([[model.exact_match(tau) for tau in TEMPERATURES] for model in models]),
        np.array([model.exact_match(COLD) for model in models]),
        np.array([(m.best_tokens() == m.target).all(axis=-1).mean() for m in models]),
        np.array([[model.accuracy(tau).mean() for tau in TEMPERATURES] for model in models]),
        [decide(model, 1.0, rng) for model in models],
    )


# --- sharper, and when it is worse ---


class Unrelated(NamedTuple):
    """Utilities and qualities drawn apart: how they agree, and what sharpening gains, ``(n,)``.

    ``slope`` is the derivative in the temperature at τ = 1, ``measured`` the same by differences,
    ``gain`` what τ = ½ has over τ = 1, and ``own`` the same gain of the utility itself.
    """

    slope: np.ndarray
    measured: np.ndarray
    gain: np.ndarray
    own: np.ndarray


def unrelated(rng: np.random.Generator, count: int) -> Unrelated:
    """Draw utilities and qualities of six candidates, and sharpen."""
    utility, quality = rng.standard_normal((2, count, 6))
    step = 1e-4

    def expected(value: np.ndarray, temperature: float) -> np.ndarray:
        return np.asarray((utility_probability(utility, temperature) * value).sum(axis=-1))

    rise = expected(quality, 1 + step) - expected(quality, 1 - step)
    return Unrelated(
        np.asarray(sharpening_slope(utility, quality, 1.0)),
        rise / (2 * step),
        expected(quality, 0.5) - expected(quality, 1.0),
        expected(utility, 0.5) - expected(utility, 1.0),
    )


# --- outputs that may end at once ---


class Ending(NamedTuple):
    """Outputs that end at once with probability ``stop``, or after ``length`` of ``words`` words.

    The words are equally likely, and a full output ends for certain.
    """

    stop: float
    words: int
    length: int

    def log_probs(self) -> np.ndarray:
        """Return log-probabilities of all outputs in nats, the empty one first."""
        full = np.full(self.words, np.log1p(-self.stop) - np.log(self.words))
        for _ in range(self.length - 1):
            full = np.add.outer(full, np.full(self.words, -np.log(self.words))).ravel()
        return np.concatenate([[np.log(self.stop)], full])

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of all outputs, the one that ends them included."""
        return np.r_[1.0, np.full(self.words**self.length, self.length + 1.0)]

    def utility(self, power: float) -> np.ndarray:
        """Return log-probabilities over a power of the length."""
        return np.asarray(length_normalised_utility(self.log_probs(), self.lengths(), power=power))
