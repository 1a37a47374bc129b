"""Unlearning in a world of random features: many seeds and methods at once, by their logits alone.

A model is σ(θᵀ ReLU(Wx)) with W fixed. Every loss reaches θ through the logits, so that a step
needs the loss's derivative in each logit and one product with the features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from prefsim import losses
from prefsim.backend import like, random_generator
from prefsim.gradients import gradient
from prefsim.numerics import log_sigmoid

Array = np.ndarray

DIM, WIDTH, FORGET, RETAIN, EVALUATE = 16, 128, 200, 1000, 1000
STEPS, RECORD_EVERY = 2000, 25


class World(NamedTuple):
    """Features and labels ±1 of forget and retain examples, and features of evaluation points.

    One leading axis of worlds ``(B, …)``.
    """

    forget: Array
    forget_sign: Array
    retain: Array
    retain_sign: Array
    forget_eval: Array
    retain_eval: Array
    random_sign: Array

    @classmethod
    def draw(cls, alpha: float, seeds: Iterable[int]) -> World:
        """Draw one world for each seed.

        Forget inputs lie around ``α1``, retain inputs around ``−α1``, with opposite rules of
        labelling.
        """
        worlds = [cls._draw_one(alpha, seed) for seed in seeds]
        return cls(*(np.stack(parts) for parts in zip(*worlds, strict=True)))

    @classmethod
    def _draw_one(cls, alpha: float, seed: int) -> World:
        rng = random_generator(seed)
        mixing = rng.standard_normal((DIM, WIDTH)) / np.sqrt(DIM)

        def group(n: int, side: int) -> tuple[Array, Array]:
            noise = rng.standard_normal((n, DIM))
            chance = expit(side * (noise.sum(axis=1) / np.sqrt(DIM) + 1))
            features = np.maximum((side * alpha + noise) @ mixing, 0)
            return features, np.where(rng.random(n) < chance, 1.0, -1.0)

        forget, forget_sign = group(FORGET, 1)
        retain, retain_sign = group(RETAIN, -1)
        forget_eval, _ = group(EVALUATE, 1)
        retain_eval, _ = group(EVALUATE, -1)
        random_sign = rng.choice([-1.0, 1.0], FORGET)
        return cls(forget, forget_sign, retain, retain_sign, forget_eval, retain_eval, random_sign)


def pretrain(world: World, steps: int, *, rate: float = 0.05) -> tuple[Array, Array]:
    """Fit the reference to all data and the retrained model to retain data, each ``(B, WIDTH)``.

    By full-batch gradient descent on the cross-entropy.
    """
    features = np.concatenate([world.forget, world.retain], axis=1)
    sign = np.concatenate([world.forget_sign, world.retain_sign], axis=1)[..., None]
    use = np.stack([np.ones(FORGET + RETAIN), np.r_[np.zeros(FORGET), np.ones(RETAIN)]], axis=-1)
    pull, back = rate * sign * use / use.sum(axis=0), _transposed(features)
    theta = np.zeros((features.shape[0], WIDTH, 2))
    for _ in range(steps):
        theta += back @ (pull * expit(-sign * (features @ theta)))
    return theta[..., 0], theta[..., 1]


def _transposed(features: Array) -> Array:
    # Contiguous: the products with it are most of the time.
    return np.ascontiguousarray(features.swapaxes(-1, -2))


class Forget(NamedTuple):
    """Labels of the forget examples, random ones in their place, and the reference's logits.

    Each ``(B, n)``.
    """

    sign: Array
    random_sign: Array
    reference: Array

    @classmethod
    def of(cls, world: World, reference: Array) -> Forget:
        """Return those of a world whose reference has these parameters ``(B, WIDTH)``."""
        logits = (world.forget @ reference[..., None])[..., 0]
        return cls(world.forget_sign, world.random_sign, logits)

    def pairs(self, logits: Any) -> losses.PairLogps:
        """Return the labels to forget as rejected responses, and the random ones as chosen."""
        sign, random_sign, reference = (like(part, logits) for part in self)
        return losses.PairLogps(
            chosen=log_sigmoid(random_sign * logits),
            rejected=log_sigmoid(sign * logits),
            ref_chosen=log_sigmoid(random_sign * reference),
            ref_rejected=log_sigmoid(sign * reference),
        )


def scaled_dpo(logps: losses.PairLogps, *, beta: float) -> Any:
    """Return 2/β times DPO, of which NPO is the part without a chosen response."""
    return 2 / beta * losses.dpo(logps, beta=beta)


class Method(NamedTuple):
    """A forget loss, its learning rate, and whether the retain cross-entropy is added."""

    loss: Callable[[losses.PairLogps], Any]
    rate: float
    retain: bool = False


METHODS = {
    "GA": Method(losses.gradient_ascent, 5e-4),
    "NPO": Method(functools.partial(losses.npo, beta=1.0), 5e-4),
    "GA+RT": Method(losses.gradient_ascent, 2e-4, retain=True),
    "NPO+RT": Method(functools.partial(losses.npo, beta=0.1), 2e-4, retain=True),
    # A random label is the binary world's "I don't know".
    "IDK+RT": Method(losses.sft, 1e-4, retain=True),
    "DPO+RT": Method(functools.partial(scaled_dpo, beta=0.1), 1e-3, retain=True),
}


def slopes(rows: Forget, logits: Array) -> Array:
    """Return the derivatives of every method's forget loss in the logits ``(B, n, methods)``."""

    def total(moved: Any) -> Any:
        values = (
            method.loss(rows.pairs(moved[..., k])).sum()
            for k, method in enumerate(METHODS.values())
        )
        return sum(values)

    return gradient(total, logits)


