"""Judged data drawn anew from each of a batch of policies, as the rounds of self-play need them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import NUMBERS, as_array, check_integer, check_kind
from prefsim.data.columns import check_policy_shape
from prefsim.data.comparisons import Comparisons
from prefsim.data.replicates import outcome_shares
from prefsim.policies.base import InMemoryPolicy
from prefsim.policies.tabular import TabularPolicy
from prefsim.worlds.bandit import ContextualBandit

__all__ = ["judged_triples", "labelled_pairs"]


def labelled_pairs(
    world: ContextualBandit,
    policy: InMemoryPolicy,
    n: Any,
    *,
    seed: Seed,
    opponent: InMemoryPolicy | None = None,
    distinct: bool = False,
) -> Comparisons:
    """Draw ``n`` labelled pairs of responses from each of a batch of policies.

    They are given as how often every outcome was seen.

    Parameters
    ----------
    world
        Any leading batch axes.
    policy
        Draws both responses, independently; ``old_*`` are its log-probabilities.
    n
        Number of pairs, >= 1: an integer, or integers that broadcast with the batch.
    seed
        Of prompts, responses and labels.
    opponent
        Whom ``*_score`` is the probability to win against; the policy itself unless given.
    distinct
        Draw pairs of different responses.

    Returns
    -------
    Comparisons of all ordered pairs with ``prob`` 1 and weights ``(*batch, rows)``, counts over n:
    one ``fit`` call handles the batch.

    Raises
    ------
    ValueError
        If ``n`` is out of range or shapes differ.

    See Also
    --------
    prefsim.data.replicates.replicated_comparisons : many data sets from one policy.

    Examples
    --------
    >>> world = ContextualBandit(preference=[[[0.5, 0.9], [0.1, 0.5]]])
    >>> both = TabularPolicy.from_probs([[[0.5, 0.5]], [[0.9, 0.1]]])
    >>> labelled_pairs(world, both, 100, seed=0).weight
    array([[0.26, 0.47, 0.01, 0.26],
           [0.89, 0.08, 0.01, 0.02]])
    """
    size = to_numpy(as_array(n, "n", *NUMBERS))
    check_integer(low=1, n=size.min().item())
    check_kind(InMemoryPolicy, policy=policy)
    population = Comparisons.population(world, policy, distinct=distinct)
    rows = Comparisons.self_play(world, policy, opponent=opponent, pairs=population)
    return dataclasses.replace(rows.relabelled(1.0), weight=outcome_shares(rows, size, seed=seed))


def judged_triples(
    world: ContextualBandit,
    opponent: InMemoryPolicy,
    n: int,
    *,
    seed: Seed,
    sampler: InMemoryPolicy | None = None,
) -> Comparisons:
    """Draw ``n`` pairs of responses, both judged against one draw of the opponent.

    Parameters
    ----------
    world
        One world.
    opponent
        Draws y'', each of a batch of policies for itself.
    n
        Number of triples, >= 1.
    seed
        Of all draws.
    sampler
        Draws y and y', with the batch of the opponent; uniform unless given.

    Returns
    -------
    Comparisons ``(*batch, n)`` with scores ``P(y ≻ y'')`` and ``P(y' ≻ y'')``, as
    :func:`prefsim.losses.online_ipo` needs them. Prompts are the same for the whole batch.

    Raises
    ------
    ValueError
        If ``n`` is out of range, the world is a batch or shapes differ.

    References
    ----------
    Zhou et al. 2025 (EGPO), arXiv:2503.08942.

    Examples
    --------
    >>> world = ContextualBandit(preference=[[[0.5, 0.9], [0.1, 0.5]]])
    >>> triples = judged_triples(world, TabularPolicy.from_probs([[1.0, 0.0]]), 4, seed=1)
    >>> triples.chosen, triples.chosen_score
    (array([0, 1, 1, 1]), array([0.5, 0.1, 0.1, 0.1]))
    """
    check_integer(low=1, n=n)
    check_kind(ContextualBandit, world=world)
    check_kind(InMemoryPolicy, opponent=opponent)
    if sampler is not None:
        check_kind(InMemoryPolicy, sampler=sampler)
    if world.batch_shape:
        raise ValueError(f"sampling needs one world, got a batch of shape {world.batch_shape}")
    rng = random_generator(seed)
    shape = (world.n_contexts, world.n_responses)
    if sampler is None:
        sampler = TabularPolicy.from_logits(np.zeros((*opponent.parameters.shape[:-1], *shape)))
    for policy in (opponent, sampler):
        check_policy_shape(policy.log_probs, world)
    prompt = rng.choice(
        world.n_contexts, size=n, p=to_numpy(world.context_probs).astype(np.float64)
    )
    pair = sampler.sample(prompt, 2, rng)
    against = opponent.sample(prompt, 1, rng)
    wins = to_numpy(world.preference).astype(np.float64)[prompt[:, None], pair, against]
    return Comparisons(
        prompt, pair[..., 0], pair[..., 1], chosen_score=wins[..., 0], rejected_score=wins[..., 1]
    )
