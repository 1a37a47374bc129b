"""One input with a conditional law of labels, or a few with their weights: scores and risks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim.analysis import (
    constant_minimisability_gap,
    h_consistency_transformation,
    least_comp_sum_risk,
    minimisability_gap_bound,
)
from prefsim.containers import ClassLogits
from prefsim.gradients import gradient
from prefsim.losses import (
    comp_sum,
    container_of,
    crammer_singer,
    ldr_kl,
    loss_functions,
    ramp_comp_sum,
)
from prefsim.losses.adversarial_classification import linear_local_variation
from prefsim.losses.class_scores import every_label
from prefsim.losses.comp_sum import comp_sum_link
from prefsim.numerics import softmax
from prefsim.testing.bandits import tables

TAUS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 1.9, 2.0, 3.0]) | st.floats(0.0, 3.0)
FAR = 40.0
"""Scores this far apart have probabilities of 0 and 1, to rounding."""


def laws(
    classes: st.SearchStrategy[int] | None = None, *, least: float = 0.0
) -> st.SearchStrategy[np.ndarray]:
    """Laws of 2 to 6 labels, some of them impossible unless each has ``least`` > 0 of a weight."""
    sizes = st.integers(2, 6) if classes is None else classes
    weights = sizes.flatmap(lambda n: tables((n,), low=least, high=1.0))
    return weights.filter(lambda w: w.sum() > 0.05).map(lambda w: w / w.sum())


def risk(scores: np.ndarray, law: np.ndarray, tau: float) -> np.ndarray:
    """Return the expected comp-sum loss ``(...)`` of scores ``(..., K)`` under laws ``(..., K)``.

    A label of probability zero costs nothing, however unlikely it is held to be.
    """
    return np.sum(law * comp_sum(every_label(scores), tau=tau), axis=-1)


def zero_one_gap(scores: np.ndarray, law: np.ndarray) -> np.ndarray:
    """Return the excess zero-one risk ``(...)``; of tied scores the worst label is taken."""
    leading = scores == scores.max(axis=-1, keepdims=True)
    return law.max(axis=-1) - np.min(np.where(leading, law, np.inf), axis=-1)


class Input(NamedTuple):
    """A law of labels and scores, each ``(K,)``."""

    law: np.ndarray
    scores: np.ndarray

    def excess(self, tau: float) -> float:
        """Return the excess risk; rounding can leave a negative zero."""
        return float(risk(self.scores, self.law, tau) - least_comp_sum_risk(self.law, tau=tau))

    def gap(self) -> float:
        """Return the excess zero-one risk."""
        return float(zero_one_gap(self.scores, self.law))


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    """Draw a law with any scores, near the best ones, or with a wrong label tied with the best."""
    law = draw(laws())
    kind = draw(st.sampled_from(["free", "near the best", "tied"]))
    noise = draw(tables((law.size,), low=-4.0, high=4.0))
    if kind == "free":
        return Input(law, noise)
    best = np.log(law + 1e-6)
    if kind == "near the best":
        return Input(law, best + 0.1 * noise)
    wrong = draw(st.integers(0, law.size - 1))
    best[[int(wrong), int(law.argmax())]] = best.max()
    return Input(law, best)


def two_labels(gap: float, n_classes: int) -> Input:
    """Return two possible labels that differ by ``gap``, and scores that cannot tell them apart."""
    rest = np.zeros(n_classes - 2)
    law = np.concatenate([[(1 + gap) / 2, (1 - gap) / 2], rest])
    return Input(law, np.concatenate([[0.0, 0.0], rest - FAR]))


def one_rarer(gap: float, n_classes: int) -> Input:
    """Return labels alike but for a last one, rarer by ``gap``, and scores that are all equal."""
    law = np.full(n_classes, (1 + gap) / n_classes)
    law[-1] -= gap
    return Input(law, np.zeros(n_classes))


@st.composite
def attaining(
    draw: st.DrawFn, taus: st.SearchStrategy[float], *, most: float | None
) -> tuple[Input, float, float]:
    """Draw an input that attains the transformation, with its τ and its excess error.

    Many classes have one of ``taus``, two any up to ``most``; with None there are three or more.
    """
    gap, kind = draw(st.floats(0.3, 1.0)), draw(st.integers(0, 2 if most is not None else 0))
    if kind == 1:
        return two_labels(gap, 2), draw(st.floats(0.0, most)), gap
    n_classes = draw(st.integers(3, 6))
    if kind == 2:
        gap /= n_classes - 1
        return one_rarer(gap, n_classes), 2.0, gap
    return two_labels(gap, n_classes), draw(taus), gap


@st.composite
def rarer_inputs(draw: st.DrawFn) -> Input:
    """Draw an input of :func:`one_rarer` with at least three classes."""
    n_classes = draw(st.integers(3, 6))
    return one_rarer(draw(st.floats(0.05, 1.0)) / (n_classes - 1), n_classes)


def best_scores(law: np.ndarray, tau: float) -> np.ndarray:
    """Return the scores of least risk; from τ = 2 on, one best label as far ahead as matters."""
    if tau < 2:
        return np.log(law) / (2 - tau)
    return FAR * (np.arange(law.shape[-1]) == law.argmax(axis=-1)[..., None])


def least_risk_found(law: np.ndarray, tau: float, reach: float) -> float:
    """Return the least risk that a search from a few starts finds, of scores within ``reach``."""
    from scipy.optimize import minimize

    def with_slope(scores: np.ndarray) -> tuple[float, np.ndarray]:
        p = softmax(scores)
        # Σ_y q_y p_y^(τ−1) (p − e_y)
        pull = law * p ** (tau - 1)
        return float(risk(scores, law, tau)), pull.sum() * p - pull

    starts = list(np.random.default_rng(0).uniform(-0.5, 0.5, (3, law.size)) * min(reach, 2.0))
    if tau >= 2:
        # What is best lies at infinity, where slopes vanish on the way.
        starts = [np.clip(best_scores(law, tau), -reach, reach)]
    options = {"ftol": 1e-15, "gtol": 1e-11, "maxiter": 2000}
    box = [(-reach, reach)] * law.size
    search = {"jac": True, "method": "L-BFGS-B", "bounds": box, "options": options}
    return min(minimize(with_slope, start, **search).fun for start in starts)


# --- several inputs ---


class Population(NamedTuple):
    """Weights ``(X,)`` of inputs, laws of labels and scores ``(X, K)`` of each."""

    weight: np.ndarray
    law: np.ndarray
    scores: np.ndarray

    def excess(self, tau: float) -> float:
        """Return the risk less what the best scores of each input would leave, >= 0."""
        each = risk(self.scores, self.law, tau) - least_comp_sum_risk(self.law, tau=tau)
        return max(float(self.weight @ each), 0.0)

    def gap(self) -> float:
        """Return the same of the zero-one loss."""
        return float(self.weight @ zero_one_gap(self.scores, self.law))


@st.composite
def populations(draw: st.DrawFn, *, constant: bool, most: int = 10) -> Population:
    """Draw inputs with scores of their own, or with the same scores for all."""
    size, n_classes = draw(st.integers(2, most)), draw(st.integers(2, 5))
    weights = draw(tables((size,), low=0.1, high=1.0))
    law = draw(tables((size, n_classes), low=0.01, high=1.0))
    law = law / law.sum(axis=-1, keepdims=True)
    rows = 1 if constant else size
    scores = draw(tables((rows, n_classes), low=-2.0, high=2.0))
    scores = np.broadcast_to(scores, (size, n_classes))
    return Population(weights / weights.sum(), law, scores)


def two_label_populations() -> st.SearchStrategy[Population]:
    """One input that attains the transformation, with another of no weight but rounding."""

    def made(gap: float, n_classes: int) -> Population:
        one = two_labels(gap, n_classes)
        return Population(np.array([1.0]), one.law[None], one.scores[None])

    return st.builds(made, st.floats(0.05, 0.95), st.integers(2, 5))


def best_constant(population: Population, tau: float) -> Population:
    """Return the same inputs with the constant scores of least risk."""
    scores = best_scores(population.weight @ population.law, tau)
    return population._replace(scores=np.broadcast_to(scores, population.law.shape))


# --- perturbed inputs ---


class Perturbed(NamedTuple):
    """A law of labels ``(K,)`` and scores ``(P, K)`` at the perturbations of one input."""

    law: np.ndarray
    scores: np.ndarray

    def zero_one_excess(self) -> float:
        """Return the excess of the adversarial zero-one loss: a tie anywhere is an error."""
        against = every_label(self.scores)
        own = np.arange(self.law.size) == np.asarray(against.label)[..., None]
        others = np.max(np.where(own, -np.inf, against.logits), axis=-1)
        right = (self.scores > others).all(axis=0)
        return float(self.law.max() - self.law @ right)

    def ramp_excess(self, tau: float, rho: float) -> float:
        """Return the excess of the adversarial comp-sum loss of ramps."""
        worst = ramp_comp_sum(every_label(self.scores), tau=tau, rho=rho).max(axis=0)
        return float(self.law @ worst) - least_ramp_risk(self.law, tau)


def least_ramp_risk(law: np.ndarray, tau: float) -> float:
    """Return Σ_k q_(k) Φ(k − 1), q falling: an order with leads of ρ at every perturbation."""
    falling = -np.sort(-law)
    return float(falling @ comp_sum_link(np.log1p(np.arange(law.size)), tau=tau))


@st.composite
def perturbed(draw: st.DrawFn, classes: st.SearchStrategy[int] | None = None) -> Perturbed:
    """Draw up to three perturbations, scored apart or all in one order with clear leads."""
    law = draw(laws(st.integers(2, 4) if classes is None else classes))
    places = draw(st.integers(1, 3))
    scores = draw(tables((places, law.size), low=-2.0, high=2.0))
    if draw(st.booleans()):
        order = np.argsort(draw(tables((law.size,), low=0.0, high=1.0)))
        scores = np.broadcast_to(2.0 * np.argsort(order), scores.shape) + 0.1 * scores
    return Perturbed(law, scores)


def swapped_first_two(law: np.ndarray) -> Perturbed:
    """Return the best order of a law but for its first two labels: it attains the bound."""
    order = np.argsort(-law)
    order[[0, 1]] = order[[1, 0]]
    scores = np.empty(law.size)
    scores[order] = -2.0 * np.arange(law.size)
    return Perturbed(law, scores[None])


# --- the zero scorer of three symmetric classes ---


ANGLES = 2 * np.pi * np.arange(3) / 3
THREE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)
"""Directions of three classes, unit vectors at 120°."""


def zero_scorer_slope(direction: np.ndarray, *, tau: float, radius: float, gamma: float) -> float:
    """Return the slope at W = 0 along a direction, of the smooth loss of three points R·m_y."""
    points = radius * THREE
    label = np.arange(3)

    def mean_loss(weights: Any) -> Any:
        import torch

        classes = ClassLogits(torch.as_tensor(points) @ weights.T, torch.arange(3))
        return comp_sum(classes, tau=tau).mean()

    descent = gradient(mean_loss, np.zeros((3, 2)))
    variation = linear_local_variation(direction, label, radius=gamma).mean()
    return float(np.sum(descent * direction) + math.sqrt(2) * variation)


# --- what is drawn of the bounds ---

FAMILY = (0.0, 0.5, 1.0, 1.5, 2.0)


class Points(NamedTuple):
    """Excess risks and excess zero-one risks of drawn inputs, ``(N,)``."""

    excess: np.ndarray
    gap: np.ndarray


def drawn_points(tau: float, n_classes: int, n: int, rng: np.random.Generator) -> Points:
    """Draw laws and scores, a half of which cannot tell some label from the best."""
    law = rng.dirichlet(np.full(n_classes, 0.5), n)
    law /= law.sum(axis=-1, keepdims=True)
    best = np.log(law + 1e-3) / (2 - min(tau, 1.5))
    scores = best + rng.standard_normal((n, 1)) * rng.standard_normal(law.shape)
    other = rng.integers(0, n_classes, n // 2)
    rows, first = np.arange(n // 2), law[: n // 2].argmax(axis=-1)
    top = scores[: n // 2].max(axis=-1)
    scores[rows, other], scores[rows, first] = top, top
    excess = risk(scores, law, tau) - least_comp_sum_risk(law, tau=tau)
    return Points(np.maximum(excess, 0.0), zero_one_gap(scores, law))


def attained(tau: float, n_classes: int, gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the excess of two labels that scores cannot tell apart, and its bound."""
    found = np.array([two_labels(gap, n_classes).excess(tau) for gap in gaps])
    return found, h_consistency_transformation(gaps, tau=tau, n_classes=n_classes)


