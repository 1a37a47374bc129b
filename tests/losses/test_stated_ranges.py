"""Options are taken exactly where their documentation says: the ends are tried, and beyond them."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from loss_examples import example_of
from loss_settings import configurations, options, outcome

from prefsim.losses.registry import loss_functions

LOSSES = loss_functions()
INTERVAL = re.compile(r"\bin ([\[(])([\w.]+), ([\w.]+)([\])])")
AT_LEAST = re.compile(r"(>=?) 0(?!\.?\w)")


def stated_range(loss: Callable[..., Any], option: str) -> tuple[str, float, float, str] | None:
    """Return the interval that the docstring states of an option, as "[", low, high, ")"."""
    found = re.search(
        rf"^(?:[\w]+, )*{option}(?:, \w+)*\n((?: +.*\n?)+)",
        inspect.getdoc(loss) or "",
        re.MULTILINE,
    )
    text = " ".join(found.group(1).split()) if found else ""
    interval, at_least = INTERVAL.search(text), AT_LEAST.search(text)
    if interval:
        opening, low, high, closing = interval.groups()
        # An end such as K is one of the data.
        if re.fullmatch(r"[\d.]+", low) and re.fullmatch(r"[\d.]+|inf", high):
            return opening, float(low), float(high), closing
    elif at_least:
        return "[" if at_least.group(1) == ">=" else "(", 0.0, math.inf, ")"
    return None


RANGES = {
    (name, option): found
    for name, loss in sorted(LOSSES.items())
    for option in options(loss)
    if (found := stated_range(loss, option)) is not None
}


def is_refused(loss: Callable[..., Any], option: str, value: float) -> bool:
    """Whether some setting of the other options refuses a value, with the option's name."""
    refusals = [
        outcome(loss, example_of(loss), **{**setting, option: value})[1]
        for setting in configurations(loss)
    ]
    return any(re.search(rf"\b{option}\b", refusal) for refusal in refusals)


def test_ranges_are_found():
    assert len(RANGES) > 80
    assert RANGES["exo_pair", "epsilon"] == ("(", 0.0, 0.5, ")")
    assert RANGES["kto", "undesirable_weight"] == ("[", 0.0, math.inf, ")")


@pytest.mark.parametrize(("name", "option"), RANGES)
def test_options_are_taken_where_stated(name, option):
    loss, (opening, low, high, closing) = LOSSES[name], RANGES[name, option]
    assert is_refused(loss, option, low) == (opening == "(")
    assert is_refused(loss, option, low - 1e-9)
    if math.isinf(high):
        assert is_refused(loss, option, math.inf) == (closing == ")")
        assert not is_refused(loss, option, low + 0.25)
    else:
        assert is_refused(loss, option, high) == (closing == ")")
        assert is_refused(loss, option, high + 1e-9)
        assert not is_refused(loss, option, np.nextafter(high, low))
    assert not is_refused(loss, option, low + 1e-6 * (1 + low))
