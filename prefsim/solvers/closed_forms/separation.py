"""Whether any policy's expected rewards keep their thresholds, and which multipliers show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.solvers.constrained_problem import ConstrainedProblem, as_given, host_problem
from prefsim.typing import Array

__all__ = ["Separation", "separating_direction"]

# A margin below this share of the rewards and thresholds is the linear program's rounding.
ROUNDING = 1e-9


class Separation(NamedTuple):
    """The direction along which thresholds are farthest from what policies can reach.

    Attributes
    ----------
    direction
        Multipliers ``(..., m)`` of which none is larger than one, zero where a policy keeps the
        constraints.
    margin
        ``(...)``: by how much the weighted thresholds exceed the best weighted reward; 0 where the
        constraints can be kept.
    """

    direction: Array
    margin: Array


def separating_direction(
    rewards: Any,
    ref_log_probs: Any,
    thresholds: Any,
    *,
    sense: str | Sequence[str] = "at_least",
    context_probs: Any = None,
) -> Separation:
    r"""Return the multipliers that show that no policy keeps the constraints, if none does.

    .. math:: \max_{\|\lambda\|_\infty \le 1}\; \pm\lambda^\top\theta
        - E_x\max_y \pm\lambda^\top r(x, y)

    by a linear program: zero exactly where some policy with the reference's support keeps them.

    Parameters
    ----------
    rewards, ref_log_probs, thresholds, sense, context_probs
        As for :func:`constrained_optimum`.

    Returns
    -------
    Separation
        In the library and precision of the rewards; the program is solved in double precision.

    Raises
    ------
    ValueError
        As :func:`constrained_optimum`.

    Examples
    --------
    >>> import numpy as np
    >>> reward = np.array([[[0.0, 1.0]]])
    >>> found = separating_direction(reward, np.log([[0.5, 0.5]]), [[0.75], [1.25]])
    >>> found.direction[:, 0] + 0.0, found.margin + 0.0
    (array([0., 1.]), array([0.  , 0.25]))
    """
    given = (rewards, ref_log_probs, thresholds, 1.0, sense, None, context_probs)
    problem, batch, as_they_came = host_problem(*given)
    directions, margins = separation_of(problem)
    return Separation(
        as_given(directions.reshape((*batch, problem.signs.size)), as_they_came),
        as_given(margins.reshape(batch), as_they_came),
    )


def separation_of(problem: ConstrainedProblem) -> tuple[np.ndarray, np.ndarray]:
    """Return the directions and margins of a flat batch of problems."""
    found = [_separated(problem.rows([row])) for row in range(len(problem.thresholds))]
    directions = np.reshape([direction for direction, _ in found], (-1, problem.signs.size))
    return directions, np.asarray([margin for _, margin in found])


def _separated(problem: ConstrainedProblem) -> tuple[np.ndarray, float]:
    """Return the direction that separates one problem's thresholds, and its margin, or zeros."""
    from scipy.optimize import linprog

    rewards, thresholds = problem.rewards[0], problem.thresholds[0]
    m, contexts, _ = rewards.shape
    signs = problem.signs
    seen = problem.reference[0] > -np.inf
    size = max(np.abs(rewards[:, seen]).max(), np.abs(thresholds).max(), np.finfo(float).tiny)
    # The best weighted reward of prompt x is at least that of each of its responses.
    prompt, _ = np.nonzero(seen)
    rows = (signs[:, None] * rewards[:, seen] / size).T
    best = -np.eye(contexts)[prompt]
    found = linprog(
        np.concatenate([-signs * thresholds / size, problem.contexts]),
        A_ub=np.concatenate([rows, best], axis=1),
        b_ub=np.zeros(len(rows)),
        bounds=[(-1.0 if each == "equal" else 0.0, 1.0) for each in problem.senses]
        + [(None, None)] * contexts,
        method="highs",
    )
    direction = found.x[:m]
    weighted = np.where(seen, np.einsum("i,ixy->xy", signs * direction, rewards), -np.inf)
    margin = signs * direction @ thresholds - problem.contexts @ weighted.max(axis=-1)
    if margin <= ROUNDING * size:
        return np.zeros(m), 0.0
    return direction, float(margin)
