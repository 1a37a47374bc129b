"""Golden values of arXiv:2401.04056.

Hedge in the scale of [−1, 1], minimax winners, and the reproduction with and without ballots.
"""

import numpy as np
import pytest

from paper_repros import _spo_minimax_experiments as experiments
from paper_repros.spo_minimax import CYCLE, reproduce
from prefsim.analysis.voting import borda_scores
from prefsim.papers import Run
from prefsim.solvers import solve_nash
from prefsim.solvers.games.certificates import exploitability, mirror_step, payoff
from prefsim.worlds import PreferenceGame

GAME = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
REFERENCE = np.array([0.5, 0.3, 0.2])


def test_golden_average_of_hedge():
    """A step of .1 on preferences in [−1, 1] is a step of .2 on probabilities."""
    run = solve_nash(
        GAME, method="spo", step=0.2, initial=REFERENCE, max_iterations=100, tolerance=0.0
    )
    np.testing.assert_allclose(
        run.average_policy, (0.5392500982, 0.1591769599, 0.3015729418), atol=1e-10
    )
    assert float(run.average_exploitability) == pytest.approx(0.0441792357, abs=1e-10)
    log_policy, total = np.log(REFERENCE), np.zeros(3)
    for _ in range(100):
        total += np.exp(log_policy)
        log_policy = mirror_step(
            log_policy, None, payoff(2 * GAME - 1, np.exp(log_policy)), step=0.1
        )
    np.testing.assert_allclose(total / 100, run.average_policy, atol=1e-13)


def test_golden_minimax_winners():
    cycle = [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    np.testing.assert_allclose(solve_nash(cycle, method="lp").policy, np.full(3, 1 / 3), atol=1e-12)
    np.testing.assert_allclose(
        solve_nash(PreferenceGame.from_reward([0.0, 1.0, 2.0]), method="lp").policy,
        (0, 0, 1),
        atol=1e-12,
    )


def test_row_mean_rewards_sum_to_zero():
    """Self excluded, the win rates of a group less one half add up to nothing.

    The baseline is built in.
    """
    games = np.asarray(PreferenceGame.random(6, seed=0, batch_shape=(50,)).preference)
    np.testing.assert_allclose((borda_scores(games) - 0.5).sum(axis=-1), 0.0, atol=1e-14)


def test_intransitive_majorities():
    games = experiments.family(experiments.CYCLIC, range(20))
    winners = exploitability(games, np.eye(8)[borda_scores(games).argmax(axis=-1)])
    assert set(winners.round(12)) == {0.0, round(1 / 6, 12)}
    run = solve_nash(games, method="spo", max_iterations=4096, tolerance=0.0)
    assert run.average_exploitability.max() <= 0.00805
    assert experiments.hedge_bound(4096) == pytest.approx(0.0159, abs=5e-5)


def test_the_last_iterate_has_no_guarantee():
    """What converges is the mixture of all iterates, not the last one."""
    run = solve_nash(
        CYCLE,
        method="spo",
        initial=[0.6, 0.3, 0.1],
        step=0.3,
        max_iterations=3000,
        tolerance=0.0,
        record=10,
    )
    assert run.average_exploitability < 0.02
    assert run.history.exploitability[-20:].max() > run.history.exploitability[0] > 0.02


def test_margin_games_have_the_margin():
    games = experiments.margin_games(3, 5, 0.2, 10)
    np.testing.assert_allclose(np.min(games[:, 0, 1:], axis=-1), 0.7, atol=1e-12)
    np.testing.assert_allclose(games + np.swapaxes(games, -1, -2), 1.0, atol=1e-12)


@pytest.mark.slow
def test_reproduction_without_data():
    result = reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert [row["ballots"] for row in result.table if "ballots" in row] == [
        "Synthetic Condorcet cycle"
    ]


def test_elections(real_data):
    files = sorted((real_data / "preflib").glob("*.soi"))
    if not files:
        pytest.skip(f"no ballots in {real_data / 'preflib'}")
    rows = [experiments.election(path, 1000) for path in files]
    winners = {row["ballots"]: row["Condorcet"] for row in rows}
    assert winners["Debian 2002 Leader"] == "Bdale Garbee"
    assert winners["Debian 2012 Leader"] == "Stefano Zacchiroli"
    for row in rows:
        assert row["agree"] == 1 and row["Copeland"] == row["Condorcet"]
        assert row["exploitability, SPO"] <= row["bound, SPO"]
