"""What games and policies may be given as: objects, lists, arrays of any library and precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from prefsim.backend import asarray, like, to_numpy
from prefsim.checks import (
    as_array,
    as_float_array,
    as_floats,
    as_probabilities,
    check_constant,
    check_game,
    check_nonnegative,
    check_policy,
    check_preference,
    check_shape,
    tolerance_of,
    widened_preference,
)
from prefsim.numerics import array_namespace
from prefsim.policies.base import InMemoryPolicy
from prefsim.typing import Array
from prefsim.worlds.bandit import ContextualBandit
from prefsim.worlds.game import PreferenceGame

__all__ = [
    "check_players",
    "check_tau",
    "game_matrix",
    "in_one_library",
    "probabilities",
    "real_array",
]


def real_array(value: Any, name: str) -> Array:
    """Return a floating array of any library unchanged, anything else on the current backend."""
    if is_array_api_obj(value) and array_namespace(value).isdtype(value.dtype, "real floating"):
        return as_array(value, name, "real floating")
    return asarray(as_float_array(value, name))


def game_matrix(game: PreferenceGame | ContextualBandit | Any) -> Array:
    """Return the preferences ``(..., n, n)`` of a game as a constant floating array, checked.

    Those of a bandit are one game for each context. A matrix stays in its library and precision,
    but for half precision, in which nothing can be solved.
    """
    if isinstance(game, InMemoryPolicy):
        raise TypeError(
            "game must be a PreferenceGame, a ContextualBandit or a matrix (..., n, n), got a"
            f" policy, {type(game).__name__}"
        )
    if isinstance(game, PreferenceGame | ContextualBandit):
        matrix = game.preference
        check_constant(matrix, "game.preference")
    else:
        check_constant(game, "preference")
        matrix = real_array(game, "preference")
        check_preference(to_numpy(matrix), tolerance=tolerance_of(matrix))
    xp = array_namespace(matrix)
    if xp.finfo(matrix.dtype).bits < 32:
        matrix = widened_preference(xp.astype(matrix, xp.float32), matrix)
    return matrix


def probabilities(policy: Any, preference: Array, name: str) -> Array:
    """Return a policy as probabilities ``(..., n)`` in the library and precision of the game.

    It may be an object, a list or an array; uniform for None.
    """
    n = preference.shape[-1]
    if policy is None:
        return like(np.full(n, 1.0 / n), preference)
    table = as_probabilities(getattr(policy, "probs", policy), name)
    check_shape(table, name, (n,))
    return like(table, preference)


def in_one_library(
    preference: Any, *, optional: tuple[str, ...] = (), **policies: Any
) -> tuple[Any, ...]:
    """Return a game and policies as floating arrays of one library.

    They may be objects, lists or arrays; see :func:`prefsim.checks.as_floats`, also for
    ``optional``.
    """
    tables = {name: getattr(policy, "probs", policy) for name, policy in policies.items()}
    matrix = getattr(preference, "preference", preference)
    return as_floats(nan=True, optional=optional, preference=matrix, **tables)


def check_players(preference: Array, **policies: Array | None) -> None:
    """Raise unless a matrix is a game and every policy that is given a distribution over it.

    Values are looked at where they may be: see :func:`prefsim.checks.known_values`.
    """
    check_game(preference)
    n = preference.shape[-1]
    for name, policy in policies.items():
        if policy is not None:
            check_shape(policy, name, (n,))
            check_policy(policy, name)


def check_tau(tau: float, reference: Any) -> None:
    """Raise unless there is a reference exactly where there is a penalty."""
    check_nonnegative(tau=tau)
    if (tau > 0) != (reference is not None):
        given = "no reference" if reference is None else "a reference"
        raise ValueError(
            f"a reference is needed exactly when tau > 0, got {given} with tau={tau!r}"
        )
