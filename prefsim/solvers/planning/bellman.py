"""Bellman backups as pure functions, greedy and soft policies, and what a planner maximises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from prefsim._numpy_kernels import columns_of_short_rows, has_short_rows
from prefsim.backend import like
from prefsim.checks import (
    alike,
    as_array,
    check_broadcast,
    check_choice,
    check_interval,
    check_nonnegative,
    check_positive,
    check_shape,
    names_shapes,
    shapes_of,
)
from prefsim.numerics import array_namespace, logsumexp, softmax, stop_gradient
from prefsim.typing import Array, ArrayT
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.transitions import expected_next

__all__ = [
    "Criterion",
    "action_values",
    "bellman_backup",
    "best_action",
    "best_value",
    "greedy_policy",
    "hard_criterion",
    "paid_before",
    "reward_unit",
    "soft_bellman_backup",
    "soft_criterion",
    "soft_maximum",
    "soft_policy",
    "zero_where_ended",
    "zeros",
]

TIE_TOLERANCE = 1e-9
"""Actions whose values differ by less than this count as equally good in a returned policy.

Relative to the largest value.
"""


def action_values(transitions: Any, reward: Array, value: ArrayT, *, discount: float) -> ArrayT:
    r"""Return :math:`Q(s, a) = r(s, a) + \gamma \sum_{s'} P(s' \mid s, a) v(s')`.

    Parameters
    ----------
    transitions
        Dense ``(*batch, S, A, S)`` or CSR ``(S*A, S)``.
    reward
        ``(*batch, S, A)``.
    value
        ``(*more, *batch, S)``, 0 in terminal states.

    Returns
    -------
    Array ``(*more, *batch, S, A)``.
    """
    if type(discount) is not float or not 0 <= discount <= 1:
        check_interval(low=0.0, high=1.0, closed="both", discount=discount)
    if sp.issparse(transitions) or isinstance(transitions, list | tuple):
        reward, value = alike(reward=reward, value=value)
    else:
        transitions, reward, value = alike(transitions=transitions, reward=reward, value=value)
    try:
        return paid_before(reward, discount, expected_next(transitions, value))
    except (ValueError, RuntimeError) as error:
        if isinstance(transitions, list | tuple):
            raise
        raise ValueError(
            "transitions (*batch, S, A, S), reward (*batch, S, A) and value (*more, *batch, S) must"
            f" fit, got {shapes_of(transitions=transitions, reward=reward, value=value)}"
        ) from error


def paid_before(reward: Any, discount: float, after: Any) -> Any:
    """Return ``reward + discount * after``, in place of ``after`` where that is possible."""
    in_place = (
        isinstance(after, np.ndarray)
        and after.dtype == reward.dtype
        and after.shape == reward.shape
    )
    if not in_place:
        return reward + discount * after
    # The product is a fresh array of the caller's own; large sparse sweeps are bound by memory
    # traffic.
    after *= discount
    after += reward
    return after


def bellman_backup(transitions: Any, reward: Array, value: ArrayT, *, discount: float) -> ArrayT:
    r"""Return :math:`(Tv)(s) = \max_a Q(s, a)`.

    A contraction of modulus ``discount`` in the largest absolute difference.

    Shapes are those of :func:`action_values`; the result is shaped as ``value``.

    References
    ----------
    Puterman 1994, "Markov decision processes", eq. 6.2.3.

    Examples
    --------
    >>> import numpy as np
    >>> swap = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])
    >>> bellman_backup(swap, np.array([[1.0], [2.0]]), np.array([10.0, 20.0]), discount=0.5)
    array([11.,  7.])
    """
    q_value = action_values(transitions, reward, value, discount=discount)
    return array_namespace(q_value).max(q_value, axis=-1)


@names_shapes
def soft_bellman_backup(
    transitions: Any,
    reward: Array,
    value: ArrayT,
    *,
    discount: float,
    temperature: float,
    log_reference: Array | None = None,
    terminal: Array | None = None,
) -> ArrayT:
    r"""Return the soft backup :math:`\alpha \log \sum_a \mu(a \mid s) \exp(Q(s, a) / \alpha)`.

    See :func:`soft_maximum`.

    ``terminal`` marks states ``(*batch, S)`` of value 0, where the entropy of idle actions must not
    count.

    References
    ----------
    Hejna et al. 2023, section 2, arXiv:2310.13639; Ziebart 2010, "Modeling purposeful adaptive
    behavior".
    """
    q_value = action_values(transitions, reward, value, discount=discount)
    backed_up = soft_maximum(q_value, temperature=temperature, log_reference=log_reference)
    if terminal is None:
        return backed_up
    ended = like(as_array(terminal, "terminal", "bool"), backed_up) > 0.5
    return zero_where_ended(backed_up, ended)


def soft_maximum(
    q_value: ArrayT, *, temperature: float, log_reference: Array | None = None
) -> ArrayT:
    r"""Return :math:`\alpha \log \sum_a \mu(a \mid s)\, e^{Q(s, a)/\alpha}` over the last axis.

    Parameters
    ----------
    q_value
        ``(..., S, A)``.
    temperature
        :math:`\alpha > 0`, in units of reward.
    log_reference
        :math:`\log\mu`, ``(..., S, A)`` in nats (``-inf`` forbids an action): the value is that of
        reward minus :math:`\alpha\,\mathrm{KL}(\pi \| \mu)`. Without it :math:`\mu = 1`, and the
        value is that of reward plus the entropy times :math:`\alpha`.

    Raises
    ------
    ValueError
        If ``temperature`` is not > 0.
    """
    return temperature * logsumexp(_soft_logits(q_value, temperature, log_reference))


def soft_policy(
    q_value: ArrayT, *, temperature: float, log_reference: Array | None = None
) -> ArrayT:
    r"""Return :math:`\pi(a \mid s) \propto \mu(a \mid s)\, e^{Q(s, a)/\alpha}`.

    The arguments are those of :func:`soft_maximum`.
    """
    return softmax(_soft_logits(q_value, temperature, log_reference))


def _soft_logits(q_value: ArrayT, temperature: float, log_reference: Array | None) -> ArrayT:
    check_positive(temperature=temperature)
    q_value, log_reference = alike(
        optional=("log_reference",), q_value=q_value, log_reference=log_reference
    )
    logits = q_value / temperature
    if log_reference is None:
        return logits
    try:
        return logits + log_reference
    except (ValueError, RuntimeError):
        check_broadcast(q_value=q_value, log_reference=log_reference)
        raise


def greedy_policy(
    q_value: ArrayT,
    *,
    ties: str = "shared",
    tolerance: float = TIE_TOLERANCE,
    unit: Any = 1.0,
) -> ArrayT:
    """Return the probabilities of the policy that takes a best action.

    Parameters
    ----------
    q_value
        ``(..., S, A)``.
    ties
        ``"shared"`` spreads the mass evenly over all best actions, ``"first"`` puts it on the first
        of them.
    tolerance
        How far below the best an action still counts as tied, relative to the absolute value of
        the best (at least ``unit``).
    unit
        Size below which values count as rounding errors of others, >= 0: a number, or one for each
        table ``(...)`` of action values.

    Examples
    --------
    >>> import numpy as np
    >>> greedy_policy(np.array([[2.0, 1.0, 2.0]]))
    array([[0.5, 0. , 0.5]])
    """
    check_choice(("shared", "first"), ties=ties)
    check_nonnegative(tolerance=tolerance)
    check_nonnegative(arrays=True, unit=unit)
    (q_value,) = alike(q_value=q_value)
    check_shape(q_value, "q_value", (None,))
    xp = array_namespace(q_value)
    if ties == "first":
        first = best_action(q_value)[1]
        return xp.astype(
            first[..., None] == xp.arange(q_value.shape[-1], device=first.device), q_value.dtype
        )
    least = _of_states(unit, q_value)
    if has_short_rows(q_value):
        return _shared_by_columns(q_value, tolerance, least)
    best = best_value(q_value)
    slack = tolerance * xp.maximum(xp.abs(best), least)
    mass = xp.astype(q_value >= (best - slack)[..., None], q_value.dtype)
    # As a product, which is exact for counts and quick along a short axis.
    count = xp.matmul(mass, xp.ones(mass.shape[-1:], dtype=mass.dtype, device=mass.device))
    return mass / count[..., None]


def _of_states(unit: Any, q_value: ArrayT) -> ArrayT:
    """Return the unit of each state, ``(..., S)``."""
    xp = array_namespace(q_value)
    states = xp.zeros_like(q_value[..., 0])
    if isinstance(unit, int | float):
        return states + float(unit)
    sizes = like(unit, q_value)
    if sizes.ndim == 0 or q_value.ndim < 2:
        return states + sizes
    check_broadcast(unit=sizes, q_value=q_value[..., 0, 0])
    return states + sizes[..., None]


def _shared_by_columns(q_value: Any, tolerance: float, least: Any) -> Any:
    policy = np.empty(q_value.shape, dtype=q_value.dtype)
    rows, flat_least = policy.reshape(-1, q_value.shape[-1]), least.reshape(-1)
    for block, columns in columns_of_short_rows(q_value):
        best = np.maximum.reduce(columns, axis=0)
        mass = columns >= best - tolerance * np.maximum(np.abs(best), flat_least[block])
        np.divide(
            mass.T, np.add.reduce(mass, axis=0, dtype=q_value.dtype)[:, None], out=rows[block]
        )
    return policy


def best_action(q_value: Array) -> tuple[Array, Array]:
    """Return the maximum over the last axis and its first index."""
    if not has_short_rows(q_value):
        xp = array_namespace(q_value)
        return xp.max(q_value, axis=-1), xp.argmax(q_value, axis=-1)
    best = np.empty(q_value.shape[:-1], dtype=q_value.dtype)
    index = np.empty(q_value.shape[:-1], dtype=np.int8)
    all_best, all_index = best.reshape(-1), index.reshape(-1)
    for block, columns in columns_of_short_rows(q_value):
        largest, first = columns[0], np.zeros(columns.shape[1], dtype=np.int8)
        for action in range(1, columns.shape[0]):
            better = (columns[action] > largest).view(np.int8)
            np.maximum(largest, columns[action], out=largest)
            np.maximum(first, better * np.int8(action), out=first)
        all_best[block], all_index[block] = largest, first
    return best, index


def best_value(q_value: ArrayT) -> ArrayT:
    """Return the maximum over the last axis."""
    if not has_short_rows(q_value):
        return array_namespace(q_value).max(q_value, axis=-1)
    best: Any = np.empty(q_value.shape[:-1], dtype=q_value.dtype)
    all_best = best.reshape(-1)
    for block, columns in columns_of_short_rows(q_value):
        np.maximum.reduce(columns, axis=0, out=all_best[block])
    return best


def zero_where_ended(value: ArrayT, terminal: Array) -> ArrayT:
    """Return values ``(..., *batch, S)`` with 0 in terminal states."""
    xp = array_namespace(value)
    return xp.where(terminal, xp.zeros_like(value), value)


class Criterion(NamedTuple):
    """What a planner maximises.

    Attributes
    ----------
    maximum
        How action values become values.
    policy
        The policy that attains them, which a result reports.
    improvement
        The policy that a step of policy iteration moves to.
    unit
        What tolerances are in units of, ``(*batch,)``, at most 1.
    """

    maximum: Callable[[Array], Array]
    policy: Callable[[Array], Array]
    improvement: Callable[[Array], Array]
    unit: Array


# Policy iteration shares exact ties only: a near tie is a strict improvement not to be given away.
STRICT_TIE_TOLERANCE = 1e-14


def reward_unit(mdp: TabularMDP) -> Array:
    """Return what tolerances are in units of, ``(*batch,)``.

    The largest absolute reward where that is less than 1 (and not 0), else 1.
    """
    reward = stop_gradient(mdp.reward)
    xp = array_namespace(reward)
    largest = xp.maximum(xp.max(reward, axis=(-2, -1)), -xp.min(reward, axis=(-2, -1)))
    largest = largest + zeros(mdp)[..., 0]
    return xp.where((largest > 0) & (largest < 1), largest, xp.ones_like(largest))


def hard_criterion(mdp: TabularMDP) -> Criterion:
    """Return the criterion of the expected discounted reward."""
    unit = reward_unit(mdp)
    return Criterion(
        maximum=best_value,
        policy=lambda q: greedy_policy(q, unit=unit),
        improvement=lambda q: greedy_policy(q, tolerance=STRICT_TIE_TOLERANCE, unit=unit),
        unit=unit,
    )


def soft_criterion(mdp: TabularMDP, temperature: float, log_reference: Array | None) -> Criterion:
    """Return the criterion regularised by entropy, or by the divergence from a reference."""
    check_positive(temperature=temperature)

    def maximum(q_value: Array) -> Array:
        value = soft_maximum(q_value, temperature=temperature, log_reference=log_reference)
        return zero_where_ended(value, mdp.terminal)

    def policy(q_value: Array) -> Array:
        return soft_policy(q_value, temperature=temperature, log_reference=log_reference)

    # However small rewards are, the logarithms beside them are rounded in units of the temperature.
    unit = reward_unit(mdp)
    xp = array_namespace(unit)
    coarse = xp.maximum(unit, xp.full_like(unit, min(temperature, 1.0)))
    return Criterion(maximum, policy, improvement=policy, unit=coarse)


def zeros(mdp: TabularMDP) -> Array:
    """Return values ``(*batch, S)`` of 0."""
    return like(np.zeros((*mdp.batch_shape, mdp.n_states)), mdp.reward)
