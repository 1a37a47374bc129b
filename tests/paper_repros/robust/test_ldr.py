"""Instances of the LDR losses worked by hand, label noise, and training in batches."""

import functools
import math
import sys

import numpy as np
import pytest

from paper_repros.robust.ldr import reproduction
from paper_repros.robust.ldr.noisy_labels import (
    RULES,
    Problem,
    flip_uniformly,
    gaussian_mixture,
    handwritten_digits,
    train,
)
from paper_repros.robust.ldr.one_input import (
    aldr_risk,
    expected,
    keeps_the_order,
    ldr_risk,
    least_svm_risk,
    minimiser,
    of_a_single_class,
    of_all_but_one,
    on_the_ball,
    on_the_simplex,
    spherical,
)
from prefsim.backend import use_backend
from prefsim.losses.adaptive_dro import adaptive_kl_dro
from prefsim.losses.class_scores import every_label
from prefsim.losses.classification import ldr_kl, linear_symmetric, mae
from prefsim.papers import Run

Q = np.asarray([0.4, 0.3, 0.2, 0.1])


# --- one input ---


def test_the_svm_is_content_with_equal_scores():
    law = np.asarray([0.4, 0.3, 0.3])
    risk = ldr_risk(law, lambda_=0.0, margin=1.0)
    assert risk(np.zeros(3))[0] == pytest.approx(1.0, abs=1e-15)
    assert risk(np.eye(3)[0])[0] == pytest.approx(1.2, abs=1e-15)
    draws = np.random.default_rng(0).normal(size=(3000, 3)) * np.random.default_rng(1).choice(
        [0.1, 1.0, 5.0], (3000, 1)
    )
    risks = ldr_kl(every_label(draws, 1.0), lambda_=0.0) @ law
    assert risks.min() >= 1 - 1e-12
    assert least_svm_risk(law, 1.0) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("lambda_", [0.1, 1.0, 10.0])
def test_the_risk_at_its_closed_minimiser(lambda_):
    value, gradient = ldr_risk(Q, lambda_=lambda_, margin=0.0)(lambda_ * np.log(Q))
    assert value == pytest.approx(lambda_ * (-(Q @ np.log(Q)) - math.log(4)), abs=1e-14)
    np.testing.assert_allclose(gradient, 0, atol=1e-15)


@pytest.mark.parametrize(
    "risk",
    [
        ldr_risk(Q, lambda_=0.8, margin=0.3),
        aldr_risk(Q, lambda_0=0.8, alpha=2 * math.log(4), margin=0.3),
    ],
)
def test_risks_have_the_gradient_that_their_minimiser_uses(risk):
    scores = np.asarray([0.7, -0.2, 0.4, -1.0])
    numeric = [
        (risk(scores + step)[0] - risk(scores - step)[0]) / 2e-6 for step in 1e-6 * np.eye(4)
    ]
    np.testing.assert_allclose(risk(scores)[1], numeric, atol=1e-8)


def test_mae_forgets_all_but_the_first_and_another_symmetric_loss_does_not():
    """The second loss is symmetric, bounded, and keeps the whole order."""

    def risk(loss, scores):
        return expected(loss, Q, np.asarray(scores, float))

    assert risk(mae, [300, 0, 0, 0]) == pytest.approx(0.6, abs=1e-15)
    assert risk(mae, [300, -5, 0, 5]) == pytest.approx(0.6, abs=1e-15)
    centred = Q - 0.25
    infimum = math.sqrt(0.75) - np.linalg.norm(centred)
    assert risk(spherical, 1e9 * centred) == pytest.approx(infimum, abs=1e-12)
    assert risk(spherical, [1e9, 0, 0, 0]) > infimum + 0.02
    draws = np.random.default_rng(2).normal(size=(2000, 4)) * 30
    assert risk(spherical, draws).min() >= infimum
    sums = spherical(every_label(draws)).sum(axis=-1)
    np.testing.assert_allclose(sums, 4 * math.sqrt(0.75))


