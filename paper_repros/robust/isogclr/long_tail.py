"""Temperatures of anchors: of two levels of similarity, of rows, of encoders of rare classes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import trusted_values
from prefsim.containers import ClassLogits
from prefsim.data.views import Views
from prefsim.losses.constrained_dro import constrained_kl_dro
from prefsim.losses.contrastive import infonce, rgcl, rgcl_temperature
from prefsim.losses.contrastive_state import contrastive_state, isogclr_update
from prefsim.losses.dro import kl_dro_dual

LOWEST, HIGHEST = 0.05, 5.0  # temperatures
RATE = 3e-2  # of Adam
TEMPERATURE_RATE = 0.1  # ten times the default, for the loss is flat in large temperatures
LEVELS = 200  # negatives of an anchor of two levels

# --- one anchor ---


def anchor(h: np.ndarray) -> ClassLogits[np.ndarray]:
    """Return a row whose negatives are ``h`` above its positive, which is first and 0."""
    zero = np.zeros((*h.shape[:-1], 1))
    return ClassLogits(np.concatenate([zero, h], axis=-1), np.zeros(h.shape[:-1], int))


def two_levels(share: float) -> np.ndarray:
    """Return negatives of which a share is as similar as the positive, the others by 1 less."""
    return np.where(np.arange(LEVELS) < round(share * LEVELS), 0.0, -1.0)


def temperatures_of_two_levels(shares: Sequence[float] | np.ndarray, radius: float) -> np.ndarray:
    """Return τ* for each share, without an upper end."""
    rows = anchor(np.stack([two_levels(share) for share in shares]))
    return np.asarray(rgcl_temperature(rows, radius=radius, lowest=LOWEST, highest=math.inf))


def solved_worst_case(h: np.ndarray, radius: float, lowest: float) -> float:
    """Return the worst mean in the KL ball less the penalty, by a conic solver."""
    import cvxpy as cp

    p = cp.Variable(h.size)
    divergence = cp.sum(cp.rel_entr(p, np.full(h.size, 1 / h.size)))
    problem = cp.Problem(
        cp.Maximize(h @ p - lowest * divergence), [cp.sum(p) == 1, divergence <= radius]
    )
    return float(problem.solve(solver=cp.CLARABEL))


class Law(NamedTuple):
    """The weights of negatives at a temperature, with what follows from them, written out."""

    weights: np.ndarray
    divergence: float
    variance: float
    log_mean: float


def law_of(h: np.ndarray, temperature: float) -> Law:
    """Return softmax(h/τ), its KL from uniform, the variance of h under it, log mean exp(h/τ)."""
    odds = np.exp((h - h.max()) / temperature)
    p = odds / odds.sum()
    divergence = float(np.sum(p * np.log(np.maximum(p * h.size, 1e-300))))
    variance = float(p @ (h - p @ h) ** 2)
    return Law(p, divergence, variance, float(h.max() / temperature + np.log(odds.mean())))


def differences_from_definitions(seed: int) -> dict[str, float]:
    """Return how far each function is from its definition on drawn rows."""
    rng = np.random.default_rng(seed)
    tau, radius, off = 0.3, 0.25, dict.fromkeys(FUNCTIONS, 0.0)
    for h in rng.uniform(-1.5, 0.5, (5, 7)):
        law = law_of(h, tau)
        dual, row = kl_dro_dual(h, lambda_=tau), anchor(h)[:2]
        ball = constrained_kl_dro(h, radius=radius, lowest=LOWEST)
        at = law_of(h, float(ball.lambda_))
        state, loss = isogclr_update(
            contrastive_state(1, temperature=tau),
            np.asarray([0]),
            ClassLogits(*(part[None] for part in row)),
            radius=radius,
            momentum=1.0,
            rate=0.01,
        )
        bracket = tau * (law.log_mean + radius)
        stepped = tau - 0.01 * (radius - law.divergence)
        pairs: dict[str, list[tuple[Any, Any]]] = {
            "rgcl": [(rgcl(anchor(h), temperature=tau, radius=radius), bracket)],
            "rgcl_temperature": [
                (rgcl_temperature(anchor(h), radius=radius, highest=9.0), ball.lambda_)
            ],
            "constrained_kl_dro": [
                (at.divergence, radius),
                (ball.value, ball.lambda_ * at.log_mean + (ball.lambda_ - LOWEST) * radius),
            ],
            "isogclr_update": [(loss[0], bracket), (state.temperature[0], stepped)],
            "kl_dro_dual": [(dual.weights, law.weights), (dual.divergence, law.divergence)],
        }
        for name, compared in pairs.items():
            worst = max(float(np.max(np.abs(one - other))) for one, other in compared)
            off[name] = max(off[name], worst)
    return off


FUNCTIONS = ("rgcl", "rgcl_temperature", "constrained_kl_dro", "isogclr_update", "kl_dro_dual")


def gradient_over_batches(h: np.ndarray, *, size: int, tau: float, mixing: float) -> np.ndarray:
    """Return iSogCLR's gradient in the negatives, the mean over all batches of ``size`` of them.

    The moving normaliser has seen all negatives before.
    """
    from prefsim.gradients import loss_gradient

    state, zero = contrastive_state(1, temperature=tau), np.asarray([0])
    fixed = {"rate": 0.0, "highest": max(tau, HIGHEST)}
    full = ClassLogits(*(part[None] for part in anchor(h)[:2]))
    state, _ = isogclr_update(state, zero, full, **fixed)
    total, count = np.zeros(h.size), 0
    for chosen in itertools.combinations(range(h.size), size):
        places = [*chosen]
        batch = ClassLogits(*(part[None] for part in anchor(h[places])[:2]))

        def loss(classes: ClassLogits[Any]) -> Any:
            return isogclr_update(state, zero, classes, mixing=mixing, **fixed)[1]

        total[places] += loss_gradient(loss, batch).logits[0, 1:]
        count += 1
    return total / count


# --- encoders ---


class Trained(NamedTuple):
    """What is left of a training, ``(sets, ...)``: temperatures as learned, and exact ones."""

    embeddings: np.ndarray
    temperature: np.ndarray
    exact: np.ndarray


def start_of(views: Views, seeds: range, sphere: int) -> np.ndarray:
    """Return one linear encoder a seed, ``(seeds, d, k)``."""
    shape = (views.points.shape[-1], sphere)
    return np.stack([0.5 * np.random.default_rng([s, 1]).standard_normal(shape) for s in seeds])


def similarities(views: Views, weights: Any) -> Any:
    """Return those of every first view with every second view, ``(sets, n, n)``."""
    import torch

    pairs = torch.as_tensor(views.pairs[:, 0])
    first, second = torch.nn.functional.normalize(pairs @ weights[:, None], dim=-1).unbind(1)
    return first @ second.mT


def train(
    views: Views,
    start: np.ndarray,
    *,
    steps: int,
    radius: float | None = None,
    temperature: float = 0.1,
) -> Trained:
    """Train linear encoders, whole batches with Adam.

    With a radius by iSogCLR, which learns temperatures; else by InfoNCE at the one given.
    """
    import torch

    weights = torch.as_tensor(start).clone().requires_grad_()
    optimiser = torch.optim.Adam([weights], lr=RATE)
    sets, n = views.pairs.shape[0], views.pairs.shape[-2]
    label = torch.arange(n).repeat(sets)
    state, ids = contrastive_state(sets * n, temperature=temperature), np.arange(sets * n)
    ends = {"lowest": LOWEST, "highest": HIGHEST}
    options = {"mixing": 1.0, "rate": TEMPERATURE_RATE, **ends}

    def rows() -> ClassLogits[Any]:
        return ClassLogits(similarities(views, weights).flatten(0, 1), label)

    for _ in range(steps):
        with trusted_values():
            if radius is None:
                values = temperature * infonce(rows(), temperature=temperature)
            else:
                state, values = isogclr_update(state, ids, rows(), radius=radius, **options)
        optimiser.zero_grad()
        # The sum over sets of each one's mean: the encoders do not touch each other.
        (values.sum() / n).backward()
        optimiser.step()
    with torch.no_grad():
        points = torch.as_tensor(views.points) @ weights
        embeddings = to_numpy(torch.nn.functional.normalize(points, dim=-1))
        exact = rgcl_temperature(rows(), radius=radius or 0.1, **ends)
    shape = (sets, n)
    return Trained(embeddings, np.reshape(state.temperature, shape), to_numpy(exact).reshape(shape))


class SmallBatches(NamedTuple):
    """At one encoder: relative error of the mean gradient, and mean error of log u, by γ."""

    bias: np.ndarray
    log_normaliser: np.ndarray


def in_small_batches(
    views: Views,
    start: np.ndarray,
    *,
    mixings: Sequence[float],
    size: int,
    steps: int,
    seed: int,
    temperature: float,
) -> SmallBatches:
    """Return what batches of ``size`` points know of the first set at a fixed encoder (SogCLR).

    Every γ sees the same batches.
    """
    import torch

    weights = torch.as_tensor(start[:1]).clone().requires_grad_()
    scores = similarities(views, weights)[0]
    n = len(scores)
    rng = np.random.default_rng(seed)
    whole = ClassLogits(scores, torch.arange(n))
    exact = torch.autograd.grad(
        rgcl(whole, temperature=temperature, radius=0.0).mean(), weights, retain_graph=True
    )[0]
    log_mean = to_numpy(rgcl(whole, temperature=temperature, radius=0.0)) / temperature
    table, label = scores.detach(), torch.arange(size)
    states = [contrastive_state(n, temperature=temperature) for _ in mixings]
    pulled = [torch.zeros_like(table) for _ in mixings]
    errors = np.zeros(len(mixings))
    warm = steps // 4
    for step in range(steps):
        ids = rng.permutation(n)[:size]
        places = torch.as_tensor(ids)
        for k, mixing in enumerate(mixings):
            batch = table[places][:, places].requires_grad_()
            with trusted_values():
                states[k], loss = isogclr_update(
                    states[k], ids, ClassLogits(batch, label), mixing=mixing, rate=0.0
                )
            if step < warm:
                continue
            slope = torch.autograd.grad(loss.mean(), batch)[0]
            pulled[k][places[:, None], places] += slope / (steps - warm)
            found = states[k].log_normaliser[ids]
            errors[k] += float(np.mean(np.abs(found - log_mean[ids]))) / (steps - warm)
    # At a fixed encoder the gradient in its weights is linear in that in the similarities.
    means = [torch.autograd.grad((scores * g).sum(), weights, retain_graph=True)[0] for g in pulled]
    bias = [float((mean - exact).norm() / exact.norm()) for mean in means]
    return SmallBatches(np.asarray(bias), errors)
