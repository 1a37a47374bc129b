"""Decisions by enumeration; sums and means of tokens; what is no decision."""

import itertools

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given

from prefsim.analysis import (
    length_normalised_utility,
    map_decision,
    mbr_decision,
    noisy_token_accuracy,
    utility_probability,
)
from prefsim.testing.bandits import tables

U = np.array([2.0, 1.0, 0.0, -1.0])


def test_values():
    right = noisy_token_accuracy(0.15, np.array([1.0, 0.5, 0.2]), vocabulary_size=5)
    np.testing.assert_allclose(right, [0.85, 0.9922746781, 0.9999993315], atol=5e-11)
    exact = [0.3771495156, 0.9545341099, 0.9999959888]
    np.testing.assert_allclose(right**6, exact, atol=5e-11)
    per_token = length_normalised_utility(
        np.array([-2.3025850930, -9.3157008876]), np.array([1.0, 5.0]), power=1.0
    )
    np.testing.assert_allclose(per_token, [-2.3025850930, -1.8631401775], atol=5e-11)


def test_the_first_of_equals_is_decided_for():
    utility = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    assert map_decision(utility).choice.tolist() == [1, 0]
    masked = map_decision(utility, np.array([True, False, True]))
    assert masked.choice.tolist() == [2, 0]
    assert masked.value.tolist() == [3.0, 2.0]


@given(tables((2, 4), low=-3.0, high=3.0), tables((2, 3, 4), low=0.0, high=1.0))
def test_the_mbr_decision_is_the_best_sum(utility, similarity):
    probs, mask = utility_probability(utility, 0.7), np.array([True, False, True])
    found = mbr_decision(probs, similarity, mask)
    for row in range(2):
        sums = [sum(probs[row, j] * similarity[row, k, j] for j in range(4)) for k in (0, 2)]
        assert found.value[row] == pytest.approx(max(sums), abs=1e-14)
        assert found.choice[row] in (0, 2)
        assert sums[found.choice[row] // 2] == pytest.approx(max(sums), abs=1e-14)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_noisy_outputs_by_enumeration(length):
    law = np.array([0.8, 0.1, 0.1])
    outputs = np.array(list(itertools.product(range(3), repeat=length)))
    utility = np.log(law)[outputs].sum(axis=-1)
    for temperature in (0.3, 1.0, 2.5):
        single = noisy_token_accuracy(0.2, temperature, vocabulary_size=3)
        assert utility_probability(utility, temperature)[0] == pytest.approx(single**length)


def test_sums_and_means_are_different_orders():
    log_prob, length = np.array([-2.0, -6.0, -3.0]), np.array([1.0, 5.0, 2.0])
    orders = [
        np.argsort(length_normalised_utility(log_prob, length, power=power)).tolist()
        for power in (0.0, 1.0)
    ]
    assert orders == [[1, 2, 0], [0, 2, 1]]


@pytest.mark.parametrize("library", [torch, array_api_strict], ids=["torch", "strict"])
def test_other_libraries(library):
    utility, mask = np.stack([U, U[::-1]]), np.array([True, True, False, True])
    similarity = np.abs(utility[..., None] * U)
    calls = {
        map_decision: ((utility, mask), {}),
        mbr_decision: ((utility_probability(utility, 1.0), similarity, mask), {}),
        length_normalised_utility: ((-similarity, np.full((2, 4, 4), 3.0)), {"power": 0.5}),
        noisy_token_accuracy: ((np.array([0.1, 0.2]), 0.5), {"vocabulary_size": 4}),
    }
    for function, (arguments, options) in calls.items():
        moved = [
            library.asarray(each) if isinstance(each, np.ndarray) else each for each in arguments
        ]
        found, expected = function(*moved, **options), function(*arguments, **options)
        # A tuple of arrays, or one.
        both = (
            zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
        )
        for one, other in both:
            np.testing.assert_allclose(np.asarray(one), other, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: map_decision([np.inf, 0.0]), "utility must be finite, or -inf"),
        (lambda: mbr_decision(U, np.eye(4)), "probs must be >= 0"),
        (lambda: mbr_decision([0.5, 0.4], np.eye(2)), "probs must sum to 1"),
        (lambda: mbr_decision([0.5, 0.5], np.eye(3)), "similarity must have trailing shape"),
        (
            lambda: mbr_decision([0.5, 0.5], np.eye(2), np.array([False, False])),
            "mask must leave a candidate",
        ),
        (
            lambda: length_normalised_utility(U, np.zeros(4), power=1.0),
            "length must be > 0, got 0.0 at index 0",
        ),
        (lambda: length_normalised_utility(U, np.ones(4), power=-1.0), "power must be"),
        (lambda: noisy_token_accuracy(0.0, 1.0, vocabulary_size=3), "noise_rate must lie in"),
        (lambda: noisy_token_accuracy(0.1, 1.0, vocabulary_size=1), "vocabulary_size must be"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
