"""What a language model makes of texts: a vector for each, read off its last hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from prefsim.checks import check_choice, check_integer
from prefsim.lm.model.limits import check_positions
from prefsim.lm.model.log_prob_model import evaluating
from prefsim.lm.model.response_scorer import at_last
from prefsim.lm.model.tokens import Text, TokenBatch, Tokens, batches_by_length, collate

if TYPE_CHECKING:
    from torch import Tensor

    from prefsim.lm.model.policy import CausalLM

__all__ = ["prompt_features", "response_embeddings"]


def prompt_features(
    policy: CausalLM, prompts: Sequence[Text], *, batch_size: int = 8
) -> np.ndarray:
    """Return the mean last hidden state over the tokens of each prompt, float64 ``(n, d)``.

    Parameters
    ----------
    policy
        The language model whose states they are.
    prompts
        Text, chat messages or token ids.
    batch_size
        Prompts at once.
    """
    # The completion stands for nothing: encoding asks for one, and states of prompts see none.
    rows = [row.prompt_ids for row in policy.encode(prompts, [[0]] * len(prompts))]
    split = [Tokens(ids[:-1], ids[-1:]) for ids in rows]
    return _pooled(
        policy, split, lambda hidden, batch: _mean(hidden, batch.attention_mask), batch_size
    )


def response_embeddings(
    policy: CausalLM,
    prompts: Sequence[Text],
    completions: Sequence[Text],
    *,
    pooling: str | Sequence[str] = "last",
    batch_size: int = 8,
) -> np.ndarray:
    """Return a vector for each completion of a prompt, float64 ``(n, d)``.

    As features of a :class:`prefsim.policies.LogLinearPolicy` they make a reward that is linear in
    what the model knows, fitted exactly: a reward model for which no language model is trained.

    Parameters
    ----------
    policy
        The model, as it is: its adapters count where they are on.
    prompts, completions
        Text, chat messages or token ids, n of each.
    pooling
        ``"last"``: the last hidden state at the completion's last token, which has read everything.
        ``"mean"``: the mean of those at all of its tokens. Several, one after the other, of one
        forward: ``("last", "mean")`` gives ``(n, 2d)``.
    batch_size
        Sequences at once.

    Raises
    ------
    ValueError
        If the lists differ in length, a sequence is too long for the model, or an option is out of
        range.
    """
    names = (pooling,) if isinstance(pooling, str) else tuple(pooling)
    for name in names or ("",):
        check_choice(tuple(_POOLINGS), pooling=name)

    def pool(hidden: Tensor, batch: TokenBatch) -> Tensor:
        parts = [_POOLINGS[name](hidden, batch.completion_mask) for name in names]
        return torch.cat(parts, dim=-1)

    return _pooled(policy, policy.encode(prompts, completions), pool, batch_size)


def _pooled(
    policy: CausalLM,
    rows: Sequence[Tokens],
    pool: Callable[[Tensor, TokenBatch], Tensor],
    batch_size: int,
) -> np.ndarray:
    """Return what ``pool`` makes of the last hidden states of each row."""
    check_integer(low=1, batch_size=batch_size)
    model = policy.log_prob_model
    lengths = [len(row.prompt_ids) + len(row.completion_ids) for row in rows]
    check_positions(model.plain, lengths)
    found: dict[int, np.ndarray] = {}
    with evaluating(model):
        for places in batches_by_length(lengths, batch_size):
            part = [rows[i] for i in places]
            batch = collate(part, pad_id=policy.pad_id, device=policy.device)
            hidden, _ = model.states(batch, adapters=policy.adapters)
            found |= zip(places, pool(hidden.double(), batch).cpu().numpy(), strict=True)
    return np.stack([found[i] for i in range(len(rows))]) if found else np.zeros((0, 0))


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    kept = hidden.masked_fill(~mask[..., None], 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)


_POOLINGS = {"last": at_last, "mean": _mean}
