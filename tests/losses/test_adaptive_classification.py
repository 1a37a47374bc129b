"""The adaptive loss on class scores: its temperature, its state and its authors' step."""

import functools
import math

import array_api_strict
import numpy as np
import pytest
import torch
from class_scores import SCORES, one
from scipy.special import softmax

from prefsim.backend import use_backend
from prefsim.containers import ClassLogits
from prefsim.losses.adaptive_classification import (
    AldrState,
    aldr_kl,
    aldr_lambda,
    aldr_state,
    aldr_update,
)
from prefsim.losses.class_scores import label_margins, softplus_normalised, with_margin
from prefsim.losses.classification import ldr_kl
from prefsim.losses.dro import kl_dro_dual

# --- reference values ---


@pytest.mark.parametrize(
    ("label", "lambda_0", "value"),
    [
        (0, 1.0, -0.8592454611),
        (2, 1.0, 0.6407545389),
        (0, 10.0, -1.3170897378),
        (2, 10.0, 0.1829102622),
    ],
)
def test_aldr_reference_values(label, lambda_0, value):
    assert float(aldr_kl(one(label), lambda_0=lambda_0)) == pytest.approx(value, abs=6e-11)
    assert float(aldr_kl(one(label), lambda_0=lambda_0, alpha=2 * math.log(4))) == float(
        aldr_kl(one(label), lambda_0=lambda_0)
    )


def test_aldr_of_equal_scores():
    classes = ClassLogits(np.zeros(4), np.asarray(1))
    assert float(aldr_kl(classes, lambda_0=3.0)) == 0.0
    assert float(aldr_lambda(classes, lambda_0=3.0)) == 3.0


def test_the_authors_normalised_ldr_reference_values():
    normalised = softplus_normalised(SCORES)
    np.testing.assert_allclose(normalised, [1.799611, 1.111161, 0.824174, 0.265053], atol=5e-7)
    for label, value in ((0, -0.7112257022), (2, 0.2667177774)):
        assert float(ldr_kl(one(label, 0.1, normalised), lambda_=10.0)) == pytest.approx(
            value, abs=6e-11
        )


def by_hand(logits, label, margin, lambda_0, alpha_ratio, previous):
    """The released algorithm, one example at a time, as its authors' code runs."""
    size = len(logits)
    p = softmax(logits / previous) + 1e-5
    p = p / p.sum()
    divergence = np.sum(p * np.log(size * p))
    new = lambda_0 * (1 - divergence / (alpha_ratio * math.log(size)))
    v = logits - logits[label] + margin * (np.arange(size) != label)
    return (
        new * np.log(np.mean(np.exp(v / new)))
        - alpha_ratio * math.log(size) / (2 * lambda_0) * (new - lambda_0) ** 2,
        new,
    )


# --- the adaptive loss ---


def test_the_authors_step_by_hand():
    rng = np.random.default_rng(0)
    logits, label, previous = (
        rng.standard_normal((6, 4)) * 2,
        rng.integers(0, 4, 6),
        rng.uniform(0.6, 1.4, 6),
    )
    classes = with_margin(ClassLogits(logits, label), 0.3)
    options = {"lambda_0": 1.4, "alpha": 1.7 * math.log(4)}
    expected = [
        by_hand(*row, 0.3, 1.4, 1.7, before)
        for *row, before in zip(logits, label, previous, strict=True)
    ]
    values, temperatures = np.asarray(expected).T
    np.testing.assert_allclose(
        aldr_kl(classes, variant="authors", previous=previous, **options), values, rtol=1e-12
    )
    np.testing.assert_allclose(
        aldr_lambda(classes, variant="authors", previous=previous, **options),
        temperatures,
        rtol=1e-12,
    )
    fresh = [by_hand(*row, 0.3, 1.4, 1.7, 1.4)[0] for row in zip(logits, label, strict=True)]
    np.testing.assert_allclose(aldr_kl(classes, variant="authors", **options), fresh, rtol=1e-12)


def test_iterating_the_authors_step_ends_near_the_exact_temperature():
    """But for the smoothing of 1e-5, the exact temperature is a fixed point of the step."""
    classes = ClassLogits(np.random.default_rng(1).standard_normal((5, 4)), np.zeros(5, int))
    state = aldr_state(5, lambda_0=2.0)
    for _ in range(60):
        state, _ = aldr_update(state, np.arange(5), classes, lambda_0=2.0)
    np.testing.assert_allclose(state.lambda_, aldr_lambda(classes, lambda_0=2.0), atol=2e-4)


