"""Recorded runs of the game methods: exactly so many updates, the way there included."""

import warnings

import numpy as np
import pytest
import torch

from prefsim.backend import to_numpy
from prefsim.solvers import NashHistory, StepSizeWarning, nash_path, solve_nash
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.worlds import TEXTBOOK_REFERENCE, PreferenceGame, textbook_game

METHODS = sorted(UPDATES)


def penalty(method):
    return 0.1 if UPDATES[method].penalty in ("needed", "proximal") else 0.0


@pytest.mark.parametrize("method", METHODS)
def test_every_record_is_the_policy_after_so_many_updates(method):
    options = {"method": method, "reference": TEXTBOOK_REFERENCE, "tau": penalty(method)}
    if UPDATES[method].default_step is not None:
        options["step"] = 0.1
    path = nash_path(textbook_game(), iterations=5, **options)
    assert path.iteration.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(path.policy[0], TEXTBOOK_REFERENCE, rtol=1e-14)
    for k in (1, 4, 5):
        run = solve_nash(textbook_game(), max_iterations=k, tolerance=0.0, **options)
        np.testing.assert_array_equal(path.policy[k], run.policy)
        np.testing.assert_array_equal(path.average_policy[k], run.average_policy)
        assert path.exploitability[k] == run.exploitability
        assert path.average_exploitability[k] == run.average_exploitability
        if run.regularised_gap is None:
            assert path.regularised_gap is None
        else:
            assert path.regularised_gap[k] == run.regularised_gap


def test_it_plays_on_where_the_certificate_is_met():
    path = nash_path(PreferenceGame.random(4, seed=0), method="egpo", tau=1.0, iterations=400)
    assert path.regularised_gap[200] < 1e-12
    assert path.iteration[-1] == 400 and len(path.policy) == 401


def test_records_of_a_batch():
    games = PreferenceGame.random(4, seed=0, batch_shape=(3, 2))
    path = nash_path(games, method="mwu", iterations=10, record=4, step=0.2)
    assert isinstance(path, NashHistory)
    assert path.iteration.tolist() == [0, 4, 8, 10]
    assert path.policy.shape == (4, 3, 2, 4) and path.average_exploitability.shape == (4, 3, 2)
    # As many as there are: the first and the last.
    assert nash_path(games, method="mwu", iterations=10, record=10).iteration.tolist() == [0, 10]
    assert nash_path(games, method="mwu", iterations=0).iteration.tolist() == [0]


def test_the_default_step_is_that_of_the_horizon():
    for iterations in (10, 1000):
        path = nash_path(textbook_game(), method="mwu", iterations=iterations, record=iterations)
        step = UPDATES["mwu"].default_step(3, 0.0, iterations)
        same = nash_path(
            textbook_game(), method="mwu", iterations=iterations, record=iterations, step=step
        )
        np.testing.assert_array_equal(path.policy, same.policy)


def test_each_option_reaches_the_method():
    plain = nash_path(textbook_game(), method="apo", iterations=5, step=0.2)
    for options in (
        {"initial": TEXTBOOK_REFERENCE},
        {"momentum": 0.6},
        {"step": lambda t: 0.2 / (t + 1)},
        {"reference": TEXTBOOK_REFERENCE},
    ):
        other = nash_path(textbook_game(), iterations=5, **{"method": "apo", "step": 0.2} | options)
        assert np.abs(other.policy[-1] - plain.policy[-1]).max() > 1e-3
    mixed = [
        nash_path(textbook_game(), method="nash_md_pg", iterations=50, tau=0.1, mixture=mixture)
        for mixture in (0.0, 0.5)
    ]
    assert np.abs(mixed[0].policy[-1] - mixed[1].policy[-1]).max() > 1e-3


def test_torch_agrees():
    table = torch.tensor(textbook_game().preference)
    found = nash_path(table, method="mirror_descent", tau=0.1, iterations=20)
    assert isinstance(found.policy, torch.Tensor)
    expected = nash_path(to_numpy(table), method="mirror_descent", tau=0.1, iterations=20)
    np.testing.assert_allclose(found.policy, expected.policy, atol=1e-14)


def test_no_updates_at_steps_of_ones_own_are_where_one_starts():
    path = nash_path(textbook_game(), method="mwu", iterations=0, step=lambda t: 0.1)
    np.testing.assert_allclose(path.policy, np.full((1, 3), 1 / 3))


@pytest.mark.parametrize("call", ["solve_nash", "nash_path"])
def test_the_warning_of_a_step_names_the_caller(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if call == "nash_path":
            nash_path(textbook_game(), method="egpo", tau=0.1, step=5.0, iterations=1)
        else:
            solve_nash(
                textbook_game(),
                method="egpo",
                tau=0.1,
                step=5.0,
                max_iterations=1,
                tolerance=0.0,
            )
    (warning,) = caught
    assert warning.category is StepSizeWarning
    assert warning.filename == __file__


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lp"}, "method must be one of"),
        ({"method": "regularised", "tau": 0.1}, "method must be one of"),
        ({"iterations": -1}, "iterations must be an integer >= 0"),
        ({"record": 0}, "record must be an integer >= 1"),
        ({"tau": 0.1}, "is for games without a penalty"),
        ({"momentum": 0.5}, "has no use for the option momentum"),
        ({"step": 0.0}, "step must be"),
        (
            {"step": lambda t: np.nan if t == 1 else 0.1},
            "step must be a finite number > 0, got nan",
        ),
        ({"step": lambda t: -0.1 if t == 1 else 0.1}, "step must be a finite number > 0, got -0.1"),
        ({"initial": [1.0, 0.0, 0.0]}, "initial"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        nash_path(textbook_game(), **{"method": "mwu", "iterations": 5} | options)
