r"""Correlated play of games of several players, and how far it is from an equilibrium.

A player loses by a table of its own with one axis for each player; joint play is a distribution
with the same axes. It is a coarse correlated equilibrium where nobody gains by one fixed action
instead, and a correlated equilibrium where nobody gains by another action in the place of each.
What learners have played on average is as far from the first as their external regret, and from
the second as their swap regret, divided by the rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefsim.checks import as_floats, check_policy, check_shape
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = [
    "averaged_play",
    "coarse_correlated_gaps",
    "correlated_gaps",
    "losses_against",
    "product_play",
]


def _players(name: str, arrays: Sequence[Any]) -> dict[str, Any]:
    """Return the arrays of all players by their names, in floating point, of one library."""
    if isinstance(arrays, str | bytes) or not isinstance(arrays, Sequence) or not len(arrays):
        raise ValueError(
            f"{name} must be a list of one array for each player, got {type(arrays).__name__}"
        )
    named = {f"{name}[{i}]": array for i, array in enumerate(arrays)}
    return dict(zip(named, as_floats(**named), strict=True))


def _policies(name: str, policies: Sequence[Any]) -> list[Any]:
    found = _players(name, policies)
    for each, policy in found.items():
        check_policy(policy, each)
    return list(found.values())


def _outer(rows: Sequence[Any]) -> Any:
    """Return the products of one entry of each row, ``(..., n_1, …, n_m)``."""
    joint = rows[0]
    for i, row in enumerate(rows[1:], start=1):
        joint = joint[..., None] * row[(..., *[None] * i, slice(None))]
    return joint


def product_play(policies: Sequence[ArrayT]) -> ArrayT:
    r"""Return the joint play of independent players, ``(..., n_1, …, n_m)``.

    Parameters
    ----------
    policies
        For each player a distribution ``(..., n_i)`` over its actions.

    Examples
    --------
    >>> import numpy as np
    >>> product_play([np.array([0.5, 0.5]), np.array([0.25, 0.75])])
    array([[0.125, 0.375],
           [0.125, 0.375]])
    """
    joint: ArrayT = _outer(_policies("policies", policies))
    return joint


def averaged_play(decisions: Sequence[ArrayT]) -> ArrayT:
    r"""Return what was played on average, jointly: :math:`\frac1T\sum_t \pi^1_t \otimes \pi^2_t`.

    It is not the product of the averages.

    Parameters
    ----------
    decisions
        For each player the distributions of all rounds, ``(..., T, n_i)``.

    Returns
    -------
    Array ``(..., n_1, …, n_m)``.

    Examples
    --------
    >>> import numpy as np
    >>> pure = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> averaged_play([pure, pure])
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    found = _policies("decisions", decisions)
    for i, rounds in enumerate(found):
        check_shape(rounds, f"decisions[{i}]", (found[0].shape[-2] if i else None, None))
    if found[0].shape[-2] == 0:
        raise ValueError(
            f"decisions must hold at least one round, got shape {tuple(found[0].shape)}"
        )
    joint = _outer(found)
    mean: ArrayT = array_namespace(joint).mean(joint, axis=-1 - len(found))
    return mean


def losses_against(losses: Sequence[ArrayT], policies: Sequence[Array]) -> tuple[ArrayT, ...]:
    r"""Return for each player what every action of it loses on average, ``(..., n_i)``.

    Parameters
    ----------
    losses
        For each player its table ``(..., n_1, …, n_m)``.
    policies
        For each player a distribution ``(..., n_i)``.

    Examples
    --------
    >>> import numpy as np
    >>> pennies = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> losses_against([pennies, -pennies], [np.array([0.5, 0.5]), np.array([0.25, 0.75])])
    (array([0.25, 0.75]), array([-0.5, -0.5]))
    """
    found = _policies("policies", policies)
    tables = _checked_tables(losses, tuple(policy.shape[-1] for policy in found))
    each = []
    for i, table in enumerate(tables):
        others = [
            array_namespace(policy).ones_like(policy) if i == j else policy
            for j, policy in enumerate(found)
        ]
        axes = tuple(k - len(tables) for k in range(len(tables)) if k != i)
        weighted = table * _outer(others)
        each.append(array_namespace(weighted).sum(weighted, axis=axes) if axes else weighted)
    return tuple(each)


