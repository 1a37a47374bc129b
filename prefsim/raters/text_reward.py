"""The white-box reward of texts, with whatever embeds them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prefsim.checks import (
    as_float_array,
    check_callable,
    check_choice,
    check_flag,
    check_integer,
    check_shape,
)
from prefsim.raters.white_box import distinct_ngrams, length_incentive, proxy_reward

__all__ = ["CUTS", "KINDS", "Embed", "relevance_reward", "response_words", "tfidf_embedding"]

Embed = Callable[[Sequence[str]], Any]
"""What embeds texts: n of them in, an array ``(n, d)`` out."""

KINDS = ("open-ended", "constrained")

CUTS = ("\n\n\n\n", "\n\n--", "\n\n____")
"""What a response ends at, beside the markers of roles that a template has."""

_WORD = re.compile(r"\w+|[^\w\s]+")


def response_words(response: str, *, cuts: Sequence[str] = CUTS) -> list[str]:
    r"""Return the words and the runs of punctuation of a response up to where it is cut.

    Parameters
    ----------
    response
        A text.
    cuts
        The response ends at the first of these, as they are written: no pattern has a meaning.

    Raises
    ------
    ValueError
        If ``response`` is no text, or a cut is none or empty.

    References
    ----------
    Kim and Seo 2024, arXiv:2402.03469, as in the authors' code, where the cuts are :data:`CUTS` and
    the markers of the template's roles.

    Examples
    --------
    >>> response_words("Yes, it's fine.\n\nHuman: And now?", cuts=("Human:",))
    ['Yes', ',', 'it', "'", 's', 'fine', '.']
    """
    _check_texts([response], "response")
    if isinstance(cuts, str) or not all(isinstance(cut, str) and cut for cut in cuts):
        raise ValueError(f"cuts must be a sequence of texts that are not empty, got {cuts!r}")
    kept = response.strip("\n ")
    if cuts:
        kept = re.split("|".join(map(re.escape, cuts)), kept, maxsplit=1)[0]
    return _WORD.findall(kept)


def relevance_reward(
    query: str | Sequence[str],
    response: str | Sequence[str],
    *,
    embed: Embed | None = None,
    kind: str | Sequence[str] = "open-ended",
    reference: str | Sequence[str | None] | None = None,
    cuts: Sequence[str] = CUTS,
    with_length: bool = True,
    with_distinct: bool = True,
    with_relevance: bool = True,
    with_branching: bool = True,
    longest: int = 512,
    largest_relevance: float = 3.5,
) -> np.ndarray:
    """Return the regularised relevance reward R³ of responses to queries, without preferences.

    The formula is that of :func:`prefsim.raters.proxy_reward`. As a reward of rounds it needs no
    more than an embedding: ``functools.partial(relevance_reward, embed=...)``, batched or not.

    Parameters
    ----------
    query, response
        Texts, n of each, or one of each. A query stands as it is: what a template adds is to be
        taken off before.
    embed
        Texts in, an array ``(n, d)`` out, such as :func:`tfidf_embedding` or, of a language model,
        ``functools.partial(prefsim.lm.prompt_features, policy)``. It is called once, with queries
        and responses together; relevance is the dot product, so that its scale counts. Needed
        unless ``with_relevance`` is False.
    kind
        ``"open-ended"`` or ``"constrained"``: one for all, or one for each query.
    reference
        The reference answers, needed where a query is constrained, to which responses are to be
        relevant there in the place of the query; None where there is none.
    cuts
        Length and repetition are those of the response up to the first of these, see
        :func:`response_words`; its relevance is that of the whole.
    with_length, with_distinct, with_relevance, with_branching, longest, largest_relevance
        As for :func:`prefsim.raters.proxy_reward`; trigrams are of words and punctuation.

    Returns
    -------
    Array ``(n,)``; a number for one response.

    Raises
    ------
    ValueError
        If the texts do not fit each other, a constrained query has no reference answer, what
        ``embed`` returns is no finite array ``(n, d)``, or an option is out of range.

    References
    ----------
    Kim and Seo 2024, arXiv:2402.03469, as in the authors' code.

    Examples
    --------
    A reward that counts words, of which none may be repeated:

    >>> texts = ["the cat sat on the cat sat on the cat sat", "no no no no no"]
    >>> relevance_reward(["A cat?", "Why?"], texts, with_relevance=False).round(6)
    array([0.048889, 0.016667])
    """
    single = isinstance(query, str)
    queries, responses = (
        [given] if isinstance(given, str) else given for given in (query, response)
    )
    n = len(queries)
    if single != isinstance(response, str) or len(responses) != n:
        raise ValueError(
            "query and response must be two texts or as many texts each, got"
            f" {_counted(query)} and {_counted(response)}"
        )
    _check_texts(queries, "query")
    _check_texts(responses, "response")
    check_flag(with_relevance=with_relevance, with_branching=with_branching)
    constrained = _constrained(kind, n)
    tokens = _word_places([response_words(text, cuts=cuts) for text in responses])
    relevance = np.ones(n)
    if with_relevance:
        asked = _sources(queries, constrained & with_branching, reference)
        relevance = _dot_products(embed, asked, responses)
    rewards = proxy_reward(
        length_incentive(tokens),
        distinct_ngrams(tokens),
        relevance,
        constrained=constrained,
        with_length=with_length,
        with_distinct=with_distinct,
        with_relevance=with_relevance,
        with_branching=with_branching,
        longest=longest,
        largest_relevance=largest_relevance,
    )
    return rewards[0] if single else rewards


def _word_places(rows: list[list[str]]) -> np.ndarray:
    """Return responses of words as places in their own vocabulary ``(n, T)``, −1 behind the end."""
    # Not an array of words, in which each would be as wide as the longest.
    place: dict[str, int] = {}
    tokens = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
    for row, words in zip(tokens, rows, strict=True):
        row[: len(words)] = [place.setdefault(word, len(place)) for word in words]
    return tokens


def _counted(texts: Any) -> str:
    return "a text" if isinstance(texts, str) else str(len(texts))


def _check_texts(texts: Sequence[Any], name: str) -> None:
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{name} must be text, got {type(text).__name__} at {i}")


def _constrained(kind: str | Sequence[str], n: int) -> np.ndarray:
    kinds = [kind] * n if isinstance(kind, str) else list(kind)
    if len(kinds) != n:
        raise ValueError(
            f"kind must be one for all or one for each of {n} queries, got {len(kinds)}"
        )
    for each in [kind] if isinstance(kind, str) else kinds:
        check_choice(KINDS, kind=each)
    return np.array([each == "constrained" for each in kinds], dtype=bool)


def _sources(queries: Sequence[str], constrained: np.ndarray, reference: Any) -> list[str]:
    """Return what responses are to be relevant to: the query, or its reference answer."""
    answers = (
        [reference] * len(queries) if reference is None or isinstance(reference, str) else reference
    )
    if len(answers) != len(queries):
        raise ValueError(
            f"reference must hold one answer for each of {len(queries)} queries, got {len(answers)}"
        )
    sources = []
    for i, (query, answer, by_answer) in enumerate(zip(queries, answers, constrained, strict=True)):
        if by_answer and not isinstance(answer, str):
            raise ValueError(
                f"reference must hold the answer to every constrained query, got {answer!r} at {i}"
            )
        sources.append(answer if by_answer else query)
    return sources


def _dot_products(embed: Embed | None, asked: list[str], responses: Sequence[str]) -> np.ndarray:
    if embed is None:
        raise ValueError(
            "embed must be a function of texts unless with_relevance is False, got None"
        )
    check_callable(embed=embed)
    n = len(asked)
    if n == 0:
        return np.zeros(0)
    vectors = as_float_array(embed([*asked, *responses]), "what embed returns", ndim=2)
    check_shape(vectors, "what embed returns", (2 * n, None))
    return np.asarray((vectors[:n] * vectors[n:]).sum(axis=-1))


def tfidf_embedding(corpus: Sequence[str], *, max_features: int | None = None) -> Embed:
    """Return an embedding of texts by their words, weighted by how rare they are (TF–IDF).

    The reference embedding of :func:`relevance_reward`: it knows words, not what they mean. Its
    vectors have length 1, so that relevance is a cosine in [0, 1], and 1 is the
    ``largest_relevance``.

    Parameters
    ----------
    corpus
        Texts by which words are weighted; words that are in none of them are not seen.
    max_features
        How many of the most frequent words count, >= 1; all of them unless given.

    Returns
    -------
    A function of texts, n of them, that returns an array ``(n, d)``; zeros where no word is known.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    ValueError
        If the corpus is no sequence of texts, has no word, or ``max_features`` is out of range.

    Examples
    --------
    >>> embed = tfidf_embedding(["How do I make tea?", "Boil water for tea.", "Dogs bark."])
    >>> relevance_reward("How do I make tea?", "Boil water, make tea.", embed=embed).round(4)
    np.float64(0.0265)
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a TF–IDF embedding needs scikit-learn: pip install scikit-learn", name="sklearn"
        ) from error
    if isinstance(corpus, str):
        raise ValueError("corpus must be a sequence of texts, got one text")
    _check_texts(corpus, "corpus")
    if max_features is not None:
        check_integer(low=1, max_features=max_features)
    vectoriser = TfidfVectorizer(max_features=max_features)
    try:
        vectoriser.fit(corpus)
    except ValueError as error:
        raise ValueError("corpus must hold at least one word of two letters, got none") from error
    return lambda texts: vectoriser.transform(texts).toarray()
