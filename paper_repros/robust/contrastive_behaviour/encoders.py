"""Linear encoders onto a sphere, trained on pairs of views: many of them as one batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis import tolerance, uniformity
from prefsim.backend import to_numpy
from prefsim.checks import trusted_values
from prefsim.containers import ClassLogits
from prefsim.data.views import Views, clustered_views
from prefsim.losses.contrastive import infonce, negative_weights, simple_contrastive

SIZES = (10, 10, 10, 10)  # of the clusters
SPHERE = 3  # dimension of embeddings
START = 0.5  # size of the encoder's weights
RATE = 3e-2  # of Adam


Loss = Callable[[ClassLogits[Any]], Any]


def encoded(points: Any, weights: Any) -> Any:
    """Return unit vectors ``(..., n, k)`` of points ``(..., n, d)``."""
    import torch

    return torch.nn.functional.normalize(points @ weights, dim=-1)


def start_of(views: Views, seeds: range, sphere: int) -> np.ndarray:
    """Return one encoder a seed, ``(seeds, d, k)``."""
    shape = (views.points.shape[-1], sphere)
    return np.stack([START * np.random.default_rng([s, 1]).standard_normal(shape) for s in seeds])


def train(loss: Loss, views: Views, start: np.ndarray, *, steps: int) -> np.ndarray:
    """Return the embeddings ``(sets, N, k)`` of the points after Adam on all pairs of views.

    ``loss`` takes similarities ``(sets, V, n, n)``: an anchor of the first view against all points
    of the second, its own the positive. ``start`` are the encoders' weights ``(sets, d, k)``.
    """
    import torch

    points, pairs = (torch.as_tensor(x) for x in (views.points, views.pairs))
    weights = torch.as_tensor(start).clone().requires_grad_()
    optimiser = torch.optim.Adam([weights], lr=RATE)
    shape = (*pairs.shape[:2], pairs.shape[-2])
    label = torch.arange(shape[-1]).expand(shape)
    for _ in range(steps):
        first, second = encoded(pairs, weights[:, None, None]).unbind(2)
        with trusted_values():
            values = loss(ClassLogits(first @ second.mT, label))
        optimiser.zero_grad()
        # The sum over sets of each one's mean: the encoders do not touch each other.
        values.mean(dim=(1, 2)).sum().backward()
        optimiser.step()
    with torch.no_grad():
        return to_numpy(encoded(points, weights))


def tempered(temperatures: np.ndarray, share: float = 1.0) -> Loss:
    """Return τ times InfoNCE with the temperature of each set, ``(sets,)``."""
    import torch

    tau = torch.as_tensor(temperatures)[:, None, None]

    def loss(classes: ClassLogits[Any]) -> Any:
        return tau * infonce(classes, temperature=tau, share=share)

    return loss


class Measured(NamedTuple):
    """Uniformity and tolerance ``(temperatures, seeds)``."""

    uniformity: np.ndarray
    tolerance: np.ndarray


class Encoders(NamedTuple):
    """What is trained: views of every seed, and the weights that each starts from."""

    views: Views
    start: np.ndarray

    def embeddings(
        self, temperatures: Sequence[float], *, share: float = 1.0, steps: int
    ) -> np.ndarray:
        """Return those ``(temperatures · seeds, N, k)`` of all points after training."""
        times = len(temperatures)
        taus = np.repeat(np.asarray(temperatures, float), len(self.start))
        start = np.concatenate([self.start] * times)
        return train(tempered(taus, share), self.views.repeated(times), start, steps=steps)

    def measured(self, embeddings: np.ndarray, *, after: int = 0) -> Measured:
        """Return both measures of the points from ``after`` on."""
        seeds = len(self.start)
        label = self.views.repeated(len(embeddings) // seeds).label[:, after:]
        points = embeddings[:, after:]
        parts = uniformity(points), tolerance(points, label)
        return Measured(*(part.reshape(-1, seeds) for part in parts))

    def across_temperatures(
        self, temperatures: Sequence[float], *, share: float = 1.0, steps: int
    ) -> Measured:
        """Return both measures for every temperature."""
        return self.measured(self.embeddings(temperatures, share=share, steps=steps))

    def of_the_linear_loss(self, *, share: float = 1.0, steps: int) -> Measured:
        """Return both measures for the loss that has no temperature."""

        def loss(classes: ClassLogits[Any]) -> Any:
            return simple_contrastive(classes, share=share)

        return self.measured(train(loss, self.views, self.start, steps=steps))


def on_clusters(noise: float, seeds: range, *, views: int) -> Encoders:
    """Return encoders of four clusters onto the sphere in three dimensions."""
    drawn = clustered_views(SIZES, seeds, noise=noise, views=views)
    return Encoders(drawn, start_of(drawn, seeds, SPHERE))


# --- the formulas, written out for one row with the positive first ---


def share_kept(size: int, share: float) -> int:
    """Return how many of ``size`` negatives are kept, but for ties."""
    return max(1, math.ceil(share * size - 1e-9))


def written_out(s: np.ndarray, *, temperature: float, share: float, weight: float) -> np.ndarray:
    """Return InfoNCE, its hard form, the linear loss, its hard form, and the penalties' entropy."""
    negatives = np.sort(s[1:])[::-1]
    kept = negatives[negatives >= negatives[share_kept(negatives.size, share) - 1]]

    def softmax_loss(others: np.ndarray) -> float:
        return math.log1p(float(np.exp((others - s[0]) / temperature).sum()))

    odds = np.exp((negatives - negatives[0]) / temperature)
    penalty = odds / odds.sum()
    values = [
        softmax_loss(negatives),
        softmax_loss(kept),
        weight * negatives.sum() - s[0],
        weight * kept.sum() - s[0],
        -float(penalty @ np.log(penalty)),
    ]
    return np.asarray(values)


def by_the_library(s: np.ndarray, *, temperature: float, share: float, weight: float) -> np.ndarray:
    """Return the same five of the library's functions."""
    row = ClassLogits(s, np.asarray(0))
    penalty = negative_weights(row, temperature=temperature)
    values = [
        infonce(row, temperature=temperature),
        infonce(row, temperature=temperature, share=share),
        simple_contrastive(row, weight=weight),
        simple_contrastive(row, weight=weight, share=share),
        -(penalty @ np.log(penalty)),
    ]
    return np.asarray([float(value) for value in values])


def pair_by_pair(points: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Return uniformity and tolerance of points ``(n, d)`` as sums over pairs."""
    pairs = [(i, j) for i in range(len(points)) for j in range(len(points)) if i != j]
    gaps = [np.exp(-2 * np.sum((points[i] - points[j]) ** 2)) for i, j in pairs]
    alike = [points[i] @ points[j] for i, j in pairs if label[i] == label[j]]
    return float(np.log(np.mean(gaps))), float(np.mean(alike))
