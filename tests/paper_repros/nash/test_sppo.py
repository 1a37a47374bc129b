"""Golden values of arXiv:2405.00675 and its reproduction.

The losses' own values are in tests/losses/test_self_play.py.
"""

import numpy as np
import pytest

from paper_repros import sppo as paper
from prefsim import losses
from prefsim.papers import Run
from prefsim.solvers import solve_nash
from prefsim.solvers.games.certificates import mirror_step, payoff

STEP = paper.Step(paper.GOLDEN, paper.LAST, 2.0)
REFERENCE = np.array([0.5, 0.3, 0.2])


def test_one_step():
    np.testing.assert_allclose(payoff(paper.GOLDEN, paper.LAST), [0.58, 0.46, 0.42], rtol=1e-14)
    assert paper.log_normaliser(STEP) == pytest.approx(1.0090386726, abs=1e-10)
    np.testing.assert_allclose(
        np.exp(STEP.policy()), [0.4651806731, 0.3659240779, 0.1688952489], atol=1e-10
    )


@pytest.mark.parametrize(("exact", "expected"), [(False, 0.3918526075), (True, 0.3900016845)])
def test_the_two_regressions(exact, expected):
    import torch

    here = torch.log(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64))
    assert float(paper.regression(STEP._replace(exact=exact), here)) == pytest.approx(
        expected, abs=1e-10
    )


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        (10, [0.5962437040, 0.1951253256, 0.2086309704]),
        (100, [0.6420857355, 0.1102986294, 0.2476156351]),
    ],
)
def test_iterates(iterations, expected):
    found = solve_nash(
        paper.GOLDEN,
        method="sppo",
        initial=REFERENCE,
        step=0.5,
        max_iterations=iterations,
        tolerance=0.0,
    ).policy
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_the_third_power():
    """Against the same minimisation in arithmetic of 40 digits.

    The page has 4.3e-6, 5.5e-7 and 7.0e-8 without saying from where.
    """
    found = paper.shortfalls(paper.Cubic(paper.GOLDEN, paper.LAST, (0.4, 0.2, 0.1)))
    np.testing.assert_allclose(found, [4.655e-6, 5.7795e-7, 7.197e-8], rtol=1e-4)


def logps(ratios, wins):
    columns = [np.asarray([x]) for x in (*ratios, 0.0, 0.0)]
    return losses.PairLogps(
        *columns, chosen_score=np.asarray([wins[0]]), rejected_score=np.asarray([wins[1]])
    )


def test_one_comparison_in_place_of_win_rates():
    """The authors' single variant.

    The pair's own preference p, and 1 − p for the rejected response.
    """
    p, beta, u = 0.8, 0.5, (0.3, -0.2)
    expected = 0.5 * ((u[0] - (p - 0.5) / beta) ** 2 + (u[1] + (p - 0.5) / beta) ** 2)
    assert losses.sppo(logps(u, (p, 1 - p)), beta=beta)[0] == pytest.approx(expected, rel=1e-14)
    assert losses.sppo_hard(logps(u, (1.0, 0.0)), beta=beta)[0] == pytest.approx(
        2 * losses.sppo(logps(u, (1.0, 0.0)), beta=beta)[0]
    )


def test_the_authors_step_size_keeps_single_precision_targets():
    """β = 1e-3: targets of ±500 nats."""
    pair = logps((500.0, -500.0), (1.0, 0.0))
    assert losses.sppo(pair, beta=1e-3)[0] == pytest.approx(0.0, abs=1e-18)
    single = losses.PairLogps(*(None if x is None else x.astype(np.float32) for x in pair))
    assert losses.sppo(single, beta=1e-3)[0] <= (500 * np.finfo(np.float32).eps) ** 2
    assert losses.sppo(single, beta=1e-3).dtype == np.float32


def test_the_reference_is_the_last_iterate():
    """Regression on the first reference forgets what the earlier steps added."""
    one = mirror_step(np.log(REFERENCE), None, payoff(paper.GOLDEN, REFERENCE), step=0.5)
    wins = payoff(paper.GOLDEN, np.exp(one))
    two = solve_nash(
        paper.GOLDEN, method="sppo", initial=REFERENCE, step=0.5, max_iterations=2, tolerance=0.0
    ).policy
    np.testing.assert_allclose(np.exp(mirror_step(one, None, wins, step=0.5)), two, rtol=1e-13)
    assert np.abs(np.exp(mirror_step(np.log(REFERENCE), None, wins, step=0.5)) - two).max() > 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.sppo(logps((0.0, 0.0), (1.2, 0.4)), beta=0.5),
            r"chosen_score must be a probability in \[0, 1\]",
        ),
        (
            lambda: losses.sppo(logps((0.0, 0.0), (0.7, -0.1)), beta=0.5),
            r"rejected_score must be a probability in \[0, 1\]",
        ),
        (lambda: losses.sppo(logps((0.0, 0.0), (0.7, 0.4)), beta=0.0), "beta must be"),
        (
            lambda: losses.sppo(logps((0.0, 0.0), (0.7, 0.4))._replace(chosen_score=None)),
            "chosen_score",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_reproduction():
    result = paper.reproduce(Run(quick=True, seed=1))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.table) == 3 + 4 * 3
