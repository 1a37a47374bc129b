"""arXiv:2305.11965: temperatures of two levels, a row by hand, small batches, encoders."""

import sys

import numpy as np
import pytest

from paper_repros.robust.isogclr import long_tail as world
from paper_repros.robust.isogclr import reproduction
from prefsim.data.views import clustered_views

H = np.asarray([-0.3, -0.7, -1.1, -1.6])


@pytest.mark.parametrize(
    ("radius", "shares", "temperatures"),
    [
        (
            0.1,
            (0.005, 0.02, 0.05, 0.1, 0.2, 0.4),
            [0.38886, 0.55839, 0.72486, 0.88113, 1.04076, 1.10650],
        ),
        (0.3, (0.2, 0.4), [0.62759, 0.59862]),
        (1.0, (0.1, 0.2, 0.4), [0.33404, 0.31498, 0.05]),
    ],
)
def test_temperatures_of_two_levels(radius, shares, temperatures):
    found = world.temperatures_of_two_levels(shares, radius)
    np.testing.assert_allclose(found, temperatures, atol=6e-6)


def test_a_row_by_hand():
    law = world.law_of(H, 0.5)
    np.testing.assert_allclose(
        law.weights, [0.57954248, 0.26040522, 0.11700761, 0.04304469], atol=6e-9
    )
    assert law.divergence == pytest.approx(0.33332549, abs=6e-9)
    assert 0.5 * (law.log_mean + 0.3) == pytest.approx(-0.5703890210723485, rel=1e-13)
    assert world.law_of(H, 0.1).divergence == pytest.approx(1.2932284483611318, rel=1e-13)
    assert world.law_of(H, 0.05).divergence == pytest.approx(1.3832742414109824, rel=1e-13)


def test_functions_are_what_is_written():
    off = world.differences_from_definitions(3)
    assert set(off) == set(world.FUNCTIONS)
    assert max(off.values()) < 1e-12


def test_one_negative_at_a_time_has_no_bias_only_with_the_whole_normaliser():
    whole, own = (
        world.gradient_over_batches(H, size=1, tau=0.3, mixing=mixing) for mixing in (1e-12, 1.0)
    )
    np.testing.assert_allclose(whole, world.law_of(H, 0.3).weights, atol=1e-10)
    # A single negative has the weight 1, whichever it is.
    np.testing.assert_allclose(own, 0.25, atol=1e-12)


def test_encoders_of_one_batch_do_not_touch_each_other():
    views = clustered_views((4, 3), range(2), views=1)
    start = world.start_of(views, range(2), 3)
    both = world.train(views, start, steps=5, radius=0.1)
    alone = world.train(
        clustered_views((4, 3), range(1, 2), views=1), start[1:], steps=5, radius=0.1
    )
    np.testing.assert_allclose(both.temperature[1], alone.temperature[0], rtol=1e-10)
    np.testing.assert_allclose(both.embeddings[1], alone.embeddings[0], atol=1e-10)
    assert both.exact.shape == both.temperature.shape == (2, 7)
    fixed = world.train(views, start, steps=1, temperature=0.3)
    np.testing.assert_array_equal(fixed.temperature, 0.3)


def test_batches_of_all_points_are_exact():
    views = clustered_views((4, 3), range(1), views=1)
    start = world.start_of(views, range(1), 3)
    found = world.in_small_batches(
        views, start, mixings=(1.0, 0.5), size=7, steps=8, seed=0, temperature=0.3
    )
    np.testing.assert_allclose(found.bias, 0, atol=1e-12)
    np.testing.assert_allclose(found.log_normaliser, 0, atol=1e-12)


def test_rank_correlations():
    label = np.asarray([[0, 0, 0, 1, 1, 2]])
    means, found = reproduction.rank_correlations(
        np.asarray([[0.3, 0.5, 0.4, 0.2, 0.4, 0.1]]), label, (3, 2, 1)
    )
    np.testing.assert_allclose(means, [[0.4, 0.3, 0.1]])
    assert found[0] == pytest.approx(1.0)


def test_without_scikit_learn_the_digits_are_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert reproduction.study_of_digits(range(1), 1) is None
