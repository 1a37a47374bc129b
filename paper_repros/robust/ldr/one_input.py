"""One input with a conditional law of labels: every score is free, so that minimisers are exact."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from prefsim.containers import ClassLogits
from prefsim.losses.adaptive_dro import adaptive_kl_dro
from prefsim.losses.classification import (
    label_margins,
    ldr_kl,
    ldr_weights,
    linear_symmetric,
    with_margin,
)
from prefsim.losses.dro import kl_dro_dual

Risk = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""The expected loss of scores ``(K,)``, and its gradient."""


def every_label(scores: np.ndarray, margin: float = 0.0) -> ClassLogits[np.ndarray]:
    """Judge the same scores ``(K,)`` against each label in turn, ``(K, K)``."""
    size = scores.shape[-1]
    return with_margin(ClassLogits(np.broadcast_to(scores, (size, size)), np.arange(size)), margin)


def ldr_risk(law: np.ndarray, *, lambda_: float, margin: float) -> Risk:
    """Return the risk of LDR-KL, whose gradient is the expected weights minus the law."""

    def risk(scores: np.ndarray) -> tuple[float, np.ndarray]:
        classes = every_label(scores, margin)
        weights = ldr_weights(classes, lambda_=lambda_)
        return float(law @ ldr_kl(classes, lambda_=lambda_)), law @ weights - law

    return risk


def aldr_risk(law: np.ndarray, *, lambda_0: float, alpha: float, margin: float) -> Risk:
    """Return the risk of ALDR-KL with its exact maximum over the temperature."""

    def risk(scores: np.ndarray) -> tuple[float, np.ndarray]:
        margins = label_margins(every_label(scores, margin))
        worst = adaptive_kl_dro(margins, lambda_0=lambda_0, alpha=alpha)
        weights = kl_dro_dual(margins, lambda_=worst.lambda_).weights
        return float(law @ worst.value), law @ weights - law

    return risk


def minimiser(risk: Risk, size: int) -> tuple[np.ndarray, float]:
    """Return centred scores of least risk and that risk."""
    from scipy.optimize import minimize

    start = np.linspace(0.0, -0.2, size)[::-1]  # in the wrong order
    options = {"gtol": 1e-11, "maxiter": 500}
    found = minimize(risk, start, jac=True, method="BFGS", options=options)
    # A quasi-Newton method stalls at the kink of equal scores.
    level = risk(np.zeros(size))[0]
    if level <= found.fun + 1e-12:
        return np.zeros(size), level
    return found.x - found.x.mean(), float(found.fun)


def lost_order(scores: np.ndarray) -> int:
    """Count the neighbours in the law (falling) whose scores do not fall."""
    return int(np.sum(scores[:-1] - scores[1:] <= 1e-6))


def least_svm_risk(law: np.ndarray, margin: float) -> float:
    """Return the least SVM risk as a linear program.

    It is min Σ q_y t_y with t_y >= f_k − f_y + margin·[k ≠ y].
    """
    from scipy.optimize import linprog

    size = law.size
    y, k = (index.ravel() for index in np.indices((size, size)))
    scores = np.eye(size)[k] - np.eye(size)[y]
    program = linprog(
        np.concatenate([np.zeros(size), law]),
        A_ub=np.hstack([scores, -np.eye(size)[y]]),
        b_ub=-margin * (k != y),
        bounds=[(-50, 50)] * size + [(None, None)] * size,
    )
    return float(program.fun)


def symmetric_slope(law: np.ndarray) -> np.ndarray:
    """Return the gradient ``(K,)`` of the expected symmetric loss, linear in the scores."""
    at_zero = linear_symmetric(every_label(np.zeros(law.size)))
    return np.array(
        [law @ (linear_symmetric(every_label(unit)) - at_zero) for unit in np.eye(law.size)]
    )


def on_the_simplex(law: np.ndarray, bound: float) -> np.ndarray:
    """Return the minimiser of the expected symmetric loss on {f >= 0, Σf <= B}."""
    from scipy.optimize import linprog

    return np.asarray(linprog(symmetric_slope(law), A_ub=np.ones((1, law.size)), b_ub=[bound]).x)


def on_the_ball(law: np.ndarray, bound: float) -> np.ndarray:
    """Return the minimiser of the expected symmetric loss on {‖f‖ <= B}."""
    slope, scores = symmetric_slope(law), np.zeros(law.size)
    for _ in range(200):  # steps far out, projected back
        scores = scores - 10 * bound * slope / np.linalg.norm(slope)
        scores = scores * min(1.0, bound / float(np.linalg.norm(scores)))
    return scores


def spherical(classes: ClassLogits[np.ndarray]) -> np.ndarray:
    """Return √((K−1)/K) − g_y/√(1 + ‖g‖²), g the centred scores.

    It is symmetric and bounded, and keeps the order of the law.
    """
    size = classes.logits.shape[-1]
    g = classes.logits - classes.logits.mean(axis=-1, keepdims=True)
    own = np.take_along_axis(g, np.asarray(classes.label)[..., None], axis=-1)[..., 0]
    return np.asarray(math.sqrt((size - 1) / size) - own / np.sqrt(1 + np.sum(g * g, axis=-1)))
