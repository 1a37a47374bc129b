"""Distillation losses: reference values, limits, large and equal scores, bad input."""

import math

import numpy as np
import pytest
import torch

from prefsim.containers import DistillationLogits
from prefsim.gradients import loss_gradient
from prefsim.losses import binary_kl, binary_kl_norm, distillation_kl

STUDENT, TEACHER = np.asarray([[2.0, 0.5, -1.0]]), np.asarray([[3.0, -1.0, -0.5]])
PAIR = DistillationLogits(STUDENT, TEACHER)
LOSSES = (binary_kl, binary_kl_norm, distillation_kl)


def test_reference_values():
    assert binary_kl(PAIR)[0] == pytest.approx(0.38774408324893433, abs=1e-15)
    assert binary_kl_norm(PAIR)[0] == pytest.approx(0.4297834739760573, abs=1e-15)
    assert distillation_kl(PAIR)[0] == pytest.approx(0.5224171573036314, abs=1e-14)
    moved = DistillationLogits(STUDENT + 1, TEACHER + 1)
    assert binary_kl(moved)[0] == pytest.approx(0.3654380695449081, abs=1e-15)
    assert binary_kl_norm(moved)[0] == pytest.approx(0.4297834739760573, abs=1e-15)
    alike = DistillationLogits(np.asarray([[-2.0, -1.0, 0.0]]), np.asarray([[2.0, 3.0, 4.0]]))
    assert binary_kl(alike)[0] == pytest.approx(4.790972565269556, abs=1e-14)
    assert distillation_kl(alike)[0] == pytest.approx(0.0, abs=1e-14)


def test_gradients():
    known = {
        binary_kl: [-0.1730318, 0.36927166, -0.12056566],
        binary_kl_norm: [-0.24491866, 0.3583574, -0.124353],
    }
    for loss, slope in known.items():
        np.testing.assert_allclose(loss_gradient(loss, PAIR).logits[0], slope, atol=1e-8)
        assert not loss_gradient(loss, PAIR).teacher_logits.any()


def test_limits_of_the_temperature():
    square = np.sum((STUDENT - TEACHER) ** 2) / 8
    assert square == 0.4375
    for loss in (binary_kl, binary_kl_norm):
        assert loss(PAIR, tau=1e3)[0] == pytest.approx(square, abs=3e-7)
        assert loss(PAIR, tau=1e7)[0] == pytest.approx(square, abs=1e-6)
    assert binary_kl_norm(PAIR, tau=0.01)[0] / 0.01 == pytest.approx(1.4792055842, abs=1e-9)
    # Its two branches meet at half a difference of the temperature.
    for loss in (binary_kl, binary_kl_norm):
        around = [
            loss(DistillationLogits(np.asarray([[x]]), np.zeros((1, 1))), tau=1.0)[0]
            for gap in (1.0, 2.0)
            for x in (gap - 1e-9, gap + 1e-9)
        ]
        assert around[1] - around[0] == pytest.approx(0.0, abs=1e-8)
        assert around[3] - around[2] == pytest.approx(0.0, abs=1e-8)


def test_far_apart_nothing_is_clamped():
    far = DistillationLogits(np.asarray([[300.0, 0.0]]), np.asarray([[-300.0, 0.0]]))
    assert binary_kl(far, tau=1.0)[0] == pytest.approx(300.0, rel=1e-14)
    assert binary_kl_norm(far, tau=1.0)[0] == pytest.approx(300.0 - math.log(2), rel=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_scores_cost_nothing_and_pull_nowhere(loss):
    same = DistillationLogits(TEACHER, TEACHER)
    assert loss(same)[0] == pytest.approx(0.0, abs=1e-15)
    np.testing.assert_allclose(loss_gradient(loss, same).logits, 0.0, atol=1e-15)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_derivative_reaches_a_teacher_that_is_trained(loss):
    teacher = torch.tensor(TEACHER, requires_grad=True)
    student = torch.tensor(STUDENT, requires_grad=True)
    loss(DistillationLogits(student, teacher)).sum().backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0.1


def test_one_reward_may_be_distilled():
    reward = DistillationLogits(np.asarray([[1.0]]), np.asarray([[-1.0]]))
    assert binary_kl_norm(reward, tau=1.0)[0] == pytest.approx(math.log(math.cosh(1.0)))


@pytest.mark.parametrize("loss", LOSSES)
def test_bad_input(loss):
    with pytest.raises(ValueError, match="one shape, got logits"):
        loss(DistillationLogits(STUDENT, TEACHER[:, :2]))
    option = "temperature" if loss is distillation_kl else "tau"
    with pytest.raises(ValueError, match=f"{option} must be a finite number > 0, got 0.0"):
        loss(PAIR, **{option: 0.0})
    with pytest.raises(ValueError, match="trailing shape"):
        loss(DistillationLogits(np.zeros((2, 0)), np.zeros((2, 0))))
