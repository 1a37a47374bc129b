"""Raters given by a table of preferences, transitive or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, like, on_backend, random_generator
from prefsim.checks import (
    as_float_array,
    as_floats,
    as_index_array,
    as_preference,
    check_entries,
    widened_preference,
)
from prefsim.numerics import array_namespace, gather
from prefsim.raters.bradley_terry import pairwise_preference
from prefsim.typing import Array, ArrayT

__all__ = ["MatrixRater", "preference_of", "sample_labels"]


def preference_of(
    preference: ArrayT, first: Array, second: Array, prompt: Array | None = None
) -> ArrayT:
    """Return the chance that ``first`` is preferred to ``second``.

    Parameters
    ----------
    preference
        ``(n, n)``, or ``(X, n, n)`` with ``prompt``.
    first, second, prompt
        Integers of one shape.

    Returns
    -------
    Array of that shape.

    Raises
    ------
    ValueError
        If an index is out of range, shapes differ, or ``prompt`` is given for one table or missing
        for several.
    """
    (preference,) = as_floats(preference=preference)
    expected = 2 if prompt is None else 3
    if len(preference.shape) != expected or preference.shape[-1] != preference.shape[-2]:
        form = "(n, n) without a prompt" if prompt is None else "(X, n, n) with a prompt"
        raise ValueError(f"preference must be {form}, got shape {tuple(preference.shape)}")
    n = preference.shape[-1]
    row = as_index_array(first, "first", size=n)
    column = as_index_array(second, "second", size=n)
    if prompt is not None:
        context = as_index_array(prompt, "prompt", size=preference.shape[0])
        if context.shape != row.shape:
            raise ValueError(
                f"prompt must have the shape of first {row.shape}, got {context.shape}"
            )
        row = context * n + row
        preference = array_namespace(preference).reshape(preference, (-1, n))
    if row.shape != column.shape:
        raise ValueError(
            f"first and second must have one shape, got {row.shape} and {column.shape}"
        )
    return gather(
        preference, like(row, preference, integer=True), like(column, preference, integer=True)
    )


def sample_labels(probability: ArrayT, *, seed: Seed) -> ArrayT:
    """Draw one label for each entry of ``probability``.

    True, with that chance, where the first of the two is preferred.
    """
    (probability,) = as_floats(probability=probability)
    check_entries(probability, "probability", "lie in [0, 1]", lambda p: (p >= 0) & (p <= 1))
    draws = random_generator(seed).random(tuple(probability.shape))
    return like(draws, probability) < probability


@readable
@dataclass(frozen=True, init=False, eq=False)
class MatrixRater:
    """A rater who prefers response i to response j with the chance that a table says.

    Parameters
    ----------
    preference
        ``(n, n)``, or ``(X, n, n)`` for one table per prompt, with ``P + Pᵀ = 1``.

    Raises
    ------
    ValueError
        If the table has another shape, an entry outside [0, 1], or ``P + Pᵀ`` differs from 1.

    Examples
    --------
    >>> rater = MatrixRater([[0.5, 0.9], [0.1, 0.5]])
    >>> rater.probability([0, 1], [1, 0])
    array([0.9, 0.1])
    >>> rater.sample([0, 0, 0, 0], [1, 1, 1, 1], seed=0)
    array([ True,  True,  True,  True])
    """

    preference: Array

    def __init__(self, preference: Any) -> None:
        table = as_preference(preference, graph=True)
        if table.ndim > 3:
            raise ValueError(f"preference must be (n, n) or (X, n, n), got shape {table.shape}")
        set_fields(
            self,
            preference=widened_preference(on_backend(preference, table, "preference"), preference),
        )

    @classmethod
    def from_reward(cls, reward: Any, *, link: str = "logistic") -> MatrixRater:
        """Return the rater of rewards ``(n,)`` or ``(X, n)``.

        See :func:`prefsim.raters.pairwise_preference`.
        """
        table = as_float_array(reward, "reward", min_ndim=1, graph=True)
        return cls(pairwise_preference(on_backend(reward, table, "reward"), link=link))

    def probability(self, first: Any, second: Any, prompt: Any = None) -> Array:
        """Return the chance that ``first`` is preferred to ``second``.

        Integers of one shape, ``prompt`` for ``(X, n, n)``.
        """
        return preference_of(self.preference, first, second, prompt)

    def sample(self, first: Any, second: Any, prompt: Any = None, *, seed: Seed) -> Array:
        """Draw labels: true where ``first`` was preferred."""
        return sample_labels(self.probability(first, second, prompt), seed=seed)
