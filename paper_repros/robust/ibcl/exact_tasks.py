"""Tasks whose posteriors are exact: logistic ones on a grid of parameters, and normal means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from prefsim.analysis import (
    CredalSet,
    central_box,
    expectation_bounds,
    extend_credal_set,
    gaussian_barycentre,
    gaussian_posterior,
    gaussian_wasserstein,
    grid_posterior,
    highest_density_region,
    mixture_density_region,
    mixture_log_prob,
    mixture_moments,
    mixture_quantile,
    posterior_weights,
    preference_weights,
)
from prefsim.backend import Seed, random_generator
from prefsim.divergences import total_variation
from prefsim.numerics import log_sigmoid, log_softmax, sigmoid

# --- three logistic tasks on a grid ---

POINTS = np.linspace(-4.0, 4.0, 201)
TRUTHS = (-1.0, 0.5, 1.5)  # the parameter of each task
EXAMPLES = 20  # of each task
PRIORS = (0.5, 1.0, 2.0)  # standard deviations


class Task(NamedTuple):
    """Inputs ``(n,)`` and labels ``(n,)``, 1 with probability σ(θx)."""

    inputs: np.ndarray
    label: np.ndarray


class Likelihood:
    """The log-likelihood of a task at each point of the grid, and how often it was asked for."""

    def __init__(self) -> None:
        self.evaluations = 0

    def __call__(self, task: Task) -> np.ndarray:
        """Return the log-likelihood ``(G,)`` of a task, nats."""
        self.evaluations += 1
        towards = (2 * task.label - 1) * task.inputs
        return np.asarray(log_sigmoid(towards * POINTS[:, None]).sum(axis=-1))


def draw_tasks(seed: Seed, truths: Sequence[float] = TRUTHS, n: int = EXAMPLES) -> list[Task]:
    """Draw a task for each true parameter."""
    rng = random_generator(seed)
    inputs = rng.standard_normal((len(truths), n))
    chance = sigmoid(np.asarray(truths)[:, None] * inputs)
    return [Task(x, (rng.random(n) < p) * 1.0) for x, p in zip(inputs, chance, strict=True)]


def together(tasks: Sequence[Task]) -> Task:
    """Return the examples of some tasks as those of one."""
    inputs, label = (np.concatenate(parts) for parts in zip(*tasks, strict=True))
    return Task(inputs, label)


def normal_priors(deviations: Sequence[float] = PRIORS) -> np.ndarray:
    """Return log-probabilities ``(m, G)`` that are proportional to normal densities at 0."""
    return np.asarray(log_softmax(-0.5 * (POINTS / np.asarray(deviations)[:, None]) ** 2))


def total_variations(extremes: np.ndarray, one: np.ndarray) -> Any:
    """Return how far extremes ``(n, G)`` are from one posterior, all by their logarithms."""
    return total_variation(np.exp(extremes), np.exp(one))


def learn(tasks: Sequence[Task], likelihood: Likelihood, priors: np.ndarray) -> CredalSet:
    """Return the posteriors of all tasks, each task's with those before as priors."""
    credal = None
    for task in tasks:
        found = grid_posterior(priors, likelihood(task))
        credal = extend_credal_set(credal, found.log_prob, total_variations, threshold=0.0)
        priors = credal.of_task()
    if credal is None:
        raise ValueError("tasks must hold at least one, got none")
    return credal


def drawn_set(seed: Seed) -> CredalSet:
    """Return the credal set of drawn tasks."""
    return learn(draw_tasks(seed), Likelihood(), normal_priors())


def selected(credal: CredalSet, preference: np.ndarray) -> np.ndarray:
    """Return the laws of the parameter ``(..., G)`` that preferences over tasks select."""
    weight = preference_weights(preference, credal.stand_in)
    return np.exp(mixture_log_prob(credal.extremes, weight))


