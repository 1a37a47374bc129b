"""Gradients of losses in their containers, and of functions in their arguments."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given

from prefsim import losses
from prefsim.gradients import gradient, logit_gradient, loss_gradient
from prefsim.numerics import log_softmax, sigmoid, softmax, stop_gradient
from prefsim.testing.bandits import betas, pair_logps, tables

PAIR = losses.PairLogps(
    np.array([-1.0, -4.0]), np.array([-2.0, -3.0]), np.array([-1.5, -3.0]), np.array([-2.5, -2.0])
)


@given(pair_logps(lowest=-8.0), betas())
def test_of_dpo(logps, beta):
    """The closed form: -beta sigma(-beta h) in the chosen response, its opposite in the other."""
    found = loss_gradient(functools.partial(losses.dpo, beta=beta), logps)
    weight = beta * sigmoid(-beta * losses.reward_margin(logps))
    assert isinstance(found, losses.PairLogps)
    for field, sign in {"chosen": -1, "rejected": 1, "ref_chosen": 1, "ref_rejected": -1}.items():
        np.testing.assert_allclose(getattr(found, field), sign * weight, rtol=1e-12, atol=1e-300)
    assert found.chosen_length is None and found.old_rejected is None


def test_fields_that_are_not_read_have_zeros():
    found = loss_gradient(losses.dpo, PAIR._replace(chosen_score=np.array([1.0, 2.0])))
    np.testing.assert_array_equal(found.chosen_score, [0.0, 0.0])
    assert found.rejected_score is None


def test_fields_that_are_not_continuous_have_none():
    logps = losses.UnpairedLogps(np.array([-1.0, -2.0]), np.array([-1.5, -1.0]), [True, False])
    found = loss_gradient(losses.kto, logps)
    assert found.desirable is None
    assert found.logp[0] < 0 < found.logp[1]
    lengths = PAIR._replace(chosen_length=np.array([2, 3]), rejected_length=np.array([4, 5]))
    by_length = loss_gradient(losses.simpo, lengths)
    assert by_length.chosen_length is None
    plain = loss_gradient(
        losses.simpo,
        lengths._replace(chosen_length=np.array([2.0, 3.0]), rejected_length=[4.0, 5.0]),
    )
    np.testing.assert_allclose(by_length.chosen, plain.chosen, rtol=1e-14)
    assert plain.chosen_length.shape == (2,)


def test_what_a_loss_detaches_has_no_derivative():
    def weighted(logps: losses.PairLogps):
        return stop_gradient(logps.ref_chosen) * logps.chosen

    found = loss_gradient(weighted, PAIR)
    np.testing.assert_array_equal(found.chosen, PAIR.ref_chosen)
    np.testing.assert_array_equal(found.ref_chosen, 0.0)
    nothing = loss_gradient(lambda logps: stop_gradient(logps.chosen), PAIR)
    np.testing.assert_array_equal(nothing.chosen, [0.0, 0.0])


def test_float32_tensors_are_differentiated_in_float64_and_left_alone():
    chosen = torch.tensor([-1.0, -4.0], dtype=torch.float32, requires_grad=True)
    found = loss_gradient(losses.dpo, PAIR._replace(chosen=chosen))
    np.testing.assert_allclose(found.chosen, loss_gradient(losses.dpo, PAIR).chosen, rtol=1e-15)
    assert found.chosen.dtype == np.float64
    assert chosen.grad is None


def test_the_arrays_given_are_not_written_to():
    start = np.array([1.0, 2.0])

    def moves_its_argument(x):
        return (x.detach().add_(1.0) * x).sum()

    np.testing.assert_array_equal(gradient(moves_its_argument, start), [2.0, 3.0])
    np.testing.assert_array_equal(start, [1.0, 2.0])


@given(tables((2, 4), low=-3.0, high=3.0), tables((2, 4), low=-1.0, high=1.0))
def test_of_a_value_in_the_logits(logits, reward):
    """Policy gradient: pi (r - E r)."""
    found = gradient(lambda theta: softmax(theta) * torch.from_numpy(reward), logits)
    policy = softmax(logits)
    expected = policy * (reward - (policy * reward).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_several_arguments_and_one_that_is_not_used():
    found = gradient(lambda x, y, z: (x**2).sum() * y, [1.0, 2.0], 3, [7.0])
    assert [part.shape for part in found] == [(2,), (), (1,)]
    np.testing.assert_array_equal(found[0], [6.0, 12.0])
    assert found[1] == 5.0 and found[2] == 0.0


def test_a_constant_has_zeros():
    np.testing.assert_array_equal(gradient(lambda x: torch.ones(3), [1.0, 2.0]), [0.0, 0.0])


def test_agrees_with_differences():
    point = np.array([0.3, -1.0, 0.5])
    found = gradient(lambda x: log_softmax(x)[..., 0], point)
    step = 1e-6 * np.eye(3)
    ahead, behind = (log_softmax(point + sign * step)[..., 0] for sign in (1, -1))
    np.testing.assert_allclose(found, (ahead - behind) / 2e-6, atol=1e-9)


def test_what_cannot_be_differentiated():
    with pytest.raises(TypeError, match="must return a tensor computed from its arguments, got fl"):
        gradient(lambda x: 1.0, [1.0])
    with pytest.raises(TypeError, match=r"must return a tensor .* got ndarray"):
        loss_gradient(lambda logps: np.zeros(2), PAIR)
    with pytest.raises(TypeError, match="at least one array"):
        gradient(lambda: 1.0)


def test_importing_it_does_not_import_torch():
    code = "import sys, prefsim.gradients; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(tables((2, 3, 4), low=-5.0, high=5.0), tables((2, 3, 4), low=-3.0, high=3.0))
def test_in_the_logits_of_softmax_policies(logits, slopes):
    """What a function of the log-probabilities with these slopes has in the logits."""
    expected = gradient(lambda z: torch.as_tensor(slopes) * log_softmax(z), logits)
    np.testing.assert_allclose(logit_gradient(slopes, log_softmax(logits)), expected, atol=1e-13)
