"""Sampled self-play: draw responses, let a judge compare them, learn from the pairs, repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import (
    NUMBERS,
    as_array,
    as_float_array,
    as_index_array,
    as_preference,
    check_callable,
    check_choice,
    check_constant,
    check_entries,
    check_flag,
    check_integer,
    check_kind,
    check_shape,
    names_shapes,
)
from prefsim.data.comparisons import Comparisons
from prefsim.data.ranked_pairs import PAIRINGS
from prefsim.loops.judgements import LABELS, judged_pairs, judgements, picked
from prefsim.loops.rounds import SelfPlayRound, Trainer, play_rounds
from prefsim.numerics import gather
from prefsim.policies.base import InMemoryPolicy
from prefsim.typing import Array, Loss

Judge = Callable[[Array, Array, Array], Array]

__all__ = [
    "LABELS",
    "JudgedSamples",
    "judged_samples",
    "preferences_between",
    "sampled_pairs",
    "self_play",
    "table_judge",
    "win_rates",
]


def preferences_between(
    preference: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Return the preferences of responses over others from tables ``(..., N, N)``.

    ``(..., K, L)``, of ``first (..., K)`` over ``second (..., L)``.
    """
    if preference.ndim == 2:
        return preference[first[..., :, None], second[..., None, :]]
    batch = np.broadcast_shapes(preference.shape[:-2], first.shape[:-1], second.shape[:-1])
    rows = np.broadcast_to(preference, (*batch, *preference.shape[-2:]))
    wide = np.take_along_axis(
        rows, np.broadcast_to(first[..., :, None], (*batch, first.shape[-1], 1)), axis=-2
    )
    return np.take_along_axis(
        wide, np.broadcast_to(second[..., None, :], (*batch, 1, second.shape[-1])), axis=-1
    )


def table_judge(preference: Any) -> Judge:
    """Return the judge that looks preferences up in a table.

    Parameters
    ----------
    preference
        ``(X, Y, Y)``, or ``(*batch, X, Y, Y)`` for one world for each of a batch of policies, with
        ``P + Pᵀ = 1``.

    Returns
    -------
    Function of prompts ``(m,)`` and responses ``(*batch, m, K)`` and ``(*batch, m, L)`` that
    returns how likely each of the first is preferred to each of the second, ``(*batch, m, K, L)``.

    Examples
    --------
    >>> judge = table_judge([[[0.5, 0.9], [0.1, 0.5]]])
    >>> judge(np.array([0]), np.array([[1, 0]]), np.array([[0, 0, 1]]))
    array([[[0.1, 0.1, 0.5],
            [0.5, 0.5, 0.9]]])
    """
    table = as_preference(preference, min_ndim=3)

    def judge(prompt: Array, first: Array, second: Array) -> Array:
        asked = table[..., to_numpy(prompt), :, :]
        return preferences_between(asked, to_numpy(first), to_numpy(second))

    return judge


@readable
class JudgedSamples(NamedTuple):
    """Responses to prompts, compared with each other.

    Attributes
    ----------
    prompt
        Integers ``(m,)``.
    responses
        Integers ``(*batch, m, K)``.
    preference
        ``(*batch, m, K, K)``, of each response over each other; NaN where the judge abstained.
    win_rate
        ``(*batch, m, K)``, the estimated probability to be preferred to a draw of the opponent; NaN
        where nothing was judged.
    """

    prompt: np.ndarray
    responses: np.ndarray
    preference: np.ndarray
    win_rate: np.ndarray


