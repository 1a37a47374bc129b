import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.backend import use_backend
from prefsim.solvers import planning
from prefsim.testing.mdps import grid_worlds, mdps
from prefsim.worlds.grid import grid_moves
from prefsim.worlds.mdp import DENSE_LIMIT, TabularMDP
from prefsim.worlds.transitions import expected_next, make_absorbing

gymnasium = pytest.importorskip("gymnasium")

SWAP = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
REWARD = np.array([[1.0, 2.0], [3.0, 4.0]])
TAXI = next((name for name in ("Taxi-v4", "Taxi-v3") if name in gymnasium.registry), None)
CLIFF = next(name for name in ("CliffWalking-v1", "CliffWalking-v0") if name in gymnasium.registry)
TOY_TEXT = [
    ("FrozenLake-v1", {"is_slippery": True}),
    ("FrozenLake-v1", {"is_slippery": False, "map_name": "8x8"}),
    ("FrozenLake-v1", {"desc": ["SFG"], "is_slippery": True}),
    (CLIFF, {}),
    (TAXI, {}),
]


def follow_table(env, discount, sweeps=3000):
    """The Bellman recursion on gymnasium's own table, read without a line of the library.

    A terminated outcome has no future.
    """
    table = env.unwrapped.P
    value = np.zeros(len(table))
    outcomes = [[np.array(table[s][a], dtype=float) for a in table[s]] for s in table]
    for _ in range(sweeps):
        fresh = np.array([max(worth(o, discount, value) for o in row) for row in outcomes])
        if np.abs(fresh - value).max() < 1e-13:
            break
        value = fresh
    return fresh


def worth(outcomes, discount, value):
    p, after, reward, ended = outcomes.T
    return (p * (reward + discount * value[after.astype(int)] * (1 - ended))).sum()


def reachable(env):
    """States that an episode can visit and act in."""
    base = env.unwrapped
    seen = list(np.flatnonzero(base.initial_state_distrib))
    for s in seen:
        for listed in base.P[s].values():
            seen += [t for p, t, _, ended in listed if p > 0 and not ended and t not in seen]
    return np.unique(seen)


