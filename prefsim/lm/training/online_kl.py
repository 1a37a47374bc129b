"""The divergence from the reference on fresh completions of the policy, while it is trained.

With an offline loss such as DPO's it is hybrid preference optimisation (HyPO).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefsim.lm.model.log_prob_model import LogProbModel
from prefsim.lm.model.log_probs import sum_log_probs
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.tokens import collate
from prefsim.lm.training.draws import drawn_rows
from prefsim.lm.training.loss_evaluator import LossEvaluator
from prefsim.lm.training.options import OnlineKL
from prefsim.losses.kl_estimators import rloo_kl

__all__ = ["online_kl"]


def online_kl(
    penalty: OnlineKL,
    evaluator: LossEvaluator,
    wrapped: Any,
    log_prob_model: LogProbModel,
    examples: Sequence[int] | np.ndarray,
    seed: Sequence[int],
) -> Tensor:
    """Return the penalty of some examples, whose gradient is that of their weighted divergences.

    Parameters
    ----------
    penalty
        How many completions of what length, and their weight.
    evaluator
        Of the training: its rows have the prompts, and its reference must be a model.
    wrapped, log_prob_model
        The policy's module as training wraps it, and itself.
    examples
        Row numbers of the data.
    seed
        Of the draws: numbers that tell this call from any other.

    Returns
    -------
    A number with the graph of the policy; it is an estimate of nothing, its gradient is.
    """
    policy = evaluator.policy
    assert isinstance(policy, CausalLM)
    with evaluator.autocast():
        rows = drawn_rows(
            policy,
            evaluator.rows,
            examples,
            samples=penalty.samples,
            max_new_tokens=penalty.max_new_tokens,
            seed=seed,
            batch_size=max(1, len(examples)),
        )
    batch = collate(rows, pad_id=policy.pad_id, device=log_prob_model.device)
    with torch.no_grad(), evaluator.autocast():
        theirs = evaluator.reference.log_probs(wrapped, batch, [])
    assert theirs is not None
    shape = (len(examples), penalty.samples)
    logp = sum_log_probs(wrapped(batch).logp).reshape(shape)
    estimates = rloo_kl(logp, sum_log_probs(theirs).reshape(shape)).mean(dim=-1)
    weight = torch.as_tensor(
        evaluator.data.weight[np.asarray(examples)], dtype=logp.dtype, device=logp.device
    )
    return penalty.weight * (weight * estimates).sum()
