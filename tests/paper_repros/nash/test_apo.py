"""Values of arXiv:2410.06293: policies and coefficients on a reward, exploitabilities in games."""

import functools

import numpy as np

from paper_repros.nash.apo.momentum import (
    CYCLE,
    CYCLE_START,
    DOMINANCE,
    GAME_MOMENTA,
    Bandit,
    coefficients,
    distance,
    play_game,
    rounds_on_reward,
)
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.loops import accelerate
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, solve_nash
from prefsim.worlds import ContextualBandit

BANDIT = Bandit(np.array([0.0, 0.4, 1.0]), np.array([0.5, 0.3, 0.2]))
FITTED = {
    1: (0.1890020824, 0.2523791219, 0.5586187957),
    2: (0.0224357864, 0.0847606724, 0.8928035412),
    3: (0.0015292334, 0.0175655732, 0.9809051934),
}
EXTRAPOLATED = {
    1: (0.1237160528, 0.2100117369, 0.6662722103),
    3: (0.0006693674, 0.0107333122, 0.9885973204),
}


def check_path(fitted, extrapolated):
    for t, expected in FITTED.items():
        np.testing.assert_allclose(fitted[t - 1], expected, atol=1e-10)
    for t, expected in EXTRAPOLATED.items():
        np.testing.assert_allclose(extrapolated[t - 1], expected, atol=1e-10)


def test_exact_rounds():
    path = rounds_on_reward(BANDIT, beta=0.5, momentum=0.3, rounds=3)
    check_path(np.exp(path.fitted), np.exp(path.extrapolated))


def test_rounds_of_dpo():
    """Each round fits DPO to all pairs of the extrapolated policy, which is its reference."""
    world = ContextualBandit(reward=BANDIT.reward[None])

    def dpo_round(policy, t):
        loss = functools.partial(losses.dpo, beta=0.5)
        return fit(policy, loss, Comparisons.population(world, policy), reference=policy).policy

    start = TabularPolicy.from_probs(BANDIT.reference[None])
    path = accelerate(dpo_round, start, momentum=0.3, rounds=3)
    check_path(*zip(*((p.fitted.probs[0], p.extrapolated.probs[0]) for p in path), strict=True))


def test_coefficients():
    worth = coefficients(0.3, 3)
    np.testing.assert_allclose(worth.fitted, (1.0, 2.3, 3.69), rtol=1e-14)
    np.testing.assert_allclose(worth.extrapolated, (1.3, 2.69, 4.107), rtol=1e-14)


def test_dominance_game():
    path = play_game(DOMINANCE, np.full(3, 1 / 3), step=0.5, rounds=20)
    np.testing.assert_allclose(
        path.exploitability[10], (0.0666575, 0.0564512, 0.0394442), atol=5e-8
    )


def test_exploitability_on_the_spiral_depends_on_the_phase():
    """At 8000 rounds momentum .3 looks better by its exploitability, last and average.

    It is nevertheless further from the equilibrium.
    """
    path = play_game(CYCLE, CYCLE_START, step=0.05, rounds=7999, record=7999)
    last, average = path.exploitability[-1], path.average_exploitability[-1]
    assert last[1] < last[0]
    assert average[1] < average[0]
    assert (np.diff(distance(path, CYCLE)[-1]) > 0).all()


def test_several_momenta_at_once_are_the_method():
    path = play_game(CYCLE, CYCLE_START, step=0.2, rounds=30)
    for i, momentum in enumerate(GAME_MOMENTA):
        run = solve_nash(
            CYCLE,
            method="apo",
            momentum=momentum,
            initial=CYCLE_START,
            step=0.2,
            max_iterations=30,
            tolerance=0.0,
        )
        np.testing.assert_allclose(path.policy[-1, i], run.policy, atol=1e-14)
        np.testing.assert_allclose(path.average_policy[-1, i], run.average_policy, atol=1e-14)


def test_acceleration_fails_for_tiny_margins():
    """The bound of claim C5: a Condorcet winner that hardly leads the others does not suffice."""
    table = np.array([[0.5, 0.66, 0.51], [0.34, 0.5, 1.0], [0.49, 0.0, 0.5]])
    last = play_game(table, np.full(3, 1 / 3), step=0.5, rounds=5).exploitability[-1]
    assert last[2] > last[1] > last[0]
