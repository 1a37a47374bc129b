"""Clouds of points, couplings between them and what these do to labels; formulas written out."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from prefsim.data.cross_task import transferred_preference
from prefsim.raters import noiseless_preference
from prefsim.solvers.coupled_distances import (
    distance_matrix,
    gromov_wasserstein_cost,
    gromov_wasserstein_gradient,
)
from prefsim.solvers.gromov_wasserstein import gromov_wasserstein

FACTORS = "ranks of rewards and the plans that they make know no factor of them, nor of a loss"
CORNERS = "the reproduction ends at corners, where the residual and a factor of it are 0"
OWN_STEPS = "the reproduction takes the steps of POT, which has a gradient of its own"
UNSEEN = {
    (f"prefsim.{where}", mutant): reason
    for where, mutants, reason in (
        ("losses.gaussian_rewards.entropy_hinge", ("half", "double"), FACTORS),
        ("raters.logistic_normal.softplus_of_law", ("half", "double"), FACTORS),
        ("raters.logistic_normal.log_sigmoid_of_law", ("half", "double"), FACTORS),
        ("solvers.gromov_wasserstein.stationarity_gap", ("",), CORNERS),
        ("solvers.coupled_distances.gromov_wasserstein_gradient", ("",), OWN_STEPS),
        (
            "solvers.gromov_wasserstein.entropic_gromov_wasserstein",
            ("",),
            "the reproduction has exact transport alone",
        ),
        (
            "solvers.gromov_wasserstein.gromov_wasserstein",
            ("double",),
            "labels are shares of what arrives, whatever its mass, and what is dear gets dearer",
        ),
    )
    for mutant in mutants
}
"""What the claims notice and the reproduction cannot."""

POINTS, SPACE = 8, 3
ONE, BEST, EXACT = "one start", "best of several starts", "cheapest of all couplings"
MISMATCHES = (0.0, 0.05, 0.2, 0.5, 1.0)


def rotation(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a random orthogonal matrix."""
    turn: np.ndarray = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return turn


def random_distances(rng: np.random.Generator, size: int, kind: str = "euclidean") -> np.ndarray:
    """Return distances of random points, by straight lines or by blocks; or any symmetric costs."""
    if kind == "any":
        # Of which a few are by far the largest.
        half = np.exp(1.5 * rng.standard_normal((size, size)))
        return (half + half.T) * (1 - np.eye(size)) / half.max()
    points = rng.standard_normal((size, SPACE))
    return distance_matrix(points) if kind == "euclidean" else by_blocks(points)


def by_blocks(points: np.ndarray) -> np.ndarray:
    return np.abs(points[:, None] - points[None]).sum(axis=-1)


