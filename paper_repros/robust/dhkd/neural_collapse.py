"""Heads and features at and near neural collapse, and how two losses pull them there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim.analysis import backbone_conflict, head_conflict
from prefsim.containers import ClassLogits
from prefsim.losses.class_scores import is_label
from prefsim.numerics import array_namespace, sigmoid, softmax
from prefsim.typing import Array, ArrayT

TAU = 2.0


def simplex_frame(n_classes: int) -> np.ndarray:
    """Return the simplex equiangular tight frame, rows ``(K, K)`` of length one."""
    centred = np.eye(n_classes) - 1.0 / n_classes
    return np.sqrt(n_classes / (n_classes - 1)) * centred


def cross_entropy_pull(student: ArrayT, label: Array) -> ArrayT:
    """Return the gradient p − e_y of cross-entropy in scores ``(..., n, K)``."""
    p = softmax(student)
    return array_namespace(p).where(is_label(ClassLogits(student, label)), p - 1, p)


def binary_pull(student: ArrayT, teacher: Array, tau: float = TAU) -> ArrayT:
    """Return the gradient τ(σ(z^s/τ) − σ(z^t/τ)) of BinaryKL."""
    return tau * (sigmoid(student / tau) - sigmoid(teacher / tau))


class Conflicts(NamedTuple):
    """Cosines of the gradients of both losses in the head and in the features, ``(cases,)``."""

    head: np.ndarray
    backbone: np.ndarray

    def counts(self) -> tuple[int, int, int, int]:
        """Return how many cases conflict in the head alone, in the features alone, both, none."""
        head, backbone = self.head < 0, self.backbone < 0
        each = (head & ~backbone, ~head & backbone, head & backbone, ~head & ~backbone)
        return tuple(int(found.sum()) for found in each)  # type: ignore[return-value]


def conflicts(
    weights: np.ndarray, features: np.ndarray, label: np.ndarray, teacher: np.ndarray
) -> Conflicts:
    """Return the conflicts of cross-entropy and BinaryKL on one linear head.

    Weights ``(..., K, d)``, features ``(..., n, d)``, labels ``(..., n)``, the teacher's scores
    ``(..., n, K)``.
    """
    student = features @ np.swapaxes(weights, -1, -2)
    pulls = cross_entropy_pull(student, label), binary_pull(student, teacher)
    return Conflicts(
        np.asarray(head_conflict(*pulls, features)), np.asarray(backbone_conflict(*pulls, weights))
    )


def collapsed(
    n_classes: int, scale: float, target: float, other: float, noise: float = 0.0
) -> tuple[Conflicts, float]:
    """Return the conflicts at collapse, and by how much the pull on other classes exceeds.

    The head is ``scale`` times the frame, features the frame itself, the teacher has ``target`` on
    the label and −``other`` elsewhere; noise is added to the teacher.
    """
    frame = simplex_frame(n_classes)
    label = np.arange(n_classes)
    teacher = np.where(np.eye(n_classes) > 0, target, -other)
    teacher = teacher + noise * np.random.default_rng(0).standard_normal(teacher.shape)
    pull = binary_pull(scale * frame @ frame.T, teacher)
    return conflicts(scale * frame, frame, label, teacher), float(pull[0, 1] - pull[0, 0])


def near_collapse(cases: int, seed: int, *, spread: float = 0.1) -> Conflicts:
    """Return the conflicts of four classes and twelve examples near collapse, ``(cases,)``.

    Heads and features are off the frame by ``spread``, features of lengths ½ to 3⁄2, and the
    teacher's scores off its own frame by noise and a shift that all classes share.
    """
    rng = np.random.default_rng(seed)
    frame = simplex_frame(4)
    label = rng.integers(0, 4, (cases, 12))
    size = rng.uniform(1.0, 4.0, (cases, 1, 1))
    weights = size * frame + spread * rng.standard_normal((cases, 4, 4))
    length = rng.uniform(0.5, 1.5, (cases, 12, 1)) if spread else 1.0
    features = length * frame[label] + spread * rng.standard_normal((cases, 12, 4))
    strength = rng.uniform(1.0, 4.0, (cases, 1, 1))
    shift = 5 * spread * rng.standard_normal((cases, 1, 1))
    noise = 3 * spread * rng.standard_normal((cases, 12, 4))
    return conflicts(weights, features, label, strength * frame[label] + noise + shift)
