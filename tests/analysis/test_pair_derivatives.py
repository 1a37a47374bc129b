"""Slopes of pairwise losses: known values, and which way they pull."""

import functools

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.analysis import both_fall_above, entanglement, pair_derivatives, pulls_of_losses
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


SLOPES = st.one_of(st.just(0.0), st.floats(-3.0, -0.01), st.floats(0.01, 3.0))


@given(SLOPES, SLOPES, st.floats(0.1, 10.0), st.floats(-1.0, 1.0))
def test_both_fall_above_the_cosine_and_not_below(up, down, ratio, cosine):
    found = float(both_fall_above(np.asarray(up), down, norm_ratio=ratio))
    rates = entanglement(
        np.asarray(1.0),
        np.asarray(ratio**2),
        np.asarray(cosine * ratio),
        chosen_slope=up,
        rejected_slope=down,
    )
    if abs(cosine - found) > 1e-9:
        both = rates.chosen_rate < 0 and rates.rejected_rate < 0
        assert both == (cosine > found)


@pytest.mark.parametrize("library", [torch, array_api_strict], ids=["torch", "strict"])
def test_both_fall_above_in_other_libraries(library):
    slopes = np.array([0.5, -1.0, 0.0, 1.0]), np.array([1.0, 0.5, -0.5, -1.0])
    found = both_fall_above(*map(library.asarray, slopes), norm_ratio=2.0)
    np.testing.assert_allclose(np.asarray(found), both_fall_above(*slopes, norm_ratio=2.0))


def test_every_pairwise_loss_is_in_the_table():
    pair = PairLogps.example(1, seed=3)
    rows = {row.name: row for row in pulls_of_losses(pair, norm_ratio=0.5)}
    found = losses.loss_functions()
    assert set(rows) == {n for n, f in found.items() if losses.container_of(f) is PairLogps}
    for name in ("dpo", "cpo", "simpo"):
        slopes = pair_derivatives(found[name], pair)
        assert (rows[name].chosen, rows[name].rejected) == (slopes.chosen[0], slopes.rejected[0])
        expected = rows[name].chosen / rows[name].rejected / 0.5
        assert rows[name].both_fall_above == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match=r"logps must hold one pair, got chosen \(2,\)"):
        pulls_of_losses(PairLogps.example(2))


def test_a_ratio_that_is_no_ratio():
    with pytest.raises(ValueError, match=r"norm_ratio must be > 0, got 0\.0"):
        both_fall_above(np.ones(2), 1.0, norm_ratio=0.0)
