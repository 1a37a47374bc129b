r"""Decisions among candidates, by the order of their scores or by expectation, and for sequences.

What is likeliest need not be what is wanted: of long outputs each is unlikely, and the order by
sums of log-probabilities is another than that per token. Everything is exact, and broadcasts over
leading axes.
"""

from __future__ import annotations

import math
from typing import Any, Generic, NamedTuple

import numpy as np

from prefsim.analysis.candidates import candidate_scores, with_mask
from prefsim.checks import (
    as_floats,
    check_broadcast,
    check_entries,
    check_integer,
    check_nonnegative,
    check_policy,
    check_positive,
    check_shape,
)
from prefsim.numerics import array_namespace, sigmoid
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "Decision",
    "length_normalised_utility",
    "map_decision",
    "mbr_decision",
    "noisy_token_accuracy",
]


# --- decisions ---


class Decision(NamedTuple, Generic[ArrayT]):
    """What is decided for, and what it is worth to the rule that decides.

    Attributes
    ----------
    choice
        Index of the response, integers ``(...)``; the first of equals.
    value
        Its utility, or its expected similarity, ``(...)``.
    """

    choice: Any
    value: ArrayT


def _best(scores: ArrayT) -> Decision[ArrayT]:
    xp = array_namespace(scores)
    return Decision(xp.argmax(scores, axis=-1), xp.max(scores, axis=-1))


def map_decision(utility: ArrayT, mask: Array | None = None) -> Decision[ArrayT]:
    """Return the candidate of highest utility (maximum a posteriori), which the order alone says.

    Parameters
    ----------
    utility, mask
        As for :func:`~prefsim.analysis.utility_probability`.

    Returns
    -------
    Decision

    Raises
    ------
    ValueError
        As for :func:`~prefsim.analysis.utility_probability`.

    Examples
    --------
    >>> import numpy as np
    >>> map_decision(np.array([0.5, 2.0, 1.0]), np.array([True, False, True]))
    Decision(choice=np.int64(2), value=np.float64(1.0))
    """
    utility, mask = with_mask(mask, utility=utility)
    return _best(candidate_scores(utility, mask, "utility"))


def mbr_decision(probs: ArrayT, similarity: Array, mask: Array | None = None) -> Decision[ArrayT]:
    r"""Return the candidate of highest expected similarity (minimum Bayes risk).

    .. math:: \arg\max_{y} \sum_{y'} P(y')\, s(y, y')

    Parameters
    ----------
    probs
        P, ``(..., Y)``, such as :func:`~prefsim.analysis.utility_probability`, or equal shares of
        samples.
    similarity
        s, ``(..., K, Y)``, finite: of each candidate with each response that P is over.
    mask
        Booleans ``(..., K)``: which candidates may be decided for; all unless given.

    Returns
    -------
    Decision

    Raises
    ------
    ValueError
        If a row has no candidate, is no distribution, or shapes do not fit.

    References
    ----------
    Kumar and Byrne 2004, "Minimum Bayes-risk decoding for statistical machine translation".

    Examples
    --------
    >>> import numpy as np
    >>> alike = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.9], [0.0, 0.9, 1.0]])
    >>> mbr_decision(np.array([0.4, 0.35, 0.25]), alike).value.round(3)
    np.float64(0.575)
    """
    probs, similarity, mask = with_mask(mask, probs=probs, similarity=similarity)
    check_shape(probs, "probs", (None,))
    check_shape(similarity, "similarity", (None, probs.shape[-1]))
    check_broadcast(probs=probs[..., None, :], similarity=similarity)
    check_policy(probs, "probs")
    check_entries(similarity, "similarity", "be finite", np.isfinite)
    xp = array_namespace(probs)
    expected = xp.sum(probs[..., None, :] * similarity, axis=-1)
    return _best(candidate_scores(expected, mask, "similarity"))


# --- sequences ---


def length_normalised_utility(log_prob: ArrayT, length: Array, *, power: float) -> ArrayT:
    r"""Return the log-probability of sequences over a power of their length, :math:`U/|y|^a`.

    Sums (a = 0) and means per token (a = 1) are different orders: where every further token costs
    probability, sums may prefer the empty output to all that is likely together.

    Parameters
    ----------
    log_prob
        :math:`\log\pi(y|x)`, ``(...)`` nats.
    length
        Number of tokens, the one that ends the sequence included, ``(...)``, > 0.
    power
        a >= 0.

    Returns
    -------
    Array ``(...)``.

    Raises
    ------
    ValueError
        If a length is not > 0, the power is negative, or shapes do not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> length_normalised_utility(np.array([-2.0, -6.0]), np.array([1.0, 4.0]), power=1.0)
    array([-2. , -1.5])
    """
    check_nonnegative(power=power)
    log_prob, length = as_floats(log_prob=log_prob, length=length)
    check_broadcast(log_prob=log_prob, length=length)
    check_entries(length, "length", "be > 0", lambda n: n > 0)
    return log_prob / length**power


def noisy_token_accuracy(noise_rate: Number, temperature: Number, *, vocabulary_size: int) -> Array:
    r"""Return how often a token is right that is drawn from a noisy law at a temperature.

    Observed tokens are right with probability 1 − ε, else one of the V − 1 others. From utilities
    that are the logarithm of that law, :func:`~prefsim.analysis.utility_probability` draws the
    right token with probability

    .. math:: a_\tau = \sigma\Big(\tfrac1\tau\log\tfrac{(1-\varepsilon)(V-1)}{\varepsilon}
        - \log(V-1)\Big)

    A whole sequence of L tokens with independent noise is right with :math:`a_\tau^L`: at τ = 1
    hardly ever, although the sequence of highest utility is.

    Parameters
    ----------
    noise_rate
        ε in (0, 1), a number or an array.
    temperature
        τ > 0, a number or an array that broadcasts.
    vocabulary_size
        V >= 2.

    Returns
    -------
    Array of the shape of both, in (0, 1).

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> import numpy as np
    >>> right = noisy_token_accuracy(0.15, np.array([1.0, 0.5, 0.2]), vocabulary_size=5)
    >>> (right**6).round(6)
    array([0.37715 , 0.954534, 0.999996])
    """
    check_integer(low=2, vocabulary_size=vocabulary_size)
    check_positive(arrays=True, temperature=temperature)
    rate, tau = as_floats(noise_rate=noise_rate, temperature=temperature)
    check_entries(rate, "noise_rate", "lie in (0, 1)", lambda x: (x > 0) & (x < 1))
    check_broadcast(noise_rate=rate, temperature=tau)
    xp = array_namespace(rate)
    others = math.log(vocabulary_size - 1)
    odds = xp.log1p(-rate) - xp.log(rate) + others
    right: Array = sigmoid(odds / tau - others)
    return right
