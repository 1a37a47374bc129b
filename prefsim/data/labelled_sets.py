"""Small real data sets with class labels, which scikit-learn brings, and their splits."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import check_choice, check_integer

__all__ = ["SETS", "LabelledSet", "SplitSet", "labelled_set", "split_set"]

SETS = ("breast_cancer", "digits", "wine")
"""Names of the sets: 2, 10 and 3 classes."""


class LabelledSet(NamedTuple):
    """Inputs ``(n, d)`` and labels ``(n,)`` in [0, K)."""

    inputs: np.ndarray
    label: np.ndarray

    @property
    def n_classes(self) -> int:
        """Number K of classes."""
        return int(self.label.max()) + 1


class SplitSet(NamedTuple):
    """Examples to train on and to test on, the inputs in units of the deviation in training."""

    inputs: np.ndarray
    label: np.ndarray
    test_inputs: np.ndarray
    test_label: np.ndarray


def labelled_set(name: str) -> LabelledSet | None:
    """Return a data set of scikit-learn, or None where that is not installed.

    Parameters
    ----------
    name
        One of :data:`SETS`.

    Raises
    ------
    ValueError
        If there is no such set.

    Examples
    --------
    >>> wine = labelled_set("wine")
    >>> wine is None or wine.inputs.shape == (178, 13)
    True
    """
    check_choice(SETS, name=name)
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError:
        return None
    inputs, label = getattr(datasets, f"load_{name}")(return_X_y=True)
    return LabelledSet(np.asarray(inputs, dtype=np.float64), np.asarray(label))


def split_set(data: LabelledSet, n_train: int, *, seed: Seed) -> SplitSet:
    """Split a set at random, and centre and scale the inputs as the training half says.

    Parameters
    ----------
    data
        The whole set.
    n_train
        Number of examples to train on, at least 2 and fewer than there are; the others are for
        testing.
    seed
        Of the order.

    Raises
    ------
    ValueError
        If ``n_train`` is out of range.

    Examples
    --------
    >>> data = LabelledSet(np.asarray([[1.0], [3.0], [5.0]]), np.asarray([0, 1, 0]))
    >>> [part.shape for part in split_set(data, 2, seed=0)]
    [(2, 1), (2,), (1, 1), (1,)]
    """
    check_integer(n_train=n_train, low=2, high=data.label.size - 1)
    order = random_generator(seed).permutation(data.label.size)
    first, rest = order[:n_train], order[n_train:]
    centre, spread = data.inputs[first].mean(axis=0), data.inputs[first].std(axis=0)
    # What never varies says nothing, and is not divided by its deviation.
    scaled = (data.inputs - centre) / np.where(spread > 0, spread, 1.0)
    scaled = np.where(spread > 0, scaled, 0.0)
    return SplitSet(scaled[first], data.label[first], scaled[rest], data.label[rest])
