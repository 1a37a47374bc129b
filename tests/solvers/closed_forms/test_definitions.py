"""Closed forms against loops over what their definitions sum."""

import itertools
import math

import numpy as np
import pytest

from prefsim.divergences import total_variation
from prefsim.solvers.closed_forms.self_improvement import (
    revision_chain,
    self_improvement_errors,
    self_improvement_value,
    solve_self_improvement,
)
from prefsim.solvers.closed_forms.self_training import best_of_n, iterative_dpo_step

N, BETA = 4, 0.35
RNG = np.random.default_rng(0)
UPPER = np.triu(RNG.uniform(-0.4, 0.4, (N, N)), 1)
GAME = 0.5 + UPPER - UPPER.T
GENERATOR, REFERENCE = RNG.dirichlet(np.ones(N), 2)
IMPROVER, ROWS = RNG.dirichlet(np.ones(N), (2, N))


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("rows", [None, ROWS])
def test_the_value_of_a_generator_and_an_improver(rows):
    behind = np.tile(REFERENCE, (N, 1)) if rows is None else rows
    expected = BETA * kl(GENERATOR, REFERENCE)
    for a in range(N):
        wins = sum(IMPROVER[a, b] * GAME[b, a] for b in range(N))
        expected += GENERATOR[a] * (wins - BETA * kl(IMPROVER[a], behind[a]))
    found = self_improvement_value(
        GAME, GENERATOR, IMPROVER, REFERENCE, beta=BETA, improver_reference=rows
    )
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [None, ROWS])
def test_the_errors_at_every_pair(rows):
    behind = np.tile(REFERENCE, (N, 1)) if rows is None else rows
    found = self_improvement_errors(
        GAME, GENERATOR, IMPROVER, REFERENCE, beta=BETA, improver_reference=rows
    )
    for a, b in itertools.product(range(N), repeat=2):

        def moved(of, draft):
            return math.log(IMPROVER[draft, of] / behind[draft, of])

        level = [math.log(GENERATOR[i] / REFERENCE[i]) for i in (a, b)]
        margin = GAME[b, a] - 0.5
        assert found.improver[a, b] == pytest.approx(margin - BETA * (moved(b, a) - moved(a, a)))
        joint = moved(b, a) - moved(a, b) + level[1] - level[0]
        assert found.joint[a, b] == pytest.approx(margin - 0.5 * BETA * joint)


@pytest.mark.parametrize("rows", [None, ROWS])
def test_the_solution_is_the_saddle_point(rows):
    found = solve_self_improvement(GAME, REFERENCE, beta=BETA, improver_reference=rows)
    options = {"beta": BETA, "improver_reference": rows}
    at_rest = self_improvement_value(GAME, found.generator, found.improver, REFERENCE, **options)
    assert found.value == pytest.approx(at_rest, rel=1e-12)
    for _ in range(20):
        other, improver = RNG.dirichlet(np.ones(N)), RNG.dirichlet(np.ones(N), N)
        above = self_improvement_value(GAME, other, found.improver, REFERENCE, **options)
        below = self_improvement_value(GAME, found.generator, improver, REFERENCE, **options)
        assert below < at_rest < above


def test_a_chain_multiplies_by_the_improver():
    chain = revision_chain(GENERATOR, IMPROVER, revisions=3)
    assert chain.shape == (4, N)
    for k in range(4):
        power = np.linalg.matrix_power(IMPROVER, k)
        np.testing.assert_allclose(chain[k], GENERATOR @ power, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_best_of_n_draws(n):
    score = np.asarray([0.3, 1.0, 1.0, -0.5])
    expected = np.zeros(N)
    for drawn in itertools.product(range(N), repeat=n):
        chance = math.prod(GENERATOR[i] for i in drawn)
        best = max(score[i] for i in drawn)
        winners = [i for i in drawn if score[i] == best]
        for i in winners:
            expected[i] += chance / len(winners)
    found = best_of_n(score, np.log(GENERATOR), n)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-12)


def test_a_step_of_iterative_dpo_tilts_by_the_log_odds_of_winning():
    found = iterative_dpo_step(GAME, np.log(GENERATOR), beta=BETA)
    assert np.exp(found).sum() == pytest.approx(1.0)
    again = iterative_dpo_step(GAME, np.log(GENERATOR), beta=2 * BETA)
    # The tilt is divided by beta.
    tilt, half = (step - np.log(GENERATOR) for step in (found, again))
    np.testing.assert_allclose(tilt - tilt.mean(), 2 * (half - half.mean()), rtol=1e-9)


def test_total_variation_is_half_the_sum_of_differences():
    expected = 0.5 * sum(abs(a - b) for a, b in zip(GENERATOR, REFERENCE, strict=True))
    assert total_variation(GENERATOR, REFERENCE) == pytest.approx(expected)
    assert total_variation(np.eye(2)[0], np.eye(2)[1]) == 1.0
