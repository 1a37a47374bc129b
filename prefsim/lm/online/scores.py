"""Rewards of completions: what a function or a model says of them, or that it says nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks.quoting import shown
from prefsim.lm.model.tokens import Text

__all__ = ["Score", "completion_scores"]

Score = Callable[[Any, Any], Any]


def completion_scores(
    score: Score,
    prompts: Sequence[Text],
    completions: Sequence[Sequence[Any]],
    *,
    batched: bool = False,
    abstain_on: tuple[type[Exception], ...] = (),
) -> np.ndarray:
    """Return the scores ``(n, K)`` of K completions of each prompt, NaN where there is none.

    Parameters
    ----------
    score
        ``(prompt, completion) -> number``; with ``batched`` ``(prompts, completions) -> numbers``,
        lists in and an array out, for a reward model on a GPU. NaN and None are abstentions.
    prompts, completions
        Lists of n, and of n lists of K.
    batched
        See ``score``.
    abstain_on
        Exceptions of ``score`` that mean no score instead of an error, such as ``TimeoutError``.

    Raises
    ------
    ValueError
        If a score is no number or infinite, or a batch of scores has another shape.

    Examples
    --------
    >>> completion_scores(lambda prompt, answer: len(answer), ["Q"], [["abc", "a"]])
    array([[3., 1.]])
    """
    rows = [(x, y) for x, row in zip(prompts, completions, strict=True) for y in row]
    if batched:
        values = _scores_at_once(score, rows, abstain_on)
    else:
        values = np.full(len(rows), np.nan)
        for i, (prompt, completion) in enumerate(rows):
            with contextlib.suppress(*abstain_on):
                values[i] = _as_number(score(prompt, completion))
    if np.isinf(values).any():
        raise ValueError(f"scores must be finite or NaN, got {values[np.isinf(values)][0]}")
    return values.reshape(len(prompts), -1)


def _as_number(value: Any) -> float:
    if value is None:
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a score must be a number or None, got {shown(value)}") from error


def _scores_at_once(
    score: Score, rows: list[tuple[Text, Any]], abstain_on: tuple[type[Exception], ...]
) -> np.ndarray:
    try:
        given = to_numpy(score([prompt for prompt, _ in rows], [answer for _, answer in rows]))
    except abstain_on:
        return np.full(len(rows), np.nan)
    values = np.asarray(given, dtype=np.float64)
    if values.shape != (len(rows),):
        raise ValueError(
            f"a batched score must return one number for each of {len(rows)} completions, got"
            f" shape {values.shape}"
        )
    return values
