"""What a loss sees: log-probabilities in nats, rewards or logits, with any leading batch shape.

Fields are reached by name. :func:`map_fields`, :func:`stacked` and the methods ``swapped`` visit
every field that a container has, so that a new one takes part from the day it is written.
``example`` gives random data of a container, for checks that run over every loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = [
    "AnchoredLogps",
    "ClassLogits",
    "DegreeLogits",
    "DegreePairLogps",
    "JudgedLogps",
    "ListLogps",
    "PairLogps",
    "PairRewards",
    "SelfImprovementLogps",
    "TokenPairLogps",
    "UnpairedLogps",
    "fields_of",
    "map_fields",
    "stacked",
]

C = TypeVar("C", bound=tuple)  # a container below
OTHER = {"chosen": "rejected", "rejected": "chosen"}

# Sizes of the examples: small, and all different, so that a confusion of axes is an error of shape.
CANDIDATES, TOKENS, CLASSES, VERSIONS = 4, 5, 7, 3


def map_fields(container: C, change: Callable[[Array], Any]) -> C:
    """Return a container with ``change`` applied to every field that is given.

    Parameters
    ----------
    container
        A container of this module.
    change
        A function of one array; fields that are None stay None.

    Examples
    --------
    >>> map_fields(PairRewards(np.ones(2), np.zeros(2)), lambda x: x[:1])
    PairRewards(chosen=array([1.]), rejected=array([0.]))
    """
    fields = container._asdict()  # type: ignore[attr-defined]
    return type(container)(
        **{name: None if value is None else change(value) for name, value in fields.items()}
    )


def stacked(first: C, second: C, *, axis: int = -1) -> C:
    """Return the examples of two containers of one kind, one after the other.

    Parameters
    ----------
    first, second
        Containers with fields of equal shapes. A field that one of them lacks is left out.
    axis
        Of the examples in the fields.

    Examples
    --------
    >>> stacked(PairRewards(np.ones(1), np.zeros(1)), PairRewards(np.zeros(1), np.ones(1)))
    PairRewards(chosen=array([1., 0.]), rejected=array([0., 1.]))
    """
    joined: dict[str, Array | None] = {}
    for name, here in first._asdict().items():  # type: ignore[attr-defined]
        there = getattr(second, name)
        both_given = here is not None and there is not None
        joined[name] = (
            array_namespace(here).concat([here, there], axis=axis) if both_given else None
        )
    return type(first)(**joined)


def fields_of(pairs: Any, response: str) -> dict[str, Array | None]:
    """Return the fields of pairs that belong to the ``"chosen"`` or the ``"rejected"`` response.

    Examples
    --------
    >>> sorted(fields_of(PairRewards(1.0, 0.0), "chosen"))
    ['chosen']
    """
    return {name: value for name, value in pairs._asdict().items() if response in name.split("_")}


def _exchanged(pairs: C) -> C:
    """Return pairs in which every field holds what its partner held.

    Partners bear one name but for "chosen" in the place of "rejected", and the other way round.
    """
    names = pairs._fields  # type: ignore[attr-defined]
    partners = {name: "_".join(OTHER.get(word, word) for word in name.split("_")) for name in names}
    return type(pairs)(**{name: getattr(pairs, partner) for name, partner in partners.items()})


class _Draws:
    """Random entries of moderate size: examples test formulas, extremes have their own tests."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.rng = rows, np.random.default_rng(seed)

    def log_probs(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return scale * (-0.5 - 4 * self.rng.random((self.rows, *shape)))

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return low + (high - low) * self.rng.random((self.rows, *shape))

    def normal(self, *shape: int) -> np.ndarray:
        return 1.5 * self.rng.standard_normal((self.rows, *shape))

    def lengths(self) -> np.ndarray:
        return self.rng.integers(2, 9, self.rows).astype(float)

    def mask(self) -> np.ndarray:
        return np.arange(TOKENS) < self.rng.integers(1, TOKENS + 1, (self.rows, 1))

    def token_log_probs(self, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, self.log_probs(TOKENS, scale=0.25), 0.0)

    def degrees(self) -> np.ndarray:
        """Return degrees of which some are left out, but never all of a response."""
        degree = np.where(self.rng.random((self.rows, VERSIONS)) < 0.3, -1, np.arange(VERSIONS))
        degree[:, 0] = 0
        return degree


class PairLogps(NamedTuple, Generic[ArrayT]):
    """Sequence log-probabilities of compared pairs, each ``(..., n)`` in nats.

    Lengths count scored tokens; scores are external judgements of the two responses (rewards, or
    win probabilities) for the losses that use their size; ``old_*`` are log-probabilities under the
    policy that drew the responses, for the losses that weigh or clip by it.
    """

    chosen: ArrayT
    rejected: ArrayT
    ref_chosen: ArrayT
    ref_rejected: ArrayT
    chosen_length: Array | None = None
    rejected_length: Array | None = None
    chosen_score: Array | None = None
    rejected_score: Array | None = None
    old_chosen: ArrayT | None = None
    old_rejected: ArrayT | None = None

    def swapped(self) -> PairLogps[ArrayT]:
        """Return the same pairs with the two responses exchanged, in every field."""
        return _exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> PairLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = _Draws(rows, seed)
        return PairLogps(
            chosen=draws.log_probs(),
            rejected=draws.log_probs(),
            ref_chosen=draws.log_probs(),
            ref_rejected=draws.log_probs(),
            chosen_length=draws.lengths(),
            rejected_length=draws.lengths(),
            # Probabilities, and better for the chosen: what losses with scores ask for.
            chosen_score=draws.uniform(0.6, 0.9),
            rejected_score=draws.uniform(0.1, 0.4),
            old_chosen=draws.log_probs(),
            old_rejected=draws.log_probs(),
        )


class UnpairedLogps(NamedTuple, Generic[ArrayT]):
    """Sequence log-probabilities of single completions, each ``(..., n)`` in nats.

    ``desirable`` is boolean.
    """

    logp: ArrayT
    ref_logp: ArrayT
    desirable: Array
    length: Array | None = None

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> UnpairedLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = _Draws(rows, seed)
        return UnpairedLogps(
            logp=draws.log_probs(),
            ref_logp=draws.log_probs(),
            desirable=np.arange(rows) % 2 == 0,
            length=draws.lengths(),
        )


class ListLogps(NamedTuple, Generic[ArrayT]):
    """Sequence log-probabilities of K candidates, each ``(..., n, K)`` in nats.

    A higher score is better.
    """

    logps: ArrayT
    ref_logps: ArrayT
    scores: Array

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> ListLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = _Draws(rows, seed)
        return ListLogps(
            logps=draws.log_probs(CANDIDATES),
            ref_logps=draws.log_probs(CANDIDATES),
            scores=draws.normal(CANDIDATES),
        )


class AnchoredLogps(NamedTuple, Generic[ArrayT]):
    """Sequence log-probabilities in nats of rejected responses, each with K anchoring samples.

    Rejected responses ``(..., n)``, samples ``(..., n, K)``. The two references may differ: one for
    the rejected response, one for the samples. ``sample_weight`` sums to one along the last axis,
    1/K unless given; all responses with their probabilities make the mean over samples an exact
    expectation.
    """

    rejected: ArrayT
    ref_rejected: ArrayT
    samples: ArrayT
    ref_samples: ArrayT
    sample_weight: Array | None = None

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> AnchoredLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = _Draws(rows, seed)
        weight = draws.uniform(0.1, 1.1, CANDIDATES)
        return AnchoredLogps(
            rejected=draws.log_probs(),
            ref_rejected=draws.log_probs(),
            samples=draws.log_probs(CANDIDATES),
            ref_samples=draws.log_probs(CANDIDATES),
            sample_weight=weight / weight.sum(axis=-1, keepdims=True),
        )


class TokenPairLogps(NamedTuple, Generic[ArrayT]):
    """Per-token (or per-step) log-probabilities of compared pairs, each ``(..., n, T)`` in nats.

    Masks mark what is scored.

    Some losses need the whole next-token distribution at each position: ``*_kl`` is
    ``KL(π_ref‖π)`` and ``*_collision`` is ``log Σ_v π(v)²``, each ``(..., n, T)``.
    """

    chosen: ArrayT
    rejected: ArrayT
    ref_chosen: ArrayT
    ref_rejected: ArrayT
    chosen_mask: Array
    rejected_mask: Array
    chosen_kl: ArrayT | None = None
    rejected_kl: ArrayT | None = None
    chosen_collision: ArrayT | None = None
    rejected_collision: ArrayT | None = None

    def swapped(self) -> TokenPairLogps[ArrayT]:
        """Return the same pairs with the two responses exchanged, in every field."""
        return _exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> TokenPairLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = _Draws(rows, seed)
        chosen_mask, rejected_mask = draws.mask(), draws.mask()
        return TokenPairLogps(
            chosen=draws.token_log_probs(chosen_mask),
            rejected=draws.token_log_probs(rejected_mask),
            ref_chosen=draws.token_log_probs(chosen_mask),
            ref_rejected=draws.token_log_probs(rejected_mask),
            chosen_mask=chosen_mask,
            rejected_mask=rejected_mask,
            chosen_kl=draws.uniform(0.0, 0.2, TOKENS),
            rejected_kl=draws.uniform(0.0, 0.2, TOKENS),
            chosen_collision=draws.uniform(-2.0, -1.0, TOKENS),
            rejected_collision=draws.uniform(-2.0, -1.0, TOKENS),
        )


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
        draws = _Draws(rows, seed)
        return DegreeLogits(logits=draws.normal(VERSIONS, VERSIONS), degree=draws.degrees())


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
        return _exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> DegreePairLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = _Draws(rows, seed)
        pair = PairLogps.example(rows, seed=seed)
        return DegreePairLogps(
            **pair._asdict(),
            chosen_logits=draws.normal(VERSIONS, VERSIONS),
            chosen_degree=draws.degrees(),
            rejected_logits=draws.normal(VERSIONS, VERSIONS),
            rejected_degree=draws.degrees(),
        )


class PairRewards(NamedTuple, Generic[ArrayT]):
    """Scalar rewards of compared pairs, each ``(..., n)``, in units of log-odds."""

    chosen: ArrayT
    rejected: ArrayT

    def swapped(self) -> PairRewards[ArrayT]:
        """Return the same pairs with the two responses exchanged, in every field."""
        return _exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> PairRewards[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = _Draws(rows, seed)
        return PairRewards(chosen=draws.normal(), rejected=draws.normal())


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
        draws = _Draws(rows, seed)
        label = draws.rng.integers(0, CLASSES, rows)
        return ClassLogits(
            logits=draws.normal(CLASSES),
            label=label,
            margin=np.where(
                np.arange(CLASSES) == label[:, None], 0.0, draws.uniform(0, 1, CLASSES)
            ),
        )


class JudgedLogps(NamedTuple, Generic[ArrayT]):
    """Responses sampled from the policy, token by token, with the judge's verdict on each.

    Attributes
    ----------
    logp, ref_logp
        ``(..., n, T)`` in nats, of the policy and the reference. With T = 1 these are sequence
        log-probabilities.
    mask
        ``(..., n, T)``, which tokens belong to the response.
    win_prob
        ``(..., n)`` in [0, 1], the probability that the response is preferred to the opponent's.
        Responses that the judge abstained from must be left out before.
    """

    logp: ArrayT
    ref_logp: ArrayT
    mask: Array
    win_prob: Array

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> JudgedLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = _Draws(rows, seed)
        mask = draws.mask()
        return JudgedLogps(
            logp=draws.token_log_probs(mask),
            ref_logp=draws.token_log_probs(mask),
            mask=mask,
            win_prob=draws.uniform(0.0, 1.0),
        )


class SelfImprovementLogps(NamedTuple, Generic[ArrayT]):
    """Sequence log-probabilities in nats of compared pairs as answers and as revisions.

    Each ``(..., n)``. ``chosen`` and ``rejected`` answer the prompt (the generator). ``b_from_a``
    is b as the revision of the draft a (the improver), an answer to the prompt that shows the
    draft. Each has its own reference, the reference model under the same prompt.
    """

    chosen: ArrayT
    rejected: ArrayT
    chosen_from_rejected: ArrayT
    rejected_from_chosen: ArrayT
    chosen_from_chosen: ArrayT
    rejected_from_rejected: ArrayT
    ref_chosen: ArrayT
    ref_rejected: ArrayT
    ref_chosen_from_rejected: ArrayT
    ref_rejected_from_chosen: ArrayT
    ref_chosen_from_chosen: ArrayT
    ref_rejected_from_rejected: ArrayT

    def swapped(self) -> SelfImprovementLogps[ArrayT]:
        """Return the same pairs with the two responses exchanged, in every field."""
        return _exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> SelfImprovementLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = _Draws(rows, seed)
        return SelfImprovementLogps(**{name: draws.log_probs() for name in cls._fields})
