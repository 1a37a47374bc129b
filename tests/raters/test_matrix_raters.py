"""Table raters, label flips and populations of users."""

import functools
import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim import use_backend
from prefsim.raters.bradley_terry import bradley_terry_gap, pairwise_preference
from prefsim.raters.general import MatrixRater, preference_of, sample_labels
from prefsim.raters.noise import flip_labels, flip_sampled_labels
from prefsim.raters.population import UserPopulation, mixture_preference
from prefsim.testing.data import rewards, user_populations

CYCLE = np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
LIBRARIES = [
    np.asarray,
    functools.partial(torch.as_tensor, dtype=torch.float64),
    array_api_strict.asarray,
]


def within_five_errors(share, chance, n):
    """A right sampler fails this with chance 6e-7 an entry."""
    return np.all(np.abs(share - chance) <= 5 * np.sqrt(chance * (1 - chance) / n) + 1e-15)


def test_a_table_answers_for_pairs_and_prompts():
    rater = MatrixRater(CYCLE)
    np.testing.assert_array_equal(rater.probability([0, 1, 2], [1, 1, 1]), CYCLE[[0, 1, 2], 1])
    tables = np.stack([CYCLE, CYCLE.T])
    rng = np.random.default_rng(0)
    prompt, first, second = rng.integers(0, 2, 20), rng.integers(0, 3, 20), rng.integers(0, 3, 20)
    np.testing.assert_array_equal(
        MatrixRater(tables).probability(first, second, prompt), tables[prompt, first, second]
    )


def test_sampled_labels_follow_the_table_and_the_seed():
    n = 40_000
    first, second = np.repeat([0, 1, 2], n), np.repeat([1, 2, 1], n)
    labels = MatrixRater(CYCLE).sample(first, second, seed=0)
    assert within_five_errors(labels.reshape(3, n).mean(axis=1), CYCLE[[0, 1, 2], [1, 2, 1]], n)
    with use_backend("torch"):
        same = MatrixRater(CYCLE).sample(first, second, seed=0)
    np.testing.assert_array_equal(same.numpy(), labels)
    assert not np.array_equal(MatrixRater(CYCLE).sample(first, second, seed=1), labels)


def test_a_rater_from_rewards():
    reward = np.random.default_rng(0).standard_normal((2, 3))
    for link in ("logistic", "probit"):
        np.testing.assert_array_equal(
            MatrixRater.from_reward(reward, link=link).preference,
            pairwise_preference(reward, link=link),
        )


@given(rewards(), st.floats(0, 1))
def test_flips_mix_with_the_opposite_preference(reward, rate):
    preference = pairwise_preference(reward)
    flipped = flip_labels(preference, rate)
    np.testing.assert_allclose(flipped, (1 - rate) * preference + rate * preference.T, atol=1e-15)
    np.testing.assert_allclose(flipped + flipped.T, 1.0, atol=1e-15)
    np.testing.assert_array_equal(flip_labels(preference, 0.0), preference)
    np.testing.assert_allclose(flip_labels(preference, 1.0), preference.T, atol=1e-15)


def test_flipped_samples_follow_the_flipped_preference():
    n, chance, rate = 100_000, 0.8, 0.3
    labels = flip_sampled_labels(sample_labels(np.full(n, chance), seed=0), rate, seed=1)
    assert within_five_errors(labels.mean(), flip_labels(np.array(chance), rate), n)
    kept = sample_labels(np.full(n, chance), seed=0)
    np.testing.assert_array_equal(flip_sampled_labels(kept, 0.0, seed=1), kept)
    np.testing.assert_array_equal(flip_sampled_labels(kept, 1.0, seed=1), ~kept)


@given(user_populations(n_users=3))
def test_a_mixture_is_a_preference_between_its_users(users):
    mixed = users.preference
    np.testing.assert_allclose(mixed + mixed.T, 1.0, atol=1e-12)
    assert np.all(mixed >= users.preferences.min(axis=0) - 1e-12)
    assert np.all(mixed <= users.preferences.max(axis=0) + 1e-12)
    np.testing.assert_allclose(
        mixed, np.einsum("k,kij->ij", users.weights, users.preferences), atol=1e-14
    )


def test_a_mixture_of_bradley_terry_users_is_not_bradley_terry_and_can_be_cyclic():
    orders = np.array([[2, 1, 0], [0, 2, 1], [1, 0, 2]])  # Condorcet's three voters
    users = UserPopulation(np.full(3, 1 / 3), pairwise_preference(3.0 * orders))
    np.testing.assert_allclose(bradley_terry_gap(users.preferences), 0.0, atol=1e-12)
    assert bradley_terry_gap(users.preference) > 0.5
    mixed = users.preference
    assert mixed[0, 1] > 0.6
    assert mixed[1, 2] > 0.6
    assert mixed[2, 0] > 0.6
    alike = UserPopulation(
        [0.5, 0.5], pairwise_preference(np.array([[0.0, 1.0, 3.0], [1.0, 2.0, 4.0]]))
    )
    np.testing.assert_allclose(bradley_terry_gap(alike.preference), 0.0, atol=1e-12)


