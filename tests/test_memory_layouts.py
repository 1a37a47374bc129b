"""Numbers count, not how they lie in memory: in columns, strided, reversed, bytes swapped.

Tables from files, frames and transpositions come in all of these.
"""

import warnings

import numpy as np
import pytest
import room_calls
from constructor_calls import MADE
from loss_examples import example_of
from public_calls import EXAMPLES, FUNCTIONS
from wrong_types import numbers_of

from prefsim.containers import map_fields
from prefsim.losses.registry import loss_functions
from prefsim.solvers import ConvergenceWarning, planning, solve_nash
from prefsim.solvers.games.nash import METHODS
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.solvers.games.nash_options import StepSizeWarning
from prefsim.worlds import PreferenceGame, TabularMDP

CALLS = (
    room_calls.CALLS | MADE | {name: (FUNCTIONS[name], given) for name, given in EXAMPLES.items()}
)


def strided(x):
    """Return the numbers as every second one of a table."""
    wide = np.repeat(x, 2, axis=-1)
    return wide[..., ::2]


def backwards(x):
    """Return the numbers as a table read from its end."""
    return np.ascontiguousarray(np.flip(x))[(slice(None, None, -1),) * x.ndim]


def read_only(x):
    kept = x.copy()
    kept.setflags(write=False)
    return kept


def swapped(x):
    """Return the numbers in the other byte order, as old file formats have them."""
    return x.astype(x.dtype.newbyteorder("S"))


def long(x):
    """Return numbers in more digits than linear algebra has."""
    return x.astype(np.longdouble) if x.dtype.kind == "f" else x


def unaligned(x):
    """Return the numbers from the second byte of a buffer on."""
    buffer = np.frombuffer(b"\0" + x.tobytes(), dtype=np.uint8)
    return buffer[1:].view(x.dtype).reshape(x.shape)


LAYOUTS = {
    "columns first": np.asfortranarray,
    "strided": strided,
    "backwards": backwards,
    "read only": read_only,
    "byte order": swapped,
    "long": long,
    "unaligned": unaligned,
}


def laid_out(value, layout):
    return layout(value) if isinstance(value, np.ndarray) and value.ndim > 0 else value


def numbers_in(value):
    """Return all numbers of a value; of data, those of its columns."""
    found = list(numbers_of(value))
    if found or callable(value):
        return found
    columns = (getattr(value, name) for name in dir(value) if not name.startswith("_"))
    return [each for each in columns if isinstance(each, np.ndarray)]


def same(found, expected):
    found, expected = numbers_in(found), numbers_in(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_sees_the_numbers_alone(name):
    function, given = CALLS[name]
    if not any(isinstance(value, np.ndarray) and value.ndim > 0 for value in given.values()):
        pytest.skip("takes no table")
    with warnings.catch_warnings():
        for expected_here in (ConvergenceWarning, StepSizeWarning):
            warnings.simplefilter("ignore", expected_here)
        expected = function(**given)
        assert callable(expected) or numbers_in(expected)
        for layout in LAYOUTS.values():
            same(function(**{key: laid_out(each, layout) for key, each in given.items()}), expected)


@pytest.mark.parametrize("name", sorted(loss_functions()))
def test_a_loss_sees_the_numbers_alone(name):
    loss = loss_functions()[name]
    batch = map_fields(example_of(loss), lambda column: np.stack([column, column[::-1]]))
    expected = loss(batch)
    for layout in LAYOUTS.values():
        found = loss(map_fields(batch, layout))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


# Ties, which exact methods leave to another branch, and a size that batches go through by columns.
TIED = np.array(PreferenceGame.random(6, seed=3).preference)
TIED[5], TIED[:, 5] = TIED[0], TIED[:, 0]
TIED[[0, 5], [5, 0]] = TIED[5, 5] = 0.5
GAMES = {
    "random": np.asarray(PreferenceGame.random(6, seed=0).preference),
    "tied": TIED,
    "batch": np.stack([TIED, np.asarray(PreferenceGame.random(6, seed=1).preference)]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("method", METHODS)
def test_a_game_is_its_numbers(method, game, layout):
    needs = method in UPDATES and UPDATES[method].penalty in ("needed", "proximal")
    options = {"tau": 0.2} if needs or method == "regularised" else {}
    if method in UPDATES:
        options |= {"max_iterations": 20, "tolerance": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = solve_nash(GAMES[game], method=method, **options)
        found = solve_nash(LAYOUTS[layout](GAMES[game]), method=method, **options)
    np.testing.assert_allclose(found.policy, expected.policy, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_process_is_its_numbers(layout):
    mdp = TabularMDP.random(20, 4, discount=0.9, seed=0, batch_shape=(60,))
    tables = np.asarray(mdp.transitions), np.asarray(mdp.reward)
    lying = TabularMDP(*map(LAYOUTS[layout], tables), discount=0.9)
    for planner in (planning.modified_policy_iteration, planning.value_iteration):
        expected, found = planner(mdp), planner(lying)
        np.testing.assert_allclose(found.value, expected.value, rtol=1e-9)
        np.testing.assert_allclose(found.policy, expected.policy, atol=1e-12)
