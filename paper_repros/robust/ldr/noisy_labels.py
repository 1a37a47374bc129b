"""Training on labels that are flipped uniformly: many seeds as one batch of small networks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.containers import ClassLogits
from prefsim.losses.adaptive_classification import aldr_lambda, aldr_state, aldr_update
from prefsim.losses.class_scores import softplus_normalised, with_margin
from prefsim.losses.classification import (
    crammer_singer,
    cross_entropy,
    ldr_kl,
    linear_symmetric,
    mae,
)
from prefsim.papers import Run
from prefsim.policies.stacked_networks import initial_layers, stacked_outputs, tensor_options

SEPARATION = 2.5  # of the mixture's means, in standard deviations
HIDDEN = 64
RATE = 1e-2  # of Adam
MARGIN = 0.1  # of the SVM, the authors' default


class Problem(NamedTuple):
    """Training sets ``(sets, n, d)`` with true and observed labels ``(sets, n)``, and test sets."""

    inputs: np.ndarray
    labels: np.ndarray
    observed: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.test_labels.max()) + 1

    @property
    def flipped(self) -> np.ndarray:
        """Which training labels are wrong, ``(sets, n)``."""
        return np.asarray(self.labels != self.observed)


def flip_uniformly(labels: np.ndarray, rate: float, n_classes: int, *, seed: Seed) -> np.ndarray:
    """Return labels of which a share ``rate`` is replaced by one of the other classes."""
    rng = random_generator(seed)
    elsewhere = (labels + rng.integers(1, n_classes, labels.shape)) % n_classes
    return np.where(rng.random(labels.shape) < rate, elsewhere, labels)


def problem_of(
    drawn: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]],
    rates: Sequence[float],
    seeds: range,
    *,
    n_classes: int,
    n: int,
) -> Problem:
    """Return a data set for every rate and every seed, in that order.

    The first ``n`` of what is drawn are trained on, the rest tested on.
    """

    def one_set(rate: float, seed: int) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(seed)
        points, labels = drawn(rng)
        observed = flip_uniformly(labels[:n], rate, n_classes, seed=rng)
        return points[:n], labels[:n], observed, points[n:], labels[n:]

    sets = [one_set(rate, seed) for rate in rates for seed in seeds]
    return Problem(*(np.stack(part) for part in zip(*sets, strict=True)))


def gaussian_mixture(
    rates: Sequence[float], seeds: range, *, n_classes: int = 4, n: int = 400, n_test: int = 4000
) -> Problem:
    """Return data sets of unit Gaussians around ``SEPARATION`` times the axes."""

    def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, n_classes, n + n_test)
        means = SEPARATION * np.eye(n_classes)[labels]
        return means + rng.standard_normal((n + n_test, n_classes)), labels

    return problem_of(drawn, rates, seeds, n_classes=n_classes, n=n)


def handwritten_digits(rates: Sequence[float], seeds: range, *, n: int) -> Problem | None:
    """Return data sets of scikit-learn's 1,797 digits, or None without scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return None
    images, target = load_digits(return_X_y=True)

    def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        order = rng.permutation(len(target))
        return images[order] / 16.0, target[order]

    return problem_of(drawn, rates, seeds, n_classes=10, n=n)


class Rule(NamedTuple):
    """A loss, whether the scores are normalised before it, and λ₀ where it is the adaptive one."""

    loss: Callable[..., Any] | None
    normalised: bool = True
    lambda_0: float | None = None


def svm(classes: ClassLogits[Any]) -> Any:
    """Return the Crammer–Singer loss with the authors' margin."""
    return crammer_singer(with_margin(classes, MARGIN))


RULES = {
    "cross-entropy": Rule(cross_entropy, normalised=False),
    "MAE": Rule(mae, normalised=False),
    "SVM (λ = 0)": Rule(svm),
    "LDR-KL, λ = 10": Rule(functools.partial(ldr_kl, lambda_=10.0)),
    "symmetric (λ = ∞)": Rule(linear_symmetric),
    "ALDR-KL, λ₀ = 1": Rule(None, lambda_0=1.0),
    "ALDR-KL, λ₀ = 3": Rule(None, lambda_0=3.0),
    "ALDR-KL, λ₀ = 10": Rule(None, lambda_0=10.0),
}


