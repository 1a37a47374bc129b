"""Curation: golden values, enumeration, very many candidates, tensors, and its bad inputs."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.gradients import gradient
from prefsim.numerics import log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers.closed_forms.curation import curated_law, curation_factor
from prefsim.testing.bandits import tables

P, R = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.0, 0.5, 1.0, 2.0])


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        (1, [1.0, 1.0, 1.0, 1.0]),
        (2, [0.81912712, 1.05396408, 1.28142832, 1.64065934]),
        (3, [0.74512678, 1.04771409, 1.3942744, 2.07962444]),
        (4, [0.70463038, 1.0350236, 1.44915145, 2.39610029]),
        (math.inf, [0.56439414, 0.93052862, 1.53418233, 4.17033994]),
    ],
)
def test_golden_factors(candidates, expected):
    found = curation_factor(R, np.log(P), candidates=candidates)
    np.testing.assert_allclose(found, expected, atol=5.1e-9)
    law = np.exp(curated_law(R, np.log(P), candidates=candidates))
    np.testing.assert_allclose(law, P * found, rtol=1e-12)


@given(
    tables((2, 4), low=-30.0, high=30.0),
    tables((2, 4), low=-3.0, high=3.0).map(log_softmax),
    st.integers(2, 4),
)
def test_against_enumeration(reward, log_policy, candidates):
    found = curation_factor(reward, log_policy, candidates=candidates)
    for row in range(2):
        weight, policy = np.exp(reward[row] - reward[row].max()), np.exp(log_policy[row])
        rivals = np.array(list(itertools.product(range(4), repeat=candidates - 1)))
        total = weight[:, None] + weight[rivals].sum(axis=-1)
        mean = (policy[rivals].prod(axis=-1) / total).sum(axis=-1)
        np.testing.assert_allclose(found[row], candidates * weight * mean, rtol=1e-11)


@pytest.mark.parametrize("candidates", [10, 1_000, 10_000])
def test_many_candidates(candidates):
    wide = np.array([-40.0, 0.0, -5.0, 3.0])
    found = curation_factor(wide, np.log(P), candidates=candidates)
    assert P @ found == pytest.approx(1.0, abs=1e-11)
    assert (np.diff(found[np.argsort(wide)]) > 0).all()
    assert (found <= candidates).all()
    limit = curation_factor(R, np.log(P), candidates=math.inf)
    distance = np.abs(curation_factor(R, np.log(P), candidates=candidates) - limit).max()
    assert distance < 20 / candidates


def test_responses_without_probability_and_shifts():
    law = np.array([0.5, 0.0, 0.5])
    with np.errstate(divide="ignore"):
        log_law = np.log(law)
    found = np.exp(curated_law([0.0, 9.0, 1.0], log_law, candidates=2))
    assert found[1] == 0
    share = 0.5 + np.tanh(0.5) / 4
    np.testing.assert_allclose(found[[0, 2]], [1 - share, share], atol=1e-12)
    moved = curation_factor(R + 500.0, np.log(P), candidates=3)
    np.testing.assert_allclose(moved, curation_factor(R, np.log(P), candidates=3), rtol=1e-11)


def test_tensors_policies_and_derivatives():
    found = curation_factor(torch.as_tensor(R), torch.log(torch.as_tensor(P)), candidates=4)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found, curation_factor(R, np.log(P), candidates=4), rtol=1e-12)
    policy = TabularPolicy.from_probs(P[None])
    np.testing.assert_allclose(curation_factor(R, policy, candidates=4)[0], found, rtol=1e-12)

    def second(reward):
        return curation_factor(reward, torch.log(torch.as_tensor(P)), candidates=4)[1]

    slope = gradient(second, R)
    step = 1e-6 * np.eye(4)
    rise = [
        curation_factor(R + s, np.log(P), candidates=4)[1]
        - curation_factor(R - s, np.log(P), candidates=4)[1]
        for s in step
    ]
    np.testing.assert_allclose(slope, np.array(rise) / 2e-6, atol=1e-8)


def test_of_no_rows_there_are_no_factors():
    assert curation_factor(np.zeros((0, 3)), np.log(np.full(3, 1 / 3)), candidates=4).shape == (
        0,
        3,
    )


def test_what_is_refused():
    with pytest.raises(ValueError, match="candidates must be"):
        curation_factor(R, np.log(P), candidates=0)
    with pytest.raises((TypeError, ValueError), match="candidates"):
        curation_factor(R, np.log(P), candidates=2.5)
    with pytest.raises(ValueError, match="reward must be finite"):
        curation_factor([np.inf, 0.0, 0.0, 0.0], np.log(P), candidates=2)
    with pytest.raises(ValueError, match="log_policy"):
        curated_law(R, np.log(P) + 0.1, candidates=2)
