"""Training pairs from scored responses: a winner that is good enough, and better by a margin."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import as_float_array, as_index_array, check_nonnegative, check_number
from prefsim.data.comparisons import Comparisons

__all__ = ["filtered_pairs"]


def filtered_pairs(
    prompt: Any, responses: Any, scores: Any, *, least: float = 5.0, margin: float = 1.0
) -> Comparisons:
    """Pair the responses to each prompt wherever the winner's lead is clear.

    It scores at least ``least``, and at least ``margin`` more than the loser.

    Parameters
    ----------
    prompt
        Integers ``(m,)``.
    responses
        Integers ``(*batch, m, K)``: samples of the policy, and of a teacher where there is one.
    scores
        ``(*batch, m, K)``, of a judge.
    least
        Least score of a winner.
    margin
        Least difference of the scores, >= 0. At 0 responses of equal score are paired both ways.

    Returns
    -------
    Comparisons
        ``(*batch, m·K·(K − 1))`` rows, all ordered pairs; those that pass share a weight of one,
        the others have none. Where none passes, all weights are zero. ``*_score`` are the scores.

    Raises
    ------
    ValueError
        If shapes do not fit, an index is negative, a score is not finite, or ``margin`` is
        negative.

    References
    ----------
    Rosset et al. 2024 (DNO-Prct, scores of 0 to 6), arXiv:2404.03715; the thresholds are not
    confirmed.

    Examples
    --------
    >>> pairs = filtered_pairs([0], [[4, 7, 9]], [[5.5, 4.0, 5.0]])
    >>> kept = pairs.weight > 0
    >>> pairs.chosen[kept], pairs.rejected[kept], pairs.weight[kept]
    (array([4, 9]), array([7, 7]), array([0.5, 0.5]))
    """
    check_number(least=least)
    check_nonnegative(margin=margin)
    prompt, responses = as_index_array(prompt, "prompt"), as_index_array(responses, "responses")
    scores = as_float_array(scores, "scores", min_ndim=2)
    if scores.shape != responses.shape or responses.shape[-2:-1] != prompt.shape:
        raise ValueError(
            "prompt, responses and scores must be (m,), (..., m, K) and (..., m, K), "
            f"got {prompt.shape}, {responses.shape} and {scores.shape}"
        )
    k, batch = responses.shape[-1], responses.shape[:-2]
    first, second = np.nonzero(~np.eye(k, dtype=bool))
    winner, loser = scores[..., first], scores[..., second]
    passed = ((winner >= least) & (winner - loser >= margin)).reshape(*batch, -1)
    total = passed.sum(axis=-1, keepdims=True)
    return Comparisons(
        np.broadcast_to(prompt[:, None], winner.shape).reshape(*batch, -1),
        responses[..., first].reshape(*batch, -1),
        responses[..., second].reshape(*batch, -1),
        weight=passed / np.maximum(total, 1),
        chosen_score=winner.reshape(*batch, -1),
        rejected_score=loser.reshape(*batch, -1),
    )