class Trained(NamedTuple):
    """Test accuracy ``(sets,)`` and, for the adaptive loss, the temperatures ``(sets, n)``.

    ``lambda_`` is the state of training, ``exact_lambda`` that of the definition.
    """

    accuracy: np.ndarray
    lambda_: np.ndarray | None = None
    exact_lambda: np.ndarray | None = None


def train(rule: Rule, problem: Problem, *, steps: int, seed: Seed) -> Trained:
    """Train one tanh network per data set, full batch with Adam, all of them at once.

    In float32 unless a torch backend is in force.
    """
    import torch

    options = tensor_options()
    inputs, test = (torch.as_tensor(x, **options) for x in (problem.inputs, problem.test_inputs))
    observed = torch.as_tensor(problem.observed, device=options["device"])
    sizes = (inputs.shape[-1], HIDDEN, problem.n_classes)
    weights = [
        torch.as_tensor(x, **options).requires_grad_()
        for x in initial_layers(sizes, inputs.shape[0], seed=seed)
    ]
    optimiser = torch.optim.Adam(weights, lr=RATE)

    def classes(points: Any, label: Any) -> ClassLogits[Any]:
        scores = stacked_outputs(weights, points)
        return ClassLogits(softplus_normalised(scores) if rule.normalised else scores, label)

    ids = np.arange(observed.numel())
    lambda_0 = 1.0 if rule.lambda_0 is None else rule.lambda_0
    state = None if rule.lambda_0 is None else aldr_state(ids.size, lambda_0=lambda_0)
    for _ in range(steps):
        batch = classes(inputs, observed)
        if state is None:
            assert rule.loss is not None
            value = rule.loss(batch)
        else:
            flat = ClassLogits(batch.logits.flatten(0, 1), observed.flatten())
            state, value = aldr_update(state, ids, flat, lambda_0=lambda_0)
        optimiser.zero_grad()
        # The sum over data sets of each one's mean: the networks do not touch each other, nor do
        # their Adam steps.
        (value.sum() / observed.shape[-1]).backward()
        optimiser.step()
    with torch.no_grad():
        guess = to_numpy(classes(test, observed).logits).argmax(-1)
        accuracy = np.mean(guess == problem.test_labels, axis=-1)
        if state is None:
            return Trained(accuracy)
        exact = aldr_lambda(classes(inputs, observed), lambda_0=lambda_0)
    return Trained(accuracy, to_numpy(state.lambda_).reshape(observed.shape), to_numpy(exact))


class Study(NamedTuple):
    """One data set at several rates of noise: for every loss the networks of ``(rate, seed)``."""

    name: str
    rates: tuple[float, ...]
    problem: Problem
    trained: dict[str, Trained]

    def at(self, rate: float, values: np.ndarray) -> np.ndarray:
        """Return the part ``(seeds, ...)`` of values ``(sets, ...)`` at one rate of noise."""
        by_rate = values.reshape(len(self.rates), -1, *values.shape[1:])
        return np.asarray(by_rate[self.rates.index(rate)])

    def accuracy(self, rule: str, rate: float) -> np.ndarray:
        """Return the test accuracy ``(seeds,)``."""
        return self.at(rate, self.trained[rule].accuracy)

    def temperatures(
        self, rule: str, rate: float, *, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the temperature of every example, and which are flipped, ``(seeds, n)``."""
        trained = self.trained[rule]
        lambdas = trained.exact_lambda if exact else trained.lambda_
        assert lambdas is not None
        return self.at(rate, lambdas), self.at(rate, self.problem.flipped)

    def mean_temperatures(
        self, rule: str, rate: float, *, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean temperature of flipped and of clean examples, ``(seeds,)`` each."""
        value, flipped = self.temperatures(rule, rate, exact=exact)
        of_flipped = np.sum(value * flipped, -1) / np.sum(flipped, -1)
        of_clean = np.sum(value * ~flipped, -1) / np.sum(~flipped, -1)
        return of_flipped, of_clean


def study(
    name: str,
    rates: tuple[float, ...],
    problem: Problem,
    *,
    rules: Iterable[str],
    steps: int,
    run: Run,
) -> Study:
    """Train one network for every rule and every data set."""
    trained = {
        rule: train(RULES[rule], problem, steps=steps, seed=run.seed)
        for rule in run.progress(rules, f"losses on {name}")
    }
    return Study(name, rates, problem, trained)
