"""Optimal and soft-optimal values by Bellman backups, and the advantages that follow from them.

All functions take a :class:`~prefsim.worlds.TabularMDP`, dense (with any batch of processes solved
in one call) or sparse, and return a :class:`PlanningResult` whose residual is recomputed from the
values at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.backend import like, to_numpy
from prefsim.checks import (
    as_float_array,
    check_choice,
    check_integer,
    check_kind,
    check_positive,
    check_shape,
)
from prefsim.numerics import array_namespace
from prefsim.solvers.planning.bellman import (
    Criterion,
    action_values,
    hard_criterion,
    soft_criterion,
    zeros,
)
from prefsim.solvers.planning.certificate import (
    PlanningResult,
    SpanStop,
    certify,
    require_no_better_without_end,
    residual_limit,
)
from prefsim.solvers.planning.evaluation import backward_induction, policy_evaluation
from prefsim.solvers.planning.modified import modified_policy_iteration
from prefsim.solvers.planning.policy_chain import as_policy
from prefsim.solvers.planning.policy_iteration import newton_steps, policy_iteration
from prefsim.typing import Array
from prefsim.worlds.mdp import DENSE_LIMIT, TabularMDP

__all__ = ["advantages", "soft_value_iteration", "value_iteration"]


def value_iteration(
    mdp: TabularMDP,
    *,
    tolerance: float = 1e-12,
    max_iterations: int = 100_000,
    initial_value: Any = None,
) -> PlanningResult:
    r"""Return the optimal values by repeated Bellman backups.

    By one backward pass where the horizon is finite.

    The sweeps stop on the span of the differences, after which all values are shifted to the middle
    of their bounds; with terminal states, on the largest difference.

    Parameters
    ----------
    mdp
        Any process.
    tolerance
        Bellman residual to reach, in units of reward; where all rewards are less than 1, in units
        of the largest. Where 16 units in the last place of the largest value are more, they are
        enough.
    max_iterations
        Largest number of sweeps.
    initial_value
        ``(S,)`` or ``(*batch, S)``, 0 in terminal states; 0 unless given. Infinite horizon only.

    Returns
    -------
    PlanningResult
        ``iterations`` counts sweeps (decisions, for a finite horizon).

    Raises
    ------
    ValueError
        If an option is out of range, ``initial_value`` does not fit, or the sweeps of an
        undiscounted process end where never ending is better.

    Warns
    -----
    ConvergenceWarning
        If the residual misses the tolerance, as for an undiscounted process whose value is
        infinite.

    References
    ----------
    Puterman 1994, "Markov decision processes", sections 4.5, 6.3 and 6.6.

    Examples
    --------
    >>> corridor = TabularMDP.grid_world(
    ...     [[-1.0, -1.0, 10.0]], terminal=[[False, False, True]], discount=1.0
    ... )
    >>> value_iteration(corridor).value
    array([ 9., 10.,  0.])
    """
    check_kind(TabularMDP, mdp=mdp)
    criterion = hard_criterion(mdp)
    if mdp.horizon is not None:
        if initial_value is not None:
            raise ValueError(
                f"initial_value is for an infinite horizon, got it with horizon {mdp.horizon}"
            )
        return backward_induction("value_iteration", mdp, None, criterion)
    found = _sweeps("value_iteration", mdp, criterion, tolerance, max_iterations, initial_value)
    return require_no_better_without_end("value_iteration", mdp, found)


def soft_value_iteration(
    mdp: TabularMDP,
    *,
    temperature: float,
    reference: Any = None,
    method: str = "auto",
    tolerance: float = 1e-12,
    max_iterations: int = 100_000,
) -> PlanningResult:
    r"""Return the soft-optimal values and policy.

    :math:`V = \alpha \log \sum_a \mu(a \mid s) \exp(Q(s, a)/\alpha)`.

    The policy is :math:`\pi = \mu \exp(A/\alpha)`. It maximises reward plus :math:`\alpha` times
    entropy (no ``reference``: :math:`\mu = 1`), or reward minus
    :math:`\alpha\,\mathrm{KL}(\pi \| \mu)`.

    Parameters
    ----------
    mdp
        Any process.
    temperature
        :math:`\alpha > 0`, in units of reward.
    reference
        :math:`\mu`: probabilities ``(*batch, S, A)`` or an object with ``probs``; zero forbids an
        action.
    method
        ``"sweeps"`` repeats the soft backup; ``"newton"`` solves a linear system at each step (soft
        policy iteration) and takes few steps at any discount; ``"auto"`` takes Newton for dense
        processes up to 2,000 states. Newton's result is differentiable with torch: its gradient
        with respect to rewards and transitions is exact, by the implicit function theorem.
    tolerance, max_iterations
        As for :func:`value_iteration`; Newton steps count as iterations.

    Returns
    -------
    PlanningResult
        In terminal states value and advantage are 0 and the policy is :math:`\mu`.

    Raises
    ------
    ValueError
        If an option is out of range or the reference does not fit.

    References
    ----------
    Ziebart 2010, "Modeling purposeful adaptive behavior with the principle of maximum causal
    entropy"; Hejna et al. 2023, arXiv:2310.13639, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> swap = np.eye(2)[[[0, 1], [1, 0]]]
    >>> mdp = TabularMDP(swap, [[0.0, 1.0], [0.5, 0.0]], discount=0.9)
    >>> soft_value_iteration(mdp, temperature=0.5).value.round(8)
    array([7.97830252, 7.62777071])
    """
    check_kind(TabularMDP, mdp=mdp)
    check_choice(("auto", "sweeps", "newton"), method=method)
    log_reference = None
    if reference is not None:
        probs = as_policy(_stationary(mdp), reference, "reference")
        xp = array_namespace(probs)
        positive = probs > 0
        safe = xp.where(positive, probs, xp.ones_like(probs))
        log_reference = xp.where(positive, xp.log(safe), xp.full_like(probs, -np.inf))
    criterion = soft_criterion(mdp, temperature, log_reference)
    if mdp.horizon is not None:
        return backward_induction("soft_value_iteration", mdp, None, criterion)
    newton = method == "newton" or (
        method == "auto" and not mdp.is_sparse and mdp.n_states <= DENSE_LIMIT
    )
    if newton:
        return newton_steps(
            "soft_value_iteration", mdp, criterion, zeros(mdp), tolerance, max_iterations
        )
    return _sweeps("soft_value_iteration", mdp, criterion, tolerance, max_iterations, None)


def advantages(mdp: TabularMDP, policy: Any = None, *, temperature: float | None = None) -> Array:
    r"""Return exact advantages :math:`A(s, a) = Q(s, a) - V(s)`, ``(*batch, S, A)``.

    They are 0 in terminal states.

    Those of the optimal policy; of ``policy`` where it is given; of the soft-optimal one at
    ``temperature`` where that is given (then :math:`A = \alpha \log \pi`). With a finite horizon a
    time axis comes before the states.

    Raises
    ------
    ValueError
        If both ``policy`` and ``temperature`` are given, or either does not fit.

    Examples
    --------
    >>> corridor = TabularMDP.grid_world(
    ...     [[-1.0, -1.0, 10.0]], terminal=[[False, False, True]], discount=1.0
    ... )
    >>> advantages(corridor)[0]
    array([-1., -1., -1.,  0.])
    """
    check_kind(TabularMDP, mdp=mdp)
    if policy is not None and temperature is not None:
        raise ValueError("advantages takes a policy or a temperature, got both")
    if policy is not None:
        return policy_evaluation(mdp, policy).advantage
    if temperature is not None:
        return soft_value_iteration(mdp, temperature=temperature).advantage
    dense = not mdp.is_sparse and mdp.n_states <= DENSE_LIMIT
    if mdp.horizon is None and dense:
        return policy_iteration(mdp).advantage
    return (
        value_iteration(mdp).advantage
        if mdp.horizon is not None
        else modified_policy_iteration(mdp).advantage
    )


def _sweeps(
    name: str,
    mdp: TabularMDP,
    criterion: Criterion,
    tolerance: float,
    max_iterations: int,
    initial_value: Any,
) -> PlanningResult:
    check_positive(tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    value = zeros(mdp)
    xp = array_namespace(value)
    if initial_value is not None:
        given = as_float_array(initial_value, "initial_value", min_ndim=1)
        check_shape(given, "initial_value", (mdp.n_states,))
        if np.any(np.where(to_numpy(mdp.terminal), given, 0.0)):
            raise ValueError("initial_value must be 0 in every terminal state")
        value = value + like(given, mdp.reward)
    stop, iterations = SpanStop(mdp), 0
    while True:
        iterations += 1
        q_value = action_values(mdp.transitions, mdp.reward, value, discount=mdp.discount)
        swept = criterion.maximum(q_value)
        low, high = stop.bounds(swept - value)
        value = swept
        # Half, since the prediction of the residual has rounding errors of its own.
        if (
            bool(
                xp.all(
                    stop.gap(low, high) <= 0.5 * residual_limit(value, tolerance, criterion.unit)
                )
            )
            or iterations == max_iterations
        ):
            break
    value = stop.shifted(value, low, high)
    return certify(
        name,
        mdp,
        value,
        criterion,
        tolerance=tolerance,
        iterations=iterations,
    )


def _stationary(mdp: TabularMDP) -> TabularMDP:
    return mdp if mdp.horizon is None else mdp.replace_checked(horizon=None)
