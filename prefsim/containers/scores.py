"""Rewards of pairs, scores of classes or of degrees with their labels, and values of tokens."""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.containers.example_draws import CANDIDATES, CLASSES, VERSIONS, Draws
from prefsim.containers.fields import exchanged
from prefsim.containers.log_probs import PairLogps
from prefsim.typing import Array, ArrayT

__all__ = [
    "ClassLogits",
    "ClassPairs",
    "DegreeLogits",
    "DegreePairLogps",
    "DistillationLogits",
    "GaussianRewards",
    "PairRewards",
    "TokenValues",
]


@readable
class PairRewards(NamedTuple, Generic[ArrayT]):
    """Scalar rewards of compared pairs, each ``(..., n)``, in units of log-odds.

    ``margin`` is by how much the chosen one is to be ahead in this pair, negative where its label
    is doubted (:func:`prefsim.data.strength.treat_labels`); nothing unless given.
    """

    chosen: ArrayT
    rejected: ArrayT
    margin: Array | None = None

    def swapped(self) -> PairRewards[ArrayT]:
        """Return the same pairs with the two responses exchanged, in every field."""
        return exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> PairRewards[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        return PairRewards(
            chosen=draws.normal(), rejected=draws.normal(), margin=draws.uniform(-0.5, 1.0)
        )


@readable
class GaussianRewards(NamedTuple, Generic[ArrayT]):
    """Normal rewards of every step of two compared segments, independent of each other.

    Attributes
    ----------
    chosen, rejected
        Mean reward of each step, ``(..., n, T)`` in log-odds.
    chosen_log_deviation, rejected_log_deviation
        Logarithm of its standard deviation.
    chosen_mask, rejected_mask
        Booleans, which steps belong to the segment; behind it there may be anything.
    chosen_noise, rejected_noise
        K draws of a standard normal error of each step, ``(..., n, K, T)``, for losses that average
        over draws.
    """

    chosen: ArrayT
    rejected: ArrayT
    chosen_log_deviation: ArrayT
    rejected_log_deviation: ArrayT
    chosen_mask: Array
    rejected_mask: Array
    chosen_noise: Array | None = None
    rejected_noise: Array | None = None

    def swapped(self) -> GaussianRewards[ArrayT]:
        """Return the same pairs with the two segments exchanged, in every field."""
        return exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> GaussianRewards[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        masks = [draws.mask() for _ in range(2)]
        steps = masks[0].shape[1:]
        means, logs = ([draws.normal(*steps) for _ in range(2)] for _ in range(2))
        noise = [draws.normal(CANDIDATES, *steps) for _ in range(2)]
        return GaussianRewards(*means, *(0.5 * each - 0.5 for each in logs), *masks, *noise)


@readable
class ClassLogits(NamedTuple, Generic[ArrayT]):
    """Class scores ``(..., n, K)`` and integer labels ``(..., n)``.

    ``margin`` ``(..., n, K)`` is what a class is granted over the label: >= 0, and 0 at the label.
    """

    logits: ArrayT
    label: Array
    margin: Array | None = None

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> ClassLogits[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        label = draws.rng.integers(0, CLASSES, rows)
        return ClassLogits(
            logits=draws.normal(CLASSES),
            label=label,
            margin=np.where(
                np.arange(CLASSES) == label[:, None], 0.0, draws.uniform(0, 1, CLASSES)
            ),
        )


@readable
class ClassPairs(NamedTuple, Generic[ArrayT]):
    """Pairs of inputs of one class, and which of the two is more typical of it.

    The input named first is ``chosen``, whichever is preferred.

    Attributes
    ----------
    chosen_logits, rejected_logits
        Class scores ``(..., n, K)``.
    chosen_rewards, rejected_rewards
        What T preference heads think of each input as one of its class, ``(..., n, T)`` in
        log-odds.
    label
        The class of both, integers ``(..., n)`` in [0, K).
    chosen_score, rejected_score
        How typical each was judged, ``(..., n)``: the higher one is preferred, equal ones tie. With
        several annotators the share of them who chose the class; of a single judgement 1 and 0, or
        twice ½.
    chosen_votes, rejected_votes
        Shares of the annotators who chose each class, ``(..., n, K)``.
    """

    chosen_logits: ArrayT
    rejected_logits: ArrayT
    chosen_rewards: ArrayT
    rejected_rewards: ArrayT
    label: Array
    chosen_score: Array
    rejected_score: Array
    chosen_votes: Array | None = None
    rejected_votes: Array | None = None

    def swapped(self) -> ClassPairs[ArrayT]:
        """Return the same pairs with the two inputs exchanged, in every field."""
        return exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> ClassPairs[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        label = draws.rng.integers(0, CLASSES, rows)
        votes = [draws.uniform(0.1, 1.0, CLASSES) for _ in range(2)]
        chosen_votes, rejected_votes = (v / v.sum(axis=-1, keepdims=True) for v in votes)
        every = np.arange(rows)
        return ClassPairs(
            chosen_logits=draws.normal(CLASSES),
            rejected_logits=draws.normal(CLASSES),
            chosen_rewards=draws.normal(VERSIONS),
            rejected_rewards=draws.normal(VERSIONS),
            label=label,
            chosen_score=chosen_votes[every, label],
            rejected_score=rejected_votes[every, label],
            chosen_votes=chosen_votes,
            rejected_votes=rejected_votes,
        )


@readable
class DegreeLogits(NamedTuple, Generic[ArrayT]):
    """Scores of the degree of each of V graded versions of a response, with the degrees.

    Scores ``(..., n, V, C)``, degrees integers ``(..., n, V)``; a negative degree leaves its
    version out.
    """

    logits: ArrayT
    degree: Array

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> DegreeLogits[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        return DegreeLogits(logits=draws.normal(VERSIONS, VERSIONS), degree=draws.degrees())


@readable
class DegreePairLogps(NamedTuple, Generic[ArrayT]):
    """Compared pairs as in :class:`PairLogps`, with graded versions as in :class:`DegreeLogits`."""

    chosen: ArrayT
    rejected: ArrayT
    ref_chosen: ArrayT
    ref_rejected: ArrayT
    chosen_logits: ArrayT
    chosen_degree: Array
    rejected_logits: ArrayT
    rejected_degree: Array
    chosen_length: Array | None = None
    rejected_length: Array | None = None
    chosen_score: Array | None = None
    rejected_score: Array | None = None
    old_chosen: ArrayT | None = None
    old_rejected: ArrayT | None = None

    def pair(self) -> PairLogps[ArrayT]:
        """Return the whole responses without their graded versions."""
        return PairLogps(**{name: getattr(self, name) for name in PairLogps._fields})

    def swapped(self) -> DegreePairLogps[ArrayT]:
        """Return the same pairs with the two responses exchanged, in every field."""
        return exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> DegreePairLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        pair = PairLogps.example(rows, seed=seed)
        return DegreePairLogps(
            **pair._asdict(),
            chosen_logits=draws.normal(VERSIONS, VERSIONS),
            chosen_degree=draws.degrees(),
            rejected_logits=draws.normal(VERSIONS, VERSIONS),
            rejected_degree=draws.degrees(),
        )


@readable
class DistillationLogits(NamedTuple, Generic[ArrayT]):
    """Class scores ``(..., n, K)`` of a student, and those of its teacher, which are constants."""

    logits: ArrayT
    teacher_logits: Array

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> DistillationLogits[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        return DistillationLogits(
            logits=draws.normal(CLASSES), teacher_logits=draws.normal(CLASSES)
        )


@readable
class TokenValues(NamedTuple, Generic[ArrayT]):
    """What a value function says before each token of K drawn responses, and what came of it.

    Attributes
    ----------
    values
        V, ``(..., n, K, T)`` in units of the reward, of the state before each token.
    returns
        G of :func:`prefsim.losses.gae`, of the same shape.
    mask
        ``(..., n, K, T)``, which tokens belong to the response; behind it there may be anything.
    old_values
        The values when the responses were drawn; the current ones unless given.
    """

    values: ArrayT
    returns: Array
    mask: Array
    old_values: Array | None = None

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> TokenValues[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        mask = draws.mask(CANDIDATES)
        values, returns, old_values = (draws.normal(*mask.shape[1:]) for _ in range(3))
        return TokenValues(values, returns, mask, old_values)
