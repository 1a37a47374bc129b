"""Many copies of a process, stepped as gymnasium steps its own."""

import numpy as np
import pytest
from gymnasium.spaces import MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from scipy import stats

from prefsim.worlds import TabularMDP

PROCESSES = {
    "terminal": TabularMDP.random(
        6, 3, discount=0.9, seed=1, n_terminal=2, deterministic=True, transition_rewards=True
    ),
    "horizon": TabularMDP.random(5, 3, discount=1.0, horizon=3, seed=3, deterministic=True),
}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", PROCESSES)
def test_steps_are_those_of_as_many_environments(name, sparse):
    """Where nothing is random but the start, and the start is one state, nothing is left open."""
    mdp = PROCESSES[name]
    mdp = TabularMDP(
        mdp.transitions,
        mdp.reward if mdp.transition_reward is None else mdp.transition_reward,
        discount=mdp.discount,
        horizon=mdp.horizon,
        start_probs=np.eye(mdp.n_states)[0],
        terminal=mdp.terminal,
    )
    mdp = mdp.to_sparse() if sparse else mdp
    ours, theirs = mdp.to_gymnasium(num_envs=8), SyncVectorEnv([mdp.to_gymnasium] * 8)
    assert isinstance(ours, VectorEnv)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    assert ours.action_space == theirs.action_space
    assert ours.observation_space == theirs.observation_space
    np.testing.assert_array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    rng, ends = np.random.default_rng(0), 0
    for _ in range(40):
        actions = rng.integers(mdp.n_actions, size=8)
        mine, other = ours.step(actions)[:4], theirs.step(actions)[:4]
        for one, of_theirs in zip(mine, other, strict=True):
            np.testing.assert_array_equal(one, of_theirs)
            assert one.dtype == of_theirs.dtype
        ends += int(mine[2].sum())
    assert ends > 0


def test_draws_follow_the_tables():
    mdp = TabularMDP.random(4, 2, discount=0.9, seed=0)
    envs = mdp.to_gymnasium(num_envs=20_000)
    start, _ = envs.reset(seed=1)
    assert stats.chisquare(np.bincount(start, minlength=4)).pvalue > 1e-4
    after = envs.step(np.ones(20_000, dtype=int))[0]
    for s in range(4):
        counts = np.bincount(after[start == s], minlength=4)
        assert stats.chisquare(counts, mdp.transitions[s, 1] * counts.sum()).pvalue > 1e-4


def test_same_seed_same_episodes():
    envs = TabularMDP.random(6, 2, discount=0.9, seed=0, n_terminal=1).to_gymnasium(num_envs=5)
    runs = [
        [envs.reset(seed=4)[0], *(envs.step([0, 1, 0, 1, 0])[k] for k in (0, 1, 2))]
        for _ in range(2)
    ]
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_what_is_returned_is_not_moved_by_the_next_step():
    envs = TabularMDP.random(6, 2, discount=0.9, seed=0).to_gymnasium(num_envs=50)
    first, _ = envs.reset(seed=0)
    kept = first.copy()
    envs.step(np.zeros(50, dtype=int))
    np.testing.assert_array_equal(first, kept)


def test_it_is_gymnasiums_form():
    envs = PROCESSES["terminal"].to_gymnasium(num_envs=3)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.action_space == MultiDiscrete([3, 3, 3])
    assert envs.single_action_space.n == 3


@pytest.mark.parametrize(
    ("actions", "message"),
    [([0, 1], r"one action for each of 3 copies, got shape \(2,\)"), ([0, 1, 3], "actions")],
)
def test_bad_actions(actions, message):
    envs = PROCESSES["terminal"].to_gymnasium(num_envs=3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.step(actions)


@pytest.mark.parametrize("num_envs", [0, -1, 1.5, True])
def test_bad_number_of_copies(num_envs):
    with pytest.raises((ValueError, TypeError), match="num_envs"):
        PROCESSES["terminal"].to_gymnasium(num_envs=num_envs)
