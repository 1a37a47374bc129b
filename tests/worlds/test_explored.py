"""Environments that are stepped through: their tables against play, and against known fronts."""

import sys

import numpy as np
import pytest

from prefsim.analysis import hypervolume
from prefsim.solvers import convex_front, non_dominated
from prefsim.solvers.planning import constrained_program, value_iteration
from prefsim.worlds import TabularMDP
from prefsim.worlds.explored import explore

gymnasium = pytest.importorskip("gymnasium")


class Coin(gymnasium.Env):
    """Two states; a biased coin of one uniform draw decides, and the second may not be seen."""

    def __init__(self, *, draws=1, hidden=False, way="random"):
        self.action_space = gymnasium.spaces.Discrete(2, start=5)
        self.observation_space = gymnasium.spaces.Discrete(3)
        self.reward_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
        self.draws, self.hidden, self.way = draws, hidden, way

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = 0, 0
        return 0, {}

    def step(self, action):
        self.steps += 1
        for _ in range(self.draws):
            u = getattr(self.np_random, self.way)()
        if action == 5 and 0.25 <= u < 0.3:
            return 2, np.array([1.0, 0.0]), True, False, {}
        self.place = int(u >= 0.7)
        pay = self.steps if self.hidden else 0.5
        return self.place, np.array([0.0, pay]), False, False, {}


def test_one_draw_is_split_where_outcomes_change():
    mdp = TabularMDP.from_gymnasium(Coin(), discount=0.9)
    found = explore(Coin())
    order = [found.states.index(k) for k in range(3)]
    assert mdp.reward.shape == (2, 3, 2)
    assert mdp.terminal[order].tolist() == [False, False, True]
    for s in order[:2]:
        np.testing.assert_allclose(mdp.transitions[s, 0, order], [0.65, 0.3, 0.05], atol=1e-15)
        np.testing.assert_allclose(mdp.transitions[s, 1, order], [0.7, 0.3, 0.0], atol=1e-15)
        np.testing.assert_allclose(mdp.reward[:, s], [[0.05, 0.0], [0.475, 0.5]], atol=1e-15)


def test_the_environment_is_left_as_it_is():
    env = Coin()
    env.reset(seed=3)
    env.step(6)
    before = (env.place, env.steps, env.np_random.bit_generator.state)
    explore(env)
    assert (env.place, env.steps, env.np_random.bit_generator.state) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 2}, "may draw one number random"),
        ({"way": "normal"}, "a step that draws by 'normal' cannot be explored"),
        ({"hidden": True}, "observation of Coin does not tell its state: what is known as 0"),
    ],
)
def test_what_cannot_be_explored_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        TabularMDP.from_gymnasium(Coin(**options), discount=0.9)


def test_too_many_states():
    with pytest.raises(ValueError, match="more than most_states=2 states"):
        explore(Coin(), most_states=2)


def test_several_rewards_have_no_sparse_form():
    with pytest.raises(ValueError, match="sparse tables have one reward"):
        TabularMDP.from_gymnasium(Coin(), discount=0.9, sparse=True)


