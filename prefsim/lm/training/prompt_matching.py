"""Matching the prompts of undesirable completions to those of desirable ones, for BCO."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from prefsim.lm.data.feedback import TextFeedback
from prefsim.lm.model.embeddings import prompt_features
from prefsim.lm.model.policy import CausalLM
from prefsim.losses.binary_classifier import density_ratio_weights
from prefsim.solvers.likelihood.prompt_classifier import fit_prompt_classifier

__all__ = ["match_prompts"]


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
        Its hidden states are the features of prompts, see :func:`prefsim.lm.prompt_features`.
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
