"""Values, visits and optima in layers: a fixed number of decisions, each with its own moves.

Layers h = 0, …, H − 1 have S states each. Costs are added up and made small.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import to_numpy
from prefsim.checks import alike, as_floats, check_no_nan, check_positive, check_shape, names_shapes
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT
from prefsim.worlds.transitions import arriving, expected_next

__all__ = [
    "LayeredOptimum",
    "check_linear_q",
    "layered_occupancy",
    "layered_optimum",
    "layered_values",
    "linear_q_residual",
]

LINEAR_TOLERANCE = 1e-9
"""Action values this close to a linear function, relative to the largest, are linear."""


@names_shapes
def layered_values(
    transitions: Array, costs: ArrayT, policy: Array, *, growth: float = 1.0
) -> ArrayT:
    r"""Return the action values of a policy, from the last layer backwards.

    .. math:: Q_h(s, a) = c_h(s, a) + g\, E_{s' \sim P_h,\, a' \sim \pi} Q_{h+1}(s', a'),
        \qquad Q_H = 0

    Parameters
    ----------
    transitions
        ``(*batch, H - 1, S, A, S)``, from each layer to the next.
    costs
        c, ``(*more, *batch, H, S, A)``.
    policy
        Probabilities ``(*more, *batch, H, S, A)``.
    growth
        g > 0: what a step multiplies by.

    Returns
    -------
    Array ``(*more, *batch, H, S, A)``.

    Examples
    --------
    Two layers of one state: the second costs 1 or 3, evenly.

    >>> stay = np.ones((1, 1, 2, 1))
    >>> layered_values(stay, np.array([[[0.0, 0.5]], [[1.0, 3.0]]]), np.full((2, 1, 2), 0.5))
    array([[[2. , 2.5]],
    <BLANKLINE>
           [[1. , 3. ]]])
    """
    check_positive(growth=growth)
    transitions, costs, policy = _layers(transitions, costs=costs, policy=policy)
    # That of the first layer is not used, and NaN there would not be seen.
    check_no_nan(policy[..., :1, :, :], "policy")
    xp = array_namespace(costs)
    values = [costs[..., -1, :, :]]
    for h in reversed(range(costs.shape[-3] - 1)):
        after = xp.sum(policy[..., h + 1, :, :] * values[-1], axis=-1)
        onward = expected_next(transitions[..., h, :, :, :], after)
        values.append(costs[..., h, :, :] + growth * onward)
    return xp.stack(values[::-1], axis=-3)


def _layers(transitions: Any, **tables: Any) -> tuple[Any, ...]:
    """Return moves and tables of layers that fit each other, the tables of one shape."""
    moves, *found = alike(transitions=transitions, **tables)
    first = next(iter(tables))
    check_shape(found[0], first, (None, None, None))
    layers, states, actions = found[0].shape[-3:]
    for name, table in zip(tables, found, strict=True):
        check_shape(table, name, (layers, states, actions))
    check_shape(moves, "transitions", (layers - 1, states, actions, states))
    lead = np.broadcast_shapes(moves.shape[:-4], *(table.shape[:-3] for table in found))
    xp = array_namespace(moves, *found)
    shape = (*lead, layers, states, actions)
    return moves, *(xp.broadcast_to(table, shape) for table in found)


@names_shapes
def layered_occupancy(transitions: Array, policy: ArrayT, start_probs: Array) -> ArrayT:
    r"""Return how likely each state and action is in each layer, ``(..., H, S, A)``.

    Parameters
    ----------
    transitions
        ``(*batch, H - 1, S, A, S)``.
    policy
        ``(*more, *batch, H, S, A)``.
    start_probs
        Distribution of the first state, ``(S,)`` or ``(*batch, S)``.

    Examples
    --------
    >>> swap = np.array([[[[0.0, 1.0]], [[1.0, 0.0]]]])
    >>> layered_occupancy(swap, np.ones((2, 2, 1)), np.array([0.75, 0.25]))[1, :, 0]
    array([0.25, 0.75])
    """
    moves, policy = _layers(transitions, policy=policy)
    moves, policy, mass = alike(transitions=moves, policy=policy, start_probs=start_probs)
    check_shape(mass, "start_probs", (policy.shape[-2],))
    xp = array_namespace(policy)
    visits = [mass[..., None] * policy[..., 0, :, :]]
    for h in range(policy.shape[-3] - 1):
        mass = arriving(moves[..., h, :, :, :], visits[-1])
        visits.append(mass[..., None] * policy[..., h + 1, :, :])
    return xp.stack(visits, axis=-3)


@readable
class LayeredOptimum(NamedTuple):
    """The least expected sum of costs.

    Attributes
    ----------
    value
        From each state of each layer, ``(..., H, S)``.
    q_value
        After each action in it, ``(..., H, S, A)``.
    policy
        One action for each state, the first of several best, as probabilities ``(..., H, S, A)``.
    """

    value: Array
    q_value: Array
    policy: Array


@names_shapes
def layered_optimum(transitions: Array, costs: Array) -> LayeredOptimum:
    """Return the policy of least cost, by dynamic programming.

    Parameters
    ----------
    transitions, costs
        As in :func:`layered_values`.

    Examples
    --------
    >>> layered_optimum(np.ones((1, 1, 2, 1)), np.array([[[0.0, 0.5]], [[1.0, 3.0]]])).value
    array([[1.],
           [1.]])
    """
    moves, costs = _layers(transitions, costs=costs)
    xp = array_namespace(costs)
    q_values = [costs[..., -1, :, :]]
    for h in reversed(range(costs.shape[-3] - 1)):
        onward = expected_next(moves[..., h, :, :, :], xp.min(q_values[-1], axis=-1))
        q_values.append(costs[..., h, :, :] + onward)
    q_value = xp.stack(q_values[::-1], axis=-3)
    actions = xp.arange(costs.shape[-1], device=costs.device)
    chosen = xp.argmin(q_value, axis=-1)[..., None] == actions
    return LayeredOptimum(xp.min(q_value, axis=-1), q_value, xp.astype(chosen, q_value.dtype))


@names_shapes
def linear_q_residual(transitions: Array, costs: Array, features: ArrayT, policy: Array) -> ArrayT:
    r"""Return how far the action values of a policy are from linear in the features, ``(..., H)``.

    The largest distance of :math:`Q_h` from its least-squares fit :math:`\phi_h \cdot \theta_h`.

    The distances are polynomials in the probabilities of the policy: where they vanish at one
    policy drawn from a density they vanish, almost surely, at every policy.

    Parameters
    ----------
    transitions, costs, policy
        As in :func:`layered_values`.
    features
        ``(*batch, H, S, A, d)``.

    Examples
    --------
    >>> features = np.array([[[[1.0], [2.0]]]])
    >>> linear_q_residual(
    ...     np.ones((0, 1, 2, 1)), np.array([[[1.0, 3.0]]]), features, np.full((1, 1, 2), 0.5)
    ... ).round(3)
    array([0.4])
    """
    transitions, costs, features, policy = as_floats(
        transitions=transitions, costs=costs, features=features, policy=policy
    )
    q_value = layered_values(transitions, costs, policy)
    check_shape(features, "features", (*q_value.shape[-3:], None))
    xp = array_namespace(features, q_value)
    pairs = q_value.shape[-2] * q_value.shape[-1]
    table = xp.reshape(features, (*features.shape[:-3], pairs, features.shape[-1]))
    column = xp.reshape(q_value, (*q_value.shape[:-2], pairs, 1))
    fitted = xp.matmul(table, xp.matmul(xp.linalg.pinv(table), column))
    return xp.max(xp.abs(fitted - column)[..., 0], axis=-1)


def check_linear_q(transitions: Any, costs: Any, features: Any, policy: Any) -> None:
    """Raise unless the action values of a policy are linear in the features.

    Parameters
    ----------
    transitions, costs, features, policy
        As in :func:`linear_q_residual`.

    Raises
    ------
    ValueError
        If the largest distance from a linear function is more than 1e-9 of the largest cost that
        an episode can have.

    Examples
    --------
    >>> moves, evenly = np.ones((0, 1, 2, 1)), np.full((1, 1, 2), 0.5)
    >>> check_linear_q(moves, np.array([[[1.0, 2.0]]]), np.array([[[[1.0], [2.0]]]]), evenly)
    """
    missed = float(np.max(to_numpy(linear_q_residual(transitions, costs, features, policy))))
    layers = np.asarray(to_numpy(costs)).shape[-3]
    largest = layers * float(np.abs(to_numpy(costs)).max(initial=0.0))
    if not missed <= LINEAR_TOLERANCE * largest:
        raise ValueError(
            "action values must be linear in the features for every policy, got one that is"
            f" {missed:.3g} from it"
        )
