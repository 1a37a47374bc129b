"""Linear scores of observed labels that can be ranked without an error, and how they are learned.

Worlds are drawn by their seeds, and all of them descend together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis import (
    improvement_direction,
    map_decision,
    revealed_margin,
    utility_probability,
)
from prefsim.checks import trusted_values
from prefsim.losses import ClassLogits, PairRewards, bradley_terry, cross_entropy
from prefsim.papers import Run
from prefsim.solvers import Flow, gradient_flow
from prefsim.solvers.likelihood.hard_margin import HardMargin, hard_margin

N, D, CLASSES = 12, 4, 3
RATE = 0.5

QUIET = Run()
"""Shows no progress."""


class Observed(NamedTuple):
    """Inputs ``(..., n, d)`` and the label that was observed of each, ``(..., n)``.

    The score of label k is ⟨w_k, x⟩ with weights ``(..., CLASSES, d)``.
    """

    inputs: np.ndarray
    labels: np.ndarray

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Return the scores of weights ``(..., CLASSES, d)``: ``(..., n, CLASSES)``."""
        return np.asarray(self.inputs @ np.swapaxes(weights, -1, -2))

    def differences(self) -> np.ndarray:
        """Return φ(x, y) − φ(x, y') for each other label, ``(..., n (CLASSES − 1), CLASSES d)``."""
        unit = np.eye(CLASSES)
        sides = unit[self.labels][..., None, :] - unit
        whole = sides[..., None] * self.inputs[..., None, None, :]
        is_other = np.arange(CLASSES) != self.labels[..., None]
        batch = self.labels.shape[:-1]
        return np.asarray(whole[is_other].reshape(*batch, -1, CLASSES * self.inputs.shape[-1]))

    def largest_margin(self) -> HardMargin:
        """Return the hard margin of weights of Frobenius norm one."""
        return hard_margin(self.differences())

    def perceptron_bound(self) -> np.ndarray:
        """Return max‖Δφ‖²/γ*², the most updates that a perceptron makes."""
        squared = (self.differences() ** 2).sum(axis=-1).max(axis=-1)
        return np.asarray(squared / self.largest_margin().margin ** 2)


def drawn(seeds: Sequence[int]) -> Observed:
    """Return one world a seed, of which some linear scores rank all labels."""
    worlds = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        inputs, weights = rng.standard_normal((N, D)), rng.standard_normal((CLASSES, D))
        worlds.append(Observed(inputs, (inputs @ weights.T).argmax(axis=-1)))
    return Observed(*(np.stack(part) for part in zip(*worlds, strict=True)))


# --- learning ---


def perceptron_updates(world: Observed, limit: int) -> int:
    """Return after how many updates a perceptron ranks every observed label first, or ``limit``.

    It visits the inputs in turn; where the observed label does not lead, its weights gain the input
    and those of the best other label lose it.
    """
    weights = np.zeros((CLASSES, world.inputs.shape[-1]))
    updates, settled = 0, 0
    while settled < len(world.inputs):
        for x, label in zip(world.inputs, world.labels, strict=True):
            utility = weights @ x
            if revealed_margin(utility, label) > 0:
                settled += 1
                continue
            rival = map_decision(utility, np.arange(CLASSES) != label).choice
            weights[label] += x
            weights[rival] -= x
            updates, settled = updates + 1, 0
            if updates == limit:
                return limit
    return updates


class Descent(NamedTuple):
    """Weights ``(records, worlds, CLASSES, d)`` after so many steps, ``(records,)``."""

    steps: np.ndarray
    weights: np.ndarray

    def at(self, step: int) -> np.ndarray:
        """Return the weights after a step that was recorded."""
        return np.asarray(self.weights[self.steps.tolist().index(step)])

    def norms(self) -> np.ndarray:
        """Return ‖W‖, ``(records, worlds)``."""
        return np.asarray(np.linalg.norm(self.weights, axis=(-2, -1)))


