"""Gaps to correlated play: values, three players, averages of play, bad input."""

import array_api_strict
import numpy as np
import pytest
import torch

from prefsim.analysis import swap_regret
from prefsim.solvers.games.certificates import duality_gap
from prefsim.solvers.games.correlated import (
    averaged_play,
    coarse_correlated_gaps,
    correlated_gaps,
    losses_against,
    product_play,
)

# Chicken: both daring costs most, and a traffic light is better than chance.
CHICKEN = np.array([[6.0, 1.0], [0.0, 4.0]])
BOTH = [CHICKEN, CHICKEN.T]
RNG = np.random.default_rng(0)


def deviations(losses, joint, player, rule):
    """What a player loses that plays ``rule[a]`` where the joint play says a."""
    total = 0.0
    for cell in np.ndindex(joint.shape):
        moved = list(cell)
        moved[player] = rule[cell[player]]
        total += joint[cell] * losses[player][tuple(moved)]
    return total


def test_gaps_of_three_players_are_those_of_all_rules():
    shape = (2, 3, 2)
    losses, joint = list(RNG.random((3, *shape))), RNG.dirichlet(np.ones(12)).reshape(shape)
    coarse, correlated = coarse_correlated_gaps(losses, joint), correlated_gaps(losses, joint)
    for player, n in enumerate(shape):
        paid = deviations(losses, joint, player, range(n))
        fixed = [deviations(losses, joint, player, [b] * n) for b in range(n)]
        swaps = [deviations(losses, joint, player, rule) for rule in np.ndindex(*[n] * n)]
        assert coarse[player] == pytest.approx(paid - min(fixed), abs=1e-14)
        assert correlated[player] == pytest.approx(paid - min(swaps), abs=1e-14)
    assert (correlated >= np.maximum(coarse, 0) - 1e-14).all()


def test_a_traffic_light():
    light = np.array([[0.0, 0.5], [0.5, 0.0]])
    assert (correlated_gaps(BOTH, light) == 0).all()
    assert (coarse_correlated_gaps(BOTH, light) <= 0).all()
    np.testing.assert_allclose(correlated_gaps(BOTH, np.eye(2) / 2), 4.5)


def test_gaps_of_open_spiel():
    pyspiel = pytest.importorskip("pyspiel")
    losses = list(RNG.random((2, 2, 3)))
    decisions = RNG.dirichlet(np.ones(2), size=4), RNG.dirichlet(np.ones(3), size=4)
    joint = averaged_play(list(decisions))
    game = pyspiel.convert_to_turn_based(
        pyspiel.create_matrix_game(*((-table).tolist() for table in losses))
    )
    device = []
    for cell, chance in np.ndenumerate(joint):
        state, table = game.new_initial_state(), {}
        for player, action in enumerate(cell):
            pure = [(a, float(a == action)) for a in state.legal_actions()]
            table[state.information_state_string(player)] = pure
            state.apply_action(action)
        device.append((float(chance), pyspiel.TabularPolicy(table)))
    coarse = pyspiel.cce_dist(game, device).deviation_incentives
    np.testing.assert_allclose(np.maximum(coarse_correlated_gaps(losses, joint), 0), coarse)
    swap = pyspiel.ce_dist(game, device).deviation_incentives
    np.testing.assert_allclose(correlated_gaps(losses, joint), swap)
    met = decisions[1] @ losses[0].T, decisions[0] @ losses[1]
    regrets = [swap_regret(*pair) for pair in zip(decisions, met, strict=True)]
    np.testing.assert_allclose(regrets, 4 * np.asarray(swap))


def test_products_in_games_of_sum_zero_are_gaps_of_nash():
    preference = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
    first, second = RNG.dirichlet(np.ones(3), size=2)
    gaps = coarse_correlated_gaps([-preference, preference], product_play([first, second]))
    assert gaps.sum() == pytest.approx(duality_gap(preference, first, second), abs=1e-14)


def test_batches_averages_and_other_libraries():
    losses = list(RNG.random((2, 4, 2, 3)))
    x, y = RNG.dirichlet(np.ones(2), size=(4, 5)), RNG.dirichlet(np.ones(3), size=(4, 5))
    joint = averaged_play([x, y])
    np.testing.assert_allclose(joint, np.einsum("gti,gtj->gij", x, y) / 5, atol=1e-15)
    found = correlated_gaps(losses, joint)
    assert found.shape == (4, 2)
    for g in range(4):
        each = correlated_gaps([table[g] for table in losses], joint[g])
        np.testing.assert_allclose(found[g], each, atol=1e-15)
    for library in (torch.tensor, array_api_strict.asarray):
        moved = correlated_gaps([library(t) for t in losses], library(joint))
        np.testing.assert_allclose(np.asarray(moved), found, atol=1e-14)
    against = losses_against([table[0] for table in losses], [x[0, 0], y[0, 0]])
    np.testing.assert_allclose(against[0], losses[0][0] @ y[0, 0], atol=1e-15)
    np.testing.assert_allclose(against[1], x[0, 0] @ losses[1][0], atol=1e-15)


def test_bad_input():
    with pytest.raises(ValueError, match="joint must sum to 1"):
        correlated_gaps(BOTH, np.ones((2, 2)))
    with pytest.raises(ValueError, match="losses must be a list of one array for each player"):
        coarse_correlated_gaps(CHICKEN, np.eye(2) / 2)
    with pytest.raises(ValueError, match=r"losses\[1\] must have trailing shape \(2, 2\)"):
        coarse_correlated_gaps([CHICKEN, np.ones((2, 3))], np.eye(2) / 2)
    with pytest.raises(ValueError, match=r"decisions\[1\] must have trailing shape"):
        averaged_play([np.eye(2), np.full((3, 2), 0.5)])
    with pytest.raises(ValueError, match="one table for each of 2 players, got 1"):
        losses_against([CHICKEN], [np.ones(2) / 2] * 2)


def test_play_has_a_round():
    with pytest.raises(ValueError, match="decisions must hold at least one round"):
        averaged_play([np.zeros((0, 2)), np.zeros((0, 2))])
