"""Segment raters: partial return, both forms of regret, and the noiseless limits."""

import functools
import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.raters.regret import (
    deterministic_regret,
    noiseless_preference,
    partial_return_preference,
    regret_preference,
    segment_regret,
    segment_return,
)

LIBRARIES = [np.asarray, functools.partial(torch.as_tensor), array_api_strict.asarray]


def walks(seed, discount, *, deterministic=True, n_states=6, n_actions=3, length=5, n_segments=40):
    """Random segments of a random MDP with its optimal values.

    Rewards, advantages, start and end values.
    """
    rng = np.random.default_rng(seed)
    if deterministic:
        transition = np.eye(n_states)[rng.integers(0, n_states, (n_states, n_actions))]
    else:
        transition = rng.dirichlet(np.ones(n_states), (n_states, n_actions))
    reward = rng.standard_normal((n_states, n_actions))
    value = np.zeros(n_states)
    for _ in range(400):
        value = (reward + discount * transition @ value).max(axis=1)
    q = reward + discount * transition @ value
    state = rng.integers(0, n_states, n_segments)
    start, rewards, advantages = value[state], [], []
    for _ in range(length):
        action = rng.integers(0, n_actions, n_segments)
        rewards.append(reward[state, action])
        advantages.append(q[state, action] - value[state])
        cumulative = transition[state, action].cumsum(axis=1)
        state = (rng.random(n_segments)[:, None] > cumulative).sum(axis=1).clip(max=n_states - 1)
    return np.stack(rewards, axis=1), np.stack(advantages, axis=1), start, value[state]


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.5, 0.9]))
def test_both_forms_of_regret_agree_where_transitions_are_deterministic(seed, discount):
    rewards, advantages, start, end = walks(seed, discount, n_segments=10)
    general = segment_regret(advantages, discount=discount)
    np.testing.assert_allclose(
        deterministic_regret(rewards, start, end, discount=discount), general, atol=1e-10
    )
    assert np.all(general >= -1e-12)
    # A segment may be cut short: the same holds for its first two steps.
    mask = np.broadcast_to(np.arange(rewards.shape[1]) < 2, rewards.shape)
    assert np.all(segment_regret(advantages, mask, discount=discount) <= general + 1e-12)


def test_they_differ_where_transitions_are_random():
    rewards, advantages, start, end = walks(0, 0.9, deterministic=False)
    gap = deterministic_regret(rewards, start, end, discount=0.9) - segment_regret(
        advantages, discount=0.9
    )
    assert np.abs(gap).max() > 0.1


def test_they_differ_where_the_segment_is_not_discounted_as_the_values_are():
    rewards, advantages, start, end = walks(0, 0.9)
    assert (
        np.abs(deterministic_regret(rewards, start, end) - segment_regret(advantages)).max() > 0.1
    )


@given(st.integers(0, 2**31), st.sampled_from([0.5, 0.9, 1.0]))
def test_shaping_moves_the_partial_return_by_the_ends_alone(seed, discount):
    rng = np.random.default_rng(seed)
    rewards, potential = rng.standard_normal((7, 4)), rng.standard_normal((7, 5))
    shaped = rewards + discount * potential[:, 1:] - potential[:, :-1]
    change = segment_return(shaped, discount=discount) - segment_return(rewards, discount=discount)
    np.testing.assert_allclose(change, discount**4 * potential[:, -1] - potential[:, 0], atol=1e-12)


