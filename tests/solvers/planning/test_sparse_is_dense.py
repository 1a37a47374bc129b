"""A sparse process is planned for as the same process in a dense table."""

import numpy as np
import pytest

from prefsim.solvers import planning
from prefsim.worlds import TabularMDP

SPARSE = TabularMDP.random_sparse(7, 3, 2, discount=0.8, seed=0)
POLICY = np.random.default_rng(0).dirichlet(np.ones(3), 7)
FEATURES = np.random.default_rng(1).normal(size=(7, 3, 2))
ENDLESS = {
    "value_iteration": planning.value_iteration,
    "policy_iteration": planning.policy_iteration,
    "modified": planning.modified_policy_iteration,
    "linear_program": planning.linear_program,
    "newton": lambda mdp: planning.soft_value_iteration(mdp, temperature=0.3, method="newton"),
    "sweeps": lambda mdp: planning.soft_value_iteration(mdp, temperature=0.3, method="sweeps"),
    "evaluation": lambda mdp: planning.policy_evaluation(mdp, POLICY),
    "occupancy": lambda mdp: planning.occupancy(mdp, POLICY),
    "successor_features": lambda mdp: planning.successor_features(mdp, POLICY, FEATURES),
    "advantages": lambda mdp: planning.advantages(mdp, POLICY),
    "optimal advantages": planning.advantages,
    "soft advantages": lambda mdp: planning.advantages(mdp, temperature=0.3),
}
FINITE = {
    name: solve
    for name, solve in ENDLESS.items()
    if name not in ("policy_iteration", "modified", "linear_program", "newton")
}
PROCESSES = [(name, None) for name in ENDLESS] + [(name, 3) for name in FINITE]


def arrays(result):
    """Return the floating-point numbers of a result."""
    parts = [result] if isinstance(result, np.ndarray) else list(result)
    return [part for part in map(np.asarray, parts) if part.dtype.kind == "f"]


@pytest.mark.parametrize(("name", "horizon"), PROCESSES)
def test_the_numbers_are_the_same(name, horizon):
    table = SPARSE.to_dense()
    processes = [
        TabularMDP(
            mdp.transitions, mdp.reward, discount=0.8, horizon=horizon, start_probs=np.eye(7)[2]
        )
        for mdp in (SPARSE, table)
    ]
    assert processes[0].is_sparse and not processes[1].is_sparse
    sparse, dense = (arrays(ENDLESS[name](mdp)) for mdp in processes)
    assert len(sparse) == len(dense) > 0
    for left, right in zip(sparse, dense, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-10)
