"""The best log-linear policy: closed forms, another search, and the regression it is."""

import numpy as np
import pytest
from scipy.optimize import minimize

from prefsim.analysis import regularised_value
from prefsim.solvers import ConvergenceWarning, optimal_policy
from prefsim.solvers.optimisers.log_linear_optimum import log_linear_optimum
from prefsim.worlds import ContextualBandit

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(5, 3, 4, 2))
REWARD = RNG.normal(size=(5, 3, 4))
REFERENCE = np.log(RNG.dirichlet(np.ones(4), size=3))
SHARES = np.array([0.5, 0.3, 0.2])


def test_a_reward_of_the_class_is_followed_whatever_is_asked():
    weights = RNG.normal(size=(5, 2))
    reward = np.einsum("sxyd,sd->sxy", FEATURES, weights) + RNG.normal(size=(5, 3, 1))
    exact = optimal_policy(reward, np.exp(REFERENCE), beta=0.4)
    for shares in (None, SHARES, [1.0, 0.0, 0.0]):
        found = log_linear_optimum(reward, FEATURES, REFERENCE, beta=0.4, context_probs=shares)
        np.testing.assert_allclose(found.weights, weights / 0.4, atol=1e-7)
        np.testing.assert_allclose(np.exp(found.log_policy), exact, atol=1e-8)


def test_another_reward_is_followed_as_a_search_finds():
    found = log_linear_optimum(REWARD, FEATURES, REFERENCE, beta=0.7, context_probs=SHARES)
    for s in range(5):
        world = ContextualBandit(reward=REWARD[s], context_probs=SHARES)

        def cost(theta, s=s, world=world):
            tilted = REFERENCE + FEATURES[s] @ theta
            logs = tilted - np.log(np.exp(tilted).sum(axis=-1, keepdims=True))
            return -float(regularised_value(logs, REFERENCE, world, beta=0.7))

        searched = minimize(cost, np.zeros(2), method="Nelder-Mead", options={"fatol": 1e-13})
        assert found.value[s] == pytest.approx(-searched.fun, abs=1e-8)
        assert -cost(found.weights[s]) == pytest.approx(found.value[s], abs=1e-12)
    assert found.grad_norm.max() <= 1e-9
    assert not np.allclose(optimal_policy(REWARD, np.exp(REFERENCE), beta=0.7), found.log_policy)


def test_one_problem_is_as_many():
    alone = log_linear_optimum(REWARD[1], FEATURES[1], REFERENCE, beta=0.7)
    assert alone.weights.shape == (2,) and alone.log_policy.shape == (3, 4)
    together = log_linear_optimum(REWARD, FEATURES, REFERENCE, beta=0.7)
    np.testing.assert_allclose(alone.log_policy, together.log_policy[1], atol=1e-8)
    shared = log_linear_optimum(REWARD[:2], FEATURES[1], REFERENCE, beta=0.7)
    np.testing.assert_allclose(shared.log_policy[1], together.log_policy[1], atol=1e-8)


def test_a_few_steps_of_newton_end_at_rounding():
    """As only the true curvature lets them."""
    weights = RNG.normal(size=(5, 2))
    reward = np.einsum("sxyd,sd->sxy", FEATURES, weights) + 0.1 * REWARD
    found = log_linear_optimum(reward, FEATURES, REFERENCE, beta=1.0, max_iterations=9)
    assert found.grad_norm.max() < 1e-14


def test_what_is_not_finished_is_said():
    with pytest.warns(ConvergenceWarning, match="more than the tolerance"):
        log_linear_optimum(REWARD, FEATURES, REFERENCE, beta=0.1, max_iterations=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 0.0}, "beta must be"),
        ({"reward": REWARD[..., :3]}, "features must have trailing shape"),
        ({"ref_log_probs": REFERENCE[:2]}, "ref_log_probs must have trailing shape"),
        ({"ref_log_probs": np.exp(REFERENCE)}, "ref_log_probs"),
        ({"reward": REWARD * np.nan}, "reward must"),
        ({"reward": REWARD[:2]}, "reward"),
        ({"context_probs": [0.5, 0.5]}, "context_probs must"),
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"max_iterations": 0}, "max_iterations must be"),
    ],
)
def test_bad_input(changes, message):
    given = {"reward": REWARD, "features": FEATURES, "ref_log_probs": REFERENCE, "beta": 0.5}
    with pytest.raises(ValueError, match=message):
        log_linear_optimum(**given | changes)
