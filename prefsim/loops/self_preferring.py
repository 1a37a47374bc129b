"""Online self-preferring: sample, judge, learn from the judged strengths, repeat."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import (
    as_preference,
    check_choice,
    check_integer,
    check_kind,
    check_positive,
    check_shape,
)
from prefsim.data.comparisons import Comparisons
from prefsim.data.ranked_pairs import PAIRINGS, ranked_comparisons
from prefsim.losses.pairwise import spce
from prefsim.policies.base import InMemoryPolicy
from prefsim.solvers.descent import gradient_descent
from prefsim.typing import Array

Judge = Callable[[Any], Any]

__all__ = ["Round", "self_preferring"]


@readable
class Round(NamedTuple):
    """One round: the pairs that were judged, the loss on them after training, and the policy."""

    pairs: Comparisons
    value: float
    policy: InMemoryPolicy


def self_preferring(
    policy: InMemoryPolicy,
    judge: Array | Judge,
    *,
    rounds: int,
    n_samples: int = 4,
    draws: int = 1,
    pairing: str = "all",
    beta: float = 0.1,
    step: float = 1.0,
    epochs: int = 1,
    refresh: int | None = None,
    seed: Seed,
) -> list[Round]:
    """Train a policy on its own samples, judged by itself, with the soft-preference cross-entropy.

    Each round draws ``n_samples`` responses to every prompt from the current policy, ranks and
    pairs them by the judge's preferences and takes ``epochs`` gradient steps on
    :func:`prefsim.losses.spce`. Samples and judgements are constants of differentiation.

    Parameters
    ----------
    policy
        Where to start, and the reference.
    judge
        Preferences ``(X, Y, Y)`` of a frozen judge, or a function that returns them for the current
        policy.
    rounds
        Number of rounds, >= 1.
    n_samples
        Responses N to a prompt that are judged together, >= 2. Equal ones make pairs of strength 0,
        which teach nothing.
    draws
        How often every prompt is asked in a round, >= 1.
    pairing
        See :func:`prefsim.data.ranked_pairs.ranked_pairs`.
    beta
        Strength of the KL penalty, > 0.
    step, epochs
        Size (> 0) and number (>= 1) of the gradient steps of a round.
    refresh
        Make the current policy the reference every so many rounds; never unless given.
    seed
        Of the samples.

    Returns
    -------
    list of Round, one for each round.

    Raises
    ------
    ValueError
        If a parameter is out of range or the judge returns no preferences.

    References
    ----------
    Zhai et al. 2024, "Online Self-Preferring Language Models", arXiv:2405.14103.

    Examples
    --------
    >>> from prefsim.policies import TabularPolicy
    >>> from prefsim.raters.judge import judged_preference
    >>> rounds = self_preferring(
    ...     TabularPolicy.uniform(1, 2),
    ...     judged_preference([[0.0, 1.0]]),
    ...     rounds=5,
    ...     beta=1.0,
    ...     epochs=50,
    ...     seed=0,
    ... )
    >>> rounds[-1].policy.probs.round(4)
    array([[0.2689, 0.7311]])
    """
    check_integer(low=1, rounds=rounds, draws=draws, epochs=epochs)
    check_kind(InMemoryPolicy, policy=policy)
    check_integer(low=2, n_samples=n_samples)
    check_choice(PAIRINGS, pairing=pairing)
    check_positive(beta=beta, step=step)
    if refresh is not None:
        check_integer(low=1, refresh=refresh)
    rng, reference, played = random_generator(seed), policy, []
    contexts, responses = policy.log_probs.shape[-2:]
    prompt = np.repeat(np.arange(contexts), draws)
    for t in range(rounds):
        table = as_preference(judge(policy) if callable(judge) else judge, "judge", ndim=3)
        check_shape(table, "judge", (contexts, responses, responses))
        drawn = to_numpy(policy.sample(prompt, n_samples, rng))
        judged = table[prompt[:, None, None], drawn[:, :, None], drawn[:, None, :]]
        pairs = ranked_comparisons(prompt, drawn, judged, pairing=pairing)
        trained, _ = gradient_descent(
            policy,
            functools.partial(spce, beta=beta),
            pairs,
            reference=reference,
            step=step,
            iterations=epochs,
        )
        policy = trained.policy
        played.append(Round(pairs, trained.value, policy))
        if refresh is not None and (t + 1) % refresh == 0:
            reference = policy
    return played
