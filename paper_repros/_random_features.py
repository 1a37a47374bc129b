"""Unlearning in the random-feature world of arXiv:2404.05868, section 4: many seeds and methods at once, by their logits alone.

A model is σ(θᵀ ReLU(Wx)) with W fixed. Every loss reaches θ through the logits, so that a step
needs the loss's derivative in each logit and one product with the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from prefsim.backend import random_generator
from prefsim.numerics import log_sigmoid

Array = np.ndarray
Slope = Callable[["Forget", Array, float], Array]

DIM, WIDTH, FORGET, RETAIN, EVALUATE = 16, 128, 200, 1000, 1000


class World(NamedTuple):
    """Features and labels ±1 of forget and retain examples, and features of evaluation points; one leading axis of worlds ``(B, …)``."""

    forget: Array
    forget_sign: Array
    retain: Array
    retain_sign: Array
    forget_eval: Array
    retain_eval: Array
    random_sign: Array


def draw(alpha: float, seeds: Iterable[int]) -> World:
    """Draw one world for each seed: forget inputs around ``α1``, retain inputs around ``−α1``, with opposite labelling rules."""

    def one(seed: int) -> World:
        rng = random_generator(seed)
        mixing = rng.standard_normal((DIM, WIDTH)) / np.sqrt(DIM)

        def group(n: int, side: int) -> tuple[Array, Array]:
            noise = rng.standard_normal((n, DIM))
            chance = expit(side * (noise.sum(axis=1) / np.sqrt(DIM) + 1))
            return np.maximum((side * alpha + noise) @ mixing, 0), np.where(
                rng.random(n) < chance, 1.0, -1.0
            )

        forget, retain = group(FORGET, 1), group(RETAIN, -1)
        return World(
            *forget,
            *retain,
            group(EVALUATE, 1)[0],
            group(EVALUATE, -1)[0],
            rng.choice([-1.0, 1.0], FORGET),
        )

    return World(*(np.stack(parts) for parts in zip(*map(one, seeds), strict=True)))


def pretrain(world: World, steps: int, *, rate: float = 0.05) -> tuple[Array, Array]:
    """Fit the reference (all data) and the retrained model (retain data alone) by full-batch gradient descent, each ``(B, WIDTH)``."""
    features = np.concatenate([world.forget, world.retain], axis=1)
    sign = np.concatenate([world.forget_sign, world.retain_sign], axis=1)[..., None]
    use = np.stack([np.ones(FORGET + RETAIN), np.r_[np.zeros(FORGET), np.ones(RETAIN)]], axis=-1)
    pull, back = (
        rate * sign * use / use.sum(axis=0),
        np.ascontiguousarray(features.swapaxes(-1, -2)),
    )
    theta = np.zeros((features.shape[0], WIDTH, 2))
    for _ in range(steps):
        theta += back @ (pull * expit(-sign * (features @ theta)))
    return theta[..., 0], theta[..., 1]


class Forget(NamedTuple):
    """Labels of the forget examples, random labels in their place, and the reference's logits, each ``(B, n)``."""

    sign: Array
    random_sign: Array
    reference: Array


def gradient_ascent(rows: Forget, logits: Array, beta: float) -> Array:
    """Return the derivative of log π in the logits."""
    return rows.sign * expit(-rows.sign * logits)


def negative_preference(rows: Forget, logits: Array, beta: float) -> Array:
    """Return the derivative of (2/β) log(1 + (π/π_ref)^β): that of log π, damped by 2σ(βu)."""
    log_ratio = log_sigmoid(rows.sign * logits) - log_sigmoid(rows.sign * rows.reference)
    return 2 * expit(beta * log_ratio) * gradient_ascent(rows, logits, beta)


def preference(rows: Forget, logits: Array, beta: float) -> Array:
    """Return the derivative of 2/β times DPO with a random label as the chosen response."""
    log_ratios = (
        log_sigmoid(sign * logits) - log_sigmoid(sign * rows.reference)
        for sign in (rows.random_sign, rows.sign)
    )
    margin = next(log_ratios) - next(log_ratios)
    rise = rows.random_sign * expit(-rows.random_sign * logits) - gradient_ascent(
        rows, logits, beta
    )
    return -2 * expit(-beta * margin) * rise


def random_labels(rows: Forget, logits: Array, beta: float) -> Array:
    """Return the derivative of the cross-entropy on random labels, the binary world's "I don't know"."""
    return -rows.random_sign * expit(-rows.random_sign * logits)


class Method(NamedTuple):
    """A forget loss, its β, whether the retain cross-entropy is added, and the learning rate."""

    slope: Slope
    beta: float
    retain: bool
    rate: float


METHODS = {
    "GA": Method(gradient_ascent, 1.0, False, 5e-4),
    "NPO": Method(negative_preference, 1.0, False, 5e-4),
    "GA+RT": Method(gradient_ascent, 1.0, True, 2e-4),
    "NPO+RT": Method(negative_preference, 0.1, True, 2e-4),
    "IDK+RT": Method(random_labels, 1.0, True, 1e-4),
    "DPO+RT": Method(preference, 0.1, True, 1e-3),
}


def mean_kl(features: Array, target: Array, theta: Array) -> Array:
    """Return the mean KL of the Bernoulli model ``target`` ``(B, WIDTH)`` to each of ``theta`` ``(B, WIDTH, M)``: ``(B, M)``."""
    z, w = features @ target[..., None], features @ theta
    return np.mean(
        expit(z) * (log_sigmoid(z) - log_sigmoid(w))
        + expit(-z) * (log_sigmoid(-z) - log_sigmoid(-w)),
        axis=1,
    )


def unlearn(
    world: World, reference: Array, retrained: Array, *, stride: int = 1
) -> tuple[Array, Array, Array]:
    """Run every method for 2000 steps from the reference; return steps ``(T,)`` and forget and retain distances ``(T, B, methods)``.

    ``stride`` merges so many steps into one of as many times the rate, which follows the same
    gradient flow more coarsely.
    """
    rows = Forget(
        world.forget_sign, world.random_sign, (world.forget @ reference[..., None])[..., 0]
    )
    rate = stride * np.asarray([m.rate for m in METHODS.values()])
    kept = [k for k, m in enumerate(METHODS.values()) if m.retain]
    backs = [np.ascontiguousarray(f.swapaxes(-1, -2)) for f in (world.forget, world.retain)]
    pull = rate[kept] * world.retain_sign[..., None] / RETAIN
    theta = np.repeat(reference[..., None], len(METHODS), axis=-1)
    noted: list[Any] = []
    for step in range(0, 2000 + stride, stride):
        if step % 25 == 0:
            noted.append(
                [
                    mean_kl(points, retrained, theta)
                    for points in (world.forget_eval, world.retain_eval)
                ]
            )
        logits = world.forget @ theta
        slopes = np.stack(
            [m.slope(rows, logits[..., k], m.beta) for k, m in enumerate(METHODS.values())], axis=-1
        )
        retained = backs[1] @ (
            pull * expit(-world.retain_sign[..., None] * (world.retain @ theta[..., kept]))
        )
        theta = theta - backs[0] @ (rate / FORGET * slopes)
        theta[..., kept] += retained
    distances = np.asarray(noted)
    return np.arange(len(noted)) * 25, distances[:, 0], distances[:, 1]
