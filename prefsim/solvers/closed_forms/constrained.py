r"""KL-regularised policies whose expected rewards are constrained, by their exact dual.

.. math:: \max_\pi\; \sum_i w_i J_i(\pi) - \beta\,E_x\mathrm{KL}(\pi\|\pi_{ref})
    \quad\text{such that}\quad J_i(\pi) = E_\pi r_i\;\{\ge, =, \le\}\;\theta_i

Whatever the multipliers are, the policy that maximises the Lagrangian is a Gibbs tilt of the
reference by a weighted sum :math:`a^\top r` of the rewards. In the *tilt* a the dual is one convex
function, :math:`\beta E_x\log Z_x(a) - (a - w)^\top\theta`, and every kind of constraint is a
bound: :math:`a_i \ge w_i` for at least, :math:`a_i \le w_i` for at most, none for equality.

References
----------
Moskovitz et al. 2023, arXiv:2310.04373 (μ-PPO, ξ-PPO and All-PPO). Duality of such problems: Boyd
and Vandenberghe 2004, "Convex optimization", chapter 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.checks import (
    check_choice,
    check_integer,
    check_positive,
    trusted_values,
)
from prefsim.numerics import array_namespace, over_rows
from prefsim.solvers.closed_forms.regularised import gibbs_log_policy
from prefsim.solvers.closed_forms.separation import separation_of
from prefsim.solvers.constrained_problem import (
    ConstrainedProblem,
    as_given,
    constrained_problem,
    host_problem,
    of_size_one,
)
from prefsim.solvers.optimisers.projected_newton import Bounded, minimise_between
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array, Number

__all__ = ["ConstrainedOptimum", "DualPoint", "constrained_dual", "constrained_optimum"]


class DualPoint(NamedTuple):
    """The dual function at one point, and the policy that is best there.

    Attributes
    ----------
    value
        ``(...)``, an upper bound on what any policy that keeps the constraints is worth.
    gradient
        In the multipliers, ``(..., m)``: by how much each constraint is kept; the slack.
    hessian
        ``(..., m, m)``: the covariance of the rewards over β, signed as the constraints are.
    log_policy
        ``(..., X, Y)``, nats.
    achieved
        Expected rewards of the policy, ``(..., m)``.
    """

    value: Array
    gradient: Array
    hessian: Array
    log_policy: Array
    achieved: Array


@readable
class ConstrainedOptimum(NamedTuple):
    r"""The best policy that keeps its constraints, with the certificate.

    Attributes
    ----------
    log_policy
        ``(..., X, Y)``, nats.
    multipliers
        λ, ``(..., m)``: >= 0 for inequalities, of either sign for equalities.
    achieved
        Expected rewards J, ``(..., m)``.
    value
        The least value of the dual, ``(...)``, in units of the rewards.
    gap
        That less what the policy is worth, ``(...)``: :math:`\sum_i\pm\lambda_i(J_i - \theta_i)`,
        zero by complementary slackness.
    residual
        Largest of the violations and of the slacks that a multiplier should have ended, ``(...)``.
    feasible
        Whether any policy keeps the constraints, booleans ``(...)``. Where none does, the numbers
        above are NaN and the value is −inf.
    separating
        ``(..., m)``, the multipliers that show it: no policy's weighted reward reaches the weighted
        thresholds. Zero where there is a policy.
    converged
        Whether every residual that there is met the tolerance.
    """

    log_policy: Array
    multipliers: Array
    achieved: Array
    value: Array
    gap: Array
    residual: Array
    feasible: Array
    separating: Array
    converged: bool


def _tilted(problem: ConstrainedProblem, tilt: Any) -> tuple[Any, Any]:
    """Return the dual's value at a tilt ``(..., m)``, and the policy that is best there."""
    xp = array_namespace(problem.rewards)
    combined = xp.sum(tilt[..., None, None] * problem.rewards, axis=-3)
    with trusted_values():
        log_policy, log_z = gibbs_log_policy(
            combined, problem.reference, beta=over_rows(problem.beta)
        )
    worth = problem.beta * xp.sum(problem.contexts * log_z, axis=-1)
    value = worth - xp.sum((tilt - problem.weights) * problem.thresholds, axis=-1)
    return value, log_policy


def _means(problem: ConstrainedProblem, log_policy: Any) -> Any:
    """Return the mean reward of each prompt, ``(..., m, X)``."""
    xp = array_namespace(problem.rewards)
    return xp.sum(xp.exp(log_policy)[..., None, :, :] * problem.rewards, axis=-1)


def _achieved(problem: ConstrainedProblem, log_policy: Any) -> Any:
    """Return the expected rewards, ``(..., m)``."""
    xp = array_namespace(problem.rewards)
    return xp.sum(problem.contexts * _means(problem, log_policy), axis=-1)


