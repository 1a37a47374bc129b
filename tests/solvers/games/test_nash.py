"""solve_nash: what it warns of, what it refuses, and that each option counts."""

import warnings

import numpy as np
import pytest
import torch
from nash_games import GAME, REFERENCE, tau_of, ten_steps

from prefsim.solvers.games.nash import METHODS, StepSizeWarning, solve_nash
from prefsim.solvers.results import ConvergenceWarning
from prefsim.worlds.game import PreferenceGame


def test_a_missed_tolerance_warns():
    with pytest.warns(
        ConvergenceWarning,
        match=(
            r"solve_nash\(method='mwu'\): 1 of 1 games missed the tolerance 1e-06 after 20"
            r" iterations"
        ),
    ):
        assert not solve_nash(GAME, method="mwu", max_iterations=20, tolerance=1e-6).converged
    with pytest.warns(ConvergenceWarning, match="regularised gap"):
        solve_nash(GAME, method="egpo", tau=0.1, max_iterations=3)
    with pytest.warns(ConvergenceWarning, match="method='lp'.*exploitability"):
        solve_nash(PreferenceGame.random(20, seed=0), method="lp", max_iterations=2)
    with pytest.warns(ConvergenceWarning, match="method='regularised'"):
        solve_nash(
            PreferenceGame.random(20, seed=0), method="regularised", tau=0.03, max_iterations=0
        )


@pytest.mark.parametrize(
    ("method", "step"),
    [("mirror_descent", 0.39), ("mmd", 0.41), ("egpo", 0.51), ("optimistic", 0.51)],
)
def test_a_step_beyond_the_guarantee_warns(method, step):
    with pytest.warns(StepSizeWarning, match=f"largest with which '{method}' is known to converge"):
        solve_nash(GAME, method=method, tau=0.1, step=step, max_iterations=2, tolerance=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve_nash(GAME, method=method, tau=0.1, step=step - 0.02, max_iterations=2, tolerance=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "simplex"}, "method must be one of 'lp', 'regularised', 'mwu'.*got 'simplex'"),
        (
            {"method": "lp", "tau": 0.1},
            "method 'lp' is for games without a penalty: tau must be 0, got 0.1",
        ),
        ({"method": "mwu", "tau": 0.1}, "tau must be 0"),
        ({"method": "nash_md"}, "method 'nash_md' is for games with a penalty: tau must be > 0"),
        ({"method": "regularised"}, "tau must be > 0"),
        ({"method": "egpo", "tau": -1.0}, "tau must be a finite number >= 0"),
        (
            {"method": "lp", "reference": REFERENCE},
            "method 'lp' has no use for the option reference",
        ),
        ({"method": "lp", "step": 0.1}, "no use for the option step"),
        (
            {"method": "regret_matching", "step": 0.1},
            "method 'regret_matching' has no use for the option step",
        ),
        (
            {"method": "comal", "tau": 0.1, "step": 0.1},
            "method 'comal' has no use for the option step",
        ),
        ({"method": "comal"}, "tau must be > 0"),
        ({"method": "mwu", "momentum": 0.3}, "method 'mwu' has no use for the option momentum"),
        ({"method": "apo", "momentum": 1.0}, r"momentum must lie in \[0.0, 1.0\), got 1.0"),
        (
            {"method": "online_ipo", "tau": 0.1, "mixture": 0.3},
            "method 'online_ipo' has no use for the option mixture",
        ),
        (
            {"method": "nash_md_pg", "tau": 0.1, "mixture": 1.1},
            r"mixture must lie in \[0.0, 1.0\], got 1.1",
        ),
        (
            {"method": "regularised", "tau": 0.1, "initial": REFERENCE},
            "no use for the option initial",
        ),
        ({"method": "regularised", "tau": 0.1, "record": 1}, "no use for the option record"),
        ({"method": "egpo", "step": -0.1}, "step must be a finite number > 0"),
        ({"method": "egpo", "step": lambda t: 0.1 - t}, "step must be a finite number > 0"),
        (
            {"method": "nash_md", "tau": 0.5, "step": 2.1},
            r"step \* tau must be <= 1, got step=2.1 times tau=0.5",
        ),
        ({"method": "egpo", "max_iterations": -1}, "max_iterations must be an integer >= 0"),
        ({"method": "egpo", "tolerance": -1.0}, "tolerance must be a finite number >= 0"),
        ({"method": "egpo", "record": 1.5}, "record must be an integer >= 0"),
        (
            {"method": "egpo", "reference": [0.5, 0.5, 0.0]},
            r"reference must be > 0 everywhere, got 0.0 at index 2",
        ),
        ({"method": "egpo", "reference": [0.5, 0.6, 0.1]}, "reference must sum to 1"),
        ({"method": "egpo", "reference": [0.5, 0.5]}, "reference must have trailing shape"),
        ({"method": "egpo", "initial": [0.5, np.nan, 0.5]}, "initial must be finite"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        solve_nash(GAME, **options)


@pytest.mark.filterwarnings("ignore::prefsim.solvers.StepSizeWarning")
@pytest.mark.parametrize("method", ["mirror_descent", "egpo", "optimistic"])
def test_a_negative_exponent_is_refused(method):
    with pytest.raises(ValueError, match=r"step \* tau must be <= 1"):
        solve_nash(GAME, method=method, tau=0.5, step=2.5)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_bad_games(convert):
    with pytest.raises(ValueError, match=r"P \+ Pᵀ = 1"):
        solve_nash(convert([[0.5, 0.6], [0.5, 0.5]]), method="lp")
    with pytest.raises(ValueError, match="must be finite"):
        solve_nash(convert([[0.5, float("nan")], [0.5, 0.5]]), method="lp")
    with pytest.raises(ValueError, match="must have"):
        solve_nash(convert([0.5]), method="lp")


def test_the_game_is_left_as_it_was():
    games = PreferenceGame.random(5, seed=0, batch_shape=(3,)).preference
    before = games.copy()
    for method in METHODS:
        solve_nash(games, method=method, tau=tau_of(method, 0.3), tolerance=0.1)
    np.testing.assert_array_equal(games, before)


def test_each_option_changes_the_result():
    base = ten_steps("mirror_descent")
    for change in (
        {"tau": 0.2},
        {"step": 0.3},
        {"max_iterations": 9},
        {"reference": REFERENCE[::-1]},
        {"initial": REFERENCE[::-1]},
        {"tolerance": 0.03},
    ):
        assert not np.allclose(ten_steps("mirror_descent", **change).policy, base.policy), change


@pytest.mark.parametrize("method", ["mirror_descent", "egpo", "regularised"])
def test_with_a_tolerance_of_nothing_what_converged_is_judged_by_the_usual_one(method):
    few, most = (0, 50) if method == "regularised" else (10, 4000)
    options = {"method": method, "reference": REFERENCE, "tau": 0.1, "tolerance": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        early, late = (solve_nash(GAME, max_iterations=n, **options) for n in (few, most))
    assert early.regularised_gap > 1e-8 and not early.converged
    assert late.regularised_gap <= 1e-8 and late.converged
