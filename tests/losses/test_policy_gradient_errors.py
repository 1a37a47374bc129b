"""What CoPG, P3O and the running scale of rewards refuse, and what they make of edge cases."""

import math

import numpy as np
import pytest

from prefsim import losses

PAIR = losses.PairLogps.example(1)
GROUP = losses.ListLogps(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.copg(PAIR, beta=0.0), "beta must be a finite number > 0"),
        (
            lambda: losses.copg(PAIR, beta=-0.1, form="gradient"),
            "beta must be a finite number >= 0",
        ),
        (
            lambda: losses.copg(PAIR, form="cube"),
            "form must be one of 'square', 'gradient', got 'cube'",
        ),
        (
            lambda: losses.copg(PAIR._replace(chosen_score=None)),
            "chosen_score is needed by this loss, got None",
        ),
        (lambda: losses.copg(PAIR._replace(chosen_score=np.zeros(2))), "one shape"),
        (
            lambda: losses.copg_group(GROUP),
            r"at least two responses on its last axis to contrast, got shape \(1, 1\)",
        ),
        (lambda: losses.copg_group(GROUP._replace(scores=np.zeros((1, 2)))), "one shape"),
        (lambda: losses.p3o(PAIR, beta=-0.1), "beta must be a finite number >= 0"),
        (lambda: losses.p3o(PAIR, epsilon=0.0), r"epsilon must lie in \(0.0, inf\], got 0.0"),
        (
            lambda: losses.p3o(PAIR, weight_clip=0.5),
            r"weight_clip must lie in \[1.0, inf\], got 0.5",
        ),
        (
            lambda: losses.p3o(PAIR, clip="both"),
            "clip must be one of 'joint', 'separate', got 'both'",
        ),
        (
            lambda: losses.p3o(PAIR._replace(old_rejected=None)),
            "old_rejected is needed by this loss, got None",
        ),
        (
            lambda: losses.p3o(PAIR._replace(rejected_score=None)),
            "rejected_score is needed by this loss, got None",
        ),
        (lambda: losses.p3o(PAIR._replace(old_chosen=np.zeros(2))), "one shape"),
        (
            lambda: losses.RewardScale().updated([1.0, np.nan]),
            "rewards must be finite, got nan at index 1",
        ),
        (
            lambda: losses.RewardScale().updated([1.0, np.inf]),
            "rewards must be finite, got inf at index 1",
        ),
        (lambda: losses.RewardScale().updated([]), "rewards must hold at least one value, got 0"),
        (lambda: losses.RewardScale(limit=0.0).updated([1.0]), "limit must be a finite number > 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_a_penalty_the_gradient_form_is_the_plain_contrast():
    gap = (PAIR.chosen_score - PAIR.rejected_score) * (PAIR.chosen - PAIR.rejected)
    np.testing.assert_allclose(losses.copg(PAIR, beta=0.0, form="gradient"), -gap)


def test_a_constant_reward_has_no_deviation_to_divide_by():
    same = np.zeros(3)
    alike = losses.PairLogps(
        same, same, same, same, chosen_score=np.ones(3), rejected_score=np.zeros(3)
    )
    np.testing.assert_array_equal(losses.p3o(alike, scale_q=True), losses.p3o(alike))
    assert losses.RewardScale().updated([2.0, 2.0]).deviation == 1.0


def test_infinite_bounds_do_not_clip():
    far = PAIR._replace(old_chosen=PAIR.chosen - 3.0, old_rejected=PAIR.rejected - 3.0)
    gap = PAIR.chosen_score - PAIR.rejected_score
    free = losses.p3o(far, beta=0.0, epsilon=math.inf, weight_clip=math.inf)
    margin = losses.reward_margin(far)
    np.testing.assert_allclose(free, -0.5 * gap * math.exp(6.0) * margin)
