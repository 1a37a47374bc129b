"""What the paper says of couplings, of labels that they carry, and of rewards with a spread."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.pearl.clouds import UNSEEN as UNSEEN
from paper_repros.mdp.pearl.clouds import (
    by_blocks,
    by_four_indices,
    by_masses,
    chain,
    path_of,
    permutations_of,
    random_coupling,
    random_distances,
    random_preference,
    rotation,
    turned_copy,
    uniform_coupling,
)
from paper_repros.mdp.pearl.spreads import pair_of, softplus_by_panels
from prefsim.data.cross_task import transferred_preference
from prefsim.gradients import loss_gradient
from prefsim.losses import gaussian_bradley_terry
from prefsim.losses.gaussian_rewards import entropy_hinge, log_odds_law
from prefsim.numerics import softplus
from prefsim.papers import Verdict, above, apart, claim, falls, outside, rises, worst
from prefsim.raters.logistic_normal import expected_softplus, log_expected_sigmoid
from prefsim.solvers.coupled_distances import (
    distance_matrix,
    gromov_wasserstein_cost,
    gromov_wasserstein_gradient,
)
from prefsim.solvers.gromov_wasserstein import (
    entropic_gromov_wasserstein,
    gromov_wasserstein,
    stationarity_gap,
)
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward
from prefsim.solvers.likelihood.reward_heads import fit_reward_heads

SEEDS = st.integers(0, 10**6)
SIZES = st.integers(2, 6)
Table = Callable[[np.ndarray], np.ndarray]
spread_alone = functools.partial(gaussian_bradley_terry, mean_weight=0.0, entropy_weight=0.0)
floor_alone = functools.partial(gaussian_bradley_terry, mean_weight=0.0, spread_weight=0.0)

# --- couplings ---


@claim(
    "factorisation",
    "identity",
    source="equation of the Gromov–Wasserstein distance; Peyré, Cuturi and Solomon 2016",
    stated="derived",
    tolerance=1e-13,
    given={"seed": SEEDS, "m": SIZES, "n": SIZES, "said": st.just("own")},
    breaks={"said": st.just("uniform")},
)
def matrices_are_the_sum_over_four_indices(seed: int, m: int, n: int, said: str) -> Verdict:
    """A coupling's cost and its derivative are products of matrices, with the masses it moves."""
    rng = np.random.default_rng(seed)
    source, target = random_distances(rng, m), random_distances(rng, n)
    plan = random_coupling(rng, m, n)
    own, uniform = (plan.sum(axis=1), plan.sum(axis=0)), (np.full(m, 1 / m), np.full(n, 1 / n))
    p, q = own if said == "own" else uniform
    cost, slope = by_four_indices(source, target, plan)
    return worst(
        apart(gromov_wasserstein_cost(source, target, plan), cost, relative=True),
        apart(gromov_wasserstein_gradient(source, target, plan), slope, relative=True),
        apart(by_masses(source, target, plan, p, q), cost, relative=True),
    )


@claim(
    "isometry",
    "invariance",
    source="section on cross-task preference alignment",
    stated="paper",
    tolerance=1e-12,
    given={"seed": SEEDS, "m": SIZES, "n": SIZES, "measured": st.just(distance_matrix)},
    breaks={"measured": st.just(by_blocks)},
)
def only_shapes_matter(seed: int, m: int, n: int, measured: Table) -> Verdict:
    """Turning or moving either space leaves the cost as it is, and renaming its points renames the
    coupling.
    """
    rng = np.random.default_rng(seed)
    source, target = rng.standard_normal((m, 3)), rng.standard_normal((n, 2))
    plan, order = random_coupling(rng, m, n), rng.permutation(n)
    moved = source @ rotation(rng, 3) + 2 * rng.standard_normal(3)
    other = (target @ rotation(rng, 2))[order]
    before = gromov_wasserstein_cost(measured(source), measured(target), plan)
    after = gromov_wasserstein_cost(measured(moved), measured(other), plan[:, order])
    lengths = np.linalg.norm(source[:, None] - source, axis=-1)
    return worst(apart(after, before, relative=True), apart(distance_matrix(moved), lengths))


@claim(
    "zero",
    "minimiser",
    source="section on cross-task preference alignment",
    stated="derived",
    tolerance=1e-10,
    given={"seed": SEEDS, "shape": st.just("generic")},
    breaks={"shape": st.just("chain")},
)
def a_turned_copy_gets_all_labels(seed: int, shape: str) -> Verdict:
    """The cost of a turned and renamed copy is 0 at its renaming and at no other permutation, the
    solver finds it, and the labels that arrive are the true ones.
    """
    source, target, order, labels = turned_copy(seed, shape)
    right = np.eye(5)[order].T / 5
    every = permutations_of(5)
    costs = gromov_wasserstein_cost(source, target, every)
    found = gromov_wasserstein(source, target, restarts=1, seed=seed)
    return worst(
        apart(every[np.argmin(costs)], right),
        above(np.min(costs), 0.0),
        above(1e-9, np.sort(costs)[1]),
        apart(found.coupling, right),
        apart(transferred_preference(found.coupling, labels), labels[np.ix_(order, order)]),
    )