def central_points(probs: np.ndarray, level: float) -> np.ndarray:
    """Return the points that are left when no more than (1 − level)/2 is cut off at each end."""
    tail = (1 - level) / 2
    left, right = np.cumsum(probs) <= tail, np.cumsum(probs[::-1])[::-1] <= tail
    return ~(left | right)


def preferences(tasks: int, steps: int) -> np.ndarray:
    """Return all preferences ``(p, tasks)`` in steps of ``1/steps``."""
    counts = itertools.product(range(steps + 1), repeat=tasks)
    return np.asarray([each for each in counts if sum(each) == steps]) / steps


ALPHAS = (0.01, 0.1, 0.25)
WANTED = preferences(len(TRUTHS), 10)
VERTICES = [int(np.flatnonzero(column == 1)[0]) for column in WANTED.T]  # all on one task


class GridWorld(NamedTuple):
    """What is measured on one world of the grid.

    Attributes
    ----------
    scores, score_of
        Expected log-likelihood an example of each task, of the laws that preferences select
        ``(66, tasks)``; and log-likelihood of each point, ``(tasks, G)``.
    held, bare
        What regions hold beyond their level ``(66, alphas)``; what they would without their least
        probable point.
    evaluations
        Of likelihoods, up to the last update and after all preferences.
    of_all, of_last
        Total variation of what the last task's vertex selects from the posterior of all data, and
        from that of the last task's data alone.
    outside
        How far the probability of a positive parameter lies outside the bounds of the extremes.
    moved
        Total variation of the posteriors of the mixed priors from the posterior of their mixture:
        with weights by evidence, and with equal ones.
    inside
        Whether the region of 90 % of each vertex holds the task's true parameter.
    lost_alone
        Nats an example that the law of each task's data alone loses on it to the best parameter.
    """

    scores: np.ndarray
    score_of: np.ndarray
    held: np.ndarray
    bare: np.ndarray
    evaluations: tuple[int, int]
    of_all: float
    of_last: float
    outside: float
    moved: np.ndarray
    inside: np.ndarray
    lost_alone: np.ndarray


def grid_world(seed: int) -> GridWorld:
    """Draw a world, select a law for each preference, and look at what was selected."""
    tasks, priors, likelihood = draw_tasks(seed), normal_priors(), Likelihood()
    credal = learn(tasks, likelihood, priors)
    updated = likelihood.evaluations
    laws = selected(credal, WANTED)
    regions = [highest_density_region(laws, level=1 - alpha) for alpha in ALPHAS]
    by_vertex = laws[VERTICES]
    own = highest_density_region(by_vertex, level=0.9).inside
    evaluations = updated, likelihood.evaluations
    # From here on likelihoods are asked for again, to see what was selected.
    score_of = np.stack([likelihood(task) for task in tasks]) / EXAMPLES
    alone = [np.exp(grid_posterior(priors, likelihood(task)).log_prob).mean(0) for task in tasks]
    told = likelihood(together(tasks))
    of_all = np.exp(grid_posterior(priors, told).log_prob).mean(axis=0)
    extremes = np.exp(credal.extremes)
    positive = (POINTS > 0) * 1.0
    low, high = expectation_bounds(extremes, positive)
    each, whole = (
        grid_posterior(p, told) for p in (priors, mixture_log_prob(priors, np.full(3, 1 / 3)))
    )
    weights = np.stack([posterior_weights(np.full(3, 1 / 3), each.log_evidence), np.full(3, 1 / 3)])
    mixtures = np.exp(mixture_log_prob(each.log_prob, weights))
    truth = np.abs(POINTS[:, None] - np.array(TRUTHS)).argmin(axis=0)
    return GridWorld(
        laws @ score_of.T,
        score_of,
        np.stack([r.mass - 1 + a for r, a in zip(regions, ALPHAS, strict=True)], axis=-1),
        np.stack(
            [r.mass - r.threshold - 1 + a for r, a in zip(regions, ALPHAS, strict=True)], axis=-1
        ),
        evaluations,
        float(total_variation(by_vertex[-1], of_all)),
        float(total_variation(by_vertex[-1], alone[-1])),
        float(np.max([low - laws @ positive, laws @ positive - high])),
        np.asarray(total_variation(mixtures, np.exp(whole.log_prob))),
        np.take_along_axis(own, truth[:, None], axis=-1)[:, 0],
        score_of.max(axis=-1) - (np.stack(alone) * score_of).sum(axis=-1),
    )


