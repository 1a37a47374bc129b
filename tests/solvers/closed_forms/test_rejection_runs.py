"""Rejection sampling of many runs at once: each keeps its own caps, keys and order."""

import numpy as np
import pytest

from prefsim.solvers.closed_forms.rejection import accept_pass, log_acceptance, rejection_sample

REWARD = np.random.default_rng(0).normal(size=(2, 3, 6))


def test_greedy_runs_take_their_own_best():
    found = rejection_sample(REWARD, 3, beta=0.0, seed=0)
    expected = np.argsort(-REWARD, axis=-1, kind="stable")[..., :3]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n_samples", [1, 4, 6])
def test_samples_of_a_run_differ(n_samples):
    found = rejection_sample(REWARD, n_samples, beta=0.7, seed=1)
    assert found.shape == (2, 3, n_samples) and found.dtype.kind == "i"
    assert (np.diff(np.sort(found, axis=-1), axis=-1) > 0).all()
    again = rejection_sample(REWARD, n_samples, beta=0.7, seed=1)
    np.testing.assert_array_equal(found, again)


def test_the_run_with_the_fewest_responses_sets_the_limit():
    keys = np.asarray([[0, 1, 2, 3], [5, 5, 5, 4]])
    reward = REWARD[0, :2, :4]
    found = rejection_sample(reward, 2, beta=0.5, seed=0, keys=keys)
    taken = np.take_along_axis(keys, found, axis=-1)
    assert (taken[:, 0] != taken[:, 1]).all()
    # Of equal responses the first stands for all.
    assert set(found[1].tolist()) == {0, 3}
    with pytest.raises(ValueError, match="distinct candidates, got 3 for 2"):
        rejection_sample(reward, 3, beta=0.5, seed=0, keys=keys)


def test_no_runs_have_no_samples():
    for keys in (None, np.zeros((2, 0, 4), dtype=int) + np.arange(4)):
        found = rejection_sample(np.zeros((2, 0, 4)), 3, beta=0.5, seed=0, keys=keys)
        assert found.shape == (2, 0, 3)


def test_a_pass_needs_arrays_of_one_shape():
    reward, uniform = REWARD[0, 0], np.full(6, 0.5)
    for bad in (
        lambda: accept_pass(reward, uniform[:5], beta=0.5),
        lambda: accept_pass(reward, uniform, beta=0.5, remaining=np.ones(5, dtype=bool)),
    ):
        with pytest.raises(ValueError, match="one shape"):
            bad()


def test_a_pass_caps_at_what_remains():
    reward, uniform = np.asarray([[3.0, 1.0, 0.0], [0.0, 1.0, 1.0]]), np.full((2, 3), 0.5)
    remaining = np.asarray([[False, True, True], [True, True, False]])
    found = accept_pass(reward, uniform, beta=0.5, remaining=remaining)
    np.testing.assert_array_equal(found, [[False, True, False], [False, True, False]])
    np.testing.assert_array_equal(
        accept_pass(reward, uniform, beta=0.5), [[True, False, False], [False, True, True]]
    )


def test_a_cap_of_ones_own():
    cap = np.asarray([2.0, 0.5])
    reward = np.asarray([[3.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    expected = np.minimum(0.0, (reward - cap[:, None]) / 0.5)
    np.testing.assert_allclose(log_acceptance(reward, beta=0.5, cap=cap), expected)
    at_zero = log_acceptance(reward, beta=0.0, cap=cap)
    np.testing.assert_array_equal(at_zero, np.where(reward >= cap[:, None], 0.0, -np.inf))