def _curvature(problem: ConstrainedProblem, log_policy: Any) -> Any:
    """Return the covariance of the rewards over β, ``(..., m, m)``."""
    xp = array_namespace(problem.rewards)
    centred = problem.rewards - _means(problem, log_policy)[..., None]
    shares = problem.contexts[:, None] * xp.exp(log_policy)
    weighted = shares[..., None, :, :] * centred
    products = weighted[..., :, None, :, :] * centred[..., None, :, :, :]
    return xp.sum(products, axis=(-2, -1)) / over_rows(over_rows(problem.beta))


def constrained_dual(
    multipliers: Array,
    rewards: Array,
    ref_log_probs: Array,
    thresholds: Array,
    *,
    beta: Number,
    sense: str | Sequence[str] = "at_least",
    weights: Array | None = None,
    context_probs: Any = None,
) -> DualPoint:
    r"""Return the Lagrangian's maximum over policies, with its derivatives in the multipliers.

    .. math:: D(\lambda) = \beta E_x\log\sum_y \pi_{ref}(y|x) e^{(w \pm \lambda)^\top r(x, y)/\beta}
        \mp \lambda^\top\theta

    the upper signs for at least and equal, the lower for at most. It is convex, and its least value
    over the multipliers is what the constrained problem is worth.

    Parameters
    ----------
    multipliers
        λ, ``(..., m)``.
    rewards, ref_log_probs, thresholds, beta, sense, weights, context_probs
        As for :func:`constrained_optimum`.

    Returns
    -------
    DualPoint

    Raises
    ------
    ValueError
        As :func:`constrained_optimum`.

    References
    ----------
    Moskovitz et al. 2023, the Lagrangians of section 4, arXiv:2310.04373.

    Examples
    --------
    >>> import numpy as np
    >>> point = constrained_dual(
    ...     np.zeros(1), np.array([[[0.0, 1.0]]]), np.log([[0.5, 0.5]]), np.array([0.75]), beta=1.0
    ... )
    >>> point.gradient.round(3) + 0.0, point.hessian.round(3)
    (array([-0.25]), array([[0.25]]))
    """
    given = (rewards, ref_log_probs, thresholds, beta, sense, weights, context_probs)
    problem, (multipliers,) = constrained_problem(*given, multipliers=multipliers)
    tilt = problem.weights + problem.signs * multipliers
    value, log_policy = _tilted(problem, tilt)
    achieved, signs = _achieved(problem, log_policy), problem.signs
    return DualPoint(
        value,
        signs * (achieved - problem.thresholds),
        signs[:, None] * signs * _curvature(problem, log_policy),
        log_policy,
        achieved,
    )


