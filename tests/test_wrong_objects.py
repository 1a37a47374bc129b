"""Whatever comes to a function that solves, plays or draws: a value, or an error that names it.

The rooms of pure functions and of values have sweeps of their own (``test_wrong_types``).
"""

import inspect
import re
import warnings

import numpy as np
import pytest
import torch
from room_calls import CALLS
from wrong_types import NO_NUMBERS, STRANGE_OPTIONS, numbers_of, spoilt

from prefsim.solvers import ConvergenceWarning

OBJECTS = (5, "x", None, b"x", [1, 2], np.ones(3), torch.ones(2), {"a": 1}, object(), lambda x: x)
# What an argument is called where it is looked at.
OTHER_NAMES = {"game": "preference", "scores": "table"}
# A pair that was not judged.
NAN_IS_MISSING = {("win_rates", "preference")}
every_call = pytest.mark.parametrize("name", sorted(CALLS))


def refused(function, arguments, key, value):
    """Whether a value is refused by name; errors of other kinds escape."""
    try:
        function(**arguments | {key: value})
    except (ValueError, TypeError) as error:
        message = str(error)
    else:
        return False
    known = rf"\b({key}|{OTHER_NAMES.get(key, key)})\b"
    assert re.search(known, message), (key, value, message)
    return True


def may_be_none(function, key):
    parameter = inspect.signature(function).parameters.get(key)
    return parameter is None or parameter.default is None


@every_call
def test_what_holds_no_numbers_is_refused(name):
    function, arguments = CALLS[name]
    for key, array in arguments.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            continue
        for kind, spoil in NO_NUMBERS.items():
            if kind == "nothing" and (may_be_none(function, key) or "reference" in key):
                continue
            assert refused(function, arguments, key, spoil(array)), (key, kind)


@every_call
def test_nan_is_refused_or_seen(name):
    function, arguments = CALLS[name]
    for key, array in arguments.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            continue
        for place in (0, array.size - 1) if (name, key) not in NAN_IS_MISSING else ():
            with np.errstate(invalid="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                bad = {key: spoilt(array, place)}
                if not refused(function, arguments, key, bad[key]):
                    found = function(**arguments | bad)
                    assert any(np.isnan(each).any() for each in numbers_of(found)), (key, place)


@every_call
def test_a_shape_is_refused_by_the_name_of_an_argument(name):
    function, arguments = CALLS[name]
    parameters = {*inspect.signature(function).parameters, *OTHER_NAMES.values()}
    for key, array in arguments.items():
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            continue
        longer = np.concatenate([array, array[..., :1]], axis=-1)
        message = ""
        try:
            function(**arguments | {key: longer})
        except (ValueError, TypeError) as error:
            message = str(error)
        # What the library behind refuses has words of its own.
        named = re.match(r"(?!arrays |shapes )(\w+) must ", message)
        assert named is None or named[1] in parameters, (key, message)


@every_call
def test_objects_of_another_kind_are_refused(name):
    function, arguments = CALLS[name]
    for key, value in arguments.items():
        if isinstance(value, np.ndarray | float | int | str) or key == "loss":
            continue
        for other in OBJECTS:
            # Log-probabilities of zero are a reference, where that is said.
            none_is_fine = may_be_none(function, key) or key == "reference"
            if (other is None and none_is_fine) or (callable(value) and callable(other)):
                continue
            assert refused(function, arguments, key, other), (key, other)


@every_call
def test_numbers_are_numbers(name):
    function, arguments = CALLS[name]
    for key, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, float | int) or key == "seed":
            continue
        for strange in STRANGE_OPTIONS:
            if strange is not None and not (isinstance(strange, list) and key in ("n", "weight")):
                assert refused(function, arguments, key, strange), (key, strange)


@every_call
def test_boolean_options_are_booleans(name):
    function, arguments = CALLS[name]
    for key, value in arguments.items():
        for strange in ("false", 0, 1, None, np.array(True)) if isinstance(value, bool) else ():
            assert refused(function, arguments, key, strange), (key, strange)


@pytest.mark.parametrize(
    "name",
    [
        "exploitability",
        "duality_gap",
        "soft best_response",
        "expected_preference",
        "regularised_gap",
    ],
)
def test_certificates_are_of_games_and_distributions(name):
    function, arguments = CALLS[name]
    for key, value in arguments.items():
        for spoil in (lambda x: -x, lambda x: x * 2, np.log, lambda x: x * np.nan):
            if isinstance(value, np.ndarray):
                assert refused(function, arguments, key, spoil(value)), key


@pytest.mark.parametrize(
    "name", ["feature_differences", "difference_covariance", "estimate_covariance"]
)
def test_rows_of_other_prompts_are_not_read(name):
    from prefsim.data import Comparisons

    function, arguments = CALLS[name]
    for rows in (([4], [0], [1]), ([0], [3], [1]), ([0], [1], [3]), ([3], [1], [11])):
        with pytest.raises(ValueError, match=r"(prompt|chosen|rejected) must be >= 0 and < "):
            function(**arguments | {"data": Comparisons(*rows)})
