"""What the paper says of credal sets and regions, each as a property of random instances."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.stats import norm

from paper_repros.robust.ibcl.exact_tasks import (
    SPREADS,
    Likelihood,
    all_at_once,
    central_points,
    draw_tasks,
    drawn_data,
    drawn_set,
    grown,
    joint_mass,
    learn,
    losses_of_two_tasks,
    mean_root,
    normal_priors,
    posteriors,
    selected,
    together,
    total_variations,
    wasserstein,
)
from prefsim.analysis import (
    central_box,
    expectation_bounds,
    gaussian_barycentre,
    grid_posterior,
    highest_density_region,
    mixture_density_region,
    mixture_log_prob,
    mixture_moments,
    mixture_quantile,
    posterior_weights,
    preference_weights,
)
from prefsim.numerics import sigmoid
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.solvers.likelihood.logistic_laplace import logistic_laplace
from prefsim.testing import tables

SEEDS = st.integers(0, 10**6)
LEVELS = st.floats(0.05, 0.99)
HALVES = np.array([0.5, 0.5])
SHARES = tables((3,), low=0.1, high=1.0).map(lambda x: x / x.sum())


@claim(
    "sequence",
    "identity",
    source="algorithm that updates the credal set",
    stated="derived",
    tolerance=1e-12,
    given={"seed": SEEDS, "first": st.just(0)},
    breaks={"first": st.just(2)},
)
def the_last_posteriors_know_all_tasks(seed: int, first: int) -> Verdict:
    """The posteriors of a task are those of its data and of all data before: a preference for the
    last task alone selects what all tasks together say.
    """
    tasks, priors = draw_tasks(seed), normal_priors()
    credal = learn(tasks, Likelihood(), priors)
    told = together(tasks[first:])
    expected = np.exp(grid_posterior(priors, Likelihood()(told)).log_prob)
    return worst(
        apart(np.exp(credal.of_task()), expected),
        apart(selected(credal, np.eye(len(tasks))[-1]), expected.mean(axis=0)),
        detail=f"{told.label.size} examples",
    )


@claim(
    "C1",
    "identity",
    source="section on credal sets; Bayes' rule",
    stated="paper",
    tolerance=1e-12,
    given={"seed": SEEDS, "weight": SHARES, "power": st.just(1.0)},
    breaks={"power": st.just(0.0)},
)
def extremes_update_all_mixtures(seed: int, weight: np.ndarray, power: float) -> Verdict:
    """The posterior of a mixture of priors is the mixture of their posteriors, with weights in
    proportion to b_j m_j for the evidences m: updating the extremes updates the whole set.
    """
    priors = normal_priors()
    log_likelihood = Likelihood()(draw_tasks(seed)[0])
    each = grid_posterior(priors, log_likelihood)
    moved = posterior_weights(weight, power * each.log_evidence)
    whole = grid_posterior(mixture_log_prob(priors, weight), log_likelihood)
    found = np.exp(mixture_log_prob(each.log_prob, moved))
    return apart(found, np.exp(whole.log_prob), detail=f"weights {moved.round(3).tolist()}")


@claim(
    "laplace",
    "minimiser",
    source="implementation by Gaussians with independent weights",
    stated="derived",
    tolerance=1e-9,
    given={"seed": SEEDS, "spread": st.floats(0.2, 3.0), "told": st.just(1.0)},
    breaks={"told": st.floats(1.5, 3.0)},
)
def a_gaussian_touches_the_posterior(seed: int, spread: float, told: float) -> Verdict:
    """At the mode of the last layer the data pull as hard as the prior, and the precision of each
    weight is the curvature along it.
    """
    rng = np.random.default_rng(seed)
    inputs, label = rng.standard_normal((30, 3)), (rng.random(30) < 0.6) * 1.0
    centre = rng.standard_normal(3)
    found = logistic_laplace(inputs, label, mean=centre, deviation=told * spread)
    chance = np.asarray(sigmoid(inputs @ found.mean))
    pull = (label - chance) @ inputs
    curvature = (chance * (1 - chance)) @ inputs**2 + spread**-2
    return worst(
        apart(pull, (found.mean - centre) / spread**2),
        apart(found.deviation**-2, curvature, relative=True),
        detail=f"mode {found.mean.round(4).tolist()}",
    )


@claim(
    "C2",
    "inequality",
    source="definition of finitely generated credal sets",
    stated="paper",
    given={"seed": SEEDS, "beyond": st.just(0.0)},
    breaks={"beyond": st.floats(1.0, 3.0)},
)
def extremes_bound_all_mixtures(seed: int, beyond: float) -> Verdict:
    """The probability of any event under a mixture lies between the least and the largest of the
    extremes, which are the lower and upper probability of the whole set.
    """
    rng = np.random.default_rng(seed)
    probs = np.exp(drawn_set(rng).extremes)
    weights = rng.dirichlet(np.ones(len(probs)), size=200)
    # Beyond an extreme, on the way away from another.
    weights = (1 + beyond) * weights - beyond * np.eye(len(probs))[0]
    event = (rng.random(probs.shape[1]) < 0.5) * 1.0
    bounds, held = expectation_bounds(probs, event), weights @ (probs @ event)
    each = probs[:, event > 0].sum(axis=-1)
    return worst(
        above(bounds.low, held),
        above(held, bounds.high),
        apart([bounds.low, bounds.high], [each.min(), each.max()]),
        detail=f"{bounds.low:.4f} to {bounds.high:.4f}",
    )


@claim(
    "C3",
    "equivalence",
    source="theorem on selecting from the credal set",
    stated="paper",
    tolerance=1e-12,
    given={"seed": SEEDS, "preference": SHARES, "threshold": st.just(0.0)},
    # One extreme stands for all.
    breaks={"threshold": st.just(1.0)},
)
def a_preference_is_a_mixture(seed: int, preference: np.ndarray, threshold: float) -> Verdict:
    """While each task has posteriors of its own, a preference selects one mixture of the extremes,
    and can be read off its weights: w_i is the sum of those of task i.
    """
    posteriors = drawn_set(seed).extremes.reshape(3, 3, -1)
    credal = grown(posteriors, threshold, total_variations)
    weight = preference_weights(preference, credal.stand_in)
    by_vertex = preference_weights(np.eye(3), credal.stand_in)
    means = np.exp(posteriors).mean(axis=1)
    return worst(
        apart(weight @ np.linalg.pinv(by_vertex), preference),
        apart(selected(credal, preference), preference @ means),
        detail=f"{len(credal.extremes)} extremes, w {preference.round(3).tolist()}",
    )


@claim(
    "C8",
    "inequality",
    source="algorithm with a sublinear buffer",
    stated="paper",
    tolerance=0.0,
    given={"seed": SEEDS, "threshold": st.floats(0.05, 2.0), "repeated": st.just(False)},
    breaks={"repeated": st.just(True)},
)
def the_buffer_holds_what_is_apart(seed: int, threshold: float, repeated: bool) -> Verdict:
    """No two extremes that are kept are within the threshold of each other, and each posterior is
    within it of its stand-in; 0 keeps all posteriors, and a large one the first alone.
    """
    tasks = posteriors(drawn_data(seed), SPREADS[:1] * 3 if repeated else SPREADS)
    extremes, stand_in = grown(tasks, threshold)
    sizes = [len(grown(tasks, limit).extremes) for limit in (0.0, 1e6)]
    # Of the squares of all numbers: means and deviations alike.
    away = np.sqrt(((extremes[stand_in] - tasks) ** 2).sum(axis=(-2, -1)))
    pairs = np.sqrt(((extremes[:, None] - extremes) ** 2).sum(axis=(-2, -1)))
    pairs = pairs[np.triu_indices(len(extremes), 1)]
    return worst(
        above(away, threshold + 1e-12),
        float((pairs <= threshold - 1e-12).any()),
        above(len(extremes), stand_in.size),
        apart(sizes, [stand_in.size, 1]),
        detail=f"{len(extremes)} of {stand_in.size} kept",
    )


@claim(
    "C8-order",
    "counterexample",
    source="algorithm with a sublinear buffer",
    stated="derived",
    tolerance=0.0,
    given={"near": st.floats(0.8, 0.95), "wider": st.floats(0.8, 0.95)},
    # On a line of equal deviations.
    breaks={"wider": st.just(0.0)},
)
def a_larger_threshold_can_keep_more(near: float, wider: float) -> Verdict:
    """The number of extremes that are kept can rise with the threshold: where one is no longer
    kept, two that it stood in for are, one beyond it and a wider one.
    """
    gaussians = np.array([[0.0, 1.0], [1.0, 1.0], [1.0 + near, 1.0], [1.0, 1.0 + wider]])
    sizes = [len(grown(gaussians[None, ..., None], t).extremes) for t in (0.99, 1.0)]
    return apart(sizes, [2, 3], detail=f"{near:.3f}, {wider:.3f}")


@claim(
    "C4",
    "minimiser",
    source="definition of highest-density regions",
    stated="paper",
    tolerance=1e-12,
    given={
        "probs": tables((5,), low=0.01, high=1.0).map(lambda x: x / x.sum()),
        "levels": st.tuples(LEVELS, LEVELS),
        "central": st.just(False),
    },
    breaks={"central": st.just(True)},
)
def no_smaller_set_holds_as_much(probs: np.ndarray, levels: Any, central: bool) -> Verdict:
    """The region holds the level, no fewer points do, and that of a lower level lies inside it."""
    low, high = sorted(levels)
    inner, region = (highest_density_region(probs, level=level) for level in (low, high))
    inside = central_points(probs, high) if central else region.inside
    subsets = np.array(list(itertools.product([False, True], repeat=5)))
    enough = subsets[subsets @ probs >= high - 1e-14]
    return worst(
        above(high, region.mass),
        apart(region.mass, probs[region.inside].sum()),
        apart(region.threshold, probs[region.inside].min()),
        apart(inside.sum(), enough.sum(axis=-1).min()),
        float((inner.inside & ~region.inside).any()),
        detail=f"{inside.sum()} points hold {probs[inside].sum():.4f} of {high:.4f}",
    )


@claim(
    "C4-line",
    "minimiser",
    source="definition of highest-density regions",
    stated="derived",
    tolerance=1e-8,
    given={
        "parts": st.tuples(tables((3,), low=-2.0, high=2.0), tables((3,), low=0.2, high=1.0)),
        "weight": SHARES,
        "level": LEVELS,
        "equal_tails": st.just(False),
    },
    breaks={"equal_tails": st.just(True)},
)
def the_density_is_the_same_at_all_ends(
    parts: Any, weight: np.ndarray, level: float, equal_tails: bool
) -> Verdict:
    """Of a mixture of Gaussians the region holds the level, in pieces at whose ends the density is
    the same; equal tails hold as much, on no less length.
    """
    mean, deviation = parts
    region = mixture_density_region(mean, deviation, weight, level=level)
    tails = mixture_quantile(mean, deviation, weight, [0.5 - level / 2, 0.5 + level / 2])
    ends = tails if equal_tails else region.intervals.ravel()
    density, below = (f(ends[:, None], *parts) @ weight for f in (norm.pdf, norm.cdf))
    return worst(
        apart(np.diff(below.reshape(-1, 2)).sum(), level),
        apart([region.mass, np.diff(norm.cdf(tails[:, None], *parts) @ weight)[0]], level),
        apart(density, region.threshold, relative=True),
        above(region.length, np.diff(tails)),
        detail=f"{len(ends) // 2} pieces, {region.length:.4f} against {np.diff(tails)[0]:.4f}",
    )


@claim(
    "C5",
    "inequality",
    source="theorem on the preferred parameter",
    stated="paper",
    tolerance=1e-12,
    given={"seed": SEEDS, "level": LEVELS, "other": st.just(0.0)},
    breaks={"other": st.just(1.0)},
)
def the_preferred_parameter_is_inside(seed: int, level: float, other: float) -> Verdict:
    """A parameter that is drawn from the selected mixture lies in its region with at least the
    level; of one that another law draws, such as nature, this says nothing.
    """
    rng = np.random.default_rng(seed)
    credal = drawn_set(rng)
    preference = (1 - other) * rng.dirichlet(np.ones(3)) + other * np.eye(3)[0]
    mixture, others = selected(credal, np.stack([preference, np.eye(3)[2]]))
    region = highest_density_region(mixture, level=level)
    held = ((1 - other) * mixture + other * others)[region.inside].sum()
    return above(level, held, detail=f"{region.inside.sum()} points hold {held:.4f}")


@claim(
    "C6",
    "minimiser",
    source="the authors' implementation",
    stated="derived",
    tolerance=1e-10,
    given={
        "parts": st.tuples(tables((3, 2), low=-2.0, high=2.0), tables((3, 2), low=0.2, high=2.0)),
        "weight": SHARES,
        "angle": st.just(0.0),
    },
    breaks={"angle": st.floats(0.3, 0.8)},
)
def one_gaussian_stands_for_the_mixture(parts: Any, weight: np.ndarray, angle: float) -> Verdict:
    """The mean of the means and of the deviations is the Wasserstein barycentre: it has the mean of
    the mixture and is narrower by the variances of both, which its distances sum to.
    """
    mean, deviation = parts
    found = gaussian_barycentre(mean, deviation, weight)
    mixture = mixture_moments(mean, deviation, weight)
    gap = sum(weight @ (part - weight @ part) ** 2 for part in parts)
    away = wasserstein(np.stack(parts, axis=1), np.stack(found))
    left, root = mean_root(deviation, weight, angle)
    return worst(
        apart(left, 0.0),
        apart(np.diagonal(root), found.deviation),
        apart(found.mean, mixture.mean),
        apart(mixture.deviation**2 - found.deviation**2, gap),
        apart(weight @ away**2, gap.sum()),
        detail=f"variances {gap.round(4).tolist()}",
    )


@claim(
    "C7",
    "counterexample",
    source="the authors' implementation; trade-offs between tasks",
    stated="derived",
    tolerance=1e-12,
    given={"curvature": st.floats(1.5, 8.0)},
    # Proportional Hessians.
    breaks={"curvature": st.just(1.0)},
)
def a_mean_of_parameters_need_not_be_a_trade_off(curvature: float) -> Verdict:
    """Where two tasks are steep in different directions the mean of their minima has a larger loss
    on both than another point, by (c − 1)²/(8(c + 1)).
    """
    # The deviations of the tasks' own posteriors, of which the mean asks nothing.
    deviation = np.array([[1.0, curvature**-0.5], [curvature**-0.5, 1.0]])
    middle = gaussian_barycentre(np.array([[0.0, 0.0], [1.0, 1.0]]), deviation, HALVES).mean
    better = np.array([curvature, 1.0]) / (1 + curvature)
    worse, best = losses_of_two_tasks(np.stack([middle, better]), curvature)
    return worst(
        apart(worse - best, (curvature - 1) ** 2 / (8 * (curvature + 1))),
        float((worse <= best).any()),
        detail=f"mean {worse.round(4).tolist()}, other {best.round(4).tolist()}",
    )


@claim(
    "between",
    "counterexample",
    source="section on preferences over tasks",
    stated="derived",
    tolerance=1e-12,
    given={"step": st.floats(0.5, 2.0), "spread": st.floats(1.0, 3.0), "third": st.just(2.0)},
    # The third task is as the first.
    breaks={"third": st.just(0.0)},
)
def the_next_task_can_serve_better(step: float, spread: float, third: float) -> Verdict:
    """Of three tasks whose data drift one way, all weight on the second serves it less than all
    weight on the third, whose posterior has seen what lies on both sides.
    """
    data = step * (np.array([-1.0, 0.0, third - 1.0])[:, None, None] + np.zeros((20, 1)))
    found = posteriors(data, (spread,))
    _, own, after = np.abs(found[:, 0, 0, 0])
    return worst(
        float(own <= after),
        apart(found, all_at_once(data, (spread,))),
        detail=f"{own:.4f} away, and {after:.4f}",
    )


@claim(
    "box",
    "identity",
    source="the authors' implementation",
    stated="derived",
    tolerance=1e-12,
    given={"level": LEVELS, "deviation": st.floats(0.1, 3.0), "correlation": st.just(0.0)},
    breaks={"correlation": st.floats(0.5, 0.9)},
)
def coordinates_multiply(level: float, deviation: float, correlation: float) -> Verdict:
    """A box of central intervals that each hold the level a holds a² of two independent weights."""
    box = central_box(np.zeros(2), np.full(2, deviation), level=level)
    held = joint_mass(float(box.upper[0]) / deviation, correlation)
    return worst(
        apart(box.mass, held),
        apart(held, level**2),
        apart(box.lower, -box.upper),
        detail=f"both hold {held:.4f}",
    )
