"""Finite horizons by loops over time, states and actions, for batches of processes."""

import numpy as np
import pytest

from prefsim.solvers import planning
from prefsim.worlds import TabularMDP

H, S, A, B, TAU, GAMMA = 3, 4, 2, 2, 0.4, 0.8
RNG = np.random.default_rng(0)
TERMINAL = np.asarray([False, False, False, True])
MOVES = RNG.dirichlet(np.ones(S), (B, S, A))
MOVES[:, 3] = np.eye(S)[3]
REWARD = RNG.normal(size=(B, S, A)) * ~TERMINAL[:, None]
BEGIN = RNG.dirichlet(np.ones(S), B)
POLICY = RNG.dirichlet(np.ones(A), (B, H, S))
REFERENCE = RNG.dirichlet(np.ones(A), (B, S))
FEATURES = RNG.normal(size=(S, A, 3))
BATCH = TabularMDP(
    MOVES, REWARD, discount=GAMMA, horizon=H, terminal=np.tile(TERMINAL, (B, 1)), start_probs=BEGIN
)


def soft_maximum(q, reference):
    return TAU * np.log((reference * np.exp(q / TAU)).sum())


MAXIMA = {
    "value_iteration": (planning.value_iteration, lambda q, b, t, s: q.max()),
    "soft_value_iteration": (
        lambda mdp: planning.soft_value_iteration(mdp, temperature=TAU),
        lambda q, b, t, s: soft_maximum(q, np.ones(A)),
    ),
    "soft with a reference": (
        lambda mdp: planning.soft_value_iteration(mdp, temperature=TAU, reference=REFERENCE),
        lambda q, b, t, s: soft_maximum(q, REFERENCE[b, s]),
    ),
    "policy_evaluation": (
        lambda mdp: planning.policy_evaluation(mdp, POLICY),
        lambda q, b, t, s: POLICY[b, t, s] @ q,
    ),
}


def backwards(maximum):
    """Return values ``(B, H + 1, S)`` and action values ``(B, H, S, A)`` by loops."""
    value, q_value = np.zeros((B, H + 1, S)), np.zeros((B, H, S, A))
    for b in range(B):
        for t in reversed(range(H)):
            for s in range(S):
                for a in range(A):
                    after = sum(MOVES[b, s, a, n] * value[b, t + 1, n] for n in range(S))
                    q_value[b, t, s, a] = REWARD[b, s, a] + GAMMA * after
                if not TERMINAL[s]:
                    value[b, t, s] = maximum(q_value[b, t, s], b, t, s)
    return value, q_value


@pytest.mark.parametrize("name", MAXIMA)
def test_values_are_the_maxima_from_the_end(name):
    solve, maximum = MAXIMA[name]
    found = solve(BATCH)
    value, q_value = backwards(maximum)
    np.testing.assert_allclose(found.value, value, atol=1e-12)
    np.testing.assert_allclose(found.q_value, q_value, atol=1e-12)
    np.testing.assert_allclose(found.advantage, q_value - value[:, :H, :, None], atol=1e-12)
    assert found.policy.shape == (B, H, S, A) and found.iterations == H
    assert found.residual.shape == (B,) and (found.residual <= 1e-12).all()
    assert found.converged.shape == (B,) and found.converged.all()
    expected = {
        "value_iteration": q_value == q_value.max(-1, keepdims=True),
        "policy_evaluation": POLICY,
    }.get(name)
    if expected is None:
        base = REFERENCE[:, None] if "reference" in name else np.ones((B, 1, S, A))
        expected = base * np.exp(q_value / TAU)
    expected = expected / expected.sum(-1, keepdims=True)
    alive = ~TERMINAL
    np.testing.assert_allclose(found.policy[:, :, alive], expected[:, :, alive], atol=1e-12)


@pytest.mark.parametrize("name", ["value_iteration", "soft_value_iteration"])
def test_one_process_has_plain_numbers(name):
    solve, maximum = MAXIMA[name]
    single = TabularMDP(
        MOVES[0], REWARD[0], discount=GAMMA, horizon=H, terminal=TERMINAL, start_probs=BEGIN[0]
    )
    found = solve(single)
    np.testing.assert_allclose(found.value, backwards(maximum)[0][0], atol=1e-12)
    assert type(found.residual) is float and type(found.converged) is bool


def test_visits_are_pushed_through_the_process():
    found = planning.occupancy(BATCH, POLICY)
    for b in range(B):
        mass = BEGIN[b] * ~TERMINAL
        for t in range(H):
            visits = mass[:, None] * POLICY[b, t]
            np.testing.assert_allclose(found[b, t], visits, atol=1e-12)
            pushed = sum(visits[s, a] * MOVES[b, s, a] for s in range(S) for a in range(A))
            mass = GAMMA * pushed * ~TERMINAL


def test_successor_features_are_values_of_every_feature():
    found = planning.successor_features(BATCH, POLICY, FEATURES)
    assert found.state.shape == (B, H + 1, S, 3) and found.state_action.shape == (B, H, S, A, 3)
    for k in range(3):
        paid = np.broadcast_to(FEATURES[..., k] * ~TERMINAL[:, None], (B, S, A))
        of_one = planning.policy_evaluation(BATCH.with_reward(paid), POLICY)
        np.testing.assert_allclose(found.state[..., k], of_one.value, atol=1e-12)
        np.testing.assert_allclose(
            found.state_action[..., k][:, :, ~TERMINAL], of_one.q_value[:, :, ~TERMINAL], atol=1e-12
        )


def test_advantages_are_those_of_the_policy_or_the_optimum():
    for options, solve in (
        ({"policy": POLICY}, MAXIMA["policy_evaluation"][0]),
        ({}, MAXIMA["value_iteration"][0]),
        ({"temperature": TAU}, MAXIMA["soft_value_iteration"][0]),
    ):
        found = planning.advantages(BATCH, **options)
        np.testing.assert_allclose(found, solve(BATCH).advantage, atol=1e-12)
