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
