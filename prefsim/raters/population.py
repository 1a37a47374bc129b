"""Populations of users who disagree: each label comes from one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, index_array, on_backend, random_generator, to_numpy
from prefsim.checks import (
    as_floats,
    as_index_array,
    as_preference,
    as_probabilities,
    check_integer,
    check_probabilities,
    tolerance_of,
    widened_preference,
    widened_probabilities,
)
from prefsim.numerics import array_namespace
from prefsim.raters.general import preference_of, sample_labels
from prefsim.typing import Array, ArrayT

__all__ = ["UserPopulation", "mixture_preference"]


def mixture_preference(weights: ArrayT, preferences: Array) -> ArrayT:
    r"""Return the preferences :math:`\sum_k w_k P_k` of a label from a user drawn at random.

    A mixture of Bradley–Terry users is in general no Bradley–Terry rater, and can even be cyclic;
    see :func:`prefsim.raters.bradley_terry_gap`.

    Parameters
    ----------
    weights
        ``(K,)``, a distribution over users.
    preferences
        ``(K, ..., n, n)``, one table for each user.

    Returns
    -------
    Array ``(..., n, n)``.

    Raises
    ------
    ValueError
        If the number of users differs or the weights are no distribution.

    Examples
    --------
    >>> import numpy as np
    >>> mixture_preference(
    ...     np.asarray([0.75, 0.25]),
    ...     np.asarray([[[0.5, 1.0], [0.0, 0.5]], [[0.5, 0.0], [1.0, 0.5]]]),
    ... )
    array([[0.5 , 0.75],
           [0.25, 0.5 ]])
    """
    weights, preferences = as_floats(weights=weights, preferences=preferences)
    if (
        len(weights.shape) != 1
        or len(preferences.shape) < 3
        or preferences.shape[0] != weights.shape[0]
    ):
        raise ValueError(
            "weights must be (K,) and preferences (K, ..., n, n), got shapes"
            f" {tuple(weights.shape)} and {tuple(preferences.shape)}"
        )
    check_probabilities(to_numpy(weights), "weights", tolerance=tolerance_of(weights))
    xp = array_namespace(weights, preferences)
    spread = xp.reshape(weights, (-1, *(1,) * (len(preferences.shape) - 1)))
    return xp.sum(spread * preferences, axis=0)


@readable
@dataclass(frozen=True, init=False, eq=False)
class UserPopulation:
    """K users with a table of preferences each, and how often each of them gives the label.

    Parameters
    ----------
    weights
        ``(K,)``, a distribution.
    preferences
        ``(K, n, n)``, or ``(K, X, n, n)`` for one table per prompt, each with ``P + Pᵀ = 1``.

    Raises
    ------
    ValueError
        If shapes differ, the weights are no distribution, or a table is no preference.

    Examples
    --------
    >>> users = UserPopulation([0.5, 0.5], [[[0.5, 1.0], [0.0, 0.5]], [[0.5, 0.0], [1.0, 0.5]]])
    >>> users.preference
    array([[0.5, 0.5],
           [0.5, 0.5]])
    >>> user, label = users.sample([0, 0, 0], [1, 1, 1], seed=0)
    >>> bool((label == (user == 0)).all())
    True
    """

    weights: Array
    preferences: Array

    def __init__(self, weights: Any, preferences: Any) -> None:
        weight = as_probabilities(weights, "weights", ndim=1, graph=True)
        table = as_preference(preferences, "preferences", min_ndim=3, graph=True)
        if table.ndim > 4 or table.shape[0] != weight.size:
            raise ValueError(
                f"preferences must be (K, n, n) or (K, X, n, n) with K = {weight.size} users, got"
                f" shape {table.shape}"
            )
        set_fields(
            self,
            weights=widened_probabilities(on_backend(weights, weight, "weights"), weights),
            preferences=widened_preference(
                on_backend(preferences, table, "preferences"), preferences
            ),
        )

    @property
    def n_users(self) -> int:
        """Number of users K."""
        return int(self.weights.shape[0])

    @property
    def preference(self) -> Array:
        """The population's preferences, ``(n, n)`` or ``(X, n, n)``."""
        return mixture_preference(self.weights, self.preferences)

    def sample_users(self, n: int, *, seed: Seed) -> Array:
        """Draw ``n`` users, integers ``(n,)``."""
        check_integer(low=0, n=n)
        weight = to_numpy(self.weights).astype(np.float64)
        return index_array(
            random_generator(seed).choice(self.n_users, size=n, p=weight / weight.sum())
        )

    def sample(
        self, first: Any, second: Any, prompt: Any = None, *, seed: Seed
    ) -> tuple[Array, Array]:
        """Draw a user for each comparison ``(m,)`` and that user's label.

        The label is true where ``first`` was preferred.
        """
        rng = random_generator(seed)
        first, second = as_index_array(first, "first"), as_index_array(second, "second")
        user = self.sample_users(first.size, seed=rng)
        row = to_numpy(user)
        table = self.preferences
        if prompt is not None:
            contexts = table.shape[1]
            table = array_namespace(table).reshape(table, (-1, *table.shape[-2:]))
            row = row * contexts + as_index_array(prompt, "prompt", size=contexts)
        return user, sample_labels(preference_of(table, first, second, row), seed=rng)