class TestGymnasium:
    @pytest.mark.parametrize(("name", "options"), TOY_TEXT)
    @pytest.mark.parametrize("discount", [0.9, 0.97])
    def test_values_are_those_of_the_environments_own_table(self, name, options, discount):
        env = gymnasium.make(name, **options)
        mdp = TabularMDP.from_gymnasium(name, discount=discount, **options)
        visited = reachable(env)
        value = planning.value_iteration(mdp).value
        assert value.shape == (env.observation_space.n,)
        np.testing.assert_allclose(value[visited], follow_table(env, discount)[visited], atol=1e-10)
        np.testing.assert_array_equal(value[mdp.terminal], 0.0)

    @pytest.mark.parametrize(
        ("name", "options"),
        [("FrozenLake-v1", {}), (CLIFF, {}), (CLIFF, {"is_slippery": True}), (TAXI, {})],
    )
    def test_sampled_steps_follow_the_tables(self, name, options):
        env = gymnasium.make(name, **options).unwrapped
        mdp = TabularMDP.from_gymnasium(env, discount=0.9)
        rng = np.random.default_rng(0)
        state, _ = env.reset(seed=0)
        counted = {}
        for _ in range(3000):
            action = int(rng.integers(mdp.n_actions))
            after, reward, ended, _, _ = env.step(action)
            assert mdp.transitions[state, action, after] > 0
            assert mdp.terminal[after] == ended
            counted.setdefault((state, action), []).append(reward)
            state = env.reset()[0] if ended else after
        for (s, a), rewards in counted.items():
            if len(rewards) > 30:
                # Standard error of the mean, with a floor for rewards that never vary: 5 sigma over
                # fewer than 200 pairs.
                assert (
                    abs(np.mean(rewards) - mdp.reward[s, a])
                    <= 5 * np.std(rewards) / np.sqrt(len(rewards)) + 1e-9
                )

    def test_taxi_undiscounted(self):
        mdp = TabularMDP.from_gymnasium(TAXI, discount=1.0)
        assert (mdp.n_states, mdp.n_actions, int(mdp.terminal.sum())) == (500, 6, 4)
        expected = follow_table(gymnasium.make(TAXI), 1.0) @ mdp.start_probs
        assert planning.value_iteration(mdp).value @ mdp.start_probs == pytest.approx(
            expected, abs=1e-9
        )

    def test_cliff_shortest_safe_path(self):
        mdp = TabularMDP.from_gymnasium(CLIFF, discount=1.0)
        result = planning.value_iteration(mdp)
        assert result.value[36] == -13.0  # up, eleven to the right, down
        assert mdp.terminal.nonzero()[0].tolist() == [47]

    def test_a_state_that_both_ends_and_goes_on_gets_a_state_of_its_own(self):
        class Both(gymnasium.Env):
            observation_space, action_space = (
                gymnasium.spaces.Discrete(2),
                gymnasium.spaces.Discrete(2),
            )
            initial_state_distrib = np.array([1.0, 0.0])
            P = {  # noqa: RUF012
                0: {0: [(1.0, 1, 1.0, False)], 1: [(1.0, 1, 5.0, True)]},
                1: {0: [(1.0, 0, 2.0, False)], 1: [(0.5, 0, 3.0, True), (0.5, 0, -1.0, False)]},
            }

        mdp = TabularMDP.from_gymnasium(Both(), discount=0.5)
        assert mdp.n_states == 3 and mdp.terminal.tolist() == [False, False, True]
        np.testing.assert_allclose(mdp.transitions[1, 1], [0.5, 0.0, 0.5])
        np.testing.assert_allclose(
            planning.value_iteration(mdp).value[:2], follow_table(Both(), 0.5), atol=1e-12
        )

    def test_merged_outcomes_keep_the_mean_reward(self):
        env = gymnasium.make(CLIFF, is_slippery=True).unwrapped
        mdp = TabularMDP.from_gymnasium(env, discount=0.9)
        # From the start, right: a slip down stays (-1), the step itself falls (-100), both at the
        # start; a slip up leaves.
        assert mdp.transitions[36, 1, 36] == pytest.approx(2 / 3) and mdp.transition_reward[
            36, 1, 36
        ] == pytest.approx(-50.5)
        np.testing.assert_allclose(mdp.reward[36, 1], -34.0)

    def test_layouts_agree(self):
        dense, sparse = (
            TabularMDP.from_gymnasium(TAXI, discount=0.9, sparse=flag) for flag in (False, True)
        )
        assert not dense.is_sparse and sparse.is_sparse
        np.testing.assert_array_equal(dense.transitions, sparse.to_dense().transitions)
        np.testing.assert_array_equal(dense.transition_reward, sparse.to_dense().transition_reward)
        large = TabularMDP.from_gymnasium(
            "FrozenLake-v1", discount=0.9, desc=["S" + "F" * (DENSE_LIMIT - 1) + "G"]
        )
        assert large.is_sparse

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("CartPole-v1", {}, "lacks P and initial_state_distrib"),
            ("NoSuchLake-v0", {}, "cannot make 'NoSuchLake-v0'"),
            ("FrozenLake-v1", {"slipery": True}, "slipery"),
            ("FrozenLake-v1", {"map_name": "9x9"}, "9x9"),
            (TAXI, {"fickle_passenger": True}, "fickle_passenger"),
        ],
    )
    def test_bad_environments(self, name, options, message):
        with pytest.raises(ValueError, match=message):
            TabularMDP.from_gymnasium(name, discount=0.9, **options)

    def test_options_with_an_environment(self):
        with pytest.raises(ValueError, match="is_slippery"):
            TabularMDP.from_gymnasium(
                gymnasium.make("FrozenLake-v1"), discount=0.9, is_slippery=False
            )