@names_shapes
def win_rates(preference: Any, *, weight: Any = None, include_self: bool = True) -> np.ndarray:
    """Return how often each of K responses is preferred to those of an opponent, ``(..., K)``.

    Parameters
    ----------
    preference
        ``(..., K, L)``, of each response over each of the opponent's; NaN where the judge
        abstained, which is left out.
    weight
        ``(..., L)`` of the opponent's responses, >= 0; equal unless given.
    include_self
        Whether the comparison of a response with itself, on the diagonal, counts; only where the
        opponent's responses are the same ones.

    Returns
    -------
    Array ``(..., K)``, NaN where nothing is left to count.

    Examples
    --------
    >>> win_rates([[0.5, 0.9, np.nan], [0.1, 0.5, 0.2], [np.nan, 0.8, 0.5]], include_self=False)
    array([0.9 , 0.15, 0.8 ])
    """
    check_flag(include_self=include_self)
    check_constant(preference, "preference")
    table = to_numpy(as_array(preference, "preference", *NUMBERS)).astype(np.float64)
    check_shape(table, "preference", (None, None))
    counted = ~np.isnan(table)
    if not include_self:
        counted = counted & (np.eye(table.shape[-2], table.shape[-1]) == 0)
    share: Any = counted * 1.0
    if weight is not None:
        theirs = as_float_array(weight, "weight", min_ndim=1)
        check_entries(theirs, "weight", "be >= 0", lambda x: x >= 0)
        check_shape(theirs, "weight", (table.shape[-1],))
        share = counted * theirs[..., None, :]
    total = np.sum(share, axis=-1)
    won = np.sum(np.where(counted, table, 0.0) * share, axis=-1)
    return np.divide(won, total, out=np.full(won.shape, np.nan), where=total > 0)


def judged_samples(
    policy: InMemoryPolicy,
    judge: Judge,
    prompt: Any,
    *,
    n_samples: int,
    opponent: InMemoryPolicy | None = None,
    include_self: bool = True,
    seed: Seed,
) -> JudgedSamples:
    """Draw responses from a policy (or from each of a batch) and have them judged.

    Parameters
    ----------
    policy
        Draws the responses.
    judge
        See :func:`table_judge`. It may abstain, by NaN.
    prompt
        Integers ``(m,)``; a prompt may be asked several times.
    n_samples
        Responses K to each, >= 2.
    opponent
        Win rates are against ``n_samples`` fresh draws of this policy; against the responses
        themselves unless given.
    include_self
        Count the comparison of a response with itself, ½, as one of the K (as SPPO's authors do: it
        draws win rates towards ½ by the factor (K − 1)/K), or leave it out, which is unbiased for a
        response given. Without meaning for another opponent.
    seed
        Of the draws.

    Returns
    -------
    JudgedSamples

    Raises
    ------
    ValueError
        If a number is out of range, or the judge returns no preferences.
    """
    check_kind(InMemoryPolicy, policy=policy)
    check_callable(judge=judge)
    check_integer(low=2, n_samples=n_samples)
    check_flag(include_self=include_self)
    prompt = as_index_array(prompt, "prompt")
    rng = random_generator(seed)
    responses = to_numpy(policy.sample(prompt, n_samples, rng))
    shape = (prompt.size, n_samples, n_samples)
    preference = judgements(judge(prompt, responses, responses), shape, mutual=True)
    if opponent is None:
        win_rate = win_rates(preference, include_self=include_self)
    else:
        theirs = to_numpy(opponent.sample(prompt, n_samples, rng))
        win_rate = win_rates(judgements(judge(prompt, responses, theirs), shape, mutual=False))
    return JudgedSamples(prompt, responses, preference, win_rate)


def sampled_pairs(
    samples: JudgedSamples,
    policy: InMemoryPolicy,
    *,
    pairing: str = "best_worst",
    labels: str = "rank",
    seed: Seed = 0,
) -> Comparisons:
    """Pair judged responses, with win rates as scores.

    The log-probabilities of the policy that drew them are ``old_*``.

    Parameters
    ----------
    samples
        From :func:`judged_samples`.
    policy
        Who drew them.
    pairing
        See :func:`prefsim.data.ranked_pairs.ranked_pairs`.
    labels
        ``"rank"``: the response with the higher win rate against the others is chosen; ``"soft"``:
        the same with the judge's probability as ``prob``; ``"sampled"``: the judge's probability
        decides by lot which one is chosen.
    seed
        Of the lots.

    Returns
    -------
    Comparisons of ``(*batch, rows)``. Pairs that the judge abstained from are left out; those of a
    batch of policies, whose rows have one shape, get no weight. Where responses are ranked, an
    abstention is a tie.

    Raises
    ------
    ValueError
        If ``pairing`` or ``labels`` is unknown, or the judge abstained from every pair of a policy.
    """
    pairs = judged_pairs(
        samples.preference, samples.win_rate, pairing=pairing, labels=labels, seed=seed
    )
    chosen, rejected = (picked(samples.responses, place) for place in pairs.places)
    prompt = np.broadcast_to(samples.prompt[:, None], pairs.prob.shape).reshape(chosen.shape)
    table = to_numpy(policy.log_probs).astype(np.float64)
    columns = {
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "prob": pairs.prob.reshape(chosen.shape) if labels == "soft" else np.ones(chosen.shape),
        "chosen_score": picked(samples.win_rate, pairs.places[0]),
        "rejected_score": picked(samples.win_rate, pairs.places[1]),
        "old_chosen": gather(table, prompt, chosen),
        "old_rejected": gather(table, prompt, rejected),
    }
    kept = pairs.kept.reshape(chosen.shape)
    if kept.all():
        return Comparisons(**columns)
    if kept.ndim == 1:
        return Comparisons(**{name: column[kept] for name, column in columns.items()})
    for name in ("chosen_score", "rejected_score"):
        columns[name] = np.where(kept, columns[name], 0.5)
    return Comparisons(**columns, weight=kept / kept.sum(axis=-1, keepdims=True))


