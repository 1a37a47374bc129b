"""Multipliers: torch's own optimiser, weights by hand, and what normalising forgets."""

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.losses.multipliers import KINDS, Multipliers

RNG = np.random.default_rng(0)
PENALTY, REWARDS = RNG.standard_normal((4, 2, 5)), RNG.standard_normal((3, 4, 2, 5))
MASK = RNG.random((4, 2, 5)) < 0.7
RAW = np.array([0.3, -0.8, 1.2])


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_torch(kind):
    squash = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}.get(kind, lambda x: x)
    raw = torch.tensor(RAW, requires_grad=True)
    descent = torch.optim.SGD([raw], lr=0.1, momentum=0.1)
    state = Multipliers.starting(RAW)
    for _ in range(6):
        achieved, thresholds = RNG.standard_normal((2, 3)) * [[0.3, 1.0, 2.0]]
        descent.zero_grad()
        (squash(raw) * torch.tensor(achieved - thresholds)).sum().backward()
        torch.nn.utils.clip_grad_norm_([raw], 0.5)
        descent.step()
        if kind == "projected":
            raw.data.clamp_(min=0.0)
        state = losses.multiplier_step(state, achieved, thresholds, kind=kind)
        np.testing.assert_allclose(state.raw, raw.detach(), rtol=1e-5, atol=1e-6)


def test_means_in_single_precision_leave_the_state_in_double():
    means = np.array([1.0, 0.0, 0.5], dtype=np.float32)
    for kind in KINDS:
        step = losses.multiplier_step(Multipliers.starting(RAW), means, means[::-1], kind=kind)
        assert step.raw.dtype == step.velocity.dtype == np.float64


