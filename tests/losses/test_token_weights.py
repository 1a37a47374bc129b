"""Weights of tokens: values by hand, what is constant, what is refused; the loss with them."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefsim.losses import (
    TokenPairLogps,
    activation_weights,
    relu_weights,
    sparse_po,
    token_sparsity,
)

X = np.array([[0.1, -0.4, 0.7, 0.2]])
EVERY = np.ones(4, bool)
FIELDS = st.floats(-5, 5, allow_subnormal=False)


def test_rescaled_activations():
    np.testing.assert_allclose(
        activation_weights(X, EVERY), [0.45454545, 0.0, 1.0, 0.54545455], atol=5e-9
    )
    # Over the response alone, whatever stands behind it.
    behind = np.array([[0.1, -0.4, 0.7, np.nan]])
    found = activation_weights(behind, np.array([True, True, True, False]))
    np.testing.assert_allclose(found, [0.5 / 1.1, 0.0, 1.0, 0.0])
    # The mean over layers.
    both = activation_weights(np.concatenate([X, -X]), EVERY)
    np.testing.assert_allclose(both, 0.5)


@pytest.mark.parametrize("x", [[3.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
def test_what_tells_no_token_from_another_weighs_all_alike(x):
    mask = np.array([True, True, False])
    np.testing.assert_array_equal(activation_weights(np.array([x]), mask), [1.0, 1.0, 0.0])


def test_a_response_of_one_token_and_one_of_none():
    given = np.array([[[0.3, 9.0]], [[0.3, 9.0]]])
    mask = np.array([[True, False], [False, False]])
    np.testing.assert_array_equal(activation_weights(given, mask), [[1.0, 0.0], [0.0, 0.0]])


@given(
    hnp.arrays(np.float64, (2, 3, 4), elements=FIELDS),
    st.floats(0.1, 10),
    st.floats(-10, 10),
)
def test_units_of_activations_do_not_matter(x, scale, shift):
    spans = np.ptp(x, axis=-1)
    x = np.where((spans > 1e-2)[..., None], x, 0.0)
    mask = np.ones((2, 4), bool)
    found = activation_weights(x, mask)
    assert ((found >= 0) & (found <= 1)).all()
    # Of zeros any shift is the same number four times.
    np.testing.assert_allclose(activation_weights(scale * x + shift, mask), found, atol=1e-9)


def test_activation_weights_are_constants_and_follow_their_library():
    x = torch.tensor(X, requires_grad=True)
    found = activation_weights(x, torch.ones(4, dtype=torch.bool))
    assert not found.requires_grad
    strict = activation_weights(array_api_strict.asarray(X), array_api_strict.asarray(EVERY))
    np.testing.assert_allclose(np.asarray(strict), found.numpy())
    assert activation_weights(x.bfloat16(), torch.ones(4, dtype=torch.bool)).dtype == torch.bfloat16


def test_a_relu_unit():
    features = np.array([[1.0, 2.0], [-1.0, 0.5]])
    np.testing.assert_allclose(relu_weights(features, np.array([0.5, 0.25])), [1.0, 0.0])
    np.testing.assert_allclose(relu_weights(features, np.array([0.5, 0.25]), 0.5), [1.5, 0.125])
    # Several units of the same features, or one for each layer of features.
    units = np.array([[[0.5, 0.25]], [[-1.0, 0.0]]])
    found = relu_weights(features, units, np.array([[0.0], [1.0]]))
    np.testing.assert_allclose(found, [[[1.0, 0.0]], [[0.0, 2.0]]])


def test_a_unit_that_is_off_has_no_derivative():
    weight = torch.tensor([-1.0, 2.0], requires_grad=True)
    relu_weights(torch.eye(2), weight).sum().backward()
    assert weight.grad.tolist() == [0.0, 1.0]


def test_shares_of_zeros():
    weights = np.array([[[0.0, 0.3, 0.0], [1.0, 0.0, 0.0]], [[0.0] * 3] * 2])
    mask = np.array([[[True, True, True], [True, False, False]]] * 2)
    np.testing.assert_allclose(token_sparsity(weights, mask), [0.5, 1.0])
    seen = np.array([[0.0, 2.0], [1.0, 1.0]])
    np.testing.assert_allclose(token_sparsity(weights, mask, prob=seen), [0.0, 1.0])


def test_bad_weights_are_named():
    good = TokenPairLogps.example()
    negative = good.chosen_kl_weight.copy()
    negative[2, 0] = -0.1
    with pytest.raises(ValueError, match=r"chosen_kl_weight must be >= 0, got -0.1 at index"):
        sparse_po(good._replace(chosen_kl_weight=negative))
    # Behind the mask there may be anything.
    behind = np.where(good.chosen_mask, good.chosen_reward_weight, -3.0)
    np.testing.assert_array_equal(
        sparse_po(good._replace(chosen_reward_weight=behind)), sparse_po(good)
    )
    longer = np.ones((6, 9))
    with pytest.raises(ValueError, match=r"rejected_reward_weight \(6, 9\)"):
        sparse_po(good._replace(rejected_reward_weight=longer))
    for name in ("chosen_kl", "rejected_reward_weight", "rejected_kl_weight"):
        with pytest.raises(ValueError, match=f"{name} is needed by this loss, got None"):
            sparse_po(good._replace(**{name: None}))
    for beta in (0.0, -1.0):
        with pytest.raises(ValueError, match="beta must be a finite number > 0"):
            sparse_po(good, beta=beta)
    with pytest.raises(ValueError, match="kl_l1 must be a finite number >= 0"):
        sparse_po(good, kl_l1=-0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: activation_weights(X[0], EVERY), r"activations must have shape \(..., L, T\)"),
        (lambda: activation_weights(X, EVERY[:3]), r"mask \(3,\)"),
        (lambda: activation_weights(np.full((1, 4), np.nan), EVERY), "be finite, got nan"),
        (lambda: activation_weights(X, np.ones(4)), "mask must hold booleans"),
        (lambda: activation_weights(np.zeros((1, 0)), np.ones(0, bool)), "at least one token"),
        (lambda: relu_weights(X, np.ones(3)), r"weight \(3,\)"),
        (lambda: relu_weights(X[0], np.ones(4)), r"features \(4,\)"),
        (lambda: relu_weights(np.ones((3, 4, 2)), np.ones((2, 2))), "shapes must broadcast"),
        (lambda: token_sparsity(X, EVERY), "one shape"),
        (lambda: token_sparsity(X[0], EVERY), r"weights must have shape \(..., n, T\)"),
        (lambda: token_sparsity(X, ~EVERY[None]), "at least one token that is seen, got none"),
        (lambda: token_sparsity(X, EVERY[None], prob=-np.ones(1)), "finite and >= 0, got -1.0"),
        (
            lambda: token_sparsity(X, EVERY[None], prob=np.zeros(1)),
            "at least one token that is seen",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_derivatives_go_through_weights_and_divergences():
    pairs = TokenPairLogps.example(3)
    fields = {
        name: torch.as_tensor(np.array(value), dtype=None if value.dtype == bool else torch.float64)
        for name, value in pairs._asdict().items()
    }
    for side in ("chosen", "rejected"):
        for kind in ("kl", "reward_weight", "kl_weight"):
            fields[f"{side}_{kind}"].requires_grad_(True)
    leaves = [each for each in fields.values() if each.requires_grad]

    def loss(*given):
        named = iter(given)
        moved = {k: next(named) if v.requires_grad else v for k, v in fields.items()}
        return sparse_po(TokenPairLogps(**moved), beta=0.7, reward_l1=0.1, kl_l1=0.2)

    assert torch.autograd.gradcheck(loss, leaves)


def test_activations_of_any_size():
    half = np.array([[60000.0, -60000.0, 0.0]], dtype=np.float16)
    np.testing.assert_array_equal(activation_weights(half, EVERY[:3]), [1.0, 0.0, 0.5])
    large = np.array([[1.5e308, -1.5e308, 0.0]])
    np.testing.assert_array_equal(activation_weights(large, EVERY[:3]), [1.0, 0.0, 0.5])
    with pytest.raises(ValueError, match="activations must be finite, got inf at index"):
        activation_weights(np.array([[0.0, np.inf, 1.0]]), EVERY[:3])


def test_how_often_a_response_is_seen_is_finite():
    with pytest.raises(ValueError, match="prob must be finite and >= 0, got inf"):
        token_sparsity(np.ones((1, 2)), EVERY[None, :2], prob=np.array([np.inf]))


def test_derivatives_in_weights_know_nothing_of_what_lies_behind():
    mask = torch.tensor([[True, False]])
    behind = torch.tensor([[-0.5, float("nan")]], dtype=torch.float64)
    weight = torch.full((1, 2), 0.5, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, 2, dtype=torch.float64)
    fields = {
        "chosen": behind,
        "rejected": behind - 1.0,
        "ref_chosen": zero,
        "ref_rejected": zero,
        "chosen_mask": mask,
        "rejected_mask": mask,
        "chosen_kl": behind.abs(),
        "rejected_kl": behind.abs(),
        "chosen_reward_weight": weight,
        "rejected_reward_weight": weight,
        "chosen_kl_weight": weight,
        "rejected_kl_weight": weight,
    }
    sparse_po(TokenPairLogps(**fields)).sum().backward()
    assert torch.isfinite(weight.grad).all()
    assert weight.grad[0, 0] != 0
    assert weight.grad[0, 1] == 0
