"""Golden values of the paper's page, its special cases, and its reproduction."""

import functools
import warnings

import numpy as np
import pytest

from paper_repros._inpo_checks import scheduled
from paper_repros._inpo_experiments import GOLDEN, REFERENCE
from paper_repros.inpo import reproduce
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.losses import PairLogps
from prefsim.losses.pairwise import reward_margin
from prefsim.numerics import categorical_kl
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective, solve_nash
from prefsim.solvers.games.certificates import best_response
from prefsim.solvers.games.nash import StepSizeWarning
from prefsim.worlds import ContextualBandit

LAST = np.array([0.4, 0.4, 0.2])
HERE = np.array([0.2, 0.5, 0.3])


def policy(probs):
    return TabularPolicy.from_probs(np.asarray(probs)[None])


def distance(step, iterations):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        run = solve_nash(
            GOLDEN,
            method="inpo",
            reference=REFERENCE,
            tau=0.1,
            step=step,
            max_iterations=iterations,
            tolerance=0.0,
        )
    target = solve_nash(GOLDEN, method="regularised", reference=REFERENCE, tau=0.1).policy
    return run.policy, categorical_kl(np.log(target), np.log(run.policy))


def test_ten_steps():
    found, far = distance(0.5, 10)
    np.testing.assert_allclose(found, [0.5792716323, 0.2139275578, 0.2068008099], atol=1e-10)
    assert far == pytest.approx(0.0141535717, abs=1e-10)


@pytest.mark.parametrize(("iterations", "expected"), [(10, 4.8110e-3), (100, 1.3291e-6)])
def test_decreasing_steps(iterations, expected):
    assert distance(scheduled(0.1), iterations)[1] == pytest.approx(expected, rel=1e-4)


def pair():
    """The first two responses, the first preferred."""
    logs = [np.log(p[i : i + 1]) for p in (HERE, REFERENCE, LAST) for i in (0, 1)]
    return PairLogps(*logs[:4], old_chosen=logs[4], old_rejected=logs[5])


def test_a_pair():
    # (h − 1/(2η))² of h = −1.0865659398 is 7.58028978…53; the page ends in …03.
    margin = -1.0865659398
    assert losses.inpo(pair(), step=1 / 0.3, tau=0.1)[0] == pytest.approx(
        (margin - 1 / 0.6) ** 2, abs=1e-9
    )
    assert losses.inpo(pair(), step=1 / 0.3, tau=0.1)[0] == pytest.approx(7.5802897853, abs=1e-9)


def test_population():
    world = ContextualBandit(preference=GOLDEN[None])
    data = Comparisons.self_play(world, policy(LAST))
    loss = functools.partial(losses.inpo, step=1 / 0.3, tau=0.1)
    assert float(objective(policy(HERE), loss, data, reference=policy(REFERENCE))) == pytest.approx(
        3.8589586371, abs=1e-10
    )
    found = fit(policy(HERE), loss, data, reference=policy(REFERENCE)).policy.probs[0]
    np.testing.assert_allclose(found, [0.5441682671, 0.3076563168, 0.1481754161], atol=1e-10)


def test_special_cases():
    logps = pair()
    by_last = logps._replace(ref_chosen=logps.old_chosen, ref_rejected=logps.old_rejected)
    np.testing.assert_allclose(
        losses.inpo(logps, step=1 / 0.3, tau=0.0), (reward_margin(by_last) - 1 / 0.6) ** 2, rtol=1e-14
    )
    np.testing.assert_allclose(
        losses.inpo(logps, step=1 / 0.3, tau=0.3), losses.ipo(logps, tau=0.3), rtol=1e-14
    )
    first = logps._replace(old_chosen=logps.ref_chosen, old_rejected=logps.ref_rejected)
    np.testing.assert_allclose(
        losses.inpo(first, step=1 / 0.3, tau=0.1), (reward_margin(logps) - 1 / 0.6) ** 2, rtol=1e-14
    )


def test_the_largest_step_gives_the_best_response():
    data = Comparisons.self_play(ContextualBandit(preference=GOLDEN[None]), policy(LAST))
    found = fit(
        policy(LAST),
        functools.partial(losses.inpo, step=10.0, tau=0.1),
        data,
        reference=policy(REFERENCE),
    ).policy.probs[0]
    np.testing.assert_allclose(
        found, best_response(GOLDEN, LAST, reference=REFERENCE, tau=0.1), atol=1e-11
    )


def test_a_step_above_the_largest():
    with pytest.raises(ValueError, match=r"step \* tau must be <= 1, got step=10.0 times tau=0.2"):
        losses.inpo(pair(), step=10.0, tau=0.2)


@pytest.mark.filterwarnings("error")
def test_reproduction():
    result = reproduce(Run(quick=True, seed=0))
    assert {c.name: c.measured for c in result.criteria if not c.passed} == {}
    assert len(result.figure.axes) == 3