def random_coupling(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Return a coupling of total mass one, with masses of its own."""
    plan = rng.dirichlet(np.full(rows * columns, 0.5)).reshape(rows, columns)
    return plan


def uniform_coupling(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a coupling of uniform masses: a mean of permutations with random weights."""
    orders = [np.eye(size)[rng.permutation(size)] for _ in range(4)]
    plan: np.ndarray = np.einsum("k,kij->ij", rng.dirichlet(np.ones(4)), orders) / size
    return plan


def turned_copy(seed: int, shape: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return five points and a turned and renamed copy of them.

    Parameters
    ----------
    seed
        Of all that is drawn.
    shape
        ``"generic"`` points, or a ``"chain"`` of equal spaces.

    Returns
    -------
    Distances within both, the names of the copy's points, and labels by a linear return.
    """
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((5, SPACE))
    if shape == "chain":
        points = np.arange(5.0)[:, None] * rng.standard_normal(SPACE)
    order = rng.permutation(5)
    copy = (points @ rotation(rng, SPACE))[order]
    paid = points @ rng.standard_normal(SPACE)
    labels = noiseless_preference(paid[:, None], paid[None, :])
    return distance_matrix(points), distance_matrix(copy), order, labels


def chain(n: int, spacing: float, anchored: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a chain of n points with its identity and its reversal, and labels by the place.

    Parameters
    ----------
    n
        Number of points.
    spacing
        Between neighbours.
    anchored
        Whether there is one more point, farther beyond one end, which is matched with itself.
    """
    places = spacing * np.arange(float(n))
    order = np.arange(n)[::-1]
    if anchored:
        places, order = np.append(places, spacing * (n + 1.5)), np.append(order, n)
    size = len(places)
    plans = np.eye(size)[np.stack([np.arange(size), order])] / size
    labels = noiseless_preference(places[:, None], places[None, :])
    return distance_matrix(places[:, None]), plans, labels


def random_preference(rng: np.random.Generator, size: int) -> np.ndarray:
    half = np.triu(rng.uniform(-0.5, 0.5, (size, size)), 1)
    return 0.5 + half - half.T


# --- the formulas, written out ---


def by_four_indices(source: np.ndarray, target: np.ndarray, plan: np.ndarray) -> tuple:
    """Return cost and gradient of a coupling as sums over four indices and over two."""
    squares = (source[:, :, None, None] - target[None, None]) ** 2  # i, k, j, l
    slope = 2 * np.einsum("ikjl,kl->ij", squares, plan)
    return np.einsum("ikjl,ij,kl->", squares, plan, plan), slope


def by_masses(
    source: np.ndarray, target: np.ndarray, plan: np.ndarray, p: np.ndarray, q: np.ndarray
) -> float:
    """Return the cost in matrices, of masses that are said rather than summed."""
    return float(
        p @ source**2 @ p + q @ target**2 @ q - 2 * np.sum((source @ plan @ target) * plan)
    )


def permutations_of(size: int) -> np.ndarray:
    """Return all couplings of as many points as there are, one to one, ``(size!, size, size)``."""
    return np.eye(size)[np.array(list(itertools.permutations(range(size))))] / size


def path_of(
    source: np.ndarray, target: np.ndarray, plan: np.ndarray, steps: int, *, full: bool
) -> list[float]:
    """Return the costs on the way of conditional gradients, with the best step or with whole ones.

    Parameters
    ----------
    source, target
        Symmetric costs of as many points.
    plan
        Where to start, a coupling of uniform masses.
    steps
        How many.
    full
        Whether to go all the way to the cheapest permutation.
    """
    corners, costs = permutations_of(len(source)), []
    for _ in range(steps):
        costs.append(float(gromov_wasserstein_cost(source, target, plan)))
        slope = gromov_wasserstein_gradient(source, target, plan)
        way = corners[np.argmin(np.sum(slope * corners, axis=(1, 2)))] - plan
        bend, fall = -2 * np.sum((source @ way @ target) * way), float(np.sum(slope * way))
        best = np.clip(-fall / (2 * bend), 0.0, 1.0) if bend > 0 else float(bend + fall < 0)
        plan = plan + (1.0 if full else best) * way
    return [*costs, float(gromov_wasserstein_cost(source, target, plan))]


# --- how many labels arrive ---


class Cloud(NamedTuple):
    """A source, targets that are turned, renamed and disturbed, and the labels of both.

    Attributes
    ----------
    source
        ``(8, 3)``.
    targets
        ``(mismatches, 8, 3)``.
    labels, truth
        Preferences among sources and among targets, ``(8, 8)``, by a return that is linear.
    """

    source: np.ndarray
    targets: np.ndarray
    labels: np.ndarray
    truth: np.ndarray

    @classmethod
    def draw(cls, seed: int) -> Cloud:
        """Return clouds whose target is the source but for a mismatch of its points."""
        rng = np.random.default_rng(seed)
        source = rng.standard_normal((POINTS, SPACE))
        paid = source @ rng.standard_normal(SPACE)
        turn, order = rotation(rng, SPACE), rng.permutation(POINTS)
        noise = rng.standard_normal((POINTS, SPACE))
        targets = (source @ turn)[order] + np.multiply.outer(MISMATCHES, noise)
        labels = noiseless_preference(paid[:, None], paid[None, :])
        return cls(source, targets, labels, labels[np.ix_(order, order)])


class Transfers(NamedTuple):
    """What couplings of clouds bring over, ``(clouds, mismatches)`` each.

    Attributes
    ----------
    accuracy
        Share of the pairs whose transferred label is on the right side of one half.
    value
        Cost of the coupling.
    written_out
        The same of a permutation, from the points themselves; of others None.
    """

    accuracy: np.ndarray
    value: np.ndarray
    written_out: Any = None


def tables_of(clouds: list[Cloud]) -> tuple[np.ndarray, np.ndarray]:
    """Return distances within sources ``(B, 1, 8, 8)`` and targets ``(B, mismatches, 8, 8)``."""
    source = distance_matrix(np.stack([cloud.source for cloud in clouds]))[:, None]
    return source, distance_matrix(np.stack([cloud.targets for cloud in clouds]))


def arriving(clouds: list[Cloud], plans: np.ndarray) -> Transfers:
    """Return what arrives of the labels by some couplings ``(B, mismatches, 8, 8)``."""
    labels, truth = (
        np.stack([getattr(cloud, name) for cloud in clouds])[:, None]
        for name in ("labels", "truth")
    )
    first, second = np.triu_indices(POINTS, 1)
    arrived = transferred_preference(plans, np.broadcast_to(labels, plans.shape))
    right = (arrived[..., first, second] > 0.5) == (truth[..., first, second] > 0.5)
    return Transfers(right.mean(axis=-1), gromov_wasserstein_cost(*tables_of(clouds), plans))


def transfer(clouds: list[Cloud], *, restarts: int, seed: int) -> Transfers:
    """Return what arrives by the best stationary coupling of several starts."""
    found = gromov_wasserstein(*tables_of(clouds), restarts=restarts, seed=seed)
    return arriving(clouds, found.coupling)


def transfer_exactly(clouds: list[Cloud]) -> Transfers:
    """Return what arrives by the cheapest of all couplings.

    It is a permutation, as the cost between Euclidean distances is concave: all 40,320 are tried.
    """
    orders = np.array(list(itertools.permutations(range(POINTS))))
    first, second = np.triu_indices(POINTS, 1)
    pairs = orders[:, first] * POINTS + orders[:, second]
    source, target = tables_of(clouds)
    plans, written = [], []
    for cloud, apart, others in zip(clouds, source[:, 0], target, strict=True):
        # What of the cost depends on the order: the distances that are matched, multiplied.
        matched = apart.reshape(-1)[pairs] @ others[:, first, second].T
        best = orders[np.argmax(matched, axis=0)]
        plans.append(np.swapaxes(np.eye(POINTS)[best], -1, -2) / POINTS)
        within, other = (
            np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
            for points in (cloud.source[best], cloud.targets)
        )
        written.append(np.mean((within - other) ** 2, axis=(1, 2)))
    return arriving(clouds, np.stack(plans))._replace(written_out=np.stack(written))
