"""Normal rewards of steps: values, what each form is, and errors."""

import numpy as np
import pytest
import torch

from prefsim.losses import GaussianRewards, gaussian_bradley_terry
from prefsim.losses.gaussian_rewards import entropy_hinge, log_odds_law
from prefsim.numerics import log_sigmoid
from prefsim.raters.logistic_normal import log_expected_sigmoid

MU = np.array([[0.2, 0.5, -0.1]]), np.array([[0.4, 0.1, 0.0]])
SIGMA = np.array([[0.3, 0.2, 0.1]]), np.array([[0.5, 0.4, 0.3]])
EVERY = np.ones((1, 3), dtype=bool)
# The second segment is preferred.
PAIR = GaussianRewards(MU[1], MU[0], np.log(SIGMA[1]), np.log(SIGMA[0]), EVERY, EVERY)


def parts(**weights):
    none = {"mean_weight": 0.0, "spread_weight": 0.0, "entropy_weight": 0.0}
    return float(gaussian_bradley_terry(PAIR, **(none | weights))[0])


def test_values_of_a_pair():
    mean, deviation = log_odds_law(PAIR)
    np.testing.assert_allclose([mean[0], deviation[0]], [-0.1, 0.8], atol=1e-12)
    assert parts(mean_weight=1.0) == pytest.approx(0.7443966601, abs=5e-11)
    assert parts(spread_weight=1.0) == pytest.approx(0.8188828583, abs=5e-11)
    assert parts(entropy_weight=1.0, entropy_floor=0.5) == pytest.approx(0.4407024135, abs=5e-11)
    whole = gaussian_bradley_terry(PAIR, mean_weight=0.5, spread_weight=2.0, entropy_weight=0.3)
    expected = 0.5 * 0.7443966601 + 2 * 0.8188828583 + 0.3 * 0.4407024135
    assert float(whole[0]) == pytest.approx(expected, abs=1e-9)


def test_deviations_do_not_add():
    assert log_odds_law(PAIR)[1][0] < np.concatenate(SIGMA).sum()


def test_the_marginal_form_is_the_likelihood_of_a_noisy_rater():
    found = gaussian_bradley_terry(PAIR, form="marginal", mean_weight=0.0, entropy_weight=0.0)
    np.testing.assert_allclose(found, -log_expected_sigmoid(-0.1, 0.8), atol=1e-12)


def test_draws_of_nothing_are_the_mean():
    still = PAIR._replace(chosen_noise=np.zeros((1, 4, 3)), rejected_noise=np.zeros((1, 4, 3)))
    options = {"mean_weight": 0.0, "entropy_weight": 0.0, "form": "sampled"}
    found = gaussian_bradley_terry(still, **options)
    np.testing.assert_allclose(found, -log_sigmoid(np.array([-0.1])), atol=1e-12)
    one = still._replace(chosen_noise=np.array([[[1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]]))
    one = one._replace(rejected_noise=np.zeros((1, 2, 3)))
    expected = -0.5 * (log_sigmoid(np.array([0.4])) + log_sigmoid(np.array([-0.4])))
    np.testing.assert_allclose(gaussian_bradley_terry(one, **options), expected, atol=1e-12)


def test_a_segment_without_a_step_has_no_reward():
    empty = PAIR._replace(rejected_mask=~EVERY)
    mean, deviation = log_odds_law(empty)
    np.testing.assert_allclose([mean[0], deviation[0]], [0.5, np.sqrt(0.5)], atol=1e-12)
    nothing = empty._replace(chosen_mask=~EVERY)
    moved = GaussianRewards(*(torch.tensor(each) for each in nothing[:6]))
    leaf = moved.chosen_log_deviation.requires_grad_()
    loss = gaussian_bradley_terry(moved)
    np.testing.assert_allclose(loss.detach(), 2 * np.log(2))
    loss.sum().backward()
    assert (leaf.grad == 0).all()


def test_deviations_of_any_size_give_finite_losses_and_gradients():
    for size in (-700.0, -40.0, 80.0, 200.0):
        moved = GaussianRewards(*(torch.tensor(each) for each in PAIR[:6]))
        leaf = torch.full((1, 3), size, dtype=torch.float64, requires_grad=True)
        for form in ("expected", "marginal"):
            loss = gaussian_bradley_terry(moved._replace(chosen_log_deviation=leaf), form=form)
            (slope,) = torch.autograd.grad(loss.sum(), leaf)
            assert loss.isfinite().all(), (size, form)
            assert slope.isfinite().all(), (size, form)


def test_the_hinge_ends_at_the_smallest_deviation():
    smallest = np.exp(0.5) / np.sqrt(2 * np.pi * np.e)
    found = entropy_hinge(np.log([smallest / 2, smallest * 1.0001]), floor=0.5)
    np.testing.assert_allclose(found, [np.log(2), 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("pair", "options", "message"),
    [
        (PAIR, {"form": "sampled"}, "chosen_noise is needed by this loss"),
        (
            PAIR._replace(chosen_noise=np.zeros((1, 3)), rejected_noise=np.zeros((1, 4, 3))),
            {"form": "sampled"},
            "chosen_noise must have shape",
        ),
        (
            PAIR._replace(chosen_noise=np.zeros((1, 2, 3)), rejected_noise=np.zeros((1, 4, 3))),
            {"form": "sampled"},
            "must have as many draws, got 2 and 4",
        ),
        (PAIR._replace(chosen=MU[0][:, :2]), {}, "arrays must have one shape"),
        (PAIR._replace(chosen=np.full((1, 3), np.nan)), {}, "chosen must hold no NaN"),
        (PAIR, {"form": "mean"}, "form must be one of"),
        (PAIR, {"spread_weight": -1.0}, "spread_weight must be a finite number >= 0"),
        (PAIR, {"entropy_floor": np.inf}, "entropy_floor must be a finite number"),
    ],
)
def test_what_does_not_fit_is_refused(pair, options, message):
    with pytest.raises(ValueError, match=message):
        gaussian_bradley_terry(pair, **options)


def test_masks_are_booleans():
    with pytest.raises(ValueError, match="chosen_mask must hold booleans"):
        log_odds_law(PAIR._replace(chosen_mask=np.ones((1, 3))))


def test_hinges_of_lists_and_of_nan():
    assert entropy_hinge([0.0, 1.0]).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="log_deviation must hold no NaN"):
        entropy_hinge(np.array([np.nan]))