def test_masks_and_discounts_by_hand():
    rewards = np.array([[1.0, 2.0, 4.0], [1.0, np.nan, np.inf]])
    mask = np.array([[True, False, True], [True, False, False]])
    np.testing.assert_array_equal(segment_return(rewards, mask), [5.0, 1.0])
    np.testing.assert_array_equal(segment_return(rewards, mask, discount=0.5), [2.0, 1.0])
    np.testing.assert_array_equal(segment_return(rewards, mask, discount=0.0), [1.0, 1.0])
    first = np.array([[True, True, False], [True, False, False]])
    ends = np.array([10.0, 10.0]), np.array([8.0, 8.0])
    # 10 - (1 + 2/2 + 8/4) and 10 - (1 + 8/2)
    np.testing.assert_array_equal(
        deterministic_regret(rewards, *ends, first, discount=0.5), [6.0, 5.0]
    )


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0.1, 5))
def test_preferences_are_logistic_complementary_and_opposite_in_sign(first, second, beta):
    a, b = np.asarray(first), np.asarray(second)
    by_return = partial_return_preference(a, b, beta=beta)
    assert math.isclose(by_return, 1 / (1 + math.exp(-beta * (first - second))), rel_tol=1e-10)
    assert math.isclose(by_return + partial_return_preference(b, a, beta=beta), 1.0, rel_tol=1e-12)
    assert regret_preference(a, b, beta=beta) == partial_return_preference(-a, -b, beta=beta)


def test_the_two_raters_can_disagree():
    # The way home costs more on the way, but nothing is given away on it.
    stays, walks_home = segment_return(np.array([[-1.0, -1.0], [-2.0, -2.0]]))
    gave_away, gave_nothing = segment_regret(np.array([[-1.0, -1.0], [0.0, 0.0]]))
    assert (
        partial_return_preference(stays, walks_home)
        > 0.5
        > regret_preference(gave_away, gave_nothing)
    )


def test_noiseless_preferences_are_the_limit():
    first, second = np.array([1.0, 0.0, 0.3]), np.array([0.0, 1.0, 0.1 + 0.2])
    np.testing.assert_array_equal(noiseless_preference(first, second, tie=1e-12), [1.0, 0.0, 0.5])
    np.testing.assert_array_equal(noiseless_preference(first, second), [1.0, 0.0, 0.0])
    np.testing.assert_allclose(
        partial_return_preference(first[:2], second[:2], beta=1e4),
        noiseless_preference(first, second)[:2],
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_gives_the_same(library):
    rng = np.random.default_rng(0)
    rewards, mask = rng.standard_normal((6, 4)), np.arange(4) < rng.integers(1, 5, (6, 1))
    start, end = rng.standard_normal((2, 6))
    for discount in (1.0, 0.7):
        for call, arguments in (
            (segment_return, (rewards, mask)),
            (segment_regret, (rewards, mask)),
            (deterministic_regret, (rewards, start, end, mask)),
        ):
            value = call(*map(library, arguments), discount=discount)
            np.testing.assert_allclose(
                np.asarray(value), call(*arguments, discount=discount), rtol=1e-13, atol=1e-13
            )
    for call in (partial_return_preference, regret_preference, noiseless_preference):
        np.testing.assert_allclose(
            np.asarray(call(library(start), library(end))), call(start, end), rtol=1e-14
        )


def test_the_gradient_reaches_the_rewards_and_not_the_padding():
    rewards = torch.randn(
        3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    mask = torch.tensor([[True, True, False, False]] * 3)
    segment_return(rewards, mask, discount=0.5).sum().backward()
    torch.testing.assert_close(
        rewards.grad, torch.tensor([[1.0, 0.5, 0.0, 0.0]] * 3, dtype=torch.float64)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: segment_return(r[:, :0]), "T >= 1 steps"),
        (lambda r: segment_return(np.asarray(1.0)), "T >= 1 steps"),
        (lambda r: segment_return(r, np.ones((2, 2), dtype=bool)), "one shape"),
        (lambda r: segment_return(r, np.ones((2, 3))), "mask must hold booleans"),
        (lambda r: segment_return(r, discount=1.1), "discount"),
        (lambda r: segment_regret(r, discount=-0.1), "discount"),
        (lambda r: deterministic_regret(r, np.zeros(3), np.zeros(2)), "one shape"),
        (
            lambda r: deterministic_regret(
                r, np.zeros(2), np.zeros(2), np.array([[True, False, True]] * 2)
            ),
            "without a gap",
        ),
        (lambda r: partial_return_preference(r, r, beta=0.0), "beta"),
        (lambda r: regret_preference(r, r, beta=math.nan), "beta"),
        (lambda r: noiseless_preference(r, r, tie=-1.0), "tie"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 3)))
