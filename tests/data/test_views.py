"""Points with pairs of views: what is drawn, and what is the same at every noise."""

import sys

import numpy as np
import pytest

from prefsim.data.views import clustered_views, digit_views, moved_by_a_pixel


def test_clusters():
    views = clustered_views((10, 5), range(2), noise=0.1)
    assert views.points.shape == (2, 15, 8)
    assert views.pairs.shape == (2, 4, 2, 15, 8)
    assert (views.pairs - views.points[:, None, None]).std() == pytest.approx(0.1, rel=0.05)
    exact = clustered_views((10, 5), range(2), noise=0.0)
    np.testing.assert_array_equal(exact.points, views.points)
    np.testing.assert_array_equal(exact.pairs[:, 1, 0], exact.points)
    assert (views.points[0] != views.points[1]).all()
    within = clustered_views((2000,), range(1), spread=0.3, views=1).points[0]
    np.testing.assert_allclose(within.std(axis=0), 0.3, rtol=0.1)
    twice = views.repeated(2)
    np.testing.assert_array_equal(twice.points[2:], views.points)


def test_digits():
    sizes = tuple(range(1, 11))
    views = digit_views(sizes, range(2), n_test=3, views=2)
    assert views.points.shape == (2, 55 + 30, 64)
    assert views.pairs.shape == (2, 2, 2, 55, 64)
    np.testing.assert_array_equal(np.bincount(views.label[0, :55]), sizes)
    np.testing.assert_array_equal(np.bincount(views.label[0, 55:]), [3] * 10)
    assert len(np.unique(views.points[0], axis=0)) == 85
    with pytest.raises(ValueError, match="ten digits"):
        digit_views((3, 3), range(1), n_test=3)
    with pytest.raises(ValueError, match="at most 174"):
        digit_views((172,) * 10, range(1), n_test=3)


def test_without_scikit_learn_there_are_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert digit_views((3,) * 10, range(1), n_test=3) is None


def test_a_pixel():
    image = np.zeros((200, 8, 8))
    image[:, 3, 4] = 1.0
    moved = moved_by_a_pixel(image, np.random.default_rng(0))
    _, rows, columns = moved.nonzero()
    assert (set(rows), set(columns)) == ({2, 3, 4}, {3, 4, 5})
    np.testing.assert_array_equal(moved.sum(axis=(1, 2)), 1)