@claim(
    "symmetry",
    "counterexample",
    source="section on cross-task preference alignment",
    stated="derived",
    given={"n": st.integers(3, 7), "spacing": st.floats(0.5, 2.0), "anchored": st.just(False)},
    breaks={"anchored": st.just(True)},
)
def a_symmetric_shape_leaves_labels_open(n: int, spacing: float, anchored: bool) -> Verdict:
    """On a chain of equal spaces the identity and the reversal both cost 0, and the labels that
    arrive are right by one and exactly wrong by the other.
    """
    table, plans, labels = chain(n, spacing, anchored)
    arrived = transferred_preference(plans, np.stack([labels, labels]))
    turned = labels[:n, :n].T
    return worst(
        apart(gromov_wasserstein_cost(table, table, plans), 0.0),
        apart(arrived[:, :n, :n], [labels[:n, :n], turned]),
        apart(turned, 1 - labels[:n, :n]),
    )


@claim(
    "descent",
    "monotone",
    source="Vayer et al. 2019 (the solver)",
    stated="derived",
    tolerance=1e-9,
    given={"seed": SEEDS, "full": st.just(False)},
    breaks={"full": st.just(True)},
)
def steps_to_the_best_point_never_rise(seed: int, full: bool) -> Verdict:
    """Conditional gradients with the best step never raise the cost of any symmetric table, and the
    solver ends where no linearised coupling is cheaper, not above where it starts.
    """
    rng = np.random.default_rng(seed)
    tables = random_distances(rng, 5, "any"), random_distances(rng, 5, "any")
    plan, corners = uniform_coupling(rng, 5), permutations_of(5)
    slope = gromov_wasserstein_gradient(*tables, plan)
    gap = np.max(np.sum(slope * (plan - corners), axis=(1, 2)))
    source, target = random_distances(rng, 5), random_distances(rng, 5)
    found = gromov_wasserstein(source, target, restarts=2, seed=seed)
    start = gromov_wasserstein_cost(source, target, np.full((5, 5), 1 / 25))
    return worst(
        falls(path_of(*tables, plan, 6, full=full)),
        apart(stationarity_gap(*tables, plan), gap),
        apart(found.value, gromov_wasserstein_cost(source, target, found.coupling)),
        above(found.residual, 1e-6),
        above(found.value, start),
        apart(found.coupling.sum(axis=-1), 0.2),
    )


@claim(
    "concave",
    "inequality",
    source="Maron and Lipman 2018",
    stated="derived",
    given={"seed": SEEDS, "m": SIZES, "n": SIZES, "kind": st.just("euclidean")},
    breaks={"kind": st.just("any"), "m": st.integers(4, 6), "n": st.integers(4, 6)},
)
def euclidean_costs_bend_down(seed: int, m: int, n: int, kind: str) -> Verdict:
    """Between Euclidean distances the cost is concave along all couplings of given masses, so that
    the best step goes the whole way and minima lie at corners.
    """
    rng = np.random.default_rng(seed)
    source, target = random_distances(rng, m, kind), random_distances(rng, n, kind)
    way = rng.standard_normal((m, n))
    way = way - way.mean(axis=0) - way.mean(axis=1)[:, None] + way.mean()
    # The derivative is linear in the coupling, and ways are too.
    ends = [np.abs(way) + step * way for step in (0.0, 1.0)]
    first, last = (gromov_wasserstein_gradient(source, target, end) for end in ends)
    return above(np.sum((last - first) * way), 0.0, scale=np.sum(way**2))


@claim(
    "entropic",
    "identity",
    source="Peyré, Cuturi and Solomon 2016",
    stated="derived",
    tolerance=1e-6,
    examples=6,
    given={"seed": SEEDS, "entropy": st.floats(0.5, 2.0), "said": st.just(1.0)},
    breaks={"said": st.just(1.5)},
)
def an_entropic_coupling_is_a_fixed_point(seed: int, entropy: float, said: float) -> Verdict:
    """The logarithm of an entropic coupling is the negative gradient over ε, up to a number for
    each row and each column, and its masses are uniform.
    """
    rng = np.random.default_rng(seed)
    source, target = (distance_matrix(rng.standard_normal((n, 3)), normalise=True) for n in (4, 5))
    found = entropic_gromov_wasserstein(source, target, entropy=entropy)
    slope = gromov_wasserstein_gradient(source, target, found.coupling)
    left = np.log(found.coupling) + slope / (said * entropy)
    left = left - left.mean(axis=0) - left.mean(axis=1)[:, None] + left.mean()
    return worst(
        apart(left, 0.0),
        apart(found.coupling.sum(axis=0), 0.2),
        apart(found.coupling.sum(axis=1), 0.25),
        apart(found.value, gromov_wasserstein_cost(source, target, found.coupling)),
    )


