"""Values that arXiv:2404.03715 fixes: a step, its objective, how play goes on, and regression."""

import functools

import numpy as np
import pytest

from paper_repros.nash.dno import teaching
from paper_repros.nash.dno.claims import minimisers
from paper_repros.nash.dno.instances import GAME, LAST, REFERENCE, TEXTBOOK, next_policy
from paper_repros.nash.dno.self_play import DPO, regression_errors, traces
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import nash_path, objective
from prefsim.solvers.games.certificates import expected_preference, payoff

NEXT = [0.4651806731, 0.3659240779, 0.1688952489]


def test_one_step():
    np.testing.assert_allclose(payoff(GAME, LAST), [0.58, 0.46, 0.42], rtol=1e-14)
    np.testing.assert_allclose(next_policy(TEXTBOOK), NEXT, atol=1e-10)
    dno, dpo = minimisers(TEXTBOOK)
    np.testing.assert_allclose(dno, NEXT, atol=1e-9)
    np.testing.assert_allclose(dpo, [0.6632038, 0.2477990, 0.0889972], atol=6e-8)


@pytest.mark.parametrize(
    ("here", "expected"), [([0.2, 0.5, 0.3], 0.7156440066), (next_policy(TEXTBOOK), 0.6920298559)]
)
def test_objective(here, expected):
    last = TabularPolicy.from_probs(LAST[None])
    found = objective(
        TabularPolicy.from_probs(np.asarray(here)[None]),
        functools.partial(losses.dno, step=2.0),
        Comparisons.self_play(TEXTBOOK.world(), last),
        reference=last,
    )
    assert float(found) == pytest.approx(expected, abs=1e-10)


def test_wins_over_the_last_policy_and_over_the_first():
    played = nash_path(GAME, method="dno", initial=REFERENCE, step=2.0, iterations=11).policy
    ahead = expected_preference(GAME, played[1:], played[:-1])
    np.testing.assert_allclose(ahead[:3], [0.505499, 0.505494, 0.505174], atol=6e-7)
    first = expected_preference(GAME, played[1:], played[0])
    np.testing.assert_allclose(first[:3], [0.505499, 0.510599, 0.514624], atol=6e-7)
    assert first.max() == pytest.approx(0.518, abs=5e-4)
    assert first[9] > 0.5 > first[10]  # t = 11


def test_iterative_dpo_cycles():
    """As in arithmetic of 120 digits; an inexact optimiser collapses to one response."""
    traced = traces(GAME, REFERENCE, eta=0.5, steps=300)[DPO]
    np.testing.assert_allclose(
        traced.exploited[[1, 5, 20]], [0.07543084366, 0.2517352806, 0.3781195048], atol=1e-9
    )
    np.testing.assert_allclose(
        traced.exploited[[100, 200, 300]], [0.3583756289, 0.2999771069, 0.1999989245], atol=1e-8
    )
    assert traced.policy[[100, 200, 300]].argmax(axis=1).tolist() == [2, 1, 0]


def test_the_limit_of_the_regression_is_four_times_the_dimension_where_responses_tie():
    found = regression_errors(np.full((3, 3), 0.5), LAST, eta=0.5, sizes=(1000,), runs=200, seed=0)
    assert found.limit == pytest.approx(4 * 2, rel=1e-12)
    assert found.scaled[0] == pytest.approx(8.0, rel=0.25)


@pytest.mark.parametrize(("wins", "label"), [((1, 0), 0.7310585786), ((0, 1), 0.2689414214)])
def test_labels_are_of_win_rates(wins, label):
    """They lie between σ(−1) and σ(1), whatever the preference."""
    best = np.log(label / (1 - label)) / 0.5
    margins = np.array([best - 0.1, best, best + 0.1])
    zero = np.zeros(3)
    win, other = (np.full(3, float(x)) for x in wins)
    pairs = losses.PairLogps(margins, zero, zero, zero, chosen_score=win, rejected_score=other)
    left, least, right = losses.dno(pairs, step=2.0)
    assert least < min(left, right)


def test_no_network_starts_twice(monkeypatch):
    starts = []

    def play_rounds(policy, *_, **__):
        starts.extend(policy.parameters.numpy())
        return []

    monkeypatch.setattr(teaching, "play_rounds", play_rounds)
    for seed in range(3):
        teaching.teach(3, seed=seed, step=0.5)
    assert len({start.tobytes() for start in starts}) == 9
