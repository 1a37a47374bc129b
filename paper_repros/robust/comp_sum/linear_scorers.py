"""Linear scorers and a ball around an input: by hand, point by point, and trained on features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros.robust.comp_sum.one_input import THREE
from prefsim.containers import ClassLogits
from prefsim.losses import ramp_comp_sum
from prefsim.losses.adversarial_classification import (
    linear_local_variation,
    linear_robust_lead,
    local_variation,
    smooth_adversarial_comp_sum,
)
from prefsim.papers import Run
from prefsim.papers.figures import COLOURS
from prefsim.testing.bandits import tables

POINTS = 200


class LinearScorer(NamedTuple):
    """Weights ``(K, d)``, an input ``(d,)`` of class 0, the radius of the ball, and the lead ρ."""

    weights: np.ndarray
    at: np.ndarray
    radius: float
    rho: float
    seed: int

    def classes(self) -> ClassLogits[np.ndarray]:
        """Return the scores of the input."""
        return ClassLogits((self.weights @ self.at)[None], np.array([0]))

    def moved(self, steps: np.ndarray) -> np.ndarray:
        """Return the scores ``(P, K)`` after steps ``(P, d)`` from the input."""
        return (self.at + steps) @ self.weights.T

    def leads(self, steps: np.ndarray) -> np.ndarray:
        """Return the least lead of class 0 after each step."""
        scores = self.moved(steps)
        return scores[:, 0] - scores[:, 1:].max(axis=-1)

    def differences(self) -> np.ndarray:
        """Return A, the rows w_0 − w_k."""
        return self.weights[0] - self.weights[1:]

    def in_the_ball(self) -> np.ndarray:
        """Return drawn steps in the ball, and those that do most harm."""
        rng = np.random.default_rng(self.seed)
        steps = rng.standard_normal((POINTS, self.at.size))
        steps *= self.radius / np.linalg.norm(steps, axis=-1, keepdims=True)
        steps[::2] *= rng.random((POINTS // 2, 1))
        return np.concatenate([steps, self.most_moved(), self.towards_each()])

    def most_moved(self) -> np.ndarray:
        """Return the steps ``(2, d)`` along which the leads together move most."""
        direction = np.linalg.svd(self.differences())[2][0]
        return self.radius * np.stack([direction, -direction])

    def towards_each(self) -> np.ndarray:
        """Return the steps ``(K - 1, d)`` that bring each other class nearest."""
        rows = self.differences()
        return -self.radius * rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    def variation(self) -> float:
        """Return the local variation in closed form."""
        return float(linear_local_variation(self.weights, np.array([0]), radius=self.radius)[0])

    def robust_lead(self) -> float:
        """Return the least lead in the ball in closed form."""
        label = np.array([0])
        found = linear_robust_lead(self.weights, self.at[None], label, radius=self.radius)
        return float(found[0])

    def varies(self, steps: np.ndarray) -> float:
        """Return the local variation over given steps."""
        return float(local_variation(self.classes(), self.moved(steps)[None])[0])

    def smooth_loss(self, tau: float, factor: float = 1.0) -> float:
        """Return the smooth adversarial loss, with ``factor`` times the least weight ν."""
        nu = factor * math.sqrt(self.weights.shape[0] - 1) / self.rho
        variation = np.array([self.variation()])
        options = {"rho": self.rho} if factor == 1 else {"rho": self.rho, "nu": nu}
        return float(smooth_adversarial_comp_sum(self.classes(), variation, tau=tau, **options)[0])

    def worst_ramps(self, tau: float) -> float:
        """Return the largest comp-sum loss of ramps over points of the ball."""
        scores = self.moved(self.in_the_ball())
        nearby = ClassLogits(scores, np.zeros(len(scores), dtype=int))
        return float(ramp_comp_sum(nearby, tau=tau, rho=self.rho).max())

    def turned(self) -> float:
        """Return 1 if some point of the ball is classified wrongly, else 0."""
        return float(self.leads(self.in_the_ball()).min() <= 0)


@st.composite
def linear_scorers(draw: st.DrawFn) -> LinearScorer:
    """Two to four classes in two or three dimensions."""
    n_classes, size = draw(st.integers(2, 4)), draw(st.integers(2, 3))
    weights = draw(
        tables((n_classes, size), low=-2.0, high=2.0).filter(
            lambda w: np.linalg.norm(w[0] - w[1:], axis=-1).min() > 0.2
        )
    )
    return LinearScorer(
        weights,
        draw(tables((size,), low=-2.0, high=2.0)),
        draw(st.floats(0.05, 1.0)),
        draw(st.floats(0.5, 2.0)),
        draw(st.integers(0, 10**6)),
    )


# --- one linear scorer ---

BY_HAND = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
AT, BALL = np.array([[0.5, 0.2]]), 0.1

# In 30-digit arithmetic: the smooth loss at τ = 0, 1, 2, the least lead .3 − .1√2, and ‖A‖/10
# twice.
KNOWN_VALUES = (1.3676740864, 1.0395974620, 0.8359486706, 0.1585786438, 0.2302775638, 0.2302775638)


def by_hand_values() -> np.ndarray:
    """Return the same as measured, the last of them by moving the input as far as it goes."""
    label = np.array([0])
    classes = ClassLogits(AT @ BY_HAND.T, label)
    variation = linear_local_variation(BY_HAND, label, radius=BALL)
    smooth = [smooth_adversarial_comp_sum(classes, variation, tau=tau) for tau in (0.0, 1.0, 2.0)]
    lead = linear_robust_lead(BY_HAND, AT, label, radius=BALL)
    turns = np.linspace(0.0, 2 * np.pi, 4001)
    nearby = AT + BALL * np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    moved = local_variation(classes, (nearby @ BY_HAND.T)[None])
    return np.concatenate([*smooth, lead, variation, moved])


# --- robust and fragile features ---

SEPARATION = 3.0  # R, of the robust feature, whose noise is one
FRAGILE, FRAGILE_NOISE = 0.05, 0.005  # the fragile feature: clean, and within reach of a small step
RIDGE = 1e-6
N_TRAIN, N_TEST = 300, 4000


class Drawn(NamedTuple):
    """Inputs ``(n, d)`` and labels ``(n,)``."""

    inputs: np.ndarray
    label: np.ndarray


def with_fragile_feature(n: int, seed: int) -> Drawn:
    """Return two noisy coordinates far apart, and two clean ones close together."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    robust = SEPARATION * THREE[label] + rng.standard_normal((n, 2))
    fragile = FRAGILE * THREE[label] + FRAGILE_NOISE * rng.standard_normal((n, 2))
    return Drawn(np.concatenate([robust, fragile], axis=-1), label)