def constrained_optimum(
    rewards: Any,
    ref_log_probs: Any,
    thresholds: Any,
    *,
    beta: Number,
    sense: str | Sequence[str] = "at_least",
    weights: Any = None,
    context_probs: Any = None,
    infeasible: str = "raise",
    tolerance: float = 1e-10,
    max_iterations: int = 200,
) -> ConstrainedOptimum:
    r"""Return the best policy whose expected rewards are at least, equal to or at most thresholds.

    The dual is minimised by projected Newton steps, all problems of a batch together; what these
    leave open a linear program decides: either no policy keeps the constraints, and it says by
    which multipliers that is seen, or the thresholds lie on the edge of what can be reached, where
    multipliers grow without end.

    Parameters
    ----------
    rewards
        m rewards ``(..., m, X, Y)`` of Y responses to X prompts; one bandit has X = 1.
    ref_log_probs
        ``(..., X, Y)``, nats; responses of probability 0 keep it.
    thresholds
        θ, ``(..., m)``, of rewards averaged over prompts and responses.
    beta
        Strength of the KL penalty, > 0, in units of the rewards; a number or an array ``(...)``.
    sense
        ``"at_least"``, ``"equal"`` or ``"at_most"``, or one of them for each reward.
    weights
        w, ``(..., m)``: the rewards' part in the objective; none unless given. With weights of one
        and ``"at_most"`` the rewards are maximised up to their thresholds.
    context_probs
        ``(X,)``, uniform unless given. Multipliers are shared by all prompts.
    infeasible
        ``"raise"`` where no policy keeps the constraints of some problem, or ``"report"`` it in the
        result.
    tolerance
        Of the residual, > 0, relative to the largest reward or threshold, up to a factor of two.
    max_iterations
        Newton steps, >= 1.

    Returns
    -------
    ConstrainedOptimum
        In the library and precision of the rewards; it is found in double precision.

    Raises
    ------
    ValueError
        If shapes do not fit, ``beta`` or an option is out of range, a number is not finite, or no
        policy keeps the constraints.

    Warns
    -----
    ConvergenceWarning
        If the residual of a problem that has a solution misses ``tolerance``.

    References
    ----------
    Moskovitz et al. 2023, section 4, arXiv:2310.04373: at least is μ-PPO, equal ξ-PPO, at most with
    unit weights All-PPO.

    Examples
    --------
    >>> import numpy as np
    >>> rewards = np.array([[[0.0, 1.0, 2.0, 3.0]], [[1.0, 0.0, 1.0, -1.0]]])
    >>> reference = np.log([[0.4, 0.3, 0.2, 0.1]])
    >>> found = constrained_optimum(rewards, reference, [1.4, 0.3], beta=0.5)
    >>> found.multipliers.round(6), found.achieved.round(6)
    (array([0.184079, 0.      ]), array([1.4     , 0.332199]))
    >>> constrained_optimum(rewards, reference, [1.4, 0.3], beta=0.5, sense="equal").multipliers
    array([ 0.1646583 , -0.04273784])
    """
    check_choice(("raise", "report"), infeasible=infeasible)
    check_positive(tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    given = (rewards, ref_log_probs, thresholds, beta, sense, weights, context_probs)
    given_problem, batch, as_they_came = host_problem(*given)
    problem, sizes = of_size_one(given_problem)
    m, senses = problem.signs.size, problem.senses
    low = np.where([each == "at_least" for each in senses], problem.weights, -np.inf)
    high = np.where([each == "at_most" for each in senses], problem.weights, np.inf)
    # A tilt far out, where no policy keeps the constraints, overflows before it is given up.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = minimise_between(
            _dual_between(problem, low, high),
            problem.weights,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
    tilt, residual = found.minimiser, found.residual
    open_ = ~(residual <= tolerance)
    separating, margin = np.zeros((len(tilt), m)), np.zeros(len(tilt))
    separating[open_], margin[open_] = separation_of(problem.rows(open_))
    feasible = margin <= 0
    if infeasible == "raise" and not feasible.all():
        _refuse(batch, feasible, separating, sizes * margin, given_problem.thresholds)
    tilt = np.where(feasible[:, None], tilt, problem.weights)
    value, log_policy = _tilted(problem, tilt)
    achieved = _achieved(problem, log_policy)
    multipliers = problem.signs * (tilt - problem.weights) + 0.0
    gap = np.sum(problem.signs * multipliers * (achieved - problem.thresholds), axis=-1)
    converged = bool((residual[feasible] <= tolerance).all())
    if not converged:
        worst = residual[feasible].max()  # relative, as the tolerance is
        warn_caller(
            f"constrained_optimum stopped after {found.iterations} steps with a residual of"
            f" {worst:.3g} above tolerance = {tolerance:g}: on the edge of what can be reached the"
            " multipliers have no end"
        )

    def shaped(values: np.ndarray, otherwise: float | None = np.nan) -> Any:
        if otherwise is not None:
            told = feasible.reshape(-1, *(1 for _ in values.shape[1:]))
            values = np.where(told, values, otherwise)
        return as_given(values.reshape((*batch, *values.shape[1:])), as_they_came)

    return ConstrainedOptimum(
        shaped(log_policy),
        shaped(multipliers),
        shaped(sizes[:, None] * achieved),
        shaped(sizes * value, -np.inf),
        shaped(sizes * gap),
        shaped(sizes * residual),
        shaped(feasible, None),
        shaped(separating, None),
        converged,
    )


def _dual_between(problem: ConstrainedProblem, low: np.ndarray, high: np.ndarray) -> Bounded:
    """Return the duals of a flat batch as functions of the tilt."""

    def value(rows: np.ndarray, tilt: np.ndarray) -> np.ndarray:
        dual: np.ndarray = _tilted(problem.rows(rows), tilt)[0]
        return dual

    def gradient(rows: np.ndarray, tilt: np.ndarray) -> np.ndarray:
        part = problem.rows(rows)
        beyond: np.ndarray = _achieved(part, _tilted(part, tilt)[1]) - part.thresholds
        return beyond

    def hessian(rows: np.ndarray, tilt: np.ndarray) -> np.ndarray:
        part = problem.rows(rows)
        curvature: np.ndarray = _curvature(part, _tilted(part, tilt)[1])
        return curvature

    return Bounded(value, gradient, hessian, low, high, _least_worth(problem))


def _least_worth(problem: ConstrainedProblem) -> np.ndarray:
    """Return what any policy is worth at least: a dual below it shows that none is admitted."""
    seen = problem.reference > -np.inf
    weighted = np.einsum("bi,bixy->bxy", problem.weights, problem.rewards)
    worst = np.where(seen, weighted, np.inf).min(axis=-1) @ problem.contexts
    rarest = np.where(seen, problem.reference, np.inf).min(axis=-1) @ problem.contexts
    # Less a little, for the rounding of both.
    return worst + problem.beta * rarest - 1e-6 * (1 + np.abs(worst))


def _refuse(
    batch: tuple[int, ...],
    feasible: np.ndarray,
    separating: np.ndarray,
    margin: np.ndarray,
    thresholds: np.ndarray,
) -> None:
    row = int(np.flatnonzero(~feasible)[0])
    place = f" of problem {tuple(map(int, np.unravel_index(row, batch)))}" if batch else ""
    raise ValueError(
        f"thresholds{place} must be within reach of a policy, got {thresholds[row].tolist()}: the"
        f" best reward weighted by ±{separating[row].round(6).tolist()} misses them by"
        f" {margin[row]:.6g}"
    )
