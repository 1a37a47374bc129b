"""Contrastive terms on two views: SimCSE, Sinkhorn codes and the swapped prediction."""

import numpy as np
import pytest
import torch

from prefsim.losses.paired_views import simcse, sinkhorn_codes, swapped_prediction
from prefsim.numerics import categorical_entropy, log_softmax, softmax

RNG = np.random.default_rng(0)
SECOND = np.array([[0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
FIRST_VIEW, OTHER_VIEW = RNG.standard_normal((2, 6, 4))
SCORES = np.tanh(RNG.standard_normal((2, 9, 4)))


def test_simcse_of_three_responses():
    found = simcse(np.eye(3), SECOND, temperature=0.5)
    np.testing.assert_allclose(found, [0.62712306, 0.46037255, 0.33917788], atol=5e-9)
    assert found.mean() == pytest.approx(0.47555783177295763, rel=1e-14)


def test_simcse_is_the_cross_entropy_of_cosines():
    lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (FIRST_VIEW, OTHER_VIEW)]
    cosine = (FIRST_VIEW / lengths[0]) @ (OTHER_VIEW / lengths[1]).T
    expected = -np.diagonal(log_softmax(cosine / 0.3))
    np.testing.assert_allclose(simcse(FIRST_VIEW, OTHER_VIEW, temperature=0.3), expected)
    scaled = simcse(3 * FIRST_VIEW, 0.2 * OTHER_VIEW, temperature=0.3)
    np.testing.assert_allclose(scaled, expected, rtol=1e-12)
    both = simcse(np.stack([FIRST_VIEW, OTHER_VIEW]), np.stack([OTHER_VIEW, FIRST_VIEW]))
    np.testing.assert_allclose(both[0], simcse(FIRST_VIEW, OTHER_VIEW), rtol=1e-14)
    np.testing.assert_allclose(both[1], simcse(OTHER_VIEW, FIRST_VIEW), rtol=1e-14)


def test_simcse_has_a_derivative_in_torch():
    leaves = [torch.tensor(x, requires_grad=True) for x in (FIRST_VIEW, OTHER_VIEW)]
    assert torch.autograd.gradcheck(lambda *h: simcse(*h, temperature=0.5), leaves)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_codes_use_all_prototypes_equally(temperature):
    codes = sinkhorn_codes(SCORES, temperature=temperature, iterations=3000)
    np.testing.assert_allclose(codes.sum(axis=-1), 1.0, atol=1e-12)
    np.testing.assert_allclose(codes.sum(axis=-2), 9 / 4, atol=1e-9)
    # Optimal: log Q − S/ε is a sum of a number for each row and one for each column.
    left = np.log(codes) - SCORES / temperature
    left -= left.mean(axis=-1, keepdims=True)
    left -= left.mean(axis=-2, keepdims=True)
    np.testing.assert_allclose(left, 0, atol=1e-9)


def test_codes_after_few_iterations_are_distributions_that_no_score_overflows():
    codes = sinkhorn_codes(1e4 * SCORES[0], iterations=1)
    np.testing.assert_allclose(codes.sum(axis=-1), 1.0, atol=1e-12)
    # By hand: over the representations first, then over the prototypes.
    kernel = np.exp(SCORES[0] / 0.5)
    kernel /= kernel.sum(axis=0)
    expected = kernel / kernel.sum(axis=1, keepdims=True)
    found = sinkhorn_codes(SCORES[0], temperature=0.5, iterations=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert sinkhorn_codes(torch.tensor(SCORES[0]).float()).dtype == torch.float32


def test_the_swapped_prediction_is_least_where_it_is_the_code():
    logits = np.log(softmax(SCORES))
    codes = [softmax(view) for view in SCORES]
    # Each view predicts the code of the other.
    value = swapped_prediction(
        logits[1], logits[0], temperature=1.0, first_codes=codes[0], second_codes=codes[1]
    )
    entropies = sum(categorical_entropy(view) for view in logits)
    np.testing.assert_allclose(value, entropies, rtol=1e-12)
    other = swapped_prediction(*SCORES, first_codes=codes[0], second_codes=codes[1])
    assert (other > entropies).all()


def test_codes_are_constants_of_differentiation():
    first, second = (torch.tensor(view, requires_grad=True) for view in SCORES)
    value = swapped_prediction(first, second, temperature=0.5)
    (slope,) = torch.autograd.grad(value.sum(), first)
    expected = 2 * (softmax(SCORES[0] / 0.5) - sinkhorn_codes(SCORES[1]))
    np.testing.assert_allclose(slope, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simcse(np.eye(3), np.eye(2)), "one shape, got first"),
        (lambda: simcse(np.zeros((2, 2)), np.eye(2)), "length of first must be > 0"),
        (lambda: simcse(np.eye(2), np.eye(2), temperature=0), "temperature must"),
        (lambda: sinkhorn_codes(SCORES, iterations=0), "iterations must"),
        (lambda: sinkhorn_codes(SCORES, temperature=0.0), "temperature must"),
        (lambda: sinkhorn_codes(SCORES / 0), "scores must be finite"),
        (lambda: sinkhorn_codes(SCORES[0, 0]), "scores must have"),
        (
            lambda: swapped_prediction(*SCORES, first_codes=SCORES[0] ** 2),
            "sum of a row of first_codes must be 1",
        ),
        (lambda: swapped_prediction(*SCORES, second_codes=SCORES[0]), "second_codes must be >= 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