# --- labels ---


@claim(
    "antisymmetry",
    "identity",
    source="equation of the transferred labels",
    stated="derived",
    tolerance=1e-12,
    given={"seed": SEEDS, "n": SIZES, "masses": st.just("uniform")},
    breaks={"masses": st.just("any")},
)
def arrived_labels_are_labels(seed: int, n: int, masses: str) -> Verdict:
    """Transferred labels satisfy Ŷ + Ŷᵀ = 1 and stay within those of the source, those of the
    opposite direction are one less them, and for uniform masses they are N² TᵀYT.
    """
    rng = np.random.default_rng(seed)
    plan = uniform_coupling(rng, n) if masses == "uniform" else random_coupling(rng, n, n)
    labels = random_preference(rng, n)
    arrived = transferred_preference(plan, labels)
    return worst(
        apart(arrived + arrived.T, 1.0),
        apart(np.diagonal(arrived), 0.5),
        apart(transferred_preference(plan, labels.T), 1 - arrived),
        outside(arrived, float(labels.min()), float(labels.max())),
        apart(arrived, n**2 * plan.T @ labels @ plan),
    )


@claim(
    "no_information",
    "limit",
    source="equation of the transferred labels",
    stated="derived",
    tolerance=1e-12,
    given={"seed": SEEDS, "m": SIZES, "n": SIZES, "matched": st.just(0.0)},
    breaks={"matched": st.floats(0.2, 1.0), "m": st.just(4), "n": st.just(4)},
)
def a_product_carries_nothing(seed: int, m: int, n: int, matched: float) -> Verdict:
    """A coupling that matches all with all carries no label: each that arrives is one half."""
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(m)), rng.dirichlet(np.ones(n))
    plan = (1 - matched) * p[:, None] * q + matched * np.eye(m, n) / m
    return apart(transferred_preference(plan, random_preference(rng, m)), 0.5)


# --- rewards with a spread ---


@claim(
    "spread_costs",
    "monotone",
    source="section on robust reward learning",
    stated="derived",
    tolerance=1e-9,
    given={"mean": st.floats(-4, 4), "seed": SEEDS, "form": st.just("expected")},
    breaks={"form": st.just("marginal"), "mean": st.floats(-4, -1)},
)
def any_spread_costs(mean: float, seed: int, form: str) -> Verdict:
    """The expected loss rises with the spread from the loss at the mean, whatever the label says,
    so that nothing but the floor on the entropy keeps a spread.
    """
    rng = np.random.default_rng(seed)
    scales = np.array([0.01, 0.3, 0.6, 1.0, 2.0, 7.0])
    pairs = pair_of(seed, mean, scales[:, None] * rng.uniform(0.3, 1.0, 4))
    loss, (_, total) = functools.partial(spread_alone, form=form), log_odds_law(pairs)
    exact = [softplus_by_panels(-mean, v) for v in total]
    slopes = loss_gradient(loss, pairs)
    return worst(
        rises(np.append(softplus(np.asarray(-mean)), loss(pairs))),
        above(-np.hstack([slopes.chosen_log_deviation, slopes.rejected_log_deviation]), 0.0),
        apart(expected_softplus(np.asarray(-mean), total), exact, relative=True),
    )


@claim(
    "label_blind",
    "invariance",
    source="section on robust reward learning",
    stated="derived",
    tolerance=1e-10,
    given={"mean": st.floats(-3, 3), "seed": SEEDS, "form": st.just("expected")},
    breaks={"form": st.just("marginal"), "mean": st.floats(1.0, 3.0)},
)
def the_spread_learns_nothing_from_labels(mean: float, seed: int, form: str) -> Verdict:
    """The derivative of the expected loss in the spreads is the same for a label and its opposite:
    which labels are noisy it cannot say. That of the likelihood of a noisy rater is not.
    """
    rng = np.random.default_rng(seed)
    pairs = pair_of(seed, mean, rng.uniform(0.2, 2.0, (3, 6)))
    loss = functools.partial(gaussian_bradley_terry, form=form, mean_weight=0.0)
    given, opposite = loss_gradient(loss, pairs), loss_gradient(loss, pairs.swapped())
    return worst(
        apart(given.chosen_log_deviation, opposite.rejected_log_deviation),
        apart(given.rejected_log_deviation, opposite.chosen_log_deviation),
    )


