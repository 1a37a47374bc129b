"""Processes from gymnasium's tables and back again."""

import numpy as np
import pytest
from gymnasium_tables import gymnasium, worth
from hypothesis import given

from prefsim.solvers import planning
from prefsim.testing.mdps import mdps
from prefsim.worlds.mdp import DENSE_LIMIT, TabularMDP
from prefsim.worlds.toy_text import state_after_end

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


class TestGymnasium:
    @pytest.mark.parametrize(("name", "options"), TOY_TEXT)
    @pytest.mark.parametrize("discount", [0.9, 0.97])
    def test_values_are_those_of_the_environments_own_table(self, name, options, discount):
        env = gymnasium.make(name, **options)
        mdp = TabularMDP.from_gymnasium(name, discount=discount, **options)
        states = env.observation_space.n
        value = planning.value_iteration(mdp).value
        # All that one can act in, also what no episode meets.
        acting = np.flatnonzero(~mdp.terminal[:states])
        np.testing.assert_allclose(value[acting], follow_table(env, discount)[acting], atol=1e-10)
        np.testing.assert_array_equal(value[mdp.terminal], 0.0)
        # Where no outcome goes on, nobody acts.
        table = env.unwrapped.P
        entered = {
            t for s in table for row in table[s].values() for p, t, _, e in row if p and not e
        }
        assert not entered & set(np.flatnonzero(mdp.terminal[:states]).tolist())

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
            number = state_after_end(env)[after] if ended else after
            assert mdp.transitions[state, action, number] > 0
            assert mdp.terminal[number] == ended
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
        assert (mdp.n_states, mdp.n_actions, int(mdp.terminal.sum())) == (501, 6, 1)
        expected = follow_table(gymnasium.make(TAXI), 1.0) @ mdp.start_probs[:500]
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


@pytest.mark.parametrize("desc", [["FFFF", "FHFG"], ["FG"]])
def test_a_map_without_a_start(desc, recwarn):
    with pytest.raises(ValueError, match=r"FrozenLake-v1 has no state to start in: .* needs an S"):
        TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.9, desc=desc)
    assert not recwarn.list


def test_an_environment_without_a_start():
    import gymnasium

    lake = gymnasium.make("FrozenLake-v1")
    lake.unwrapped.initial_state_distrib[:] = 0
    with pytest.raises(ValueError, match="FrozenLakeEnv has no state to start in"):
        TabularMDP.from_gymnasium(lake, discount=0.9)
