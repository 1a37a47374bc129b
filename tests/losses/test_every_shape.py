"""Formulas of losses and closed forms: shapes that do not go together are refused by name."""

import re

import numpy as np
import pytest
from public_calls import EXAMPLES, FUNCTIONS
from wrong_types import OTHER_SHAPES

ROOMS = ("prefsim.losses.", "prefsim.solvers.closed_forms.")
ARRAYS = [
    (name, key)
    for name, arguments in EXAMPLES.items()
    for key, value in arguments.items()
    if FUNCTIONS[name].__module__.startswith(ROOMS) and isinstance(value, np.ndarray)
]


def refusal(function, arguments):
    """Return the text of an error of the one kind, empty where there is a value."""
    try:
        function(**arguments)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("name", "key"), ARRAYS)
def test_shapes_that_do_not_go_together_are_named(name, key):
    function, arguments = FUNCTIONS[name], EXAMPLES[name]
    for kind, change in OTHER_SHAPES.items():
        message = refusal(function, arguments | {key: change(arguments[key])})
        # Of two shapes that differ either may be the wrong one.
        assert not message or set(re.findall(r"\w+", message)) & set(arguments), (kind, message)
