"""Slopes of pairwise losses: known values, and which way they pull."""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.analysis import pair_derivatives
from prefsim.losses import PairLogps

LENGTHS = np.array([3.0]), np.array([5.0])
PAIR = PairLogps(*(np.array([x]) for x in (-4.2, -6.0, -4.0, -6.5)), *LENGTHS)


@pytest.mark.parametrize(
    ("loss", "chosen", "rejected"),
    [
        (functools.partial(losses.dpo, beta=0.1), 0.05174929, 0.05174929),
        (functools.partial(losses.rdpo_length, beta=0.1, alpha=0.05), 0.05423979, 0.05423979),
        (functools.partial(losses.simpo, beta=0.1, gamma=0.3), 0.01931081, 0.01158649),
        (functools.partial(losses.ipo, tau=0.1), 11.4, 11.4),
        (functools.partial(losses.rrhf, lambda_=0.5), 0.83333333, 0.2),
        (functools.partial(losses.slic, delta=1.0, lambda_=0.5), 0.5, 0.0),
        (functools.partial(losses.dpop, beta=0.1, penalty=5.0), 0.32543876, 0.05423979),
        (functools.partial(losses.sppo_hard, beta=0.1), 10.4, 11.0),
    ],
)
def test_values(loss, chosen, rejected):
    found = pair_derivatives(loss, PAIR)
    assert (found.chosen[0], found.rejected[0]) == pytest.approx((chosen, rejected), abs=5e-9)


def test_a_batch_has_a_slope_for_each_pair():
    pairs = PairLogps.example(7, seed=1)
    found = pair_derivatives(losses.dpo, pairs)
    one = pair_derivatives(losses.dpo, PairLogps(*(np.asarray(field)[3:4] for field in pairs)))
    assert found.chosen.shape == found.rejected.shape == (7,)
    assert (found.chosen[3], found.rejected[3]) == pytest.approx((one.chosen[0], one.rejected[0]))


def test_exchanged_responses_are_pulled_the_other_way():
    loss = functools.partial(losses.ipo, tau=0.1)
    swapped = pair_derivatives(lambda pair: loss(pair.swapped()), PAIR)
    expected = pair_derivatives(loss, PAIR.swapped())
    assert swapped.chosen == pytest.approx(-expected.rejected)
    assert swapped.rejected == pytest.approx(-expected.chosen)
