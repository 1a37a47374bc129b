"""Values of arXiv:2401.04056: Hedge in the scale of [−1, 1], minimax winners, elections."""

import numpy as np
import pytest

from paper_repros.nash.spo_minimax import cart_pole
from paper_repros.nash.spo_minimax.claims import CYCLE
from paper_repros.nash.spo_minimax.hedge import hedge_bound, margin_games
from paper_repros.nash.spo_minimax.reproduction import contest
from paper_repros.nash.spo_minimax.trajectories import (
    ANSWERS,
    CYCLIC,
    FLIPPED,
    GROUPS,
    RETURN,
    SIDES,
    Behaviour,
    family,
)
from prefsim.analysis.voting import borda_scores
from prefsim.solvers import nash_path, solve_nash
from prefsim.solvers.games.certificates import exploitability, mirror_step, payoff
from prefsim.worlds import TEXTBOOK_REFERENCE, PreferenceGame, textbook_game


def test_average_of_hedge():
    """A step of .1 on preferences in [−1, 1] is a step of .2 on probabilities."""
    game = textbook_game()
    path = nash_path(game, method="spo", step=0.2, initial=TEXTBOOK_REFERENCE, iterations=100)
    average = path.average_policy[-1]
    np.testing.assert_allclose(average, (0.5392500982, 0.1591769599, 0.3015729418), atol=1e-10)
    assert path.average_exploitability[-1] == pytest.approx(0.0441792357, abs=1e-10)
    log_policy, total = np.log(TEXTBOOK_REFERENCE), np.zeros(3)
    for _ in range(100):
        total += np.exp(log_policy)
        wins = payoff(2 * game.preference - 1, np.exp(log_policy))
        log_policy = mirror_step(log_policy, None, wins, step=0.1)
    np.testing.assert_allclose(total / 100, average, atol=1e-13)


