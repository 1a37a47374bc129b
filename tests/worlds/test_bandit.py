"""Contextual bandits: defaults, batches, bad input."""

import numpy as np
import pytest
from scipy.special import expit

from prefsim.worlds import ContextualBandit


def test_defaults_are_uniform_contexts_and_bradley_terry():
    r = np.random.default_rng(0).standard_normal((3, 4))
    world = ContextualBandit(reward=r)
    np.testing.assert_allclose(world.context_probs, 1 / 3)
    np.testing.assert_allclose(world.preference[1, 2, 3], expit(r[1, 2] - r[1, 3]))
    assert (world.n_contexts, world.n_responses, world.batch_shape) == (3, 4, ())


def test_batches_and_features():
    world = ContextualBandit.random(2, 3, seed=0, batch_shape=(5,), n_features=2)
    assert (
        world.reward.shape == (5, 2, 3)
        and world.preference.shape == (5, 2, 3, 3)
        and world.batch_shape == (5,)
    )
    assert ContextualBandit(preference=np.full((2, 3, 3), 0.5)).n_responses == 3


def test_a_bandit_is_itself_alone_and_can_be_a_key():
    world, twin = ContextualBandit(reward=[[0.0, 1.0]]), ContextualBandit(reward=[[0.0, 1.0]])
    assert world == world and world != twin
    assert {world: "first", twin: "second"}[world] == "first"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a reward"),
        ({"reward": [1.0, 2.0]}, "at least 2 axes"),
        ({"reward": [[1.0, np.nan]]}, r"reward must be finite, got nan at index \(0, 1\)"),
        ({"reward": [[1.0, "x"]]}, "reward must be an array of numbers"),
        ({"reward": [[1.0], [2.0, 3.0]]}, "rectangular"),
        ({"reward": np.zeros((0, 3))}, "at least one context"),
        (
            {"reward": [[0.0, 1.0]], "context_probs": [0.5, 0.5]},
            "context_probs must have trailing shape",
        ),
        ({"reward": [[0.0], [1.0]], "context_probs": [0.7, 0.7]}, "context_probs must sum to 1"),
        ({"reward": [[0.0], [1.0]], "context_probs": [-0.5, 1.5]}, "context_probs must be >= 0"),
        ({"preference": [[[0.5, 0.7], [0.7, 0.5]]]}, r"P \+ Pᵀ = 1"),
        ({"preference": [[[0.5, 1.7], [-0.7, 0.5]]]}, r"must lie in \[0, 1\]"),
        (
            {"reward": [[0.0, 1.0]], "preference": np.full((1, 3, 3), 0.5)},
            "preference must have trailing shape",
        ),
        (
            {"reward": [[0.0, 1.0]], "features": np.zeros((1, 3, 2))},
            "features must have trailing shape",
        ),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        ContextualBandit(**options)
