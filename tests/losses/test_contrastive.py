"""Contrastive losses: values, formulas written out, gradients, what is kept, temperatures."""

import math

import numpy as np
import pytest
import torch
from score_rows import torch_gradient

from prefsim.containers import ClassLogits
from prefsim.losses.classification import ldr_kl
from prefsim.losses.contrastive import (
    infonce,
    negative_weights,
    rgcl,
    rgcl_temperature,
    simple_contrastive,
)

ROW = np.asarray([0.8, 0.5, 0.1, -0.3])
HARD = np.asarray([0.0, -0.3, -0.7, -1.1, -1.6])


def row(similarities=ROW, positive=0):
    return ClassLogits(np.asarray(similarities), np.asarray(positive))


def gradient(loss, similarities=ROW):
    return torch_gradient(lambda x: loss(ClassLogits(x, torch.tensor(0))), similarities)


@pytest.mark.parametrize(
    ("temperature", "value", "to_positive", "entropy"),
    [
        (0.07, 0.01371485633974956, -0.19458908831317, 0.022214289007486863),
        (0.2, 0.22905748151249572, -1.023585909340179, 0.44105744405816344),
        (1.0, 0.9440127446274065, -0.610936513623532, 1.0473331135843889),
    ],
)
def test_values_of_infonce(temperature, value, to_positive, entropy):
    assert float(infonce(row(), temperature=temperature)) == pytest.approx(value, rel=1e-13)
    found = gradient(lambda x: infonce(x, temperature=temperature))
    assert found[0] == pytest.approx(to_positive, rel=1e-12)
    assert found.sum() == pytest.approx(0, abs=1e-14)
    shares = negative_weights(row(), temperature=temperature)
    np.testing.assert_allclose(found[1:], -to_positive * shares, rtol=1e-12)
    assert -(shares @ np.log(shares)) == pytest.approx(entropy, rel=1e-11)


def test_values_of_the_shares():
    np.testing.assert_allclose(
        negative_weights(row(), temperature=1.0), [0.47177622, 0.31624106, 0.21198272], atol=5e-9
    )


def test_the_hard_loss_keeps_the_most_similar_and_their_ties():
    assert float(infonce(row(), temperature=0.2, share=0.5)) == pytest.approx(
        0.22580204923159908, rel=1e-13
    )
    tied = row([0.8, 0.5, 0.1, 0.1, -0.3])
    kept = [float(infonce(tied, temperature=0.2, share=share)) for share in (0.25, 0.5, 0.75, 1.0)]
    assert kept[0] < kept[1] == kept[2] < kept[3]
    assert gradient(lambda x: infonce(x, temperature=0.2, share=0.5))[3] == 0
    # .7 of ten is seven.
    ten = row([0.9, *np.linspace(0.5, -0.5, 10)])
    seven = row([0.9, *np.linspace(0.5, -0.5, 10)[:7]])
    assert float(infonce(ten, share=0.7)) == float(infonce(seven))


def test_the_positive_is_not_the_most_similar():
    negative_first = row([0.1, 0.8, 0.5, -0.3], positive=0)
    values = np.exp(np.asarray([0.1, 0.8, 0.5, -0.3]) / 0.2)
    assert float(infonce(negative_first, temperature=0.2)) == pytest.approx(
        -math.log(values[0] / values.sum()), rel=1e-14
    )
    assert float(infonce(negative_first, temperature=0.2, share=0.3)) == pytest.approx(
        -math.log(values[0] / (values[0] + values[1])), rel=1e-14
    )


def test_a_tiny_loss_keeps_its_digits():
    sure = row([1.0, -1.0, -0.9])
    expected = math.log1p(math.exp(-2 / 0.02) + math.exp(-1.9 / 0.02))
    assert float(infonce(sure, temperature=0.02)) == pytest.approx(expected, rel=1e-12)


