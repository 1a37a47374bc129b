"""The white-box reward of texts."""

import builtins
import functools

import numpy as np
import pytest

from prefsim.lm.online.scores import completion_scores
from prefsim.raters import relevance_reward, tfidf_embedding
from prefsim.raters.text_reward import response_words

NO_RELEVANCE = functools.partial(relevance_reward, "Why?", with_relevance=False)
ASKED = ["How do I make tea?", "Do dogs bark?"]
ANSWERS = ["Boil water, then make tea.", "Yes, dogs do bark."]


def letters(texts):
    """Embed texts by how many of each of two letters they have."""
    return np.array([[text.count("a"), text.count("b")] for text in texts], dtype=float)


@pytest.mark.parametrize(
    ("text", "words", "distinct"),
    [
        ("a b c d", 4, 1.0),
        ("the cat sat on the cat sat on the cat sat", 11, 0.4444444444),
        ("no no no no no", 5, 0.3333333333),
        ("yes", 1, 1.0),
        ("Hello, world! It's fine.", 9, 1.0),
        ("", 0, 1.0),
    ],
)
def test_length_and_repetition_of_texts(text, words, distinct):
    assert len(response_words(text)) == words
    assert NO_RELEVANCE(text, with_distinct=False) == pytest.approx(words / 100)
    assert NO_RELEVANCE(text, with_length=False) == pytest.approx(distinct, abs=1e-10)
    assert NO_RELEVANCE(text) == pytest.approx(words / 100 * distinct, abs=1e-10)


def test_a_response_ends_at_the_first_cut_as_it_is_written():
    text = "\n one two\n\n--three\n\n\n\nfour"
    assert response_words(text) == ["one", "two"]
    # Of a pattern the dots and brackets would mean something else.
    assert response_words("a.b (c) [x] d", cuts=("[x]", "(q)")) == ["a", ".", "b", "(", "c", ")"]
    assert response_words("a [x] b", cuts=()) == ["a", "[", "x", "]", "b"]
    assert response_words("Human: hello", cuts=("Human:",)) == []
    for cuts in ("--", ("",), (3,)):
        with pytest.raises(ValueError, match="cuts must be a sequence of texts"):
            response_words(text, cuts=cuts)


def test_relevance_is_a_dot_product_with_the_query_or_the_reference_answer():
    texts = {"query": ["a", "a"], "response": ["a b", "a b b"], "embed": letters}
    np.testing.assert_allclose(relevance_reward(**texts), [0.02, 0.03])
    kinds = {"kind": ["open-ended", "constrained"], "reference": [None, "b"]}
    np.testing.assert_allclose(relevance_reward(**texts, **kinds), [0.02, 2 * 5.12 / 3.5])
    np.testing.assert_allclose(
        relevance_reward(**texts, **kinds, with_branching=False), [0.02, 0.03]
    )
    np.testing.assert_allclose(
        relevance_reward(**texts, **kinds, longest=100, largest_relevance=1.0), [0.02, 2.0]
    )
    # What stands behind a cut is not counted and not repeated, and still read for relevance.
    assert relevance_reward("a", "a b\n\n--a a a", embed=letters) == pytest.approx(0.02 * 4)


def test_texts_are_embedded_together():
    seen = []

    def noting(texts):
        seen.append(list(texts))
        return letters(texts)

    relevance_reward(["a", "b"], ["x", "y"], embed=noting, kind="constrained", reference="ab")
    assert seen == [["ab", "ab", "x", "y"]]


def test_it_scores_the_completions_of_rounds_batched_or_not():
    reward = functools.partial(
        relevance_reward, embed=tfidf_embedding(ASKED + ANSWERS), largest_relevance=1.0
    )
    completions = [[ANSWERS[0], ANSWERS[1]], [ANSWERS[0], ANSWERS[1]]]
    together = completion_scores(reward, ASKED, completions, batched=True)
    np.testing.assert_allclose(together, completion_scores(reward, ASKED, completions))
    assert together[0, 0] > together[0, 1]
    assert together[1, 1] > together[1, 0]


def test_tfidf_of_a_corpus():
    embed = tfidf_embedding(ASKED + ANSWERS)
    vectors = embed([*ASKED, "nothing known here", ""])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1.0, 1.0, 0.0, 0.0])
    assert tfidf_embedding(ASKED, max_features=2)(ASKED).shape == (2, 2)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModuleNotFoundError, match="needs scikit-learn: pip install scikit-learn"):
        tfidf_embedding(ASKED)


def test_nothing_in_nothing_out():
    assert relevance_reward([], [], embed=letters).shape == (0,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"query": "a"}, "two texts or as many texts each, got a text and 2"),
        ({"response": ["a"]}, "two texts or as many texts each, got 2 and 1"),
        ({"query": ["a", [{"role": "user"}]]}, "query must be text, got list at 1"),
        ({"response": ["a", None]}, "response must be text, got NoneType at 1"),
        ({"embed": None}, "embed must be a function of texts"),
        ({"embed": 3}, "embed must be"),
        ({"embed": lambda texts: [[1.0]]}, r"what embed returns must have trailing shape"),
        ({"embed": lambda texts: [[np.nan]] * 4}, "what embed returns must be finite"),
        ({"kind": "closed"}, "kind must be one of .open-ended., .constrained."),
        ({"kind": ["constrained"]}, "one for each of 2 queries, got 1"),
        ({"kind": "constrained"}, "answer to every constrained query, got None at 0"),
        ({"kind": "constrained", "reference": ["a", None]}, "constrained query, got None at 1"),
        ({"reference": ["a"]}, "one answer for each of 2 queries, got 1"),
        ({"with_relevance": 1}, "with_relevance must be"),
        ({"with_length": "yes"}, "with_length must be"),
        ({"longest": 0}, "longest must be"),
        ({"largest_relevance": 0.0}, "largest_relevance must be"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    texts = {"query": ["a", "b"], "response": ["a b", "b"], "embed": letters}
    with pytest.raises(ValueError, match=message):
        relevance_reward(**texts | given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tfidf_embedding("one text"), "corpus must be a sequence of texts"),
        (lambda: tfidf_embedding(["a", 3]), "corpus must be text, got int at 1"),
        (lambda: tfidf_embedding(["", "? !"]), "corpus must hold at least one word"),
        (lambda: tfidf_embedding(ASKED, max_features=0), "max_features must be an integer >= 1"),
    ],
)
def test_a_corpus_that_is_none_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