def test_the_symmetric_minimiser_depends_on_the_set_of_scores():
    risk = functools.partial(expected, linear_symmetric, Q)
    corner, ball = on_the_simplex(Q, 2.0), on_the_ball(Q, 2.0)
    np.testing.assert_allclose(corner, [2, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(ball, 2 * (Q - 0.25) / np.linalg.norm(Q - 0.25), atol=1e-12)
    # Neither is beaten by any other point of its set.
    rng = np.random.default_rng(3)
    in_simplex, directions = 2 * rng.dirichlet(np.ones(4), 500), rng.normal(size=(500, 4))
    in_ball = 2 * directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    assert risk(in_simplex).min() >= risk(corner) - 1e-12
    assert risk(in_ball).min() >= risk(ball) - 1e-12


def test_a_symmetric_loss_under_noise_in_numbers():
    """ρ = .4, K = 4: the noisy risk is (1 − 16/30) of the clean one plus ρ times the margin."""
    values = ldr_kl(every_label(np.asarray([2.0, 1.0, 0.5, -1.0]), 0.5), lambda_=math.inf)
    noisy = (1 - 0.4 * 4 / 3) * Q + 0.4 / 3
    assert values.sum() == pytest.approx(1.5)
    assert noisy @ values == pytest.approx((1 - 1.6 / 3) * (Q @ values) + 0.4 * 0.5)


def test_alpha_below_its_bound_lets_the_temperature_reach_zero():
    law, lambda_0 = np.asarray([0.4, 0.35, 0.25]), 0.3
    alpha = 0.9 * of_all_but_one(3)
    assert alpha < math.log(3 / 2)
    tied = adaptive_kl_dro(np.asarray([0.0, 1.0, 1.0]), lambda_0=lambda_0, alpha=alpha)
    assert float(tied.lambda_) == 0.0
    # Equal scores: both neighbours are tied.
    for strength, lost in ((alpha, 2), (1.5 * of_a_single_class(3), 0)):
        risk = aldr_risk(law, lambda_0=lambda_0, alpha=strength, margin=1.0)
        assert keeps_the_order(*minimiser(risk, 3)).error == lost


# --- label noise and training ---


def test_flips_are_uniform_over_the_other_classes():
    labels = np.repeat(np.arange(4), 20_000)
    noisy = flip_uniformly(labels, 0.4, 4, seed=0)
    table = np.asarray([[np.mean(noisy[labels == y] == k) for k in range(4)] for y in range(4)])
    # five standard errors of a share among 20,000
    np.testing.assert_allclose(
        table, 0.6 * np.eye(4) + 0.4 / 3 * (1 - np.eye(4)), atol=5 * 0.5 / math.sqrt(20_000)
    )
    np.testing.assert_array_equal(flip_uniformly(labels, 0.0, 4, seed=0), labels)
    assert (flip_uniformly(labels, 1.0, 4, seed=0) != labels).all()


def test_the_data_sets():
    mixture = gaussian_mixture((0.0, 0.4), range(3), n=50, n_test=60)
    assert mixture.inputs.shape == (6, 50, 4)
    assert mixture.test_labels.shape == (6, 60)
    assert mixture.n_classes == 4
    assert not mixture.flipped[:3].any()
    assert mixture.flipped[3:].any(axis=-1).all()
    # A seed has the same points at every rate.
    np.testing.assert_array_equal(mixture.inputs[:3], mixture.inputs[3:])
    digits = handwritten_digits((0.2,), range(2), n=400)
    assert digits.inputs.shape == (2, 400, 64)
    assert digits.test_inputs.shape == (2, 1397, 64)
    assert digits.n_classes == 10
    assert digits.inputs.max() == 1.0


@pytest.mark.parametrize("rule", ["cross-entropy", "ALDR-KL, λ₀ = 3"])
def test_networks_in_one_batch_do_not_touch_each_other(rule):
    both = gaussian_mixture((0.4,), range(2), n=40, n_test=500)
    first = Problem(*(part[:1] for part in both))
    other = Problem(*(np.concatenate([part[:1], part[1:][:, ::-1]]) for part in both))
    with use_backend("torch"):
        runs = [train(RULES[rule], problem, steps=15, seed=0) for problem in (both, other)]
        again = train(RULES[rule], both, steps=15, seed=0)
        assert train(RULES[rule], first, steps=15, seed=1).accuracy.shape == (1,)
    assert runs[0].accuracy[0] == runs[1].accuracy[0]
    np.testing.assert_array_equal(runs[0].accuracy, again.accuracy)
    if RULES[rule].lambda_0 is not None:
        np.testing.assert_allclose(runs[0].lambda_[0], runs[1].lambda_[0], rtol=1e-12)
        # λ₀(1 − log K/α) <= λ <= λ₀, α = 2 log K
        assert ((runs[0].lambda_ > 1.5) & (runs[0].lambda_ <= 3)).all()
        np.testing.assert_allclose(runs[0].lambda_, runs[0].exact_lambda, atol=0.1)


def test_without_scikit_learn_the_digits_are_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert handwritten_digits((0.4,), range(1), n=10) is None
    small, short = reproduction.gaussian_mixture, reproduction.study
    monkeypatch.setattr(
        reproduction, "gaussian_mixture", lambda *args: small(*args, n=40, n_test=50)
    )
    monkeypatch.setattr(
        reproduction, "study", lambda *args, **options: short(*args, **options | {"steps": 20})
    )
    found = reproduction.reproduce(Run(quick=True))
    assert found.table[-1]["loss"] == "skipped: scikit-learn is not installed"
    assert not any("digits" in criterion.name for criterion in found.criteria)
    assert len(found.figure.axes) == 2