def self_play(
    policy: InMemoryPolicy,
    loss: Loss,
    judge: Judge,
    *,
    rounds: int,
    n_samples: int = 5,
    draws: int = 1,
    pairing: str = "best_worst",
    labels: str = "rank",
    include_self: bool = True,
    reference: InMemoryPolicy | None = None,
    train: Trainer | None = None,
    seed: Seed,
) -> list[SelfPlayRound]:
    """Train a policy on its own judged samples, round after round.

    SPPO, DNO, INPO, iterative DPO and IPO by their losses.

    Parameters
    ----------
    policy
        Where to start; a batch of policies plays each for itself, all together.
    loss
        A loss of :class:`prefsim.losses.PairLogps`: the reference is the last iterate unless
        ``reference`` is given, the scores are estimated win rates against it, and ``old_*`` are its
        log-probabilities.
    judge
        See :func:`table_judge`.
    rounds
        Number of rounds, >= 1.
    n_samples
        Responses to a prompt that are judged together, >= 2.
    draws
        How often every prompt is asked in a round, >= 1.
    pairing, labels
        See :func:`sampled_pairs`.
    include_self
        See :func:`judged_samples`.
    reference
        Fixed reference, for the methods that have one.
    train
        Function of the policy, loss, data and reference that returns the next policy;
        :func:`prefsim.solvers.fit` unless given, see also :func:`prefsim.loops.descent`.
    seed
        Of samples and labels.

    Returns
    -------
    list of SelfPlayRound, one for each round.

    Raises
    ------
    ValueError
        If an option is out of range or the judge returns no preferences.

    References
    ----------
    Wu et al. 2024 (SPPO), arXiv:2405.00675; Rosset et al. 2024 (DNO), arXiv:2404.03715; Zhang et
    al. 2024 (INPO), arXiv:2407.00617.

    Examples
    --------
    >>> import functools
    >>> from prefsim import losses
    >>> from prefsim.policies import TabularPolicy
    >>> judge = table_judge([[[0.5, 0.9], [0.1, 0.5]]])
    >>> loss = functools.partial(losses.inpo, step=1.0, tau=0.1)
    >>> start = TabularPolicy.uniform(1, 2)
    >>> rounds = self_play(
    ...     start,
    ...     loss,
    ...     judge,
    ...     rounds=3,
    ...     n_samples=2,
    ...     draws=500,
    ...     labels="sampled",
    ...     reference=start,
    ...     seed=0,
    ... )
    >>> [round(float(r.policy.probs[0, 0]), 2) for r in rounds]
    [0.6, 0.68, 0.74]
    """
    check_kind(InMemoryPolicy, policy=policy)
    check_integer(low=1, draws=draws)
    check_choice(PAIRINGS, pairing=pairing)
    check_choice(LABELS, labels=labels)
    prompt = np.repeat(np.arange(policy.log_probs.shape[-2]), draws)

    def draw_judged_pairs(
        policy: InMemoryPolicy, opponent: InMemoryPolicy, rng: np.random.Generator
    ) -> Comparisons:
        samples = judged_samples(
            policy, judge, prompt, n_samples=n_samples, include_self=include_self, seed=rng
        )
        return sampled_pairs(samples, policy, pairing=pairing, labels=labels, seed=rng)

    return list(
        play_rounds(
            policy,
            draw_judged_pairs,
            loss,
            rounds=rounds,
            seed=seed,
            reference=reference,
            train=train,
        )
    )