def test_sampled_users_and_labels_follow_the_population():
    n = 60_000
    reward = np.array([[[2.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [-3.0, 0.0]]])
    users = UserPopulation([0.25, 0.75], pairwise_preference(reward))
    prompt = np.arange(n) % 2
    user, label = users.sample(np.zeros(n, dtype=int), np.ones(n, dtype=int), prompt, seed=0)
    assert within_five_errors((user == 1).mean(), 0.75, n)
    for k in range(2):
        for x in range(2):
            chosen = label[(user == k) & (prompt == x)]
            assert within_five_errors(chosen.mean(), users.preferences[k, x, 0, 1], chosen.size)
    again = users.sample(np.zeros(n, dtype=int), np.ones(n, dtype=int), prompt, seed=0)
    np.testing.assert_array_equal(again[1], label)
    single = UserPopulation([0.0, 1.0], pairwise_preference(np.array([[5.0, 0.0], [0.0, 5.0]])))
    user, label = single.sample([0, 1], [1, 0], seed=0)
    assert user.tolist() == [1, 1]
    assert users.n_users == 2


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_gives_the_same(library):
    index = functools.partial(torch.as_tensor) if library is LIBRARIES[1] else library
    first, second = np.array([0, 2]), np.array([1, 1])
    np.testing.assert_array_equal(
        np.asarray(preference_of(library(CYCLE), index(first), index(second))), CYCLE[first, second]
    )
    np.testing.assert_allclose(
        np.asarray(flip_labels(library(CYCLE), 0.2)), flip_labels(CYCLE, 0.2), rtol=1e-15
    )
    weights, tables = np.array([0.25, 0.75]), np.stack([CYCLE, CYCLE.T])
    np.testing.assert_allclose(
        np.asarray(mixture_preference(library(weights), library(tables))),
        mixture_preference(weights, tables),
        rtol=1e-15,
    )
    labels = np.asarray(sample_labels(library(CYCLE), seed=0))
    np.testing.assert_array_equal(labels, sample_labels(CYCLE, seed=0))
    np.testing.assert_array_equal(
        np.asarray(flip_sampled_labels(index(labels), 0.5, seed=0)),
        flip_sampled_labels(labels, 0.5, seed=0),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MatrixRater([[0.5, 0.8], [0.1, 0.5]]), r"P \+ Pᵀ = 1"),
        (lambda: MatrixRater([[0.5, math.nan], [0.1, 0.5]]), "finite"),
        (lambda: MatrixRater([[0.5, 1.2], [-0.2, 0.5]]), r"\[0, 1\]"),
        (lambda: MatrixRater([0.5, 0.5]), "at least 2 axes"),
        (lambda: MatrixRater(np.full((1, 1, 2, 2), 0.5)), r"\(n, n\) or \(X, n, n\)"),
        (lambda: MatrixRater(CYCLE).probability([3], [0]), "first must be >= 0 and < 3, got 3"),
        (lambda: MatrixRater(CYCLE).probability([0, 1], [0]), "one shape"),
        (lambda: MatrixRater(CYCLE).probability([0], [1], [0]), "with a prompt"),
        (lambda: MatrixRater(CYCLE[None]).probability([0], [1]), "without a prompt"),
        (
            lambda: MatrixRater(CYCLE[None]).probability([0], [1], [1]),
            "prompt must be >= 0 and < 1",
        ),
        (
            lambda: MatrixRater(CYCLE[None]).probability([0], [1], [0, 0]),
            "prompt must have the shape",
        ),
        (lambda: flip_labels(CYCLE, 1.2), r"rate must lie in \[0.0, 1.0\], got 1.2"),
        (lambda: flip_labels(CYCLE, math.nan), "rate"),
        (lambda: flip_sampled_labels(np.array([0, 1]), 0.1, seed=0), "labels must hold booleans"),
        (lambda: flip_sampled_labels(np.array([True]), -0.1, seed=0), "rate"),
        (lambda: mixture_preference(np.array([1.0]), CYCLE), r"weights must be \(K,\)"),
        (lambda: mixture_preference(np.array([0.5, 0.6]), np.stack([CYCLE, CYCLE])), "sum to 1"),
        (lambda: UserPopulation([0.5, 0.5], CYCLE[None]), "K = 2 users"),
        (lambda: UserPopulation([1.5, -0.5], np.stack([CYCLE, CYCLE])), "weights must be >= 0"),
        (lambda: UserPopulation([1.0], 2 * CYCLE[None]), r"preferences must lie in \[0, 1\]"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
