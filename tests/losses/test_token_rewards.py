"""Rewards of tokens: what is paid where, and what is refused."""

import numpy as np
import pytest

from prefsim import losses

OLD, REF, DPO = np.random.default_rng(0).uniform(-3.0, 0.0, (3, 2, 4))
MASK = np.array([[True, True, False, False], [True, True, True, True]])
SCORES = np.array([20.0, -0.5])


def test_parts_add_up():
    found = losses.rto_rewards(SCORES, OLD, REF, DPO, MASK, beta=0.3, score_scale=2.0)
    tokens = losses.log_ratio_rewards(DPO, REF, MASK, scale=0.05, clip=0.05)
    # Clipped before it is scaled.
    shaped = losses.kl_shaped_rewards(np.array([20.0, -1.0]), OLD, REF, MASK, beta=0.3)
    np.testing.assert_allclose(found, tokens + shaped, atol=1e-15)
    assert not found[~MASK].any()
    assert np.abs(tokens).max() == 0.05


def test_what_is_no_token_may_hold_anything():
    spoilt = [np.where(MASK, each, np.nan) for each in (OLD, REF, DPO)]
    np.testing.assert_array_equal(
        losses.rto_rewards(SCORES, *spoilt, MASK), losses.rto_rewards(SCORES, OLD, REF, DPO, MASK)
    )


def test_a_prompt_before_the_response_is_no_hole():
    late = np.array([[False, True, True, False], [False, False, False, True]])
    found = losses.rto_rewards(SCORES, OLD, REF, DPO, late)
    np.testing.assert_allclose(
        found[1, 3], 0.05 * np.clip(DPO - REF, -1, 1)[1, 3] - 0.01 * (OLD - REF)[1, 3] - 0.5
    )
    assert not found[~late].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": -0.1}, "beta must be"),
        ({"scale": 0.0}, "scale must be"),
        ({"clip": 0.0}, "clip must"),
        ({"score_clip": -1.0}, "score_clip must"),
        ({"score_scale": -1.0}, "score_scale must"),
        ({"mask": np.zeros((2, 4), dtype=bool)}, "at least one token of every response"),
        ({"mask": np.array([[True, False, True, False]] * 2)}, "mask must leave no hole"),
        ({"dpo_logp": DPO[:, :3]}, "one shape"),
        ({"old_logp": OLD[:, :3]}, "one shape"),
        ({"scores": np.ones(3)}, "one shape"),
    ],
)
def test_bad_input(change, message):
    given = {"scores": SCORES, "old_logp": OLD, "ref_logp": REF, "dpo_logp": DPO, "mask": MASK}
    with pytest.raises(ValueError, match=message):
        losses.rto_rewards(**given | change)


def test_a_token_without_a_ratio_is_refused():
    never = np.array([-np.inf, -1.0])
    some = np.ones(2, dtype=bool)
    np.testing.assert_array_equal(
        losses.log_ratio_rewards(never, np.array([-1.0, -1.0]), some, clip=0.5), [-0.5, 0.0]
    )
    with pytest.raises(ValueError, match="logp and ref_logp must not both be -inf at a token"):
        losses.log_ratio_rewards(never, never, some)
    with pytest.raises(ValueError, match="ref_logp must hold no NaN, got nan at index 1"):
        losses.log_ratio_rewards(never, np.array([-1.0, np.nan]), some)
