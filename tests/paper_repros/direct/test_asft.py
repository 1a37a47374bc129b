"""arXiv:2409.10571: losses and gradients, trajectories of a shared feature, tabular minimiser."""

import functools

import numpy as np
import pytest

from paper_repros.direct.asft.claims import fitted_policy, kkt_policy
from paper_repros.direct.asft.likelihoods import (
    ASFT,
    DPO,
    ORPO,
    SHARED_FEATURE,
    WEAK_ASFT,
    one_token_pairs,
    prob_gradients,
    trajectory,
)
from prefsim import losses

PAIR = one_token_pairs(0.4, 0.1, 0.3, 0.2)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (functools.partial(losses.asft, lambda_=1.0, sft_weight=0.0), 1.0216512475319814),
        (losses.asft, 1.937941979406136),
        (functools.partial(losses.asft, lambda_=0.1), 1.0184558566273532),
        (functools.partial(losses.orpo, lambda_=0.1), 0.9317057998568808),
    ],
)
def test_values_of_the_losses(loss, value):
    assert loss(PAIR)[0] == pytest.approx(value, rel=1e-15)


def test_the_odds_ratio_term():
    odds_ratio = losses.orpo(PAIR, lambda_=1.0) - losses.sft(PAIR)
    assert odds_ratio[0] == pytest.approx(0.15415067982725833, abs=1e-15)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (functools.partial(losses.dpo, beta=0.1), (-0.11887473, 0.47549891)),
        (losses.asft, (-5.0, 1 / 0.9)),
        (lambda logps: losses.orpo(logps, lambda_=1.0) + logps.chosen, (-0.59523810, 1.58730159)),
    ],
)
def test_gradients_in_the_probabilities(loss, expected):
    np.testing.assert_allclose(np.ravel(prob_gradients(loss, PAIR)), expected, atol=6e-9)


def test_the_scale_of_the_log_odds():
    odds = np.log([0.4 / 0.6, 0.1 / 0.9])
    expected = -np.log(0.4) + 0.5 * (np.log1p(np.exp(-2 * odds[0])) + np.log1p(np.exp(2 * odds[1])))
    assert losses.asft(PAIR, lambda_=0.5, beta=2.0)[0] == pytest.approx(expected, rel=1e-14)
    near = losses.asft(PAIR, beta=1 + 1e-12)[0]
    assert near == pytest.approx(losses.asft(PAIR, beta=1.0)[0], rel=1e-11)


def test_likelihoods_are_means_over_tokens():
    logps = PAIR._replace(
        chosen=4 * PAIR.chosen,
        rejected=9 * PAIR.rejected,
        chosen_length=np.full(1, 4.0),
        rejected_length=np.full(1, 9.0),
    )
    assert losses.asft(logps)[0] == pytest.approx(losses.asft(PAIR)[0], rel=1e-14)


def test_the_tabular_minimiser():
    frequencies = np.asarray([0.5, 0.3, 0.2]), np.asarray([0.1, 0.3, 0.6])
    probs, multiplier = kkt_policy(*frequencies, 0.1)
    np.testing.assert_allclose(probs, [0.50792631, 0.29856644, 0.19350725], atol=6e-9)
    assert multiplier == pytest.approx(1.0625121, abs=6e-8)
    np.testing.assert_allclose(fitted_policy(*frequencies, 0.1), probs, atol=1e-10)


def test_dpo_trajectory_against_the_scalar_recursion():
    theta, phi = 0.0, SHARED_FEATURE[:, 0]
    for _ in range(100):
        theta += 0.1 * 0.1 * (phi[0] - phi[1]) / (1 + np.exp(0.1 * theta * (phi[0] - phi[1])))
    expected = np.exp(theta * phi) / np.exp(theta * phi).sum()
    path = trajectory(SHARED_FEATURE, DPO, 100)
    np.testing.assert_allclose(path[-1], expected, atol=1e-12)
    assert path[-1, 0] == pytest.approx(0.2834, abs=1e-4)


@pytest.mark.parametrize(("method", "end"), [(ORPO, 0.3765), (WEAK_ASFT, 0.3769), (ASFT, 0.3628)])
def test_ends_of_the_trajectories(method, end):
    chosen = trajectory(SHARED_FEATURE, method, 100)[:, 0]
    assert chosen[-1] == pytest.approx(end, abs=1e-4)
    assert chosen.min() == chosen[0]
