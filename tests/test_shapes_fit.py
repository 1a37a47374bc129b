"""Arrays that do not fit each other are named with their shapes, by whoever was asked."""

import itertools

import numpy as np
import pytest
from constructor_calls import MADE
from public_calls import EXAMPLES, FUNCTIONS
from room_calls import CALLS

from prefsim.solvers.planning.bellman import action_values, soft_maximum

VALID = MADE | CALLS | {name: (FUNCTIONS[name], given) for name, given in EXAMPLES.items()}
WRONG = {
    "a last axis that is longer": lambda x: np.concatenate([x, x[..., :1]], axis=-1),
    "a first axis that is longer": lambda x: np.concatenate([x, x[:1]]),
    "an axis less": lambda x: x[..., 0],
}
# Of the libraries, which know no argument by its name.
FOREIGN = ("operands", "core dimension", "shape mismatch", "size of tensor", "indices for array")


def arrays_of(given):
    return [name for name, value in given.items() if hasattr(value, "dtype") and np.ndim(value)]


def refusal_of(function, given):
    """What a call is refused with, if it is."""
    try:
        function(**given)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", sorted(VALID))
def test_shapes_that_do_not_fit_are_named(name):
    function, given = VALID[name]
    arrays = arrays_of(given)
    calls = [given | {a: change(given[a])} for a in arrays for change in WRONG.values()]
    # Two batches that are not of one size.
    calls += [
        given | {a: np.stack([given[a]] * 5), b: np.stack([given[b]] * 7)}
        for a, b in itertools.pairwise(arrays)
    ]
    for call in calls:
        refused = refusal_of(function, call)
        assert not any(words in refused for words in FOREIGN), refused


def test_backups_and_soft_values_say_which_shapes():
    moves = np.full((3, 2, 3), 1 / 3)
    with pytest.raises(ValueError, match=r"transitions \(3, 2, 3\), reward \(3, 2\), value \(4,\)"):
        action_values(moves, np.zeros((3, 2)), np.zeros(4), discount=0.9)
    with pytest.raises(ValueError, match=r"reward \(5, 2\)"):
        action_values(moves, np.zeros((5, 2)), np.zeros(3), discount=0.9)
    with pytest.raises(ValueError, match=r"q_value \(3, 2\), log_reference \(3, 3\)"):
        soft_maximum(np.zeros((3, 2)), temperature=1.0, log_reference=np.zeros((3, 3)))
