"""The cross-entropy with each pair's judged probability: what it refuses."""

import numpy as np
import pytest

from prefsim import losses

PAIR = losses.PairLogps(*np.zeros((4, 1)), chosen_score=np.asarray([0.7]))


@pytest.mark.parametrize("prob", [1.2, -0.1, np.nan])
def test_what_is_no_probability(prob):
    with pytest.raises(ValueError, match=r"chosen_score must be a probability in \[0, 1\]"):
        losses.spce(PAIR._replace(chosen_score=np.asarray([prob])))


def test_judgements_are_needed():
    with pytest.raises(ValueError, match="chosen_score is needed"):
        losses.spce(PAIR._replace(chosen_score=None))


def test_beta_is_positive():
    with pytest.raises(ValueError, match="beta must be a finite number > 0"):
        losses.spce(PAIR, beta=0.0)