def descend(world: Observed, steps: np.ndarray, *, rate: float = RATE, run: Run = QUIET) -> Descent:
    """Descend the mean negative log-likelihood of all labels from zero weights.

    Weights are recorded after each of the ``steps``, which rise.
    """
    weights = np.zeros((*world.labels.shape[:-1], CLASSES, world.inputs.shape[-1]))
    recorded, wanted = [], set(steps.tolist())
    # A look at every entry would cost more than the step.
    with trusted_values():
        for step in run.progress(range(int(steps[-1]) + 1), "steps"):
            if step in wanted:
                recorded.append(weights)
            lift = improvement_direction(world.scores(weights), world.labels, 1.0)
            ascent = np.swapaxes(lift, -1, -2) @ world.inputs
            weights = weights + rate / world.labels.shape[-1] * ascent
    return Descent(steps, np.stack(recorded))


def nll(world: Observed, weights: np.ndarray) -> np.ndarray:
    """Return the negative log-likelihood of each label, ``(..., n)``."""
    scores = world.scores(weights)
    labels = np.broadcast_to(world.labels, scores.shape[:-1])
    return np.asarray(cross_entropy(ClassLogits(scores, labels)))


def pair_losses(utility: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return Bradley–Terry losses of each chosen response against the others, ``(..., Y − 1)``."""
    is_other = np.arange(utility.shape[-1]) != chosen[..., None]
    others = utility[is_other].reshape(*chosen.shape, -1)
    own = np.take_along_axis(utility, chosen[..., None], axis=-1)
    return np.asarray(bradley_terry(PairRewards(np.broadcast_to(own, others.shape), others)))


def likelihood_flow(world: Observed, noise: float, *, duration: float) -> Flow:
    """Follow the gradient flow of the mean negative log-likelihood of one world from zero weights.

    Labels are observed with a share ``noise`` of them spread over all labels alike.
    """
    shares = (1 - noise) * np.eye(CLASSES)[world.labels] + noise / CLASSES

    def loss(weights: Any) -> Any:
        inputs, weight = (weights.new_tensor(part) for part in (world.inputs, shares))
        every = (inputs @ weights.T)[:, None, :].expand(-1, CLASSES, -1)
        labels = every.new_tensor(range(CLASSES)).long().expand(len(inputs), -1)
        return weight * cross_entropy(ClassLogits(every, labels)) / len(inputs)

    start = np.zeros((CLASSES, world.inputs.shape[-1]))
    return gradient_flow(loss, start, duration=duration, tolerance=1e-5)


# --- what is seen of it ---


class Order(NamedTuple):
    """What is seen of some worlds along a descent, ``(records, worlds)`` each."""

    steps: np.ndarray
    right: np.ndarray
    observed: np.ndarray
    least_observed: np.ndarray
    loss: np.ndarray
    norm: np.ndarray
    margin: np.ndarray

    @classmethod
    def of(cls, world: Observed, path: Descent) -> Order:
        """Return what is seen along a path."""
        scores = world.scores(path.weights)
        labels = np.broadcast_to(world.labels, scores.shape[:-1])
        probs = np.take_along_axis(utility_probability(scores, 1.0), labels[..., None], axis=-1)
        margin = revealed_margin(scores, labels)
        return cls(
            path.steps,
            (margin > 0).mean(axis=-1),
            probs[..., 0].mean(axis=-1),
            probs[..., 0].min(axis=-1),
            nll(world, path.weights).mean(axis=-1),
            path.norms(),
            margin.min(axis=-1),
        )

    def first(self, reached: np.ndarray) -> np.ndarray:
        """Return the first step at which each world has reached something, else the last step."""
        last = np.arange(len(self.steps)) == len(self.steps) - 1
        return np.asarray(self.steps[(reached | last[:, None]).argmax(axis=0)])


def first_improvement(world: Observed) -> np.ndarray:
    """Return how much a tiny first step lowers the loss, over its rate times the squared slope."""
    rate = 1e-6
    path = descend(world, np.array([0, 1]), rate=rate)
    before, after = (nll(world, weights).mean(axis=-1) for weights in path.weights)
    # From zero weights the step is the rate times the slope.
    return np.asarray((before - after) / (path.norms()[1] ** 2 / rate))