# --- two inputs that a constant scorer must treat alike ---

WEIGHT = np.array([0.6, 0.4])
LAWS = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])

# In 30-digit arithmetic, for τ of FAMILY.
KNOWN_GAPS = (0.5154835541, 0.4186281824, 0.3772763492, 0.3711940100, 0.28)
KNOWN_ZERO_ONE_GAP = 0.28


def gaps(taus: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Return the minimisability gaps at some τ."""
    return np.array([constant_minimisability_gap(WEIGHT, LAWS, tau=float(t)) for t in taus])


def gap_bounds(taus: np.ndarray) -> np.ndarray:
    """Return their upper bounds from the least sum-exponential risk."""
    least = least_comp_sum_risk(WEIGHT @ LAWS, tau=0.0)
    return np.array([minimisability_gap_bound(least, WEIGHT, LAWS, tau=float(t)) for t in taus])


# --- every classification loss ---


class Setting(NamedTuple):
    """A loss with its options, a margin, and what bounds its excess from below, where known."""

    loss: Callable[[ClassLogits[Any]], Any]
    margin: float = 0.0
    cost: Callable[[np.ndarray], np.ndarray] | None = None


def costs(tau: float, scale: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """Return the transformation of a comp-sum loss, times a scale."""
    return lambda gap: scale * h_consistency_transformation(gap, tau=tau, n_classes=3)


def family() -> dict[str, Setting]:
    """Return the settings that stand for the comp-sum family and its neighbours."""
    named = {
        "sum-exponential (τ = 0)": 0.0,
        "τ = 0.5": 0.5,
        "cross-entropy (τ = 1)": 1.0,
        "generalised cross-entropy (τ = 1.7)": 1.7,
        "mean absolute error (τ = 2)": 2.0,
        "τ = 3": 3.0,
    }
    found = {
        name: Setting(functools.partial(comp_sum, tau=tau), cost=costs(tau))
        for name, tau in named.items()
    }
    one = float(comp_sum_link(np.log(np.asarray(2.0)), tau=1.0))
    ramps = functools.partial(ramp_comp_sum, tau=1.0, rho=1.0)
    found["ramps (ρ = 1, τ = 1)"] = Setting(ramps, cost=lambda gap: one * gap)
    for lambda_ in (0.5, 2.0):
        # Cross-entropy of scores over λ, times λ.
        tempered = functools.partial(ldr_kl, lambda_=lambda_)
        found[f"LDR-KL, λ = {lambda_:g}"] = Setting(tempered, cost=costs(1.0, lambda_))
    found["Crammer–Singer, margin 1"] = Setting(crammer_singer, margin=1.0)
    return found


OF_THE_FAMILY = {"comp_sum", "cross_entropy", "mae", "ldr_kl", "ramp_comp_sum"}


def every_setting() -> dict[str, Setting]:
    """Return the family, and each other loss on class scores with its default options."""
    found = family()
    for name, loss in sorted(loss_functions().items()):
        if container_of(loss) is ClassLogits and name not in OF_THE_FAMILY:
            found[name] = Setting(loss)
    # Of three positive scores f = 3p of mean one the symmetric loss is 1 − 3p_y, 3 MAE − 2.
    symmetric = found["linear_symmetric"]
    found["linear_symmetric"] = symmetric._replace(cost=costs(2.0, 3.0))
    return found
