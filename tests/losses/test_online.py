"""The regret-loss: values, gradients, any library, and its limits."""

import array_api_strict
import numpy as np
import pytest
import torch

from prefsim.losses import regret_loss
from prefsim.losses.online import GROWTHS, WEIGHTS, regret_path
from prefsim.numerics import softmax

RNG = np.random.default_rng(0)
LOSSES = RNG.random((2, 4, 5, 3))
DECISIONS = softmax(RNG.normal(size=(2, 4, 5, 3)))
REGRETS = regret_path(DECISIONS, LOSSES)[..., -1]
OPTIONS = [
    {"growth": growth, "weighting": weighting, "comparator": comparator, "radius": 0.7}
    for growth in GROWTHS
    for weighting in WEIGHTS
    for comparator in ("simplex", "ball")
]


def test_values():
    weight = np.exp(2.0 * REGRETS)
    expected = (weight * np.maximum(REGRETS, 0) ** 2).sum(-1) / weight.sum(-1)
    np.testing.assert_allclose(regret_loss(DECISIONS, LOSSES), expected, rtol=1e-13)
    power = np.maximum(REGRETS, 1e-12) ** 3
    np.testing.assert_allclose(
        regret_loss(DECISIONS, LOSSES, k=3.0, growth="positive", weighting="power"),
        (power * np.maximum(REGRETS, 0)).sum(-1) / power.sum(-1),
        rtol=1e-12,
    )


def test_against_the_ball():
    path = regret_path(DECISIONS, LOSSES, comparator="ball", radius=2.0)
    paid = (DECISIONS * LOSSES).sum(-1).cumsum(-1)
    expected = paid + 2 * np.linalg.norm(LOSSES.cumsum(-2), axis=-1)
    np.testing.assert_allclose(path, expected, rtol=1e-13)


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_and_other_libraries(options):
    moving = torch.tensor(DECISIONS[:1, :2, :3], requires_grad=True)
    against = torch.tensor(LOSSES[:1, :2, :3], requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: regret_loss(x, y, **options), (moving, against))
    expected = regret_loss(DECISIONS, LOSSES, **options)
    strict = regret_loss(*map(array_api_strict.asarray, (DECISIONS, LOSSES)), **options)
    np.testing.assert_allclose(np.asarray(strict), expected, rtol=1e-12)
    single = [torch.tensor(x, dtype=torch.float32) for x in (DECISIONS, LOSSES)]
    np.testing.assert_allclose(regret_loss(*single, **options), expected, rtol=2e-5)


@pytest.mark.parametrize("weighting", WEIGHTS)
def test_large_regrets_are_finite(weighting):
    decisions = torch.tensor(DECISIONS, requires_grad=True)
    value = regret_loss(decisions, 1e6 * LOSSES, k=50.0, weighting=weighting).sum()
    value.backward()
    assert value.isfinite() and decisions.grad.isfinite().all()
    nothing = torch.zeros_like(decisions, requires_grad=True)
    # Of length zero the best decision in the ball costs nothing, and has no slope.
    loss = regret_loss(nothing, 0 * LOSSES, weighting=weighting, comparator="ball").sum()
    loss.backward()
    assert loss == 0 and nothing.grad.isfinite().all()


def test_a_growth_of_ones_own():
    found = regret_loss(DECISIONS, LOSSES, k=0.0, growth=abs)
    np.testing.assert_allclose(found, np.abs(REGRETS).mean(-1), rtol=1e-13)


def test_bad_input():
    with pytest.raises(ValueError, match="at least one sequence"):
        regret_loss(DECISIONS[0, 0], LOSSES[0, 0])
    with pytest.raises(ValueError, match="k must be a finite number >= 0"):
        regret_loss(DECISIONS, LOSSES, k=-1.0)
    with pytest.raises(ValueError, match="growth must be"):
        regret_loss(DECISIONS, LOSSES, growth="cube")
    with pytest.raises(ValueError, match="decisions must have trailing shape"):
        regret_loss(DECISIONS[..., :2], LOSSES)


@pytest.mark.parametrize("k", [0.01, 0.1, 1.0, 3.0])
def test_sequences_without_regret_have_no_power(k):
    losses = np.array([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 1.0]]])
    decisions = np.broadcast_to([1.0, 0.0], losses.shape)
    # Regrets of 1, 0 and 0; the zeroth power of zero is one.
    assert regret_loss(decisions, losses, k=k, weighting="power") == pytest.approx(1.0, rel=1e-15)
    assert regret_loss(decisions, losses, k=0.0, weighting="power") == pytest.approx(1 / 3)
    small = regret_loss(decisions, 1e-13 * losses, k=k, growth="positive", weighting="power")
    assert small == pytest.approx(1e-13, rel=1e-12)


@pytest.mark.parametrize("k", [0.0, 0.5])
def test_derivatives_where_some_have_no_regret(k):
    losses = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.2, 0.9]]], dtype=torch.float64)
    start = torch.full((3, 1, 2), 0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda decisions: regret_loss(decisions, losses, k=k, weighting="power"), start
    )
