"""Losses that look at one response of a pair: what they refuse."""

import numpy as np
import pytest

from prefsim import losses

PAIR = losses.PairLogps(*np.zeros((4, 1)))


def test_a_mean_over_tokens_needs_the_lengths():
    with pytest.raises(ValueError, match="chosen_length is needed"):
        losses.simnpo(PAIR)
