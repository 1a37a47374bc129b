"""What the Newton method for choices asks of its models, by definition."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.special import expit, log_expit

from prefsim.solvers.likelihood.compared_pairs import DensePairs, SparsePairs
from prefsim.solvers.likelihood.plackett_luce import _Stages

RNG = np.random.default_rng(0)
N = 7
# Two groups of items that never meet.
COUNTS = np.zeros((N, N))
COUNTS[:4, :4] = RNG.poisson(1.0, (4, 4)) * (1 - np.eye(4))
COUNTS[4:, 4:] = RNG.poisson(1.0, (3, 3)) * (1 - np.eye(3))
RANKINGS = [[0, 2, 1], [3, 1, -1], [2, 0, 3], [4, 6, 5], [5, 4, -1], [6, -1, -1]]
ORDER = np.asarray(RANKINGS)
MODELS = {
    "dense": (DensePairs(COUNTS, 0.1), np.argwhere(COUNTS + COUNTS.T > 0)),
    "sparse": (
        SparsePairs(csr_array(COUNTS), 0.1),
        np.argwhere(COUNTS + COUNTS.T > 0),
    ),
    "rankings": (
        _Stages(ORDER, np.maximum((ORDER >= 0).sum(axis=1) - 1, 0), np.ones(6), N, 0.1),
        [[item for item in row if item >= 0] for row in RANKINGS],
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(5))
def test_the_spread_is_the_largest_difference_inside_a_choice(name, seed):
    model, choices = MODELS[name]
    # The groups lie far apart, which is no difference inside a choice.
    direction = np.random.default_rng(seed).normal(size=N) + 50.0 * (np.arange(N) >= 4)
    expected = max(np.ptp(direction[choice]) for choice in choices)
    np.testing.assert_allclose(model.spread(direction), expected, rtol=1e-14)
    assert expected < 10


@pytest.mark.parametrize("name", ["dense", "sparse"])
@pytest.mark.parametrize("shift", [-295.0, 0.0, 1e3])
def test_rewards_as_far_apart_as_strengths_can_be_wherever_their_middle_is(name, shift):
    model, _ = MODELS[name]
    reward = np.where(np.arange(N) == 1, 590.0, np.random.default_rng(3).normal(size=N)) + shift
    upset = COUNTS * expit(reward[None, :] - reward[:, None])
    point = model.derivatives(reward)
    np.testing.assert_allclose(
        point.gradient, upset.sum(1) - upset.sum(0) - 0.1 * reward, rtol=1e-10, atol=1e-10
    )
    likelihood = np.sum(COUNTS * log_expit(reward[:, None] - reward[None, :]))
    np.testing.assert_allclose(model.log_likelihood(reward), likelihood, rtol=1e-11)


@pytest.mark.parametrize(
    ("model", "ridge"), [(DensePairs, 0.0), (SparsePairs, 0.0), (SparsePairs, 1.0)]
)
def test_what_is_solved_directly_is_the_system_of_the_products(model, ridge):
    counts = np.random.default_rng(4).poisson(2.0, (N, N)) * (1.0 - np.eye(N))
    reward, sought = np.random.default_rng(5).normal(size=(2, N))
    table = counts if model is DensePairs else csr_array(counts)
    point = model(table, ridge).derivatives(reward)
    # Rewards are of mean zero, whatever constant a solution of a singular system comes with.
    sought -= sought.mean()
    found = point.solve_directly(point.product(sought))
    np.testing.assert_allclose(found - found.mean(), sought, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_the_derivatives_are_those_of_the_log_likelihood(name):
    model, _ = MODELS[name]
    reward, step = np.random.default_rng(1).normal(size=N), 1e-5

    def penalised(at):
        return model.log_likelihood(at) - 0.05 * np.sum(at**2)

    point = model.derivatives(reward)
    gradient, diagonal, product = point.gradient, point.diagonal, point.product
    moved = [step * unit for unit in np.eye(N)]
    slopes = [(penalised(reward + m) - penalised(reward - m)) / (2 * step) for m in moved]
    np.testing.assert_allclose(gradient, slopes, atol=1e-8)
    curvature = np.stack([product(unit) for unit in np.eye(N)])
    np.testing.assert_allclose(np.diagonal(curvature), diagonal, rtol=1e-12)
    changes = [
        model.derivatives(reward - m).gradient - model.derivatives(reward + m).gradient
        for m in moved
    ]
    np.testing.assert_allclose(curvature, np.stack(changes) / (2 * step), atol=1e-8)
