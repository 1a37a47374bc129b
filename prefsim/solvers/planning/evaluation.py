"""Exact consequences of a fixed policy: values, occupancy and successor features."""

from __future__ import annotations

from typing import Any, NamedTuple

from prefsim._readable import readable
from prefsim.backend import like, to_numpy
from prefsim.checks import as_float_array, check_graph_kept, check_kind, check_positive
from prefsim.numerics import array_namespace
from prefsim.solvers.planning.bellman import (
    Criterion,
    action_values,
    reward_unit,
    zero_where_ended,
    zeros,
)
from prefsim.solvers.planning.certificate import (
    PlanningResult,
    certify,
    residual_limit,
    warn_unless,
)
from prefsim.solvers.planning.policy_chain import as_policy, by_time, policy_chain, solve_chain
from prefsim.typing import Array
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.transitions import arriving, expected_next

__all__ = [
    "SuccessorFeatures",
    "backward_induction",
    "occupancy",
    "policy_evaluation",
    "successor_features",
]


@readable
class SuccessorFeatures(NamedTuple):
    """Expected discounted sums of features.

    From a state ``(*batch, S, d)``, and after an action in it ``(*batch, S, A, d)``.

    With a finite horizon both gain a time axis before the states.
    """

    state: Array
    state_action: Array


def policy_evaluation(mdp: TabularMDP, policy: Any, *, tolerance: float = 1e-12) -> PlanningResult:
    r"""Return the values of a policy, from one linear system :math:`(I - \gamma P_\pi) v = r_\pi`.

    Dense systems are solved directly. Sparse ones by BiCGSTAB, restarted until the residual meets
    the tolerance, then GMRES, then (up to 20,000 states) a sparse factorisation. Finite horizons
    are evaluated backwards in time.

    Parameters
    ----------
    mdp
        Any process.
    policy
        Probabilities ``(*batch, S, A)``, one action per state ``(*batch, S)`` as integers, or an
        object with ``probs``; for a finite horizon H also ``(*batch, H, S, A)``.
    tolerance
        Largest Bellman residual accepted, as for :func:`value_iteration`.

    Returns
    -------
    PlanningResult
        Values, action values and advantages of ``policy``; ``residual`` is that of
        :math:`v = r_\pi + \gamma P_\pi v`.

    Raises
    ------
    ValueError
        If the policy does not fit, or has no finite value because ``discount`` is 1 and it never
        ends.

    Examples
    --------
    >>> mdp = TabularMDP([[[0.5, 0.5]], [[0.0, 1.0]]], [[1.0], [2.0]], discount=0.5)
    >>> policy_evaluation(mdp, [0, 0]).value
    array([2.66666667, 4.        ])
    """
    check_kind(TabularMDP, mdp=mdp)
    check_positive(tolerance=tolerance)
    probs = as_policy(mdp, policy)
    if mdp.horizon is not None:
        return backward_induction("policy_evaluation", mdp, by_time(mdp, probs))
    reward = mdp.reward
    xp = array_namespace(reward)
    chain = policy_chain(mdp, probs)
    paid = zero_where_ended(xp.sum(probs * reward, axis=-1), mdp.terminal)
    unit = reward_unit(mdp)
    accuracy = tolerance * float(xp.min(unit))
    value = solve_chain(chain, paid, mdp, tolerance=accuracy)

    def maximum(q_value: Array) -> Array:
        return zero_where_ended(xp.sum(probs * q_value, axis=-1), mdp.terminal)

    def followed(q_value: Array) -> Array:
        return probs + xp.zeros_like(q_value)

    return certify(
        "policy_evaluation",
        mdp,
        value,
        Criterion(maximum, followed, followed, unit),
        tolerance=tolerance,
        iterations=1,
    )


def occupancy(mdp: TabularMDP, policy: Any) -> Array:
    r"""Return the expected discounted visits to non-terminal states and their actions.

    :math:`\mu(s, a) = \sum_t \gamma^t \Pr(s_t = s, a_t = a)`.

    The policy's value from the start distribution is :math:`\sum_{s,a} \mu(s, a)\, r(s, a)`.
    Without terminal states the sum of the visits is :math:`1 / (1 - \gamma)`.

    Parameters
    ----------
    mdp, policy
        As for :func:`policy_evaluation`.

    Returns
    -------
    Array ``(*batch, S, A)``; for a finite horizon ``(*batch, H, S, A)``, the terms of the sum by
    time.

    Examples
    --------
    >>> mdp = TabularMDP(
    ...     [[[0.0, 1.0]], [[0.0, 1.0]]], [[3.0], [0.0]], discount=0.9, terminal=[False, True]
    ... )
    >>> occupancy(mdp, [0, 0])
    array([[1.],
           [0.]])
    """
    check_kind(TabularMDP, mdp=mdp)
    probs = as_policy(mdp, policy)
    start = zero_where_ended(mdp.start_probs, mdp.terminal)
    if mdp.horizon is None:
        chain = policy_chain(mdp, probs)
        visits = solve_chain(chain, start + zeros(mdp), mdp, transposed=True)
        return zero_where_ended(visits, mdp.terminal)[..., None] * probs
    xp = array_namespace(mdp.reward)
    terms = []
    mass = start + zeros(mdp)
    for step in by_time(mdp, probs):
        terms.append(mass[..., None] * step)
        mass = mdp.discount * zero_where_ended(arriving(mdp.transitions, terms[-1]), mdp.terminal)
    return xp.stack(terms, axis=-3)


