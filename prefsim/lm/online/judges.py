"""Judges of completions: a reward, or a function that compares two. Either may fail or abstain.

A judge is a function of prompts ``(m,)`` and completions ``(m, K)`` and ``(m, L)``, arrays of
objects, that returns how likely each of the first is preferred to each of the second,
``(m, K, L)``, or NaN where it abstains. That of a table is
:func:`prefsim.lm.online.trees.tree_judge`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import check_callable, check_positive
from prefsim.loops.self_play import Judge
from prefsim.losses.nash import antisymmetrised
from prefsim.numerics import sigmoid

Array = Any

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
    found = np.empty(shape, dtype=object)
    for where in np.ndindex(*shape):
        entry: Any = nested
        for i in where:
            entry = entry[i]
        found[where] = entry
    return found


def _key(text: Any) -> Any:
    """Return something hashable that is equal for equal texts."""
    if isinstance(text, str):
        return text
    return tuple(
        tuple(sorted(item.items())) if isinstance(item, Mapping) else int(item) for item in text
    )


def reward_judge(
    reward: Callable[..., Any],
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
        once in a call.
    scale
        Inverse temperature s, > 0; ``inf`` prefers the higher reward for certain.
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

    def scores(rows: list[tuple[Any, Any]]) -> np.ndarray:
        if batched:
            try:
                given = to_numpy(
                    reward([prompt for prompt, _ in rows], [completion for _, completion in rows])
                )
            except abstain_on:
                return np.full(len(rows), np.nan)
            found = np.asarray(given, dtype=np.float64)
            if found.shape != (len(rows),):
                raise ValueError(
                    f"a batched reward must return one number for each of {len(rows)} completions,"
                    f" got shape {found.shape}"
                )
            return found
        found = np.full(len(rows), np.nan)
        for i, (prompt, completion) in enumerate(rows):
            with contextlib.suppress(*abstain_on):
                value = reward(prompt, completion)
                found[i] = np.nan if value is None else float(value)
        return found

    def judge(prompt: Array, first: Array, second: Array) -> Array:
        both = np.concatenate([first, second], axis=1)
        rows: dict[Any, tuple[int, Any, Any]] = {}
        place = np.empty(both.shape, dtype=np.int64)
        for m, k in np.ndindex(both.shape):
            row = rows.setdefault(
                (_key(prompt[m]), _key(both[m, k])), (len(rows), prompt[m], both[m, k])
            )
            place[m, k] = row[0]
        value = scores([(question, answer) for _, question, answer in rows.values()])[place]
        if np.isinf(value).any():
            raise ValueError(f"rewards must be finite or NaN, got {value[np.isinf(value)][0]}")
        split = first.shape[1]
        gap = value[:, :split, None] - value[:, None, split:]
        if scale == np.inf:
            return np.where(np.isnan(gap), np.nan, 0.5 * (1 + np.sign(gap)))
        return sigmoid(scale * gap)

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
    >>> judge = pairwise_judge(lambda prompt, first, second: None if "?" in first + second else len(first) > len(second))
    >>> judge(as_rows(["Q"]), as_rows([["abc", "a", "?"]], depth=2), as_rows([["a"]], depth=2))
    array([[[1. ],
            [0.5],
            [nan]]])
    """
    check_callable(prefer=prefer)

    def asked(question: Any, first: Any, second: Any) -> float:
        try:
            value = prefer(question, first, second)
        except abstain_on:
            return -1.0
        return -1.0 if value is None else float(value)

    def judge(prompt: Array, first: Array, second: Array) -> Array:
        answers: dict[Any, float] = {}
        forward = np.empty((*first.shape, second.shape[1]))
        backward = np.empty_like(forward)
        for m, i, j in np.ndindex(forward.shape):
            question, a, b = prompt[m], first[m, i], second[m, j]
            key = _key(question), _key(a), _key(b)
            if key[1] == key[2]:
                forward[m, i, j] = backward[m, i, j] = 0.5
                continue
            for table, (one, other), name in (
                (forward, (a, b), key),
                (backward, (b, a), (key[0], key[2], key[1])),
            ):
                if name not in answers:
                    answers[name] = asked(question, one, other)
                table[m, i, j] = answers[name]
        found = antisymmetrised(forward, backward)
        return np.where(found.kept, found.win_prob, np.nan)

    return judge
