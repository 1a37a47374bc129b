"""Completions that a language model draws, judged, and the pairs made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import (
    check_callable,
    check_integer,
    check_interval,
)
from prefsim.lm.data.comparisons import Revise, TextComparisons, revision_prompt
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.tokens import Text
from prefsim.lm.online.judges import as_rows
from prefsim.loops.judgements import judged_pairs, judgements, picked
from prefsim.loops.self_play import Judge, win_rates

__all__ = ["JudgedCompletions", "completion_pairs", "judged_completions", "rows_of_round"]


class JudgedCompletions(NamedTuple):
    """Completions of prompts, compared with each other.

    The :class:`prefsim.loops.JudgedSamples` of a language model.

    Attributes
    ----------
    prompt
        Texts, an array of objects ``(m,)``.
    completions
        Lists of token ids, an array of objects ``(m, K)``.
    logp
        ``(m, K)`` in nats, under the policy that drew them.
    preference
        ``(m, K, K)``, of each completion over each other; NaN where the judge abstained.
    win_rate
        ``(m, K)``, the estimated probability to be preferred to a draw of the opponent; NaN where
        the judge abstained from all.
    """

    prompt: np.ndarray
    completions: np.ndarray
    logp: np.ndarray
    preference: np.ndarray
    win_rate: np.ndarray


def _log_probs(
    policy: CausalLM, prompt: np.ndarray, completions: np.ndarray, batch_size: int
) -> np.ndarray:
    questions = [text for text in prompt for _ in range(completions.shape[1])]
    log_probs = policy.log_prob(questions, list(completions.ravel()), batch_size=batch_size)
    return log_probs.cpu().numpy().reshape(completions.shape)


def judged_completions(
    policy: CausalLM,
    judge: Judge,
    prompts: Sequence[Text],
    *,
    n_samples: int,
    opponent: CausalLM | None = None,
    reference: CausalLM | None = None,
    mixture: float = 0.0,
    include_self: bool = False,
    proposal: Mapping[str, Any] | None = None,
    seed: Seed,
    batch_size: int = 8,
    **sampling: Any,
) -> JudgedCompletions:
    r"""Draw completions and have them judged, against each other and for their win rates.

    Parameters
    ----------
    policy
        Draws the completions.
    judge
        Says which completions are preferred, see :mod:`prefsim.lm.online.judges`. It reads text
        where the policy has a tokenizer, and token ids where it has none.
    prompts
        What is asked; a prompt may be asked several times.
    n_samples
        Completions K of each, >= 2.
    opponent
        Win rates are against ``n_samples`` fresh draws of this policy; against the completions
        themselves unless given.
    reference, mixture
        Win rates are against the mixture :math:`\propto \pi^{1-\kappa}\mu^{\kappa}` of the opponent
        π and the reference μ with κ = ``mixture`` in [0, 1], as Nash-MD needs them: draws of the
        opponent weighted by :math:`(\mu/\pi)^\kappa`, normalised among those of a prompt. It is the
        mixture of whole completions, and no other sampler is needed; the larger κ and the longer
        the completions, the fewer of the draws count.
    include_self
        As in :func:`prefsim.loops.judged_samples`.
    proposal
        Options of :meth:`CausalLM.sample <prefsim.lm.CausalLM.sample>` by which the completions are
        drawn where that is not how the policy answers, such as ``{"temperature": 2.0, "top_k":
        10}`` in place of all responses alike; win rates are then against answers of the opponent,
        or of the policy itself, drawn as ``sampling`` says.
    seed
        Of the draws.
    batch_size, sampling
        As for :meth:`CausalLM.sample <prefsim.lm.CausalLM.sample>`, such as ``max_new_tokens``.

    Returns
    -------
    JudgedCompletions

    Raises
    ------
    ValueError
        If a number is out of range, or the judge returns no preferences.
    """
    check_callable(judge=judge)
    check_integer(low=2, n_samples=n_samples)
    check_interval(low=0.0, high=1.0, closed="both", mixture=mixture)
    if mixture > 0 and reference is None:
        raise ValueError(
            f"mixture = {mixture} needs the reference that the opponent is mixed with, got none"
        )
    if len(prompts) == 0:
        raise ValueError("prompts must hold at least one, got 0")
    rng, asked = random_generator(seed), as_rows(prompts)

    def completions_and_text(
        player: CausalLM, how: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return completions of a player and what the judge reads of them."""
        drawn = player.sample(list(prompts), n_samples, rng, batch_size=batch_size, **how)
        ids = as_rows(drawn, depth=2)
        if player.tokenizer is None:
            return ids, ids
        return ids, as_rows([[player.decode(each) for each in row] for row in ids], depth=2)

    completions, text = completions_and_text(policy, sampling | dict(proposal or {}))
    if proposal is not None and opponent is None:
        opponent = policy
    shape = (len(prompts), n_samples, n_samples)
    preference = judgements(judge(asked, text, text), shape, mutual=True)
    logp = _log_probs(policy, asked, completions, batch_size)
    against, wins = completions, preference
    if opponent is not None:
        against, text_against = completions_and_text(opponent, sampling)
        wins = judgements(judge(asked, text, text_against), shape, mutual=False)
    weight = None
    if mixture > 0 and reference is not None:
        theirs = logp if opponent is None else _log_probs(opponent, asked, against, batch_size)
        tilt = mixture * (_log_probs(reference, asked, against, batch_size) - theirs)
        # Relative to the largest of a prompt: weights are normalised, and none may overflow.
        weight = np.exp(tilt - tilt.max(axis=-1, keepdims=True))
    rate = win_rates(wins, weight=weight, include_self=include_self or opponent is not None)
    return JudgedCompletions(
        prompt=asked,
        completions=completions,
        logp=logp,
        preference=preference,
        win_rate=rate,
    )


