"""Golden values of arXiv:2404.03715 and its reproduction.

The losses' own values are in tests/losses/test_self_play.py.
"""

import functools

import numpy as np
import pytest

from paper_repros import _dno_experiments as experiments
from paper_repros import dno as paper
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import objective, solve_nash
from prefsim.solvers.games.certificates import expected_preference, payoff
from prefsim.worlds import ContextualBandit

STEP = paper.Step(paper.GOLDEN, paper.LAST, 0.5)
NEXT = [0.4651806731, 0.3659240779, 0.1688952489]


def test_one_step():
    np.testing.assert_allclose(payoff(paper.GOLDEN, paper.LAST), [0.58, 0.46, 0.42], rtol=1e-14)
    np.testing.assert_allclose(STEP.exact(), NEXT, atol=1e-10)
    dno, dpo = paper.minimisers(STEP)
    np.testing.assert_allclose(dno, NEXT, atol=1e-9)
    np.testing.assert_allclose(dpo, [0.6632038, 0.2477990, 0.0889972], atol=6e-8)


@pytest.mark.parametrize(
    ("here", "expected"), [([0.2, 0.5, 0.3], 0.7156440066), (STEP.exact(), 0.6920298559)]
)
def test_objective(here, expected):
    last = TabularPolicy.from_probs(paper.LAST[None])
    data = Comparisons.self_play(ContextualBandit(preference=paper.GOLDEN[None]), last)
    found = objective(
        TabularPolicy.from_probs(np.asarray(here)[None]),
        functools.partial(losses.dno, step=2.0),
        data,
        reference=last,
    )
    assert float(found) == pytest.approx(expected, abs=1e-10)


def test_wins_over_the_last_policy_and_over_the_first():
    run = solve_nash(
        paper.GOLDEN,
        method="dno",
        initial=paper.REFERENCE,
        step=2.0,
        max_iterations=11,
        tolerance=0.0,
        record=1,
    )
    played = run.history.policy
    ahead = expected_preference(paper.GOLDEN, played[1:], played[:-1])
    np.testing.assert_allclose(ahead[:3], [0.505499, 0.505494, 0.505174], atol=6e-7)
    first = expected_preference(paper.GOLDEN, played[1:], played[0])
    np.testing.assert_allclose(first[:3], [0.505499, 0.510599, 0.514624], atol=6e-7)
    assert first.max() == pytest.approx(0.518, abs=5e-4)
    assert first[9] > 0.5 > first[10]  # t = 11


def test_iterative_dpo_cycles():
    """The page says that it collapses to one response, at exploitability 0.400 for t = 100.

    120 digits say otherwise, as here.
    """
    traced = experiments.play(paper.GOLDEN, paper.REFERENCE, 300)[experiments.DPO]
    np.testing.assert_allclose(
        traced.exploited[[1, 5, 20]], [0.07543084366, 0.2517352806, 0.3781195048], atol=1e-9
    )
    np.testing.assert_allclose(
        traced.exploited[[100, 200, 300]], [0.3583756289, 0.2999771069, 0.1999989245], atol=1e-8
    )
    assert [int(np.argmax(traced.policy[t])) for t in (100, 200, 300)] == [2, 1, 0]


def test_the_limit_of_the_regression_is_four_times_the_dimension_where_responses_tie():
    found = experiments.regress(
        np.full((3, 3), 0.5), paper.LAST, eta=0.5, sizes=(1000,), runs=200, seed=0
    )
    assert found.limit == pytest.approx(4 * 2, rel=1e-12)
    assert found.scaled[0] == pytest.approx(8.0, rel=0.25)


def test_labels_are_of_win_rates():
    """They lie between σ(−1) and σ(1), whatever the preference."""
    zero, one = np.zeros(1), np.ones(1)
    for wins, label in (((one, zero), 0.7310585786), ((zero, one), 0.2689414214)):
        margin = np.log(label / (1 - label)) / 0.5
        best = [
            losses.dno(
                losses.PairLogps(np.full(1, m), zero, zero, zero, None, None, *wins), step=2.0
            )[0]
            for m in (margin - 0.1, margin, margin + 0.1)
        ]
        assert best[1] < min(best[0], best[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen_score": np.full(1, 1.1)}, r"chosen_score must be a probability in \[0, 1\]"),
        ({"rejected_score": None}, "rejected_score"),
    ],
)
def test_bad_input(change, message):
    half = np.full(1, 0.5)
    pair = losses.PairLogps(*[np.zeros(1)] * 4, chosen_score=half, rejected_score=half)
    with pytest.raises(ValueError, match=message):
        losses.dno(pair._replace(**change), step=2.0)
    with pytest.raises(ValueError, match="step must be"):
        losses.dno(pair, step=0.0)


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True, seed=1))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.table) == 2 * 3 * 5 + 4 + 3 * 4
