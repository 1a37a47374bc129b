"""The delivery task.

The reference values of its board, what each move counts, random boards, and bad boards.
"""

import numpy as np
import pytest

from prefsim.solvers.planning import policy_evaluation, value_iteration
from prefsim.worlds.delivery import (
    CELLS,
    DELIVERY_FEATURES,
    DELIVERY_WEIGHTS,
    LETTERS,
    delivery_task,
    random_delivery_task,
)
from prefsim.worlds.grid import GRID_MOVES

UP, DOWN, LEFT, RIGHT = range(4)
CODES = {0: ".", 2: "h", 3: "s", 4: "c", 5: "x", 6: "~", 7: "G", 10: "C"}
CODED = (
    "0 0 5 0 0 0 0 0 0 0 | 0 0 0 0 4 0 0 0 0 6 | 0 0 3 0 0 0 0 6 6 6 | 4 0 5 0 2 3 3 6 6 0 | 6 6 0"
    " 0 0 0 0 0 0 0 |6 0 4 0 0 0 0 0 0 0 | 6 2 0 3 5 2 0 0 0 0 | 0 4 0 0 0 0 0 10 6 6 | 0 0 5 0 0 0"
    " 0 6 6 7 | 0 0 0 0 0 0 5 0 0 4"
)


@pytest.fixture(scope="module")
def task():
    return delivery_task()


def test_the_board_is_the_authors(task):
    rows = [[CODES[int(code)] for code in row.split()] for row in CODED.split("|")]
    assert [[LETTERS[i] for i in row] for row in task.cells] == rows


def test_reference_values(task):
    plan = value_iteration(task.mdp)
    value = np.asarray(plan.value).reshape(10, 10)
    assert [value[cell] for cell in ((0, 0), (3, 3), (6, 6), (9, 0), (9, 8))] == [
        34,
        39,
        45,
        41,
        50,
    ]
    assert int((task.mdp.start_probs > 0).sum()) == 92
    assert plan.value @ task.mdp.start_probs == pytest.approx(41.532609, abs=5e-7)
    uniform = policy_evaluation(task.mdp, np.full((100, 4), 0.25)).value @ task.mdp.start_probs
    # Of an exact linear solve; sweeps that stop early end a few units in the sixth digit above.
    assert uniform == pytest.approx(-73.9245793, abs=5e-8)


def test_the_reward_is_linear_in_the_features(task):
    np.testing.assert_array_equal(task.features @ task.weights, task.mdp.reward)
    np.testing.assert_array_equal(task.weights, DELIVERY_WEIGHTS)


@pytest.mark.parametrize(
    ("cell", "action", "counted"),
    [
        ((0, 0), RIGHT, {"gas"}),
        ((0, 1), RIGHT, {"gas", "roadblock"}),
        ((1, 3), RIGHT, {"gas", "coin"}),
        ((1, 8), RIGHT, {"mud"}),
        ((7, 6), RIGHT, {"mud", "coin"}),
        ((8, 8), RIGHT, {"goal"}),
        ((1, 2), DOWN, {"sheep"}),
        ((0, 0), UP, {"gas"}),  # off the board
        ((3, 3), RIGHT, {"gas"}),  # a house
        ((3, 0), LEFT, {"gas"}),  # staying on a coin does not collect it again
        ((0, 2), UP, {"gas"}),  # nor does staying on a roadblock cost again
        ((4, 0), LEFT, {"mud"}),
        ((6, 0), RIGHT, {"mud"}),  # from mud against a house
        ((8, 9), UP, set()),  # the goal ends the episode
        ((2, 2), UP, set()),
    ],
)
def test_features_of_a_move(task, cell, action, counted):
    features = task.features[cell[0] * 10 + cell[1], action]
    assert {
        name for name, count in zip(DELIVERY_FEATURES, features, strict=True) if count
    } == counted
    assert set(features) <= {0.0, 1.0}


def test_moves_and_ends(task):
    state = 3 * 10 + 3
    successor = np.argmax(task.mdp.transitions[state], axis=-1)
    expected = [state + 10 * row + column for row, column in GRID_MOVES]
    expected[RIGHT] = state  # a house
    np.testing.assert_array_equal(successor, expected)
    ended = np.isin(task.cells, [LETTERS.index(letter) for letter in "sGh"]).reshape(-1)
    np.testing.assert_array_equal(task.mdp.terminal, ended)


def test_random_boards():
    one, two = (random_delivery_task(5, 6, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.cells, two.cells)
    np.testing.assert_array_equal(one.weights, two.weights)
    for seed in range(40):
        task = random_delivery_task(4, 5, seed=seed)
        assert (task.cells == LETTERS.index("G")).sum() == 1
        np.testing.assert_allclose(task.features @ task.weights, task.mdp.reward, rtol=1e-12)
        assert task.mdp.discount == 0.999
    seen = np.unique([random_delivery_task(5, 5, seed=seed).cells for seed in range(40)])
    assert {LETTERS[i] for i in seen} == set(CELLS) - {"h", "C"}


@pytest.mark.parametrize(
    ("board", "message"),
    [
        (". . G\n. .", r"rectangular with at least one cell, got rows of \[2, 3\] cells"),
        ("", "rectangular"),
        (". ?\n. G", r"must be one of \. c x .*, got '\?' in row 0, column 1"),
    ],
)
def test_bad_boards(board, message):
    with pytest.raises(ValueError, match=message):
        delivery_task(board)


def test_bad_options():
    with pytest.raises(ValueError, match=r"weights must have trailing shape \(6\)"):
        delivery_task(weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="weights must be finite"):
        delivery_task(weights=[np.nan] * 6)
    with pytest.raises(ValueError, match="discount"):
        delivery_task(discount=1.5)
    with pytest.raises(ValueError, match="rows must be an integer >= 2"):
        random_delivery_task(1, 5, seed=0)
    with pytest.raises(ValueError, match="reach"):
        delivery_task("G h .")  # undiscounted, and the last cell never ends
