"""What :func:`prefsim.solvers.solve_nash` and :func:`prefsim.solvers.nash_path` return."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.typing import Array

__all__ = ["NashHistory", "NashResult"]


@readable
class NashHistory(NamedTuple):
    """What was recorded, with the records along the first axis.

    Attributes
    ----------
    iteration
        ``(K,)``, updates made so far.
    policy, average_policy
        ``(K, ..., n)``.
    exploitability, average_exploitability
        ``(K, ...)``, of the two.
    regularised_gap
        ``(K, ...)`` of the policy; None when ``tau = 0``.
    """

    iteration: np.ndarray
    policy: Array
    average_policy: Array
    exploitability: Array
    average_exploitability: Array
    regularised_gap: Array | None


@readable
class NashResult(NamedTuple):
    """A policy for each game, and how good it is.

    Attributes
    ----------
    policy
        ``(..., n)``; of the iterative methods the last one.
    average_policy
        ``(..., n)``, the mean of the policies that were played (the initial one up to the last but
        one), of regret matching with weights 1, 2, 3…; None for the direct methods.
    exploitability
        ``(...,)`` of ``policy`` in the game without penalty, in [0, ½].
    regularised_gap
        ``(...,)`` of ``policy``, the duality gap with the penalty; None when ``tau = 0`` and for
        ``"comal"``, whose penalty vanishes.
    iterations
        ``(...,)``, updates (Newton steps, exchanges of pivoting) that each game took.
    converged
        ``(...,)``, whether the certificate of the method met the tolerance: the regularised gap
        when ``tau > 0``, else the exploitability, of ``certified_policy``.
    history
        What ``record`` asked for, else None.
    average_exploitability
        ``(...,)`` of ``average_policy``, or None.
    certified
        Which policy ``converged`` speaks of, ``"policy"`` or ``"average_policy"``: without a
        penalty the average of multiplicative weights and regret matching, else the last one.
    """

    policy: Array
    average_policy: Array | None
    exploitability: Array
    regularised_gap: Array | None
    iterations: Array
    converged: Array
    history: NashHistory | None = None
    average_exploitability: Array | None = None
    certified: str = "policy"

    @property
    def certified_policy(self) -> Array:
        """The policy ``(..., n)`` that ``converged`` speaks of."""
        return getattr(self, self.certified)
