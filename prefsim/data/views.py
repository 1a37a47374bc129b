"""Points of several classes with pairs of views, for contrastive learning: clusters, and digits.

Many data sets lie side by side in one batch, so that encoders of many seeds are trained together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefsim.checks import check_integer, check_nonnegative

__all__ = ["Views", "clustered_views", "digit_views"]


class Views(NamedTuple):
    """Labelled points, and pairs of noisy views of those that are trained on.

    Attributes
    ----------
    points
        ``(sets, N, d)``; the first n are those that have views.
    label
        Integer classes ``(sets, N)``.
    pairs
        V pairs of views of each of the n points, ``(sets, V, 2, n, d)``.
    """

    points: np.ndarray
    label: np.ndarray
    pairs: np.ndarray

    def repeated(self, times: int) -> Views:
        """Return the sets one after another, ``times`` times over."""
        return Views(*(np.concatenate([part] * times) for part in self))


def clustered_views(
    sizes: Sequence[int],
    seeds: range,
    *,
    features: int = 8,
    spread: float = 0.7,
    noise: float = 0.1,
    views: int = 4,
) -> Views:
    """Draw Gaussian clusters of given sizes, with pairs of noisy views of every point.

    Parameters
    ----------
    sizes
        Number of points of each class.
    seeds
        One data set for each. The points of a seed are the same at every ``noise``.
    features
        Dimension d; the means of classes are standard normal.
    spread
        Standard deviation of a point around the mean of its class, >= 0.
    noise
        Standard deviation of a view around its point, >= 0.
    views
        Number of pairs V.

    Examples
    --------
    >>> found = clustered_views((3, 2), range(4), views=1)
    >>> found.points.shape, found.pairs.shape, found.label[0]
    ((4, 5, 8), (4, 1, 2, 5, 8), array([0, 0, 0, 1, 1]))
    """
    check_integer(low=1, features=features, views=views)
    check_nonnegative(spread=spread, noise=noise)

    def one_set(seed: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(seed)
        means = rng.standard_normal((len(sizes), features))
        label = np.repeat(np.arange(len(sizes)), sizes)
        points = means[label] + spread * rng.standard_normal((label.size, features))
        pairs = points + noise * rng.standard_normal((views, 2, *points.shape))
        return points, label, pairs

    return Views(*(np.stack(part) for part in zip(*map(one_set, seeds), strict=True)))


def digit_views(
    sizes: Sequence[int],
    seeds: range,
    *,
    n_test: int,
    noise: float = 0.1,
    views: int = 1,
) -> Views | None:
    """Return scikit-learn's handwritten digits, with views moved by a pixel and under noise.

    Parameters
    ----------
    sizes
        How many of each of the ten digits are trained on; they come first among the points.
    seeds
        One split for each.
    n_test
        How many further images of each digit follow, for tests.
    noise
        Standard deviation of a view's grey values, which lie in [0, 1].
    views
        Number of pairs V.

    Returns
    -------
    Views of 64 features, or None without scikit-learn.

    Raises
    ------
    ValueError
        If there are not ten sizes, or not that many images of a digit.
    """
    check_integer(low=1, n_test=n_test, views=views)
    check_nonnegative(noise=noise)
    if len(sizes) != 10:
        raise ValueError(f"sizes must hold one number for each of ten digits, got {len(sizes)}")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return None
    images, target = load_digits(return_X_y=True)
    counts = np.bincount(target)
    if (counts < np.asarray(sizes) + n_test).any():
        raise ValueError(
            f"sizes and n_test must together be at most {counts.min()} of a digit, got"
            f" {max(sizes)} and {n_test}"
        )

    def one_set(seed: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(seed)
        places = [rng.permutation(np.flatnonzero(target == digit)) for digit in range(10)]
        trained = [place[:size] for place, size in zip(places, sizes, strict=True)]
        tested = [place[-n_test:] for place in places]
        order = np.concatenate([*trained, *tested])
        n = sum(sizes)
        squares = images[order[:n]].reshape(n, 8, 8) / 16.0
        pairs = np.stack(
            [[moved_by_a_pixel(squares, rng) for _ in range(2)] for _ in range(views)]
        ).reshape(views, 2, n, 64)
        return (
            images[order] / 16.0,
            target[order],
            pairs + noise * rng.standard_normal(pairs.shape),
        )

    return Views(*(np.stack(part) for part in zip(*map(one_set, seeds), strict=True)))


def moved_by_a_pixel(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return images ``(n, h, w)``, each moved by at most one pixel in either direction."""
    n, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    down, right = rng.integers(0, 3, (2, n))
    rows, columns = down[:, None] + np.arange(height), right[:, None] + np.arange(width)
    found: np.ndarray = padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return found
