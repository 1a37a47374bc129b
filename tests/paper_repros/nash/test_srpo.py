"""Values of arXiv:2406.01660: the closed form, what the loss teaches, revisions, and IPO."""

import functools

import numpy as np
import pytest

from paper_repros.nash.srpo.claims import SAMPLERS
from paper_repros.nash.srpo.fitted import fit_ipo, fit_srpo, pairs_of
from paper_repros.nash.srpo.reproduction import revise_cyclic, revise_transitive
from paper_repros.nash.srpo.shifted import (
    BEHAVIOURS,
    GENERATOR,
    REVISED,
    RIVALS,
    learn_from_behaviours,
)
from prefsim import losses
from prefsim.data import Comparisons, Revisions
from prefsim.policies import TabularPolicy
from prefsim.solvers import objective, solve_self_improvement
from prefsim.worlds import TEXTBOOK_REFERENCE as REFERENCE
from prefsim.worlds import textbook_game

GAME = textbook_game().preference
EXACT = solve_self_improvement(GAME, REFERENCE, beta=0.4)


def test_closed_form():
    np.testing.assert_allclose(EXACT.gain, (0.4884155463, 0.6436500270, 0.6106736904), atol=1e-10)
    rows = (
        (0.5146922930, 0.1458740545, 0.3394336525),
        (0.7391368089, 0.2094861039, 0.0513770872),
        (0.2299642524, 0.6183769659, 0.1516587818),
    )
    np.testing.assert_allclose(EXACT.improver, rows, atol=1e-10)
    generator = (0.5876575071, 0.2391838449, 0.1731586480)
    np.testing.assert_allclose(EXACT.generator, generator, atol=1e-10)
    assert EXACT.value == pytest.approx(0.5530300298, abs=1e-10)


def test_ipo_moves_with_the_sampler():
    games, behind = np.broadcast_to(GAME, (3, 3, 3)), np.broadcast_to(REFERENCE, (3, 3))
    fitted = fit_ipo(pairs_of(games, SAMPLERS), behind, beta=0.4)
    expected = [(0.531, 0.189, 0.280), (0.683, 0.242, 0.074), (0.309, 0.529, 0.162)]
    np.testing.assert_allclose(fitted, expected, atol=6e-4)


def test_the_loss_ends_at_the_closed_form_from_every_sampler():
    games, behind = np.broadcast_to(GAME, (3, 3, 3)), np.broadcast_to(REFERENCE, (3, 3))
    fitted = fit_srpo(pairs_of(games, SAMPLERS), behind, beta=0.4)
    np.testing.assert_allclose(
        fitted.generator, np.broadcast_to(EXACT.generator, (3, 3)), atol=1e-12
    )
    np.testing.assert_allclose(
        fitted.improver, np.broadcast_to(EXACT.improver, (3, 3, 3)), atol=1e-12
    )


@pytest.mark.parametrize("alpha", [0.1, 0.9])
def test_every_mixture_of_the_terms_has_one_solution(alpha):
    fitted = fit_srpo(pairs_of(GAME, REFERENCE), REFERENCE, beta=0.4, alpha=alpha)
    np.testing.assert_allclose(fitted.generator, EXACT.generator, atol=1e-11)
    np.testing.assert_allclose(fitted.improver, EXACT.improver, atol=1e-11)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_one_term_alone_leaves_policies_undetermined(alpha):
    start = np.array([0.2, 0.2, 0.6])
    fitted = fit_srpo(pairs_of(GAME, REFERENCE), REFERENCE, beta=0.4, alpha=alpha, start=start)
    assert np.abs(fitted.generator - EXACT.generator).max() > 0.05
    if alpha == 0:
        np.testing.assert_allclose(fitted.generator, start, atol=1e-15)
        np.testing.assert_allclose(fitted.improver, EXACT.improver, atol=1e-11)


def test_revisions():
    transitive, cyclic = revise_transitive(), revise_cyclic()
    wins = (0.5, 0.690, 0.700, 0.698, 0.698, 0.698)
    np.testing.assert_allclose(transitive.from_reference, wins, atol=6e-4)
    assert transitive.from_generator[0] == pytest.approx(0.7001, abs=6e-5)
    assert transitive.ipo == pytest.approx(0.6909, abs=6e-5)
    wins = (0.535, 0.499, 0.458, 0.513, 0.503)
    np.testing.assert_allclose(cyclic.from_generator[:5], wins, atol=6e-4)


def test_label_noise_of_the_data_is_a_constant_of_the_objective():
    """Hard labels with their probability, and the same pairs reversed, have one objective."""
    world = textbook_game().to_bandit()
    pairs = Comparisons.population(world, TabularPolicy.from_probs(REFERENCE[None]))
    reverse = Comparisons(pairs.prompt, pairs.rejected, pairs.chosen, 1 - pairs.prob, pairs.weight)
    data = [Revisions(rows, n_contexts=1, n_responses=3) for rows in (pairs, reverse)]
    policy = data[0].joint_policy([[0.2, 0.3, 0.5]])
    loss = functools.partial(losses.srpo, beta=0.3)
    first, second = (float(objective(policy, loss, rows, reference=None)) for rows in data)
    assert first == pytest.approx(second, rel=1e-14)


def test_only_srpo_does_without_the_behaviour():
    shifted = learn_from_behaviours(3, np.random.default_rng(1), beta=0.1)
    assert set(shifted.wins) == {GENERATOR, *REVISED, *RIVALS} == set(shifted.least)
    for name, wins in shifted.wins.items():
        assert wins.shape == (BEHAVIOURS, 3) and (shifted.least[name] <= 0.5 + 1e-12).all()
        moved = np.ptp(wins, axis=0)
        assert (moved > 1e-3).all() if name in RIVALS else (moved < 1e-9).all()
    assert shifted.worst_wins("IPO") < shifted.wins["IPO"].mean()
    assert shifted.worst_wins(GENERATOR) == pytest.approx(shifted.wins[GENERATOR].mean())
