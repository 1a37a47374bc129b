"""Data sets of scikit-learn, their splits, and what is there without it."""

import sys

import numpy as np
import pytest

from prefsim.data.labelled_sets import SETS, LabelledSet, labelled_set, split_set

SHAPES = {"breast_cancer": (569, 30, 2), "digits": (1797, 64, 10), "wine": (178, 13, 3)}


@pytest.mark.parametrize("name", SETS)
def test_sets(name):
    pytest.importorskip("sklearn")
    data = labelled_set(name)
    assert (*data.inputs.shape, data.n_classes) == SHAPES[name]
    split = split_set(data, 100, seed=0)
    assert split.inputs.shape == (100, SHAPES[name][1])
    assert split.test_label.size == SHAPES[name][0] - 100
    spread = split.inputs.std(axis=0)
    np.testing.assert_allclose(split.inputs.mean(axis=0), 0.0, atol=1e-12)
    # Corners of the digits that are always white stay zero.
    np.testing.assert_allclose(spread[spread > 1e-9], 1.0, rtol=1e-12)
    assert np.isfinite(split.test_inputs).all()


def test_a_split_has_every_example_once():
    data = LabelledSet(np.arange(10.0)[:, None], np.arange(10))
    split = split_set(data, 6, seed=3)
    assert sorted([*split.label, *split.test_label]) == list(range(10))
    again, other = split_set(data, 6, seed=3), split_set(data, 6, seed=4)
    np.testing.assert_array_equal(split.label, again.label)
    assert not np.array_equal(split.label, other.label)


def test_without_scikit_learn_there_is_no_set(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert labelled_set("wine") is None


def test_bad_arguments():
    with pytest.raises(ValueError, match="name must be one of"):
        labelled_set("cifar")
    data = LabelledSet(np.zeros((4, 1)), np.zeros(4, dtype=int))
    for n_train in (1, 4):
        with pytest.raises(ValueError, match="n_train must be an integer in"):
            split_set(data, n_train, seed=0)
