"""Binary classifier optimisation: the optimum of one prompt, prompt weights and the small world."""

import numpy as np
import pytest

from paper_repros.direct.bco import claims
from paper_repros.direct.bco.thumbs import (
    World,
    excess_over_dpo,
    matching_gradients,
    prompt_classifier,
)
from prefsim import losses


def test_optimum_on_one_prompt():
    counts = np.asarray([30.0, 10, 5]), np.asarray([10.0, 10, 25])
    case = {"reference": np.asarray([0.2, 0.5, 0.3]), "beta": 0.5}
    probs, shift = claims.optimum(*counts, **case)
    np.testing.assert_allclose(probs, [0.77854671, 0.21626298, 0.00519031], atol=6e-9)
    assert shift == pytest.approx(-0.5 * np.log(0.2 * 9 + 0.5 + 0.3 / 25), rel=1e-14)
    log_probs, fitted_shift = claims.fitted_optimum(*counts, **case)
    np.testing.assert_allclose(np.exp(log_probs), probs, atol=1e-7)
    assert fitted_shift == pytest.approx(shift, abs=1e-7)


def test_the_unbalanced_classifier_inflates_by_three():
    law, rewards = np.full(6, 1 / 6), np.linspace(-1, 1, 6)
    weights = losses.density_ratio_weights(np.full(6, 300 / 400), high=100.0)
    np.testing.assert_allclose(weights, 3.0, rtol=1e-14)
    verdict = claims.weights_move_negatives_to_the_positives_prompts(
        law, law, rewards, share_of_positives=0.75, limits=(0.0, 1e9)
    )
    assert verdict.error < 1e-14


def test_prompt_classifier_finds_the_clusters():
    world = World.draw(0)
    up, down = np.asarray([[0] * 8 + [9] * 2]), np.asarray([[0] * 2 + [9] * 8])
    probs = prompt_classifier(world.embedding, up, down)[0]
    assert probs[0] == pytest.approx(0.8, abs=0.02)
    assert probs[9] == pytest.approx(0.2, abs=0.02)


def test_matching_gradients():
    found = matching_gradients(3)
    np.testing.assert_allclose(found["matched"], found["target"], atol=1e-10)
    assert np.abs(found["unmatched"] - found["target"]).max() > 1e-3


def test_equal_rewards_at_the_shift_exceed_dpo_by_log_two():
    rewards = np.asarray([[0.7, 0.7], [0.0, 0.0]])
    excess, stated = excess_over_dpo(rewards, rewards, rewards[:, :1])
    assert excess.keys() == {"bco_unpaired", "bco_pair", "bco"}
    np.testing.assert_allclose([*excess.values(), stated], np.log(2), rtol=1e-14)
    elsewhere, _ = excess_over_dpo(rewards, rewards, np.ones((2, 1)))
    assert "bco" not in elsewhere
    assert (elsewhere["bco_pair"] > np.log(2) + 0.01).all()
