"""Instances and checks of the claims about the LDR losses: small enough to be solved exactly, by another route each time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim.containers import ClassLogits
from prefsim.losses.adaptive_classification import aldr_lambda
from prefsim.losses.adaptive_dro import adaptive_kl_dro
from prefsim.losses.classification import (
    label_margins,
    ldr_kl,
    ldr_weights,
    linear_symmetric,
    softplus_normalised,
    with_margin,
)
from prefsim.losses.dro import kl_dro, kl_dro_dual
from prefsim.papers import Verdict

# --- one input with conditional law q: every score free, so that minimisers are exact
# -------------------------------------------------


def every_label(scores: np.ndarray, margin: float) -> ClassLogits:
    """Judge the same scores ``(K,)`` against each label in turn, ``(K, K)``."""
    size = scores.shape[-1]
    return with_margin(ClassLogits(np.broadcast_to(scores, (size, size)), np.arange(size)), margin)


def laws(most: float = 1.0, sizes: tuple[int, int] = (3, 5)) -> st.SearchStrategy[np.ndarray]:
    """Distributions with distinct entries in falling order, the first at most ``most``."""
    weights = st.lists(st.integers(1, 50), min_size=sizes[0], max_size=sizes[1], unique=True)
    laws = weights.map(lambda w: np.sort(np.asarray(w, float))[::-1] / sum(w))
    return laws.filter(lambda q: q[0] <= most)


class Task(NamedTuple):
    """A conditional law, a temperature (λ, or λ₀ with ``alpha``), and the margin of the other classes."""

    law: np.ndarray
    lambda_: float
    margin: float
    alpha: float | None

    def risk(self, scores: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the expected loss and its gradient, the expected weights minus the law."""
        classes = every_label(scores, self.margin)
        if self.alpha is None:
            values, weights = (
                ldr_kl(classes, lambda_=self.lambda_),
                ldr_weights(classes, lambda_=self.lambda_),
            )
        else:
            v = label_margins(classes)
            worst = adaptive_kl_dro(v, lambda_0=self.lambda_, alpha=self.alpha)
            values, weights = worst.value, kl_dro_dual(v, lambda_=worst.lambda_).weights
        return float(self.law @ values), self.law @ weights - self.law


def minimiser(task: Task) -> tuple[np.ndarray, float]:
    """Return centred scores of least risk and that risk; the kink at equal scores, where a quasi-Newton method stalls, is tried too."""
    from scipy.optimize import minimize

    flat = np.zeros(task.law.size)
    start = np.linspace(0.0, -0.2, task.law.size)[::-1]  # in the wrong order
    found = minimize(
        task.risk, start, jac=True, method="BFGS", options={"gtol": 1e-11, "maxiter": 500}
    )
    level = task.risk(flat)[0]
    best, value = (flat, level) if level <= found.fun + 1e-12 else (found.x, found.fun)
    return best - best.mean(), value


def lost_order(scores: np.ndarray) -> int:
    """Count the neighbours in the law (falling) whose scores do not fall."""
    return int(np.sum(scores[:-1] - scores[1:] <= 1e-6))


def check_closed_minimiser(task: Task) -> Verdict:
    found, value = minimiser(task)
    stated = task.lambda_ * (np.log(task.law) - np.log(task.law).mean())
    entropy = -float(task.law @ np.log(task.law))
    gap, short = (
        float(np.abs(found - stated).max()),
        abs(value - task.lambda_ * (entropy - math.log(task.law.size))),
    )
    return Verdict(
        max(gap, short * 1e5, lost_order(found)), f"argmin off by {gap:.1e}, minimum by {short:.1e}"
    )


def check_order(task: Task) -> Verdict:
    found, value = minimiser(task)
    return Verdict(
        lost_order(found),
        f"smallest gap {np.min(found[:-1] - found[1:]):.2e} at scores {np.round(found, 4)}, risk"
        f" {value:.6g}",
    )


def best_svm_risk(law: np.ndarray, margin: float) -> float:
    """Return the least SVM risk as a linear program: min Σ q_y t_y with t_y >= f_k − f_y + margin·[k ≠ y]."""
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


def check_svm_inconsistent(task: Task) -> Verdict:
    flat = task.risk(np.zeros(task.law.size))[0]
    leading = task.risk(np.eye(task.law.size)[0])[0]
    least = best_svm_risk(task.law, task.margin)
    return Verdict(
        abs(flat - least) + max(0.0, flat - leading),
        f"equal scores {flat:.4g}, best {least:.4g}, e₁ {leading:.4g}",
    )


# --- the worst case itself
# -----------------------------------------------------------------------------------------------------------


class Scored(NamedTuple):
    """One example: scores, label, margin, temperature, and what is added to every score."""

    scores: np.ndarray
    label: int
    margin: float
    lambda_: float
    shift: float
    normalised: bool

    @property
    def classes(self) -> ClassLogits:
        """What a loss is given."""
        return with_margin(ClassLogits(self.scores, np.asarray(self.label)), self.margin)


