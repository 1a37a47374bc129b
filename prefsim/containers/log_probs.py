"""Log-probabilities in nats: of pairs, completions, lists, anchors, tokens and revisions."""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.containers.example_draws import CANDIDATES, TOKENS, Draws
from prefsim.containers.fields import exchanged
from prefsim.typing import Array, ArrayT

__all__ = [
    "AnchoredLogps",
    "JudgedLogps",
    "ListLogps",
    "PairLogps",
    "SelfImprovementLogps",
    "TokenListLogps",
    "TokenPairLogps",
    "UnpairedLogps",
]


@readable
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
        return exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> PairLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
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


@readable
class UnpairedLogps(NamedTuple, Generic[ArrayT]):
    """Sequence log-probabilities of single completions, each ``(..., n)`` in nats.

    ``desirable`` is boolean. Some methods know more of each row: ``mismatched`` and
    ``ref_mismatched`` are log-probabilities of a completion that belongs to another prompt, and
    ``density_ratio`` is how much likelier its prompt is among desirable completions than among
    others.
    """

    logp: ArrayT
    ref_logp: ArrayT
    desirable: Array
    length: Array | None = None
    mismatched: ArrayT | None = None
    ref_mismatched: ArrayT | None = None
    density_ratio: Array | None = None

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> UnpairedLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        return UnpairedLogps(
            logp=draws.log_probs(),
            ref_logp=draws.log_probs(),
            desirable=np.arange(rows) % 2 == 0,
            length=draws.lengths(),
            mismatched=draws.log_probs(),
            ref_mismatched=draws.log_probs(),
            density_ratio=draws.uniform(0.5, 2.0),
        )


@readable
class ListLogps(NamedTuple, Generic[ArrayT]):
    """Sequence log-probabilities of K candidates, each ``(..., n, K)`` in nats.

    A higher score is better. ``old_logps`` are log-probabilities under the policy that drew the
    candidates, for the losses that weigh or clip by it.
    """

    logps: ArrayT
    ref_logps: ArrayT
    scores: Array
    old_logps: ArrayT | None = None

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> ListLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        return ListLogps(
            logps=draws.log_probs(CANDIDATES),
            ref_logps=draws.log_probs(CANDIDATES),
            scores=draws.normal(CANDIDATES),
            old_logps=draws.log_probs(CANDIDATES),
        )


@readable
class TokenListLogps(NamedTuple, Generic[ArrayT]):
    """Token log-probabilities of K responses that a policy drew, with their rewards.

    Attributes
    ----------
    logp, ref_logp
        ``(..., n, K, T)`` in nats, of the policy and the reference. With T = 1 these are sequence
        log-probabilities.
    mask
        ``(..., n, K, T)``, which tokens belong to the response.
    scores
        ``(..., n, K)``, the rewards; a higher one is better.
    old_logp
        ``(..., n, K, T)`` in nats, of the policy that drew the responses; the current one unless
        given.
    advantage
        ``(..., n, K, T)``, how much better than expected each token was, where a value function
        says so; see :func:`prefsim.losses.gae`.
    """

    logp: ArrayT
    ref_logp: ArrayT
    mask: Array
    scores: Array
    old_logp: ArrayT | None = None
    advantage: Array | None = None

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> TokenListLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        mask = draws.mask(CANDIDATES)
        return TokenListLogps(
            logp=draws.token_log_probs(mask),
            ref_logp=draws.token_log_probs(mask),
            mask=mask,
            scores=draws.normal(CANDIDATES),
            old_logp=draws.token_log_probs(mask),
            advantage=np.where(mask, draws.normal(CANDIDATES, TOKENS), 0.0),
        )


@readable
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
        draws = Draws(rows, seed)
        weight = draws.uniform(0.1, 1.1, CANDIDATES)
        return AnchoredLogps(
            rejected=draws.log_probs(),
            ref_rejected=draws.log_probs(),
            samples=draws.log_probs(CANDIDATES),
            ref_samples=draws.log_probs(CANDIDATES),
            sample_weight=weight / weight.sum(axis=-1, keepdims=True),
        )


@readable
class TokenPairLogps(NamedTuple, Generic[ArrayT]):
    """Per-token (or per-step) log-probabilities of compared pairs, each ``(..., n, T)`` in nats.

    Masks mark what is scored.

    Some losses need the whole next-token distribution at each position: ``*_kl`` is
    ``KL(π_ref‖π)`` and ``*_collision`` is ``log Σ_v π(v)²``, each ``(..., n, T)``. Some weigh each
    token: ``*_reward_weight`` by how much its log-ratio counts and ``*_kl_weight`` by how much its
    KL does, each ``(..., n, T)`` and >= 0.
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
    chosen_reward_weight: ArrayT | None = None
    rejected_reward_weight: ArrayT | None = None
    chosen_kl_weight: ArrayT | None = None
    rejected_kl_weight: ArrayT | None = None

    def swapped(self) -> TokenPairLogps[ArrayT]:
        """Return the same pairs with the two responses exchanged, in every field."""
        return exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> TokenPairLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
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
            chosen_reward_weight=draws.uniform(0.5, 1.5, TOKENS),
            rejected_reward_weight=draws.uniform(0.5, 1.5, TOKENS),
            chosen_kl_weight=draws.uniform(0.0, 1.5, TOKENS),
            rejected_kl_weight=draws.uniform(0.0, 1.5, TOKENS),
        )


@readable
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
        draws = Draws(rows, seed)
        mask = draws.mask()
        return JudgedLogps(
            logp=draws.token_log_probs(mask),
            ref_logp=draws.token_log_probs(mask),
            mask=mask,
            win_prob=draws.uniform(0.0, 1.0),
        )


@readable
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
        return exchanged(self)

    @classmethod
    def example(cls, rows: int = 6, *, seed: int = 0) -> SelfImprovementLogps[np.ndarray]:
        """Return random data of ``rows`` examples, every field given, NumPy float64."""
        draws = Draws(rows, seed)
        return SelfImprovementLogps(**{name: draws.log_probs() for name in cls._fields})
