"""Handwritten digits, two at a time: a Bayesian last layer learns five tasks one after another.

Each task tells an odd digit from an even one. All share one layer of weights on frozen features, so
that what a task learns can harm another.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paper_repros.robust.ibcl.exact_tasks import (
    wasserstein,
)
from prefsim.analysis import (
    CredalSet,
    central_box,
    extend_credal_set,
    gaussian_barycentre,
    preference_weights,
)
from prefsim.data.labelled_sets import LabelledSet, labelled_set, split_set
from prefsim.numerics import sigmoid
from prefsim.papers import Run
from prefsim.solvers.likelihood.logistic_laplace import LogisticLaplace, logistic_laplace

TASKS = 5
N_TRAIN = 900
PRIORS = (0.2, 0.25, 0.3)  # standard deviations, the authors'
MIDDLE = PRIORS[1]
PREFERENCES, MODELS = 10, 10  # drawn of a split, and for each of them, as by the authors
LEVELS = (0.01, 0.1, 0.25, 0.5, 0.9)  # kept of each weight; the authors' is the first
THRESHOLDS = (0.0, 0.2, 0.5, 1.0, 2.0)
CREDAL, LAST, SINGLE, APART, REFIT = METHODS = (
    "credal set",
    "last posterior",
    "last task alone",
    "tasks apart, mixed",
    "refit for each preference",
)


class Digits(NamedTuple):
    """Features and labels of each task: to train on, and to test on."""

    inputs: list[np.ndarray]
    label: list[np.ndarray]
    test_inputs: list[np.ndarray]
    test_label: list[np.ndarray]


def digit_tasks(data: LabelledSet, width: int, seed: int) -> Digits:
    """Split the digits, and give them frozen features: rectified random directions, and a one."""
    rng = np.random.default_rng(seed)
    split = split_set(data, N_TRAIN, seed=rng)
    directions = rng.standard_normal((split.inputs.shape[1], width)) / np.sqrt(
        split.inputs.shape[1]
    )

    def features(inputs: np.ndarray) -> np.ndarray:
        hidden = np.maximum(inputs @ directions, 0.0)
        return np.concatenate([hidden, np.ones((len(hidden), 1))], axis=1)

    def by_task(rows: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
        return [rows[label // 2 == task] for task in range(TASKS)]

    odd, test_odd = split.label % 2 * 1.0, split.test_label % 2 * 1.0
    return Digits(
        by_task(features(split.inputs), split.label),
        by_task(odd, split.label),
        by_task(features(split.test_inputs), split.test_label),
        by_task(test_odd, split.test_label),
    )


def stacked(found: LogisticLaplace) -> np.ndarray:
    """Return Gaussians as rows of means and deviations, ``(..., 2, p)``."""
    return np.stack([found.mean, found.deviation], axis=-2)


def learn(digits: Digits, threshold: float) -> CredalSet:
    """Return the posteriors of all tasks, each task's with those before as priors."""
    width = digits.inputs[0].shape[-1]
    priors = np.stack([[np.zeros(width), np.full(width, s)] for s in PRIORS])
    credal = None
    for inputs, label in zip(digits.inputs, digits.label, strict=True):
        found = logistic_laplace(inputs, label, mean=priors[:, 0], deviation=priors[:, 1])
        credal = extend_credal_set(credal, stacked(found), wasserstein, threshold=threshold)
        priors = credal.of_task()
    assert credal is not None
    return credal


