"""How two responses compare on properties: rated ones, their lengths, and what text shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from prefsim.checks import (
    as_float_array,
    as_index_array,
    check_broadcast,
    check_callable,
    check_choice,
    check_positive,
)

__all__ = [
    "TAGGERS",
    "WAYS",
    "Tagger",
    "compare_lengths",
    "compare_responses",
    "compare_scores",
    "normalised_length_difference",
    "tag_responses",
]

WAYS = ("comparison", "difference", "normalised")

Tagger = Callable[[str], float]
"""What a response has of a property, as a number: a count, a rating, a probability."""


def compare_scores(
    first: Any, second: Any, *, way: str = "comparison", limit: float = 3.0
) -> np.ndarray:
    r"""Return how responses that were rated on properties compare.

    Parameters
    ----------
    first, second
        Ratings of the two responses of each pair, ``(..., p)``. Where less is better (errors),
        exchange the two.
    way
        ``"comparison"``, the sign of the difference, which all published weights are of;
        ``"difference"``; or ``"normalised"``, the difference over ``limit``, cut to [−1, 1].
    limit
        Largest rating, > 0: 3 for ratings, 5 for counts of errors.

    Returns
    -------
    Array ``(..., p)``; positive where the first response has more.

    Raises
    ------
    ValueError
        If ``way`` is unknown, shapes do not fit, or a number is not finite.

    References
    ----------
    Li et al. 2024, section on the preference model, arXiv:2402.11296; the ways are those of the
    authors' code.

    Examples
    --------
    >>> compare_scores([[3.0, 0.0, 2.0]], [[1.0, 0.0, 3.0]])
    array([[ 1.,  0., -1.]])
    """
    check_choice(WAYS, way=way)
    check_positive(limit=limit)
    one, other = as_float_array(first, "first"), as_float_array(second, "second")
    check_broadcast(first=one, second=other)
    difference = one - other
    if way == "comparison":
        return np.sign(difference)
    if way == "normalised":
        return np.clip(difference / limit, -1.0, 1.0)
    return difference


# By the number of words of the shorter response, up to 11: from how many words on the other is
# clearly longer, and of more words, by which share and how many.
_FEW = np.array([1, 3, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19])
_SHARES = ((0.7, 10), (0.8, 20), (0.9, 40))


def compare_lengths(first: Any, second: Any) -> np.ndarray:
    """Return which of two responses is clearly longer.

    Parameters
    ----------
    first, second
        Numbers of words, integers >= 0, ``(...,)``.

    Returns
    -------
    Array ``(...,)``: 1 where the first is clearly longer, −1 where the second is, 0 elsewhere.

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is no integer >= 0.

    References
    ----------
    Li et al. 2024, arXiv:2402.11296; the rule is that of the authors' code.

    Examples
    --------
    >>> compare_lengths([100, 60, 100, 5], [60, 100, 95, 9])
    array([ 1., -1.,  0.,  0.])
    """
    one, other = as_index_array(first, "first"), as_index_array(second, "second")
    check_broadcast(first=one, second=other)
    shorter, longer = np.minimum(one, other), np.maximum(one, other)
    gap = longer - shorter
    few = shorter < _FEW.size
    clear = np.where(few, longer >= _FEW[np.where(few, shorter, 0)], False)
    for share, least in _SHARES:
        clear = clear | (~few & (shorter <= share * longer) & (gap >= least))
    return np.where(clear, np.sign(one - other), 0).astype(np.float64)


def normalised_length_difference(first: Any, second: Any, *, limit: int = 500) -> np.ndarray:
    r"""Return the difference of two lengths on a logarithmic scale.

    :math:`\mathrm{sign}(d)\,\min(1, \log(1 + |d|) / \log(1 + L))`.

    Parameters
    ----------
    first, second
        Numbers of words, integers >= 0, ``(...,)``.
    limit
        L > 0, from which on a difference counts as 1.

    Returns
    -------
    Array ``(...,)`` in [−1, 1].

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is out of range.

    References
    ----------
    Li et al. 2024, arXiv:2402.11296, as in the authors' code.

    Examples
    --------
    >>> normalised_length_difference([40, 0], [0, 600]).round(6)
    array([ 0.597363, -1.      ])
    """
    check_positive(limit=limit)
    one, other = as_index_array(first, "first"), as_index_array(second, "second")
    check_broadcast(first=one, second=other)
    difference = one - other
    size = np.log1p(np.abs(difference)) / np.log1p(limit)
    return np.asarray(np.sign(difference) * np.minimum(1.0, size))


# --- what text shows without a model to read it ---


def _counting(*patterns: str) -> Tagger:
    found = re.compile("|".join(patterns), re.IGNORECASE)

    def count(text: str) -> float:
        # Typographic apostrophes are as frequent as plain ones.
        return float(len(found.findall(text.replace("\u2019", "'"))))

    return count


def _word_count(text: str) -> float:
    return float(len(text.split()))


_POSITIVE = (
    "good|great|happy|glad|love|loved|nice|kind|kindly|helpful|safe|safely|healthy|enjoy|fun|best|"
    "better|beautiful|wonderful|friendly|positive|respect|respectful|peace|trust|care|caring|hope|"
    "thank|thanks|welcome|support|honest|fair|calm|comfortable|excellent|smart|fine|well"
)
_NEGATIVE = (
    "bad|worse|worst|wrong|hate|hated|harm|harmful|hurt|hurting|kill|killing|death|die|dead|danger|"
    "dangerous|illegal|crime|criminal|steal|stealing|violence|violent|abuse|racist|angry|anger|sad|"
    "fear|afraid|terrible|awful|stupid|ugly|pain|painful|sick|poison|weapon|threat|fail|problem"
)
_pleasant, _unpleasant = (_counting(rf"\b(?:{words})\b") for words in (_POSITIVE, _NEGATIVE))


def _sentiment(text: str) -> float:
    return _pleasant(text) - _unpleasant(text)


TAGGERS: Mapping[str, Tagger] = MappingProxyType(
    {
        "length": _word_count,
        "questions": _counting(r"\?"),
        "refusals": _counting(
            r"\bI (?:can't|cannot|can not|won't|will not|'m not able|am not able|'m unable)\b",
            r"\bI'm (?:not able|unable|not going to|not comfortable)\b",
            r"\bI (?:don't|do not) (?:think I (?:can|should)|want to help|feel comfortable)\b",
            r"\bnot (?:something I|appropriate|a good idea|okay)\b",
        ),
        "apologies": _counting(r"\b(?:sorry|apologi[sz]e|apologies|my apologies|forgive me)\b"),
        "second person": _counting(r"\byou(?:rs|r|rself)?\b"),
        "first person": _counting(r"\b(?:I|me|my|mine|myself)\b"),
        "hedges": _counting(
            r"\b(?:maybe|perhaps|might|probably|possibly|I think|I guess|not sure|could be)\b"
        ),
        "sentiment": _sentiment,
    }
)
"""Properties that code can read from English text: counts of words and marks, and pleasant less
unpleasant words of two short lists."""


def tag_responses(responses: Sequence[str], taggers: Mapping[str, Tagger] = TAGGERS) -> np.ndarray:
    """Return what each response has of each property.

    Parameters
    ----------
    responses
        Texts, n of them.
    taggers
        A function of a text for each property, by its name: those that read the text alone unless
        given, or a model.

    Returns
    -------
    Array ``(n, p)`` in the order of the taggers.

    Raises
    ------
    ValueError
        If there is no tagger, a tagger is no function, or what it returns is no finite number.

    References
    ----------
    Li et al. 2024, arXiv:2402.11296, where a large model rates 29 properties.

    Examples
    --------
    >>> tags = tag_responses(["Sorry, I can't. Why do you ask?", "Take the car."])
    >>> dict(zip(TAGGERS, tags[0].tolist()))["questions"], tags[:, 0].tolist()
    (1.0, [7.0, 3.0])
    """
    if isinstance(responses, str):
        raise ValueError("responses must be a sequence of texts, got one text")
    if not taggers:
        raise ValueError("taggers must name at least one property, got none")
    check_callable(**{f"tagger of {name}": tagger for name, tagger in taggers.items()})
    rows = [[tagger(text) for tagger in taggers.values()] for text in responses]
    return as_float_array(np.reshape(rows, (len(rows), len(taggers))), "what taggers return")


def compare_responses(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
    """Return how responses compare on the properties of :data:`TAGGERS`, lengths by their rule.

    Parameters
    ----------
    first, second
        Texts, n of each.

    Returns
    -------
    Array ``(n, p)`` of −1, 0 and 1 in the order of :data:`TAGGERS`: 1 where the first has more, of
    words where it is clearly longer (:func:`compare_lengths`).

    Raises
    ------
    ValueError
        If the numbers of texts do not fit.

    Examples
    --------
    >>> compared = compare_responses(["Sorry, I can't."], ["Take the car."])[0]
    >>> [name for name, sign in zip(TAGGERS, compared) if sign > 0]
    ['refusals', 'apologies', 'first person']
    """
    tags = [tag_responses(texts) for texts in (first, second)]
    compared = compare_scores(*tags)
    words = list(TAGGERS).index("length")
    compared[:, words] = compare_lengths(*(side[:, words].astype(np.int64) for side in tags))
    return compared