def isotropic(n: int, seed: int) -> Drawn:
    """Return two coordinates with noise alike in all directions."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    return Drawn(1.2 * THREE[label] + 0.5 * rng.standard_normal((n, 2)), label)


class Scorer(NamedTuple):
    """Weights ``(3, d)`` and biases ``(3,)``."""

    weights: np.ndarray
    bias: np.ndarray

    def errors(self, data: Drawn, radius: float) -> tuple[float, float]:
        """Return the share of inputs classified wrongly, and of those that can be made so."""
        clean, robust = (
            float(np.mean(linear_robust_lead(self.weights, *data, radius=r, bias=self.bias) <= 0))
            for r in (0.0, radius)
        )
        return clean, robust


def trained(data: Drawn, *, tau: float, radius: float, ridge: float, seed: int) -> Scorer:
    """Return a scorer trained to the end, by L-BFGS from a small start.

    With a radius of zero it learns from the comp-sum loss alone.
    """
    import torch
    from scipy.optimize import minimize

    inputs, label = torch.as_tensor(data.inputs), torch.as_tensor(data.label)
    size = data.inputs.shape[1]

    def risk(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = torch.tensor(flat.reshape(3, size + 1), requires_grad=True)
        weights, bias = both[:, :size], both[:, size]
        # One variation a class, not one an example.
        by_class = linear_local_variation(weights, torch.arange(3), radius=radius)
        classes = ClassLogits(inputs @ weights.T + bias, label)
        losses = smooth_adversarial_comp_sum(classes, by_class[label], tau=tau)
        value = losses.mean() + ridge / 2 * (both**2).sum()
        value.backward()
        assert both.grad is not None
        return value.item(), both.grad.numpy().ravel()

    start = 0.1 * np.random.default_rng(seed).standard_normal(3 * (size + 1))
    options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(risk, start, jac=True, method="L-BFGS-B", options=options)
    both = found.x.reshape(3, size + 1)
    return Scorer(both[:, :size], both[:, size])


class Robustness(NamedTuple):
    """Clean and robust errors on test data of scorers, ``(radii, seeds)``, by what they learn."""

    radii: tuple[float, ...]
    clean: dict[str, np.ndarray]
    robust: dict[str, np.ndarray]


CROSS_ENTROPY = "cross-entropy"


def smooth(tau: float) -> str:
    """Return the name of the smooth adversarial loss at a τ."""
    return f"smooth adversarial, τ = {tau:g}"


def measure(
    radii: Sequence[float], taus: Sequence[float], seeds: range, *, fragile: bool, run: Run
) -> Robustness:
    """Train cross-entropy once a seed, the smooth losses for every radius, and test them all."""
    draw = with_fragile_feature if fragile else isotropic
    ridge = RIDGE if fragile else 1e-3
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for seed in run.progress(seeds, "seeds of the adversarial study"):
        train, test = draw(N_TRAIN, seed), draw(N_TEST, 1000 + seed)
        plain = trained(train, tau=1.0, radius=0.0, ridge=ridge, seed=seed)
        row = [plain.errors(test, radius) for radius in radii]
        found.setdefault(CROSS_ENTROPY, []).append(row)
        for tau in taus:
            row = [
                trained(train, tau=tau, radius=radius, ridge=ridge, seed=seed).errors(test, radius)
                for radius in radii
            ]
            found.setdefault(smooth(tau), []).append(row)
    tables = {name: np.asarray(rows).transpose(2, 1, 0) for name, rows in found.items()}
    return Robustness(
        tuple(radii),
        {name: table[0] for name, table in tables.items()},
        {name: table[1] for name, table in tables.items()},
    )


def collapse_radius(tau: float) -> float:
    """Return the radius from which on the zero scorer is a local minimum, R·3^(−τ)."""
    return SEPARATION * math.pow(3.0, -tau)


def rows_of_adversaries(part: str, found: Robustness) -> list[dict[str, str | float | int]]:
    """Return what was measured, a row for a loss and a radius."""
    return [
        {
            "part": part,
            "loss": name,
            "γ": radius,
            "seeds": robust.shape[1],
            "clean error": round(float(found.clean[name][place].mean()), 4),
            "robust error": round(float(robust[place].mean()), 4),
        }
        for name, robust in found.robust.items()
        for place, radius in enumerate(found.radii)
    ]


def draw_robust_errors(axis: Any, found: Robustness) -> None:
    """Draw the robust errors over the radius, a line a loss."""
    for place, (name, robust) in enumerate(found.robust.items()):
        error = robust.std(axis=-1, ddof=1) / np.sqrt(robust.shape[1])
        style = {"marker": "o", "ms": 4, "capsize": 2, "color": COLOURS[place]}
        width = 2.0 if name in (CROSS_ENTROPY, smooth(1.0)) else 1.2
        axis.errorbar(found.radii, robust.mean(axis=-1), error, label=name, lw=width, **style)
    axis.set(
        xlabel="radius γ of the ball",
        xticks=found.radii,
        xlim=(0, 1.2 * max(found.radii)),
        ylabel="robust error, mean ± standard error",
        title="A fragile feature fools cross-entropy",
        # Room for the legend above what collapses to chance.
        ylim=(0, 1),
    )
    axis.legend(frameon=False, fontsize=8)
