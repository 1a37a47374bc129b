"""What a loss sees.

log-probabilities in nats (or rewards, or logits) with any leading batch shape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any

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
]


class PairLogps(NamedTuple):
    """Sequence log-probabilities of compared pairs, each ``(..., n)`` in nats.

    Lengths count scored tokens; scores are external judgements of the two responses (rewards, or
    win probabilities) for the losses that use their size; ``old_*`` are log-probabilities under the
    policy that drew the responses, for the losses that weigh or clip by it.
    """

    chosen: Array
    rejected: Array
    ref_chosen: Array
    ref_rejected: Array
    chosen_length: Array | None = None
    rejected_length: Array | None = None
    chosen_score: Array | None = None
    rejected_score: Array | None = None
    old_chosen: Array | None = None
    old_rejected: Array | None = None


class UnpairedLogps(NamedTuple):
    """Sequence log-probabilities of single completions, each ``(..., n)`` in nats.

    ``desirable`` is boolean.
    """

    logp: Array
    ref_logp: Array
    desirable: Array
    length: Array | None = None


class ListLogps(NamedTuple):
    """Sequence log-probabilities of K candidates, each ``(..., n, K)`` in nats.

    ``scores``: higher is better.
    """

    logps: Array
    ref_logps: Array
    scores: Array


class AnchoredLogps(NamedTuple):
    """Sequence log-probabilities in nats of rejected responses ``(..., n)``, each with K samples that anchor the policy ``(..., n, K)``.

    The two references may differ: one for the rejected response, one for the samples.
    ``sample_weight`` sums to one along the last axis, 1/K unless given; all responses with their
    probabilities make the mean over samples an exact expectation.
    """

    rejected: Array
    ref_rejected: Array
    samples: Array
    ref_samples: Array
    sample_weight: Array | None = None


class TokenPairLogps(NamedTuple):
    """Per-token (or per-step) log-probabilities of compared pairs, each ``(..., n, T)`` in nats.

    Masks mark what is scored.

    Some losses need the whole next-token distribution at each position: ``*_kl`` is ``KL(π_ref‖π)``
    and ``*_collision`` is ``log Σ_v π(v)²``, each ``(..., n, T)``.
    """

    chosen: Array
    rejected: Array
    ref_chosen: Array
    ref_rejected: Array
    chosen_mask: Array
    rejected_mask: Array
    chosen_kl: Array | None = None
    rejected_kl: Array | None = None
    chosen_collision: Array | None = None
    rejected_collision: Array | None = None


class DegreeLogits(NamedTuple):
    """Scores of the degree of each of V graded versions of a response, ``(..., n, V, C)``, and the degrees, integers ``(..., n, V)``.

    A negative degree leaves its version out.
    """

    logits: Array
    degree: Array


class DegreePairLogps(NamedTuple):
    """Compared pairs as in :class:`PairLogps`, with the graded versions of both responses as in :class:`DegreeLogits`."""

    chosen: Array
    rejected: Array
    ref_chosen: Array
    ref_rejected: Array
    chosen_logits: Array
    chosen_degree: Array
    rejected_logits: Array
    rejected_degree: Array
    chosen_length: Array | None = None
    rejected_length: Array | None = None
    chosen_score: Array | None = None
    rejected_score: Array | None = None


class PairRewards(NamedTuple):
    """Scalar rewards of compared pairs, each ``(..., n)``, in units of log-odds."""

    chosen: Array
    rejected: Array


class ClassLogits(NamedTuple):
    """Class scores ``(..., n, K)``, integer labels ``(..., n)`` and optional label margins ``(..., n, K)`` (0 at the label)."""

    logits: Array
    label: Array
    margin: Array | None = None


class JudgedLogps(NamedTuple):
    """Responses sampled from the policy, token by token, with the judge's probability that each is preferred to the opponent's.

    Attributes
    ----------
    logp, ref_logp
        ``(..., n, T)`` in nats, of the policy and the reference. With T = 1 these are sequence
        log-probabilities.
    mask
        ``(..., n, T)``, which tokens belong to the response.
    win_prob
        ``(..., n)`` in [0, 1]. Responses that the judge abstained from must be left out before.
    """

    logp: Array
    ref_logp: Array
    mask: Array
    win_prob: Array


class SelfImprovementLogps(NamedTuple):
    """Sequence log-probabilities of compared pairs as answers and as revisions, each ``(..., n)`` in nats.

    ``chosen`` and ``rejected`` answer the prompt (the generator). ``b_from_a`` is b as the revision
    of the draft a (the improver), an answer to the prompt that shows the draft. Each has its own
    reference, the reference model under the same prompt.
    """

    chosen: Array
    rejected: Array
    chosen_from_rejected: Array
    rejected_from_chosen: Array
    chosen_from_chosen: Array
    rejected_from_rejected: Array
    ref_chosen: Array
    ref_rejected: Array
    ref_chosen_from_rejected: Array
    ref_rejected_from_chosen: Array
    ref_chosen_from_chosen: Array
    ref_rejected_from_rejected: Array
