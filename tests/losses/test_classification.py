"""Losses on class scores: reference values, identities, libraries, extremes and bad input."""

import functools
import math

import array_api_strict
import numpy as np
import pytest
import torch
from class_scores import one
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from prefsim.containers import ClassLogits, map_fields
from prefsim.losses.adaptive_classification import (
    aldr_kl,
    aldr_lambda,
    aldr_state,
    aldr_update,
)
from prefsim.losses.class_scores import (
    with_margin,
)
from prefsim.losses.classification import (
    crammer_singer,
    cross_entropy,
    ldr_k_kl,
    ldr_kl,
    ldr_top_k,
    ldr_weights,
    linear_symmetric,
    mae,
)
from prefsim.testing.bandits import betas, tables


@st.composite
def examples(draw, margins=True):
    size = draw(st.integers(2, 6))
    logits = draw(tables((3, size), low=-5.0, high=5.0))
    label = np.asarray(draw(st.lists(st.integers(0, size - 1), min_size=3, max_size=3)))
    return with_margin(ClassLogits(logits, label), draw(st.floats(0, 2)) if margins else 0.0)


LOSSES = {
    "cross_entropy": cross_entropy,
    "mae": mae,
    "ldr_kl": functools.partial(ldr_kl, lambda_=0.7),
    "ldr_kl hot": functools.partial(ldr_kl, lambda_=50.0),
    "crammer_singer": crammer_singer,
    "linear_symmetric": linear_symmetric,
    "ldr_top_k": functools.partial(ldr_top_k, k=2),
    "ldr_k_kl": functools.partial(ldr_k_kl, k=2, lambda_=0.7),
    "aldr exact": functools.partial(aldr_kl, lambda_0=1.5),
    "aldr authors": functools.partial(aldr_kl, lambda_0=1.5, variant="authors"),
}


every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


# --- reference values ---


@pytest.mark.parametrize(
    ("label", "lambda_", "value"),
    [
        (0, 0.0, 0.0),
        (0, 0.1, -0.13862486563321938),
        (0, 1.0, -0.8911124630340346),
        (0, 10.0, -1.3171486775023555),
        (0, math.inf, -1.375),
        (2, 0.0, 1.5),
        (2, 0.1, 1.3613751343667806),
        (2, 1.0, 0.6088875369659654),
        (2, 10.0, 0.18285132249764358),
        (2, math.inf, 0.125),
    ],
)
def test_ldr_kl_reference_values(label, lambda_, value):
    assert float(ldr_kl(one(label), lambda_=lambda_)) == pytest.approx(value, abs=2e-15)


def test_margins_reference_values():
    assert float(ldr_kl(one(0, 0.5), lambda_=1.0)) == pytest.approx(-0.6652912353626766, abs=2e-15)
    assert float(linear_symmetric(one(0, 0.5))) == pytest.approx(-1.0, abs=2e-15)


@pytest.mark.parametrize(("k", "value"), [(1, 2.0), (2, 1.5), (4, 0.5)])
def test_top_k_reference_values(k, value):
    assert float(ldr_top_k(one(2, 0.5), k=k)) == pytest.approx(value, abs=1e-15)


def test_ldr_k_kl_reference_values():
    assert float(ldr_k_kl(one(2), k=2, lambda_=0.8)) == pytest.approx(0.6377969749, abs=6e-11)
    np.testing.assert_allclose(
        ldr_weights(one(2), k=2, lambda_=0.8), [0.5, 0.30914836, 0.16547519, 0.02537644], atol=5e-9
    )


# --- identities ---