def successor_features(mdp: TabularMDP, policy: Any, features: Any) -> SuccessorFeatures:
    r"""Return the successor features of states and of their actions.

    :math:`\psi(s) = \mathbb E_\pi[\sum_t \gamma^t \varphi_t \mid s_0 = s]` and :math:`\psi(s, a)`.

    For a reward linear in the features, :math:`r = w \cdot \varphi`, the value is
    :math:`\psi \cdot w`.

    Parameters
    ----------
    mdp, policy
        As for :func:`policy_evaluation`; rewards play no part.
    features
        ``(*batch, S, A, d)``, or of transitions ``(*batch, S, A, S, d)`` (dense processes only);
        those in terminal states do not count.

    Raises
    ------
    ValueError
        If a shape does not fit or an entry is not finite.

    References
    ----------
    Barreto et al. 2017, "Successor features for transfer in reinforcement learning",
    arXiv:1606.05312, eq. 3.
    """
    check_kind(TabularMDP, mdp=mdp)
    probs = as_policy(mdp, policy)
    phi = _expected_features(mdp, features)
    xp = array_namespace(phi)
    alive = 1.0 - xp.astype(mdp.terminal, phi.dtype)
    # Features go first, so that each is a reward (*batch, S, A) of the process.
    phi = xp.moveaxis(
        xp.broadcast_to(phi * alive[..., None, None], (*mdp.batch_shape, *phi.shape[-3:])), -1, 0
    )
    if mdp.horizon is None:
        state = solve_chain(policy_chain(mdp, probs), xp.sum(probs * phi, axis=-1), mdp)
        after = phi + mdp.discount * expected_next(mdp.transitions, state)
        return SuccessorFeatures(xp.moveaxis(state, 0, -1), xp.moveaxis(after, 0, -1))
    state = xp.zeros_like(phi[..., 0])
    states, afters = [state], []
    for step in reversed(by_time(mdp, probs)):
        afters.append(phi + mdp.discount * expected_next(mdp.transitions, state))
        state = zero_where_ended(xp.sum(step * afters[-1], axis=-1), mdp.terminal)
        states.append(state)
    return SuccessorFeatures(
        xp.moveaxis(xp.stack(states[::-1], axis=-2), 0, -1),
        xp.moveaxis(xp.stack(afters[::-1], axis=-3), 0, -1),
    )


def backward_induction(
    name: str, mdp: TabularMDP, policies: list[Array] | None, criterion: Any = None
) -> PlanningResult:
    """Return the finite-horizon result of a policy, or of a criterion where there is none.

    The policy is one for each decision.
    """
    xp = array_namespace(mdp.reward)
    value = zeros(mdp)
    values, q_values, chosen = [value], [], []
    for t in reversed(range(mdp.horizon or 0)):
        q_value = action_values(mdp.transitions, mdp.reward, value, discount=mdp.discount)
        policy = (
            criterion.policy(q_value) if policies is None else policies[t] + xp.zeros_like(q_value)
        )
        value = (
            criterion.maximum(q_value)
            if policies is None
            else zero_where_ended(xp.sum(policy * q_value, axis=-1), mdp.terminal)
        )
        values.append(value)
        q_values.append(q_value)
        chosen.append(policy)
    # Recomputed for all times at once, from the stacked values alone.
    stacked = xp.stack(values[::-1], axis=0)
    q_again = action_values(mdp.transitions, mdp.reward, stacked[1:], discount=mdp.discount)
    policy_again = xp.stack(chosen[::-1], axis=0)
    again = (
        criterion.maximum(q_again)
        if policies is None
        else zero_where_ended(xp.sum(policy_again * q_again, axis=-1), mdp.terminal)
    )
    gap = xp.max(xp.abs(again - stacked[:-1]), axis=-1)
    residual = to_numpy(xp.max(gap, axis=0))
    unit = reward_unit(mdp) if policies is not None else criterion.unit
    limit = to_numpy(xp.max(residual_limit(stacked, 1e-12, unit), axis=0))
    converged = residual <= limit
    warn_unless(name, converged, residual, limit, mdp.horizon or 0)
    single = residual.ndim == 0
    q_table = xp.stack(q_values[::-1], axis=-3)
    value_table = xp.stack(values[::-1], axis=-2)
    return PlanningResult(
        value=value_table,
        q_value=q_table,
        advantage=q_table - value_table[..., :-1, :, None],
        policy=xp.stack(chosen[::-1], axis=-3),
        residual=float(residual) if single else residual,
        iterations=mdp.horizon or 0,
        converged=bool(converged) if single else converged,
    )


def _expected_features(mdp: TabularMDP, features: Any) -> Array:
    """Return features ``(*batch, S, A, d)`` in the process's arrays.

    Expected over the next state where they depend on it.
    """
    table = as_float_array(features, "features", min_ndim=3, graph=True)
    pairs = (mdp.n_states, mdp.n_actions)
    cube = (*pairs, mdp.n_states)
    of_pairs = table.shape[-3:-1] == pairs
    batched = of_pairs and table.shape[:-3] == mdp.batch_shape
    check_graph_kept(features, "features", mdp.reward)
    given = like(features, mdp.reward)
    if table.ndim >= 4 and table.shape[-4:-1] == cube and not batched:
        if mdp.is_sparse:
            raise ValueError(
                f"features of transitions need a dense process, got shape {table.shape} with a"
                " sparse one"
            )
        xp = array_namespace(given)
        return xp.sum(mdp.transitions[..., None] * given, axis=-2)
    if not of_pairs:
        raise ValueError(
            f"features must have trailing shape (S, A, d) = {(*pairs, 'd')} or (S, A, S, d), got"
            f" {table.shape}"
        )
    return given
