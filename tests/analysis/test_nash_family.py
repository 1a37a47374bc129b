"""The figure of the Nash family: its numbers are the solver's, and it says what it draws."""

import numpy as np
import pytest

from prefsim.analysis.nash_family import FAMILY, compare_methods, family_games
from prefsim.analysis.nash_figure import draw_comparison
from prefsim.solvers import solve_nash
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.worlds import PreferenceGame
from prefsim.worlds.ballots import synthetic_ballots


def test_every_different_update_is_compared():
    distinct = {id(update.apply) for update in UPDATES.values()}
    assert {id(UPDATES[name].apply) for name in FAMILY} == distinct - {id(UPDATES["mmd"].apply)}


def test_traces_are_the_solver_s_certificates():
    game = PreferenceGame.random(4, seed=1)
    (trace,) = compare_methods(
        {"one": game}, methods=["egpo"], tau=0.1, step=0.3, iterations=20, record=5
    )
    run = solve_nash(game, method="egpo", tau=0.1, step=0.3, max_iterations=20, tolerance=0.0)
    assert trace.iteration.tolist() == [0, 5, 10, 15, 20]
    assert trace.last[-1] == pytest.approx(float(run.exploitability))
    assert trace.average[-1] == pytest.approx(float(run.average_exploitability))


def test_games_of_each_kind():
    games = family_games(synthetic_ballots(), n=5, seed=3)
    assert [game.n_responses for game in games.values()] == [5, 5, 5, 4]
    assert games["transitive (Bradley–Terry)"].condorcet_winner() >= 0
    assert games["cyclic"].condorcet_winner() == -1
    assert not np.array_equal(
        games["cyclic"].preference, family_games(n=5, seed=4)["cyclic"].preference
    )


def test_the_figure_names_what_it_draws(tmp_path):
    traces = compare_methods(family_games(n=4), methods=["mwu", "egpo"], iterations=10)
    figure = draw_comparison(traces)
    figure.savefig(tmp_path / "family.png")
    axes = figure.axes
    assert [axis.get_title() for axis in axes[:4]] == list(family_games(n=4))
    assert "last" in axes[0].get_ylabel() and "average" in axes[4].get_ylabel()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        FAMILY["mwu"],
        FAMILY["egpo"],
    ]
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), np.maximum(traces[0].last, 1e-10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["lp"]}, "methods must be one of 'mwu'"),
        ({"tau": 0.0}, "tau must be"),
        ({"iterations": 0}, "iterations must be"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        compare_methods(family_games(n=3), **options)


def test_the_legend_has_the_line_style_of_the_lines():
    traces = compare_methods(
        family_games(n=4), methods=["mmd", "extragradient", "optimistic"], iterations=10
    )
    figure = draw_comparison(traces)
    drawn = [line.get_linestyle() for line in figure.axes[0].lines[:3]]
    assert (
        drawn
        == [handle.get_linestyle() for handle in figure.legends[0].legend_handles]
        == ["--", "--", "-"]
    )
