"""Maxima over actions in tables large enough to be gone through by columns."""

import numpy as np
import pytest
from scipy import special

from prefsim._numpy_kernels import has_short_rows, range_of_rows
from prefsim.solvers import planning
from prefsim.solvers.planning.bellman import best_action, best_value

# The last of the blocks of the second is a single row.
SHAPES = [(20_000, 3), (8193, 4), (3, 700, 4), (4096, 32), (9000, 1), (4096, 33), (10, 3)]


def tied_values(shape):
    """Small integers, of which many are tied, as action values."""
    return np.random.default_rng(0).integers(0, 4, shape).astype(float)


def test_which_tables_have_short_rows():
    assert [has_short_rows(tied_values(shape)) for shape in SHAPES] == [True] * 5 + [False] * 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_first_of_the_best_actions(shape, dtype):
    table = tied_values(shape).astype(dtype)
    before = table.copy()
    best, index = best_action(table)
    np.testing.assert_array_equal(best, table.max(axis=-1))
    np.testing.assert_array_equal(index, table.argmax(axis=-1))
    np.testing.assert_array_equal(best_value(table), best)
    assert best.dtype == dtype
    np.testing.assert_array_equal(table, before)
    # Of a view whose entries are not beside each other as well.
    np.testing.assert_array_equal(best_action(table[::-1])[1], index[::-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_policies_and_soft_maxima(shape):
    table = tied_values(shape)
    best = table == table.max(axis=-1, keepdims=True)
    for layout in (table, np.asfortranarray(table)):
        np.testing.assert_array_equal(
            planning.greedy_policy(layout), best / best.sum(axis=-1, keepdims=True)
        )
    np.testing.assert_allclose(
        planning.soft_maximum(table, temperature=0.5),
        0.5 * special.logsumexp(table / 0.5, axis=-1),
        rtol=1e-14,
    )
    np.testing.assert_allclose(
        planning.soft_policy(table, temperature=0.5),
        special.softmax(table / 0.5, axis=-1),
        rtol=1e-13,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_near_ties_share_relative_to_the_best(shape):
    # In units of the tolerance, none of them near it.
    below = np.random.default_rng(1).choice([0.0, 0.4, 3.0], shape)
    scale = np.where(np.arange(shape[-2])[:, None] % 2 == 0, 1.0, 1e6)
    policy = planning.greedy_policy(scale * (-1.0 - 1e-9 * below))
    tied = below - below.min(axis=-1, keepdims=True) < 1.0
    np.testing.assert_array_equal(policy, tied / tied.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_range_of_rows(shape):
    table = np.random.default_rng(2).normal(size=shape)
    for layout in (table, np.asfortranarray(table)):
        low, high = range_of_rows(layout)
        np.testing.assert_array_equal(low, table.min(axis=-1))
        np.testing.assert_array_equal(high, table.max(axis=-1))