def test_a_reward_beyond_its_threshold_loses_weight():
    for kind in KINDS:
        step = losses.multiplier_step(
            Multipliers.starting([0.2, 0.2]), np.array([1.0, 0.0]), np.array([0.5, 0.5]), kind=kind
        )
        assert step.raw[0] < 0.2 < step.raw[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalise", [False, True])
def test_mixed_advantages_by_hand(kind, normalise):
    def brought(table):
        seen = table[MASK]
        table = (table - seen.mean()) / (seen.std(ddof=1) + 1e-8) if normalise else table
        return np.where(MASK, table, 0.0)

    weight = {"sigmoid": 1 / (1 + np.exp(-RAW)), "tanh": np.tanh(RAW)}.get(kind, RAW)
    penalty = 3 - weight.sum() if kind in ("sigmoid", "tanh") else 1.0
    expected = penalty * brought(PENALTY)
    expected = expected + sum(w * brought(table) for w, table in zip(weight, REWARDS, strict=True))
    options = {"kind": kind, "normalise": normalise, "mask": MASK}
    found = losses.mixed_advantage(PENALTY, REWARDS, RAW, **options)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_leading_axes_are_policies_of_their_own():
    penalty, rewards = RNG.standard_normal((6, 7)), RNG.standard_normal((6, 2, 7))
    raw = RNG.standard_normal((6, 2))
    together = losses.mixed_advantage(penalty, rewards, raw)
    alone = [losses.mixed_advantage(*each) for each in zip(penalty, rewards, raw, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_equal_advantages_are_normalised_to_nothing():
    found = losses.mixed_advantage(np.zeros(4), np.ones((2, 4)), np.zeros(2))
    np.testing.assert_array_equal(found, 0.0)


def test_it_is_a_constant_of_differentiation():
    table = torch.tensor(REWARDS, requires_grad=True)
    mixed = losses.mixed_advantage(torch.tensor(PENALTY), table, torch.tensor(RAW))
    assert not mixed.requires_grad
    state = Multipliers.starting(torch.tensor(RAW, requires_grad=True))
    moved = losses.multiplier_step(state, table.mean((1, 2, 3)), torch.zeros(3))
    assert not moved.velocity.requires_grad


def test_weights_of_squashes():
    weights = losses.mixture_weights(np.array([0.0, np.log(3.0)]), kind="sigmoid")
    np.testing.assert_allclose(weights.rewards, [0.5, 0.75])
    assert float(weights.penalty) == pytest.approx(0.75)
    signed = losses.mixture_weights(np.array([-50.0, 0.0]), kind="tanh")
    np.testing.assert_allclose(signed.rewards, [-1.0, 0.0])
    assert float(signed.penalty) == pytest.approx(3.0)
    assert losses.mixture_weights(RAW, kind="free").penalty == 1.0


def test_saturated_rewards():
    found = losses.saturated(REWARDS, np.array([0.0, 1.0, -1.0])[:, None, None, None])
    assert found.max(axis=(1, 2, 3)) == pytest.approx([0.0, 1.0, -1.0])
    np.testing.assert_array_equal(losses.saturated(REWARDS, 99.0), REWARDS)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        ("mixture_weights", {"raw": RAW, "kind": "softmax"}, "kind must be one of"),
        ("mixture_weights", {"raw": 0.5}, "raw must have trailing shape"),
        (
            "mixed_advantage",
            {"penalty_advantage": PENALTY, "advantages": REWARDS[:2], "raw": RAW},
            r"advantages must have shape \(3, 4, 2, 5\)",
        ),
        (
            "mixed_advantage",
            {
                "penalty_advantage": PENALTY[:2],
                "advantages": REWARDS[:, :2].swapaxes(0, 1),
                "raw": np.tile(RAW, (7, 1)),
            },
            r"shapes must broadcast, got raw \(7,\), penalty_advantage \(2,\)",
        ),
        (
            "mixed_advantage",
            {
                "penalty_advantage": PENALTY,
                "advantages": REWARDS,
                "raw": RAW,
                "mask": MASK[:1],
            },
            "mask must have the shape of penalty_advantage",
        ),
        (
            "multiplier_step",
            {
                "multipliers": Multipliers.starting(RAW),
                "achieved": RAW[:2],
                "thresholds": RAW,
            },
            r"achieved must have trailing shape \(3\)",
        ),
        (
            "multiplier_step",
            {"multipliers": Multipliers.starting(RAW), "achieved": RAW, "thresholds": RAW[:1]},
            r"thresholds must have trailing shape \(3\)",
        ),
        (
            "multiplier_step",
            {
                "multipliers": Multipliers.starting(RAW),
                "achieved": RAW,
                "thresholds": RAW,
                "momentum": 1.0,
            },
            "momentum must lie",
        ),
        ("saturated", {"rewards": np.ones(3), "thresholds": np.ones(2)}, "shapes must broadcast"),
    ],
)
def test_bad_input(function, given, message):
    with pytest.raises(ValueError, match=message):
        getattr(losses, function)(**given)


def test_long_gradients_are_cut_and_short_ones_are_kept():
    start = Multipliers.starting(np.zeros(2))
    long, short = (
        losses.multiplier_step(start, np.array(achieved), np.zeros(2)).velocity
        for achieved in ([3e200, 4e200], [3e-200, 4e-200])
    )
    np.testing.assert_allclose(long, [0.3, 0.4], rtol=1e-14)
    np.testing.assert_allclose(short, [7.5e-201, 1e-200], rtol=1e-14)
    single = Multipliers.starting(np.zeros(2, dtype=np.float32))
    cut = losses.multiplier_step(
        single, np.array([3e20, 4e20], dtype=np.float32), np.zeros(2, dtype=np.float32)
    )
    np.testing.assert_allclose(cut.velocity, [0.3, 0.4], rtol=1e-6)


def test_the_penalty_counts_something_near_saturation():
    raw = np.array([40.0, 41.0])
    found = losses.mixture_weights(raw)
    np.testing.assert_allclose(found.penalty, np.exp(-raw).sum(), rtol=1e-15)
    squashed = losses.mixture_weights(raw, kind="tanh").penalty
    np.testing.assert_allclose(squashed, 2 * np.exp(-2 * raw).sum(), rtol=1e-15)