def retain_slopes(sign: Array, logits: Array) -> Array:
    """Return the derivatives of the cross-entropy in the logits ``(B, n, methods)``.

    ``sign`` is ``(B, n)``.
    """

    def total(moved: Any) -> Any:
        logp = log_sigmoid(like(sign, moved)[..., None] * moved)
        return losses.sft(losses.PairLogps(logp, logp, logp, logp)).sum()

    return gradient(total, logits)


def speed_at_the_start(rows: Forget) -> Array:
    """Return the slope of NPO over that of gradient ascent at the reference, ``(B, n)``."""
    names = list(METHODS)
    found = slopes(rows, np.repeat(rows.reference[..., None], len(names), axis=-1))
    return found[..., names.index("NPO")] / found[..., names.index("GA")]


def mean_kl(features: Array, target: Array, theta: Array) -> Array:
    """Return the mean KL of the model ``target`` ``(B, WIDTH)`` to each of ``theta``, ``(B, M)``.

    ``theta`` is ``(B, WIDTH, M)``.
    """
    z, w = features @ target[..., None], features @ theta
    yes = expit(z) * (log_sigmoid(z) - log_sigmoid(w))
    no = expit(-z) * (log_sigmoid(-z) - log_sigmoid(-w))
    return np.mean(yes + no, axis=1)


class Distances(NamedTuple):
    """Steps ``(T,)``, and the KL to the retrained model on forget and on retain inputs.

    These are ``(T, B, methods)``, in nats.
    """

    steps: Array
    forget: Array
    retain: Array


def unlearn(world: World, reference: Array, retrained: Array, *, stride: int = 1) -> Distances:
    """Run every method for 2000 steps from the reference.

    ``stride`` merges so many steps into one of as many times the rate, which follows the same
    gradient flow more coarsely; it divides 25, after which number of steps each is measured.
    """
    if RECORD_EVERY % stride:
        raise ValueError(f"stride must divide {RECORD_EVERY}, got {stride}")
    rows = Forget.of(world, reference)
    rate = stride * np.asarray([method.rate for method in METHODS.values()])
    kept = [k for k, method in enumerate(METHODS.values()) if method.retain]
    forget_back, retain_back = _transposed(world.forget), _transposed(world.retain)
    theta = np.repeat(reference[..., None], len(METHODS), axis=-1)
    forget, retain = [], []
    for step in range(0, STEPS + stride, stride):
        if step % RECORD_EVERY == 0:
            forget.append(mean_kl(world.forget_eval, retrained, theta))
            retain.append(mean_kl(world.retain_eval, retrained, theta))
        logits = world.retain @ theta[..., kept]
        retained = rate[kept] / RETAIN * retain_slopes(world.retain_sign, logits)
        forgotten = rate / FORGET * slopes(rows, world.forget @ theta)
        theta = theta - forget_back @ forgotten
        theta[..., kept] -= retain_back @ retained
    steps = np.arange(len(forget)) * RECORD_EVERY
    return Distances(steps, np.stack(forget), np.stack(retain))
