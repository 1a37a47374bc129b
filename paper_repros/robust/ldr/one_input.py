"""One input with a conditional law of labels: every score is free, so that minimisers are exact."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import entr

from prefsim.containers import ClassLogits
from prefsim.losses.adaptive_classification import aldr_kl
from prefsim.losses.adaptive_dro import adaptive_kl_dro
from prefsim.losses.class_scores import every_label, label_margins, with_margin
from prefsim.losses.classification import (
    crammer_singer,
    cross_entropy,
    ldr_k_kl,
    ldr_kl,
    ldr_top_k,
    ldr_weights,
    linear_symmetric,
    mae,
)
from prefsim.losses.dro import kl_dro, kl_dro_dual
from prefsim.numerics import log_softmax, logsumexp
from prefsim.papers import Verdict, worst

Risk = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""The expected loss of scores ``(K,)``, and its gradient."""


def laws(most: float = 1.0) -> st.SearchStrategy[np.ndarray]:
    """Distributions with distinct entries in falling order, the first at most ``most``."""
    weights = st.lists(st.integers(1, 50), min_size=3, max_size=5, unique=True)
    ordered = weights.map(lambda w: np.sort(np.asarray(w, float))[::-1] / sum(w))
    return ordered.filter(lambda law: law[0] <= most)


def first_label(scores: np.ndarray, margin: float) -> ClassLogits[np.ndarray]:
    """Return one example whose label is class 0."""
    return with_margin(ClassLogits(scores, np.asarray(0)), margin)


def solved_worst_case(margins: np.ndarray, lambda_: float) -> tuple[float, np.ndarray]:
    """Return max p·v − λ KL(p‖1/K) over distributions p, and the maximiser, by a solver."""
    import cvxpy as cp

    p = cp.Variable(margins.size)
    # −KL(p‖1/K) = H(p) − log K
    penalty = cp.sum(cp.entr(p)) - math.log(margins.size)
    problem = cp.Problem(cp.Maximize(p @ margins + lambda_ * penalty), [cp.sum(p) == 1, p >= 0])
    with warnings.catch_warnings():
        # More is asked for than the solver always reaches: the comparison says what it reached.
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return float(problem.value), np.asarray(p.value)


# --- the losses by their definitions ---


def drawn_examples(seed: int) -> ClassLogits[np.ndarray]:
    """Return twenty examples of five classes, with a margin of ½."""
    rng = np.random.default_rng(seed)
    scores, labels = 2 * rng.standard_normal((20, 5)), rng.integers(0, 5, 20)
    return with_margin(ClassLogits(scores, labels), 0.5)


def library_losses(
    classes: ClassLogits[np.ndarray], *, k: int, lambda_: float, lambda_0: float
) -> dict[str, np.ndarray]:
    """Return the library's losses of examples ``(n, K)``, each ``(n,)``."""
    bare = classes._replace(margin=None)
    return {
        "ldr_kl": ldr_kl(classes, lambda_=lambda_),
        "kl_dro": kl_dro(label_margins(classes), lambda_=lambda_),
        "ldr_k_kl": ldr_k_kl(classes, k=k, lambda_=lambda_),
        "ldr_top_k": ldr_top_k(classes, k=k),
        "crammer_singer": crammer_singer(classes),
        "linear_symmetric": linear_symmetric(classes),
        "aldr_kl": aldr_kl(classes, lambda_0=lambda_0),
        "cross_entropy": cross_entropy(bare),
        "mae": mae(bare),
    }


def defined_losses(
    classes: ClassLogits[np.ndarray], *, k: int, lambda_: float, lambda_0: float
) -> dict[str, np.ndarray]:
    """Return the same by their definitions."""
    v = label_margins(classes)
    falling = -np.sort(-v, axis=-1)
    log_probs = log_softmax(classes.logits)
    own = np.take_along_axis(log_probs, np.asarray(classes.label)[:, None], axis=-1)[:, 0]
    alpha = 2 * math.log(v.shape[-1])
    return {
        "ldr_kl": tempered(v, lambda_),
        "kl_dro": tempered(v, lambda_),
        "ldr_k_kl": np.array([capped_worst_case(row, k, lambda_) for row in v]),
        "ldr_top_k": falling[:, :k].mean(axis=-1),
        "crammer_singer": falling[:, 0],
        "linear_symmetric": v.mean(axis=-1),
        "aldr_kl": np.array([adapted_worst_case(row, lambda_0, alpha) for row in v]),
        "cross_entropy": -own,
        "mae": 1 - np.exp(own),
    }