def check_dual(example: Scored) -> Verdict:
    import cvxpy as cp

    v, size = label_margins(example.classes), example.scores.size
    p = cp.Variable(size)
    worst = cp.Problem(
        cp.Maximize(p @ v + example.lambda_ * (cp.sum(cp.entr(p)) - math.log(size))),
        [cp.sum(p) == 1, p >= 0],
    )  # −KL(p‖1/K) = H(p) − log K
    worst.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    value, weights = (
        float(ldr_kl(example.classes, lambda_=example.lambda_)),
        ldr_weights(example.classes, lambda_=example.lambda_),
    )
    gap, off = abs(float(worst.value) - value), float(np.abs(p.value - weights).max())
    # The objective is flat at its maximum, so the solver knows p to about the root of what it knows
    # of the value.
    return Verdict(max(gap, 1e-3 * off), f"value off by {gap:.1e}, weights by {off:.1e}")


LADDER = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 60), [math.inf]])


def check_monotone(example: Scored) -> Verdict:
    def ladder(shift: float) -> np.ndarray:
        scores = example.scores + shift
        classes = example.classes._replace(
            logits=softplus_normalised(scores) if example.normalised else scores
        )
        return np.asarray([float(ldr_kl(classes, lambda_=step)) for step in LADDER])

    values, v = ladder(0.0), label_margins(example.classes)
    rise = float(np.max(np.diff(values)))
    ends = 0.0 if example.normalised else max(abs(values[0] - v.max()), abs(values[-1] - v.mean()))
    moved = float(np.abs(ladder(example.shift) - values).max())
    return Verdict(
        max(0.0, rise, ends, moved) / (1 + np.abs(v).max() + abs(example.shift)),
        f"rise {rise:.1e}, shift changes {moved:.1e}",
    )


class Noise(NamedTuple):
    """Scores, a law, label noise of a total rate (its matrix ``[true, observed]``), a margin and a temperature."""

    scores: np.ndarray
    law: np.ndarray
    rate: float
    matrix: np.ndarray
    margin: float
    lambda_: float


def noises(lambdas: st.SearchStrategy[float], *, uniform: bool) -> st.SearchStrategy[Noise]:
    def build(law: np.ndarray, scale: float, rate: float, margin: float, lambda_: float) -> Noise:
        size = law.size
        away = np.ones((size, size)) if uniform else np.tri(size) + 0.1
        away = away * (1 - np.eye(size))
        matrix = (1 - rate) * np.eye(size) + rate * away / away.sum(-1, keepdims=True)
        return Noise(
            scale * np.cos(np.arange(size) * (1 + scale)), law, rate, matrix, margin, lambda_
        )

    return st.builds(
        build, laws(), st.floats(0.5, 5.0), st.floats(0.05, 0.6), st.floats(0.0, 2.0), lambdas
    )


def check_symmetric(noise: Noise) -> Verdict:
    values = ldr_kl(every_label(noise.scores, noise.margin), lambda_=noise.lambda_)
    size = noise.law.size
    symmetry = abs(float(values.sum()) - (size - 1) * noise.margin)
    noisy, clean = float(noise.law @ noise.matrix @ values), float(noise.law @ values)
    stated = (1 - noise.rate * size / (size - 1)) * clean + noise.rate * noise.margin
    return Verdict(
        max(symmetry, abs(noisy - stated)),
        f"sum off by {symmetry:.1e}, noisy risk by {abs(noisy - stated):.1e}",
    )


class Bounded(NamedTuple):
    """A law and the set that the scores may come from: ``"simplex"`` {f >= 0, Σf <= B} or ``"ball"`` {‖f‖ <= B}."""

    law: np.ndarray
    bound: float
    shape: str

    def minimiser(self) -> np.ndarray:
        """Return the minimiser of the expected symmetric loss, found by a linear program or by projected gradient steps."""
        from scipy.optimize import linprog

        zero = every_label(np.zeros(self.law.size), 0.0)
        unit = np.eye(self.law.size)
        slope = np.asarray(
            [
                self.law @ (linear_symmetric(every_label(e, 0.0)) - linear_symmetric(zero))
                for e in unit
            ]
        )
        if self.shape == "simplex":
            return linprog(slope, A_ub=np.ones((1, self.law.size)), b_ub=[self.bound]).x
        scores = np.zeros(self.law.size)
        for _ in range(200):
            scores = scores - 10 * self.bound * slope / np.linalg.norm(slope)
            scores = scores * min(1.0, self.bound / float(np.linalg.norm(scores)))
        return scores


def check_tied(case: Bounded) -> Verdict:
    found = case.minimiser()
    corner = np.max(np.abs(found - case.bound * np.eye(case.law.size)[0])) / case.bound
    return Verdict(
        float(corner), f"scores {np.round(found, 4)}: the order of all but the first is lost"
    )


