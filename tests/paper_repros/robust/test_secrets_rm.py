"""arXiv:2401.06080: optima with margins, doubted labels, looking ahead, and people's pairs."""

import math

import numpy as np
import pytest
import torch

from paper_repros.robust.secrets_rm.added_terms import (
    Shifted,
    Small,
    Task,
    contrast,
    look_ahead,
    missed_by_terms,
)
from paper_repros.robust.secrets_rm.doubted_labels import (
    LOOSE_RIDGE,
    RECIPES,
    accuracy,
    best_margin,
    best_with_margin_of_both,
    held_out_strength,
    human_features,
    human_pairs,
    labelled,
    linear_pairs,
    missed_by_labels,
    own_strength,
    relabelled,
    study,
    wide_pairs,
    wrong_share,
)
from prefsim.gradients import gradient
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward
from prefsim.solvers.look_ahead import reward_difference


def test_the_margin_of_both_orders():
    assert best_with_margin_of_both(0.7, 0.4) == pytest.approx(1.0357833, abs=5e-8)
    assert best_margin(0.7, margins=(0.4, 0.4)) == pytest.approx(1.0357833, abs=5e-8)
    assert best_with_margin_of_both(0.3, 0.4) == -best_with_margin_of_both(0.7, 0.4)
    assert best_with_margin_of_both(0.7, 0.0) == pytest.approx(math.log(7 / 3), rel=1e-14)
    assert best_with_margin_of_both(0.5, 2.0) == pytest.approx(0.0, abs=1e-15)


def test_labels_follow_the_logistic_law_and_are_flipped():
    rng = np.random.default_rng(0)
    first = np.mean(labelled(np.full(40_000, 1.0), 0.25, rng) > 0)
    clean = 1 / (1 + math.exp(-1.0))
    assert first == pytest.approx(0.75 * clean + 0.25 * (1 - clean), abs=0.01)


def test_worlds_are_ordered_by_one_direction():
    pairs = linear_pairs(0)
    assert pairs.train.shape == (600, 8)
    # The pairs that are said to be right, and the test pairs, have one reward that orders them all.
    right = np.where(pairs.wrong, -1.0, 1.0)[:, None] * pairs.train
    weights = fit_linear_reward(np.concatenate([right, pairs.test]), ridge=1e-6).weights
    assert (right @ weights > 0).mean() > 0.99
    assert accuracy(weights, pairs) > 0.99
    assert accuracy(0 * weights, pairs) == 0.5
    # What it says of a quarter flipped: about three in eight where all odds are even.
    assert 0.25 < pairs.wrong.mean() < 0.42


def test_an_ensemble_finds_what_a_memorising_model_does_not():
    pairs = wide_pairs(1)
    held_out = held_out_strength(pairs, np.random.default_rng(0), ridge=LOOSE_RIDGE)
    own = own_strength(pairs)
    assert (own > 0).mean() > 0.9
    assert (held_out > 0).mean() < 0.75
    assert wrong_share(pairs, held_out) > wrong_share(pairs, own) > pairs.wrong.mean()


def test_a_study_of_one_world():
    found = study(linear_pairs(3), np.random.default_rng(0))
    assert set(found.treated) == set(RECIPES)
    assert found.deciles[0] < 0.2 < 0.8 < found.deciles[-1]
    assert found.gain("margin") == pytest.approx(0.0, abs=0.02)
    assert found.gain("flip") == found.treated["flip"] - found.plain


@pytest.mark.parametrize("seed", range(2))
def test_definitions(seed):
    rng = np.random.default_rng(seed)
    for missed in (*missed_by_labels(rng).values(), *missed_by_terms(rng).values()):
        np.testing.assert_allclose(missed, 0, atol=1e-9)


def test_the_small_world_is_what_torch_differentiates():
    rng = np.random.default_rng(0)
    world, theta = Small(rng.standard_normal((5, 3)), rng.standard_normal((4, 3))), rng.random(3)
    responses = torch.tensor(world.responses)
    expected = gradient(lambda at: reward_difference(responses @ at), theta)
    np.testing.assert_allclose(world.difference_gradient(theta), expected, atol=1e-14)
    v, step = rng.random(3), 1e-5
    ahead, behind = (world.difference_gradient(theta + s * v) for s in (step, -step))
    found = world.difference_hessian(theta, v)
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), atol=1e-9)
    pairs = torch.tensor(world.pairs)
    expected = gradient(lambda at: -torch.nn.functional.logsigmoid(pairs @ at).mean(), theta)
    np.testing.assert_allclose(world.loss_gradient(theta), expected, atol=1e-14)


def test_looking_ahead_in_worlds_that_have_shifted():
    world = Shifted.draw(range(2), n=50, prompts=4)
    theta = torch.ones(2, 8, dtype=torch.float64)
    by_hand = reward_difference(world.responses[1] @ theta[1]).mean()
    assert float(world.difference(theta)[1]) == pytest.approx(float(by_hand), rel=1e-14)
    plain, ahead = (look_ahead(world, ahead=eta, steps=40) for eta in (0.0, 4.0))
    both = look_ahead(world, ahead=4.0, steps=40, order=2)
    assert (ahead.difference < plain.difference).all()
    assert (both.difference < plain.difference).all()
    assert (plain.loss < ahead.loss).all()


def test_a_contrastive_term_spreads_representations():
    task = Task.draw(range(2), n=32, tested=300)
    plain, simple, swapped = (
        contrast(task, term, 0.5, steps=20, seed=0) for term in (None, "SimCSE", "SwAV")
    )
    assert (simple.uniformity < plain.uniformity).all()
    assert (swapped.uniformity != plain.uniformity).all()
    assert (plain.accuracy > 0.5).all()


def test_people(real_data, tmp_path):
    assert human_features(tmp_path) is None
    features = human_features(real_data)
    assert features.shape == (2307, 8)
    rng = np.random.default_rng(0)
    pairs = human_pairs(features, rng)
    assert (len(pairs.train), len(pairs.test)) == (1538, 769)
    drawn = relabelled(pairs, rng)
    np.testing.assert_array_equal(np.abs(drawn.train), np.abs(pairs.train))
    turned = (drawn.train != pairs.train).any(axis=1).mean()
    assert 0.3 < turned < 0.55
