"""Anchoring samples that are drawn anew from the policy under training."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import (
    as_float_array,
    as_index_array,
    check_entries,
    check_integer,
    check_same_shape,
    check_shape,
)
from prefsim.data.negatives import Negatives
from prefsim.loops.rounds import Draw
from prefsim.policies.base import InMemoryPolicy

__all__ = ["refreshed_negatives"]


def refreshed_negatives(
    prompt: Any, rejected: Any, *, n_samples: int | None, weight: Any = None
) -> Draw:
    r"""Return what draws the samples of D²O's rounds, from the policy as it is by then.

    With :func:`prefsim.loops.play_rounds` it is the online form of the method: rejected responses
    stay, and every round the samples that stand against them are those of the current policy, which
    is their reference too. :func:`prefsim.loops.descent` makes the steps between two refreshes.

    Parameters
    ----------
    prompt, rejected
        Integers ``(n,)``.
    n_samples
        Samples K of each row, >= 1; ``None`` takes the policy's whole distribution.
    weight
        ``(n,)``, >= 0; 1/n unless given.

    Returns
    -------
    Function of policy, opponent (not used) and generator that returns
    :class:`~prefsim.data.Negatives`.

    Raises
    ------
    ValueError
        If the columns differ in shape or ``n_samples`` is out of range.

    References
    ----------
    Duan et al. 2024, "Negating Negatives" (online), arXiv:2403.03419.

    Examples
    --------
    A response of probability 0.4 is pushed down in three rounds, each against the policy of the
    round before; the others keep their proportions:

    >>> import functools
    >>> from prefsim import losses
    >>> from prefsim.loops import play_rounds
    >>> from prefsim.policies import TabularPolicy
    >>> start = TabularPolicy.from_probs([[0.4, 0.4, 0.2]])
    >>> draw = refreshed_negatives([0], [0], n_samples=None)
    >>> loss = functools.partial(losses.d2o, beta=1.0, alpha=0.1)
    >>> for round in play_rounds(start, draw, loss, rounds=3, seed=0):
    ...     print(round.policy.probs.round(4))
    [[0.3333 0.4444 0.2222]]
    [[0.2593 0.4938 0.2469]]
    [[0.177  0.5487 0.2743]]
    """
    rows, bad = as_index_array(prompt, "prompt"), as_index_array(rejected, "rejected")
    check_same_shape(prompt=rows, rejected=bad)
    if n_samples is not None:
        check_integer(low=1, n_samples=n_samples)
    if weight is not None:
        weight = as_float_array(weight, "weight", min_ndim=1)
        check_entries(weight, "weight", "be >= 0", lambda x: x >= 0)
        check_shape(weight, "weight", rows.shape)

    def negatives_of_round(
        policy: InMemoryPolicy, opponent: InMemoryPolicy, rng: np.random.Generator
    ) -> Negatives:
        if n_samples is None:
            return Negatives.population(rows, bad, policy, weight=weight)
        return Negatives.sample(rows, bad, policy, n_samples, seed=rng, weight=weight)

    return negatives_of_round