def mixed(gaussians: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the barycentres ``(..., 2, p)`` of Gaussians ``(n, 2, p)``."""
    return np.stack(gaussian_barycentre(gaussians[:, 0], gaussians[:, 1], weight), axis=-2)


def drawn_models(
    gaussians: np.ndarray, level: float, rng: np.random.Generator, *, together: bool = True
) -> np.ndarray:
    """Draw models ``(MODELS, ..., p)`` in boxes.

    One number moves all weights of a model, as in the authors' code, or each has its own.
    """
    box = central_box(gaussians[..., 0, :], gaussians[..., 1, :], level=level)
    numbers = 1 if together else gaussians.shape[-1]
    share = rng.random((MODELS, *gaussians.shape[:-2], numbers))
    return np.asarray(box.lower + share * (box.upper - box.lower))


def accuracies(digits: Digits, models: np.ndarray) -> np.ndarray:
    """Return the test accuracy ``(..., tasks)`` of models ``(..., p)`` on each task."""
    return np.stack(
        [
            np.mean((models @ inputs.T > 0) == (label > 0.5), axis=-1)
            for inputs, label in zip(digits.test_inputs, digits.test_label, strict=True)
        ],
        axis=-1,
    )


def alternatives(digits: Digits, credal: CredalSet, preference: np.ndarray) -> dict[str, Any]:
    """Return the Gaussian of each method for each preference, ``(preferences, 2, p)``."""
    prior: dict[str, Any] = {"mean": 0.0, "deviation": MIDDLE}
    alone = np.stack(
        [
            stacked(logistic_laplace(inputs, label, **prior))
            for inputs, label in zip(digits.inputs, digits.label, strict=True)
        ]
    )
    inputs, label = np.concatenate(digits.inputs), np.concatenate(digits.label)
    # All data at hand, each task's counted as much as it is preferred.
    counted = np.repeat(TASKS * preference, [each.size for each in digits.label], axis=-1)
    refit = logistic_laplace(inputs[None], label[None], weight=counted, **prior)
    last = np.broadcast_to(np.eye(TASKS)[-1], preference.shape)
    return {
        CREDAL: mixed(credal.extremes, preference_weights(preference, credal.stand_in)),
        LAST: mixed(credal.extremes, preference_weights(last, credal.stand_in)),
        SINGLE: mixed(alone, last),
        APART: mixed(alone, preference),
        REFIT: stacked(refit),
    }


class SplitResult(NamedTuple):
    """What is measured on one split.

    Attributes
    ----------
    preferred, average, peak
        Of each method, over preferences: accuracy weighted as preferred, plain mean over tasks, and
        the mean over tasks of the best of the models drawn at the authors' level.
    learned, later
        Accuracy on a task, the last apart: with all weight on it, which is that of when it was
        learned; and of the last posterior.
    spread, at_level, at_level_apart
        Deviation of the weights drawn at each level, and the weighted accuracy of these models; of
        models whose weights are drawn apart.
    kept
        Number of extremes at each threshold.
    left
        Largest difference of the pull of the data and that of the prior, at the first task's mode.
    """

    preferred: np.ndarray
    average: np.ndarray
    peak: np.ndarray
    learned: np.ndarray
    later: np.ndarray
    spread: np.ndarray
    at_level: np.ndarray
    at_level_apart: np.ndarray
    kept: np.ndarray
    left: np.ndarray


def measure(data: LabelledSet, width: int, seed: int) -> SplitResult:
    """Learn the tasks of one split, and hold the credal set against the other methods."""
    rng = np.random.default_rng([seed, 1])
    digits = digit_tasks(data, width, seed)
    credal = learn(digits, 0.0)
    preference = rng.random((PREFERENCES, TASKS))
    preference /= preference.sum(axis=-1, keepdims=True)
    gaussians = alternatives(digits, credal, preference)
    at_mean = np.stack([accuracies(digits, each[:, 0]) for each in gaussians.values()])
    drawn = [drawn_models(each, LEVELS[0], rng) for each in gaussians.values()]
    best = np.stack([accuracies(digits, models).max(axis=0) for models in drawn])
    vertices = mixed(credal.extremes, preference_weights(np.eye(TASKS), credal.stand_in))
    by_vertex = accuracies(digits, vertices[:, 0])
    models, models_apart = (
        np.stack([drawn_models(gaussians[CREDAL], a, rng, together=how) for a in LEVELS])
        for how in (True, False)
    )
    at_level, at_level_apart = (
        (accuracies(digits, each) * preference).sum(axis=-1).mean(axis=(-2, -1))
        for each in (models, models_apart)
    )
    first, inputs = credal.extremes[0, 0], digits.inputs[0]
    pull = (digits.label[0] - sigmoid(inputs @ first)) @ inputs - first / PRIORS[0] ** 2
    return SplitResult(
        preferred=(at_mean * preference).sum(axis=-1).mean(axis=-1),
        average=at_mean.mean(axis=(-2, -1)),
        peak=best.mean(axis=(-2, -1)),
        learned=np.mean(np.diagonal(by_vertex)[:-1]),
        later=np.mean(by_vertex[-1, :-1]),
        spread=models.std(axis=1).mean(axis=(1, 2)),
        at_level=at_level,
        at_level_apart=at_level_apart,
        kept=np.array([len(learn(digits, each).extremes) for each in THRESHOLDS]),
        left=np.max(np.abs(pull)),
    )


def study_digits(width: int, seeds: range, run: Run) -> SplitResult | None:
    """Return the measures of some splits, stacked; None where scikit-learn is missing."""
    data = labelled_set("digits")
    if data is None:
        return None
    found = [measure(data, width, seed) for seed in run.progress(seeds, "splits of the digits")]
    return SplitResult(*(np.stack(parts) for parts in zip(*found, strict=True)))
