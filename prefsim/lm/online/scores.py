"""Rewards of completions: what a function, a table or a model says of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.lm.model.tokens import Text
from prefsim.lm.online.trees import tree_completions, tree_prompts
from prefsim.worlds.tokens import TokenTree

__all__ = ["Score", "completion_scores", "tree_score"]

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
        If a score is infinite, or a batch of scores has another shape.

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
                value = score(prompt, completion)
                values[i] = np.nan if value is None else float(value)
    if np.isinf(values).any():
        raise ValueError(f"scores must be finite or NaN, got {values[np.isinf(values)][0]}")
    return values.reshape(len(prompts), -1)


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


def tree_score(tree: TokenTree, prompts: Sequence[Sequence[int]], reward: Any = None) -> Score:
    """Return the score that looks the reward of a tree's sequences up in its table.

    Parameters
    ----------
    tree
        The world.
    prompts
        Token ids, one prompt for each context of the tree, all different.
    reward
        ``(X, N)``; the tree's own unless given.

    Returns
    -------
    Function of a prompt and a completion, both token ids. It raises for a completion that is no
    sequence of the tree.

    Examples
    --------
    >>> score = tree_score(TokenTree(2, 1, reward=[[0.0, 1.5]]), [[0]])
    >>> score([0], [1])
    1.5
    """
    table = tree.reward if reward is None else reward
    if table is None:
        raise ValueError("the tree has no reward: give one of shape (X, N)")
    values = to_numpy(table).astype(np.float64)
    if values.shape != (tree.n_contexts, tree.n_sequences):
        raise ValueError(
            f"reward must have shape {(tree.n_contexts, tree.n_sequences)}, got {values.shape}"
        )
    contexts = tree_prompts(tree, prompts)
    places = {tuple(leaf): i for i, leaf in enumerate(tree_completions(tree))}

    def score(prompt: Sequence[int], completion: Sequence[int]) -> float:
        x = contexts.get(tuple(int(token) for token in prompt))
        y = places.get(tuple(int(token) for token in completion))
        if x is None or y is None:
            what, ids = ("prompt", prompt) if x is None else ("completion", completion)
            raise ValueError(f"{what} {list(ids)} is none of the tree's")
        return float(values[x, y])

    return score
