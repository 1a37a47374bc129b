"""Planners written another way, for the tests of planning: in plain NumPy, or by simulation."""

import functools

import numpy as np

from prefsim.solvers import planning

OPTIMAL = [
    planning.value_iteration,
    planning.policy_iteration,
    planning.modified_policy_iteration,
    planning.linear_program,
]
SOFT = [
    functools.partial(planning.soft_value_iteration, method=method)
    for method in ("newton", "sweeps")
]


def certificate(mdp, value, policy=None, temperature=None, log_reference=0.0):
    """The Bellman residual in plain NumPy loops over states and actions, without the library."""
    dense = mdp.to_dense()
    worst = 0.0
    for s in range(mdp.n_states):
        q = np.array(
            [
                dense.reward[s, a] + mdp.discount * dense.transitions[s, a] @ value
                for a in range(mdp.n_actions)
            ]
        )
        if policy is not None:
            backed_up = policy[s] @ q
        elif temperature is None:
            backed_up = q.max()
        else:
            z = q / temperature + np.broadcast_to(log_reference, dense.reward.shape)[s]
            backed_up = temperature * (z.max() + np.log(np.exp(z - z.max()).sum()))
        worst = max(worst, abs((0.0 if mdp.terminal[s] else backed_up) - value[s]))
    return worst
