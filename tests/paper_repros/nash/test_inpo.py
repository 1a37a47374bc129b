"""Values that arXiv:2407.00617 fixes: its loss, its steps, and what they become at the ends."""

import functools

import numpy as np
import pytest

from paper_repros.nash.inpo.convergence import (
    decreasing_steps,
    distances_from_equilibrium,
    gaps,
    path,
)
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.losses import PairLogps
from prefsim.losses.pairwise import reward_margin
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective
from prefsim.solvers.games.certificates import best_response
from prefsim.worlds import TEXTBOOK_REFERENCE, textbook_game

GAME = to_numpy(textbook_game().preference)
REFERENCE = np.asarray(TEXTBOOK_REFERENCE)
LAST = np.array([0.4, 0.4, 0.2])
HERE = np.array([0.2, 0.5, 0.3])


def policy(probs):
    return TabularPolicy.from_probs(np.asarray(probs)[None])


def after(iterations, step):
    """Return the last policy and its distance from the equilibrium."""
    found = path(GAME, REFERENCE, tau=0.1, step=step, iterations=iterations).policy[-1]
    return found, float(distances_from_equilibrium(GAME, REFERENCE, 0.1, found))


def test_ten_steps():
    found, distance = after(10, 0.5)
    np.testing.assert_allclose(found, [0.5792716323, 0.2139275578, 0.2068008099], atol=1e-10)
    assert distance == pytest.approx(0.0141535717, abs=1e-10)


@pytest.mark.parametrize(("iterations", "expected"), [(10, 4.8110e-3), (100, 1.3291e-6)])
def test_decreasing_steps(iterations, expected):
    assert after(iterations, decreasing_steps(0.1))[1] == pytest.approx(expected, rel=1e-4)


def test_gaps_are_found_by_their_iteration():
    found = gaps(GAME, REFERENCE, tau=0.1, penalised=True, step=0.5, iterations=25)
    assert found.iteration.tolist() == [0, 10, 20, 25]
    assert found.at(20) == found.gap[2]
    with pytest.raises(ValueError, match="15 is not in list"):
        found.at(15)


def pair():
    """The first two responses, the first preferred."""
    logs = [np.log(p[i : i + 1]) for p in (HERE, REFERENCE, LAST) for i in (0, 1)]
    return PairLogps(*logs[:4], old_chosen=logs[4], old_rejected=logs[5])


def test_a_pair():
    # (h − 1/(2η))² of h = −1.0865659398 is 7.58028978…53.
    margin = -1.0865659398
    found = losses.inpo(pair(), step=1 / 0.3, tau=0.1)[0]
    assert found == pytest.approx((margin - 1 / 0.6) ** 2, abs=1e-9)
    assert found == pytest.approx(7.5802897853, abs=1e-9)


def test_population():
    data = Comparisons.self_play(textbook_game().to_bandit(), policy(LAST))
    loss = functools.partial(losses.inpo, step=1 / 0.3, tau=0.1)
    assert float(objective(policy(HERE), loss, data, reference=policy(REFERENCE))) == pytest.approx(
        3.8589586371, abs=1e-10
    )
    found = fit(policy(HERE), loss, data, reference=policy(REFERENCE)).policy.probs[0]
    np.testing.assert_allclose(found, [0.5441682671, 0.3076563168, 0.1481754161], atol=1e-10)


def test_special_cases():
    logps, step = pair(), 1 / 0.3
    by_last = logps._replace(ref_chosen=logps.old_chosen, ref_rejected=logps.old_rejected)
    first = logps._replace(old_chosen=logps.ref_chosen, old_rejected=logps.ref_rejected)
    for found, expected in (
        (losses.inpo(logps, step=step, tau=0.0), (reward_margin(by_last) - 1 / 0.6) ** 2),
        (losses.inpo(logps, step=step, tau=0.3), losses.ipo(logps, tau=0.3)),
        (losses.inpo(first, step=step, tau=0.1), (reward_margin(logps) - 1 / 0.6) ** 2),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_the_largest_step_gives_the_best_response():
    data = Comparisons.self_play(textbook_game().to_bandit(), policy(LAST))
    loss = functools.partial(losses.inpo, step=10.0, tau=0.1)
    found = fit(policy(LAST), loss, data, reference=policy(REFERENCE)).policy.probs[0]
    expected = best_response(GAME, LAST, reference=REFERENCE, tau=0.1)
    np.testing.assert_allclose(found, expected, atol=1e-11)
