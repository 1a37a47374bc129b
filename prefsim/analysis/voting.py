"""How preferences of many voters single out a response.

Borda and Copeland scores, and the margin of a Condorcet winner.

The minimax (von Neumann) winner is :func:`prefsim.solvers.solve_nash` with ``method="lp"``, the
Condorcet winner itself :meth:`prefsim.worlds.PreferenceGame.condorcet_winner`.
"""

from __future__ import annotations

from prefsim.numerics import array_namespace
from prefsim.raters.borda import as_game, borda_scores, other_responses
from prefsim.typing import ArrayT

__all__ = ["borda_scores", "condorcet_margin", "copeland_scores"]


def copeland_scores(preference: ArrayT) -> ArrayT:
    """Return how many others each response beats more often than not, ``(..., n)``.

    A tie counts half.

    Parameters
    ----------
    preference
        ``(..., n, n)`` with n >= 2.

    References
    ----------
    Copeland 1951; Swamy et al. 2024, arXiv:2401.04056.

    Examples
    --------
    >>> import numpy as np
    >>> copeland_scores(np.array([[0.5, 0.6, 0.6], [0.4, 0.5, 1.0], [0.4, 0.0, 0.5]]))
    array([2., 1., 0.])
    """
    preference = as_game(preference)
    others, _ = other_responses(preference)
    xp = array_namespace(preference)
    return 0.5 * xp.sum(others * (1.0 + xp.sign(preference - 0.5)), axis=-1)


def condorcet_margin(preference: ArrayT) -> ArrayT:
    r"""Return :math:`\max_i \min_{j\ne i} P_{ij} - \tfrac12`, in [−½, ½]: ``(...,)``.

    Positive exactly where there is a Condorcet winner, whose margin over its closest rival it then
    is.

    Parameters
    ----------
    preference
        ``(..., n, n)`` with n >= 2.

    References
    ----------
    Condorcet 1785; the margin Δ of the fast rate in Swamy et al. 2024, arXiv:2401.04056.

    Examples
    --------
    >>> import numpy as np
    >>> float(condorcet_margin(np.array([[0.5, 0.75, 0.875], [0.25, 0.5, 1.0], [0.125, 0.0, 0.5]])))
    0.25
    """
    preference = as_game(preference)
    others, _ = other_responses(preference)
    xp = array_namespace(preference)
    return (
        xp.max(xp.min(xp.where(others > 0, preference, xp.ones_like(preference)), axis=-1), axis=-1)
        - 0.5
    )
