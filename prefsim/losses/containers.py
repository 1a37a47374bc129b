"""What a loss sees: log-probabilities in nats (or rewards, or logits) with any leading batch shape."""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any

__all__ = ["ClassLogits", "JudgedLogps", "ListLogps", "PairLogps", "PairRewards", "TokenPairLogps", "UnpairedLogps"]


class PairLogps(NamedTuple):
    """Sequence log-probabilities of compared pairs, each ``(..., n)`` in nats.

    Lengths count scored tokens; scores are external judgements of the two responses (rewards, or win probabilities) for the losses that use
    their size.
    """

    chosen: Array
    rejected: Array
    ref_chosen: Array
    ref_rejected: Array
    chosen_length: Array | None = None
    rejected_length: Array | None = None
    chosen_score: Array | None = None
    rejected_score: Array | None = None


class UnpairedLogps(NamedTuple):
    """Sequence log-probabilities of single completions, each ``(..., n)`` in nats; ``desirable`` is boolean."""

    logp: Array
    ref_logp: Array
    desirable: Array
    length: Array | None = None


class ListLogps(NamedTuple):
    """Sequence log-probabilities of K candidates, each ``(..., n, K)`` in nats; ``scores``: higher is better."""

    logps: Array
    ref_logps: Array
    scores: Array


class TokenPairLogps(NamedTuple):
    """Per-token (or per-step) log-probabilities of compared pairs, each ``(..., n, T)`` in nats; masks mark what is scored.

    Some losses need the whole next-token distribution at each position: ``*_kl`` is ``KL(π_ref‖π)`` and ``*_collision`` is
    ``log Σ_v π(v)²``, each ``(..., n, T)``.
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
        ``(..., n, T)`` in nats, of the policy and the reference. With T = 1 these are sequence log-probabilities.
    mask
        ``(..., n, T)``, which tokens belong to the response.
    win_prob
        ``(..., n)`` in [0, 1]. Responses that the judge abstained from must be left out before.
    """

    logp: Array
    ref_logp: Array
    mask: Array
    win_prob: Array