@given(examples(margins=False))
def test_cross_entropy_and_mae_are_those_of_the_softmax(classes):
    own = np.take_along_axis(log_softmax(classes.logits, axis=-1), classes.label[:, None], axis=-1)[
        :, 0
    ]
    np.testing.assert_allclose(cross_entropy(classes), -own, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(mae(classes), -np.expm1(own), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(
        ldr_kl(classes, lambda_=1.0) + math.log(classes.logits.shape[-1]),
        cross_entropy(classes),
        atol=1e-12,
    )


def test_a_sure_label_keeps_its_digits():
    """log(1 + e⁻⁶⁰) and 1 − softmax are e⁻⁶⁰ here, not 0."""
    classes = ClassLogits(np.asarray([60.0, 0.0]), np.asarray(0))
    assert float(cross_entropy(classes)) == pytest.approx(math.exp(-60), rel=1e-14)
    assert float(mae(classes)) == pytest.approx(math.exp(-60), rel=1e-14)


@given(examples(), st.integers(1, 6), betas(0.1, 10.0))
def test_one_family(classes, k, lambda_):
    size = classes.logits.shape[-1]
    k = min(k, size)
    np.testing.assert_array_equal(crammer_singer(classes), ldr_kl(classes, lambda_=0.0))
    np.testing.assert_array_equal(linear_symmetric(classes), ldr_kl(classes, lambda_=math.inf))
    np.testing.assert_array_equal(
        ldr_k_kl(classes, k=1, lambda_=lambda_), ldr_kl(classes, lambda_=lambda_)
    )
    np.testing.assert_allclose(ldr_top_k(classes, k=size), linear_symmetric(classes), atol=1e-12)
    np.testing.assert_allclose(ldr_top_k(classes, k=1), crammer_singer(classes), atol=1e-12)
    assert (
        ldr_k_kl(classes, k=k, lambda_=lambda_) <= ldr_kl(classes, lambda_=lambda_) + 1e-10
    ).all()  # a smaller set of distributions


@given(examples(), st.floats(-50, 50), betas(0.1, 10.0))
def test_a_constant_added_to_all_scores_changes_nothing(classes, shift, lambda_):
    moved = classes._replace(logits=classes.logits + shift)
    for loss in (*LOSSES.values(), functools.partial(ldr_kl, lambda_=lambda_)):
        np.testing.assert_allclose(loss(moved), loss(classes), atol=1e-9)


@given(examples(), st.integers(1, 6), betas(0.1, 10.0))
def test_weights_less_the_label_are_the_gradient(classes, k, lambda_):
    k = min(k, classes.logits.shape[-1])
    logits = torch.tensor(classes.logits, requires_grad=True)
    moved = ClassLogits(logits, torch.tensor(classes.label), torch.tensor(classes.margin))
    ldr_k_kl(moved, k=k, lambda_=lambda_).sum().backward()
    own = np.arange(logits.shape[-1]) == classes.label[:, None]
    np.testing.assert_allclose(
        logits.grad.numpy(), ldr_weights(classes, k=k, lambda_=lambda_) - own, atol=1e-11
    )


# --- every loss: libraries, precisions, extremes, bad input ---


@every_loss
def test_libraries_and_precisions_agree(loss):
    rng = np.random.default_rng(6)
    classes = with_margin(
        ClassLogits(rng.standard_normal((2, 3, 5)) * 3, rng.integers(0, 5, (2, 3))), 0.25
    )
    expected = loss(classes)
    assert expected.shape == (2, 3)
    moved = map_fields(classes, torch.tensor)
    np.testing.assert_allclose(loss(moved).numpy(), expected, rtol=1e-12, atol=1e-14)
    strict = loss(map_fields(classes, array_api_strict.asarray))
    np.testing.assert_allclose(np.asarray(strict), expected, rtol=1e-12, atol=1e-14)
    single = loss(ClassLogits(moved.logits.float(), moved.label, moved.margin.float()))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-5, atol=1e-6)
    half = ClassLogits(moved.logits.bfloat16(), moved.label, moved.margin.bfloat16())
    rounded = loss(ClassLogits(half.logits.double(), half.label, half.margin.double()))
    assert loss(half).dtype == torch.bfloat16
    np.testing.assert_allclose(loss(half).double().numpy(), rounded.numpy(), rtol=2**-8, atol=1e-4)


@every_loss
def test_gradcheck(loss):
    if "authors" in str(loss.keywords if isinstance(loss, functools.partial) else ""):
        pytest.skip("its temperature is held constant by design; see the test of its gradient")
    rng = np.random.default_rng(7)
    x, label = (
        torch.tensor(rng.standard_normal((3, 4)) * 2, requires_grad=True),
        torch.tensor([0, 3, 1]),
    )
    assert torch.autograd.gradcheck(lambda logits: loss(ClassLogits(logits, label)), x, atol=1e-6)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "row", [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [1e4, 1e4, 1e4], [0.0, 0.0, 0.0]]
)
def test_extremes_are_finite(loss, dtype, row):
    for margin in (None, torch.tensor([[0.0, 1.0, 1e4]], dtype=dtype)):
        logits = torch.tensor([row], dtype=dtype, requires_grad=True)
        value = loss(ClassLogits(logits, torch.tensor([0]), margin))
        value.sum().backward()
        assert value.isfinite().all()
        assert logits.grad.isfinite().all()
        assert logits.grad.sum().abs() < 0.02


def test_inside_vmap_and_compiled_functions_values_are_not_looked_at():
    logits, label = torch.randn(4, 3, 5, dtype=torch.float64), torch.randint(0, 5, (4, 3))
    margin = with_margin(ClassLogits(logits, label), 0.1).margin
    for loss in (cross_entropy, crammer_singer, ldr_k_kl):
        mapped = torch.vmap(lambda *parts, f=loss: f(ClassLogits(*parts)))(logits, label, margin)
        np.testing.assert_allclose(
            mapped.numpy(), loss(ClassLogits(logits, label, margin)).numpy(), rtol=1e-13
        )