def check_kept(case: Bounded) -> Verdict:
    found, centred = case.minimiser(), case.law - 1 / case.law.size
    off = float(np.max(np.abs(found / case.bound - centred / np.linalg.norm(centred))))
    return Verdict(max(off, lost_order(found / case.bound)), f"direction off by {off:.1e}")


def spherical(classes: ClassLogits) -> np.ndarray:
    """√((K−1)/K) − g_y/√(1 + ‖g‖²), g the centred scores: symmetric, bounded, and it keeps the order of the law."""
    size = classes.logits.shape[-1]
    g = classes.logits - classes.logits.mean(axis=-1, keepdims=True)
    own = np.take_along_axis(g, classes.label[..., None], axis=-1)[..., 0]
    return math.sqrt((size - 1) / size) - own / np.sqrt(1 + np.sum(g * g, axis=-1))


class Blind(NamedTuple):
    """A symmetric loss, a law, and scores of the classes that are not its first."""

    loss: Callable[[ClassLogits], np.ndarray]
    law: np.ndarray
    rest: np.ndarray


def check_order_blind(case: Blind) -> Verdict:
    size = case.law.size

    def risk(scores: np.ndarray) -> float:
        return float(case.law @ case.loss(every_label(scores, 0.0)))

    first = 200.0 * np.eye(size)[0]
    rest = np.concatenate([[0.0], case.rest[: size - 1]])
    sums = [float(case.loss(every_label(scores, 0.0)).sum()) for scores in (first, rest)]
    rays = [400 * case.law, *(100 * np.roll(rest, k) for k in range(size))]
    least = min(risk(ray) for ray in rays)
    spread = max(
        abs(risk(first + rest) - risk(first)),
        abs(risk(first + rest[[0, *range(size - 1, 0, -1)]]) - risk(first)),
    )
    error = max(abs(sums[0] - sums[1]), spread, max(0.0, risk(first) - least))
    return Verdict(
        error,
        f"risk {risk(first):.6g} whatever the order of the rest (spread {spread:.1e}); least found"
        f" {least:.6g}",
    )


# --- the adaptive temperature
# --------------------------------------------------------------------------------------------------------


class Peaked(NamedTuple):
    """Scores at growing scales, λ₀, α over log K, and which variant gives the temperature."""

    scores: np.ndarray
    lambda_0: float
    ratio: float
    variant: str


SCALES = np.concatenate([[0.0], np.geomspace(0.1, 30.0, 12)])


def check_adaptive(case: Peaked) -> Verdict:
    alpha = case.ratio * math.log(case.scores.size)
    classes = ClassLogits(SCALES[:, None] * case.scores, np.zeros(SCALES.size, int))
    found = np.asarray(
        aldr_lambda(classes, lambda_0=case.lambda_0, alpha=alpha, variant=case.variant)
    )
    divergence = kl_dro_dual(label_margins(classes), lambda_=found).divergence
    stationary = float(np.abs(found / case.lambda_0 - (1 - divergence / alpha)).max())
    rise = float(np.max(np.diff(found))) / case.lambda_0
    # λ₀ at equal scores, and strictly less elsewhere
    equal = abs(found[0] / case.lambda_0 - 1) + float(
        np.any(found[divergence > 1e-9] >= case.lambda_0)
    )
    error = max(stationary, rise, equal, 0.0)
    return Verdict(
        error,
        f"stationary to {stationary:.1e}; λ*/λ₀ from {found[0] / case.lambda_0:.3f} to"
        f" {found[-1] / case.lambda_0:.3f}",
    )


def check_not_concave(case: Peaked) -> Verdict:
    """Show that the largest stationary temperature, where plain iteration from λ₀ ends, is not the maximiser."""
    alpha, v = case.ratio * math.log(case.scores.size), case.scores - case.scores[0]
    plain = case.lambda_0
    for _ in range(300):
        plain = case.lambda_0 * (1 - float(kl_dro_dual(v, lambda_=plain).divergence) / alpha)

    def height(t: float) -> float:
        return float(kl_dro(v, lambda_=t)) - alpha / (2 * case.lambda_0) * (t - case.lambda_0) ** 2

    worst = adaptive_kl_dro(v, lambda_0=case.lambda_0, alpha=alpha)
    above = float(worst.value) - height(plain)
    return Verdict(
        max(0.0, 1e-3 - above),
        f"λ = {plain:.4f} gives {height(plain):.5f}, λ* = {float(worst.lambda_):.4f}"
        f" {float(worst.value):.5f}",
    )


def without_adaptation(law: np.ndarray) -> Task:
    """α below log(K/(K−1)): the temperature falls to 0 as soon as all classes but the label tie."""
    return Task(law, 0.3, 1.0, 0.9 * math.log(law.size / (law.size - 1)))
