"""Gradient descent on some of the rows, and Adam: against torch's own, and on average."""

import functools

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.data import Comparisons, Feedback, Rankings
from prefsim.policies import NetworkPolicy, TabularPolicy
from prefsim.solvers import fit, gradient_descent, objective
from prefsim.worlds import ContextualBandit

WORLD, START = ContextualBandit.random(2, 3, seed=0), TabularPolicy.random(2, 3, seed=1)
DATA = Comparisons.sample(WORLD, 60, seed=2)
ipo = functools.partial(losses.ipo, tau=0.3)


@pytest.mark.parametrize(
    ("name", "torch_optimiser"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_optimisers_are_those_of_torch(name, torch_optimiser):
    result, path = gradient_descent(
        START,
        ipo,
        DATA,
        reference=START,
        optimiser=name,
        step=0.05,
        iterations=12,
        record=lambda policy: policy.logits,
    )
    logits = torch.tensor(START.logits, requires_grad=True)
    theirs = torch_optimiser([logits], lr=0.05)
    for step in range(12):
        np.testing.assert_allclose(path[step], logits.detach().numpy(), atol=1e-12)
        theirs.zero_grad()
        objective(TabularPolicy(logits), ipo, DATA, reference=START).backward()
        theirs.step()
    np.testing.assert_allclose(result.policy.logits, logits.detach().numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "data"),
    [
        (ipo, DATA),
        (ipo, DATA.relabelled(np.linspace(0.1, 0.9, 60))),
        (losses.nca, Rankings.sample(WORLD, 60, 2, seed=0)),
        (
            functools.partial(losses.kto, reference_point=0.1),
            Feedback([0] * 60, [0, 1, 2] * 20, [0.7] * 60),
        ),
    ],
)
def test_a_pass_over_the_data_is_the_whole_gradient(loss, data):
    """The mean over the batches of a pass, each at the start, is the gradient on all rows."""
    options = {"reference": START, "step": 1.0, "iterations": 1}
    whole, _ = gradient_descent(START, loss, data, **options)
    seen = []
    for batch in range(6):
        # A reader of so small steps that the pass stays where it began.
        path, _ = gradient_descent(
            START,
            loss,
            data,
            reference=START,
            step=1e-9,
            iterations=batch + 1,
            batch_size=10,
            seed=3,
        )
        seen.append(path.policy.parameters - START.parameters)
    moved = 1e9 * np.diff(seen, axis=0, prepend=np.zeros((1, 6)))
    assert np.ptp(moved, axis=0).max() > 1e-3
    np.testing.assert_allclose(
        moved.mean(axis=0), whole.policy.parameters - START.parameters, atol=1e-5
    )


def test_equal_rows_are_rows_of_a_batch():
    """Each counts as often as it stands there, however many there are."""
    many = Comparisons.sample(WORLD, 6000, seed=0)
    options = {"reference": START, "step": 0.5, "iterations": 1}
    whole, _ = gradient_descent(START, ipo, many, **options)
    one_batch, _ = gradient_descent(START, ipo, many, batch_size=6000, seed=0, **options)
    np.testing.assert_allclose(one_batch.policy.probs, whole.policy.probs, rtol=1e-12)
    first, _ = gradient_descent(START, ipo, many, batch_size=2000, seed=0, **options)
    assert np.abs(first.policy.probs - whole.policy.probs).max() > 1e-4


def test_small_batches_end_near_the_minimum():
    best = fit(START, ipo, DATA, reference=START)
    options = {"reference": START, "batch_size": 15, "iterations": 300}
    sgd, values = gradient_descent(
        START,
        ipo,
        DATA,
        step=0.05,
        seed=0,
        record=lambda policy: objective(policy, ipo, DATA, reference=START),
        record_every=100,
        **options,
    )
    assert values[0] > values[-1] and len(values) == 4
    assert sgd.value == pytest.approx(values[-1], rel=1e-12)
    assert best.value < sgd.value < best.value + 0.1 * (values[0] - best.value)
    again, _ = gradient_descent(START, ipo, DATA, step=0.05, seed=0, **options)
    np.testing.assert_array_equal(again.policy.probs, sgd.policy.probs)
    other, _ = gradient_descent(START, ipo, DATA, step=0.05, seed=1, **options)
    assert np.abs(other.policy.probs - sgd.policy.probs).max() > 1e-6


@pytest.mark.parametrize(
    "policy",
    [
        START,
        TabularPolicy(START.logits.astype(np.float32)),
        TabularPolicy(torch.tensor(START.logits)),
        NetworkPolicy.mlp(np.eye(2), 3, hidden=(4,), seed=0),
    ],
)
def test_what_is_recorded_is_a_policy_like_the_one_given(policy):
    result, path = gradient_descent(
        policy,
        ipo,
        DATA,
        reference=policy,
        optimiser="adam",
        batch_size=7,
        seed=0,
        step=0.1,
        iterations=3,
        record=lambda moved: moved,
    )
    assert len(path) == 4
    for moved in (*path, result.policy):
        assert type(moved) is type(policy)
        assert type(moved.parameters) is type(policy.parameters)
        assert moved.parameters.dtype == policy.parameters.dtype
    np.testing.assert_array_equal(path[-1].parameters, result.policy.parameters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 61, "seed": 0}, r"batch_size must be an integer in \[1, 60\], got 61"),
        ({"batch_size": 0, "seed": 0}, r"batch_size must be an integer in \[1, 60\], got 0"),
        ({"batch_size": 5}, "seed must be given with batch_size"),
        ({"optimiser": "lion"}, "optimiser must be one of 'sgd', 'adam', got 'lion'"),
        ({"iterations": 1.5}, "iterations must be an integer >= 1, got 1.5"),
        ({"record_every": 0}, "record_every must be an integer >= 1, got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        gradient_descent(
            START, ipo, DATA, reference=START, **({"step": 0.1, "iterations": 2} | options)
        )
