"""Rejection sampling.

The laws against plain enumeration, the sequential sampler against a pass worked out by hand,
degenerate and bad input.
"""

import itertools

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.gradients import gradient
from prefsim.numerics import log_softmax
from prefsim.solvers.closed_forms.rejection import (
    accept_pass,
    accepted_law,
    first_accepted_law,
    log_acceptance,
    rejection_sample,
)
from prefsim.testing import betas, tables

UNIFORM = np.asarray([0.3, 0.1, 0.95, 0.2])
REWARD = np.asarray([1.0, 0.2, 0.9, 0.5])


def enumerated(reward, probs, candidates, beta):
    """Law of the first accepted one over all sequences of candidates."""
    found = np.zeros(reward.size)
    for drawn in itertools.product(range(reward.size), repeat=candidates):
        mass, cap = np.prod(probs[list(drawn)]), max(reward[i] for i in drawn)
        for i in drawn:
            accept = np.exp((reward[i] - cap) / beta)
            found[i] += mass * accept
            mass *= 1 - accept
    return found


@given(
    tables((3,), low=-2.0, high=2.0),
    tables((3,), low=-2.0, high=2.0).map(log_softmax),
    betas(0.1, 3.0),
    st.integers(1, 4),
)
def test_first_accepted_law_is_the_enumeration(reward, log_proposal, beta, candidates):
    found = np.exp(first_accepted_law(reward, log_proposal, candidates, beta=beta))
    np.testing.assert_allclose(
        found, enumerated(reward, np.exp(log_proposal), candidates, beta), atol=1e-12
    )


@pytest.mark.parametrize("reward", [[0.0, 0.5, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 0.5]])
def test_first_accepted_law_with_ties(reward):
    reward, probs = np.asarray(reward), np.asarray([0.5, 0.3, 0.2])
    found = np.exp(first_accepted_law(reward, np.log(probs), 3, beta=0.4))
    np.testing.assert_allclose(found, enumerated(reward, probs, 3, 0.4), atol=1e-13)


def test_laws_broadcast_and_run_on_every_library():
    rng = np.random.default_rng(0)
    reward, log_proposal = rng.standard_normal((2, 3, 4)), log_softmax(rng.standard_normal((3, 4)))
    law = accepted_law(reward, log_proposal, beta=0.5)
    first = first_accepted_law(reward, log_proposal, 5, beta=0.5)
    np.testing.assert_allclose(
        first[1, 2], first_accepted_law(reward[1, 2], log_proposal[2], 5, beta=0.5), rtol=1e-14
    )
    for asarray in (torch.tensor, array_api_strict.asarray):
        moved = accepted_law(asarray(reward), asarray(log_proposal), beta=0.5)
        np.testing.assert_allclose(np.asarray(moved.log_probs), law.log_probs, atol=1e-14)
        moved = first_accepted_law(asarray(reward), asarray(log_proposal), 5, beta=0.5)
        np.testing.assert_allclose(np.asarray(moved), first, atol=1e-13)


def test_the_law_is_differentiable():
    log_proposal = np.log([0.4, 0.3, 0.2, 0.1])

    def log_prob_of_the_second(reward):
        return accepted_law(reward, torch.tensor(log_proposal), beta=0.5).log_probs[1]

    law = accepted_law(REWARD, log_proposal, beta=0.5)
    expected = (np.eye(4)[1] - np.exp(law.log_probs)) / 0.5
    # The largest reward is the cap: moving it moves every acceptance, and the law follows the same
    # derivative.
    np.testing.assert_allclose(gradient(log_prob_of_the_second, REWARD), expected, atol=1e-12)


def test_the_cap_is_the_largest_reward_on_the_support():
    law = accepted_law(
        np.asarray([0.0, 1.0, 9.0]), np.asarray([np.log(0.5), np.log(0.5), -np.inf]), beta=1.0
    )
    assert np.exp(law.log_rate) == pytest.approx((1 + np.exp(-1)) / 2)
    assert law.log_probs[2] == -np.inf


