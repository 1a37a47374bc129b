"""The closed form of SRPO's min-max problem against a direct search, libraries and bad input."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given

from prefsim.solvers import revision_chain, solve_self_improvement
from prefsim.solvers.closed_forms.self_improvement import (
    self_improvement_errors,
    self_improvement_value,
)
from prefsim.testing.bandits import betas
from prefsim.testing.games import games_with_reference, preference_games
from prefsim.worlds import TEXTBOOK_REFERENCE, PreferenceGame, textbook_game

GAME = textbook_game().preference
REFERENCE = TEXTBOOK_REFERENCE


def test_a_numerical_search_finds_the_same_saddle_point():
    """Descent in the generator's logits and ascent in the improver's know no closed form."""
    preference, reference = torch.as_tensor(GAME), torch.as_tensor(REFERENCE)
    generator, improver = (
        torch.zeros(3, dtype=torch.float64),
        torch.zeros(3, 3, dtype=torch.float64),
    )
    for _ in range(400):
        generator.requires_grad_(True), improver.requires_grad_(True)
        value = self_improvement_value(
            preference, generator.softmax(-1), improver.softmax(-1), reference, beta=0.4
        )
        down, up = torch.autograd.grad(value, (generator, improver))
        generator, improver = (generator - 3 * down).detach(), (improver + 10 * up).detach()
    solution = solve_self_improvement(GAME, REFERENCE, beta=0.4)
    np.testing.assert_allclose(generator.softmax(-1).numpy(), solution.generator, atol=1e-8)
    np.testing.assert_allclose(improver.softmax(-1).numpy(), solution.improver, atol=1e-8)
    assert float(value.detach()) == pytest.approx(float(solution.value), abs=1e-12)


@given(games_with_reference(preference_games(min_n=1)), betas())
def test_distributions(pair, beta):
    game, reference = pair
    solution = solve_self_improvement(game.preference, reference, beta=beta)
    np.testing.assert_allclose(solution.generator.sum(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(solution.improver.sum(axis=-1), 1.0, rtol=1e-12)
    # The improver can always keep the reference, and never wins more than surely.
    assert -1e-12 <= solution.value <= 1 + 1e-12


def test_libraries_and_batches():
    games = np.asarray(PreferenceGame.random(4, seed=0, batch_shape=(5,)).preference)
    reference = np.random.default_rng(0).dirichlet(np.ones(4), size=5)
    rows = np.random.default_rng(1).dirichlet(np.ones(4), size=(5, 4))
    together = solve_self_improvement(games, reference, beta=0.2, improver_reference=rows)
    alone = solve_self_improvement(games[2], reference[2], beta=0.2, improver_reference=rows[2])
    for part, whole in zip(alone, together, strict=True):
        np.testing.assert_allclose(part, whole[2], rtol=1e-13)
    for library in (torch.as_tensor, array_api_strict.asarray):
        other = solve_self_improvement(
            *map(library, (games, reference)), beta=0.2, improver_reference=library(rows)
        )
        for part, expected in zip(other, together, strict=True):
            np.testing.assert_allclose(np.asarray(part), expected, rtol=1e-12)
        chain = revision_chain(other.generator, other.improver, revisions=2)
        np.testing.assert_allclose(
            np.asarray(chain),
            revision_chain(together.generator, together.improver, revisions=2),
            rtol=1e-12,
        )
        errors = self_improvement_errors(
            library(games), other.generator, other.improver, library(reference), beta=0.2
        )
        assert tuple(errors.joint.shape) == (5, 4, 4)


def test_a_reference_without_full_support_stays_so():
    solution = solve_self_improvement(GAME, np.array([0.6, 0.4, 0.0]), beta=0.3)
    assert solution.generator[2] == 0 and (solution.improver[:, 2] == 0).all()
    assert np.isfinite(solution.value)


def test_the_chain_ends_at_the_stationary_distribution():
    solution = solve_self_improvement(GAME, REFERENCE, beta=0.4)
    last = revision_chain(REFERENCE, solution.improver, revisions=200)[-1]
    np.testing.assert_allclose(last @ solution.improver, last, atol=1e-14)
    np.testing.assert_array_equal(
        revision_chain(REFERENCE, solution.improver, revisions=0), REFERENCE[None]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: solve_self_improvement(GAME, REFERENCE, beta=0.0),
            "beta must be a finite number > 0",
        ),
        (
            lambda: solve_self_improvement(GAME[:2], REFERENCE, beta=1.0),
            r"preference must have trailing shape \(3, 3\)",
        ),
        (
            lambda: solve_self_improvement(GAME, REFERENCE, beta=1.0, improver_reference=REFERENCE),
            "improver_reference must have",
        ),
        (
            lambda: revision_chain(REFERENCE, GAME[:, :2], revisions=1),
            r"improver must have trailing shape \(3, 3\)",
        ),
        (
            lambda: revision_chain(REFERENCE, GAME, revisions=-1),
            "revisions must be an integer >= 0",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
