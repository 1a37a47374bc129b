r"""Graded versions of a text, made without a judge.

Its key phrases are found by RAKE and removed step by step.

Everything works on whole batches of token sequences, integers or words, and is exact: on a
:class:`~prefsim.worlds.TokenTree` it degrades every sequence at once (``tree.sequences``, with the
end token among the stop tokens).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import as_token_array, check_integer

__all__ = ["Degraded", "KeyPhrases", "degrade", "kept_tokens", "key_phrases"]

# Scores are sums of fractions: what differs by less than this is a tie.
TIE_DECIMALS = 9


class KeyPhrases(NamedTuple):
    """The candidate phrases of every sequence, read off each position.

    Attributes
    ----------
    phrase
        Number of the position's phrase from the left, int ``(..., T)``; −1 at stop tokens and
        padding.
    word_score
        Degree over frequency of the position's word, ``(..., T)``; 0 outside phrases.
    score
        Sum of the word scores of the position's phrase, ``(..., T)``; 0 outside phrases.
    rank
        Place of the position's phrase by falling score, the leftmost first among equals, int
        ``(..., T)``; −1 outside phrases.
    n_phrases
        Number of phrases P, int ``(...)``.
    """

    phrase: np.ndarray
    word_score: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    n_phrases: np.ndarray


class Degraded(NamedTuple):
    """The versions 0 (whole) to K (stop tokens alone) of every sequence.

    Attributes
    ----------
    keep
        Which tokens each version keeps, boolean ``(..., K + 1, T)``.
    degree
        Degree of each version, int ``(..., K + 1)``. With fewer than K phrases some versions are
        equal: the last of them keeps its degree and the others get −1, left out; without any phrase
        all are left out.
    """

    keep: np.ndarray
    degree: np.ndarray


def key_phrases(tokens: Any, *, stop: Collection[Any]) -> KeyPhrases:
    """Find the candidate phrases of token sequences and score them by RAKE.

    RAKE is rapid automatic keyword extraction.

    Phrases are the maximal runs without stop tokens. A word scores the mean length of the phrases
    it occurs in (its degree over its frequency), a phrase the sum of its words' scores.

    Parameters
    ----------
    tokens
        ``(..., T)``: integers, −1 behind the end, or words, empty behind the end.
    stop
        Stop tokens.

    Raises
    ------
    ValueError
        If ``tokens`` holds neither integers >= −1 nor words, or ``stop`` tokens of another kind.

    References
    ----------
    Rose, Engel, Cramer, Cowley 2010, "Automatic keyword extraction from individual documents"; used
    by Li et al. 2024, arXiv:2409.17791.

    Examples
    --------
    >>> phrases = key_phrases(
    ...     "deep learning models learn features and deep models need data".split(),
    ...     stop={"and", "need"},
    ... )
    >>> phrases.word_score.tolist()
    [3.5, 5.0, 3.5, 5.0, 5.0, 0.0, 3.5, 3.5, 0.0, 1.0]
    >>> phrases.score.tolist()
    [22.0, 22.0, 22.0, 22.0, 22.0, 0.0, 7.0, 7.0, 0.0, 1.0]
    """
    array, padding = as_token_array(tokens, "tokens")
    stops, stop_padding = as_token_array(stop if isinstance(stop, str) else list(stop), "stop")
    if stops.size and stop_padding != padding:
        raise ValueError(
            f"stop must hold tokens of the same kind as tokens ({array.dtype}), got dtype"
            f" {stops.dtype}"
        )
    shape = array.shape
    rows = array.reshape(math.prod(shape[:-1]), shape[-1])
    words, word = np.unique(rows, return_inverse=True)
    word = word.reshape(rows.shape)
    content = (~np.isin(words, stops) & (words != padding))[word]

    start = content & ~np.pad(content, ((0, 0), (1, 0)))[:, :-1]
    phrase = np.where(content, np.cumsum(start, axis=1) - 1, -1)
    row, column = np.nonzero(content)
    of_phrase = row * shape[-1] + phrase[row, column]
    of_word = row * words.size + word[row, column]

    length = np.bincount(of_phrase, minlength=rows.size)
    frequency = np.bincount(of_word, minlength=1)
    degree = np.bincount(of_word, weights=length[of_phrase], minlength=1)
    word_score = np.zeros(rows.shape)
    word_score[row, column] = degree[of_word] / frequency[of_word]
    by_phrase = np.bincount(
        of_phrase, weights=word_score[row, column], minlength=rows.size
    ).reshape(rows.shape)

    # Empty places score 0, less than any phrase; a stable sort leaves equals in the order of the
    # text.
    order = np.argsort(-np.round(by_phrase, TIE_DECIMALS), axis=1, kind="stable")
    place = np.argsort(order, axis=1)

    def at_positions(values: np.ndarray, outside: float) -> np.ndarray:
        taken = np.take_along_axis(values, np.maximum(phrase, 0), axis=1) if values.size else values
        return np.where(content, taken, outside).reshape(shape)

    return KeyPhrases(
        phrase=phrase.reshape(shape),
        word_score=word_score.reshape(shape),
        score=at_positions(by_phrase, 0.0),
        rank=at_positions(place, -1).astype(np.int64),
        n_phrases=start.sum(axis=1).reshape(shape[:-1]),
    )


def degrade(tokens: Any, *, stop: Collection[Any], levels: int = 4) -> Degraded:
    r"""Remove the key phrases of token sequences step by step.

    Version k lacks the first :math:`\lceil kP/K\rceil` of P phrases.

    Parameters
    ----------
    tokens, stop
        As in :func:`key_phrases`.
    levels
        Number of steps K, an integer >= 1.

    Raises
    ------
    ValueError
        If ``levels`` is out of range, and as :func:`key_phrases`.

    References
    ----------
    Li et al. 2024, the selective removal of key content, arXiv:2409.17791 (the number of steps is
    not confirmed).

    Examples
    --------
    >>> words = "red big car near old stone house with green door and tall tree".split()
    >>> for version in kept_tokens(words, degrade(words, stop={"near", "with", "and"}).keep):
    ...     print(" ".join(version).strip())
    red big car near old stone house with green door and tall tree
    near old stone house with green door and tall tree
    near with green door and tall tree
    near with and tall tree
    near with and
    """
    check_integer(low=1, levels=levels)
    phrases = key_phrases(tokens, stop=stop)
    array, padding = as_token_array(tokens, "tokens")
    steps = np.arange(levels + 1)
    removed = -(-steps * phrases.n_phrases[..., None] // levels)
    keep = (array != padding)[..., None, :] & ~(
        (phrases.rank >= 0)[..., None, :] & (phrases.rank[..., None, :] < removed[..., None])
    )
    repeated = np.concatenate(
        [
            removed[..., 1:] == removed[..., :-1],
            np.zeros((*phrases.n_phrases.shape, 1), dtype=bool),
        ],
        axis=-1,
    )
    degree = np.where(repeated | (phrases.n_phrases == 0)[..., None], -1, steps)
    return Degraded(keep, degree)


def kept_tokens(tokens: Any, keep: np.ndarray) -> np.ndarray:
    """Return the tokens that each version keeps, moved to the left and padded, ``(..., V, T)``.

    Of ``(..., T)`` tokens and ``keep`` ``(..., V, T)``.
    """
    array, padding = as_token_array(tokens, "tokens")
    order = np.argsort(~keep, axis=-1, kind="stable")
    moved = np.take_along_axis(np.broadcast_to(array[..., None, :], keep.shape), order, axis=-1)
    return np.where(np.take_along_axis(keep, order, axis=-1), moved, padding)
