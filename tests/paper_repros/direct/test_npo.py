"""Negative preference optimisation: loss and weight, the scalar flow, growth, random features."""

import numpy as np
import pytest

from paper_repros.direct.npo import claims
from paper_repros.direct.npo.random_features import (
    METHODS,
    Forget,
    World,
    pretrain,
    retain_slopes,
    slopes,
    speed_at_the_start,
)
from paper_repros.direct.npo.reproduction import retain_at
from prefsim import losses


@pytest.mark.parametrize(
    ("beta", "value", "weight"),
    [(0.1, 12.887933201471418, 0.95004162504212), (1.0, 0.6265233750364457, 0.5378828427399902)],
)
def test_loss_and_weight(beta, value, weight):
    logps = claims.forget(np.asarray([-1.0]), -1.0)
    assert losses.npo(logps, beta=beta)[0] == pytest.approx(value, rel=1e-15)
    assert claims.weights(logps, beta)[0] == pytest.approx(weight, rel=1e-13)


@pytest.mark.parametrize(("time", "end"), [(10, -4.35465), (100, -9.13766), (1000, -13.80367)])
def test_scalar_flow(time, end):
    assert claims.scalar_path(time, 0.5) == pytest.approx(end, abs=6e-6)


def test_growth_rates_on_nearly_orthogonal_inputs():
    # After 100, 1000 and 10000 steps of size .5.
    times = (50, 500, 5000)
    ga, npo = (
        claims.distances(method, times, n=5, dimension=20_000, seed=0) for method in ("GA", "NPO")
    )
    # Another draw of such inputs gave these, and 5.2 to 5.6 per decade.
    np.testing.assert_allclose(ga, [19.4, 221, 2242], rtol=0.05)
    assert npo[2] - npo[1] == pytest.approx(5.4, rel=0.08)


@pytest.mark.parametrize("method", ["GA", "NPO"])
def test_gradient_descent_in_closed_form_follows_the_flow(method):
    rng, n, step, time = np.random.default_rng(4), 3, 0.01, 20.0
    inputs = rng.standard_normal((n, 6))
    lengths = np.linalg.norm(inputs, axis=-1, keepdims=True)
    labelled = inputs * rng.choice([-1.0, 1.0], (n, 1)) / lengths
    moved = np.zeros(n)
    for _ in range(round(time / step)):
        wrong = sigmoid(-moved)
        odds = 2 * sigmoid(moved)  # π/π_ref, as θ_0 = 0
        weight = 2 * odds / (1 + odds) if method == "NPO" else 1.0
        moved = moved - step / n * labelled @ labelled.T @ (weight * wrong)
    found = claims.distances(method, (time,), n=n, dimension=6, seed=4)
    assert found[0] == pytest.approx(np.linalg.norm(moved), rel=2e-3)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_slopes_of_every_method():
    rng = np.random.default_rng(0)
    sign, random_sign = rng.choice([-1.0, 1.0], (2, 1, 9))
    reference, logits = rng.standard_normal((2, 1, 9))
    rise, random_rise = (s * sigmoid(-s * logits) for s in (sign, random_sign))

    def ratio(s):
        return sigmoid(s * logits) / sigmoid(s * reference)

    def damped(beta):
        return 2 * rise * ratio(sign) ** beta / (1 + ratio(sign) ** beta)

    odds = (ratio(sign) / ratio(random_sign)) ** 0.1
    expected = {
        "GA": rise,
        "NPO": damped(1.0),
        "GA+RT": rise,
        "NPO+RT": damped(0.1),
        "IDK+RT": -random_rise,
        "DPO+RT": 2 * odds / (1 + odds) * (rise - random_rise),
    }
    found = slopes(
        Forget(sign, random_sign, reference), np.repeat(logits[..., None], len(METHODS), axis=-1)
    )
    for k, name in enumerate(METHODS):
        np.testing.assert_allclose(found[..., k], expected[name], atol=1e-14, err_msg=name)


def test_slopes_of_the_retain_term():
    rng = np.random.default_rng(1)
    sign, logits = rng.choice([-1.0, 1.0], (2, 5)), rng.standard_normal((2, 5, 3))
    expected = -sign[..., None] * sigmoid(-sign[..., None] * logits)
    np.testing.assert_allclose(retain_slopes(sign, logits), expected, atol=1e-15)


@pytest.mark.parametrize("model", [0, 1], ids=["reference", "retrained"])
def test_pretraining_descends_the_cross_entropy(model):
    world = World.draw(1.0, [0])
    first, second = (pretrain(world, steps, rate=0.01)[model] for steps in (1, 2))
    features, signs = world.retain, world.retain_sign
    if model == 0:
        features = np.concatenate([world.forget, features], axis=1)
        signs = np.concatenate([world.forget_sign, signs], axis=1)
    slope = retain_slopes(signs, features @ first[..., None])[..., 0]
    step = 0.01 * np.einsum("bnw,bn->bw", features, slope) / signs.shape[1]
    np.testing.assert_allclose(second, first - step, atol=1e-15)


def test_npo_sets_out_as_gradient_ascent():
    rng = np.random.default_rng(0)
    rows = Forget(*rng.choice([-1.0, 1.0], (2, 2, 9)), rng.standard_normal((2, 9)))
    np.testing.assert_allclose(speed_at_the_start(rows), 1.0, atol=1e-15)


def test_retain_at_reads_the_descending_branch():
    falls, rises = np.asarray([1.0, 0.5, 0.1, 0.4]), np.asarray([0.0, 1.0, 2.0, 9.0])
    assert retain_at(falls, rises, 0.3) == pytest.approx(1.5)
    assert np.isnan(retain_at(falls, rises, 0.05))
