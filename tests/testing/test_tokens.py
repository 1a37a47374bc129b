"""The strategies for token trees and data keep their word, and carry a property worth having."""

import functools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses, testing
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import objective


@given(st.data())
def test_token_trees_and_policies(data):
    tree = data.draw(testing.token_trees())
    policy = data.draw(testing.token_tree_policies(tree))
    np.testing.assert_allclose(policy.probs.sum(-1), 1.0, rtol=1e-12)
    assert np.isfinite(policy.log_probs).all()
    assert tree.reward.shape == (tree.n_contexts, tree.n_sequences)


@given(st.data())
def test_reversing_every_comparison_and_its_label_changes_no_objective(data):
    world, reference = data.draw(testing.bandits_with_reference())
    policy = data.draw(testing.policies(world.n_contexts, world.n_responses))
    rows = data.draw(testing.comparisons(world))
    reversed_rows = Comparisons(rows.prompt, rows.rejected, rows.chosen, 1 - rows.prob, rows.weight)
    for loss in (losses.dpo, losses.ipo, losses.simpo):
        values = [
            objective(policy, loss, part, reference=reference) for part in (rows, reversed_rows)
        ]
        np.testing.assert_allclose(*values, rtol=1e-10, atol=1e-12)


@given(st.data())
def test_hard_labels_and_feedback(data):
    world, reference = data.draw(testing.bandits_with_reference())
    assert (data.draw(testing.comparisons(world, hard=True)).prob == 1).all()
    rows = data.draw(testing.feedback(world))
    value = objective(
        reference, functools.partial(losses.kto, reference_point=0.0), rows, reference=reference
    )
    np.testing.assert_allclose(
        value, rows.weight.sum() / 2, rtol=1e-12
    )  # at the reference every completion is worth one half


def test_strategies_shrink_to_something_plain():
    from hypothesis import find

    assert find(testing.token_trees(), lambda tree: True).n_sequences == 2
    assert isinstance(find(testing.policies(1, 2), lambda policy: True), TabularPolicy)