class TestBlackjack:
    @pytest.mark.parametrize(
        "options", [{"sab": False}, {"sab": False, "natural": True}, {"sab": True}]
    )
    def test_a_policys_return_is_that_of_played_games(self, options):
        mdp = TabularMDP.from_gymnasium("Blackjack-v1", discount=1.0, **options)
        best = planning.value_iteration(mdp)
        env = gymnasium.make("Blackjack-v1", **options).unwrapped
        # Stick on 17, hit on soft 17, as an action for every observation; the state of a natural
        # takes the action of its observation.
        seen = np.indices((32, 11, 2)).reshape(3, -1)
        actions = np.zeros(mdp.n_states, dtype=int)
        actions[: seen.shape[1]] = (seen[0] < 17) | ((seen[0] == 17) & (seen[2] == 1))
        expected = planning.policy_evaluation(mdp, actions).value @ mdp.start_probs
        env.reset(seed=1)
        total, squares, games = 0.0, 0.0, 6000
        for _ in range(games):
            observation, ended = env.reset()[0], False
            while not ended:
                state = np.ravel_multi_index(observation, (32, 11, 2))
                observation, reward, ended, _, _ = env.step(int(actions[state]))
            total, squares = total + reward, squares + reward**2
        error = np.sqrt((squares / games - (total / games) ** 2) / games)
        assert abs(total / games - expected) <= 4 * error
        assert best.value @ mdp.start_probs >= expected

    def test_tables_of_single_hands_match_draws(self):
        env = gymnasium.make("Blackjack-v1", sab=True).unwrapped
        mdp = TabularMDP.from_gymnasium(env, discount=0.9)
        ends = np.flatnonzero(mdp.start_probs == 0)[-4:]
        env.reset(seed=2)
        for player, dealer, state in [
            ([10, 8], 6, np.ravel_multi_index((18, 6, 0), (32, 11, 2))),
            ([1, 10], 1, 704 + 0),
            ([1, 5, 5], 10, np.ravel_multi_index((21, 10, 1), (32, 11, 2))),
        ]:
            outcomes = []
            for _ in range(2000):
                env.player, env.dealer = (
                    list(player),
                    [
                        dealer,
                        int(env.np_random.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10])),
                    ],
                )
                outcomes.append(env.step(0)[1])
            for prize, end in zip((-1.0, 0.0, 1.0), ends, strict=False):
                p = mdp.transitions[state, 0, end]
                assert (
                    abs(np.mean(np.array(outcomes) == prize) - p)
                    <= 5 * np.sqrt(p * (1 - p) / 2000) + 1e-12
                )

    def test_naturals_pay_only_under_their_options(self):
        worth = {}
        for name, options in (
            ("plain", {"sab": False}),
            ("natural", {"sab": False, "natural": True}),
            ("sab", {"sab": True}),
        ):
            mdp = TabularMDP.from_gymnasium("Blackjack-v1", discount=1.0, **options)
            worth[name] = planning.value_iteration(mdp).value @ mdp.start_probs
            assert (mdp.start_probs[704:714].sum() > 0) == (name != "plain")
            assert mdp.start_probs.sum() == pytest.approx(1.0, abs=1e-12)
        # A natural has probability 2 · 1/13 · 4/13, and wins one half more under `natural` unless
        # the dealer reaches 21.
        assert 0 < worth["natural"] - worth["plain"] < 0.5 * 8 / 169
        assert 0 < worth["sab"] - worth["plain"] < 8 / 169


