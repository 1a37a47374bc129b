"""Judges of completions: a reward, or a function that compares two. Either may fail or abstain.

A judge is a function of prompts ``(m,)`` and completions ``(m, K)`` and ``(m, L)``, arrays of
objects, that returns how likely each of the first is preferred to each of the second,
``(m, K, L)``, or NaN where it abstains. That of a table is
:func:`prefsim.lm.online.trees.tree_judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import check_callable, check_positive
from prefsim.lm.online.scores import completion_scores
from prefsim.loops.self_play import Judge
from prefsim.losses.nash import antisymmetrised
from prefsim.numerics import sigmoid
from prefsim.typing import Array

if TYPE_CHECKING:
    from prefsim.lm.model.preference_model import PreferenceModel

# Outside [0, 1], where `antisymmetrised` takes a number for an abstention.
ABSTAINED = -1.0

__all__ = ["as_rows", "pairwise_judge", "reward_judge"]


def as_rows(nested: Sequence[Any], *, depth: int = 1) -> np.ndarray:
    """Return texts as an array of objects with ``depth`` axes.

    A list of token ids is one entry, not an axis.

    Examples
    --------
    >>> as_rows([[[1, 2], [3]]], depth=2).shape
    (1, 2)
    """
    shape, level = [], nested
    for _ in range(depth):
        shape.append(len(level))
        level = level[0] if len(level) else []
    # Filled entry by entry: numpy would make lists of one length into axes of their own.
    rows = np.empty(shape, dtype=object)
    for where in np.ndindex(*shape):
        entry: Any = nested
        for i in where:
            entry = entry[i]
        rows[where] = entry
    return rows


def _key(text: Any) -> Any:
    """Return something hashable that is equal for equal texts."""
    if isinstance(text, str):
        return text
    return tuple(
        tuple(sorted(item.items())) if isinstance(item, Mapping) else int(item) for item in text
    )


def reward_judge(
    reward: Callable[..., Any] | PreferenceModel,
    *,
    scale: float = 1.0,
    batched: bool = False,
    abstain_on: tuple[type[Exception], ...] = (),
) -> Judge:
    r"""Return the judge that prefers by the Bradley–Terry model on a reward.

    :math:`P(y \succ y') = \sigma(s\,(r - r'))`.

    Parameters
    ----------
    reward
        ``(prompt, completion) -> number``; with ``batched`` ``(prompts, completions) -> numbers``,
        lists in and an array out, for a reward model on a GPU. Every different completion is scored
        once in a call. Or a :class:`~prefsim.lm.PreferenceModel`, of which a general one (with
        vectors in the place of rewards) is asked for its scores of pairs.
    scale
        Inverse temperature s, > 0; ``inf`` prefers the higher reward for certain. Rewards that were
        trained by :func:`prefsim.losses.bradley_terry` are log-odds: with 1 the judge prefers as
        the model was taught to.
    batched
        See ``reward``.
    abstain_on
        Exceptions of ``reward`` that mean no judgement instead of an error, such as
        ``TimeoutError``.

    Returns
    -------
    Judge, see :mod:`prefsim.lm.online.judges`. NaN (and None) as a reward is an abstention.

    Examples
    --------
    >>> judge = reward_judge(lambda prompt, completion: len(completion), scale=0.5)
    >>> judge(as_rows(["Q"]), as_rows([["abc", "a"]], depth=2), as_rows([["a"]], depth=2)).round(3)
    array([[[0.731],
            [0.5  ]]])
    """
    check_callable(reward=reward)
    if scale != np.inf:
        check_positive(scale=scale)
    # Its class would import torch, which no other judge needs.
    if hasattr(reward, "log_odds"):
        model: Any = reward
        if model.dim > 1:
            return _general_judge(model, scale)
        reward, batched = model.rewards, True

    def judge(prompt: Array, first: Array, second: Array) -> Array:
        both = np.concatenate([first, second], axis=1)
        # Equal completions of equal prompts are one row.
        rows: dict[Any, tuple[Any, Any]] = {}
        number_of: dict[Any, int] = {}
        number = np.empty(both.shape, dtype=np.int64)
        for m, k in np.ndindex(both.shape):
            key = _key(prompt[m]), _key(both[m, k])
            rows.setdefault(key, (prompt[m], both[m, k]))
            number[m, k] = number_of.setdefault(key, len(number_of))
        value = completion_scores(
            reward,
            [asked for asked, _ in rows.values()],
            [[answer] for _, answer in rows.values()],
            batched=batched,
            abstain_on=abstain_on,
        )[number, 0]
        split = first.shape[1]
        return _preferred(value[:, :split, None] - value[:, None, split:], scale)

    return judge


def _preferred(gap: np.ndarray, scale: float) -> np.ndarray:
    """Return the probability to be preferred by so many log-odds, NaN where they are."""
    if scale == np.inf:
        return np.where(np.isnan(gap), np.nan, 0.5 * (1 + np.sign(gap)))
    return sigmoid(scale * gap)


def _general_judge(model: PreferenceModel, scale: float) -> Judge:
    """Return the judge that prefers as a general preference model."""

    def judge(prompt: Array, first: Array, second: Array) -> Array:
        both, split = np.concatenate([first, second], axis=1), first.shape[1]
        tables = [
            to_numpy(model.log_odds(prompt[m], list(both[m])))[:split, split:]
            for m in range(len(both))
        ]
        return _preferred(np.asarray(tables, dtype=np.float64), scale)

    return judge


def pairwise_judge(
    prefer: Callable[[Any, Any, Any], Any], *, abstain_on: tuple[type[Exception], ...] = ()
) -> Judge:
    r"""Return the judge that asks a function which of two completions is better, in both orders.

    Its preference is :func:`prefsim.losses.antisymmetrised`: what the function gives to the
    completion that it sees first cancels. Equal completions are not asked about, and no pair is
    asked about twice in a call.

    Parameters
    ----------
    prefer
        ``(prompt, first, second) ->`` probability that the first is better (or whether it is).
        ``None``, NaN and numbers outside [0, 1] are abstentions.
    abstain_on
        Exceptions of ``prefer`` that mean no judgement instead of an error, such as
        ``TimeoutError``.

    Returns
    -------
    Judge, see :mod:`prefsim.lm.online.judges`.

    Examples
    --------
    >>> def longer(prompt, first, second):
    ...     return None if "?" in first + second else len(first) > len(second)
    >>> judge = pairwise_judge(longer)
    >>> judge(as_rows(["Q"]), as_rows([["abc", "a", "?"]], depth=2), as_rows([["a"]], depth=2))
    array([[[1. ],
            [0.5],
            [nan]]])
    """
    check_callable(prefer=prefer)

    def answer_of(question: Any, first: Any, second: Any) -> float:
        try:
            value = prefer(question, first, second)
        except abstain_on:
            return ABSTAINED
        return ABSTAINED if value is None else float(value)

    def judge(prompt: Array, first: Array, second: Array) -> Array:
        answers: dict[Any, float] = {}
        forward = np.empty((*first.shape, second.shape[1]))
        backward = np.empty_like(forward)
        for m, i, j in np.ndindex(forward.shape):
            question, a, b = prompt[m], first[m, i], second[m, j]
            if _key(a) == _key(b):
                forward[m, i, j] = backward[m, i, j] = 0.5
                continue
            for table, one, other in ((forward, a, b), (backward, b, a)):
                key = _key(question), _key(one), _key(other)
                if key not in answers:
                    answers[key] = answer_of(question, one, other)
                table[m, i, j] = answers[key]
        verdict = antisymmetrised(forward, backward)
        return np.where(verdict.kept, verdict.win_prob, np.nan)

    return judge
