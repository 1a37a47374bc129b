"""Sequences that are too long are shortened where it was asked for, and where alone."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.lm import TextComparisons, Truncation, references_of
from prefsim.lm.model.tokens import Tokens
from prefsim.lm.training.truncation import truncated
from prefsim.solvers import fit

BOS = 1
dpo = functools.partial(losses.dpo, beta=0.5)
IDS = st.lists(st.integers(2, 60), min_size=1, max_size=12)


def size(row):
    return len(row.prompt_ids) + len(row.completion_ids)


@st.composite
def examples(draw):
    """Two completions of one prompt, with a BOS token or without."""
    prompt = draw(st.sampled_from([[], [BOS]])) + draw(IDS)
    return [Tokens(prompt, draw(IDS)) for _ in range(2)]


@given(examples(), st.integers(2, 30))
def test_the_beginning_of_the_prompt_goes(example, limit):
    longest = max(len(row.completion_ids) for row in example)
    truncation = Truncation(max_tokens=limit, side="prompt")
    if longest >= limit:
        with pytest.raises(ValueError, match=f"a completion has {longest} tokens"):
            truncated(example, truncation, bos_id=BOS)
        return
    first, second = truncated(example, truncation, bos_id=BOS)
    assert max(size(first), size(second)) == min(limit, max(map(size, example)))
    # Both still answer one prompt, its end, with all that they said.
    assert first.prompt_ids == second.prompt_ids
    assert [first.completion_ids, second.completion_ids] == [row.completion_ids for row in example]
    whole, kept = example[0].prompt_ids, first.prompt_ids
    if whole[0] == BOS:
        assert kept[0] == BOS
        whole, kept = whole[1:], kept[1:]
    assert kept == whole[len(whole) - len(kept) :]


@given(examples(), st.integers(2, 30))
def test_the_end_of_each_completion_goes(example, limit):
    truncation = Truncation(max_tokens=limit, side="completion")
    if len(example[0].prompt_ids) >= limit:
        with pytest.raises(ValueError, match=f"a prompt has {len(example[0].prompt_ids)} tokens"):
            truncated(example, truncation, bos_id=BOS)
        return
    for row, whole in zip(truncated(example, truncation, bos_id=BOS), example, strict=True):
        assert row.prompt_ids == whole.prompt_ids
        assert size(row) == min(limit, size(whole))
        assert row.completion_ids == whole.completion_ids[: len(row.completion_ids)]


OPTIONS = {"steps": 2, "batch_size": 3, "learning_rate": 1e-3, "progress": False}


@pytest.mark.parametrize("side", ["prompt", "completion"])
def test_training_is_that_on_the_shortened_rows(tiny64, side):
    rng = np.random.default_rng(0)
    columns = [[rng.integers(3, 64, size).tolist() for _ in range(5)] for size in (9, 4, 3)]
    data = TextComparisons(*columns)
    by_hand = list(columns)
    if side == "prompt":
        by_hand[0] = [prompt[-6:] for prompt in columns[0]]
    else:
        by_hand[1:] = [[answer[:1] for answer in side_] for side_ in columns[1:]]
    truncation = Truncation(max_tokens=10, side=side)
    result = fit(tiny64, dpo, data, reference=tiny64, truncation=truncation, **OPTIONS)
    expected = fit(tiny64, dpo, TextComparisons(*by_hand), reference=tiny64, **OPTIONS)
    np.testing.assert_allclose(result.history, expected.history, rtol=1e-12)
    stored = references_of(tiny64, data, dpo, truncation=truncation)
    same = fit(tiny64, dpo, data, reference=stored, truncation=truncation, **OPTIONS)
    np.testing.assert_allclose(same.history, result.history, rtol=1e-9)
    with pytest.raises(ValueError, match="log-probabilities must be of the data's"):
        fit(tiny64, dpo, data, reference=stored, **OPTIONS)


def test_the_row_that_does_not_fit_is_named(tiny64):
    data = TextComparisons([[3], [4]], [[5], [6] * 9], [[7], [8]])
    truncation = Truncation(max_tokens=9, side="prompt")
    with pytest.raises(ValueError, match="example 1: a completion has 9 tokens"):
        fit(tiny64, dpo, data, reference=tiny64, truncation=truncation, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 1, "side": "prompt"}, "max_tokens must be an integer >= 2, got 1"),
        ({"max_tokens": 5, "side": "left"}, "side must be one of 'prompt', 'completion'"),
    ],
)
def test_bad_truncations(options, message):
    with pytest.raises(ValueError, match=message):
        Truncation(**options)


def test_something_else_is_refused(tiny64):
    data = TextComparisons([[3]], [[5]], [[7]])
    with pytest.raises(TypeError, match="truncation must be a Truncation, got int"):
        fit(tiny64, dpo, data, reference=tiny64, truncation=5, **OPTIONS)
