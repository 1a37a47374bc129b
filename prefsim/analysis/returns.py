"""How good a policy is in a decision process: 0 is the uniform policy, 1 the optimal one."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import (
    as_probabilities,
    check_interval,
    check_kind,
    check_nonnegative,
    check_shape,
)
from prefsim.numerics import xlogy
from prefsim.solvers.planning import policy_evaluation, policy_iteration, soft_value_iteration
from prefsim.worlds.mdp import TabularMDP

__all__ = ["mean_return", "scaled_return"]


def mean_return(mdp: TabularMDP, policy: Any, *, temperature: float = 0.0) -> np.ndarray:
    r"""Return the value of policies from the start distribution.

    :math:`\mathbb E \sum_t \gamma^t (r_t + \alpha H(\pi(\cdot|s_t)))`.

    Parameters
    ----------
    mdp
        One decision process.
    policy
        Probabilities ``(*more, S, A)``.
    temperature
        α >= 0: weight of the entropy (nats) of the policy in each state on the way.

    Returns
    -------
    Array ``(*more,)``.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a policy has no finite value because ``discount`` is 1 and it
        never ends.
    """
    check_kind(TabularMDP, mdp=mdp)
    check_nonnegative(temperature=temperature)
    if mdp.batch_shape:
        raise ValueError(f"one decision process is needed, got batch shape {mdp.batch_shape}")
    probs = as_probabilities(policy, "policy", min_ndim=2)
    check_shape(probs, "policy", (mdp.n_states, mdp.n_actions))
    entropy = np.where(to_numpy(mdp.terminal), 0.0, -np.sum(xlogy(probs, probs), axis=-1))
    bonus = to_numpy(mdp.reward) + temperature * entropy[..., None]
    return to_numpy(policy_evaluation(mdp.with_reward(bonus), probs).value) @ to_numpy(
        mdp.start_probs
    )


def scaled_return(
    mdp: TabularMDP, policy: Any, *, temperature: float = 0.0, floor: float = -np.inf
) -> np.ndarray:
    r"""Return :math:`(J(\pi) - J(U)) / (J^* - J(U))`.

    1 for an optimal policy, 0 for the uniform one U.

    Parameters
    ----------
    mdp
        One decision process with its true reward; J is :func:`mean_return`.
    policy
        Probabilities ``(*more, S, A)``.
    temperature
        α >= 0 of the entropy bonus; J* is then that of the maximum-entropy policy.
    floor
        Smallest value returned: a policy that goes in circles would otherwise outweigh everything
        in an average.

    Returns
    -------
    Array ``(*more,)``.

    Raises
    ------
    ValueError
        If the uniform policy is optimal, so that there is no scale, or the shapes do not fit.

    References
    ----------
    Knox et al. 2022, section 6, arXiv:2206.02231.

    Examples
    --------
    >>> corridor = TabularMDP.grid_world(
    ...     [[-1.0, -1.0, 10.0]], terminal=[[False, False, True]], discount=0.9
    ... )
    >>> always_left_or_right = np.eye(4)[[[2, 2, 2], [3, 3, 3]]]
    >>> scaled_return(corridor, always_left_or_right, floor=-1.0)
    array([-1.,  1.])
    """
    check_kind(TabularMDP, mdp=mdp)
    check_interval(low=-np.inf, high=np.inf, floor=floor)
    uniform = mean_return(
        mdp, np.full((mdp.n_states, mdp.n_actions), 1.0 / mdp.n_actions), temperature=temperature
    )
    best = (
        policy_iteration(mdp)
        if temperature == 0
        else soft_value_iteration(mdp, temperature=temperature)
    )
    span = float(to_numpy(best.value) @ to_numpy(mdp.start_probs) - uniform)
    if not span > 0:
        raise ValueError(
            f"the optimal policy must beat the uniform one, got a difference of {span}"
        )
    return np.maximum((mean_return(mdp, policy, temperature=temperature) - uniform) / span, floor)
