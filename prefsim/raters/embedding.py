r"""Raters with a vector for each response in place of a reward.

A fixed skew form of two vectors is the log-odds of the preference.

With :math:`v \in \mathbb{R}^{2k}` and :math:`R = \mathrm{diag}(\lambda_1 J, \dots, \lambda_k J)`,
:math:`J` the rotation by a right angle,

.. math:: s(i \succ j) = \langle R v_i, v_j\rangle
    = \sum_{l} \lambda_l (v_{i,2l} v_{j,2l+1} - v_{i,2l+1} v_{j,2l})

is antisymmetric whatever the vectors are. Rewards are the case ``v = (r, 1)``; vectors on a circle
make a cycle.

References
----------
Zhang et al. 2024, "General Preference Modeling with Preference Representations for Aligning
Language Models", arXiv:2410.02197.
"""

from __future__ import annotations

from prefsim.checks import (
    as_floats,
    check_entries,
    check_even,
    check_integer,
    check_positive,
    check_same_shape,
    check_shape,
    names_shapes,
)
from prefsim.numerics import array_namespace, sigmoid, softmax, softplus
from prefsim.typing import Array, ArrayT

SMALLEST_TEMPERATURE = 0.01  # that of the authors' code

__all__ = [
    "embedding_preference",
    "learned_temperature",
    "prompt_scales",
    "reward_embedding",
    "score_matrix",
    "skew_score",
]


def _halves(embedding: Array, name: str) -> tuple[Array, Array]:
    """Return the even and the odd coordinates ``(..., k)`` of vectors ``(..., 2k)``."""
    check_even(embedding.shape[-1] if embedding.ndim else 0, f"the last axis of {name}")
    return embedding[..., 0::2], embedding[..., 1::2]


def _scaled(even: ArrayT, scales: Array | None) -> ArrayT:
    if scales is None:
        return even
    check_shape(scales, "scales", (even.shape[-1],))
    check_entries(scales, "scales", "be >= 0", lambda x: x >= 0)
    return even * scales


def skew_score(first: ArrayT, second: Array, *, scales: Array | None = None) -> ArrayT:
    r"""Return the score :math:`s(i \succ j) = \langle R v_i, v_j\rangle` of pairs of vectors.

    Shape ``(...,)``, positive where the first wins.

    Parameters
    ----------
    first, second
        ``(..., 2k)``; to train a model by maximum likelihood, those of the chosen and the rejected
        responses, and ``losses.bradley_terry(PairRewards(score / temperature, 0))``.
    scales
        λ >= 0, ``(k,)`` or ``(..., k)``; one unless given. See :func:`prompt_scales`.

    Returns
    -------
    Array ``(...,)``: log-odds at temperature 1.

    Raises
    ------
    ValueError
        If the vectors have an odd or no length, or shapes differ.

    References
    ----------
    Zhang et al. 2024, section 4, arXiv:2410.02197.

    Examples
    --------
    >>> import numpy as np
    >>> first, second = np.asarray([1.0, 0.5, -0.3, 0.2]), np.asarray([0.4, -1.0, 0.6, 0.1])
    >>> (
    ...     round(float(skew_score(first, second)), 12),
    ...     round(float(skew_score(second, first, scales=np.asarray([1.5, 0.5]))), 12),
    ... )
    (-1.35, 1.875)
    """
    first, second, scales = as_floats(
        first=first, second=second, scales=scales, optional=("scales",)
    )
    check_same_shape(first=first, second=second)
    even, odd = _halves(first, "first")
    other_even, other_odd = _halves(second, "second")
    terms = even * other_odd - odd * other_even
    return array_namespace(first).sum(_scaled(terms, scales), axis=-1)


@names_shapes
def score_matrix(embedding: ArrayT, *, scales: Array | None = None) -> ArrayT:
    r"""Return the scores of all pairs, :math:`S = V R^\top V^\top`.

    ``(..., n, n)``, skew to the last bit.

    n vectors cost n evaluations of a model, and the n² scores one small product.

    Parameters
    ----------
    embedding
        ``(..., n, 2k)``.
    scales
        λ >= 0, ``(k,)`` or ``(..., k)``, one set for each matrix; one unless given.

    Raises
    ------
    ValueError
        If the vectors have an odd or no length, or shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> angle = 2 * np.pi * np.arange(3) / 3
    >>> score_matrix(np.stack([np.cos(angle), np.sin(angle)], axis=-1)).round(3) + 0.0
    array([[ 0.   ,  0.866, -0.866],
           [-0.866,  0.   ,  0.866],
           [ 0.866, -0.866,  0.   ]])
    """
    embedding, scales = as_floats(embedding=embedding, scales=scales, optional=("scales",))
    check_shape(embedding, "embedding", (None, None))
    xp = array_namespace(embedding)
    even, odd = _halves(embedding, "embedding")
    left = _scaled(even, None if scales is None else scales[..., None, :])
    product = left @ xp.matrix_transpose(odd)
    return product - xp.matrix_transpose(product)


@names_shapes
def embedding_preference(
    embedding: ArrayT, *, scales: Array | None = None, temperature: float = 1.0
) -> ArrayT:
    r"""Return :math:`P_{ij} = \sigma(s(i \succ j) / \tau)`, ``(..., n, n)``.

    A preference matrix, whatever the vectors are.

    Parameters
    ----------
    embedding, scales
        As for :func:`score_matrix`.
    temperature
        τ > 0; the authors train with 0.1.

    Examples
    --------
    >>> import numpy as np
    >>> embedding_preference(np.asarray([[1.0, 1.0], [0.0, 1.0]])).round(3)
    array([[0.5  , 0.731],
           [0.269, 0.5  ]])
    """
    check_positive(temperature=temperature)
    return sigmoid(score_matrix(embedding, scales=scales) / temperature)


def reward_embedding(reward: ArrayT) -> ArrayT:
    """Return the vectors ``(r, 1)``, whose scores are the differences of rewards ``(..., n)``.

    Shape ``(..., n, 2)``.
    """
    (reward,) = as_floats(reward=reward)
    xp = array_namespace(reward)
    return xp.stack([reward, xp.ones_like(reward)], axis=-1)


def prompt_scales(logits: ArrayT, *, width: int) -> ArrayT:
    r"""Return the scales of the authors' gate, which sum to k: ``(..., k)``.

    :math:`\lambda(x) = k\,\mathrm{softmax}(w(x) / \sqrt{d})`.

    Parameters
    ----------
    logits
        w, ``(..., k)``: a linear function of the prompt's last hidden state.
    width
        d, the width of that state, >= 1.
    """
    check_integer(low=1, width=width)
    (logits,) = as_floats(logits=logits)
    check_shape(logits, "logits", (None,))
    return logits.shape[-1] * softmax(logits / width**0.5)


def learned_temperature(raw: ArrayT) -> ArrayT:
    r"""Return the temperature :math:`\max(\log(1 + e^{x}), 0.01)` of a parameter x.

    It is not constrained, and the authors start at -2.25.
    """
    (raw,) = as_floats(raw=raw)
    xp = array_namespace(raw)
    return xp.clip(softplus(raw), SMALLEST_TEMPERATURE, None)