class TestToGymnasium:
    @pytest.mark.parametrize(
        "mdp",
        [
            TabularMDP.random(5, 3, discount=0.9, seed=0),
            TabularMDP.random(5, 3, discount=0.9, seed=1, n_terminal=2, transition_rewards=True),
            TabularMDP.random_sparse(12, 2, 3, discount=0.9, seed=2),
            TabularMDP.random(4, 2, discount=1.0, horizon=3, seed=3),
            TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.9),
        ],
        ids=["dense", "terminal", "sparse", "horizon", "lake"],
    )
    @pytest.mark.filterwarnings("ignore:.*alternative render modes")
    def test_check_env(self, mdp):
        from gymnasium.utils.env_checker import check_env

        check_env(mdp.to_gymnasium())

    @given(mdps(max_states=4))
    def test_round_trip(self, mdp):
        again = TabularMDP.from_gymnasium(mdp.to_gymnasium(), discount=mdp.discount)
        # The start covers every state that goes on, so all of them are read back.
        value = planning.policy_iteration(again).value
        np.testing.assert_allclose(
            value[: mdp.n_states], planning.policy_iteration(mdp).value, atol=1e-9
        )

    def test_horizon_ends_the_episode(self):
        env = TabularMDP.random(4, 2, discount=1.0, horizon=3, seed=0).to_gymnasium()
        env.reset(seed=0)
        assert [env.step(0)[2:4] for _ in range(3)] == [
            (False, False),
            (False, False),
            (True, False),
        ]

    def test_same_seed_same_episode(self):
        env = TabularMDP.random(6, 2, discount=0.9, seed=0).to_gymnasium()
        episodes = [[env.reset(seed=5)[0]] + [env.step(1)[:2] for _ in range(10)] for _ in range(2)]
        assert episodes[0] == episodes[1]


class TestTables:
    @given(mdps())
    def test_dense_and_sparse_hold_the_same(self, mdp):
        sparse = mdp.to_sparse()
        assert sparse.is_sparse and sparse.to_sparse() is sparse and mdp.to_dense() is mdp
        back = sparse.to_dense()
        np.testing.assert_array_equal(back.transitions, mdp.transitions)
        np.testing.assert_allclose(back.reward, mdp.reward, atol=1e-14)
        v = np.linspace(-1, 1, mdp.n_states)
        np.testing.assert_allclose(
            expected_next(sparse.transitions, v), expected_next(mdp.transitions, v), atol=1e-14
        )
        stacked = np.stack([v, 2 * v, v**2])
        np.testing.assert_allclose(
            expected_next(sparse.transitions, stacked),
            expected_next(mdp.transitions, stacked),
            atol=1e-14,
        )

    def test_rewards_of_transitions_are_expected(self):
        each = np.arange(8.0).reshape(2, 2, 2)
        half = np.full((2, 2, 2), 0.5)
        mdp = TabularMDP(half, each, discount=0.9)
        np.testing.assert_array_equal(mdp.reward, each.mean(-1))
        assert mdp.transition_reward_at([0, 1], [1, 0], [1, 1]).tolist() == [3.0, 5.0]
        assert mdp.to_sparse().transition_reward_at([0, 1], [1, 0], [1, 1]).tolist() == [3.0, 5.0]
        assert TabularMDP(half, REWARD, discount=0.9).transition_reward_at(
            [0, 1], 1, [1, 1]
        ).tolist() == [2.0, 4.0]

    def test_reward_forms_are_told_apart(self):
        assert TabularMDP(SWAP, np.zeros((5, 2, 2)), discount=0.9).batch_shape == (5,)
        assert TabularMDP(SWAP, np.ones((2, 2, 2)), discount=0.9).transition_reward is not None
        assert (
            TabularMDP(np.stack([SWAP, SWAP]), np.ones((2, 2, 2)), discount=0.9).transition_reward
            is None
        )
        assert (
            TabularMDP(np.stack([SWAP] * 3), np.ones((2, 2, 2)), discount=0.9).transition_reward
            is not None
        )

    def test_default_start_is_uniform_over_states_that_go_on(self):
        table, reward = make_absorbing(SWAP, REWARD, [False, True])
        assert TabularMDP(
            table, reward, discount=1.0, terminal=[False, True]
        ).start_probs.tolist() == [1.0, 0.0]
        assert TabularMDP(SWAP, REWARD, discount=0.5).start_probs.tolist() == [0.5, 0.5]

    def test_with_reward(self):
        mdp = TabularMDP.random(4, 2, discount=0.9, seed=0, n_terminal=1)
        changed = mdp.with_reward(2 * mdp.reward)
        np.testing.assert_allclose(
            planning.policy_iteration(changed).value,
            2 * planning.policy_iteration(mdp).value,
            rtol=1e-12,
        )
        assert changed.transitions is mdp.transitions
        with pytest.raises(ValueError, match="reward 0"):
            mdp.with_reward(np.ones((4, 2)))
        with pytest.raises(ValueError, match="trailing shape"):
            mdp.with_reward(np.ones((2, 4)))

    def test_the_callers_arrays_stay_as_they_are(self):
        table = sp.csr_array(SWAP.reshape(4, 2))
        unsorted = sp.csr_array(([0.5, 0.5] * 4, [1, 0] * 4, [0, 2, 4, 6, 8]), shape=(4, 2))
        before = unsorted.indices.copy()
        planning.modified_policy_iteration(TabularMDP(unsorted, REWARD, discount=0.9))
        planning.modified_policy_iteration(TabularMDP(table, REWARD, discount=0.9))
        np.testing.assert_array_equal(unsorted.indices, before)
        np.testing.assert_array_equal(table.toarray(), SWAP.reshape(4, 2))

    @given(st.integers(0, 50))
    def test_draws_follow_the_rows(self, seed):
        mdp = TabularMDP.random_sparse(9, 2, 3, discount=0.9, seed=seed)
        pairs = np.random.default_rng(seed).integers(0, [9, 2], size=(200, 2))
        dense = mdp.to_dense()
        after = mdp.sample_next(pairs[:, 0], pairs[:, 1], seed=seed)
        assert (dense.transitions[pairs[:, 0], pairs[:, 1], after] > 0).all()
        np.testing.assert_array_equal(after, dense.sample_next(pairs[:, 0], pairs[:, 1], seed=seed))

    def test_draws_have_the_right_frequencies(self):
        mdp = TabularMDP.random(4, 2, discount=0.9, seed=0)
        counts = np.bincount(mdp.sample_next(np.full(20_000, 2), 1, seed=1), minlength=4)
        p = mdp.transitions[2, 1]
        assert (np.abs(counts / 20_000 - p) <= 5 * np.sqrt(p * (1 - p) / 20_000)).all()


