"""Matching the prompts of undesirable completions to those of desirable ones, for BCO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from prefsim.checks import check_integer
from prefsim.lm.data.feedback import TextFeedback
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.model.tokens import Text, Tokens, collate
from prefsim.losses.binary_classifier import density_ratio_weights
from prefsim.solvers.likelihood.prompt_classifier import fit_prompt_classifier

__all__ = ["match_prompts", "prompt_features"]


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
    check_integer(low=1, batch_size=batch_size)
    # The completion stands for nothing: encoding asks for one, and states of prompts see none.
    rows = [row.prompt_ids for row in policy.encode(prompts, [[0]] * len(prompts))]
    model, found = policy.log_prob_model, []
    for start in range(0, len(rows), batch_size):
        part = [Tokens(ids[:-1], ids[-1:]) for ids in rows[start : start + batch_size]]
        batch = collate(part, pad_id=policy.pad_id, device=model.device)
        with torch.no_grad():
            hidden, _ = model.states(batch, adapters=policy.adapters)
        mask = batch.attention_mask[..., None]
        total = torch.where(mask, hidden.double(), 0.0).sum(dim=1)
        found.append((total / mask.sum(dim=1)).cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, 0))


def match_prompts(
    policy: CausalLM,
    data: TextFeedback,
    *,
    low: float = 0.5,
    high: float = 10.0,
    ridge: float = 1e-2,
    batch_size: int = 8,
) -> TextFeedback:
    r"""Return feedback with the density ratio of its prompts: BCO's distribution matching.

    A classifier on balanced classes tells the prompts of desirable completions from the others';
    the odds of its probability, clipped to [``low``, ``high``], become the column
    ``density_ratio``, which :func:`prefsim.losses.bco_unpaired` gives undesirable completions as
    their weight.

    Parameters
    ----------
    policy
        Its hidden states are the features of prompts, see :func:`prompt_features`.
    data
        Single completions with hard labels of both kinds.
    low, high
        Bounds of the weight, 0 <= low <= high.
    ridge
        Of the classifier, > 0.
    batch_size
        Prompts at once.

    Raises
    ------
    ValueError
        If a label is soft or only one of the two is there, or an option is out of range.

    References
    ----------
    Jung et al. 2024, section on underlying distribution matching, arXiv:2404.04656.
    """
    if not np.isin(data.label, (0.0, 1.0)).all():
        raise ValueError("prompts are matched by hard labels, got labels between 0 and 1")
    features: Any = prompt_features(policy, data.prompt, batch_size=batch_size)
    classifier = fit_prompt_classifier(features, data.label == 1, ridge=ridge)
    ratio = density_ratio_weights(classifier.prob(features), low=low, high=high)
    return replace(data, density_ratio=ratio)
