"""Draws by bisection: the same as counting, in memory and time that do not grow with the table."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.data import Comparisons, Feedback, Negatives, Rankings
from prefsim.policies import TabularPolicy
from prefsim.policies.inverse_transform import inverse_transform
from prefsim.worlds import ContextualBandit


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5]))
def test_bisection_counts_the_sums_that_are_reached(size, rows, seed, none):
    rng = np.random.default_rng(seed)
    # Entries of zero make sums that are equal.
    cumulative = np.cumsum(rng.random((rows, size)) * (rng.random((rows, size)) >= none), axis=-1)
    row = rng.integers(rows, size=20)
    edges = rng.integers(size, size=20)
    height = np.where(rng.random(20) < 0.5, cumulative[row, edges], rng.random(20) * size)
    expected = (height[:, None] >= cumulative[row]).sum(axis=-1)
    assert inverse_transform(cumulative, row, height).tolist() == expected.tolist()


def test_draws_of_a_batch_of_policies():
    rng = np.random.default_rng(0)
    policy = TabularPolicy.from_logits(rng.normal(size=(2, 3, 4, 5)))
    prompt = rng.integers(4, size=(6, 7))
    found = policy.sample(prompt, 8, 1)
    assert found.shape == (2, 3, 6, 7, 8)
    cumulative = np.cumsum(policy.probs, axis=-1)[..., prompt, :]
    uniform = np.random.default_rng(1).random((2, 3, 6, 7, 8)) * cumulative[..., -1:]
    expected = (uniform[..., None] >= cumulative[..., None, :]).sum(axis=-1)
    np.testing.assert_array_equal(found, expected)


def test_draws_for_a_prompt_that_is_not_there():
    policy = TabularPolicy.uniform(3, 2)
    for prompt in (3, -1):
        with pytest.raises(ValueError, match=f"prompt must be >= 0 and < 3, got {prompt}"):
            policy.sample(np.array([0, prompt]), 1, 0)


N = 100_000
WORLD = ContextualBandit(reward=np.random.default_rng(0).normal(size=(10, 100)))
POLICY = TabularPolicy.from_logits(np.random.default_rng(1).normal(size=(10, 100)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: Comparisons.sample(WORLD, N, seed=0),
        lambda: Comparisons.sample(WORLD, N, seed=0, policy=POLICY, distinct=False),
        lambda: Feedback.sample(np.full((10, 100), 0.5), N, seed=0, policy=POLICY),
        lambda: Rankings.sample(WORLD, N, 4, seed=0),
        lambda: Negatives.sample(np.arange(N) % 10, np.arange(N) % 7, POLICY, 4, seed=0),
    ],
)
def test_a_large_sample_takes_little_memory(draw):
    tracemalloc.start()
    try:
        data = draw()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(data) == N
    # A table of all responses for each row would be 80 MB, one of all pairs 8 GB.
    assert peak < 60e6
