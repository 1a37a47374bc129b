"""From polynomials to structures and back, and what is no ratio of weighted model counts."""

import functools
from fractions import Fraction

import numpy as np
import pytest

from prefsim.logic import (
    Formula,
    PreferenceStructure,
    all_structures,
    atoms,
    decompile,
    log_count_ratio,
    named_structure,
    truth_values,
)

SIX = ("W", "W2", "L", "Rw", "Rw2", "Rl")


def count(formula, *probs):
    """The weighted model count as a polynomial."""
    total = 0
    for world, true in zip(truth_values(len(probs)), formula.table, strict=True):
        if true:
            weight = 1
            for holds, p in zip(world, probs, strict=True):
                weight = weight * (p if holds else 1 - p)
            total = total + weight
    return total


def compiled(structure):
    """The two polynomials of a structure."""
    parts = structure.numerator, structure.denominator
    return [functools.partial(count, part) for part in parts]


@pytest.mark.parametrize(
    ("name", "numerator", "denominator"),
    [
        ("CE", lambda w, r: w, lambda w, r: 1 - w),
        ("CEUnl", lambda w, r: w * (1 - r), lambda w, r: 1 - w * (1 - r)),
        ("CPO", lambda w, r: w, lambda w, r: r),
        ("ORPO", lambda w, r: w * (1 - r), lambda w, r: r * (1 - w)),
        ("unCPO", lambda w, r: 1 - r + r * w, lambda w, r: r * (1 - w)),
        ("cCPO", lambda w, r: w, lambda w, r: r * (1 - w)),
        ("cUNL", lambda w, r: w * (1 - r), lambda w, r: r),
        ("fUNL", lambda w, r: 1 - r, lambda w, r: r),
        ("cfUNL", lambda w, r: 1 - r, lambda w, r: r * (1 - w)),
        ("qfUNL", lambda w, r: 1 - r, lambda w, r: 1 - w),
    ],
)
def test_losses_of_pairs(name, numerator, denominator):
    assert decompile(numerator, denominator) == named_structure(name)


def test_dpo_and_its_neighbour():
    names = ("W", "L", "Rw", "Rl")
    dpo = decompile(lambda w, r, rw, rl: w * rl, lambda w, r, rw, rl: rw * r, names)
    assert dpo == named_structure("CPO").with_reference()
    # Without "the reference deems the rejected one valid", of worlds with one valid response.
    fewer = decompile(
        lambda w, r, rw, rl: w * (1 - r) * rl, lambda w, r, rw, rl: r * (1 - w) * rw, names
    )
    assert fewer == named_structure("ORPO").with_reference()


def test_dpop_needs_copies():
    found = decompile(
        lambda w, w2, r, rw, rw2, rl: w * w2 * rl, lambda w, w2, r, rw, rw2, rl: rw * rw2 * r, SIX
    )
    w, w2, r, rw, rw2, rl = atoms(*SIX)
    assert found.core == (rw & rw2 & r).implies(w & w2 & rl)
    assert found.given == (rw & rw2 & r) | (w & w2 & rl)
    assert found.additive == w & w2 & r & rw & rw2 & rl
    score = log_count_ratio(found, np.log([0.4, 0.4, 0.3, 0.5, 0.5, 0.4]))
    assert score == pytest.approx(-0.1586050302, abs=1e-10)


def test_there_and_back_for_every_pair_of_formulas_over_two_atoms():
    for structure in all_structures():
        if structure.has_score:
            assert decompile(*compiled(structure)) == structure


def test_there_and_back_over_four_atoms():
    rng = np.random.default_rng(5)
    names = ("W", "L", "Rw", "Rl")
    for _ in range(25):
        bits = rng.integers(1, 2**16, size=2)
        structure = PreferenceStructure(*(Formula(names, int(each)) for each in bits))
        assert decompile(*compiled(structure), names) == structure


@pytest.mark.parametrize(
    ("numerator", "message"),
    [
        (lambda w, r: w + r, r"numerator must be 0 or 1 at every vertex, got 2 where W = 1, L = 1"),
        (lambda w, r: 2 * w, r"0 or 1 at every vertex, got 2 where W = 1, L = 1"),
        (lambda w, r: Fraction(1, 2), "0 or 1 at every vertex, got 1/2"),
        (lambda w, r: -w, "0 or 1 at every vertex, got -1"),
        (lambda w, r: w * w, "numerator must be multilinear"),
        (lambda w, r: w**3 * (1 - r), "numerator must be multilinear"),
        (lambda w, r: w * (1 - w) + r, "numerator must be multilinear"),
        (lambda w, r: 0, "numerator must be positive somewhere, got 0 at every vertex"),
        (lambda w, r: w * (1 - w), "numerator must be positive somewhere"),
        (lambda w, r: 0.5 * w, "made of"),
        (lambda w, r: "w", "made of"),
        (3, "numerator must be a function"),
    ],
)
def test_what_is_no_count(numerator, message):
    with pytest.raises(ValueError, match=message):
        decompile(numerator, lambda w, r: r)
    other = message.replace("numerator", "denominator")
    with pytest.raises(ValueError, match=other):
        decompile(lambda w, r: w, numerator)
