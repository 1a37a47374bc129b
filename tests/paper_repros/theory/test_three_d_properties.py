"""arXiv:2406.07327: gradients of a pair, rates on a table, and the network of four prompts."""

import functools

import numpy as np
import pytest
import torch

from paper_repros.theory.three_d_properties.toy import (
    CHOSEN,
    METHODS,
    REJECTED,
    RESPONSES,
    SCENARIOS,
    ascent,
    backward,
    descend_table,
    drawn_network,
    fitted,
    forward,
    logps_of,
    rates,
    targets,
    trained,
)
from prefsim import losses
from prefsim.analysis import pair_derivatives
from prefsim.gradients import gradient, loss_gradient
from prefsim.losses import PairLogps, PairRewards
from prefsim.numerics import log_softmax

FIRST, SECOND = np.array([0]), np.array([1])


def by_probability(loss, chosen, rejected, ref_chosen, ref_rejected):
    """Return a loss and its derivatives in both probabilities."""
    logps = PairLogps(*(np.log([p]) for p in (chosen, rejected, ref_chosen, ref_rejected)))
    slopes = pair_derivatives(loss, logps)
    value = float(np.asarray(loss(logps))[0])
    return value, -slopes.chosen[0] / chosen, slopes.rejected[0] / rejected


@pytest.mark.parametrize(
    ("rejected", "value", "in_chosen", "in_rejected"),
    [
        (0.3, 0.6931471806, -0.125, 0.1666666667),
        (0.03, 0.5846307094, -0.1106720916, 1.4756278875),
        (0.003, 0.4891671703, -0.0967157950, 12.8954393282),
        (1e-6, 0.2494558795, -0.0551938350, 22077.5340159),
    ],
)
def test_dpo_in_probabilities(rejected, value, in_chosen, in_rejected):
    loss = functools.partial(losses.dpo, beta=0.1)
    found = by_probability(loss, 0.4, rejected, 0.4, 0.3)
    assert found == pytest.approx((value, in_chosen, in_rejected), rel=1e-9)


@pytest.mark.parametrize(
    ("strength", "value", "in_chosen", "in_rejected"),
    [
        (0.02, 0.6822214039, -0.1236267899, 0.0989014319),
        (0.08, 0.6501679376, -0.1195104717, 0.3824335096),
    ],
)
def test_flex_dpo_in_probabilities(strength, value, in_chosen, in_rejected):
    loss = functools.partial(losses.flex_dpo, beta=0.1, beta_rejected=strength)
    found = by_probability(loss, 0.4, 0.1, 0.4, 0.3)
    assert found == pytest.approx((value, in_chosen, in_rejected), rel=1e-9)


@pytest.mark.parametrize(
    ("strength", "known"),
    [
        (0.1, (0.0330793599, -0.0614330969, -0.0141768685, -0.0141768685)),
        (0.02, (0.0267033866, -0.0207693007, -0.0187912721, -0.0148352148)),
    ],
)
def test_rates_of_all_log_probabilities(strength, known):
    log_probs = np.log([[0.4, 0.1, 0.3, 0.2]])
    reference = np.log([[0.4, 0.3, 0.2, 0.1]])
    loss = functools.partial(losses.flex_dpo, beta=0.1, beta_rejected=strength)
    slopes = pair_derivatives(loss, logps_of(log_probs, reference, FIRST, SECOND))
    found = rates(log_probs, ascent(log_probs, slopes, FIRST, SECOND))
    np.testing.assert_allclose(found[0], known, atol=5e-11)


def test_a_reward_model():
    pair = PairRewards(np.array([0.7]), np.array([0.0]))
    assert losses.bradley_terry(pair)[0] == pytest.approx(0.4031860489, abs=1e-10)
    slopes = loss_gradient(losses.bradley_terry, pair)
    assert slopes.chosen[0] == pytest.approx(-0.3318122278, abs=1e-10)


def test_a_table_in_the_paper_like_start():
    start = np.log([[0.015, 0.591, *np.full(8, 0.394 / 8)]])
    path = np.exp(np.array(list(descend_table(start, METHODS["DPO"], rate=0.5, steps=1000))))[:, 0]
    assert path[100, 2:].sum() == pytest.approx(0.661, abs=1e-3)
    assert path[1000, 2:].sum() < 1e-3


def test_targets_of_the_scenarios():
    laws = targets()
    assert laws.shape == (len(SCENARIOS), 4, RESPONSES)
    chosen, rejected = laws[:, 1, CHOSEN[1]], laws[:, 1, REJECTED[1]]
    np.testing.assert_allclose(chosen, [0.375, 0.591, 0.015, 0.035], atol=5e-4)
    np.testing.assert_allclose(rejected, [0.375, 0.015, 0.591, 0.035], atol=5e-4)


def test_the_gradient_of_a_network():
    parameters = np.stack([drawn_network(seed) for seed in (0, 1)])
    slopes = np.random.default_rng(0).normal(size=(2, 4, RESPONSES))

    def value(flat):
        sizes = [4 * 32, 32, 32 * 32, 32, 32 * 10, 10]
        w1, b1, w2, b2, w3, b3 = torch.split(flat, sizes, dim=-1)
        hidden = torch.relu(w1.reshape(2, 4, 32) + b1[:, None])
        hidden = torch.relu(hidden @ w2.reshape(2, 32, 32) + b2[:, None])
        logits = hidden @ w3.reshape(2, 32, 10) + b3[:, None]
        return (logits * logits.new_tensor(slopes)).sum((-2, -1))

    found = backward(parameters, forward(parameters), slopes)
    np.testing.assert_allclose(found, gradient(value, parameters), atol=1e-13)
    assert parameters.shape == (2, 1546)


def test_training_descends_the_mean_loss_from_the_target():
    networks = fitted(range(1))
    laws = np.exp(log_softmax(forward(networks).logits))
    np.testing.assert_allclose(laws[:, 0], targets(), atol=2e-3)
    path = trained(networks, METHODS["DPO"], 100)
    assert path.chosen.shape == (101, len(SCENARIOS), 1)
    np.testing.assert_allclose(path.chosen[0, :, 0], [0.375, 0.591, 0.015, 0.035], atol=2e-3)
    np.testing.assert_allclose(path.chosen + path.rejected + path.unseen, 1.0, atol=1e-12)
    assert path.rejected[100, 3, 0] < 1e-6
    assert path.unseen[100, 2, 0] > path.unseen[0, 2, 0]