def differences_from_definitions(
    classes: ClassLogits[np.ndarray],
    *,
    k: int,
    lambda_: float,
    lambda_0: float,
    granted: float = 1.0,
) -> dict[str, float]:
    """Return by how much each loss misses its definition, at worst.

    The definitions have the share ``granted`` of the margins.
    """
    assert classes.margin is not None
    other = classes._replace(margin=granted * classes.margin)
    found = library_losses(classes, k=k, lambda_=lambda_, lambda_0=lambda_0)
    stated = defined_losses(other, k=k, lambda_=lambda_, lambda_0=lambda_0)
    return {name: float(np.abs(found[name] - stated[name]).max()) for name in stated}


def tempered(v: np.ndarray, lambda_: float) -> np.ndarray:
    """Return λ log mean exp(v/λ), ``(...)`` of ``(..., K)``."""
    return lambda_ * np.asarray(logsumexp(v / lambda_) - math.log(v.shape[-1]))


def capped_worst_case(v: np.ndarray, k: int, lambda_: float) -> float:
    """Return max p·v − λ KL(p‖1/K) over p <= 1/k: p = min(1/k, s e^{v/λ}), s by a root find."""
    tilted = np.exp((v - v.max()) / lambda_)

    def weights(log_scale: float) -> np.ndarray:
        return np.minimum(1 / k, math.exp(log_scale) * tilted)

    if k == v.size:  # only the uniform distribution is left
        return float(v.mean())
    p = weights(brentq(lambda s: weights(s).sum() - 1, -30.0, 200.0, xtol=1e-13))
    return float(p @ v - lambda_ * (math.log(v.size) * p.sum() - entr(p).sum()))


def adapted_worst_case(v: np.ndarray, lambda_0: float, alpha: float) -> float:
    """Return max over λ of λ log mean exp(v/λ) − α(λ − λ₀)²/2λ₀ by search near the best of many."""

    def cost(lambda_: float) -> float:
        return float(alpha / (2 * lambda_0) * (lambda_ - lambda_0) ** 2 - tempered(v, lambda_))

    # Beyond λ₀ nothing is gained, and above log K the pull keeps the temperature from zero.
    grid = np.linspace(0.02 * lambda_0, lambda_0, 400)
    best = grid[int(np.argmin([cost(x) for x in grid]))]
    step = grid[1] - grid[0]
    near = minimize_scalar(
        cost, bounds=(best - step, best + step), method="bounded", options={"xatol": 1e-9}
    )
    return -min(float(near.fun), cost(best))


