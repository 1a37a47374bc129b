"""Certificates speak of distributions, of the policy that they name, and at every scale."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers import exploitability, solve_nash
from prefsim.solvers.games.certificates import duality_gap, regularised_gap
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.testing.games import preference_games
from prefsim.worlds import textbook_game

PREFERENCE = textbook_game().preference
CYCLE = np.array([[0.0, 3.0, -1.0], [-3.0, 0.0, 2.0], [1.0, -2.0, 0.0]])


@pytest.mark.parametrize("scale", [1e-13, 1e-11, 1e-6, 1e-3, 0.1, 0.16])
def test_the_exact_equilibrium_does_not_depend_on_the_scale_of_the_margins(scale):
    result = solve_nash(0.5 + scale * CYCLE, method="lp")
    assert result.converged
    # Around one half a margin keeps its digits down to 1e-16.
    np.testing.assert_allclose(result.policy, [1 / 3, 1 / 6, 1 / 2], atol=1e-9 + 1e-16 / scale)


@given(preference_games(), st.integers(1, 30))
def test_scaled_games_have_the_same_equilibrium(game, places):
    preference = game.preference
    small = 0.5 + (preference - 0.5) * 0.5**places
    whole, scaled = (solve_nash(game, method="lp") for game in (preference, small))
    np.testing.assert_allclose(
        exploitability(preference, scaled.policy), 0.0, atol=1e-9 + 1e-15 * 2.0**places
    )
    assert exploitability(small, whole.policy) <= 1e-9 * 0.5**places + 1e-15


def test_a_batch_of_scales_is_its_members():
    games = 0.5 + np.array([1e-11, 1e-4, 0.1])[:, None, None] * CYCLE
    batch = solve_nash(games, method="lp").policy
    for game, policy in zip(games, batch, strict=True):
        np.testing.assert_allclose(solve_nash(game, method="lp").policy, policy, atol=1e-12)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([1.5, -0.5, 0.0], "policy must be >= 0, got -0.5 at index 1"),
        ([0.5, 0.3, 0.3], "policy must sum to 1"),
        ([0.5, np.nan, 0.5], "policy must be finite"),
        (np.log([0.5, 0.3, 0.2]), "policy must be >= 0"),
    ],
)
def test_what_is_no_distribution_is_refused(policy, message):
    policy = np.asarray(policy)
    uniform = np.full(3, 1 / 3)
    for call in (
        lambda: exploitability(PREFERENCE, policy),
        lambda: duality_gap(PREFERENCE, policy, uniform),
        lambda: regularised_gap(PREFERENCE, policy, reference=uniform, tau=0.1),
        lambda: exploitability(torch.as_tensor(PREFERENCE), torch.as_tensor(policy)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match=message.replace("policy", "reference")):
        regularised_gap(PREFERENCE, uniform, reference=policy, tau=0.1)
    with pytest.raises(ValueError, match=message.replace("policy", "opponent")):
        duality_gap(PREFERENCE, uniform, policy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_of_the_dtype_is_no_fault(dtype):
    n = 200
    policy = torch.softmax(torch.randn(n, generator=torch.manual_seed(0)), -1).to(dtype)
    game = torch.full((n, n), 0.5, dtype=dtype)
    assert abs(float(exploitability(game, policy))) < 1e-2


@pytest.mark.parametrize("method", sorted(UPDATES))
@pytest.mark.parametrize("tau", [0.0, 0.1])
def test_the_certified_policy_is_named(method, tau):
    allowed = {"none": (0.0,), "needed": (0.1,), "proximal": (0.1,), "optional": (0.0, 0.1)}
    if tau not in allowed[UPDATES[method].penalty]:
        pytest.skip("the method is for the other kind of game")
    result = solve_nash(PREFERENCE, method=method, tau=tau, tolerance=0.02)
    assert result.converged
    if tau > 0:
        assert result.certified == "policy"
    if result.regularised_gap is None:
        assert exploitability(PREFERENCE, result.certified_policy) <= 0.02
    else:
        assert result.certified_policy is result.policy
        assert result.regularised_gap <= 0.02


def test_the_average_is_certified_where_the_last_policy_goes_round():
    result = solve_nash(PREFERENCE, method="mwu", tolerance=0.01)
    assert result.converged and result.certified == "average_policy"
    assert exploitability(PREFERENCE, result.certified_policy) <= 0.01
    assert exploitability(PREFERENCE, result.policy) > 0.02
