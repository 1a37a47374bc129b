"""Golden values of the paper's page, and its reproduction."""

import numpy as np
import pytest

from paper_repros.nash_md import CYCLE, SAMPLING, reproduce
from prefsim.numerics import categorical_kl
from prefsim.papers import Run
from prefsim.solvers import fit_bradley_terry, solve_nash
from prefsim.solvers.games.certificates import best_response, geometric_mixture

GAME = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
REFERENCE = np.array([0.5, 0.3, 0.2])
LIMIT = (0.5337846078, 0.1880177888, 0.2781976034)
LIMIT_MIXTURE = (0.5330289104, 0.1928188894, 0.2741522002)


def iterate(steps, tau=0.1):
    return solve_nash(
        GAME,
        method="nash_md",
        reference=REFERENCE,
        tau=tau,
        step=0.5,
        max_iterations=steps,
        tolerance=0.0,
    ).policy


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, (0.5124786274, 0.2895805173, 0.1979408553)),
        (2, (0.5239548308, 0.2794157506, 0.1966294186)),
        (10, (0.5803870448, 0.2141118623, 0.2055010929)),
        (100, (0.5347610616, 0.1879981260, 0.2772408124)),
    ],
)
def test_iterates(steps, expected):
    np.testing.assert_allclose(iterate(steps), expected, atol=1e-10)


def test_limit_of_a_constant_step():
    limit = iterate(2000)
    np.testing.assert_allclose(limit, LIMIT, atol=1e-10)
    mixture = np.exp(geometric_mixture(np.log(limit), np.log(REFERENCE), weight=0.05))
    np.testing.assert_allclose(mixture, LIMIT_MIXTURE, atol=1e-10)
    stiffer = solve_nash(GAME, method="regularised", reference=REFERENCE, tau=0.1 / 0.95).policy
    np.testing.assert_allclose(mixture, stiffer, atol=1e-12)
    np.testing.assert_allclose(
        limit, best_response(GAME, stiffer, reference=REFERENCE, tau=0.1), atol=1e-12
    )
    target = solve_nash(GAME, method="regularised", reference=REFERENCE, tau=0.1).policy
    assert categorical_kl(np.log(target), np.log(limit)) == pytest.approx(6.311990647e-5, rel=1e-9)


def test_a_corrected_penalty_removes_the_bias():
    corrected = 0.1 / 1.05
    mixture = np.exp(
        geometric_mixture(
            np.log(iterate(2000, corrected)), np.log(REFERENCE), weight=0.5 * corrected
        )
    )
    np.testing.assert_allclose(
        mixture,
        solve_nash(GAME, method="regularised", reference=REFERENCE, tau=0.1).policy,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("sampling", "reward"),
    list(
        zip(
            SAMPLING,
            [(0.400867, -1.032371, 0.631505), (-0.631505, 1.032371, -0.400867)],
            strict=True,
        )
    ),
)
def test_reward_models_follow_the_sampling(sampling, reward):
    counts = np.multiply.outer(sampling, sampling) * CYCLE * (1 - np.eye(3))
    np.testing.assert_allclose(fit_bradley_terry(counts).reward, reward, atol=1e-6)


def test_the_equilibrium_of_the_cycle():
    np.testing.assert_allclose(
        solve_nash(CYCLE, method="lp").policy, np.array([8, 3, 8]) / 19, atol=1e-11
    )


def test_theorem_1_on_the_golden_game():
    horizon, tau = 1000, 0.1
    step = np.log(horizon) / (tau * horizon)
    run = solve_nash(
        GAME, method="nash_md", reference=REFERENCE, tau=tau, max_iterations=horizon, tolerance=0.0
    )
    target = solve_nash(GAME, method="regularised", reference=REFERENCE, tau=tau).policy
    distance = categorical_kl(np.log(target), np.log(run.policy))
    bound = (1 - step * tau) ** horizon * categorical_kl(
        np.log(target), np.log(REFERENCE)
    ) + step / (8 * tau)
    assert distance == pytest.approx(1.2e-6, rel=0.05)
    assert bound == pytest.approx(8.6e-2, rel=0.01)


def test_reproduction_without_data():
    result = reproduce(Run(quick=True, seed=0))
    assert {c.name: c.passed for c in result.criteria if not c.passed} == {}
    assert [row["ballots"] for row in result.table if "ballots" in row] == [
        "Synthetic Condorcet cycle"
    ]
    assert len(result.figure.axes) == 3


def test_reproduction_with_real_ballots(real_data):
    if not list((real_data / "preflib").glob("*.soi")):
        pytest.skip(f"no ballots in {real_data / 'preflib'}")
    result = reproduce(Run(quick=True, seed=1, data=real_data))
    assert all(c.passed for c in result.criteria)
    winners = {row["ballots"]: row["Condorcet winner"] for row in result.table if "ballots" in row}
    assert winners["Debian 2002 Leader"] == "Bdale Garbee"
    assert winners["Debian 2012 Leader"] == "Stefano Zacchiroli"
