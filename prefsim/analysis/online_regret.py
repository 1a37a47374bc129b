r"""Regrets of a player of distributions against losses that come round by round.

All of them compare what was paid, :math:`\sum_t\langle\ell_t,\pi_t\rangle`, with something that
could have been paid: by one action (external), by another action in the place of each (swap), by
the best action of every round (dynamic).
"""

from __future__ import annotations

from prefsim.checks import as_floats, check_policy, check_shape
from prefsim.losses.online import as_rounds, regret_path
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = ["dynamic_regret", "external_regret", "loss_variation", "swap_regret"]


def external_regret(decisions: ArrayT, losses: Array) -> ArrayT:
    r"""Return the external (static) regret :math:`R_T`, ``(...)``.

    .. math:: \sum_t \langle\ell_t,\pi_t\rangle - \min_a \sum_t \ell_{t,a}

    Parameters
    ----------
    decisions
        Distributions ``(..., T, d)``, that of a round chosen before its losses.
    losses
        ``(..., T, d)``; the axes before broadcast.

    Returns
    -------
    Array ``(...)``; it may be negative, and after every round is
    :func:`prefsim.losses.online.regret_path`.

    Raises
    ------
    ValueError
        If there is no round, shapes do not fit, decisions are no distributions, or a loss is NaN.

    References
    ----------
    Hannan 1957, "Approximation to Bayes risk in repeated play".

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> float(external_regret(np.full((3, 2), 0.5), losses))
    0.5
    """
    decisions, losses = as_rounds(decisions, losses)
    check_policy(decisions, "decisions")
    return regret_path(decisions, losses)[..., -1]


def dynamic_regret(decisions: ArrayT, losses: Array) -> ArrayT:
    r"""Return the dynamic regret :math:`D_T`, ``(...)``: against the best action of each round.

    .. math:: \sum_t \Big(\langle\ell_t,\pi_t\rangle - \min_a \ell_{t,a}\Big)

    At least the external one. Nobody keeps it below order T on all losses whose
    :func:`loss_variation` is of order T.

    Parameters
    ----------
    decisions, losses
        ``(..., T, d)``, as for :func:`external_regret`.

    Raises
    ------
    ValueError
        As :func:`external_regret`.

    References
    ----------
    Besbes, Gur and Zeevi 2015, "Non-stationary stochastic optimization", arXiv:1307.5449.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> float(dynamic_regret(np.full((3, 2), 0.5), losses))
    1.5
    """
    decisions, losses = as_rounds(decisions, losses)
    check_policy(decisions, "decisions")
    xp = array_namespace(decisions)
    return xp.sum(xp.sum(decisions * losses, axis=-1) - xp.min(losses, axis=-1), axis=-1)


def swap_regret(decisions: ArrayT, losses: Array) -> ArrayT:
    r"""Return the swap regret, ``(...)``: against the best other action in the place of each.

    .. math:: \sum_a \max_b \sum_t \pi_t(a)\,(\ell_{t,a} - \ell_{t,b})

    At least the external one, and never negative.

    Parameters
    ----------
    decisions, losses
        ``(..., T, d)``, as for :func:`external_regret`.

    Raises
    ------
    ValueError
        As :func:`external_regret`.

    References
    ----------
    Blum and Mansour 2007, "From external to internal regret".

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> float(swap_regret(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), losses))
    3.0
    """
    decisions, losses = as_rounds(decisions, losses)
    check_policy(decisions, "decisions")
    xp = array_namespace(decisions)
    # (..., a, b): what b would have lost where a was played.
    instead = xp.matrix_transpose(decisions) @ losses
    paid = xp.sum(decisions * losses, axis=-2)
    return xp.sum(paid - xp.min(instead, axis=-1), axis=-1)


def loss_variation(losses: ArrayT) -> ArrayT:
    r"""Return how much losses move, :math:`V_T = \sum_{t<T}\|\ell_{t+1}-\ell_t\|_\infty`.

    Parameters
    ----------
    losses
        ``(..., T, d)``.

    Returns
    -------
    Array ``(...)``.

    References
    ----------
    Besbes, Gur and Zeevi 2015, arXiv:1307.5449.

    Examples
    --------
    >>> import numpy as np
    >>> float(loss_variation(np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 1.0]])))
    1.5
    """
    (losses,) = as_floats(losses=losses)
    check_shape(losses, "losses", (None, None))
    xp = array_namespace(losses)
    moved = xp.abs(losses[..., 1:, :] - losses[..., :-1, :])
    return xp.sum(xp.max(moved, axis=-1), axis=-1)
