"""The optimistic reward against exact corners, a grid, golden values, and its bad inputs."""

import itertools

import numpy as np
import pytest

from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import ConvergenceWarning, calibrated_reward, calibrated_value
from prefsim.solvers.games.optimism import optimistic_reward
from prefsim.solvers.games.pessimism import PessimisticGame, reward_misfit

COUNTS = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
REFERENCE = np.array([[0.5, 0.3, 0.2]])


def game(eta, bound, counts=COUNTS, beta=0.5):
    first, second = np.nonzero(counts)
    data = Comparisons(0 * first, first, second, weight=counts[first, second])
    reference = TabularPolicy.from_probs(REFERENCE)
    return PessimisticGame(data, reference, REFERENCE, beta=beta, eta=eta, bound=bound)


def test_golden_stationary_point():
    # Computed with forty digits.
    found = optimistic_reward(game(0.7, 2.0))
    expected = [[0.4828710942, 0.4221955408, 0.0949333650]]
    np.testing.assert_allclose(np.exp(found.log_policy), expected, atol=2e-9)
    reward = calibrated_reward(found.log_policy, np.log(REFERENCE), REFERENCE, beta=0.5)
    np.testing.assert_allclose(reward, [[0.0145467079, 0.2028189403, -0.3405951802]], atol=2e-9)
    assert found.value == pytest.approx(6.1026994622, abs=1e-9)
    assert found.converged


def test_without_optimism_it_is_maximum_likelihood():
    played = game(0.0, 2.0)
    np.testing.assert_allclose(
        np.exp(optimistic_reward(played).log_policy), np.exp(played.solve().log_policy), atol=1e-9
    )


@pytest.mark.parametrize("eta", [0.3, 2.0, 20.0])
def test_no_point_of_a_grid_is_better(eta):
    played = game(eta, 1.0)
    grid = np.array(list(itertools.product(np.linspace(-1, 1, 41), repeat=3)))[:, None, :]
    promised = eta * calibrated_value(grid, np.log(REFERENCE), REFERENCE, beta=0.5)
    values = (reward_misfit(grid, played.wins) - promised).sum(axis=-1)
    found = optimistic_reward(played)
    assert found.value <= values.min() + 1e-12
    # The grid's best is near, so that the comparison is one.
    assert found.value >= values.min() - 0.02 * (1 + eta)


def test_contexts_and_games_are_independent():
    counts = np.stack([COUNTS, COUNTS.T, 3 * COUNTS])
    where = np.argwhere(counts > 0)
    prompt, first, second = where.T
    weight = counts[tuple(where.T)]
    data = Comparisons(prompt, first, second, weight=np.stack([weight, 2 * weight]))
    reference = TabularPolicy.from_probs(np.repeat(REFERENCE, 3, axis=0))
    eta = np.array([0.9, 3.0])
    many = PessimisticGame(data, reference, reference.probs, beta=0.5, eta=eta, bound=1.5)
    found = optimistic_reward(many)
    assert found.reward.shape == (2, 3, 3)
    for batch, context in itertools.product(range(2), range(3)):
        # A context has a third of the weight of the value.
        alone = game(eta[batch] / 3, 1.5, counts[context] * (batch + 1))
        np.testing.assert_allclose(
            found.log_policy[batch, context], optimistic_reward(alone).log_policy[0], atol=1e-8
        )


def test_starts_are_used_and_moved_into_the_box():
    played = game(20.0, 1.0)
    corner = np.array([[[5.0, -5.0, -5.0]]])
    found = optimistic_reward(played, starts=corner)
    np.testing.assert_allclose(found.reward, [[1.0, -1.0, -1.0]])
    assert found.value > optimistic_reward(played).value


def test_what_is_refused():
    with pytest.raises(ValueError, match="game must have a finite bound"):
        optimistic_reward(game(0.5, np.inf))
    with pytest.raises(ValueError, match="starts must have an axis of starts"):
        optimistic_reward(game(0.5, 1.0), starts=np.zeros((1, 3)))
    with pytest.raises(ValueError, match="starts"):
        optimistic_reward(game(0.5, 1.0), starts=np.zeros((2, 1, 4)))
    with pytest.raises(ValueError, match="tolerance"):
        optimistic_reward(game(0.5, 1.0), tolerance=0.0)


def test_too_few_steps_are_said():
    with pytest.warns(ConvergenceWarning, match="optimistic_reward ended"):
        found = optimistic_reward(game(0.7, 2.0), max_iterations=1)
    assert not found.converged
