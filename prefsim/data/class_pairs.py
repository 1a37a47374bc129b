"""Which two examples of a class are compared: laws of the partner of each, and draws from them.

A law holds for each anchor i the chances ``(..., n, n)`` [i, j] that j is its partner. Partners are
other examples of the anchor's class. Leading axes are sets of examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import as_array, as_floats, check_interval
from prefsim.checks.arrays import check_probabilities, check_shape
from prefsim.checks.shapes import names_shapes
from prefsim.numerics import to_numpy
from prefsim.policies.inverse_transform import inverse_transform

__all__ = [
    "annealed_law",
    "disagreement_law",
    "disagreements",
    "drawn_partners",
    "inconsistency_law",
    "random_partner_law",
]


def random_partner_law(label: Any) -> np.ndarray:
    """Return the law under which every other example of the class is as likely.

    Parameters
    ----------
    label
        Classes, integers ``(..., n)``.

    Returns
    -------
    Array ``(..., n, n)``, rows that sum to one.

    Raises
    ------
    ValueError
        If some example is the only one of its class.

    Examples
    --------
    >>> random_partner_law([0, 1, 0, 1, 0])[0]
    array([0. , 0. , 0.5, 0. , 0.5])
    """
    return _normalised(_partners(label).astype(np.float64))


def disagreements(rewards: Any) -> np.ndarray:
    """Return how many pairs of heads order two examples otherwise, ``(..., n, n)``.

    A head says that the first is ahead, the second, or neither.

    Parameters
    ----------
    rewards
        Of T heads, ``(..., n, T)``.

    Examples
    --------
    >>> disagreements([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])[0, 1]
    np.int64(3)
    """
    table = _table(rewards=rewards)
    if table.ndim < 2:
        raise ValueError(f"rewards must have examples and heads as last axes, got {table.shape}")
    order = np.sign(table[..., :, None, :] - table[..., None, :, :])
    # Of all pairs of heads those that say one thing are left out.
    alike = [np.sum(order == said, axis=-1) for said in (1, 0, -1)]
    return np.asarray(_pairs_of(table.shape[-1]) - sum(_pairs_of(count) for count in alike))


def _pairs_of(count: Any) -> Any:
    return count * (count - 1) // 2


@names_shapes
def disagreement_law(rewards: Any, label: Any) -> np.ndarray:
    """Return the law of partners over which preference heads disagree most, all alike.

    Parameters
    ----------
    rewards
        Of T heads, ``(..., n, T)``.
    label
        Classes, integers ``(..., n)``.

    Returns
    -------
    Array ``(..., n, n)``, rows that sum to one: uniform over the partners that most pairs of heads
    order otherwise.

    Raises
    ------
    ValueError
        If some example is the only one of its class, or shapes do not fit.

    References
    ----------
    Kim et al. 2023, "Prefer to Classify", disagreement-based sampling, arXiv:2306.04925.

    Examples
    --------
    >>> rewards = [[0.0, 1.0], [1.0, 0.0], [1.0, 2.0], [2.0, 2.0]]
    >>> disagreement_law(rewards, [0, 0, 0, 0])[0]
    array([0., 1., 0., 0.])
    """
    partners, counts = _partners(label), disagreements(rewards)
    among = np.where(partners, counts, -1)
    return _normalised((among == among.max(axis=-1, keepdims=True)) * 1.0)


@names_shapes
def inconsistency_law(cost: Any, label: Any) -> np.ndarray:
    """Return the law under which partners are as likely as their pair is inconsistent.

    Parameters
    ----------
    cost
        Of each pair, ``(..., n, n)`` [i, j], such as
        :func:`prefsim.losses.paired_classes.vote_consistency`. Of an anchor's partners the least is
        taken as 0 and the greatest as 1.
    label
        Classes, integers ``(..., n)``.

    Returns
    -------
    Array ``(..., n, n)``, rows that sum to one; uniform where all partners cost the same.

    Raises
    ------
    ValueError
        If some example is the only one of its class, or shapes do not fit.

    References
    ----------
    Kim et al. 2023, "Prefer to Classify", inconsistency-based sampling, arXiv:2306.04925.

    Examples
    --------
    >>> inconsistency_law([[9.0, 1.0, 2.0, 4.0]] * 4, [0, 0, 0, 0])[0].round(6)
    array([0.  , 0.  , 0.25, 0.75])
    """
    partners, table = _partners(label), _table(cost=cost)
    low = np.where(partners, table, np.inf).min(axis=-1, keepdims=True)
    above = np.where(partners, table - low, 0.0)
    # In the scale of the greatest, so that the sum of tiny differences is no zero.
    high = above.max(axis=-1, keepdims=True)
    scaled = above / np.where(high > 0, high, 1.0)
    return _normalised(np.where(high > 0, scaled, partners))


def annealed_law(law: Any, label: Any, *, progress: float) -> np.ndarray:
    """Return a law that is random at first and the given one at the end.

    Parameters
    ----------
    law
        Of partners, ``(..., n, n)``.
    label
        Classes, integers ``(..., n)``.
    progress
        Share in [0, 1] of the epochs that have passed: the chance to follow the law.

    Raises
    ------
    ValueError
        If ``progress`` is out of range, or shapes do not fit.

    References
    ----------
    Kim et al. 2023, released code, annealed sampling, arXiv:2306.04925.

    Examples
    --------
    >>> annealed_law([[0.0, 1.0, 0.0]] * 3, [0, 0, 0], progress=0.5)[0]
    array([0.  , 0.75, 0.25])
    """
    check_interval(progress=progress, low=0.0, high=1.0, closed="both")
    table, random = _table(law=law), random_partner_law(label)
    check_shape(table, "law", random.shape)
    return (1 - progress) * random + progress * table


def drawn_partners(law: Any, *, seed: Seed) -> np.ndarray:
    """Return a partner for every anchor, integers ``(..., n)``, drawn from a law.

    Parameters
    ----------
    law
        Chances ``(..., n, n)``, rows that sum to one.
    seed
        Of the draws.

    Raises
    ------
    ValueError
        If a row is no distribution.

    Examples
    --------
    >>> drawn_partners([[0.0, 1.0], [1.0, 0.0]], seed=0)
    array([1, 0])
    """
    table = _table(law=law)
    check_probabilities(table, "law")
    total = np.cumsum(table, axis=-1).reshape(-1, table.shape[-1])
    # As a share of the last sum, which rounding leaves beside one: no place behind it is drawn.
    at = random_generator(seed).random(table.shape[:-1]).ravel() * total[:, -1]
    return inverse_transform(total, np.arange(len(total)), at).reshape(table.shape[:-1])


def _partners(label: Any) -> np.ndarray:
    """Return who may be whose partner, booleans ``(..., n, n)``."""
    classes = to_numpy(as_array(label, "label", "integral"))
    if not classes.ndim:
        raise ValueError("label must have examples as its last axis, got a number")
    same = classes[..., :, None] == classes[..., None, :]
    others = np.asarray(same & ~np.eye(classes.shape[-1], dtype=bool))
    alone = ~others.any(axis=-1)
    if alone.any():
        raise ValueError(
            "label must have each class at least twice, for an example is compared with another of"
            f" its class, got {classes[alone][0]} once"
        )
    return others


def _table(**named: Any) -> np.ndarray:
    """Return one argument, which may be a tensor of any precision, in double precision."""
    (numbers,) = as_floats(**named)
    return to_numpy(numbers).astype(np.float64)


def _normalised(weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