def test_the_state_moves_only_where_the_batch_is():
    start = AldrState(np.asarray([1.0, 0.9, 0.8, 0.7]))
    batch = ClassLogits(np.asarray([[3.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), np.asarray([0, 2]))
    state, loss = aldr_update(start, np.asarray([3, 1]), batch)
    np.testing.assert_array_equal(start.lambda_, [1.0, 0.9, 0.8, 0.7])
    np.testing.assert_array_equal(state.lambda_[[0, 2]], [1.0, 0.8])
    expected = aldr_lambda(batch, variant="authors", previous=np.asarray([0.7, 0.9]))
    np.testing.assert_allclose(state.lambda_[[3, 1]], expected, rtol=1e-15)
    np.testing.assert_allclose(
        loss, aldr_kl(batch, variant="authors", previous=np.asarray([0.7, 0.9])), rtol=1e-15
    )


def test_a_state_in_numpy_serves_a_batch_in_torch_and_the_other_way_round():
    logits = np.asarray([[3.0, 0.0, 1.0], [0.5, 0.0, 0.0]])
    batch = ClassLogits(torch.tensor(logits, requires_grad=True), torch.tensor([0, 2]))
    state, loss = aldr_update(aldr_state(4), np.asarray([3, 1]), batch)
    loss.sum().backward()
    assert isinstance(state.lambda_, np.ndarray)
    assert batch.logits.grad.abs().sum() > 0
    with use_backend("torch"):
        there, value = aldr_update(
            aldr_state(4), torch.tensor([3, 1]), ClassLogits(logits, np.asarray([0, 2]))
        )
    assert isinstance(there.lambda_, torch.Tensor)
    np.testing.assert_allclose(there.lambda_.numpy(), state.lambda_, rtol=1e-14)
    np.testing.assert_allclose(value, loss.detach().numpy(), rtol=1e-14)
    strict = ClassLogits(array_api_strict.asarray(logits), array_api_strict.asarray([0, 2]))
    third, _ = aldr_update(
        AldrState(array_api_strict.ones(4)), array_api_strict.asarray([3, 1]), strict
    )
    np.testing.assert_allclose(np.asarray(third.lambda_), state.lambda_, rtol=1e-14)


def test_the_temperature_is_held_constant():
    """Both variants: the gradient is that of LDR-KL at the example's temperature."""
    logits = np.random.default_rng(2).standard_normal((5, 4)) * 2
    label = np.asarray([0, 1, 2, 3, 0])
    for variant in ("exact", "authors"):
        x = torch.tensor(logits, requires_grad=True)
        classes = ClassLogits(x, torch.tensor(label))
        aldr_kl(classes, lambda_0=1.2, variant=variant).sum().backward()
        lambda_ = aldr_lambda(classes, lambda_0=1.2, variant=variant)
        assert not lambda_.requires_grad
        weights = kl_dro_dual(
            label_margins(ClassLogits(logits, label)), lambda_=lambda_.numpy()
        ).weights
        np.testing.assert_allclose(
            x.grad.numpy(), weights - (np.arange(4) == label[:, None]), atol=1e-12
        )


def test_the_exact_loss_has_the_numerical_gradient_and_the_authors_has_not():
    logits, label = np.random.default_rng(3).standard_normal((2, 4)) * 2, np.asarray([0, 3])
    for variant, right in (("exact", True), ("authors", False)):
        loss = functools.partial(aldr_kl, lambda_0=1.2, variant=variant)
        x = torch.tensor(logits, requires_grad=True)
        loss(ClassLogits(x, torch.tensor(label))).sum().backward()
        numeric = np.zeros_like(logits)
        for place in np.ndindex(logits.shape):
            shift = np.zeros_like(logits)
            shift[place] = 1e-6
            high, low = (loss(ClassLogits(logits + s, label)).sum() for s in (shift, -shift))
            numeric[place] = (high - low) / 2e-6
        assert (np.abs(numeric - x.grad.numpy()).max() < 1e-8) == right
