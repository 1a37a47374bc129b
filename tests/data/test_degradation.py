"""Key phrases and their removal: fewer phrases than steps, empty input, what is refused."""

import numpy as np
import pytest

from prefsim.data.degradation import degrade, kept_tokens, key_phrases


@pytest.mark.parametrize(
    ("phrases", "expected"),
    [(1, [0, -1, -1, -1, 4]), (2, [0, -1, 2, -1, 4]), (3, [0, 1, 2, -1, 4])],
)
def test_few_phrases_leave_equal_versions_out(phrases, expected):
    tokens = np.asarray([part for i in range(phrases) for part in (i + 1, 0)])
    removed = degrade(tokens, stop=[0])
    assert removed.degree.tolist() == expected
    versions = {tuple(keep) for keep in removed.keep}
    assert len(versions) == sum(k >= 0 for k in expected)


def test_without_content_every_version_is_left_out():
    removed = degrade([[0, 0, -1], [5, 0, 5]], stop=[0])
    assert removed.degree[0].tolist() == [-1] * 5


def test_versions_move_to_the_left():
    tokens = np.asarray([4, 0, 5, 6, 0])
    versions = kept_tokens(tokens, degrade(tokens, stop=[0], levels=2).keep)
    assert versions.tolist() == [[4, 0, 5, 6, 0], [4, 0, 0, -1, -1], [0, 0, -1, -1, -1]]


def test_a_batch_of_long_texts_keeps_the_order_of_its_tokens():
    rng = np.random.default_rng(0)
    tokens, keep = rng.integers(100, size=(2, 3, 40)), rng.random((2, 3, 5, 40)) < 0.5
    found = kept_tokens(tokens, keep)
    for place in np.ndindex(2, 3, 5):
        kept = tokens[place[:2]][keep[place]].tolist()
        assert found[place].tolist() == kept + [-1] * (40 - len(kept))


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_empty_input(shape):
    assert degrade(np.zeros(shape, int), stop=[0]).keep.shape == (shape[0], 5, shape[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: key_phrases([1.5], stop=[0]),
            "tokens must hold integers or words, got dtype float64",
        ),
        (lambda: key_phrases([-2], stop=[0]), "tokens must be >= -1, got -2"),
        (lambda: key_phrases(3, stop=[0]), "tokens must be an array of tokens with a last axis"),
        (lambda: key_phrases(["a"], stop="a"), "stop must be an array of tokens"),
        (lambda: key_phrases(["a"], stop=[0]), "stop must hold tokens of the same kind"),
        (lambda: degrade([1], stop=[0], levels=0), "levels must be an integer >= 1, got 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
