"""What extensions, barriers and measures of fronts do, on random processes and sets of points."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paper_repros.mdp.c_morl import fronts, instances
from paper_repros.mdp.c_morl.instances import EITHER, PAIR, SEEDS, STEEP, TIED, any_policy
from paper_repros.mdp.c_morl.instances import UNSEEN as UNSEEN
from prefsim.analysis.pareto import assign_points, expected_utility, hypervolume, sparsity
from prefsim.loops.front_extension import least_returns
from prefsim.papers import Verdict, above, apart, claim, rises, worst
from prefsim.solvers.optimisers.trust_region import (
    ConstrainedStep,
    barrier_penalty,
    constrained_step,
)
from prefsim.solvers.pareto import convex_front, crowding_distance, non_dominated, weight_grid
from prefsim.solvers.planning.constrained import constrained_program
from prefsim.solvers.planning.objectives import objective_returns
from prefsim.testing.bandits import tables
from prefsim.worlds import TabularMDP

# --- extensions ---


@claim(
    "extension",
    "identity",
    source="Pareto extension",
    stated="paper",
    tolerance=1e-6,
    examples=20,
    given={"mdp": EITHER, "seed": SEEDS, "unique": st.just(True)},
    breaks={"mdp": TIED, "unique": st.just(False)},
)
def extensions_end_on_the_front(mdp: TabularMDP, seed: int, unique: bool) -> Verdict:
    """From any policy, the best one under the constraints is Pareto-optimal if it is the only one,
    and no worse in the objective that was improved.
    """
    start = any_policy(mdp, seed)
    found = fronts.extension(mdp, start, 0, 0.9 * start)
    assume(fronts.is_unique(mdp, found, 0) or not unique)
    more = fronts.dominated_by(mdp, found.returns)
    assume(more.steepness < STEEP)
    return worst(apart(more.gain, 0.0), above(start[0], found.returns[0]))


@claim(
    "weakly",
    "inequality",
    source="Pareto extension",
    stated="paper",
    tolerance=1e-8,
    examples=20,
    given={"mdp": st.one_of(PAIR, TIED), "seed": SEEDS, "extended": st.just(True)},
    breaks={"extended": st.just(False)},
)
def extensions_are_weakly_optimal(mdp: TabularMDP, seed: int, extended: bool) -> Verdict:
    """Unique or not, no policy is better than an extension in every objective."""
    start = any_policy(mdp, seed)
    found = fronts.extension(mdp, start, 0, 0.9 * start).returns if extended else start
    return above(fronts.beaten_by(mdp, found), 0.0)


@claim(
    "fixed_point",
    "identity",
    source="Pareto extension",
    stated="derived",
    tolerance=1e-6,
    examples=15,
    given={"mdp": PAIR, "seed": SEEDS, "share": st.just(1.0)},
    breaks={"share": st.floats(0.9, 0.99)},
)
def nothing_given_up_moves_nothing(mdp: TabularMDP, seed: int, share: float) -> Verdict:
    """With β = 1 a Pareto-optimal policy is its own extension."""
    start = instances.on_front(mdp, seed)
    level = np.where(np.eye(2) > 0, -np.inf, share * start)
    return apart(constrained_program(mdp, np.eye(2), level).returns, start)


@claim(
    "faces",
    "monotone",
    source="Pareto extension",
    stated="derived",
    tolerance=1e-9,
    examples=8,
    given={"mdp": PAIR, "share": st.floats(0.9, 0.99)},
    breaks={"share": st.just(1.0)},
)
def extensions_dominate_more_than_all_corners(mdp: TabularMDP, share: float) -> Verdict:
    """Weighted sums find corners of the front alone; with extensions of the corners an archive
    dominates more than with all of them.
    """
    corners = convex_front(mdp).returns
    assume(len(corners) > 2)
    levels = np.where(np.eye(2)[:, None] > 0, -np.inf, share * corners)
    added = constrained_program(mdp, np.eye(2)[:, None], levels).returns.reshape(-1, 2)
    both = hypervolume(np.concatenate([corners, added]), [0.0, 0.0])
    gained = both - hypervolume(corners, [0.0, 0.0])
    weights = np.random.default_rng(0).dirichlet([1.0, 1.0], size=20)
    chosen = constrained_program(mdp, weights).returns
    distance = np.abs(chosen[:, None] - corners).max(axis=-1).min(axis=-1)
    return worst(above(1e-6, gained, detail=f"{gained:.3g} gained"), apart(distance, 0.0))


@claim(
    "utility",
    "inequality",
    source="expected utility",
    stated="derived",
    tolerance=1e-9,
    examples=6,
    given={"mdp": PAIR, "known": st.just(lambda mdp: convex_front(mdp).returns)},
    breaks={"known": st.just(lambda mdp: constrained_program(mdp, np.eye(2)).returns)},
)
def corners_serve_linear_preferences_best(
    mdp: TabularMDP, known: Callable[[TabularMDP], np.ndarray]
) -> Verdict:
    """What extensions add has no utility for linear preferences: the corners of the front have the
    largest expected utility, and the point assigned to a preference is worth its optimum.
    """
    corners, weights = known(mdp), weight_grid(2, 10)
    three = constrained_program(mdp, weight_grid(2, 2)).returns
    archive = fronts.fill_front(fronts.exact_trainer(mdp), rounds=1)[-1].archive.returns
    best = constrained_program(mdp, weights).value
    assigned = corners[assign_points(corners, weights)]
    served = [expected_utility(each, weights) for each in (three, archive, corners)]
    return worst(
        rises(served),
        apart((assigned * weights).sum(axis=1), best),
        apart(served[-1], best.mean()),
    )


@claim(
    "constraint",
    "counterexample",
    source="Pareto extension",
    stated="paper",
    given={
        "points": hnp.arrays(np.int64, (6, 2), elements=st.integers(0, 9)),
        "select": st.just(instances.by_level),
    },
    breaks={"select": st.just(instances.by_weights)},
)
def constraints_reach_every_point(
    points: np.ndarray, select: Callable[[np.ndarray], np.ndarray]
) -> Verdict:
    """Of finitely many policies every Pareto-optimal one is best in an objective under constraints
    on the others; weighted sums never find those below the line between two others.
    """
    table = points.astype(float)
    return apart(select(table), non_dominated(table))


@claim(
    "gaps",
    "counterexample",
    source="Pareto extension",
    stated="derived",
    given={"seed": SEEDS, "n": st.integers(6, 8), "share": st.floats(0.65, 0.7)},
    breaks=({"share": st.floats(0.85, 1.0)}, {"share": st.floats(0.05, 0.2)}),
)
def the_share_must_fit_the_gaps(seed: int, n: int, share: float) -> Verdict:
    """Of a finite front, whose neighbours keep .7 to .8 of each other, extensions from both ends
    find all if β lies between that and its square: a larger one crosses no gap, a smaller one skips
    points.
    """
    front = instances.finite_front(seed, n)
    return apart(instances.walk(front, share=share, rounds=n), n)


@claim(
    "reference",
    "inequality",
    source="Pareto extension",
    stated="derived",
    tolerance=1e-8,
    examples=10,
    given={"seed": SEEDS, "last": st.just(False)},
    breaks={"last": st.just(True)},
)
def levels_of_the_start_hold(seed: int, last: bool) -> Verdict:
    """However many steps improve one objective, the other keeps the share β of what it was at the
    start; where each step takes the last as its reference (as the released loss does) it falls on.
    """
    path = fronts.followed(fronts.draw_process(seed), steps=3, share=0.9, last=last)
    return above(0.9 * path[0], path.min(), detail=f"ends at {path[-1] / path[0]:.3f}")


@claim(
    "sign",
    "counterexample",
    source="Pareto extension",
    stated="derived",
    given={
        "returns": tables((4, 3), low=-3.0, high=3.0),
        "share": st.floats(0.1, 0.99),
        "bound": st.just("lowered"),
    },
    breaks={"bound": st.just("scaled")},
)
def a_policy_meets_its_own_level(returns: np.ndarray, share: float, bound: str) -> Verdict:
    """βJ asks for more than J where returns are negative, and excludes the policy itself;
    J − (1 − β)|J| never does, and is βJ where they are not.
    """
    level = least_returns(returns, 0, share=share, bound=bound)
    scaled = least_returns(np.abs(returns), 0, share=share)[:, 1:]
    positive = least_returns(np.abs(returns), 0, share=share, bound=bound)[:, 1:]
    return worst(above(level[:, 1:], returns[:, 1:]), apart(positive, scaled))


# --- interior points and trust regions ---


@claim(
    "barrier_gap",
    "inequality",
    source="interior-point policy optimisation",
    stated="paper",
    tolerance=1e-8,
    examples=20,
    given={"mdp": EITHER, "sharpness": st.floats(5.0, 1000.0), "blunted": st.just(1.0)},
    breaks={"blunted": st.just(3.0), "sharpness": st.just(300.0)},
)
def barriers_lose_little(mdp: TabularMDP, sharpness: float, blunted: float) -> Verdict:
    """With logarithms of weight 1/t for m − 1 constraints, the objective is at most (m − 1)/t below
    its constrained optimum, and not above; the multipliers that prove it are 1/(t slack).
    """
    count = mdp.batch_shape[0]
    found = instances.barrier_at(mdp, sharpness / blunted)
    middle = constrained_program(mdp, np.full(count, 1.0 / count)).returns
    best = constrained_program(mdp, np.eye(count)[0], least_returns(middle, 0, share=0.95)).value
    lost, most = best - found.value, (count - 1) / sharpness
    return worst(above(lost, most), above(-lost, 0.0), apart(found.loss, most))


@claim(
    "barrier_front",
    "identity",
    source="interior-point policy optimisation",
    stated="derived",
    tolerance=1e-4,
    examples=20,
    given={"mdp": EITHER, "sharpness": st.floats(5.0, 1000.0), "at_random": st.just(0.0)},
    breaks={"at_random": st.just(0.05)},
)
def barriers_stay_on_the_front(mdp: TabularMDP, sharpness: float, at_random: float) -> Verdict:
    """The barrier's own optimum is Pareto-optimal, however blunt it is: what it loses in one
    objective it has gained in the others. A policy that is random now and then is not.
    """
    found = instances.barrier_at(mdp, sharpness)
    policy = (1 - at_random) * found.policy + at_random / mdp.n_actions
    more = fronts.dominated_by(mdp, objective_returns(mdp, policy))
    assume(more.steepness < STEEP)
    return apart(more.gain, 0.0)


@claim(
    "penalty",
    "identity",
    source="the released loss",
    stated="derived",
    tolerance=1e-9,
    given={
        "slack": hnp.arrays(np.float64, 4, elements=st.floats(-2.0, 2.0)),
        "extended": st.just(True),
    },
    breaks={"extended": st.just(False), "slack": st.just(np.array([-1.0, 0.5]))},
)
def a_violated_constraint_pulls(slack: np.ndarray, extended: bool) -> Verdict:
    """The penalty is a logarithm down to a slack of .001, and its tangent below: it pulls with
    1/(t max(slack, .001)). Cut off there, as released, it leaves a violated constraint alone.
    """
    found = barrier_penalty(slack, sharpness=20.0, extended=extended)
    least = np.maximum(slack, 1e-3)
    # The tangent at the least slack, from there on down.
    return apart(found, (-np.log(least) + (least - slack) / least) / 20.0, relative=True)


@claim(
    "trust_region",
    "identity",
    source="constrained policy optimisation",
    stated="paper",
    tolerance=1e-7,
    given={"seed": SEEDS, "excess": st.floats(-1.0, 0.1), "solve": st.just(constrained_step)},
    breaks={"solve": st.just(instances.scaled_apart), "excess": st.just(-0.1)},
)
def two_multipliers_solve_the_step(
    seed: int, excess: float, solve: Callable[..., ConstrainedStep]
) -> Verdict:
    """The step of the closed form satisfies the conditions of its optimum: within the region and
    the constraint, λHx = g − νb with λ, ν >= 0, each 0 unless its constraint binds.
    """
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(4, 4))
    g, b, curvature = rng.normal(size=4), rng.normal(size=4), root @ root.T + np.eye(4)
    found = solve(g, b, excess, curvature, radius=0.1)
    assume(found.feasible)
    x, length, price = found.step, found.radius_multiplier, found.constraint_multiplier
    used, over = 0.5 * x @ curvature @ x, excess + b @ x
    return worst(
        above([used, over, -length, -price], [0.1, 0.0, 0.0, 0.0]),
        apart(length * (curvature @ x), g - price * b, scale=1.0 + length),
        apart([length * (used - 0.1), price * over], 0.0, scale=1.0 + length + price),
    )


# --- measures ---


@claim(
    "monotone",
    "monotone",
    source="evaluation measures",
    stated="derived",
    given={
        "points": tables((8, 3), low=0.1, high=4.0),
        "measure": st.just(instances.volume_and_utility),
    },
    breaks={"measure": st.just(instances.minus_sparsity)},
)
def more_points_are_worth_more(
    points: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]
) -> Verdict:
    """No point that is added lowers the hypervolume or the expected utility; the sparsity it may
    lower or raise.
    """
    return rises(np.stack([measure(points[:n]) for n in range(1, 9)]))


@claim(
    "volume",
    "invariance",
    source="evaluation measures",
    stated="derived",
    tolerance=1e-11,
    given={
        "points": tables((6, 3), low=0.1, high=4.0),
        "scale": tables((3,), low=0.2, high=3.0),
        "shift": tables((3,), low=-3.0, high=3.0),
        "moved": st.just(1.0),
    },
    breaks={"moved": st.just(0.0), "shift": st.just(np.array([1.0, 0.5, -0.5]))},
)
def volumes_scale_and_move(
    points: np.ndarray, scale: np.ndarray, shift: np.ndarray, moved: float
) -> Verdict:
    """The hypervolume forgets order and dominated points, moves with its reference point, and
    scales with the product of the scales; by inclusion and exclusion it is what it says.
    """
    zero = np.zeros(3)
    volume = hypervolume(points, zero)
    other = hypervolume(points[::-1] * scale + shift, moved * shift)
    kept = hypervolume(points[non_dominated(points)], zero)
    return worst(
        apart([kept, instances.by_boxes(points)], volume, relative=True),
        apart(other, volume * scale.prod(), relative=True),
    )


@claim(
    "crowding",
    "invariance",
    source="policy selection",
    stated="derived",
    tolerance=1e-9,
    given={"seed": SEEDS, "scale": tables((3,), low=0.2, high=3.0), "mixed": st.just(0.0)},
    breaks={"mixed": st.just(0.5)},
)
def loneliness_has_no_units(seed: int, scale: np.ndarray, mixed: float) -> Verdict:
    """Crowding distances depend neither on order nor on the units or zeros of the objectives, and
    their interior sums to what the neighbours say; sparsities are mean squared gaps.
    """
    points = np.random.default_rng(seed).random((7, 3))
    other = crowding_distance((points @ (np.eye(3) + mixed))[::-1] * scale + 1.0)[::-1]
    found = crowding_distance(points)
    ends, wanted = instances.by_neighbours(points)
    return worst(
        apart(np.isinf([found, other]), ends),
        apart(np.where(ends, 0.0, [found, other]), wanted),
        apart(sparsity(points), (np.diff(np.sort(points, axis=0), axis=0) ** 2).sum() / 6),
    )


@claim(
    "grid",
    "identity",
    source="expected utility, and the released grid",
    stated="derived",
    given={
        "parts": st.integers(1, 12),
        "count": st.integers(2, 4),
        "grid_of": st.just(weight_grid),
    },
    breaks={"grid_of": st.just(instances.by_floats), "parts": st.just(10), "count": st.just(3)},
)
def grids_of_integers_are_whole(
    parts: int, count: int, grid_of: Callable[[int, int], np.ndarray]
) -> Verdict:
    """The grid of weights has all compositions of its steps; where sums of floats are compared with
    one, some are lost.
    """
    grid = grid_of(count, parts)
    whole = math.comb(parts + count - 1, count - 1)
    return worst(
        apart([len(grid), len(np.unique(grid, axis=0))], whole),
        apart(grid.sum(axis=1), 1.0),
        apart(grid * parts, np.round(grid * parts)),
    )
