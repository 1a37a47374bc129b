"""Bad decision processes: one clear error each."""

import numpy as np
import pytest
import scipy.sparse as sp
from gymnasium_tables import REWARD, SWAP

from prefsim.solvers.planning import policy_iteration
from prefsim.worlds.grid import grid_moves
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.transitions import make_absorbing


def csr(data=(1.0,) * 4, column=(1, 0, 0, 1), pointer=(0, 1, 2, 3, 4), shape=(4, 2)):
    return sp.csr_array((np.array(data), np.array(column), np.array(pointer)), shape=shape)


def five_entries(first_row, columns):
    """A table of two entries in the first row and one in each of the others."""
    return csr((*first_row, 1.0, 1.0, 1.0), (*columns, 0, 0, 1), (0, 2, 3, 4, 5))


def out_of_bounds():
    table = csr()
    table.indices = np.array([1, 0, 0, 9], dtype=np.int32)
    return table


class TestBadInput:
    @pytest.mark.parametrize(
        ("transitions", "reward", "options", "message"),
        [
            (SWAP[0], REWARD, {}, "at least 3 axes"),
            (np.zeros((2, 2, 3)), REWARD, {}, r"shape \(\.\.\., S, A, S\)"),
            (0.5 * SWAP, REWARD, {}, "sum to 1"),
            (SWAP + 1e-8, REWARD, {}, "sum to 1"),
            (np.array([[[1.5, -0.5]] * 2] * 2), REWARD, {}, "transitions must be >= 0"),
            (np.where(SWAP > 0, np.nan, SWAP), REWARD, {}, "transitions must be finite"),
            ("table", REWARD, {}, "array of numbers"),
            (SWAP, np.ones((2, 3)), {}, r"trailing shape \(S, A\)"),
            (
                SWAP,
                np.array([[1.0, np.nan], [0.0, 0.0]]),
                {},
                r"reward must be finite, got nan at index \(0, 1\)",
            ),
            (SWAP, np.array([1.0, 2.0]), {}, "reward must have at least 2 axes"),
            (SWAP, csr(), {}, "reward is sparse but the transitions are dense"),
            (SWAP, REWARD, {"discount": 1.0}, r"discount must lie in \[0.0, 1.0\)"),
            (SWAP, REWARD, {"discount": -0.1}, "discount must lie in"),
            (SWAP, REWARD, {"discount": float("nan")}, "discount must lie in"),
            (SWAP, REWARD, {"discount": "high"}, "discount must lie in"),
            (SWAP, REWARD, {"discount": 1.1, "horizon": 3}, r"discount must lie in \[0.0, 1.0\]"),
            (SWAP, REWARD, {"horizon": 0}, "horizon must be an integer >= 1"),
            (SWAP, REWARD, {"horizon": 2.5}, "horizon must be an integer >= 1"),
            (SWAP, REWARD, {"horizon": True}, "horizon must be an integer >= 1"),
            (SWAP, REWARD, {"start_probs": [0.5, 0.4]}, "start_probs must sum to 1"),
            (SWAP, REWARD, {"start_probs": [1.0]}, "start_probs must have trailing shape"),
            (SWAP, REWARD, {"start_probs": [1.5, -0.5]}, "start_probs must be >= 0"),
            (SWAP, REWARD, {"terminal": [0, 1]}, "terminal must hold booleans"),
            (SWAP, REWARD, {"terminal": [True]}, "terminal must have trailing shape"),
            (
                SWAP,
                REWARD,
                {"terminal": [False, True]},
                "terminal states must have reward 0, got 3.0 for state 1, action 0",
            ),
            (
                SWAP,
                np.array([[1.0, 1.0], [0.0, 0.0]]),
                {"terminal": [False, True]},
                "must be absorbing.*got 0.0 for state 1, action 0",
            ),
            (
                np.stack([SWAP] * 3),
                np.zeros((2, 2, 2)),
                {"start_probs": np.full((4, 2), 0.5)},
                "batch axes must agree",
            ),
            (
                csr(shape=(5, 2), pointer=(0, 1, 2, 3, 4, 4)),
                REWARD,
                {},
                r"sparse transitions must have shape \(S\*A, S\)",
            ),
            (csr(data=(1.0, 1.0, 1.0, 0.7)), REWARD, {}, "got 0.7 for state 1, action 1"),
            (
                csr((1.5, -0.5, 1.0, 1.0, 1.0), (0, 1, 0, 0, 1), (0, 2, 3, 4, 5)),
                REWARD,
                {},
                r"transitions must be >= 0, got -0.5 at index \(0, 0, 1\)",
            ),
            (
                csr(data=(1.0, np.inf, 1.0, 1.0)),
                REWARD,
                {},
                "transitions must be finite, got inf in row 1, column 0",
            ),
            (five_entries((0.5, 0.5), (1, 1)), REWARD, {}, "entry twice, got row 0, column 1"),
            (
                sp.coo_array(
                    ([0.5, 0.5, 1.0, 1.0, 1.0], ([0, 0, 1, 2, 3], [1, 1, 0, 0, 1])), shape=(4, 2)
                ),
                REWARD,
                {},
                "twice, got row 0, column 1",
            ),
            (out_of_bounds(), REWARD, {}, "not a valid sparse matrix"),
            (csr(), np.ones((4, 1)), {}, "reward must have trailing shape"),
            (csr(), np.zeros((3, 2, 2)), {}, "sparse transitions take no batch axes"),
            (csr(), csr(shape=(4, 3)), {}, r"sparse reward must have the shape \(4, 2\)"),
            (csr(), REWARD, {"terminal": [False, True]}, "terminal states must have reward 0"),
            (
                csr(),
                np.array([[1.0, 1.0], [0.0, 0.0]]),
                {"terminal": [False, True]},
                "must be absorbing",
            ),
            (csr(), 3e307 * REWARD, {}, "sum to more than float64 holds over 10 steps"),
            (csr(), 3e307 * REWARD, {"horizon": 9}, "holds over 9 steps; divide them all by one"),
        ],
    )
    def test_one_clear_error(self, transitions, reward, options, message):
        with pytest.raises(ValueError, match=message):
            TabularMDP(transitions, reward, **{"discount": 0.9, **options})

    @pytest.mark.parametrize("sparse", [False, True])
    def test_undiscounted_needs_an_end_within_reach(self, sparse):
        table, reward = make_absorbing(
            np.eye(3)[[[0], [2], [2]]], np.ones((3, 1)), [False, False, True]
        )
        table = sp.csr_array(table.reshape(3, 3)) if sparse else table
        with pytest.raises(ValueError, match="state 0 reaches none"):
            TabularMDP(table, reward, discount=1.0, terminal=[False, False, True])
        assert TabularMDP(table, reward, discount=0.99, terminal=[False, False, True]).n_states == 3

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (
                lambda: TabularMDP.random(0, 2, discount=0.9, seed=0),
                "n_states must be an integer >= 1",
            ),
            (
                lambda: TabularMDP.random(3, 2, discount=0.9, seed=0, n_terminal=3),
                "n_terminal must lie in",
            ),
            (lambda: TabularMDP.random(3, 2, discount=0.9, seed=-1), "seed must be"),
            (
                lambda: TabularMDP.random_sparse(3, 2, 4, discount=0.9, seed=0),
                "n_successors must lie in",
            ),
            (lambda: TabularMDP.grid_world([1.0, 2.0], discount=0.9), "reward must have 2 axes"),
            (
                lambda: TabularMDP.grid_world(
                    [[1.0, 2.0]], terminal=[[True], [False]], discount=0.9
                ),
                "terminal must have trailing shape",
            ),
            (
                lambda: TabularMDP.grid_world([[1.0, 2.0]], blocked=[[0, 1]], discount=0.9),
                "blocked must hold booleans",
            ),
            (
                lambda: TabularMDP.grid_world([[1.0, 2.0]], bump_reward=[[1.0]], discount=0.9),
                "bump_reward must have trailing shape",
            ),
            (lambda: grid_moves(np.zeros(3, dtype=bool)), "blocked must have shape"),
            (
                lambda: TabularMDP.random(
                    3, 2, discount=0.9, seed=0, batch_shape=(2,)
                ).to_gymnasium(),
                "needs one decision process",
            ),
            (
                lambda: TabularMDP.random(3, 2, discount=0.9, seed=0, batch_shape=(2,)).to_sparse(),
                "the sparse form needs one decision process, got batch shape",
            ),
            (
                lambda: TabularMDP.random(3, 2, discount=0.9, seed=0).sample_next(3, 0, seed=0),
                "state must be >= 0 and < 3",
            ),
            (
                lambda: TabularMDP.random(3, 2, discount=0.9, seed=0).transition_reward_at(0, 2, 0),
                "action must be >= 0 and < 2",
            ),
        ],
    )
    def test_calls(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()


def test_rewards_up_to_what_their_sum_allows():
    mdp = TabularMDP(csr(), 1e305 * REWARD, discount=0.9)
    value = policy_iteration(mdp).value
    assert np.isfinite(value).all() and abs(value).max() > 1e305
    with pytest.raises(ValueError, match="sum to more than float64 holds over 10 steps"):
        mdp.with_reward(3e307 * REWARD)
