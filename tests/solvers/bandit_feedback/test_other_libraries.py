"""Layers, estimates and inverses in every array library: the same numbers, and its own arrays."""

import functools

import array_api_strict
import numpy as np
import pytest
import torch

from prefsim.solvers.bandit_feedback import bonuses, covariance, estimates
from prefsim.solvers.online_learning import log_barrier
from prefsim.solvers.planning import layered
from prefsim.worlds import LinearMDP

RNG = np.random.default_rng(0)
PROCESS = LinearMDP.random(2, 2, 2, 3, seed=0)
MOVES, EVENLY, COSTS = (
    np.asarray(PROCESS.transitions),
    np.full((2, 2, 2), 0.5),
    RNG.random((2, 2, 2)),
)
FEATURES, LAW = np.asarray(PROCESS.pair_features), RNG.dirichlet(np.ones(4), 2)
COVARIANCE = covariance.feature_covariance(FEATURES, LAW)
WEIGHTS = RNG.standard_normal((2, 4, 4))
PLAYED, LOSS = np.array([0, 3]), np.array([0.5, 1.5])
CASES = {
    "values": (layered.layered_values, (MOVES, COSTS, EVENLY)),
    "occupancy": (layered.layered_occupancy, (MOVES, EVENLY, np.array([0.25, 0.75]))),
    "optimum": (layered.layered_optimum, (MOVES, COSTS)),
    "linear": (layered.linear_q_residual, (MOVES, COSTS, PROCESS.features, EVENLY)),
    "barrier step": (functools.partial(log_barrier.log_barrier_step, step=0.5), (COSTS,)),
    "barrier": (log_barrier.log_barrier, (EVENLY,)),
    "covariance": (covariance.feature_covariance, (FEATURES, LAW)),
    "inverse": (functools.partial(covariance.regularised_inverse, gamma=0.1), (COVARIANCE,)),
    "resampled": (
        functools.partial(covariance.resampled_inverse, gamma=0.1, scale=0.5),
        (RNG.random((2, 3, 2)),),
    ),
    "expected resampled": (
        functools.partial(covariance.expected_resampled_inverse, gamma=0.1, scale=0.5, length=3),
        (COVARIANCE,),
    ),
    "empirical": (functools.partial(covariance.empirical_inverse, gamma=0.1), (FEATURES, LAW)),
    "spectrum": (
        functools.partial(covariance.relative_spectrum, gamma=0.1),
        (COVARIANCE, COVARIANCE),
    ),
    "weights": (estimates.estimate_weights, (FEATURES, COVARIANCE)),
    "standard": (estimates.standard_estimate, (WEIGHTS, PLAYED, LOSS)),
    "reduced": (
        functools.partial(estimates.reduced_estimate, bound=2.0),
        (WEIGHTS, LAW, PLAYED, LOSS),
    ),
    "negative part": (estimates.expected_negative_part, (WEIGHTS, LAW)),
    "magnitude": (estimates.magnitude_reduced, (WEIGHTS[0], LAW[0])),
    "moments": (estimates.estimate_moments, (WEIGHTS, LAW)),
    "bonus": (functools.partial(bonuses.exploration_bonus, strength=0.1), (WEIGHTS, EVENLY)),
    "dilated": (bonuses.dilated_bonus, (MOVES, COSTS, EVENLY)),
}


@pytest.mark.parametrize("library", [torch.asarray, array_api_strict.asarray])
@pytest.mark.parametrize("name", CASES)
def test_every_library_has_the_same_numbers(name, library):
    function, arrays = CASES[name]
    given = [library(np.array(each)) for each in arrays]
    expected, found = function(*arrays), function(*given)
    if not isinstance(expected, tuple):
        expected, found = (expected,), (found,)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, bool) or type(one) is type(given[0])
        np.testing.assert_allclose(np.asarray(one), other, atol=1e-12)