def expected(
    loss: Callable[[ClassLogits[np.ndarray]], np.ndarray], law: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Return the expected loss ``(...)`` of scores ``(..., K)`` when the label follows the law."""
    return np.asarray(loss(every_label(scores)) @ law)


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
        adapted = adaptive_kl_dro(margins, lambda_0=lambda_0, alpha=alpha)
        weights = kl_dro_dual(margins, lambda_=adapted.lambda_).weights
        return float(law @ adapted.value), law @ weights - law

    return risk


def of_a_single_class(size: int) -> float:
    """Return log K, the divergence of a single class from uniform, the largest of all."""
    return math.log(size)


def of_all_but_one(size: int) -> float:
    """Return log(K/(K−1)), the divergence of all classes but the label, tied, from uniform."""
    return math.log(size / (size - 1))


def end_of_plain_iteration(
    margins: np.ndarray, *, lambda_0: float, alpha: float
) -> tuple[float, float]:
    """Return the temperature at which λ = λ₀(1 − KL/α), iterated from λ₀, ends, and its value."""
    lambda_ = lambda_0
    for _ in range(300):
        divergence = float(kl_dro_dual(margins, lambda_=lambda_).divergence)
        lambda_ = lambda_0 * (1 - divergence / alpha)
    pull = alpha / (2 * lambda_0) * (lambda_ - lambda_0) ** 2
    return lambda_, float(kl_dro(margins, lambda_=lambda_)) - pull


def two_maxima(ratio: float) -> tuple[float, float, float, float]:
    """Return λ and value where plain iteration ends, and at the best, with α = ratio·log K.

    Ten classes, nine of them 1.88 behind, and λ₀ = 1.
    """
    v = np.array([0.0] + [-1.88448992] * 9)
    lambda_0, alpha = 1.0, ratio * math.log(v.size)
    plain, height = end_of_plain_iteration(v, lambda_0=lambda_0, alpha=alpha)
    best = adaptive_kl_dro(v, lambda_0=lambda_0, alpha=alpha)
    return plain, height, float(best.lambda_), float(best.value)


def is_least_at_equal_scores(risk: Risk, size: int) -> bool:
    """Return whether no small step from equal scores lowers a convex risk."""
    level, slope = risk(np.zeros(size))
    # A smooth risk falls along the first.
    directions = (-slope, *np.eye(size), *-np.eye(size))
    return all(risk(1e-4 * direction)[0] >= level for direction in directions)


def minimiser(risk: Risk, size: int) -> tuple[np.ndarray, float]:
    """Return centred scores of least risk and that risk."""
    from scipy.optimize import minimize

    # A quasi-Newton method stalls at the kink of equal scores.
    if is_least_at_equal_scores(risk, size):
        return np.zeros(size), risk(np.zeros(size))[0]
    start = np.linspace(0.0, -0.2, size)[::-1]  # in the wrong order
    # Below a slope of 1e-9 rounding makes every line search long: a Newton step goes on from there.
    options = {"gtol": 1e-9, "maxiter": 500}
    found = minimize(risk, start, jac=True, method="BFGS", options=options)
    return polished(risk, found.x - found.x.mean())


def polished(risk: Risk, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Return scores after a Newton step from where a search of the risk ended, and their risk.

    The search knows flat directions to 1e-6 only. At a kink a step does not bring the gradient
    down, and is not made.
    """
    value, slope = risk(scores)
    units = 1e-5 * np.eye(scores.size)
    hessian = np.stack([(risk(scores + d)[1] - risk(scores - d)[1]) / 2e-5 for d in units])
    moved = scores - np.linalg.pinv(hessian, rcond=1e-8) @ slope
    moved -= moved.mean()
    value_there, slope_there = risk(moved)
    if np.abs(slope_there).max() < np.abs(slope).max():
        return moved, value_there
    return scores, value


def best_scores(law: np.ndarray, *, lambda_: float, margin: float) -> tuple[np.ndarray, float]:
    """Return centred scores of least expected LDR-KL, and that risk."""
    return minimiser(ldr_risk(law, lambda_=lambda_, margin=margin), law.size)


def lost_order(scores: np.ndarray) -> int:
    """Count the neighbours in the law (falling) whose scores do not fall."""
    return int(np.sum(scores[:-1] - scores[1:] <= 1e-6))


def keeps_the_order(found: np.ndarray, value: float) -> Verdict:
    """Return whether scores of least risk have strictly the order of the law."""
    gap = np.min(found[:-1] - found[1:])
    return worst(
        lost_order(found),
        detail=f"smallest gap {gap:.2e} at scores {np.round(found, 4)}, risk {value:.6g}",
    )


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


def uniform_flips(size: int) -> np.ndarray:
    """Return the law of a flipped label ``[true, observed]``, uniform over the other classes."""
    return (1 - np.eye(size)) / (size - 1)


def uneven_flips(size: int) -> np.ndarray:
    """Return the law of a flipped label ``[true, observed]`` that prefers the lower classes."""
    away = (np.tri(size) + 0.1) * (1 - np.eye(size))
    return np.asarray(away / away.sum(axis=-1, keepdims=True))


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
