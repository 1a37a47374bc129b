"""The words that claims are written in: what they measure, and that nothing wrong is hidden."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.papers import (
    Verdict,
    above,
    apart,
    claim,
    claims_of,
    falls,
    outside,
    rises,
    worst,
)
from prefsim.papers.checking import check_claim

NUMBERS = st.floats(-1e6, 1e6)
LISTS = st.lists(NUMBERS, min_size=2, max_size=6)


@given(LISTS, NUMBERS)
def test_apart_is_the_largest_difference(values, stated):
    verdict = apart(values, stated)
    assert verdict == (max(abs(x - stated) for x in values), "", None)
    relative = apart(values, stated, relative=True).error
    assert relative == pytest.approx(verdict.error / (1 + abs(stated)), rel=1e-12)
    assert apart(values, stated, scale=2.0).error == pytest.approx(verdict.error / 2, rel=1e-12)


@given(LISTS, NUMBERS)
def test_above_is_the_largest_excess(values, larger):
    verdict = above(values, larger)
    assert verdict.error == max(0.0, max(values) - larger)
    if min(values) >= 0 and larger > 1e-15:
        assert verdict.used == pytest.approx(max(values) / larger)
    else:
        assert verdict.used is None
    assert above(1e-16, 1e-40).used is None


@given(LISTS)
def test_rises_and_falls_are_mirror_images(values):
    steps = np.diff(values)
    assert falls(values).error == max(0.0, steps.max())
    assert rises(values).error == max(0.0, -steps.min())
    assert rises(sorted(values)).error == 0
    assert falls(sorted(values, reverse=True)).error == 0


def test_outside_a_band():
    assert outside([0.0, 0.5, 1.0], 0.0, 1.0).error == 0
    assert outside([-0.25, 0.5], 0.0, 1.0).error == 0.25
    assert outside(3.0, 0.0, 1.0).error == 2


@pytest.mark.parametrize(
    "measure",
    [
        lambda x: apart(x, 0.0),
        lambda x: apart(0.0, x),
        lambda x: above(x, 0.0),
        lambda x: above(0.0, x),
        lambda x: outside(x, -1.0, 1.0),
        falls,
        rises,
        lambda x: worst(0.5, apart(x, 0.0)),
        lambda x: worst(apart(x, 0.0), 0.5),
        lambda x: worst(math.nan, 0.5),
    ],
)
def test_nan_is_never_hidden(measure):
    """``max(0.0, nan)`` is 0.0: a measure that used it would call NaN true."""
    assert math.isnan(measure([0.0, math.nan, 0.0]).error)


@pytest.mark.parametrize(
    "measure", [lambda x: apart(x, 0.0), lambda x: above(x, 0.0), lambda x: outside(x, 0, 1)]
)
def test_nothing_to_compare_is_refused(measure):
    with pytest.raises(ValueError, match="must compare at least one number, got none"):
        measure([])


def test_one_value_neither_rises_nor_falls():
    for measure in (rises, falls):
        with pytest.raises(ValueError, match="must compare at least one number, got none"):
            measure([1.0])
    with pytest.raises(ValueError, match="at least one part, got none"):
        worst()


def test_infinity_is_infinitely_wrong():
    assert apart(math.inf, 1.0).error == math.inf
    assert above(math.inf, 1.0).error == math.inf


def test_tensors_are_measured_as_arrays():
    tensor = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert apart(tensor, np.array([1.0, 2.5])).error == 0.5
    assert above(tensor, 1.0).error == 1


def test_the_worst_part_speaks():
    verdict = worst(apart(1.0, 1.25, detail="ends"), above(1.0, 4.0, detail="bound"), 0.125)
    assert verdict == (0.25, "ends; bound", 0.25)
    assert worst(verdict, detail="both").detail == "both"


def test_a_claim_is_a_function():
    @claim(
        "c",
        "inequality",
        source="eq. 1",
        stated="paper",
        given={"x": st.floats(0, 1), "shift": st.just(0.0)},
        breaks={"shift": st.floats(0.5, 1)},
        tolerance=1e-9,
        examples=7,
    )
    def stays_below_one(x, shift):
        """A number x
        is at most one."""
        return above(x + shift, 1.0)

    assert stays_below_one(0.5, 0.0) == Verdict(0.0, "", 0.5)
    (made,) = stays_below_one.claims
    assert made.statement == "A number x is at most one."
    assert made.dropped == (("shift",),)
    assert made.examples == 7
    result = check_claim(made, examples=50)
    assert result.holds
    assert result.examples == 7
    assert result.counterexample_found
    assert "'shift'" in result.counterexample


def test_every_dropped_assumption_must_break_the_claim():
    def below(x, shift, scale):
        """Small."""
        return above(scale * x + shift, 1.0)

    drawn = {"x": st.floats(0, 1), "shift": st.just(0.0), "scale": st.just(1.0)}
    options = {"source": "eq. 1", "stated": "paper", "given": drawn}
    both = claim(
        "c", "inequality", breaks=({"shift": st.just(2.0)}, {"scale": st.just(9.0)}), **options
    )
    (good,) = both(below).claims
    assert check_claim(good, examples=20).holds
    one = claim(
        "d", "inequality", breaks=({"shift": st.just(2.0)}, {"scale": st.just(0.5)}), **options
    )
    bad = one(below).claims[-1]
    result = check_claim(bad, examples=20)
    assert not result.holds
    assert result.counterexample_found is False
    assert "drop an assumption (scale drawn otherwise)" in result.detail


def test_one_check_serves_several_claims():
    def agrees(power, x):
        """x^p is x^p."""
        return apart(x**power, x**power)

    for power in (1, 2):
        given_ = {"power": st.just(power), "x": st.floats(0, 1)}
        claim(f"c{power}", "identity", source="eq. 1", stated="derived", given=given_)(agrees)
    assert [made.id for made in agrees.claims] == ["c1", "c2"]


def test_parameters_that_depend_on_each_other():
    sizes = st.integers(1, 4).flatmap(
        lambda n: st.fixed_dictionaries(
            {"x": st.lists(st.floats(0, 1), min_size=n, max_size=n), "n": st.just(n)}
        )
    )

    @claim("c", "identity", source="eq. 1", stated="derived", given=sizes, breaks={"n": st.just(9)})
    def has_its_size(x, n):
        """A list of n has n."""
        return apart(len(x), n)

    assert check_claim(has_its_size.claims[0], examples=20).holds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "guess"}, "kind of claim 'c' must be one of"),
        ({"stated": "page"}, "stated of claim 'c' must be one of 'paper', 'derived', 'chosen'"),
        ({"tolerance": -1.0}, "tolerance of claim 'c' must be a finite number >= 0"),
        ({"examples": 0}, "examples of claim 'c' must be an integer >= 1, got 0"),
        (
            {"given": {"y": st.just(1.0)}},
            "given of claim 'c' must draw all of the parameters x, got y",
        ),
        ({"given": {}}, "given of claim 'c' must draw all of the parameters x, got nothing"),
        (
            {"breaks": {"z": st.just(1.0)}},
            "breaks of claim 'c' must draw some of the parameters x, got z",
        ),
        ({"breaks": {}}, "breaks of claim 'c' must draw some of the parameters x, got nothing"),
    ],
)
def test_a_wrong_claim_is_refused_where_it_is_written(changes, message):
    options = {
        "kind": "identity",
        "source": "s",
        "stated": "paper",
        "given": {"x": st.floats(0, 1)},
    }
    with pytest.raises(ValueError, match=message):

        @claim("c", **{**options, **changes})
        def agrees(x):
            """x is x."""
            return apart(x, x)


def test_a_claim_must_say_what_it_claims():
    with pytest.raises(ValueError, match="claim 'c' must state itself in the docstring of silent"):

        @claim("c", "identity", source="s", stated="paper", given={"x": st.floats(0, 1)})
        def silent(x):
            return apart(x, x)


def test_claims_of_a_module_are_its_own(fake_papers):
    import importlib

    fake_papers("p")
    text = "from paper_repros.direct.p.claims import agrees_with_itself\n"
    fake_papers("q", claims=text)
    module = importlib.import_module("paper_repros.direct.q.claims")
    assert module.agrees_with_itself.__module__ == "paper_repros.direct.p.claims"
    assert [made.id for made in claims_of(module)] == ["bound"]
