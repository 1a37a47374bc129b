"""Ranked pairing: which pairs, in which order, with which strength."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.data.ranked_pairs import RANKED, ranked_comparisons, ranked_pairs
from prefsim.raters import pairwise_preference
from prefsim.raters.borda import borda_scores
from prefsim.testing import preference_games

REWARD = np.asarray([0.0, 2.0, -1.0, 1.0])  # ranks 1, 3, 0, 2
TABLE = pairwise_preference(REWARD)


@pytest.mark.parametrize(
    ("pairing", "expected"),
    [
        ("all", [(1, 3), (1, 0), (1, 2), (3, 0), (3, 2), (0, 2)]),
        ("adjacent", [(1, 3), (3, 0), (0, 2)]),
        ("extremes", [(1, 3), (1, 0), (1, 2)]),
        ("top_bottom", [(1, 2), (3, 0)]),
        ("best_worst", [(1, 2)]),
        ("first_round", [(1, 0), (3, 2)]),
        ("tournament", [(1, 0), (3, 2), (1, 3)]),
    ],
)
def test_pairs_of_each_mode(pairing, expected):
    found = ranked_pairs(TABLE, pairing=pairing)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected
    np.testing.assert_allclose(found.prob, [TABLE[i, j] for i, j in expected])
    np.testing.assert_allclose(found.strength, 2 * found.prob - 1, rtol=1e-14)


@given(preference_games(), st.sampled_from(RANKED))
def test_the_first_ranks_at_least_as_high_and_keeps_its_probability(game, pairing):
    table = game.preference
    n = table.shape[-1]
    if n < 2:
        return
    found, scores = ranked_pairs(table, pairing=pairing), borda_scores(table)
    assert (scores[found.first] >= scores[found.second]).all()
    assert (found.first != found.second).all()
    np.testing.assert_array_equal(found.prob, table[found.first, found.second])
    size = {
        "all": n * (n - 1) // 2,
        "adjacent": n - 1,
        "extremes": n - 1,
        "top_bottom": n // 2,
        "best_worst": 1,
    }
    assert found.first.size == size[pairing]


@given(preference_games(), st.sampled_from(["first_round", "tournament"]))
def test_matches_are_won_by_the_likelier(game, pairing):
    table = game.preference
    n = table.shape[-1]
    if n < 2:
        return
    found = ranked_pairs(table, pairing=pairing)
    np.testing.assert_array_equal(found.prob, table[found.first, found.second])
    assert (found.prob >= 0.5).all()
    if pairing == "first_round":
        both = np.stack([found.first, found.second], axis=-1)
        np.testing.assert_array_equal(np.sort(both), np.arange(n // 2 * 2).reshape(-1, 2))
        return
    assert found.first.size == n - 1
    # Everybody loses once but the winner of the last match.
    assert sorted([*found.second.tolist(), int(found.first[-1])]) == list(range(n))
    # Who has lost is out.
    for k, loser in enumerate(found.second):
        assert loser not in found.first[k + 1 :]


def test_a_tournament_of_five_and_a_tie():
    """The fifth has no opponent in two rounds; equals go to the earlier one."""
    found = ranked_pairs(
        pairwise_preference(np.asarray([0.0, 0.0, 1.0, 2.0, 3.0])), pairing="tournament"
    )
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [
        (0, 1),
        (3, 2),
        (3, 0),
        (4, 3),
    ]


@pytest.mark.parametrize("pairing", ["adjacent", "tournament"])
def test_leading_axes_are_independent(pairing):
    tables = np.stack([TABLE, pairwise_preference(-REWARD)])
    together = ranked_pairs(tables, pairing=pairing)
    for row, table in zip(zip(*together, strict=True), tables, strict=True):
        for found, alone in zip(row, ranked_pairs(table, pairing=pairing), strict=True):
            np.testing.assert_array_equal(found, alone)


def test_a_cycle_keeps_probabilities_below_one_half():
    cycle = np.asarray([[0.5, 0.9, 0.2], [0.1, 0.5, 0.9], [0.8, 0.1, 0.5]])
    assert (ranked_pairs(cycle).prob < 0.5).any()


def test_comparisons_name_the_responses():
    preference = np.stack([TABLE, TABLE])
    data = ranked_comparisons([0, 4], [[7, 5, 6, 5], [3, 2, 1, 0]], preference, pairing="extremes")
    np.testing.assert_array_equal(data.prompt, [0, 0, 0, 4, 4, 4])
    np.testing.assert_array_equal(data.chosen, [5, 5, 5, 2, 2, 2])
    np.testing.assert_array_equal(data.rejected, [5, 7, 6, 0, 3, 1])
    np.testing.assert_allclose(data.chosen_score, np.tile(TABLE[1, [3, 0, 2]], 2))
    np.testing.assert_allclose(data.chosen_score + data.rejected_score, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ranked_pairs(TABLE, pairing="some"), "pairing must be one of 'all'"),
        (lambda: ranked_pairs([[0.5]]), "N >= 2 responses, got shape"),
        (lambda: ranked_pairs([[0.5, 0.9], [0.9, 0.5]]), "P \\+ Pᵀ = 1"),
        (lambda: ranked_pairs([[0.5, 1.9], [-0.9, 0.5]]), r"preference must lie in \[0, 1\]"),
        (lambda: ranked_pairs([[0.5, np.nan], [np.nan, 0.5]]), "preference must be finite"),
        (
            lambda: ranked_comparisons([0], [[0, 1]], [TABLE]),
            r"must be \(n,\), \(n, N\) and \(n, N, N\)",
        ),
        (lambda: ranked_comparisons([0], [[0, -1, 2, 3]], [TABLE]), "responses must be >= 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
