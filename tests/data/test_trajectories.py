"""Trajectories: all of them, draws, and recordings of environments."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from segment_tasks import CORRIDOR

from prefsim.data import Segments, trajectories
from prefsim.data import segments as module
from prefsim.data.trajectories import (
    enumerate_trajectories,
    record_trajectories,
    sample_trajectories,
)
from prefsim.policies import TabularPolicy
from prefsim.solvers.planning import policy_iteration
from prefsim.testing.segments import segment_processes
from prefsim.worlds import TabularMDP

# --- trajectories ---


@given(segment_processes())
def test_trajectories_are_a_distribution_over_possible_ones(process):
    mdp, length = process
    found = enumerate_trajectories(mdp, length)
    assert found.prob.sum() == pytest.approx(1.0)
    together = np.concatenate([found.states, found.actions], axis=1)
    assert np.unique(together, axis=0).shape == together.shape
    step = mdp.transitions[found.states[:, :-1], found.actions, found.states[:, 1:]]
    alive = np.asarray(~mdp.terminal)
    expected = np.where(found.mask, step / mdp.n_actions, 1.0).prod(axis=1) / alive.sum()
    np.testing.assert_allclose(found.prob, expected, rtol=1e-12, atol=1e-300)
    np.testing.assert_array_equal(found.mask, alive[found.states[:, :-1]])


def test_all_trajectories_of_the_corridor():
    found = enumerate_trajectories(CORRIDOR, 2)
    # 4 first actions from two cells; from the second cell one of them ends the episode and has one
    # continuation only.
    assert found.prob.size == 2 * 16 - 3
    ended = found.states[:, 1] == 2
    assert ended.sum() == 1
    assert not found.mask[ended, 1].any()
    assert found.prob[ended][0] == pytest.approx(1 / 2 / 4)


def test_a_design_of_ones_own():
    policy = TabularPolicy.from_probs(
        [[0.0, 0.0, 0.25, 0.75], [0.5, 0.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.0]]
    )
    found = enumerate_trajectories(CORRIDOR, 1, policy=policy, start=[1.0, 0.0, 0.0])
    np.testing.assert_array_equal(found.actions[:, 0], [2, 3])
    np.testing.assert_allclose(found.prob, [0.25, 0.75])
    drawn = sample_trajectories(CORRIDOR, 4000, 1, seed=0, policy=policy, start=[1.0, 0.0, 0.0])
    assert set(drawn.actions[:, 0].tolist()) == {2, 3}
    assert (drawn.actions[:, 0] == 3).mean() == pytest.approx(
        0.75, abs=4 * np.sqrt(0.25 * 0.75 / 4000)
    )


def test_draws_follow_the_enumeration():
    mdp = TabularMDP.random(3, 2, discount=0.9, seed=5, n_terminal=1)
    exact, drawn = enumerate_trajectories(mdp, 2), sample_trajectories(mdp, 20_000, 2, seed=1)

    def code(found):
        return np.concatenate([found.states, found.actions], axis=1) @ 3 ** np.arange(5)

    share = np.array([(code(drawn) == value).mean() for value in code(exact)])
    assert share.sum() == pytest.approx(1.0)
    assert (np.abs(share - exact.prob) < 5 * np.sqrt(exact.prob / 20_000)).all()


class Highest(np.random.Generator):
    """Every uniform number is the largest below one."""

    def random(self, size):
        return np.full(size, np.nextafter(1.0, 0.0))


def test_the_largest_uniform_number_draws_the_last_action():
    """Ten shares of a tenth add up to less than one, by rounding."""
    tenths = TabularPolicy.from_probs(np.full((1, 10), 0.1))
    assert np.cumsum(tenths.probs)[-1] < 1
    mdp = TabularMDP(np.ones((1, 10, 1)), np.zeros((1, 10)), discount=0.9)
    for made, source in ((sample_trajectories, mdp), (record_trajectories, mdp.to_gymnasium())):
        found = made(source, 2, 3, seed=Highest(np.random.PCG64(0)), policy=tenths)
        np.testing.assert_array_equal(found.actions, 9)


def test_too_many_trajectories(monkeypatch):
    monkeypatch.setattr(trajectories, "MAX_TRAJECTORIES", 100)
    with pytest.raises(ValueError, match="at most 100 trajectories are enumerated, got 104"):
        enumerate_trajectories(CORRIDOR, 3)
    monkeypatch.setattr(module, "MAX_PAIRS", 30)
    with pytest.raises(ValueError, match="at most 30 pairs are enumerated, got 36 of 8 segments"):
        Segments.population(CORRIDOR, 1, scores=CORRIDOR.reward)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be an integer >= 1"),
        ({"start": [0.5, 0.5]}, "start must have trailing shape"),
        ({"start": [[0.5, 0.25, 0.25]]}, "start must have 1 axes, got shape"),
        ({"start": [0.5, 0.5, 0.5]}, "start must sum to 1"),
        ({"policy": TabularPolicy.uniform(2, 4)}, "policy must have 3 states and 4 actions"),
    ],
)
def test_bad_designs(options, message):
    with pytest.raises(ValueError, match=message):
        enumerate_trajectories(CORRIDOR, **{"length": 2, **options})


def test_trajectories_need_one_process_that_goes_on():
    with pytest.raises(ValueError, match="one decision process"):
        enumerate_trajectories(TabularMDP.random(2, 2, discount=0.5, seed=0, batch_shape=(3,)), 1)
    ended = TabularMDP([[[1.0]]], [[0.0]], discount=1.0, terminal=[True])
    with pytest.raises(ValueError, match="a state that is not terminal"):
        enumerate_trajectories(ended, 1)


# --- gymnasium ---


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1"])
def test_recordings_are_possible_in_the_tables(name):
    mdp = TabularMDP.from_gymnasium(name, discount=0.9)
    found = record_trajectories(name, 200, 3, seed=0)
    ended = np.asarray(mdp.terminal)
    step = np.where(
        found.mask, mdp.transitions[found.states[:, :-1], found.actions, found.states[:, 1:]], 1.0
    )
    assert (step > 0).all()
    np.testing.assert_array_equal(
        found.mask[:, 1:], ~ended[found.states[:, 1:-1]] & found.mask[:, :-1]
    )
    assert found.mask[:, 0].all()


def test_a_ride_ends_in_a_state_of_its_own():
    """The passenger at the goal may also be one that is still to be picked up."""
    mdp = TabularMDP.from_gymnasium("Taxi-v4", discount=0.9)
    best = TabularPolicy.from_probs(policy_iteration(mdp).policy)
    found = record_trajectories("Taxi-v4", 40, 30, seed=0, policy=best)
    over = ~found.mask[:, -1]
    assert over.sum() > 20
    np.testing.assert_array_equal(found.states[over, -1], 500)
    assert (found.states[:, 0] < 500).all()
    assert mdp.terminal.nonzero()[0].tolist() == [500]


def test_recordings_start_where_they_are_put():
    start = np.zeros(16)
    start[[6, 10]] = 0.5
    found = record_trajectories("FrozenLake-v1", 300, 4, seed=1, start=start)
    assert set(found.states[:, 0].tolist()) == {6, 10}
    assert not found.mask[:, 1:].all()
    again = record_trajectories("FrozenLake-v1", 300, 4, seed=1, start=start)
    for one, two in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, two)
    # Without a start, pieces follow one another: the next begins where the last one stopped, unless
    # the episode was over.
    pieces = record_trajectories("CliffWalking-v1", 50, 3, seed=0)
    np.testing.assert_array_equal(pieces.states[1:, 0], pieces.states[:-1, -1])


def test_recorded_frequencies_are_those_of_the_tables():
    mdp = TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.9)
    start = np.eye(16)[6]
    found = record_trajectories("FrozenLake-v1", 3000, 1, seed=2, start=start)
    share = np.bincount(found.states[:, 1], minlength=16) / 3000
    expected = mdp.transitions[6].mean(axis=0)
    assert (np.abs(share - expected) < 5 * np.sqrt(expected / 3000) + 1e-12).all()


def test_recordings_of_an_environment_object_and_labels():
    mdp = TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.9)
    table = 10 * policy_iteration(mdp).advantage
    data = Segments.from_gymnasium(mdp.to_gymnasium(), 40, 2, seed=0, scores=table)
    assert len(data) == 40
    assert (data.prob == 1).all()
    total = data.returns(table)
    assert (total[:, 0] >= total[:, 1]).mean() > 0.5


def test_environments_that_cannot_be_recorded():
    with pytest.raises(ValueError, match="gymnasium cannot make 'NoSuchLake-v1'"):
        record_trajectories("NoSuchLake-v1", 1, 1, seed=0)
    with pytest.raises(ValueError, match="observation space must be Discrete"):
        record_trajectories("CartPole-v1", 1, 1, seed=0)
    lake = gymnasium.make("FrozenLake-v1")
    lake.action_space = gymnasium.spaces.Discrete(4, start=1)
    with pytest.raises(ValueError, match=r"^the action space must be Discrete and count from 0"):
        record_trajectories(lake, 1, 1, seed=0)
    with pytest.raises(TypeError, match=r"^policy must be a InMemoryPolicy, got ndarray"):
        record_trajectories("FrozenLake-v1", 1, 1, seed=0, policy=np.full((16, 4), 0.25))
    with pytest.raises(ValueError, match="policy must have 16 states"):
        record_trajectories("FrozenLake-v1", 1, 1, seed=0, policy=TabularPolicy.uniform(3, 4))
    with pytest.raises(ValueError, match="start must sum to 1"):
        record_trajectories("FrozenLake-v1", 1, 1, seed=0, start=np.ones(16))
