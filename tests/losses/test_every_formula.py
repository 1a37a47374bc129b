"""Formulas of losses and closed forms, swept: shapes, numbers of problems, libraries, precision."""

import re

import array_api_strict
import numpy as np
import pytest
import torch
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


# One law of prompts serves all problems.
SHARED = {"context_probs"}
# Of one list of numbers, of all axes together, or with the axis of the draws before all others.
OF_ONE_PROBLEM = {"guided_filter", "ordinal_logits", "revision_chain", "whitened"}


def leaves(value):
    """Yield the arrays that a value is made of; whether all have converged is one flag."""
    if isinstance(value, tuple):
        for each in value:
            yield from leaves(each)
    elif not isinstance(value, bool):
        yield np.asarray(value)


@pytest.mark.parametrize("name", sorted({name for name, _ in ARRAYS} - OF_ONE_PROBLEM))
def test_as_many_answers_as_problems(name):
    """Problems along a new first axis: several that are alike, and none."""
    function, arguments = FUNCTIONS[name], EXAMPLES[name]
    arrays = {key: value for key, value in arguments.items() if isinstance(value, np.ndarray)}
    alone = list(leaves(function(**arguments)))
    for problems in (5, 0):
        wide = {
            key: np.broadcast_to(each, (problems, *each.shape))
            for key, each in arrays.items()
            if key not in SHARED
        }
        found = list(leaves(function(**arguments | wide)))
        for several, one in zip(found, alone, strict=True):
            assert several.shape == (problems, *one.shape)
            if "seed" not in arguments:
                np.testing.assert_allclose(several, np.broadcast_to(one, several.shape), rtol=1e-12)


# What works in NumPy's doubles, and says so.
OF_NUMPY = {
    "best_of_n",
    "density_ratio_weights",
    "guided_filter",
    "iterative_dpo_step",
    "rejection_sample",
}
FORMS = {
    "single precision": lambda x: x.astype(np.float32),
    "tensors": lambda x: torch.tensor(x.copy()),
    "tensors of single precision": lambda x: torch.tensor(x.copy(), dtype=torch.float32),
    "the standard and no more": array_api_strict.asarray,
}


def formed(value, form):
    """Return an argument of which floating arrays, also those of a named tuple, have the form."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return FORMS[form](value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(formed(each, form) for each in value))
    return value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted({name for name, _ in ARRAYS}))
def test_values_are_of_the_library_and_the_precision_given(name, form):
    function, arguments = FUNCTIONS[name], EXAMPLES[name]
    given = {key: formed(value, form) for key, value in arguments.items()}
    example = next(each for each in given.values() if hasattr(each, "dtype"))
    value, expected = function(**given), function(**arguments)
    parts = value if isinstance(value, tuple) else (value,)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    for part, other in zip(parts, wanted, strict=True):
        if name in OF_NUMPY:
            assert isinstance(part, np.ndarray)
        elif np.asarray(other).dtype.kind == "f":
            assert part.dtype == example.dtype
            # NumPy's own sums of all are numbers.
            assert isinstance(part, type(example) | np.floating)
        tolerance = 1e-6 if "single" in form else 1e-14
        np.testing.assert_allclose(np.asarray(part), other, rtol=tolerance, atol=tolerance)
