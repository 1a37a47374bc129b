"""What fit, gradient_descent and objective are given, and what they refuse."""

import functools

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.data import Comparisons, Feedback
from prefsim.policies import LogLinearPolicy, NetworkPolicy, TabularPolicy
from prefsim.solvers import FitResult, fit, gradient_descent, objective

UNIFORM, ONE = TabularPolicy.uniform(1, 3), Comparisons([0, 0], [0, 1], [1, 2])


def descend(*arguments, **options):
    """Follow two steps of gradient descent."""
    return gradient_descent(*arguments, step=0.1, iterations=2, **options)


CALLS = (fit, descend, objective)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("loss", [losses.dpo, functools.partial(losses.kto, reference_point=0.1)])
def test_a_loss_that_reads_the_reference_is_told_which(call, loss):
    data = ONE if loss is losses.dpo else Feedback([0, 0], [0, 0], [1.0, 0.0])
    with pytest.raises(ValueError, match=r"reads the reference, and none was given"):
        call(UNIFORM, loss, data)


@pytest.mark.parametrize("call", CALLS)
def test_none_is_a_reference_of_zeros(call):
    ipo = functools.partial(losses.ipo, tau=0.5)
    call(UNIFORM, ipo, ONE, reference=None)
    # A loss that does without needs no word about it.
    call(
        UNIFORM,
        functools.partial(losses.sft, reduction="sum"),
        Comparisons([0] * 3, [0, 1, 2], [1, 2, 0]),
    )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        (UNIFORM.probs, TypeError, "must be a policy .* or None, got ndarray; TabularPolicy"),
        ("start", TypeError, "must be a policy .* or None, got str"),
        (TabularPolicy.uniform(1, 4), ValueError, "1 prompts and 3 responses, got 1 and 4"),
        (TabularPolicy.uniform(2, 3), ValueError, "1 prompts and 3 responses, got 2 and 3"),
    ],
)
def test_what_is_no_reference_of_the_policy(call, reference, error, message):
    with pytest.raises(error, match=message):
        call(UNIFORM, losses.ipo, ONE, reference=reference)


def test_a_reference_of_another_batch():
    policies = TabularPolicy(np.zeros((2, 1, 3)))
    with pytest.raises(ValueError, match=r"batch shape \(2,\), got \(3,\)"):
        fit(policies, losses.ipo, ONE, reference=TabularPolicy(np.zeros((3, 1, 3))))


def test_a_loss_goes_by_its_name():
    both = ("ipo", losses.ipo)
    by_name, itself = (fit(UNIFORM, loss, ONE, reference=UNIFORM) for loss in both)
    np.testing.assert_array_equal(by_name.policy.probs, itself.policy.probs)
    by_name, itself = (descend(UNIFORM, loss, ONE, reference=UNIFORM)[0] for loss in both)
    np.testing.assert_array_equal(by_name.policy.probs, itself.policy.probs)
    by_name, itself = (objective(UNIFORM, loss, ONE, reference=None) for loss in both)
    assert by_name == itself
    thumbs = Feedback([0, 0], [0, 1], [1.0, 0.0])
    moved, _ = descend(UNIFORM, "running_bco", thumbs, reference=UNIFORM)
    assert isinstance(moved.loss, losses.RunningLoss)
    for call in CALLS:
        with pytest.raises(ValueError, match="loss 'ippo' is not known; did you mean"):
            call(UNIFORM, "ippo", ONE, reference=UNIFORM)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("data", [{"prompt": [0]}, (0, 0, 1), [1, 2], None, "rows.jsonl"])
def test_what_is_no_data(call, data):
    message = f"data must be Comparisons, .*got {type(data).__name__}"
    with pytest.raises(TypeError, match=message):
        call(UNIFORM, losses.ipo, data, reference=UNIFORM)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (losses.pl_dpo, r"got a loss of ListLogps; prefsim\.data\.Rankings hold lists"),
        (losses.kto, r"got a loss of UnpairedLogps; Comparisons\.to_feedback makes"),
        (losses.d2o, r"got a loss of AnchoredLogps; prefsim\.data\.Negatives hold"),
        (losses.srpo, r"got a loss of SelfImprovementLogps; prefsim\.data\.Revisions read"),
        (losses.cpl, r"got a loss of TokenPairLogps; prefsim\.data\.Segments hold"),
        (losses.cross_entropy, r"got a loss of ClassLogits$"),
    ],
)
def test_a_loss_of_other_data_is_shown_where_they_are(call, loss, message):
    with pytest.raises(ValueError, match=message):
        call(UNIFORM, loss, ONE)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 5}, TypeError, "a TabularPolicy has no option 'steps'; it has reference"),
        ({"tolerence": 1e-3}, TypeError, "has no option 'tolerence'; did you mean tolerance?"),
        ({"max_iterations": 1.5}, ValueError, "max_iterations must be an integer >= 1, got 1.5"),
        ({"max_iterations": 0}, ValueError, "max_iterations must be an integer >= 1, got 0"),
    ],
)
def test_options_that_fit_does_not_have(options, error, message):
    with pytest.raises(error, match=message):
        fit(UNIFORM, losses.ipo, ONE, reference=UNIFORM, **options)


HALF = (torch.bfloat16, torch.float16)
# What half precision holds exactly, so that double precision is to have the same answer.
PHI = np.asarray([[[0.0, 1.0], [0.5, -1.0], [1.0, 0.25]]])
MIXED = Comparisons([0, 0, 0], [0, 1, 0], [1, 2, 2], prob=[0.75, 0.5, 0.625])


def in_type(kind, dtype):
    """Return a policy of one kind made of torch tensors of one type."""
    if kind == "tabular":
        return TabularPolicy(torch.zeros(1, 3, dtype=dtype))
    if kind == "network":
        layer = torch.nn.Linear(2, 3, dtype=dtype)
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        return NetworkPolicy.from_module(layer, np.ones((1, 2)))
    phi = torch.as_tensor(PHI, dtype=dtype)
    return LogLinearPolicy(torch.zeros(2, dtype=dtype), phi, torch.zeros(1, 3, dtype=dtype))


@pytest.mark.parametrize("call", [fit, descend])
@pytest.mark.parametrize("kind", ["tabular", "log-linear", "network"])
@pytest.mark.parametrize("dtype", HALF)
def test_a_policy_in_half_precision_is_fitted_as_in_double_and_rounded(call, kind, dtype):
    def fitted(policy):
        found = call(policy, losses.dpo, MIXED, reference=policy)
        return (found if isinstance(found, FitResult) else found[0]).policy.parameters

    half, double = (fitted(in_type(kind, each)) for each in (dtype, torch.float64))
    assert half.dtype == dtype
    np.testing.assert_array_equal(half.double(), double.to(dtype).double())


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("betas", [0.5, [0.5], [[0.5], [0.25]]])
def test_an_option_in_half_precision_is_that_number(dtype, betas):
    def fitted(as_type):
        loss = functools.partial(losses.dpo, beta=torch.tensor(betas, dtype=as_type))
        return fit(UNIFORM, loss, MIXED, reference=UNIFORM).policy.probs

    np.testing.assert_allclose(fitted(dtype), fitted(torch.float64), atol=1e-9)