ROW = np.asarray([[2.0, 1.0, 0.5, -1.0]])
LABEL = np.asarray([1])


@every_loss
@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (ClassLogits(ROW, np.asarray([4])), "label must be >= 0 and < 4, got 4 at index 0"),
        (ClassLogits(ROW, np.asarray([-1])), "label must be >= 0 and < 4, got -1 at index 0"),
        (ClassLogits(ROW, np.asarray([1.0])), "label must hold integers, got dtype float64"),
        (
            ClassLogits(torch.tensor(ROW), torch.tensor([4])),
            "label must be >= 0 and < 4, got 4 at index 0",
        ),
        (
            ClassLogits(ROW, np.asarray([0, 1])),
            r"label must have shape \(1,\), that of logits without the classes, got \(2,\)",
        ),
        (
            ClassLogits(ROW[:, :1], np.asarray([0])),
            r"logits must have trailing shape \(K\) with K >= 2 classes, got \(1, 1\)",
        ),
        (ClassLogits(np.asarray(1.0), np.asarray(0)), r"K >= 2 classes, got \(\)"),
        (ClassLogits(ROW, LABEL, ROW[0]), r"one shape, got logits \(1, 4\), margin \(4,\)"),
        (
            ClassLogits(ROW, LABEL, np.asarray([[0.1, 0.0, -0.2, 0.1]])),
            r"margin must be >= 0, got -0.2 at index \(0, 2\)",
        ),
        (
            ClassLogits(ROW, LABEL, np.asarray([[0.1, 0.3, 0.2, 0.1]])),
            "margin must be 0 at the label, got 0.3 at index 0",
        ),
        (
            ClassLogits(ROW, LABEL, np.asarray([[0.1, 0.0, np.nan, 0.1]])),
            r"margin must be finite, got nan at index \(0, 2\)",
        ),
    ],
)
def test_bad_classes(loss, classes, message):
    with pytest.raises(ValueError, match=message):
        loss(classes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: ldr_kl(c, lambda_=-1.0), r"lambda_ must lie in \[0.0, inf\], got -1.0"),
        (lambda c: ldr_kl(c, lambda_=math.nan), r"lambda_ must lie in \[0.0, inf\], got nan"),
        (lambda c: ldr_top_k(c, k=0), r"k must be an integer in \[1, 4\], got 0"),
        (lambda c: ldr_top_k(c, k=5), r"k must be an integer in \[1, 4\], got 5"),
        (lambda c: ldr_k_kl(c, k=2.0), r"k must be an integer in \[1, 4\], got 2.0"),
        (lambda c: ldr_k_kl(c, lambda_=-1.0), r"lambda_ must lie in \[0.0, inf\], got -1.0"),
        (
            lambda c: aldr_kl(c, alpha=math.log(4)),
            r"alpha must lie in \(1.386\d*, inf\), got 1.386\d*",
        ),
        (
            lambda c: aldr_kl(c, alpha=1.0, variant="authors"),
            r"alpha must lie in \(1.386\d*, inf\), got 1.0",
        ),
        (lambda c: aldr_kl(c, lambda_0=0.0), "lambda_0 must be a finite number > 0, got 0.0"),
        (lambda c: aldr_kl(c, lambda_0=math.inf), "lambda_0 must be a finite number > 0, got inf"),
        (
            lambda c: aldr_kl(c, variant="fast"),
            "variant must be one of 'exact', 'authors', got 'fast'",
        ),
        (lambda c: aldr_kl(c, previous=1.0), "previous must be None for variant 'exact'"),
        (
            lambda c: aldr_kl(c, variant="authors", previous=-1.0),
            "previous must be a finite number > 0, got -1.0",
        ),
        (lambda c: aldr_lambda(c, alpha=1.0), r"alpha must lie in \(1.386\d*, inf\), got 1.0"),
        (lambda c: with_margin(c, -0.1), "margin must be a finite number >= 0, got -0.1"),
        (lambda c: aldr_state(0), "n must be an integer >= 1, got 0"),
        (
            lambda c: aldr_update(aldr_state(3), np.asarray([3]), c),
            "ids must be >= 0 and < 3, got 3 at index 0",
        ),
        (
            lambda c: aldr_update(aldr_state(3), np.asarray([0, 1]), c),
            r"ids must have the shape \(n,\) of label, got ids \(2,\)",
        ),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call(ClassLogits(ROW, LABEL))
