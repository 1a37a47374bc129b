"""Label noise: labels flipped with a fixed chance, whatever is compared."""

from __future__ import annotations

from prefsim.backend import Seed, like, random_generator
from prefsim.checks import as_array, as_floats, check_broadcast, check_entries, check_interval
from prefsim.typing import ArrayT, Number

__all__ = ["flip_labels", "flip_sampled_labels"]


def flip_labels(preference: ArrayT, rate: Number) -> ArrayT:
    r"""Return the preferences :math:`\epsilon + (1 - 2\epsilon) P` that flipped labels follow.

    Parameters
    ----------
    preference
        Probabilities of any shape.
    rate
        Chance ε in [0, 1] that a label is flipped, or an array of chances that broadcasts; beyond ½
        the labels say the opposite.

    Raises
    ------
    ValueError
        If ``rate`` is out of range.

    References
    ----------
    Ray Chowdhury et al. 2024, section 3, arXiv:2403.00409.

    Examples
    --------
    >>> import numpy as np
    >>> flip_labels(np.asarray([0.5, 1.0]), 0.1)
    array([0.5, 0.9])
    """
    check_interval(arrays=True, rate=rate, low=0.0, high=1.0, closed="both")
    preference, rate = as_floats(preference=preference, rate=rate)
    check_broadcast(preference=preference, rate=rate)
    check_entries(
        preference, "preference", "be a probability in [0, 1]", lambda p: (p >= 0) & (p <= 1)
    )
    return rate + (1.0 - 2.0 * rate) * preference


def flip_sampled_labels(labels: ArrayT, rate: float, *, seed: Seed) -> ArrayT:
    """Flip each boolean label with chance ``rate``, independently.

    Parameters
    ----------
    labels
        Booleans of any shape.
    rate
        In [0, 1].

    Raises
    ------
    ValueError
        If ``rate`` is out of range or the labels are not boolean.
    """
    check_interval(rate=rate, low=0.0, high=1.0, closed="both")
    labels = as_array(labels, "labels", "bool")
    flipped = random_generator(seed).random(tuple(labels.shape)) < rate
    return labels ^ (like(flipped, labels, integer=True) != 0)