def completion_pairs(
    samples: JudgedCompletions,
    *,
    pairing: str = "best_worst",
    labels: str = "rank",
    seed: Seed = 0,
    revise: Revise = revision_prompt,
) -> TextComparisons:
    """Pair judged completions.

    Win rates become scores, and the log-probabilities of the policy that drew them ``old_*``.

    Parameters
    ----------
    samples
        From :func:`judged_completions`.
    pairing, labels, seed
        As in :func:`prefsim.loops.sampled_pairs`.
    revise
        Of :class:`prefsim.lm.TextComparisons`, for losses of self-improvement; the drafts that it
        gets are token ids, as drawn.

    Returns
    -------
    TextComparisons, as token ids. Pairs that the judge abstained from are left out; where
    completions are ranked, an abstention is a tie.

    Raises
    ------
    ValueError
        If ``pairing`` or ``labels`` is unknown, or the judge abstained from every pair.
    """
    places, prob, kept = judged_pairs(
        samples.preference, samples.win_rate, pairing=pairing, labels=labels, seed=seed
    )
    kept = kept.ravel()
    chosen_score, rejected_score = (picked(samples.win_rate, place) for place in places)
    chosen, rejected = (list(picked(samples.completions, place)[kept]) for place in places)
    old_chosen, old_rejected = (picked(samples.logp, place)[kept] for place in places)
    return TextComparisons(
        list(np.repeat(samples.prompt, prob.shape[1])[kept]),
        chosen,
        rejected,
        prob=prob.ravel()[kept] if labels == "soft" else None,
        chosen_score=chosen_score[kept],
        rejected_score=rejected_score[kept],
        old_chosen=old_chosen,
        old_rejected=old_rejected,
        revise=revise,
    )


def rows_of_round(n: int, per_round: int | None, rng: np.random.Generator) -> np.ndarray:
    """Return which of n rows a round takes, in their order."""
    rows = np.arange(n)
    if per_round is None:
        return rows
    check_integer(low=1, high=n, per_round=per_round)
    return np.sort(rng.permutation(rows)[:per_round])