def test_a_pass_worked_out_by_hand():
    np.testing.assert_allclose(
        np.exp(log_acceptance(REWARD, beta=0.5)), [1, 0.201897, 0.818731, 0.367879], atol=5e-7
    )
    np.testing.assert_array_equal(np.flatnonzero(accept_pass(REWARD, UNIFORM, beta=0.5)), [0, 1, 3])
    left = accept_pass(REWARD, UNIFORM, beta=0.5, remaining=np.asarray([False, True, True, True]))
    np.testing.assert_array_equal(np.flatnonzero(left), [1, 2, 3])


def sequential(reward, k, beta, rng):
    """The published loop, with one row of uniform numbers to a pass."""
    remaining, accepted = list(range(len(reward))), []
    while len(accepted) < k:
        uniform, cap, passed = rng.random(len(reward)), max(reward[i] for i in remaining), []
        for i in remaining:
            if uniform[i] < np.exp((reward[i] - cap) / beta) and len(accepted) < k:
                accepted.append(i)
                passed.append(i)
        remaining = [i for i in remaining if i not in passed]
    return accepted


@given(tables((7,), low=-2.0, high=2.0), st.integers(1, 7), betas(0.1, 2.0), st.integers(0, 1000))
def test_the_sampler_is_the_published_loop(reward, k, beta, seed):
    expected = sequential(reward, k, beta, np.random.default_rng(seed))
    np.testing.assert_array_equal(rejection_sample(reward, k, beta=beta, seed=seed), expected)


def test_no_temperature_takes_the_best_with_ties_in_order():
    np.testing.assert_array_equal(
        rejection_sample([[0.0, 2.0, 1.0, 2.0], [3.0, 1.0, 2.0, 0.0]], 3, beta=0.0, seed=0),
        [[1, 3, 2], [0, 2, 1]],
    )


def test_of_no_rows_there_are_no_samples():
    assert rejection_sample(np.zeros((0, 4)), 2, beta=0.5, seed=0).shape == (0, 2)


def test_equal_keys_count_once():
    found = rejection_sample(
        np.zeros((50, 6)), 3, beta=0.5, seed=0, keys=np.tile([4, 4, 9, 9, 9, 1], (50, 1))
    )
    np.testing.assert_array_equal(found, np.tile([0, 2, 5], (50, 1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_acceptance(REWARD, beta=-1.0), "beta must be a finite number >= 0"),
        (
            lambda: first_accepted_law(REWARD, np.log(np.full(4, 0.25)), 0, beta=1.0),
            "candidates must be an integer >= 1",
        ),
        (
            lambda: first_accepted_law(REWARD, np.log(np.full(4, 0.25)), 2, beta=0.0),
            "beta must be a finite number > 0",
        ),
        (lambda: accept_pass(REWARD, UNIFORM[:3], beta=1.0), "one shape"),
        (lambda: rejection_sample(REWARD, 0, beta=1.0, seed=0), "n_samples must be an integer"),
        (lambda: rejection_sample(REWARD, 2, beta=1.0, seed=0, keys=[1, 2]), "one shape"),
        (
            lambda: rejection_sample(REWARD, 2, beta=1.0, seed=0, keys=[0.5, 1.5, 2.0, 3.0]),
            "keys must hold integers",
        ),
        (lambda: rejection_sample([np.inf, 0.0], 1, beta=1.0, seed=0), "reward must be finite"),
        (
            lambda: rejection_sample([1.0, 2.0], 3, beta=0.5, seed=0),
            r"n_samples must be an integer in \[1, 2\]",
        ),
        (
            lambda: rejection_sample([1.0, 2.0], 2, beta=0.5, seed=0, keys=[7, 7]),
            "distinct candidates, got 2 for 1",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
