"""Weighted model counts against exact arithmetic, where probabilities are near 0, near 1, or both.

The oracle is mpmath with as many digits as the numbers need: a count of probabilities of e^-1e4 is
told from 1 by its ten-thousandth decimal.
"""

import itertools

import array_api_strict
import mpmath
import numpy as np
import pytest
import torch

from prefsim.logic import Formula, atoms, log_weighted_count, log_world_weights, truth_values

# Nearly certain, likely, a coin, unlikely, and sequences of tens to thousands of tokens.
LOG_PROBS = (-1e-300, -1e-12, -1e-3, -0.5, -0.7, -3.0, -40.0, -750.0, -5000.0)
DIGITS = 40


def exact_log_count(formula, log_probs):
    """The logarithm of the count, by summing all worlds with more digits than any of them has."""
    with mpmath.workdps(5000):
        p = [mpmath.exp(mpmath.mpf(float(x))) for x in log_probs]
        total = mpmath.mpf(0)
        for world in itertools.compress(truth_values(len(p)), formula.table):
            weight = mpmath.mpf(1)
            for true, each in zip(world, p, strict=True):
                weight *= each if true else 1 - each
            total += weight
        value = mpmath.log(total)
    with mpmath.workdps(DIGITS):
        return float(+value)


@pytest.mark.parametrize("bits", range(1, 15))
def test_counts_have_all_their_digits(bits):
    formula = Formula(("W", "L"), bits)
    points = np.array(list(itertools.product(LOG_PROBS, repeat=2)))
    found = log_weighted_count(formula, points)
    expected = np.array([exact_log_count(formula, point) for point in points])
    # Relative to the count's own logarithm, however small; 1e-300 squared is no number any more.
    np.testing.assert_allclose(found, expected, rtol=4e-15, atol=1e-307)


def test_counts_of_more_atoms():
    rng = np.random.default_rng(0)
    for n_atoms in (1, 3, 4, 8):
        names = tuple("ABCDEFGH"[:n_atoms])
        point = -np.exp(rng.uniform(-12, 3, n_atoms))
        for _ in range(4):
            formula = Formula.from_table(names, rng.random(2**n_atoms) < rng.random())
            if formula.is_contradiction or formula.is_tautology:
                continue
            found = log_weighted_count(formula, point)
            assert found == pytest.approx(exact_log_count(formula, point), rel=1e-13)


def test_certainties():
    w, r = atoms("W", "L")
    zero = np.zeros(())
    certain, impossible = np.array([0.0, -np.inf]), np.array([-np.inf, -1.0])
    with np.errstate(all="raise"):
        assert log_weighted_count(w | ~w, certain) == zero
        assert log_weighted_count(w & ~w, certain) == -np.inf
        assert log_weighted_count(w & ~r, certain) == 0.0
        assert log_weighted_count(~w, certain) == -np.inf
        assert log_weighted_count(w & r, certain) == -np.inf
        assert log_weighted_count(w | r, impossible) == -1.0
    np.testing.assert_array_equal(log_world_weights(certain), [-np.inf, 0.0, -np.inf, -np.inf])


def test_weights_of_worlds_sum_to_one():
    log_probs = -np.random.default_rng(1).exponential(size=(5, 3))
    weights = np.exp(log_world_weights(log_probs))
    assert weights.shape == (5, 8)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-14)
    p = np.exp(log_probs)
    np.testing.assert_allclose(weights[:, 0], p.prod(axis=-1))
    np.testing.assert_allclose(weights[:, 1], p[:, 0] * p[:, 1] * (1 - p[:, 2]))


@pytest.mark.parametrize("bits", range(16))
def test_libraries_agree_over_leading_axes(bits):
    formula = Formula(("W", "L"), bits)
    log_probs = -np.random.default_rng(2).exponential(3.0, size=(2, 3, 2))
    expected = log_weighted_count(formula, log_probs)
    assert expected.shape == (2, 3)
    strict = log_weighted_count(formula, array_api_strict.asarray(log_probs))
    np.testing.assert_allclose(np.asarray(strict), expected, rtol=1e-14)
    tensor = log_weighted_count(formula, torch.as_tensor(log_probs))
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-14)
    one = log_weighted_count(formula, log_probs[1, 2])
    np.testing.assert_allclose(one, expected[1, 2], rtol=1e-14)


@pytest.mark.parametrize("bits", range(1, 15))
def test_slopes(bits):
    """Of count F in log p it is p (F if it is true − F if it is false) over the count."""
    formula = Formula(("W", "L"), bits)
    points = np.array(list(itertools.product((-1e-6, -0.3, -2.0, -1e4), repeat=2)))
    log_probs = torch.as_tensor(points).requires_grad_()
    log_weighted_count(formula, log_probs).sum().backward()
    assert log_probs.grad.isfinite().all()
    inner = points[(points > -10).all(axis=-1)]
    leaf = torch.as_tensor(inner).requires_grad_()
    log_weighted_count(formula, leaf).sum().backward()
    p, q = np.exp(inner).T, -np.expm1(inner).T
    table = formula.table.astype(float)
    count = table[0] * p[0] * p[1] + table[1] * p[0] * q[1] + table[2] * q[0] * p[1]
    count = count + table[3] * q[0] * q[1]
    for_w = (table[0] - table[2]) * p[1] + (table[1] - table[3]) * q[1]
    for_l = (table[0] - table[1]) * p[0] + (table[2] - table[3]) * q[0]
    np.testing.assert_allclose(leaf.grad[:, 0].numpy(), p[0] * for_w / count, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(leaf.grad[:, 1].numpy(), p[1] * for_l / count, rtol=1e-9, atol=1e-9)


def test_what_is_no_log_probability():
    w, _ = atoms("W", "L")
    with pytest.raises(ValueError, match="log_probs must be the logarithm of a probability"):
        log_weighted_count(w, [-1.0, 0.5])
    with pytest.raises(ValueError, match=r"last axis of 2, one entry for each atom \(W, L\)"):
        log_weighted_count(w, [-1.0, -1.0, -1.0])
    with pytest.raises(ValueError, match="last axis of 2"):
        log_weighted_count(w, -1.0)
    with pytest.raises(ValueError, match="log_probs must hold no NaN"):
        log_weighted_count(w, [np.nan, -1.0])
    with pytest.raises(TypeError, match="formula must be a Formula, got int"):
        log_weighted_count(3, [-1.0, -1.0])
    with pytest.raises(ValueError, match="last axis of one to 8 atoms"):
        log_world_weights(-1.0)
    with pytest.raises(ValueError, match="last axis of one to 8 atoms"):
        log_world_weights(np.full(9, -1.0))
