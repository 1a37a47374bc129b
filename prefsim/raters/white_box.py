"""A white-box reward of responses: length times relevance times how little is repeated.

Its terms are functions of tokens, which are integers padded with −1 or words padded with "", so
that they serve every sequence of a token tree at once as well as text
(:func:`prefsim.raters.relevance_reward`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import (
    as_array,
    as_floats,
    as_index_array,
    as_token_array,
    check_broadcast,
    check_flag,
    check_integer,
    check_positive,
    check_shape,
    names_shapes,
)
from prefsim.numerics import array_namespace, like
from prefsim.typing import ArrayT, Number

LENGTH_SCALE = 100.0
"""Tokens that count as a length incentive of 1 in the authors' code."""

__all__ = ["LENGTH_SCALE", "distinct_ngrams", "length_incentive", "mean_pooled", "proxy_reward"]


def _tokens_and_mask(tokens: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return token sequences and where they hold a token, which is nowhere behind the end."""
    array, padding = as_token_array(tokens, "tokens")
    mask = array != padding
    if (mask[..., 1:] & ~mask[..., :-1]).any():
        raise ValueError(f"tokens must be padded behind their end, got a token behind {padding!r}")
    return array, mask


def length_incentive(tokens: Any, *, scale: float = LENGTH_SCALE) -> np.ndarray:
    """Return the number of tokens of responses over ``scale``.

    Parameters
    ----------
    tokens
        ``(..., T)``: integers, −1 behind the end, or words, empty behind the end.
    scale
        Tokens that count as 1, > 0.

    Returns
    -------
    Array ``(...)``, >= 0.

    Raises
    ------
    ValueError
        If ``tokens`` holds neither integers >= −1 nor words, or a token behind padding, or
        ``scale`` is out of range.

    References
    ----------
    Kim and Seo 2024, arXiv:2402.03469 (length incentive), as in the authors' code.

    Examples
    --------
    >>> length_incentive([[0, 1, 0, 2], [0, -1, -1, -1]])
    array([0.04, 0.01])
    """
    check_positive(scale=scale)
    _, mask = _tokens_and_mask(tokens)
    return np.asarray(mask.sum(axis=-1) / scale)


def distinct_ngrams(tokens: Any, *, n: int = 3) -> np.ndarray:
    """Return the share of the n-grams of responses that are different ones (distinct-n).

    As the *repetition penalty* of a reward it is a factor: 1 where nothing is repeated, and the
    smaller the more is.

    Parameters
    ----------
    tokens
        ``(..., T)``: integers, −1 behind the end, or words, empty behind the end.
    n
        Tokens of an n-gram, >= 1.

    Returns
    -------
    Array ``(...)`` in (0, 1]; 1 for responses of fewer than ``n`` tokens.

    Raises
    ------
    ValueError
        If ``tokens`` holds neither integers >= −1 nor words, or a token behind padding, or ``n`` is
        out of range.

    References
    ----------
    Li et al. 2016, arXiv:1510.03055 (distinct-n, there over all responses together). Kim and Seo
    2024, arXiv:2402.03469 (repetition penalty), as in the authors' code.

    Examples
    --------
    >>> distinct_ngrams([[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, -1, -1, -1]])
    array([0.33333333, 1.        , 1.        ])
    """
    check_integer(low=1, n=n)
    array, mask = _tokens_and_mask(tokens)
    places = array.shape[-1] - n + 1
    if places < 1 or array.size == 0:
        return np.ones(array.shape[:-1])
    word = np.unique(array, return_inverse=True)[1].reshape(array.shape)
    gram = word[..., :places]
    for shift in range(1, n):
        # Numbered anew at every token: products of vocabularies would not fit an integer.
        pair = gram * (word.max() + 1) + word[..., shift : shift + places]
        gram = np.unique(pair, return_inverse=True)[1].reshape(pair.shape)
    whole = mask[..., n - 1 :]
    ordered = np.sort(np.where(whole, gram, -1), axis=-1)
    is_new = np.diff(ordered, axis=-1, prepend=-1) != 0
    count = whole.sum(axis=-1)
    return np.where(count > 0, is_new.sum(axis=-1) / np.maximum(count, 1), 1.0)


@names_shapes
def mean_pooled(embeddings: ArrayT, tokens: Any) -> ArrayT:
    """Return the mean of the embeddings of the tokens of each response.

    Parameters
    ----------
    embeddings
        Of the vocabulary, ``(V, d)``.
    tokens
        Places in the vocabulary ``(..., T)``, −1 behind the end, which counts for nothing.

    Returns
    -------
    Array ``(..., d)``; zeros for a response without a token.

    Raises
    ------
    ValueError
        If a token is none of the vocabulary, follows padding, or shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> mean_pooled(np.asarray([[1.0, 0.0], [0.0, 1.0]]), [[0, 1], [0, -1]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    (embeddings,) = as_floats(embeddings=embeddings)
    check_shape(embeddings, "embeddings", (None, None))
    places = as_index_array(tokens, "tokens", size=embeddings.shape[0], low=-1)
    _, mask = _tokens_and_mask(places)
    xp = array_namespace(embeddings)
    index = like(np.where(mask, places, 0).reshape(-1), embeddings, integer=True)
    taken = xp.reshape(xp.take(embeddings, index, axis=0), (*places.shape, embeddings.shape[1]))
    share = mask / np.maximum(mask.sum(axis=-1, keepdims=True), 1)
    return xp.sum(like(share, embeddings)[..., None] * taken, axis=-2)


@names_shapes
def proxy_reward(
    length: ArrayT,
    distinct: Number,
    relevance: Number,
    *,
    constrained: Any = False,
    with_length: bool = True,
    with_distinct: bool = True,
    with_relevance: bool = True,
    with_branching: bool = True,
    longest: int = 512,
    largest_relevance: float = 3.5,
) -> ArrayT:
    r"""Return the regularised relevance reward R³ of responses, of its terms.

    .. math:: R = \mathrm{RP}\cdot\begin{cases}\mathrm{LI}\cdot\mathrm{QR}
        & \text{open-ended}\\ \mathrm{RAR}\,\dfrac{L_{max}}{100\,\rho_{max}}
        & \text{constrained}\end{cases}

    A constrained query has a reference answer, to which its responses are to be relevant; their
    length counts for nothing, and the scale is that of the length incentive at its largest. A
    relevance below zero turns every factor into its opposite: the longer and the more varied, the
    lower the reward.

    Parameters
    ----------
    length
        Length incentive LI, ``(...)``: :func:`~prefsim.raters.white_box.length_incentive`.
    distinct
        Repetition penalty RP, ``(...)``, larger is better:
        :func:`~prefsim.raters.white_box.distinct_ngrams`.
    relevance
        ``(...)``: the dot product, not the cosine, of the embedding of the response with that of
        the query (QR), or of the reference answer where the query is constrained (RAR).
    constrained
        Booleans ``(...)`` that say which queries are constrained; none unless given.
    with_length, with_distinct, with_relevance, with_branching
        Whether these parts are in: a factor that is not is 1, and without branching, or without
        relevance, all queries are treated as open-ended.
    longest
        L_max, the largest number of tokens of a response, >= 1.
    largest_relevance
        ρ_max > 0, about the largest relevance that occurs; 3.5 is that of Contriever. Nothing is
        clipped there.

    Returns
    -------
    Array ``(...)``.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or an option is out of range.

    References
    ----------
    Kim and Seo 2024, arXiv:2402.03469, as in the authors' code.

    Examples
    --------
    >>> import numpy as np
    >>> terms = np.asarray(0.5), np.asarray(0.8), np.asarray(1.2)
    >>> [round(float(proxy_reward(*terms, constrained=kind)), 6) for kind in (False, True)]
    [0.48, 1.404343]
    """
    check_flag(
        with_length=with_length,
        with_distinct=with_distinct,
        with_relevance=with_relevance,
        with_branching=with_branching,
    )
    check_integer(low=1, longest=longest)
    check_positive(largest_relevance=largest_relevance)
    length, distinct, relevance = as_floats(length=length, distinct=distinct, relevance=relevance)
    kinds = as_array(constrained, "constrained", "bool")
    check_broadcast(length=length, distinct=distinct, relevance=relevance, constrained=kinds)
    xp = array_namespace(length)
    length, distinct, relevance, kinds = xp.broadcast_arrays(
        length, distinct, relevance, like(kinds, length, integer=True) > 0
    )
    factor = length if with_length else xp.ones_like(length)
    if with_relevance:
        if with_branching:
            scale = longest / LENGTH_SCALE / largest_relevance
            factor = xp.where(kinds, scale * xp.ones_like(factor), factor)
        factor = factor * relevance
    return factor * distinct if with_distinct else factor
