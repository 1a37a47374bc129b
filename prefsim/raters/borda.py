"""Borda scores: how often a response is preferred to the others."""

from __future__ import annotations

from typing import Any

from prefsim.checks import as_floats, check_game, check_shape
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = ["as_game", "borda_scores", "other_responses"]


def as_game(preference: Array) -> Any:
    """Return preferences ``(..., n, n)`` in floating point, or raise where they are none."""
    (table,) = as_floats(nan=True, preference=preference)
    n = table.shape[-1] if table.ndim > 1 else None
    check_shape(table, "preference", (n, n))
    check_game(table)
    return table


def other_responses(preference: Array) -> tuple[Array, int]:
    """Return 1 where a row meets another response than its own, ``(n, n)``, and n >= 2."""
    n = preference.shape[-1] if preference.ndim > 1 else None
    check_shape(preference, "preference", (n, n))
    if n is None or n < 2:
        raise ValueError(
            f"preference must compare at least two responses, got shape {tuple(preference.shape)}"
        )
    xp = array_namespace(preference)
    return 1.0 - xp.eye(n, dtype=preference.dtype, device=getattr(preference, "device", None)), n


def borda_scores(preference: ArrayT) -> ArrayT:
    r"""Return the mean win rate of each response against the others, ``(..., n)``.

    :math:`\frac{1}{n-1}\sum_{j\ne i} P_{ij}`.

    The best of them is what a reward model would choose that is fitted to pairs drawn uniformly.

    Parameters
    ----------
    preference
        ``(..., n, n)`` with n >= 2.

    References
    ----------
    Borda 1781; Swamy et al. 2024, arXiv:2401.04056 (for contrast with the minimax winner).

    Examples
    --------
    >>> import numpy as np
    >>> borda_scores(np.array([[0.5, 0.6, 0.6], [0.4, 0.5, 1.0], [0.4, 0.0, 0.5]]))
    array([0.6, 0.7, 0.2])
    """
    preference = as_game(preference)
    others, n = other_responses(preference)
    return array_namespace(preference).sum(others * preference, axis=-1) / (n - 1)
