"""Gradients without their conflict: by hand, over a batch, at the edges."""

import numpy as np
import pytest
import torch

from prefsim.solvers.optimisers.gradient_alignment import aligned_gradient, without_conflict

MAIN, AUXILIARY = np.asarray([1.0, 0.0, 1.0]), np.asarray([-2.0, 1.0, 0.0])


def test_by_hand():
    np.testing.assert_allclose(without_conflict(AUXILIARY, MAIN), [-1.0, 1.0, 1.0], atol=1e-15)
    np.testing.assert_allclose(aligned_gradient(MAIN, AUXILIARY), [0.0, 1.0, 2.0], atol=1e-15)


def test_without_a_conflict_nothing_changes():
    np.testing.assert_array_equal(without_conflict(-AUXILIARY, MAIN), -AUXILIARY)
    np.testing.assert_array_equal(aligned_gradient(MAIN, -AUXILIARY), MAIN - AUXILIARY)
    np.testing.assert_array_equal(without_conflict(AUXILIARY, 0 * MAIN), AUXILIARY)


def test_each_row_is_by_itself_in_both_libraries():
    rng = np.random.default_rng(0)
    main, auxiliary = rng.standard_normal((2, 5, 4, 7))
    found = aligned_gradient(main, auxiliary)
    for place in np.ndindex(5, 4):
        alone = aligned_gradient(main[place], auxiliary[place])
        np.testing.assert_allclose(found[place], alone, rtol=1e-14)
    inner = np.sum(main * found, axis=-1)
    assert (inner >= np.sum(main**2, axis=-1) - 1e-12).all()
    tensors = aligned_gradient(torch.tensor(main), torch.tensor(auxiliary))
    np.testing.assert_allclose(tensors, found, rtol=1e-14)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="one shape, got auxiliary"):
        without_conflict(AUXILIARY[:2], MAIN)