@pytest.mark.parametrize(
    ("name", "package"),
    [("deep-sea-treasure-v0", "mo_gymnasium"), ("MiniGrid-Empty-5x5-v0", "minigrid")],
)
def test_the_extra_is_named_where_it_is_missing(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{name} needs {package}, .*prefsim\[worlds\]"):
        TabularMDP.from_gymnasium(name, discount=0.9)


# --- mo-gymnasium ---


@pytest.fixture(scope="module")
def mo():
    return pytest.importorskip("mo_gymnasium")


def made(mo, name):
    return mo.make(name).unwrapped


SEAS = ["deep-sea-treasure-v0", "deep-sea-treasure-concave-v0", "deep-sea-treasure-mirrored-v0"]


@pytest.mark.filterwarnings("ignore:.*precision lowered")
class TestMultiObjective:
    @pytest.mark.parametrize("name", ["deep-sea-treasure-v0", "resource-gathering-v0"])
    def test_sampled_steps_follow_the_tables(self, mo, name):
        env = made(mo, name)
        mdp = TabularMDP.from_gymnasium(env, discount=0.9)
        found = explore(env).states
        rng = np.random.default_rng(0)
        paid = {}
        state, ended = None, True
        for _ in range(2000):
            if ended:
                state, _ = env.reset(seed=int(rng.integers(1000)))
            place, action = found.index(tuple(state.tolist())), int(rng.integers(4))
            state, reward, ended, _, _ = env.step(action)
            after = found.index(tuple(state.tolist()))
            # An end in a state that may also go on has a number of its own.
            after = after if mdp.terminal[after] == ended else mdp.n_states - 1
            assert mdp.transitions[place, action, after] > 0 and mdp.terminal[after] == ended
            paid.setdefault((place, action, after), []).append(reward)
        for (s, a, t), rewards in paid.items():
            expected = mdp.transition_reward[:, s, a, t]
            np.testing.assert_allclose(np.array(rewards), expected + 0 * np.array(rewards))

    @pytest.mark.parametrize("name", SEAS)
    def test_without_a_discount_the_front_is_the_hull_of_the_published_one(self, mo, name):
        mdp = TabularMDP.from_gymnasium(name, discount=1.0)
        known = np.array(made(mo, name).pareto_front(1.0))
        front = convex_front(mdp, tolerance=1e-6).returns
        # Every corner is published, and nothing that is published lies above the line of corners.
        gap = np.abs(front[:, None] - known[None]).max(axis=-1).min(axis=1)
        np.testing.assert_allclose(gap, 0.0, atol=2e-6)
        line = np.interp(known[:, 0], *front[::-1].T)
        assert (line >= known[:, 1] - 1e-5).all()
        convex = name == SEAS[0]
        assert len(front) == (9 if convex else 2)
        # One of the ten of the "convex" map lies on a face.
        np.testing.assert_allclose((line - known[:, 1])[known[:, 0] == 20.3], 0.0, atol=1e-5)

    def test_with_a_discount_some_of_what_is_published_is_dominated(self, mo):
        # Treasures that take long are worth less than nearer ones.
        env = made(mo, SEAS[0])
        known = np.array(env.pareto_front(0.95))
        assert non_dominated(known).sum() == 6 and len(known) == 10
        mdp = TabularMDP.from_gymnasium(env, discount=0.95)
        front = convex_front(mdp, tolerance=1e-6).returns
        order = np.argsort(-known[:6, 0])
        np.testing.assert_allclose(front, known[:6][order], atol=2e-6)

    def test_chance_reaches_what_no_certain_policy_does(self, mo):
        mdp = TabularMDP.from_gymnasium(SEAS[1], discount=1.0)
        found = constrained_program(mdp, [1.0, 0.0], [-np.inf, -10.0])
        # Between 1 in one step and 124 in nineteen.
        np.testing.assert_allclose(found.returns, [62.5, -10.0], atol=1e-6)
        assert ((found.policy > 1e-9).sum(-1) > 1)[0]

    @pytest.mark.parametrize("discount", [0.95, 0.97])
    def test_gathering_has_a_safe_tour_that_is_not_published(self, mo, discount):
        env = made(mo, "resource-gathering-v0")
        mdp = TabularMDP.from_gymnasium(env, discount=discount)
        front = convex_front(mdp).returns
        # Published returns are discounted once more than the rewards of gymnasium's steps.
        known = np.array(env.pareto_front(discount)) / discount
        safe = np.array([0.0, discount**17, discount**17])
        candidates = np.concatenate([known, safe[None]])
        gap = np.abs(front[:, None] - candidates[None]).max(axis=-1).min(axis=1)
        np.testing.assert_allclose(gap, 0.0, atol=1e-9)
        assert np.abs(front - safe).max(axis=1).min() < 1e-9
        corner = [-1.0, 0.0, 0.0]
        assert hypervolume(front, corner) > hypervolume(known, corner) + 1e-3

    def test_the_safe_tour_in_the_environment_itself(self, mo):
        env = made(mo, "resource-gathering-v0")
        up, down, left, right = range(4)
        tour = [left, up, up, up, up, right, left, down, down, right, right, right, up]
        tour += [down, down, down, left, left]
        for seed in range(20):
            env.reset(seed=seed)
            steps = [env.step(action) for action in tour]
            assert [ended for _, _, ended, _, _ in steps] == [False] * 17 + [True]
            np.testing.assert_array_equal(sum(step[1] for step in steps), [0.0, 1.0, 1.0])


# --- minigrid ---


def test_an_empty_room_of_minigrid():
    pytest.importorskip("minigrid")
    mdp = TabularMDP.from_gymnasium("MiniGrid-Empty-5x5-v0", discount=0.9)
    # Nine cells and four directions; of the goal's only the two that it is entered in.
    assert mdp.n_states == 34 and int(mdp.terminal.sum()) == 2
    # Two ahead, a turn, two ahead: success pays 1 in the fifth step.
    assert value_iteration(mdp).value @ mdp.start_probs == pytest.approx(0.9**4)
    assert set(np.unique(mdp.reward)) == {0.0, 1.0}
