"""What the data share: columns of one length, an absent reference, rows read both ways."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

from prefsim.checks import NUMBERS, as_array, as_float_array, check_constant
from prefsim.containers import stacked
from prefsim.numerics import array_namespace, to_numpy
from prefsim.typing import Array
from prefsim.worlds.bandit import ContextualBandit

__all__ = [
    "as_log_probabilities",
    "both_ways",
    "check_both_or_none",
    "check_columns",
    "check_policy_shape",
    "supported",
    "zeros_like_logps",
]


class _Pairs(Protocol):
    """A container of pairs, such as :class:`prefsim.containers.PairLogps`."""

    def swapped(self) -> Any: ...


P = TypeVar("P", bound=_Pairs)


def check_columns(name_to_column: dict[str, np.ndarray], n: int) -> None:
    """Raise unless every column ends in an axis of length ``n``."""
    for name, column in name_to_column.items():
        if column.ndim == 0 or column.shape[-1] != n:
            raise ValueError(
                f"{name} must have n = {n} entries along its last axis, got shape {column.shape}"
            )


def check_both_or_none(columns: dict[str, Any], what: str) -> None:
    """Raise where one of two columns, each of one of two ``what``, is given without the other."""
    given = [name for name, column in columns.items() if column is not None]
    if len(given) == 1:
        raise ValueError(f"columns of both {what} or of none are needed, got {given[0]} alone")


def check_policy_shape(table: Array, world: ContextualBandit) -> None:
    """Raise unless a policy's table is over a world's contexts and responses, in any batch."""
    if tuple(table.shape[-2:]) != (world.n_contexts, world.n_responses):
        raise ValueError(
            f"the policy has shape {tuple(table.shape[-2:])}, but the world has"
            f" {world.n_contexts} contexts and {world.n_responses} responses"
        )


def zeros_like_logps(logps: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the log-probabilities of the absent reference.

    Zero everywhere, so that a loss becomes reference-free.
    """
    return tuple(array_namespace(x).zeros_like(x) for x in logps)


def supported(logps: Array, weight: Array) -> Array:
    """Return log-probabilities with −1 in place of rows without weight.

    A response outside the support carries no weight, but −inf − (−inf) would poison the sum.
    """
    xp = array_namespace(logps)
    return xp.where(weight > 0, logps, -xp.ones_like(logps))


def both_ways(pairs: P, weight: Array, prob: Array, *, axis: int = -1) -> tuple[P, Array]:
    """Return pairs as they stand, then reversed, weighted by ``prob`` and ``1 − prob``.

    Parameters
    ----------
    pairs
        A container with a method ``swapped``.
    weight, prob
        ``(..., n)``, of the pairs.
    axis
        Of the pairs in the container's fields.

    Returns
    -------
    2n pairs, and their weights ``(..., 2n)``.
    """
    twice = stacked(pairs, pairs.swapped(), axis=axis)
    xp = array_namespace(weight)
    return twice, xp.concat([weight * prob, weight * (1 - prob)], axis=-1)


def as_log_probabilities(value: Any, name: str) -> np.ndarray:
    """Return log-probabilities as float64; ``-inf`` is a response that is never drawn."""
    check_constant(value, name)
    given = to_numpy(as_array(value, name, *NUMBERS))
    never = given == -np.inf
    finite = as_float_array(np.where(never, 0.0, given) if never.any() else given, name)
    array = np.where(never, -np.inf, finite)
    if array.size and array.max() > 1e-9:
        raise ValueError(f"{name} must hold log-probabilities <= 0, got {array.max()}")
    return array
