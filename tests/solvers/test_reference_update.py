"""References that follow the policy, in gradient descent: step by step, and in the limit."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import ReferenceUpdate, gradient_descent, optimal_policy
from prefsim.worlds import ContextualBandit

WORLD = ContextualBandit.random(2, 3, seed=0)
START, REFERENCE = TabularPolicy.random(2, 3, seed=1), TabularPolicy.random(2, 3, seed=2)
DATA = Comparisons.population(WORLD, TabularPolicy.uniform(2, 3), distinct=True)
dpo = functools.partial(losses.dpo, beta=0.5)
descend = functools.partial(gradient_descent, step=2.0)


@given(
    st.floats(0.01, 1.0),
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
)
def test_a_mixture_of_parameters(weight, reference, policy):
    update = ReferenceUpdate(weight)
    found = update.mixed(np.asarray(reference), np.asarray(policy))
    expected = [r + weight * (p - r) for r, p in zip(reference, policy, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    as_torch = update.mixed(torch.tensor(reference), torch.tensor(policy))
    np.testing.assert_allclose(as_torch.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("update", [ReferenceUpdate(0.6), ReferenceUpdate(0.25, 2)])
def test_step_by_step(update):
    result, path = descend(
        START,
        dpo,
        DATA,
        reference=REFERENCE,
        iterations=5,
        reference_update=update,
        record=lambda policy: policy.probs,
    )
    policy, reference = START, REFERENCE
    for step in range(1, 6):
        one, _ = descend(policy, dpo, DATA, reference=reference, iterations=1)
        assert result.history[step - 1, 0] == pytest.approx(one.history[0, 0], rel=1e-12)
        policy = one.policy
        np.testing.assert_allclose(path[step], policy.probs, rtol=1e-12)
        if step % update.every == 0:
            mixed = update.weight * policy.parameters + (1 - update.weight) * reference.parameters
            reference = reference.with_parameters(mixed)
    np.testing.assert_allclose(result.policy.probs, policy.probs, rtol=1e-12)
    np.testing.assert_allclose(result.reference.probs, reference.probs, rtol=1e-12)
    # What was given is not changed.
    np.testing.assert_array_equal(REFERENCE.probs, TabularPolicy.random(2, 3, seed=2).probs)


def test_a_hard_update_is_a_training_in_stages():
    hard = ReferenceUpdate(1.0, every=4)
    whole, _ = descend(START, dpo, DATA, reference=REFERENCE, iterations=12, reference_update=hard)
    policy, reference = START, REFERENCE
    for _ in range(3):
        stage, _ = descend(policy, dpo, DATA, reference=reference, iterations=4)
        policy = reference = stage.policy
    np.testing.assert_allclose(whole.policy.probs, policy.probs, rtol=1e-12)
    np.testing.assert_allclose(whole.reference.probs, policy.probs, rtol=1e-12)


def test_stages_that_converge_multiply_the_tilt():
    """Three of strength β are one of strength β/3."""
    uniform = TabularPolicy.uniform(2, 3)
    result, _ = gradient_descent(
        uniform,
        functools.partial(losses.dpo, beta=1.5),
        DATA,
        reference=uniform,
        step=4.0,
        iterations=600,
        reference_update=ReferenceUpdate(1.0, every=200),
    )
    best = optimal_policy(np.asarray(WORLD.reward), uniform.probs, beta=0.5)
    np.testing.assert_allclose(result.policy.probs, best, atol=1e-8)


def test_a_reference_that_is_never_due_stays():
    fixed, _ = descend(START, dpo, DATA, reference=REFERENCE, iterations=3)
    never, _ = descend(
        START,
        dpo,
        DATA,
        reference=REFERENCE,
        iterations=3,
        reference_update=ReferenceUpdate(1.0, 4),
    )
    np.testing.assert_array_equal(never.policy.probs, fixed.policy.probs)
    assert fixed.reference is REFERENCE
    np.testing.assert_array_equal(never.reference.parameters, REFERENCE.parameters)


def test_many_policies_at_once_move_each_its_own_reference():
    starts = TabularPolicy(np.stack([START.logits, 0.5 * START.logits]))
    update = ReferenceUpdate(0.5)
    options = {"reference": REFERENCE, "iterations": 3, "reference_update": update}
    both, _ = descend(starts, dpo, DATA, **options)
    for k in range(2):
        alone, _ = descend(TabularPolicy(starts.logits[k]), dpo, DATA, **options)
        np.testing.assert_allclose(both.policy.probs[k], alone.policy.probs, rtol=1e-12)
        np.testing.assert_allclose(both.reference.probs[k], alone.reference.probs, rtol=1e-12)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (ReferenceUpdate(0.0), r"reference_weight must lie in \(0.0, 1.0\], got 0.0"),
        (ReferenceUpdate(1.5), r"reference_weight must lie in \(0.0, 1.0\], got 1.5"),
        (ReferenceUpdate(0.5, 0), "reference_every must be an integer >= 1, got 0"),
        (ReferenceUpdate(0.5, 1.5), "reference_every must be an integer >= 1, got 1.5"),
    ],
)
def test_bad_updates(update, message):
    with pytest.raises(ValueError, match=message):
        descend(START, dpo, DATA, reference=REFERENCE, iterations=1, reference_update=update)


def test_a_reference_of_another_kind_cannot_follow():
    four, six = (LogLinearPolicy.from_features(np.ones((2, 3, d))) for d in (4, 6))
    for start, reference, kind in (
        (START, None, "TabularPolicy of 6"),
        (START, four, "TabularPolicy of 6"),
        (START, six, "TabularPolicy of 6"),
        (four, six, "LogLinearPolicy of 4"),
    ):
        with pytest.raises(ValueError, match=f"must be a {kind} parameters like it"):
            descend(
                start,
                dpo,
                DATA,
                reference=reference,
                iterations=1,
                reference_update=ReferenceUpdate(),
            )
