"""Small students that learn from few labels and a teacher, on one head or on two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from paper_repros.robust.dhkd.neural_collapse import binary_pull, cross_entropy_pull
from prefsim.analysis import backbone_conflict, head_conflict
from prefsim.backend import Seed, to_numpy
from prefsim.containers import ClassLogits, DistillationLogits
from prefsim.data.labelled_sets import LabelledSet, labelled_set, split_set
from prefsim.losses import binary_kl, binary_kl_norm, cross_entropy, distillation_kl
from prefsim.papers import Run
from prefsim.policies.stacked_networks import initial_layers, stacked_outputs, tensor_options
from prefsim.solvers.optimisers.gradient_alignment import aligned_gradient

HIDDEN, TEACHER = 32, 64  # widths of the students' and of the teachers' layer
RATE, MOMENTUM = 0.02, 0.9


class Task(NamedTuple):
    """Of each split: examples of students and of teachers, and a test set; ``(splits, n, ...)``."""

    inputs: np.ndarray
    label: np.ndarray
    teacher_inputs: np.ndarray
    teacher_label: np.ndarray
    test_inputs: np.ndarray
    test_label: np.ndarray

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.test_label.max()) + 1


SIZES = {
    "Gaussian": (100, 1000),
    "digits": (100, 800),
    "wine": (20, 100),
    "breast_cancer": (20, 300),
}
"""Examples of students, and of teachers, whose are among them."""


def gaussian_classes(n: int, seed: Seed) -> LabelledSet:
    """Return ten classes of unit Gaussians in twenty dimensions, whose means are drawn."""
    rng = np.random.default_rng(seed)
    means = 0.7 * rng.standard_normal((10, 20))
    label = rng.integers(0, 10, n)
    return LabelledSet(means[label] + rng.standard_normal((n, 20)), label)


def task_of(name: str, seeds: range) -> Task | None:
    """Return the splits of a set, or None where scikit-learn is missing."""
    few, many = SIZES[name]
    real = None if name == "Gaussian" else labelled_set(name)
    if name != "Gaussian" and real is None:
        return None
    rows = []
    for seed in seeds:
        data = gaussian_classes(many + 2000, seed) if real is None else real
        split = split_set(data, many, seed=seed)
        rows.append((split.inputs[:few], split.label[:few], *split))
    return Task(*(np.stack(part) for part in zip(*rows, strict=True)))


class Rule(NamedTuple):
    """How a student learns: the weight of labels, the loss on the teacher, and where that sits."""

    on_teacher: Callable[..., Any] | None = None
    on_labels: float = 1.0
    own_head: bool = False
    aligned: bool = False


CE, ALONE, ONE_HEAD, NORM = "labels alone", "BinaryKL alone", "labels + BinaryKL", "labels + Norm"
DUAL, ALIGNED = "two heads", "two heads, aligned"
SOFTMAX = "labels + softmax KD"
RULES = {
    CE: Rule(),
    SOFTMAX: Rule(distillation_kl),
    ALONE: Rule(binary_kl, on_labels=0.0),
    ONE_HEAD: Rule(binary_kl),
    NORM: Rule(binary_kl_norm),
    DUAL: Rule(binary_kl_norm, own_head=True),
    ALIGNED: Rule(binary_kl_norm, own_head=True, aligned=True),
}


def teacher_layers(task: Task, steps: int, seed: Seed) -> list[Any]:
    """Return the layers of teachers trained on all their labels, by Adam."""
    import torch

    options = tensor_options()
    inputs = torch.as_tensor(task.teacher_inputs, **options)
    label = torch.as_tensor(task.teacher_label, device=options["device"])
    sizes = (inputs.shape[-1], TEACHER, task.n_classes)
    layers = leaves(initial_layers(sizes, len(inputs), seed=seed))
    optimiser = torch.optim.Adam(layers, lr=1e-2, weight_decay=1e-3)
    for _ in range(steps):
        value = cross_entropy(ClassLogits(stacked_outputs(layers, inputs), label))
        optimiser.zero_grad()
        (value.sum() / label.shape[-1]).backward()
        optimiser.step()
    return [layer.detach() for layer in layers]


def leaves(parts: list[np.ndarray]) -> list[Any]:
    """Return arrays as tensors that are trained."""
    import torch

    return [torch.as_tensor(part, **tensor_options()).requires_grad_() for part in parts]


class Trained(NamedTuple):
    """Test accuracy ``(splits,)``, layers, and conflicts ``(steps, splits)`` of the first head."""

    accuracy: np.ndarray
    layers: list[np.ndarray]
    head: np.ndarray
    backbone: np.ndarray


def flat_gradient(value: Any, layers: list[Any]) -> Any:
    """Return the gradient in all layers of each network as one row; zeros where it is not read."""
    import torch

    if not value.requires_grad:
        return torch.cat([torch.zeros_like(x).flatten(1) for x in layers], dim=-1)
    found = torch.autograd.grad(value, layers, allow_unused=True, retain_graph=True)
    parts = [torch.zeros_like(x) if g is None else g for g, x in zip(found, layers, strict=True)]
    return torch.cat([part.flatten(1) for part in parts], dim=-1)


def train(
    rule: Rule, task: Task, teachers: list[Any], *, alpha: float, steps: int, seed: int
) -> Trained:
    """Train one student a split, all at once, by gradient descent with momentum.

    α weighs the loss on the teacher.
    """
    import torch

    options = tensor_options()
    inputs, test = (torch.as_tensor(x, **options) for x in (task.inputs, task.test_inputs))
    label = torch.as_tensor(task.label, device=options["device"])
    teacher = stacked_outputs(teachers, inputs)
    sizes = (inputs.shape[-1], HIDDEN, task.n_classes)
    parts = initial_layers(sizes, len(inputs), seed=seed)
    # The auxiliary head is drawn after all else, so that it changes nothing else.
    extra = initial_layers(sizes[1:], len(inputs), seed=np.random.default_rng([1, seed]))
    layers = leaves([*parts, *extra])
    momentum: Any = 0.0
    cosines = []
    for _ in range(steps):
        features = torch.tanh(stacked_outputs(layers[:2], inputs))
        scores = stacked_outputs(layers[2:4], features)
        other = stacked_outputs(layers[4:], features) if rule.own_head else scores
        on_labels = rule.on_labels * cross_entropy(ClassLogits(scores, label)).mean(-1)
        main = flat_gradient(on_labels.sum(), layers)
        update = main
        if rule.on_teacher is not None:
            on_teacher = alpha * rule.on_teacher(DistillationLogits(other, teacher)).mean(-1)
            auxiliary = flat_gradient(on_teacher.sum(), layers)
            update = aligned_gradient(main, auxiliary) if rule.aligned else main + auxiliary
            cosines.append(measured_conflict(features, scores, label, teacher, layers[2]))
        momentum = MOMENTUM * momentum + update
        with torch.no_grad():
            place = 0
            for layer in layers:
                size = layer[0].numel()
                layer -= RATE * momentum[:, place : place + size].reshape(layer.shape)
                place += size
    with torch.no_grad():
        features = torch.tanh(stacked_outputs(layers[:2], test))
        guess = to_numpy(stacked_outputs(layers[2:4], features)).argmax(-1)
    accuracy = np.mean(guess == task.test_label, axis=-1)
    head, backbone = np.stack(cosines).swapaxes(0, 1) if cosines else np.zeros((2, 0, 0))
    return Trained(accuracy, [to_numpy(layer) for layer in layers], head, backbone)


def measured_conflict(
    features: Any, scores: Any, label: Any, teacher: Any, weights: Any
) -> np.ndarray:
    """Return the cosines in head and features of cross-entropy and BinaryKL on the first head."""
    import torch

    with torch.no_grad():
        pulls = cross_entropy_pull(scores, label), binary_pull(scores, teacher)
        head = head_conflict(*pulls, features)
        backbone = backbone_conflict(*pulls, weights.mT)
    return np.stack([to_numpy(head), to_numpy(backbone)])


class Study(NamedTuple):
    """One data set: accuracies ``(splits,)`` by rule and α, and of the teachers."""

    name: str
    teachers: np.ndarray
    accuracy: dict[tuple[str, float], np.ndarray]
    trained: dict[tuple[str, float], Trained]

    def lead(self, rule: str, alpha: float) -> np.ndarray:
        """Return by how much each split is ahead of labels alone."""
        return self.accuracy[rule, alpha] - self.accuracy[CE, 0.0]


def study(
    name: str, seeds: range, alphas: tuple[float, ...], *, steps: int, run: Run
) -> Study | None:
    """Train teachers, and students by every rule and α, on the splits of a set."""
    import torch

    task = task_of(name, seeds)
    if task is None:
        return None
    teachers = teacher_layers(task, 150, run.seed)
    with torch.no_grad():
        test = torch.as_tensor(task.test_inputs, **tensor_options())
        guess = to_numpy(stacked_outputs(teachers, test)).argmax(-1)
    trained = {}
    for rule in run.progress(RULES, f"rules on {name}"):
        for alpha in (0.0,) if rule == CE else alphas:
            trained[rule, alpha] = train(
                RULES[rule], task, teachers, alpha=alpha, steps=steps, seed=run.seed
            )
    accuracy = {key: found.accuracy for key, found in trained.items()}
    return Study(name, np.mean(guess == task.test_label, axis=-1), accuracy, trained)
