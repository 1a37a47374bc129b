"""Losses that look at one response of a pair: a margin, and what they refuse."""

import numpy as np
import pytest

from prefsim import losses

PAIR = losses.PairLogps(*np.zeros((4, 1)))


def test_a_mean_over_tokens_needs_the_lengths():
    with pytest.raises(ValueError, match="chosen_length is needed"):
        losses.simnpo(PAIR)


def test_the_margin_of_simnpo_pushes_the_mean_of_a_token_further_down():
    pair = losses.PairLogps(
        *np.asarray([[-1.0], [-2.0], [0.0], [0.0]]),
        chosen_length=np.asarray([1]),
        rejected_length=np.asarray([4]),
    )
    value = losses.simnpo(pair, beta=2.5, gamma=0.7)
    # (2/β) log(1 + exp(β · mean + γ)), with a mean of −½.
    np.testing.assert_allclose(value, 0.8 * np.log1p(np.exp(-1.25 + 0.7)), rtol=1e-14)
    # A margin is a reference that gave each token the log-probability −γ/β.
    reference = pair._replace(rejected=np.asarray([-0.5]), ref_rejected=np.asarray([-0.7 / 2.5]))
    np.testing.assert_allclose(value, losses.npo(reference, beta=2.5), rtol=1e-14)


def test_a_fixed_shift_that_is_that_of_the_batch():
    pair = losses.PairLogps(
        *np.asarray([[-1.0, -2.0, -0.5], [-3.0, -1.5, -4.0], [-1.5, -1.5, -2.0], [-2.0] * 3])
    )
    ratios = np.stack([pair.chosen - pair.ref_chosen, pair.rejected - pair.ref_rejected])
    shift = 0.8 * ratios.mean()
    assert abs(shift) > 0.1
    np.testing.assert_allclose(
        losses.bco_pair(pair, beta=0.8, shift=shift), losses.bco(pair, beta=0.8), rtol=1e-14
    )
    # −log σ(βa − δ) − log σ(δ − βb), the first pair alone.
    expected = np.logaddexp(0, 0.3 - 0.8 * 0.5) + np.logaddexp(0, 0.8 * -1.0 - 0.3)
    np.testing.assert_allclose(losses.bco_pair(pair, beta=0.8, shift=0.3)[0], expected, rtol=1e-14)
