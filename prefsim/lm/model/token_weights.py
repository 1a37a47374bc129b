"""What the masks of a policy say of every token of texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from prefsim.checks import check_integer
from prefsim.lm.model.limits import check_positions
from prefsim.lm.model.log_prob_model import evaluating
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.token_masks import TokenWeights
from prefsim.lm.model.tokens import Text, batches_by_length, collate

__all__ = ["token_weights"]


def token_weights(
    policy: CausalLM,
    prompts: Sequence[Text],
    completions: Sequence[Text],
    *,
    reference: CausalLM,
    batch_size: int = 8,
) -> tuple[TokenWeights, Tensor]:
    """Return the weights of every token of completions, and which are tokens.

    Each ``(n, longest completion)``, 0 behind the end, float32; without gradients and dropout. Of
    which share the masks make zero :func:`prefsim.losses.token_sparsity` says.

    Parameters
    ----------
    policy
        With masks (:meth:`~prefsim.lm.CausalLM.with_masks`).
    prompts, completions
        Text, chat messages or token ids.
    reference
        Whose states the masks read, as in training.
    batch_size
        Rows of one forward.

    Raises
    ------
    ValueError
        If there are no masks, they do not fit the reference, or a sequence is too long for it.

    References
    ----------
    Christopoulou et al. 2024, arXiv:2410.05102.
    """
    check_integer(low=1, batch_size=batch_size)
    masks = policy.log_prob_model.masks
    if masks is None:
        raise ValueError("the policy has no masks; policy.with_masks('common') has")
    masks.check_fits(reference.plain.config)
    rows = policy.encode(prompts, completions)
    counts = torch.tensor([len(row.completion_ids) for row in rows], dtype=torch.int64)
    mask = (torch.arange(int(counts.max()) if rows else 0) < counts[:, None]).to(policy.device)
    found = torch.zeros(2, *mask.shape, device=policy.device)
    lengths = [len(row.prompt_ids) + len(row.completion_ids) for row in rows]
    check_positions(reference.plain, lengths)
    with evaluating(policy.log_prob_model), evaluating(reference.log_prob_model):
        for chunk in batches_by_length(lengths, batch_size):
            batch = collate([rows[i] for i in chunk], pad_id=policy.pad_id, device=policy.device)
            _, _, layers = reference.log_prob_model.layer_states(batch, adapters=reference.adapters)
            for kind, each in enumerate(masks(layers, batch)):
                own = found[kind, chunk]
                own[mask[chunk]] = each[batch.completion_mask].float()
                found[kind, chunk] = own
    return TokenWeights(*found), mask