def test_minimax_winners():
    cycle = [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    np.testing.assert_allclose(solve_nash(cycle, method="lp").policy, np.full(3, 1 / 3), atol=1e-12)
    rewarded = PreferenceGame.from_reward([0.0, 1.0, 2.0])
    np.testing.assert_allclose(solve_nash(rewarded, method="lp").policy, (0, 0, 1), atol=1e-12)


def test_row_mean_rewards_sum_to_zero():
    """Self excluded, the win rates of a group less one half add up to nothing: a baseline."""
    games = np.asarray(PreferenceGame.random(6, seed=0, batch_shape=(50,)).preference)
    np.testing.assert_allclose((borda_scores(games) - 0.5).sum(axis=-1), 0.0, atol=1e-14)


def test_intransitive_majorities():
    games = family(CYCLIC, range(20))
    winners = exploitability(games, np.eye(8)[borda_scores(games).argmax(axis=-1)])
    assert set(winners.round(12)) == {0.0, round(1 / 6, 12)}
    path = nash_path(games, method="spo", iterations=4096, record=4096)
    assert path.average_exploitability[-1].max() <= 0.00805
    assert hedge_bound(4096, 8) == pytest.approx(0.0159, abs=5e-5)


def test_the_last_iterate_has_no_guarantee():
    """What converges is the mixture of all iterates, not the last one."""
    path = nash_path(
        CYCLE, method="spo", initial=[0.6, 0.3, 0.1], step=0.3, iterations=3000, record=10
    )
    assert path.average_exploitability[-1] < 0.02
    assert path.exploitability[-20:].max() > path.exploitability[0] > 0.02


def test_margin_games_have_the_margin():
    games = margin_games(3, 5, 0.2, 10)
    np.testing.assert_allclose(np.min(games[:, 0, 1:], axis=-1), 0.7, atol=1e-12)
    np.testing.assert_allclose(games + np.swapaxes(games, -1, -2), 1.0, atol=1e-12)


def test_elections(real_data):
    files = sorted((real_data / "preflib").glob("*.soi"))
    if not files:
        pytest.skip(f"no ballots in {real_data / 'preflib'}")
    rows = [contest(path, 1000).row() for path in files]
    winners = {row["ballots"]: row["Condorcet winner"] for row in rows}
    assert winners["Debian 2002 Leader"] == "Bdale Garbee"
    assert winners["Debian 2012 Leader"] == "Stefano Zacchiroli"
    for row in rows:
        assert row["Copeland"] == row["Condorcet winner"]
        assert row["exploitability, SPO"] <= row["bound, SPO"]


def behaviour(rng, shape):
    share, position, speed, reach = rng.random((4, *shape))
    return Behaviour(share, 2 * position - 1, speed, reach)


@pytest.mark.parametrize("name", [RETURN, FLIPPED, GROUPS, SIDES])
def test_answers_about_a_cart_follow_the_preferences(name):
    """One answer for each pair; in the mean of many the preference, with its flips."""
    raters, seen = ANSWERS[name], behaviour(np.random.default_rng(0), (5,))
    many = Behaviour(*(np.broadcast_to(part, (20_000, 5)) for part in seen))
    answers = raters.answers(many, np.random.default_rng(1))
    np.testing.assert_array_equal(answers + np.swapaxes(answers, -1, -2), 1.0)
    truth = raters.preference(seen, seen)
    expected = truth if name != FLIPPED else 0.3 + 0.4 * truth
    # Hoeffding and a union over ten pairs: chance below 1e-7.
    assert np.abs(answers.mean(axis=0) - expected).max() < 0.025


@pytest.mark.parametrize("name", [RETURN, FLIPPED, GROUPS, SIDES])
def test_only_three_groups_of_raters_are_intransitive(name):
    seen = behaviour(np.random.default_rng(3), (100,))
    wins = (ANSWERS[name].preference(seen, seen) > 0.5).astype(int)
    cycles = np.trace(wins @ wins @ wins)
    assert (cycles > 0) == (name == GROUPS)


def test_learning_to_stand_from_comparisons(monkeypatch):
    """Both ways of learning keep the pole up longer; equally many comparisons are asked."""
    monkeypatch.setattr(cart_pole, "STEPS", 60)
    monkeypatch.setattr(cart_pole, "RATE", 0.02)
    monkeypatch.setattr(cart_pole, "LAST", 2)
    learnt = cart_pole.learn(ANSWERS[RETURN], 1, 6, np.random.default_rng(0))
    assert learnt.comparisons.tolist() == [180 * i for i in range(6)]
    shares = learnt.seen.upright.mean(axis=-1)[:, :, 0]
    assert shares.shape == (6, 2)
    assert (shares[-2:].mean(axis=0) > 1.5 * shares[0]).all()
    assert learnt.asked_until(2.0).tolist() == [[1080], [1080]]
    assert np.abs(learnt.win_rates() - 0.5).max() < 0.5


def test_a_trajectory_that_has_ended_counts_no_further():
    """Raters see a cart until it falls, and the policy is not asked what it did afterwards."""
    import torch

    shape = (1, 3, cart_pole.DRAWN)
    rng = np.random.default_rng(0)
    states = torch.from_numpy(rng.standard_normal((*shape, 4)).astype(np.float32))
    actions = torch.from_numpy(rng.integers(0, 2, shape))
    alive = torch.ones(shape, dtype=torch.bool)
    alive[:, 1:, 0] = False
    other = states.clone()
    other[:, 1:, 0] += 5.0
    first, second = (cart_pole.Played(each, actions, alive) for each in (states, other))
    for one, two in zip(first.seen(), second.seen(), strict=True):
        np.testing.assert_array_equal(one, two)
    networks = cart_pole.Networks([0], 4, 2, 0.01)
    with torch.no_grad():
        logps = [each.log_probs(networks) for each in (first, second)]
        rewards = [each.rewards(networks) for each in (first, second)]
    torch.testing.assert_close(*logps, rtol=0, atol=0)
    torch.testing.assert_close(*rewards, rtol=0, atol=0)
