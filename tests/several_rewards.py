"""What tests of several objectives share: small processes, and their programs in cvxpy."""

import numpy as np

from prefsim.worlds import TabularMDP


def process(seed, *, n_objectives=2, n_states=5, n_actions=3, discount=0.9, n_terminal=0):
    """Return a process with rewards in [0, 1], of which the last states may be terminal."""
    rng = np.random.default_rng(seed)
    moves = rng.dirichlet(np.full(n_states, 0.5), size=(n_states, n_actions))
    rewards = rng.random((n_objectives, n_states, n_actions))
    ended = np.arange(n_states) >= n_states - n_terminal
    moves[ended] = np.eye(n_states)[ended][:, None]
    rewards[:, ended] = 0.0
    return TabularMDP(moves, rewards, discount=discount, terminal=ended)


def visits_in_cvxpy(mdp):
    """Return a variable for visits, what they must satisfy, and the returns as an expression."""
    import cvxpy as cp

    states, actions = mdp.n_states, mdp.n_actions
    visits = cp.Variable((states, actions), nonneg=True)
    limits = []
    for s in range(states):
        arrivals = sum(
            cp.sum(cp.multiply(visits[k], mdp.transitions[k, :, s]))
            for k in range(states)
            if not mdp.terminal[k]
        )
        if mdp.terminal[s]:
            limits.append(visits[s] == 0)
        else:
            limits.append(cp.sum(visits[s]) == mdp.start_probs[s] + mdp.discount * arrivals)
    returns = cp.hstack([cp.sum(cp.multiply(visits, reward)) for reward in mdp.reward])
    return visits, limits, returns