def lost_of(grid: list[GridWorld]) -> np.ndarray:
    """Return nats that each vertex loses on each task, ``(worlds, vertices, tasks)``."""
    return np.stack([world.score_of.max(axis=-1) - world.scores[VERTICES] for world in grid])


# --- normal means ---

SPREADS = (0.5, 1.0, 2.0)  # standard deviations of the priors
THRESHOLD = 0.3  # of distances of the posteriors that are kept
MIXED = np.array([0.5, 0.3, 0.2])


def wasserstein(extremes: np.ndarray, one: np.ndarray) -> Any:
    """Return distances ``(n,)`` of Gaussians given as rows of means and deviations ``(2, d)``."""
    return gaussian_wasserstein(extremes[:, 0], extremes[:, 1], one[0], one[1])


def drawn_data(seed: int) -> np.ndarray:
    """Return observations ``(tasks, n, d)`` around a mean for each of three tasks."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal((3, 1, 2)) + rng.standard_normal((3, 4, 2)))


def posteriors(data: np.ndarray, spreads: tuple[float, ...] = SPREADS) -> np.ndarray:
    """Return posteriors ``(tasks, m, 2, d)``, those of each task the priors of the next."""
    d = data.shape[-1]
    mean, deviation = np.zeros((len(spreads), d)), np.tile(np.array(spreads)[:, None], d)
    found = []
    for observations in data:
        mean, deviation = gaussian_posterior(mean, deviation, observations)
        found.append(np.stack([mean, deviation], axis=1))
    return np.stack(found)


def all_at_once(data: np.ndarray, spreads: tuple[float, ...] = SPREADS) -> np.ndarray:
    """Return ``(tasks, m, 2, d)`` by the formula, from all data up to each task."""
    counts = np.arange(1, len(data) + 1) * data.shape[1]
    precision = counts[:, None] + 1 / np.square(spreads)
    mean = np.cumsum(data.sum(axis=1), axis=0)[:, None] / precision[..., None]
    deviation = np.broadcast_to(precision[..., None] ** -0.5, mean.shape)
    return np.stack([mean, deviation], axis=2)


def grown(tasks: np.ndarray, threshold: float, distance: Any = wasserstein) -> CredalSet:
    """Return the credal set of posteriors ``(tasks, m, ...)`` at a threshold."""
    credal = extend_credal_set(None, tasks[0], distance, threshold=threshold)
    for task in tasks[1:]:
        credal = extend_credal_set(credal, task, distance, threshold=threshold)
    return credal


def mean_root(deviation: np.ndarray, weight: np.ndarray, angle: float) -> np.ndarray:
    """Return what is left of the fixed point of the barycentre, and the mean root, ``(2, 2, 2)``.

    Of Gaussians in the plane, each turned by one angle more than the one before: their barycentre
    has the root M of the equation M² = Σ w (M C M)^½, and here the mean of their roots is tried.
    """
    turns = angle * np.arange(len(weight))
    turn = np.stack([np.cos(turns), -np.sin(turns), np.sin(turns), np.cos(turns)], axis=-1)
    turn = turn.reshape(-1, 2, 2)
    roots = turn @ (deviation[:, :, None] * turn.swapaxes(-1, -2))
    mean = np.tensordot(weight, roots, axes=1)
    values, vectors = np.linalg.eigh(mean @ roots @ roots @ mean)
    each = vectors @ (np.sqrt(np.maximum(values, 0.0))[..., None] * vectors.swapaxes(-1, -2))
    return np.stack([mean @ mean - np.tensordot(weight, each, axes=1), mean])


def joint_mass(reach: float, correlation: float) -> float:
    """Return the mass of ``[-reach, reach]²`` under a standard Gaussian, by quadrature."""
    from scipy.special import ndtr

    nodes, width = np.polynomial.legendre.leggauss(200)
    x, left = reach * nodes, np.sqrt(1 - correlation**2)
    other = ndtr((reach - correlation * x) / left) - ndtr((-reach - correlation * x) / left)
    density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    return float(reach * (width * density) @ other)


def losses_of_two_tasks(theta: np.ndarray, curvature: float) -> np.ndarray:
    """Return ``(..., 2)`` of points in the plane: minima at 0 and at (1, 1), each steep one way."""
    first = theta[..., 0] ** 2 + curvature * theta[..., 1] ** 2
    second = curvature * (theta[..., 0] - 1) ** 2 + (theta[..., 1] - 1) ** 2
    return np.asarray(0.5 * np.stack([first, second], axis=-1))


class Line(NamedTuple):
    """What is measured of three tasks of normal means, in the first of two coordinates.

    Attributes
    ----------
    sequence
        Largest difference of the posteriors of tasks in sequence from those of their data at once.
    missed
        What the region of the mixture holds, less 90 %; and what lies between equal tails.
    shorter
        Length of equal tails, less that of the region.
    wider
        Deviation of the mixture, less that by the barycentre and the variances that it lacks.
    held
        What the box of 90 % of the barycentre holds of it, less the box's mass; of the mixture.
    away
        Distances of posteriors from their stand-ins, the largest, and of extremes, the least.
    """

    sequence: float
    missed: np.ndarray
    shorter: float
    wider: float
    held: np.ndarray
    away: np.ndarray


def line(seed: int) -> Line:
    """Draw three tasks, mix their posteriors, and put one Gaussian in the place of the mixture."""
    data = drawn_data(seed)
    tasks = posteriors(data)
    credal = grown(tasks, THRESHOLD)
    extremes = credal.extremes
    weight = preference_weights(MIXED, credal.stand_in)
    mean, deviation = extremes[:, 0, 0], extremes[:, 1, 0]
    region = mixture_density_region(mean, deviation, weight, level=0.9)
    tails = mixture_quantile(mean, deviation, weight, [0.05, 0.95])
    between = np.diff(norm.cdf(tails[:, None], mean, deviation) @ weight)[0]
    barycentre = gaussian_barycentre(extremes[:, 0], extremes[:, 1], weight)
    mixture = mixture_moments(extremes[:, 0], extremes[:, 1], weight)
    spread = weight @ ((mean - weight @ mean) ** 2 + (deviation - weight @ deviation) ** 2)
    box = central_box(barycentre.mean[:1], barycentre.deviation[:1], level=0.9)
    ends = np.array([box.lower[0], box.upper[0]])
    of_one = np.diff(norm.cdf(ends, barycentre.mean[0], barycentre.deviation[0]))[0]
    of_mixture = np.diff(norm.cdf(ends[:, None], mean, deviation) @ weight)[0]
    apart = np.sqrt(((extremes[:, None] - extremes) ** 2).sum(axis=(-2, -1)))
    stood_in = np.sqrt(((extremes[credal.stand_in] - tasks) ** 2).sum(axis=(-2, -1)))
    least = apart[np.triu_indices(len(extremes), 1)].min(initial=math.inf)
    return Line(
        float(np.abs(tasks - all_at_once(data)).max()),
        np.array([region.mass, between]) - 0.9,
        float(np.diff(tails)[0] - region.length),
        float(mixture.deviation[0] - np.sqrt(barycentre.deviation[0] ** 2 + spread)),
        np.array([of_one - box.mass, of_mixture]),
        np.array([stood_in.max(), least]),
    )