class TestGenerators:
    def test_seeds(self):
        for make in (
            lambda seed: TabularMDP.random(4, 3, discount=0.9, seed=seed),
            lambda seed: TabularMDP.random_sparse(40, 3, 5, discount=0.9, seed=seed).to_dense(),
        ):
            first, second, other = make(1), make(np.random.default_rng(1)), make(2)
            np.testing.assert_array_equal(first.transitions, second.transitions)
            assert not np.array_equal(first.transitions, other.transitions)

    def test_sparse_successors(self):
        mdp = TabularMDP.random_sparse(103, 3, 5, discount=0.9, seed=0)
        assert (np.diff(mdp.transitions.indptr) == 5).all()
        assert TabularMDP.random_sparse(4, 2, 4, discount=0.9, seed=0).transitions.nnz == 32

    def test_shapes_and_flags(self):
        mdp = TabularMDP.random(
            5,
            2,
            discount=0.9,
            seed=0,
            batch_shape=(3, 2),
            n_terminal=2,
            deterministic=True,
            transition_rewards=True,
        )
        assert (
            mdp.batch_shape == (3, 2)
            and mdp.transitions.shape == (3, 2, 5, 2, 5)
            and int(mdp.terminal.sum()) == 2
        )
        assert ((mdp.transitions == 0) | (mdp.transitions == 1)).all()

    def test_grid(self):
        mdp = TabularMDP.grid_world(
            [[-1.0, -2.0, 7.0], [-3.0, -4.0, -5.0]],
            terminal=[[False, False, True], [False] * 3],
            blocked=[[False] * 3, [False, True, False]],
            bump_reward=np.full((2, 3), -9.0),
            discount=0.9,
        )
        assert mdp.terminal.tolist() == [False, False, True, False, True, False]
        assert mdp.reward[0].tolist() == [-9.0, -3.0, -9.0, -2.0]
        assert mdp.reward[5].tolist() == [7.0, -9.0, -9.0, -9.0]
        assert mdp.transitions[1, 1].argmax() == 1 and mdp.start_probs[4] == 0

    @given(grid_worlds())
    def test_grids_are_deterministic_and_moves_are_inverse(self, mdp):
        assert (mdp.transitions.max(axis=-1) == 1).all()
        assert (mdp.transitions.sum(axis=-1) == 1).all()

    def test_grid_moves_come_back(self):
        moves = grid_moves(np.zeros((3, 4), dtype=bool))
        cells = np.arange(12)
        for there, back in ((0, 1), (2, 3)):
            moved = moves[cells, there] != cells
            np.testing.assert_array_equal(moves[moves[cells, there], back][moved], cells[moved])

    def test_large_grids_are_sparse(self):
        assert TabularMDP.grid_world(np.zeros((50, 50)), discount=0.9).is_sparse

    def test_shaping_keeps_advantages(self):
        for mdp in (
            TabularMDP.random(5, 3, discount=0.9, seed=0, n_terminal=1),
            TabularMDP.random(5, 3, discount=0.9, seed=0, n_terminal=1, transition_rewards=True),
            TabularMDP.random(
                5, 3, discount=0.9, seed=0, n_terminal=1, transition_rewards=True
            ).to_sparse(),
        ):
            phi = np.array([1.0, -2.0, 3.0, 0.5, 0.0])
            shaped = mdp.shaped(phi)
            np.testing.assert_allclose(
                planning.advantages(shaped), planning.advantages(mdp), atol=1e-11
            )
            np.testing.assert_allclose(
                planning.value_iteration(shaped).value,
                planning.value_iteration(mdp).value - phi,
                atol=1e-10,
            )
            if mdp.transition_reward is not None:
                dense, base = shaped.to_dense(), mdp.to_dense()
                supported = base.transitions > 0
                expected = base.transition_reward + 0.9 * phi[None, None, :] - phi[:, None, None]
                np.testing.assert_allclose(
                    dense.transition_reward[supported], expected[supported], atol=1e-12
                )
        with pytest.raises(ValueError, match="terminal"):
            mdp.shaped(np.ones(5))
        with pytest.raises(ValueError, match="infinite horizon"):
            TabularMDP.random(3, 2, discount=0.9, horizon=2, seed=0).shaped(np.ones(3))


