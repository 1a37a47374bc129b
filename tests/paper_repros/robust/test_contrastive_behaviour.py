"""arXiv:2012.09740: a row by hand, limits, encoders that do not touch each other."""

import sys

import numpy as np
import pytest

from paper_repros.robust.contrastive_behaviour import encoders as world
from paper_repros.robust.contrastive_behaviour import reproduction

ROW = np.asarray([0.8, 0.5, 0.1, -0.3])


def test_a_row_by_hand():
    values = world.written_out(ROW, temperature=0.2, share=0.5, weight=1 / 3)
    expected = [0.22905748151249572, 0.22580204923159908, -0.7, -0.6, 0.44105744405816344]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    found = world.by_the_library(ROW, temperature=0.2, share=0.5, weight=1 / 3)
    np.testing.assert_allclose(found, values, rtol=1e-12)


@pytest.mark.parametrize(
    ("temperature", "error"), [(10.0, 0.0086), (100.0, 0.00086), (1000.0, 0.000086)]
)
def test_rate_of_the_limit_of_large_temperatures(temperature, error):
    value = world.written_out(ROW, temperature=temperature, share=1.0, weight=1.0)[0]
    assert temperature * (value - np.log(4)) + 0.525 == pytest.approx(error, rel=0.02)


def test_pairs_of_points():
    points = np.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert world.pair_by_pair(points, np.asarray([0, 0, 1])) == (
        pytest.approx(-4.396348967229015),
        0.0,
    )


def test_encoders_of_one_batch_do_not_touch_each_other():
    both = world.on_clusters(0.1, range(2), views=2)
    found = both.across_temperatures((0.3, 3.0), steps=5)
    alone = world.on_clusters(0.1, range(1, 2), views=2).across_temperatures((3.0,), steps=5)
    assert found.uniformity.shape == (2, 2)
    np.testing.assert_allclose(found.uniformity[1, 1], alone.uniformity[0, 0], rtol=1e-10)
    np.testing.assert_allclose(found.tolerance[1, 1], alone.tolerance[0, 0], rtol=1e-10)
    embeddings = both.embeddings((0.3,), steps=1)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, rtol=1e-12)


def test_without_scikit_learn_the_digits_are_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert reproduction.study_of_digits(range(1), 1) is None