def _checked_tables(losses: Sequence[Any], shape: tuple[int, ...]) -> list[Any]:
    """Return one table for each player, ``(..., n_1, …, n_m)``, or raise."""
    tables = _players("losses", losses)
    if len(tables) != len(shape):
        raise ValueError(
            f"losses must hold one table for each of {len(shape)} players, got {len(tables)}"
        )
    for name, table in tables.items():
        check_shape(table, name, shape)
    return list(tables.values())


def _with_player_last(losses: Sequence[Any], joint: Any) -> Iterator[tuple[Any, Any]]:
    """Yield table and joint play ``(..., rest, n_i)`` for each player."""
    m = len(_players("losses", losses))
    (joint,) = as_floats(joint=joint)
    check_shape(joint, "joint", (None,) * m)
    shape = tuple(joint.shape[joint.ndim - m :])
    tables = _checked_tables(losses, shape)
    joint, *tables = as_floats(joint=joint, **_players("losses", tables))
    xp = array_namespace(joint)
    check_policy(xp.reshape(joint, (*joint.shape[: joint.ndim - m], -1)), "joint")
    for i, table in enumerate(tables):
        moved = [xp.moveaxis(each, i - m, -1) for each in (table, joint)]
        rows = [xp.reshape(x, (*x.shape[: x.ndim - m], -1, shape[i])) for x in moved]
        yield rows[0], rows[1]


def coarse_correlated_gaps(losses: Sequence[ArrayT], joint: Array) -> ArrayT:
    r"""Return what each player gains by its best fixed action, ``(..., m)``.

    .. math:: E_{a \sim \mu}\,\ell_i(a) - \min_b E_{a \sim \mu}\,\ell_i(b, a_{-i})

    The play is an ε-coarse correlated equilibrium for ε the largest of them. They may be negative.

    Parameters
    ----------
    losses
        For each of m players its table ``(..., n_1, …, n_m)``.
    joint
        μ ``(..., n_1, …, n_m)``, a distribution.

    Raises
    ------
    ValueError
        If shapes do not fit or the joint play is no distribution.

    References
    ----------
    Moulin and Vial 1978; Hannan 1957, "Approximation to Bayes risk in repeated play".

    Examples
    --------
    >>> import numpy as np
    >>> pennies = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> coarse_correlated_gaps([pennies, -pennies], np.array([[0.5, 0.0], [0.0, 0.5]]))
    array([ 0.5, -0.5])
    """
    gaps = []
    for table, play in _with_player_last(losses, joint):
        xp = array_namespace(table)
        others = xp.sum(play, axis=-1, keepdims=True)
        fixed = xp.min(xp.sum(others * table, axis=-2), axis=-1)
        gaps.append(xp.sum(play * table, axis=(-2, -1)) - fixed)
    return array_namespace(gaps[0]).stack(gaps, axis=-1)


def correlated_gaps(losses: Sequence[ArrayT], joint: Array) -> ArrayT:
    r"""Return what each player gains by the best action in the place of each, ``(..., m)``.

    .. math:: \sum_a \max_b \sum_{a_{-i}} \mu(a, a_{-i})\,
        \big(\ell_i(a, a_{-i}) - \ell_i(b, a_{-i})\big)

    The play is an ε-correlated equilibrium for ε the largest of them; none is negative.

    Parameters
    ----------
    losses
        For each of m players its table ``(..., n_1, …, n_m)``.
    joint
        μ ``(..., n_1, …, n_m)``, a distribution.

    Raises
    ------
    ValueError
        As :func:`coarse_correlated_gaps`.

    References
    ----------
    Aumann 1974; Foster and Vohra 1997, "Calibrated learning and correlated equilibrium".

    Examples
    --------
    >>> import numpy as np
    >>> chicken = np.array([[6.0, 1.0], [0.0, 4.0]])
    >>> traffic_light = np.array([[0.0, 0.5], [0.5, 0.0]])
    >>> correlated_gaps([chicken, chicken.T], traffic_light)
    array([0., 0.])
    >>> correlated_gaps([chicken, chicken.T], np.eye(2) / 2)
    array([4.5, 4.5])
    """
    gaps = []
    for table, play in _with_player_last(losses, joint):
        xp = array_namespace(table)
        # (..., a, b): what b would lose where a is played.
        instead = xp.matrix_transpose(play) @ table
        paid = xp.sum(play * table, axis=-2)
        gaps.append(xp.sum(paid - xp.min(instead, axis=-1), axis=-1))
    return array_namespace(gaps[0]).stack(gaps, axis=-1)
