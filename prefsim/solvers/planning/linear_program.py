"""Planning as one linear program over the values."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from prefsim.backend import like, to_numpy
from prefsim.checks import check_kind, check_positive
from prefsim.solvers.planning.bellman import action_values, greedy_policy, hard_criterion
from prefsim.solvers.planning.certificate import (
    PlanningResult,
    require_no_better_without_end,
)
from prefsim.solvers.planning.evaluation import policy_evaluation
from prefsim.solvers.planning.policy_iteration import newton_steps, require_infinite_horizon
from prefsim.worlds.mdp import TabularMDP

__all__ = ["linear_program"]


def linear_program(mdp: TabularMDP, *, tolerance: float = 1e-12) -> PlanningResult:
    r"""Return the optimal values by linear programming.

    Minimise :math:`\sum_s v(s)` subject to :math:`v \ge r_a + \gamma P_a v` for all a.

    HiGHS solves the program (a batch is one program of independent blocks) to its own tolerance of
    about 1e-7; the policy that it identifies is then evaluated exactly, and improved where actions
    closer than that tolerance hid a better one.

    Parameters
    ----------
    mdp
        A process of infinite horizon, dense or sparse.
    tolerance
        Bellman residual to reach.

    Raises
    ------
    ValueError
        If the horizon is finite, the program has no finite solution (an undiscounted process that
        rewards not ending), or never ending is better than what ends.

    References
    ----------
    d'Epenoux 1963; Puterman 1994, section 6.9.
    """
    check_kind(TabularMDP, mdp=mdp)
    from scipy.optimize import linprog

    require_infinite_horizon(mdp, "linear_program")
    check_positive(tolerance=tolerance)
    shape = (*mdp.batch_shape, mdp.n_states, mdp.n_actions)
    states = mdp.n_states
    reward = np.broadcast_to(to_numpy(mdp.reward), shape).astype(np.float64)
    ended = np.broadcast_to(to_numpy(mdp.terminal), shape[:-1]).reshape(-1)
    if mdp.is_sparse:
        blocks = [mdp.transitions]
    else:
        table = np.broadcast_to(to_numpy(mdp.transitions), (*shape, states)).reshape(
            -1, states * mdp.n_actions, states
        )
        blocks = [sp.csr_array(block) for block in table]
    own = sp.kron(sp.eye_array(ended.size), np.ones((mdp.n_actions, 1)), format="csr")
    matrix = (mdp.discount * sp.block_diag(blocks, format="csr") - own).tocsr()
    bounds = np.where(ended[:, None], 0.0, np.array([-np.inf, np.inf]))
    solution = linprog(
        np.ones(ended.size), A_ub=matrix, b_ub=-reward.reshape(-1), bounds=bounds, method="highs"
    )
    if solution.x is None:
        raise ValueError(f"linear_program has no finite solution: {solution.message}")
    value = like(solution.x.reshape(shape[:-1]), mdp.reward)
    policy = greedy_policy(
        action_values(mdp.transitions, mdp.reward, value, discount=mdp.discount), tolerance=1e-7
    )
    value = policy_evaluation(mdp, policy, tolerance=tolerance).value
    improved = newton_steps(
        "linear_program", mdp, hard_criterion(mdp), value, tolerance, max_iterations=100
    )
    found = improved._replace(iterations=improved.iterations + int(solution.nit))
    return require_no_better_without_end("linear_program", mdp, found)
