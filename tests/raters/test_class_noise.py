"""Flipped class labels: the laws, what is drawn from them, and what depends on the input."""

import numpy as np
import pytest

from prefsim.raters.class_noise import (
    drawn_labels,
    instance_flips,
    neighbour_flips,
    uniform_flips,
)

LABEL = np.random.default_rng(0).integers(0, 4, 4000)
INPUTS = np.random.default_rng(1).standard_normal((4000, 3))


@pytest.mark.parametrize("flips", [uniform_flips, neighbour_flips])
def test_laws_by_class(flips):
    law = flips(4, 0.3)
    np.testing.assert_allclose(law.sum(axis=-1), 1.0, atol=1e-15)
    np.testing.assert_allclose(np.diagonal(law), 0.7, rtol=1e-15)
    drawn = drawn_labels(law[LABEL], seed=0)
    counts = np.zeros((4, 4))
    np.add.at(counts, (LABEL, drawn), 1.0)
    share = counts / counts.sum(axis=-1, keepdims=True)
    # Four standard errors of a share of about a thousand.
    np.testing.assert_allclose(share, law, atol=4 * 0.5 / np.sqrt(900))
    assert not share[law == 0].any()


def test_one_wrong_class_takes_all_of_class_dependent_noise():
    assert (neighbour_flips(3, 0.4) > 0).sum(axis=-1).tolist() == [2, 2, 2]
    np.testing.assert_allclose(uniform_flips(3, 0.4)[0], [0.6, 0.2, 0.2], rtol=1e-15)


def test_instance_dependent_noise():
    law = instance_flips(INPUTS, LABEL, 0.3, n_classes=4, seed=0)
    np.testing.assert_allclose(law.sum(axis=-1), 1.0, atol=1e-12)
    chance = 1 - law[np.arange(LABEL.size), LABEL]
    assert ((chance >= 0) & (chance <= 1)).all()
    assert chance.mean() == pytest.approx(0.3, abs=0.01)
    assert chance.std() == pytest.approx(0.1, abs=0.01)
    # Equal inputs of one class are mistaken for the same classes, other inputs for others.
    same = instance_flips(INPUTS[[0, 0, 1]], np.zeros(3, dtype=int), 0.3, n_classes=4, seed=5)
    away = same[:, 1:] / same[:, 1:].sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(away[0], away[1], atol=1e-12)
    assert np.abs(away[0] - away[2]).max() > 0.05


def test_ends_of_the_rate():
    np.testing.assert_array_equal(drawn_labels(uniform_flips(4, 0.0)[LABEL], seed=1), LABEL)
    assert (drawn_labels(uniform_flips(4, 1.0)[LABEL], seed=1) != LABEL).all()
    law = instance_flips(INPUTS, LABEL, 0.0, n_classes=4, seed=0)
    assert (law >= 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform_flips(1, 0.1), "n_classes must be an integer >= 2"),
        (lambda: neighbour_flips(3, 1.1), "rate must lie in"),
        (
            lambda: instance_flips(INPUTS, LABEL[:-1], 0.1, n_classes=4, seed=0),
            "label must have",
        ),
        (lambda: instance_flips(INPUTS, LABEL, 0.1, n_classes=3, seed=0), "label must be >= 0"),
        (lambda: drawn_labels(np.eye(3)[0], seed=0), "law must"),
        (lambda: drawn_labels(np.full((2, 2), 0.6), seed=0), "law must"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
