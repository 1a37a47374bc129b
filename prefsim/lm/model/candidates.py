"""Candidate completions of prompts, scored by a language model for a decision among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from prefsim.analysis.decisions import length_normalised_utility
from prefsim.checks import check_nonnegative
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.tokens import Text, Tokens

__all__ = ["Candidates", "score_candidates"]


class Candidates(NamedTuple):
    """Scores of the completions of each prompt, and which of them are one and the same.

    Attributes
    ----------
    utility
        Log-probability in nats, or its share per token, ``(n, K)`` float64; -inf where a prompt has
        fewer than K completions.
    distinct
        Booleans ``(n, K)``: True for the first of equal completions alone.
    """

    utility: Tensor
    distinct: Tensor


def score_candidates(
    policy: CausalLM,
    prompts: Sequence[Text],
    completions: Sequence[Sequence[Text]],
    *,
    length_power: float,
    batch_size: int = 8,
) -> Candidates:
    r"""Score the candidates of every prompt by :math:`\log\pi(y|x) / |y|^a`.

    Completions of the same tokens are scored once.

    Parameters
    ----------
    policy
        The model, as it is: its adapters count where they are on.
    prompts
        Text, chat messages or token ids.
    completions
        For each prompt one candidate or more, such as :meth:`CausalLM.sample` draws.
    length_power
        a >= 0: 0 for sums over tokens, 1 for means, which are another order.
    batch_size
        Completions of one forward.

    Returns
    -------
    Candidates

    Raises
    ------
    ValueError
        If the lists differ in length, a prompt has no completion, or a sequence is too long for
        the model.

    See Also
    --------
    prefsim.analysis.utility_probability : probabilities of the candidates, at a temperature.
    prefsim.analysis.mbr_decision : a decision among them.
    """
    check_nonnegative(length_power=length_power)
    if len(prompts) != len(completions):
        raise ValueError(
            "prompts and completions must be two lists of one length, got"
            f" {len(prompts)} and {len(completions)}"
        )
    for row, answers in enumerate(completions):
        if isinstance(answers, str) or len(answers) == 0:
            raise ValueError(
                "completions must be a list of at least one completion for each prompt, got"
                f" {answers!r} in row {row}"
            )
    widest = max((len(answers) for answers in completions), default=0)
    utility = torch.full((len(prompts), widest), -torch.inf, dtype=torch.float64)
    distinct = torch.zeros(utility.shape, dtype=torch.bool)
    places = [(i, k) for i, answers in enumerate(completions) for k in range(len(answers))]
    asked, answered = [prompts[i] for i, _ in places], [completions[i][k] for i, k in places]
    rows: list[Tokens] = []
    for i, answers in enumerate(completions):
        try:
            rows += policy.encode([prompts[i]] * len(answers), answers)
        except ValueError as error:
            raise ValueError(f"candidates of prompt {i}: {error}") from error
    # By tokens: they are what the model scores.
    first: dict[tuple[int, tuple[int, ...]], int] = {}
    number = [
        first.setdefault((i, tuple(row.completion_ids)), j)
        for j, ((i, _), row) in enumerate(zip(places, rows, strict=True))
    ]
    unique = list(first.values())
    log_probs = policy.log_prob(
        [asked[j] for j in unique], [answered[j] for j in unique], batch_size=batch_size
    ).cpu()
    lengths = torch.tensor([len(rows[j].completion_ids) for j in unique], dtype=torch.float64)
    scores = length_normalised_utility(log_probs, lengths, power=length_power)
    score_of = dict(zip(unique, scores, strict=True))
    for j, (place, leader) in enumerate(zip(places, number, strict=True)):
        utility[place] = score_of[leader]
        distinct[place] = j == leader
    return Candidates(utility.to(policy.device), distinct.to(policy.device))
