"""What the hidden states and the gradients of a model say of pairs of completions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prefsim.analysis.displacement import ches_score
from prefsim.checks import check_flag, check_integer
from prefsim.lm.model.head import accumulator
from prefsim.lm.model.limits import check_positions
from prefsim.lm.model.log_prob_model import evaluating
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.tokens import Text, batches_by_length, collate

__all__ = ["ches_scores", "gradient_products", "neighbours_ches"]


def ches_scores(
    policy: CausalLM,
    prompts: Sequence[Text],
    chosen: Sequence[Text],
    rejected: Sequence[Text],
    *,
    normalised: bool | Sequence[bool] = False,
    batch_size: int = 4,
) -> Tensor:
    """Return the centred hidden embedding similarity of every pair, ``(n,)`` float64.

    The higher, the more displacement of the chosen likelihood to expect from training on the pair;
    the paper leaves the highest of the normalised ones out. Values compare within one model.

    Parameters
    ----------
    policy
        The model, as it is: its adapters count where they are on.
    prompts, chosen, rejected
        Text, chat messages or token ids.
    normalised
        Divide by the numbers of tokens, as the paper's filter of data does. Several, of one
        forward: ``(False, True)`` gives ``(2, n)``.
    batch_size
        Pairs of one forward.

    Raises
    ------
    ValueError
        If the lists differ in length, or a sequence is too long for the model.

    References
    ----------
    Razin et al. 2024, arXiv:2410.08847, definition of the CHES score.

    See Also
    --------
    prefsim.analysis.ches_score : of hidden states that are at hand.
    """
    kinds = tuple(normalised) if isinstance(normalised, Sequence) else (normalised,)
    for each in kinds:
        check_flag(normalised=each)
    check_integer(low=1, batch_size=batch_size)
    sides = policy.encode(prompts, chosen), policy.encode(prompts, rejected)
    pairs = list(zip(*sides, strict=True))
    lengths = [max(len(row.prompt_ids) + len(row.completion_ids) for row in pair) for pair in pairs]
    model = policy.log_prob_model
    check_positions(model.plain, lengths)
    scores = torch.zeros(len(kinds), len(pairs), dtype=torch.float64)
    with evaluating(model):
        for places in batches_by_length(lengths, batch_size):
            rows = [row for i in places for row in pairs[i]]
            batch = collate(rows, pad_id=policy.pad_id, device=policy.device)
            hidden, _ = model.states(batch, adapters=policy.adapters)
            for kind, each in enumerate(kinds):
                found = neighbours_ches(hidden, batch.completion_mask, normalised=each)
                scores[kind, places] = found.cpu()
    return scores if isinstance(normalised, Sequence) else scores[0]


def neighbours_ches(hidden: Tensor, completion_mask: Tensor, *, normalised: bool) -> Tensor:
    """Return the scores of pairs that are neighbours in a batch, ``(B / 2,)`` float64.

    Parameters
    ----------
    hidden
        Last hidden states ``(B, T, d)``: chosen and rejected in turn.
    completion_mask
        ``(B, T)``: the tokens of the completions.
    normalised
        As for :func:`ches_scores`.
    """
    # The state before a token predicts it.
    predicts = torch.zeros_like(completion_mask)
    predicts[:, :-1] = completion_mask[:, 1:]
    states = hidden.double().reshape(-1, 2, *hidden.shape[1:])
    masks = predicts.reshape(-1, 2, predicts.shape[-1])
    return ches_score(states[:, 0], states[:, 1], masks[:, 0], masks[:, 1], normalised=normalised)


def gradient_products(
    log_probs: Tensor | Sequence[Tensor], parameters: Sequence[Tensor]
) -> tuple[float, float, float]:
    """Return the squared norms and the inner product of the gradients of two log-probabilities.

    Parameters
    ----------
    log_probs
        Of chosen and rejected, ``(2,)``, with the graph. Two of separate forwards are
        differentiated in half the time of two rows of one.
    parameters
        What is differentiated by. One that a log-probability does not depend on counts nothing.

    Returns
    -------
    Squared norm for the chosen one, for the rejected one, and the inner product.
    """
    up = torch.autograd.grad(log_probs[0], parameters, retain_graph=True, allow_unused=True)
    down = torch.autograd.grad(log_probs[1], parameters, retain_graph=True, allow_unused=True)
    return _dot(up, up), _dot(down, down), _dot(up, down)


def _dot(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> float:
    """Return the inner product of two gradients; a parameter that one lacks counts nothing."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return float(sum(_product(a, b) for a, b in pairs))


def _product(first: Tensor, second: Tensor) -> Tensor:
    wide = accumulator(torch.promote_types(first.dtype, second.dtype))
    # In float64 the sums of rows alone: copies of whole gradients took longer than their backward.
    return (first.to(wide) * second.to(wide)).sum(dim=-1).double().sum()