def test_simple_contrastive():
    assert float(simple_contrastive(row())) == pytest.approx(-0.7, rel=1e-14)
    assert float(simple_contrastive(row(), weight=0.5)) == pytest.approx(-0.8 + 0.15, rel=1e-14)
    assert float(simple_contrastive(row(), weight=0.5, share=0.5)) == pytest.approx(-0.5, rel=1e-14)
    assert float(simple_contrastive(row(), share=0.5)) == pytest.approx(-0.5, rel=1e-14)
    np.testing.assert_allclose(
        gradient(lambda x: simple_contrastive(x, weight=0.5, share=0.5)), [-1, 0.5, 0.5, 0]
    )
    # The limit of large temperatures, but for the factor (N − 1)/N.
    limit = 1e6 * (float(infonce(row(), temperature=1e6)) - math.log(4))
    assert limit == pytest.approx(0.75 * float(simple_contrastive(row())), abs=1e-5)
    assert limit == pytest.approx(-0.525, abs=1e-5)


def test_margins_go_to_the_negatives():
    granted = row()._replace(margin=np.asarray([0.0, 0.1, 0.1, 0.1]))
    moved = row(ROW + np.asarray([0.0, 0.1, 0.1, 0.1]))
    for loss in (infonce, simple_contrastive, rgcl):
        assert float(loss(granted)) == pytest.approx(float(loss(moved)), rel=1e-13)
    half = {"weight": 0.5}
    assert float(simple_contrastive(granted, **half)) == pytest.approx(
        float(simple_contrastive(moved, **half)), rel=1e-13
    )


@pytest.mark.parametrize(
    ("temperature", "value"),
    [(0.1, -0.4067812839584032), (0.5, -0.5703890210723485), (0.05, -0.3542979421122229)],
)
def test_values_of_rgcl(temperature, value):
    assert float(rgcl(row(HARD), temperature=temperature)) == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize(
    ("radius", "temperature"),
    [(0.1, 1.0197240648926733), (0.3, 0.5358263010201991), (1.0, 0.1816954349372569), (1.5, 0.05)],
)
def test_the_minimising_temperature(radius, temperature):
    found = rgcl_temperature(row(HARD), radius=radius)
    assert float(found) == pytest.approx(temperature, rel=1e-12)
    best = float(rgcl(row(HARD), radius=radius))
    assert best == pytest.approx(float(rgcl(row(HARD), temperature=temperature, radius=radius)))
    for other in (0.9 * temperature, 1.1 * temperature):
        # The end of the interval is left below.
        assert best < float(rgcl(row(HARD), temperature=max(other, 0.0501), radius=radius))


def test_rgcl_is_ldr_of_the_negatives_and_each_anchor_has_its_temperature():
    rng = np.random.default_rng(0)
    similarities, label = rng.uniform(-1, 1, (5, 6)), rng.integers(0, 6, 5)
    temperature = rng.uniform(0.1, 0.5, 5)
    classes = ClassLogits(similarities, label)
    found = rgcl(classes, temperature=temperature, radius=0.2)
    for i in range(5):
        others = np.delete(similarities[i], label[i]) - similarities[i, label[i]]
        stated = temperature[i] * np.log(np.mean(np.exp(others / temperature[i])))
        assert found[i] == pytest.approx(stated + 0.2 * temperature[i], rel=1e-13)
    whole = infonce(classes, temperature=0.3)
    np.testing.assert_allclose(
        0.3 * whole, ldr_kl(classes, lambda_=0.3) + 0.3 * math.log(6), rtol=1e-13
    )


def test_rgcl_of_temperature_none_takes_torch_and_half_precision():
    classes = ClassLogits(torch.tensor(HARD, dtype=torch.bfloat16)[None], torch.tensor([0]))
    value = rgcl(classes)
    assert value.dtype == torch.bfloat16
    assert float(value) == pytest.approx(-0.571, abs=4e-3)


def test_a_ball_of_radius_zero_is_the_mean_of_the_negatives():
    assert float(rgcl(row(HARD), radius=0.0)) == pytest.approx(-0.925, rel=1e-14)
    assert float(rgcl_temperature(row(HARD), radius=0.0)) == math.inf
    both = rgcl(row(HARD), radius=np.asarray([0.0, 0.3]))
    np.testing.assert_allclose(both, [-0.925, -0.5709716121023082], rtol=1e-13)
