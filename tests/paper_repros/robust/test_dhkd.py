"""arXiv:2411.08937: collapse by hand, conflicts near it, students with one head and two."""

import sys

import numpy as np
import pytest

from paper_repros.robust.dhkd import distilled_students, neural_collapse
from paper_repros.robust.dhkd.distilled_students import ALIGNED, CE, DUAL, ONE_HEAD, RULES
from paper_repros.robust.dhkd.reproduction import AT_COLLAPSE
from prefsim.containers import ClassLogits, DistillationLogits
from prefsim.gradients import loss_gradient
from prefsim.losses import binary_kl, cross_entropy
from prefsim.papers import Run


def test_the_frame_is_equiangular():
    frame = neural_collapse.simplex_frame(5)
    np.testing.assert_allclose(frame @ frame.T, 1.25 * np.eye(5) - 0.25, atol=1e-15)


def test_pulls_are_gradients():
    rng = np.random.default_rng(0)
    student, teacher = rng.standard_normal((2, 3, 4))
    label = np.asarray([0, 3, 1])
    of_labels = loss_gradient(cross_entropy, ClassLogits(student, label)).logits
    np.testing.assert_allclose(
        neural_collapse.cross_entropy_pull(student, label), of_labels, atol=1e-14
    )
    of_teacher = loss_gradient(binary_kl, DistillationLogits(student, teacher)).logits
    np.testing.assert_allclose(
        neural_collapse.binary_pull(student, teacher), of_teacher, atol=1e-14
    )


@pytest.mark.parametrize(("scale", "target", "other", "sign"), AT_COLLAPSE)
def test_at_collapse(scale, target, other, sign):
    found, excess = neural_collapse.collapsed(4, scale, target, other)
    assert found.head == pytest.approx(sign, abs=1e-12)
    assert found.backbone == pytest.approx(sign, abs=1e-12)
    assert np.sign(excess) == sign


def test_counts():
    found = neural_collapse.Conflicts(
        np.asarray([-0.1, -0.2, 0.3, 0.0, 0.5]), np.asarray([0.1, -0.3, -0.4, 0.2, 0.1])
    )
    assert found.counts() == (1, 1, 1, 2)


def small_task():
    task = distilled_students.task_of("Gaussian", range(2))
    return task._replace(
        teacher_inputs=task.teacher_inputs[:, :300], teacher_label=task.teacher_label[:, :300]
    )


def test_students():
    task = small_task()
    teachers = distilled_students.teacher_layers(task, 60, 0)
    found = {
        rule: distilled_students.train(RULES[rule], task, teachers, alpha=1.0, steps=30, seed=0)
        for rule in (CE, ONE_HEAD, DUAL, ALIGNED)
    }
    for rule, trained in found.items():
        assert trained.accuracy.shape == (2,)
        assert trained.accuracy.min() > 0.3, rule
    assert found[ONE_HEAD].head.shape == found[ONE_HEAD].backbone.shape == (30, 2)
    # A second head reaches the first through the features alone.
    assert not np.array_equal(found[DUAL].layers[0], found[CE].layers[0])
    start = distilled_students.train(RULES[CE], task, teachers, alpha=1.0, steps=0, seed=0)
    np.testing.assert_array_equal(found[ONE_HEAD].layers[4], start.layers[4])
    assert np.abs(found[DUAL].layers[4] - start.layers[4]).max() > 1e-3


def test_networks_of_a_batch_do_not_touch_each_other():
    task = small_task()
    teachers = distilled_students.teacher_layers(task, 5, 0)
    alone = task._replace(**{name: getattr(task, name)[::-1] for name in ("label",)})
    both = [
        distilled_students.train(RULES[ALIGNED], each, teachers, alpha=1.0, steps=3, seed=0)
        for each in (task, alone._replace(label=np.stack([task.label[0], alone.label[1]])))
    ]
    np.testing.assert_array_equal(both[0].layers[0][0], both[1].layers[0][0])
    assert not np.array_equal(both[0].layers[0][1], both[1].layers[0][1])


def test_without_scikit_learn_there_are_gaussians(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert distilled_students.study("wine", range(1), (1.0,), steps=1, run=Run()) is None
    assert distilled_students.task_of("Gaussian", range(1)) is not None
