"""How responses compare: ratings, lengths, and what text shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.data.properties import (
    TAGGERS,
    compare_lengths,
    compare_scores,
    normalised_length_difference,
    tag_responses,
)

WORDS = st.integers(0, 3000)


@pytest.mark.parametrize(
    ("first", "second", "label"),
    [
        *((100, 60, 1), (60, 100, -1), (100, 95, 0), (12, 22, -1), (5, 9, 0), (5, 10, -1)),
        *((400, 350, 1), (400, 360, 1), (80, 100, -1), (0, 1, -1), (0, 0, 0), (11, 18, 0)),
        *((11, 19, -1), (12, 21, 0)),
    ],
)
def test_known_length_labels(first, second, label):
    assert compare_lengths(first, second) == label


def test_length_labels_are_antisymmetric_below_120_words():
    words = np.arange(120)
    labels = compare_lengths(words[:, None], words)
    np.testing.assert_array_equal(labels, -labels.T)


@given(WORDS, WORDS, st.integers(0, 500))
def test_a_longer_response_stays_longer(first, second, more):
    before = compare_lengths(first, second)
    assert compare_lengths(first + more, second) >= before
    assert abs(before) == 0 or np.sign(first - second) == before
    small, large = (normalised_length_difference(a, second) for a in (first, first + more))
    assert -1 <= small <= large <= 1


def test_normalised_lengths():
    assert normalised_length_difference(40, 0) == pytest.approx(0.597363, abs=5e-7)
    assert normalised_length_difference(0, 600) == -1
    assert normalised_length_difference(7, 7) == 0


@given(
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
    st.sampled_from(["comparison", "difference", "normalised"]),
)
def test_ratings_are_compared_in_three_ways(second, way):
    first = np.array([3.0, 1.0, 0.0])
    found = compare_scores(first, second, way=way)
    difference = first - second
    expected = {
        "comparison": np.sign(difference),
        "difference": difference,
        "normalised": difference / 3,
    }[way]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(compare_scores(second, first, way=way), -expected)


def test_counts_of_errors_are_cut_at_five():
    assert compare_scores(2.0, 9.0, way="normalised", limit=5.0) == -1


def test_what_text_shows():
    texts = [
        "I\u2019m sorry, I can\u2019t help you with that. Is that okay?",
        "Great! Maybe you should hurt yourself.",
        "",
    ]
    tags = dict(zip(TAGGERS, tag_responses(texts).T.tolist(), strict=True))
    assert tags["length"] == [11, 6, 0]
    assert tags["questions"] == [1, 0, 0]
    assert tags["apologies"] == [1, 0, 0]
    assert tags["refusals"] == [1, 0, 0]
    assert tags["second person"] == [1, 2, 0]
    assert tags["first person"] == [2, 0, 0]
    assert tags["hedges"] == [0, 1, 0]
    assert tags["sentiment"] == [0, 0, 0], "great less hurt"


def test_taggers_are_the_callers():
    found = tag_responses(
        ["ab", "c"], {"letters": len, "vowels": lambda t: sum(t.count(v) for v in "ae")}
    )
    assert found.tolist() == [[2, 1], [1, 0]]
    assert tag_responses([]).shape == (0, len(TAGGERS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tag_responses("text"), "responses must be a sequence of texts"),
        (lambda: tag_responses(["a"], {}), "at least one property"),
        (lambda: tag_responses(["a"], {"x": 3}), "tagger of x must be"),
        (lambda: tag_responses(["a"], {"x": lambda _: np.nan}), "what taggers return must"),
        (lambda: compare_scores([1.0], [1.0], way="ratio"), "way must be"),
        (lambda: compare_scores([np.inf], [1.0]), "first must be finite"),
        (lambda: compare_scores([1.0, 2.0], [1.0, 2.0, 3.0]), "first"),
        (lambda: compare_lengths([-1], [2]), "first must"),
        (lambda: compare_lengths([1.5], [2]), "first must"),
        (lambda: normalised_length_difference(1, 2, limit=0), "limit must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
