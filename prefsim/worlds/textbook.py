"""A cyclic game of three responses whose answers are known in closed form or to ten digits."""

from __future__ import annotations

import numpy as np

from prefsim.worlds.game import PreferenceGame

#: The reference policy of the regularised answers of :func:`textbook_game`.
TEXTBOOK_REFERENCE = np.array([0.5, 0.3, 0.2])

__all__ = ["TEXTBOOK_REFERENCE", "textbook_game"]


def textbook_game() -> PreferenceGame:
    r"""Return the game in which 0 beats 1, 1 beats 2 and 2 beats 0, with unequal odds.

    .. math:: P = \begin{pmatrix} .5 & .8 & .3 \\ .2 & .5 & .9 \\ .7 & .1 & .5 \end{pmatrix}

    No response is a Condorcet winner. The value is ½, as in every symmetric game, and the only
    equilibrium is :math:`\pi^* = (4, 2, 3)/9`, the null vector of :math:`P - \frac12`.

    With the penalty τ towards the reference (.5, .3, .2), which is ``TEXTBOOK_REFERENCE``, the
    equilibria are, to ten digits:

    ====  ============  ============  ============
    τ     response 0    response 1    response 2
    ====  ============  ============  ============
    0.01  0.4537065263  0.2155536420  0.3307398317
    0.1   0.5301864230  0.1923682149  0.2774453621
    1     0.5229998388  0.2780521625  0.1989479987
    ====  ============  ============  ============

    For τ = 0.1 the exploitability (without the penalty) is 0.0290899987 and the divergence from the
    reference 0.0364066674 nats.

    Examples
    --------
    >>> from prefsim.solvers import solve_nash
    >>> game = textbook_game()
    >>> (9 * solve_nash(game, method="lp").policy).round(9)
    array([4., 2., 3.])
    >>> near = solve_nash(game, method="regularised", reference=TEXTBOOK_REFERENCE, tau=0.1)
    >>> near.policy.round(10)
    array([0.53018642, 0.19236821, 0.27744536])
    """
    return PreferenceGame([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
