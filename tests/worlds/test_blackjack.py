"""The tables of Blackjack-v1 against played games and single hands."""

import numpy as np
import pytest
from gymnasium_tables import gymnasium

from prefsim.solvers import planning
from prefsim.worlds.mdp import TabularMDP


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