class TestBackend:
    def test_torch_tables(self):
        with use_backend("torch"):
            mdp = TabularMDP.random(4, 2, discount=0.9, seed=0, n_terminal=1, batch_shape=(2,))
            assert all(
                isinstance(part, torch.Tensor)
                for part in (mdp.transitions, mdp.reward, mdp.start_probs, mdp.terminal)
            )
            assert mdp.batch_shape == (2,) and mdp.terminal.dtype == torch.bool
            assert (
                TabularMDP.random(4, 2, discount=0.9, seed=0).to_sparse().reward.dtype == np.float64
            )

    def test_import_is_light(self):
        code = (
            "import prefsim.worlds.mdp, sys; print([m for m in ('torch', 'gymnasium', 'hypothesis',"
            " 'cvxpy') if m in sys.modules])"
        )
        assert (
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.strip()
            == "[]"
        )


def csr(data=(1.0,) * 4, column=(1, 0, 0, 1), pointer=(0, 1, 2, 3, 4), shape=(4, 2)):
    return sp.csr_array((np.array(data), np.array(column), np.array(pointer)), shape=shape)


def five_entries(first_row, columns):
    """A table of two entries in the first row and one in each of the others."""
    return csr((*first_row, 1.0, 1.0, 1.0), (*columns, 0, 0, 1), (0, 2, 3, 4, 5))


def repeated_coordinates():
    return sp.coo_array(
        ([0.5, 0.5, 1.0, 1.0, 1.0], ([0, 0, 1, 2, 3], [1, 1, 0, 0, 1])), shape=(4, 2)
    )


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
                "no sparse form",
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
