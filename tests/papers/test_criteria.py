"""A criterion says its bound once, and what it says is what it tests."""

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.papers import (
    at_least,
    at_most,
    below,
    between,
    falling,
    holds,
    near,
    rising,
)

NUMBERS = st.lists(st.floats(-100, 100), min_size=1, max_size=12)
BOUNDS = st.floats(-100, 100)


@given(NUMBERS, BOUNDS)
def test_the_text_says_what_is_tested(values, bound):
    bound = float(f"{bound:g}")
    most = at_most("m", values, bound, stated="chosen")
    said = float(re.fullmatch(r"at most (.+)", most.bound)[1])
    assert said == bound
    assert most.passed == (max(values) <= said)
    least = at_least("m", values, bound, stated="chosen")
    assert least.passed == (min(values) >= float(least.bound.removeprefix("at least ")))
    around = near("m", values, bound, within=3, stated="paper")
    centre, width = map(float, around.bound.split(" ± "))
    assert around.passed == all(abs(value - centre) <= width for value in values)


@given(NUMBERS, BOUNDS, st.floats(0, 10))
def test_a_band(values, low, width):
    criterion = between("m", values, low, low + width, stated="derived")
    assert criterion.passed == all(low <= value <= low + width for value in values)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6))
def test_rising_and_falling(values):
    strictly = all(a < b for a, b in itertools.pairwise(values))
    assert rising("m", values, stated="paper").passed == strictly
    assert falling("m", values[::-1], stated="paper").passed == strictly


def test_below_compares_each_with_its_own():
    criterion = below("m", [0.1, 0.4], [0.2, 0.3], stated="paper")
    assert not criterion.passed
    assert criterion.measured == "0.1 < 0.2, 0.4 ≥ 0.3"
    assert below("m", [0.1, 0.2], 0.3, stated="paper").passed
    assert not below("m", [0.1, 0.2], 0.3, by=0.15, stated="paper").passed
    assert "by more than 0.15" in below("m", [0.1], 0.3, by=0.15, stated="paper").bound


@pytest.mark.parametrize(
    "criterion",
    [
        at_most("m", [0.0, math.nan], 1, stated="paper"),
        at_least("m", [0.0, math.nan], -1, stated="paper"),
        between("m", [0.0, math.nan], -1, 1, stated="paper"),
        near("m", [0.0, math.nan], 0, within=1, stated="paper"),
        below("m", [0.0, math.nan], 1, stated="paper"),
        rising("m", [0.0, math.nan], stated="paper"),
        falling("m", [0.0, math.nan], stated="paper"),
    ],
)
def test_nan_never_passes(criterion):
    assert not criterion.passed
    assert "nan" in criterion.measured


@pytest.mark.parametrize(
    "make",
    [
        lambda: at_most("m", [], 1, stated="paper"),
        lambda: below("m", [], [], stated="paper"),
        lambda: near("m", [], 1, within=1, stated="paper"),
        lambda: rising("m", [1.0], stated="paper"),
        lambda: falling("m", [1.0], stated="paper"),
        lambda: holds("m", [], "x", stated="paper"),
    ],
)
def test_nothing_measured_is_refused(make):
    with pytest.raises(ValueError, match="criterion 'm' must be given at least"):
        make()


def test_where_the_number_comes_from_must_be_said():
    with pytest.raises(ValueError, match="stated of criterion 'm' must be one of"):
        at_most("m", 0.0, 1, stated="page")


def test_statements_are_counted():
    assert holds("m", [True, True], "x", stated="paper")[3:5] == ("2 of 2", True)
    assert holds("m", iter([True, False]), "x", stated="paper")[3:5] == ("1 of 2", False)


def test_as_many_digits_are_shown_as_are_compared():
    criterion = near("m", 2.9762985, 2.976298, within=1e-6, stated="paper")
    assert criterion.bound == "2.976298 ± 1e-06"
    assert criterion.measured == "2.9762985"
    assert criterion.passed


def test_many_numbers_are_shown_by_their_range():
    assert at_most("m", range(9), 10, stated="chosen").measured == "0 to 8 (9 numbers)"
    assert at_most("m", range(3), 10, stated="chosen").measured == "0, 1, 2"
