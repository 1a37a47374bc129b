"""Golden values of arXiv:2404.04656.

Losses, running shift, prompt weights, the optimum on one prompt, gradient weights beside KTO's.
"""

import functools

import numpy as np
import pytest
import torch

from paper_repros import _thumbs
from paper_repros import bco as paper
from prefsim import losses
from prefsim.papers import Run

CHOSEN, REJECTED = np.asarray([0.05, -0.125, 0.15]), np.asarray([-0.05, 0.15, -0.25])
BATCH = paper.thumbs(np.r_[CHOSEN, REJECTED], np.arange(6) < 3)
GOLDEN = [0.66238538, 0.75097838, 0.61519434, 0.67457295, 0.77769434, 0.58143145]


def test_golden_losses():
    found = losses.bco_unpaired(BATCH, beta=1.0)
    np.testing.assert_allclose(found, GOLDEN, atol=6e-9)
    assert found.mean() == pytest.approx(0.6770428062896375, rel=1e-14)


def test_paired_and_unpaired_agree():
    paired = losses.bco(paper.pairs(CHOSEN, REJECTED), beta=1.0)
    single = losses.bco_unpaired(BATCH, beta=1.0)
    np.testing.assert_allclose(paired, single[:3] + single[3:], rtol=1e-14)
    np.testing.assert_allclose(
        losses.bco_pair(paper.pairs(CHOSEN, REJECTED), beta=1.0),
        [1.33691930, 1.52855608, 1.19689647],
        atol=6e-9,
    )


def test_golden_running_shift():
    first = losses.RewardShift().updated(np.r_[CHOSEN, REJECTED])
    assert first.mean == pytest.approx(-0.0125, abs=1e-16)
    second = first.updated([0.3, -0.1])
    assert second == (pytest.approx(0.015625, abs=1e-16), 8)
    found = losses.bco_unpaired(
        paper.thumbs([0.3, -0.1], [True, False]), beta=1.0, shift=second.mean
    )
    np.testing.assert_allclose(found, [0.56103444, 0.63700489], atol=6e-9)


def test_golden_prompt_weights():
    np.testing.assert_allclose(
        losses.density_ratio_weights([0.8, 0.3, 0.99]), [4.0, 0.5, 10.0], rtol=1e-14
    )
    np.testing.assert_array_equal(losses.density_ratio_weights([0.0, 1.0]), [0.5, 10.0])
    weighted = losses.bco_unpaired(BATCH, beta=1.0, density_ratio=np.full(6, 3.0))
    np.testing.assert_allclose(weighted, np.asarray(GOLDEN) * np.repeat([1.0, 3.0], 3), atol=2e-8)


def gradient(loss, z):
    r = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    loss(
        losses.UnpairedLogps(r, torch.zeros_like(r), torch.ones(len(z), dtype=torch.bool))
    ).sum().backward()
    return -r.grad.numpy()


def test_golden_gradient_weights():
    z = [-5.0, 0.0, 5.0]
    kto = gradient(functools.partial(losses.kto, beta=1.0, reference_point=0.0), z)
    np.testing.assert_allclose(kto, [0.00664806, 0.25, 0.00664806], atol=6e-9)
    bco = gradient(functools.partial(losses.bco_unpaired, beta=1.0, shift=0.0), z)
    np.testing.assert_allclose(bco, [0.99330715, 0.5, 0.00669285], atol=6e-9)


def test_golden_optimum():
    case = paper.Counts(
        np.asarray([30.0, 10, 5]), np.asarray([10.0, 10, 25]), np.asarray([0.2, 0.5, 0.3]), 0.5
    )
    probs, shift = paper.closed_form(case)
    np.testing.assert_allclose(probs, [0.77854671, 0.21626298, 0.00519031], atol=6e-9)
    assert shift == pytest.approx(
        -0.5 * np.log(0.2 * 9 + 0.5 + 0.3 / 25), rel=1e-14
    )  # the page rounds it to -.4190564755
    assert paper.counts_optimum(case).error < 1e-7


def test_the_unbalanced_classifier_inflates_by_three():
    law, rewards = np.full(6, 1 / 6), np.linspace(-1, 1, 6)
    weights = losses.density_ratio_weights(np.full(6, 300 / 400), high=100.0)
    np.testing.assert_allclose(weights, 3.0, rtol=1e-14)
    assert paper.matching(paper.Prompts(law, law, rewards, 0.75)).error < 1e-14


def test_one_class_alone_is_legal():
    found = losses.bco_unpaired(paper.thumbs([0.2, 0.4], True), beta=1.0)
    np.testing.assert_allclose(found, np.log1p(np.exp([0.1, -0.1])), rtol=1e-14)


def test_prompt_classifier_finds_the_clusters():
    world = _thumbs.draw_world(0)
    up, down = np.asarray([[0] * 8 + [9] * 2]), np.asarray([[0] * 2 + [9] * 8])
    probs = _thumbs.prompt_classifier(world.embedding, up, down)[0]
    assert probs[0] == pytest.approx(0.8, abs=0.02)
    assert probs[9] == pytest.approx(0.2, abs=0.02)


def test_matching_gradients():
    found = _thumbs.matching_gradients(3)
    np.testing.assert_allclose(found["matched"], found["target"], atol=1e-10)
    assert np.abs(found["unmatched"] - found["target"]).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.bco_unpaired(BATCH, beta=0.0), "beta must be a finite number > 0"),
        (lambda: losses.bco_unpaired(BATCH._replace(desirable=np.ones(2, bool))), "one shape"),
        (
            lambda: losses.bco_unpaired(BATCH._replace(desirable=np.ones(6))),
            "desirable must hold booleans, got dtype float64",
        ),
        (lambda: losses.RewardShift().updated([]), "at least one value, got 0"),
        (lambda: losses.RewardShift().updated([np.nan]), "rewards must be finite"),
        (lambda: losses.density_ratio_weights([1.2]), r"prob must lie in \[0, 1\]"),
        (lambda: losses.density_ratio_weights([0.5], low=3.0, high=2.0), "low must be <= high"),
        (lambda: losses.density_ratio_weights([0.5], low=-1.0), "low must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.table) == 6
