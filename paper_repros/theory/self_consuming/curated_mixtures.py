"""Eight Gaussians of which users like one, exactly and from samples; classes that users rank."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from prefsim.loops.self_consuming import self_consuming
from prefsim.numerics import categorical_entropy, log_softmax

MODES, RADIUS, WIDTH, SLOPE = 8, 2.0, 0.2, 10.0
CANDIDATES = 4
CENTRES = RADIUS * np.stack(
    [np.cos(np.pi / 4 * np.arange(MODES)), np.sin(np.pi / 4 * np.arange(MODES))], axis=-1
)
BANDWIDTH = 0.05
"""Of the kernel that a model of samples is smoothed by."""


def liking(points: np.ndarray) -> np.ndarray:
    """Return the reward: 0 within 1 of the first centre, and beyond it falling."""
    distance = np.linalg.norm(points - CENTRES[0], axis=-1)
    return np.asarray(-SLOPE * np.maximum(0.0, distance - 1.0))


class Mixture(NamedTuple):
    """The mixture on a grid: points ``(n, 2)``, log-probabilities and the nearest centre, ``(n,)``.

    ``reward`` is :func:`liking` of the points.
    """

    points: np.ndarray
    log_law: np.ndarray
    nearest: np.ndarray
    reward: np.ndarray

    def loop(self, rounds: int, synthetic: float = math.inf) -> np.ndarray:
        """Return log-laws ``(rounds + 1, n)`` with so many curated samples on a real one."""
        return self_consuming(
            self.reward, self.log_law, candidates=CANDIDATES, rounds=rounds, synthetic=synthetic
        )

    def shares(self, path: np.ndarray) -> np.ndarray:
        """Return the mass nearest to each centre, ``(..., MODES)``."""
        return np.exp(path) @ np.eye(MODES)[self.nearest]

    def liked(self, path: np.ndarray) -> np.ndarray:
        """Return E e^r, ``(...)``: 1 at most."""
        return np.exp(path) @ np.exp(self.reward)


def on_a_grid(side: int) -> Mixture:
    """Return the mixture on a square grid of so many points a side, from −3.5 to 3.5."""
    axis = np.linspace(-3.5, 3.5, side)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    squared = ((points[:, None] - CENTRES) ** 2).sum(axis=-1)
    density = np.logaddexp.reduce(-squared / (2 * WIDTH**2), axis=-1)
    return Mixture(points, log_softmax(density), squared.argmin(axis=-1), liking(points))


def from_samples(size: int, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """Return the mean e^r of the kept samples of each round, ``(rounds,)``.

    A model is its kept samples, smoothed by a Gaussian kernel; of each four that it makes one is
    kept.
    """
    centres = CENTRES[rng.integers(MODES, size=(size, CANDIDATES))]
    made = centres + WIDTH * rng.standard_normal(centres.shape)
    means = []
    for _ in range(rounds):
        reward = liking(made)
        # The largest of rewards with Gumbel noise is one drawn with odds e^r.
        which = (reward + rng.gumbel(size=reward.shape)).argmax(axis=-1)
        kept = made[np.arange(size), which]
        means.append(np.exp(liking(kept)).mean())
        again = kept[rng.integers(size, size=(size, CANDIDATES))]
        made = again + BANDWIDTH * rng.standard_normal(again.shape)
    return np.array(means)


class Classes(NamedTuple):
    """Classes under curation: rewards ``(worlds, classes)``, log-shares ``(rounds + 1, ...)``."""

    reward: np.ndarray
    path: np.ndarray

    def entropy(self) -> np.ndarray:
        """Return the entropy of the shares, ``(rounds + 1, worlds)`` in nats."""
        return np.asarray(categorical_entropy(self.path))


def ranked_classes(rng: np.random.Generator, worlds: int, rounds: int = 10) -> Classes:
    """Return ten classes, equally frequent at first, of which users like some a little more."""
    reward = 5.0 * rng.uniform(0.5, 1.0, (worlds, 10))
    start = np.full_like(reward, -math.log(10))
    path = self_consuming(reward, start, candidates=CANDIDATES, rounds=rounds)
    return Classes(reward, path)
