"""Golden values of arXiv:2410.06293.

Iterates and coefficients on a reward, exploitabilities in games.
"""

import functools

import numpy as np
import pytest

from paper_repros import _apo_experiments as experiments
from paper_repros.apo import CYCLE, CYCLE_START, DOMINANCE, LONG, MOMENTA, reproduce
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.loops import accelerate, momentum_coefficients
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, solve_nash
from prefsim.worlds import ContextualBandit

REWARD, REFERENCE = np.array([0.0, 0.4, 1.0]), np.array([0.5, 0.3, 0.2])
FITTED = {
    1: (0.1890020824, 0.2523791219, 0.5586187957),
    2: (0.0224357864, 0.0847606724, 0.8928035412),
    3: (0.0015292334, 0.0175655732, 0.9809051934),
}
EXTRAPOLATED = {
    1: (0.1237160528, 0.2100117369, 0.6662722103),
    3: (0.0006693674, 0.0107333122, 0.9885973204),
}
COEFFICIENTS = {1: (1.0, 1.3), 2: (2.3, 2.69), 3: (3.69, 4.107)}


def check_golden(path):
    for t, expected in FITTED.items():
        np.testing.assert_allclose(path[t - 1].fitted.probs[0], expected, atol=1e-10)
    for t, expected in EXTRAPOLATED.items():
        np.testing.assert_allclose(path[t - 1].extrapolated.probs[0], expected, atol=1e-10)


def test_golden_exact_rounds():
    check_golden(
        experiments.rounds_on(lambda policy: REWARD, REFERENCE, beta=0.5, momentum=0.3, rounds=3)
    )


def test_golden_rounds_of_dpo():
    """Each round fits DPO's loss to all pairs of the extrapolated policy, which is also the reference."""
    world = ContextualBandit(reward=REWARD[None])

    def dpo_round(policy, t):
        return fit(
            policy,
            functools.partial(losses.dpo, beta=0.5),
            Comparisons.population(world, policy),
            reference=policy,
        ).policy

    check_golden(
        accelerate(dpo_round, TabularPolicy.from_probs(REFERENCE[None]), momentum=0.3, rounds=3)
    )


@pytest.mark.parametrize("t", COEFFICIENTS)
def test_golden_coefficients(t):
    np.testing.assert_allclose(momentum_coefficients(t, momentum=0.3), COEFFICIENTS[t], rtol=1e-14)


def test_golden_dominance_game():
    path = experiments.play(DOMINANCE, np.full(3, 1 / 3), MOMENTA[:3], step=0.5, rounds=20)
    np.testing.assert_allclose(path.last[10], (0.0666575, 0.0564512, 0.0394442), atol=5e-8)
    np.testing.assert_allclose(path.last[20], (0.0418, 0.0283, 0.0114), atol=6e-5)


def test_golden_cycle():
    path = experiments.play(CYCLE, CYCLE_START, MOMENTA[:3], step=0.05, rounds=LONG)
    np.testing.assert_allclose(path.last[-1], (0.061, 0.337, 0.398), atol=6e-4)
    np.testing.assert_allclose(path.average[-1], (0.0004, 0.0020, 0.0023), atol=6e-5)


def test_exploitability_on_the_spiral_depends_on_the_phase():
    """At 8000 rounds momentum .3 looks better by its exploitability, last and average, although it is further from the equilibrium."""
    path = experiments.play(CYCLE, CYCLE_START, MOMENTA[:3], step=0.05, rounds=7999)
    assert path.last[-1, 1] < path.last[-1, 0] and path.average[-1, 1] < path.average[-1, 0]
    assert (np.diff(path.distance(experiments.equilibrium(CYCLE))[-1]) > 0).all()


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_several_momenta_at_once_are_the_method(momentum):
    path = experiments.play(CYCLE, CYCLE_START, (momentum, 0.6), step=0.2, rounds=30)
    run = solve_nash(
        CYCLE,
        method="apo",
        momentum=momentum,
        initial=CYCLE_START,
        step=0.2,
        max_iterations=30,
        tolerance=0.0,
    )
    assert path.last[-1, 0] == pytest.approx(float(run.exploitability), abs=1e-14)
    assert path.average[-1, 0] == pytest.approx(float(run.average_exploitability), abs=1e-14)


def test_acceleration_fails_for_tiny_margins():
    """The bound of claim C5.

    A Condorcet winner that hardly leads the others is no dominance game.
    """
    table = np.array([[0.5, 0.66, 0.51], [0.34, 0.5, 1.0], [0.49, 0.0, 0.5]])
    last = experiments.play(table, np.full(3, 1 / 3), MOMENTA[:3], step=0.5, rounds=5).last[-1]
    assert last[2] > last[1] > last[0]


@pytest.mark.slow
def test_reproduction():
    result = reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.figure.axes) == 4
