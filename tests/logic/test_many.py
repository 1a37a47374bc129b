"""Many scores at once are the scores one by one."""

import array_api_strict
import numpy as np
import pytest
import torch

from prefsim.logic import (
    NAMED_STRUCTURES,
    PreferenceStructure,
    all_structures,
    atoms,
    log_count_ratio,
    log_count_ratios,
)

SCORED = [each for each in all_structures() if each.has_score]


def test_each_is_that_of_its_structure():
    log_probs = -np.random.default_rng(0).exponential(4.0, size=(3, len(SCORED), 2))
    found = log_count_ratios(SCORED, log_probs)
    assert found.shape == (3, 225)
    for place, structure in enumerate(SCORED):
        expected = log_count_ratio(structure, log_probs[:, place])
        np.testing.assert_allclose(found[:, place], expected, rtol=1e-12, atol=1e-13)
    same = log_count_ratios(SCORED, log_probs[:, :1])
    np.testing.assert_allclose(same[:, 7], log_count_ratio(SCORED[7], log_probs[:, 0]), rtol=1e-12)
    strict = log_count_ratios(SCORED, array_api_strict.asarray(log_probs))
    np.testing.assert_allclose(np.asarray(strict), found, rtol=1e-12, atol=1e-13)


def test_slopes_are_those_of_each_structure_also_where_all_worlds_count():
    points = -np.random.default_rng(1).exponential(4.0, size=(len(SCORED), 2))
    together = torch.as_tensor(points).requires_grad_()
    log_count_ratios(SCORED, together).sum().backward()
    for place, structure in enumerate(SCORED):
        alone = torch.as_tensor(points[place]).requires_grad_()
        score = log_count_ratio(structure, alone)
        if score.requires_grad:
            score.backward()
            np.testing.assert_allclose(together.grad[place], alone.grad, rtol=1e-9, atol=1e-12)


def test_what_is_refused():
    (other,) = atoms("A")
    point = np.full((1, 2), -1.0)
    with pytest.raises(ValueError, match=r"structures must be over the same atoms, .* got none"):
        log_count_ratios([], point)
    with pytest.raises(ValueError, match="structures must be over the same atoms"):
        log_count_ratios([NAMED_STRUCTURES["CE"], PreferenceStructure(other, ~other)], point)
    with pytest.raises(ValueError, match="one that counts against"):
        log_count_ratios([PreferenceStructure.from_labels("++nn")], point)
    with pytest.raises(ValueError, match=r"log_probs must have last axes \(1 or 225, 2\)"):
        log_count_ratios(SCORED, np.full((3, 2), -1.0))
    with pytest.raises(ValueError, match="last axes"):
        log_count_ratios(SCORED, np.full(2, -1.0))
    with pytest.raises(TypeError, match=r"structures\[0\] must be a PreferenceStructure"):
        log_count_ratios(["CE"], point)