@claim(
    "hinge",
    "identity",
    source="section on robust reward learning, regulariser",
    stated="paper",
    tolerance=1e-12,
    given={"deviation": st.floats(0.01, 5.0), "floor": st.floats(-1, 2), "power": st.just(1)},
    breaks={"power": st.just(2)},
)
def the_floor_is_a_smallest_deviation(deviation: float, floor: float, power: int) -> Verdict:
    """The regulariser is 0 exactly for deviations from e^η/√(2πe) on, and below it the logarithm of
    how many times too small they are.
    """
    smallest = np.exp(floor) / math.sqrt(2 * math.pi * math.e)
    found = entropy_hinge(np.log([deviation, smallest, 2 * smallest]), floor=floor)
    short = np.maximum(0.0, np.log(smallest / deviation**power))
    pair = pair_of(0, 0.0, np.full((1, 6), deviation))
    loss = floor_alone(pair, entropy_weight=2.0, entropy_floor=floor)
    return worst(apart(found, [short, 0.0, 0.0]), apart(loss, 2 * short))


@claim(
    "draws",
    "statistical",
    source="section on robust reward learning, reparametrised draws",
    stated="derived",
    tolerance=0.0,
    given={"mean": st.floats(-2, 2), "seed": SEEDS, "scale": st.just(1.0)},
    breaks={"scale": st.just(2.0)},
)
def draws_estimate_the_expectation(mean: float, seed: int, scale: float) -> Verdict:
    """The loss averaged over draws is without bias for the expected one: within six standard errors
    of it.
    """
    rng = np.random.default_rng(seed)
    draws = 4000
    pairs = pair_of(seed, mean, rng.uniform(0.3, 1.0, (2, 4)), draws)
    noise = scale * np.asarray(pairs.chosen_noise), scale * np.asarray(pairs.rejected_noise)
    pairs = pairs._replace(chosen_noise=noise[0], rejected_noise=noise[1])
    off = spread_alone(pairs, form="sampled") - spread_alone(pairs)
    # The loss has slope at most one, so that it scatters by no more than the log-odds.
    return outside(off / log_odds_law(pairs)[1], -6 / np.sqrt(draws), 6 / np.sqrt(draws))


@claim(
    "noisy_rater",
    "identity",
    source="the logistic-normal integral",
    stated="derived",
    tolerance=1e-7,
    given={"mean": st.floats(-30, 30), "deviation": st.floats(0.05, 9.0), "said": st.just(1.0)},
    breaks={"said": st.just(1.2), "mean": st.floats(-2, -1), "deviation": st.floats(1, 3)},
)
def preferences_are_the_slope_of_the_loss(mean: float, deviation: float, said: float) -> Verdict:
    """The derivative of the expected loss in the mean is the preference of a rater whose log-odds
    are normal, and the preferences for both sides sum to one.
    """
    step, v = 1e-4, np.asarray(deviation)
    high, low = expected_softplus(np.array([mean + step, mean - step]), v)
    both = np.exp(log_expected_sigmoid(np.array([mean, -mean]), said * v))
    return worst(apart((high - low) / (2 * step), both[0]), apart(both.sum(), 1.0))


@claim(
    "without_spread",
    "equivalence",
    source="section on robust reward learning",
    stated="derived",
    tolerance=1e-4,
    examples=6,
    given={"seed": SEEDS, "spread_weight": st.just(0.0)},
    breaks={"spread_weight": st.just(1.0)},
)
def without_its_spread_it_is_bradley_terry(seed: int, spread_weight: float) -> Verdict:
    """A linear reward fitted by the loss at the mean alone is that of Bradley–Terry."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((10, 3, 2))
    pairs = np.argwhere(np.triu(np.ones((10, 10)), 1) > 0)
    prob = rng.integers(0, 2, len(pairs)) * 1.0
    returns = steps.sum(axis=1)
    differences = (returns[pairs[:, 0]] - returns[pairs[:, 1]]) * (2 * prob - 1)[:, None]
    expected = fit_linear_reward(differences, ridge=0.01).weights
    loss = functools.partial(
        gaussian_bradley_terry, spread_weight=spread_weight, entropy_weight=1.0, entropy_floor=2.0
    )
    start = [np.zeros((1, 2, 2)), np.zeros((1, 1, 2))]
    found = fit_reward_heads(start, steps, pairs, prob, loss=loss, ridge=0.01)
    return apart(found.layers[0][0, :, 0], expected)
