"""Duality, thresholds out of reach, multipliers and their descent, proxy points."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.constrained_rlhf import problems
from paper_repros.mdp.constrained_rlhf.overoptimised import (
    World,
    constrained,
    path_of,
    point_of,
    searched,
)
from paper_repros.mdp.constrained_rlhf.problems import BATCH, SIGNS, Drawn, ratios_of
from prefsim.losses.multipliers import mixture_weights, saturated
from prefsim.papers import Verdict, above, apart, claim, falls, rises, worst
from prefsim.solvers.closed_forms.separation import separating_direction

SEEDS = st.integers(0, 10**6)
SENSES = st.lists(st.sampled_from(list(SIGNS)), min_size=1, max_size=3)
SQUASHES = st.sampled_from(["sigmoid", "tanh"])
SHORT = 121  # steps of a path


@claim(
    "duality",
    "identity",
    source="section 4",
    stated="derived",
    tolerance=1e-8,
    given={"seed": SEEDS, "senses": SENSES, "within": st.floats(0.2, 1.0)},
    breaks={"within": st.floats(4.0, 8.0)},
)
def dual_and_primal_meet(seed: int, senses: list[str], within: float) -> Verdict:
    """The least dual is what the best policy that keeps the constraints is worth, multipliers of
    inequalities are >= 0 and those of slack ones 0; no other multipliers have a smaller dual.
    """
    drawn, weights = Drawn.of(seed, len(senses)), np.full(len(senses), 0.3)
    thresholds, options = drawn.between(within), {"sense": senses, "weights": weights}
    found = drawn.optimum(thresholds, **options)
    if not found.feasible.all():
        return worst(1.0, detail="no policy keeps the constraints")
    slack = found.multipliers * (found.achieved - thresholds)
    other = problems.against(seed, found, senses)
    return worst(
        apart(found.value, drawn.worth(found.log_policy, weights)),
        apart(found.gap, 0.0),
        apart(slack, 0.0, scale=1 + np.abs(found.multipliers)),
        apart(problems.violations(found, thresholds, senses), 0.0),
        above(found.value, drawn.dual(other, thresholds, **options).value),
    )


@claim(
    "infeasible",
    "inequality",
    source="section 4",
    stated="derived",
    tolerance=1e-9,
    examples=15,
    given={
        "seed": SEEDS,
        "sense": st.sampled_from(["equal", "at_least"]),
        "by": st.floats(0.01, 1),
    },
    breaks={"by": st.floats(-0.5, -0.01)},
)
def thresholds_out_of_reach_are_told(seed: int, sense: str, by: float) -> Verdict:
    """Where no policy keeps the constraints that is reported, with multipliers under which every
    policy's weighted reward is below the weighted thresholds.
    """
    drawn, least = Drawn.of(seed, batch=4), 0.1 if sense == "at_least" else -1.0
    across = np.random.default_rng(seed).uniform(least, 1.0, (4, 2))
    across = across / np.abs(across).max(axis=-1, keepdims=True)
    outward = across / np.sum(across**2, axis=-1, keepdims=True)
    thresholds = drawn.farthest(across) + by * outward
    found = drawn.optimum(thresholds, sense=sense)
    told = separating_direction(drawn.rewards, drawn.log_reference, thresholds, sense=sense)
    short = np.sum(told.direction * thresholds, axis=-1) - drawn.best(told.direction)
    return worst(
        float(found.feasible.any()),
        apart(found.separating, told.direction),
        apart(short, told.margin),
        above(by, told.margin),
        above(np.abs(told.direction), 1.0),
    )


@claim(
    "equality",
    "inequality",
    source="section 4 (ξ-PPO)",
    stated="derived",
    tolerance=1e-7,
    given={"seed": SEEDS, "depth": st.floats(0.02, 0.5)},
    breaks={"depth": st.just(0.0)},
)
def equality_is_met_by_bounded_multipliers(seed: int, depth: float) -> Verdict:
    """Equality is met, and where thresholds could be missed by d in every direction by multipliers
    of a length of at most β E max(−log π_ref)/d.
    """
    drawn = Drawn.of(seed)
    corner = drawn.farthest(np.tile([0.6, -0.8], (BATCH, 1)))
    thresholds = (1 - depth) * corner + depth * drawn.achieved(drawn.log_reference)
    found = drawn.optimum(thresholds, sense="equal")
    surprise = -drawn.log_reference.min(axis=-1).mean(axis=-1)
    length = np.linalg.norm(found.multipliers, axis=-1)
    bound = drawn.beta * surprise / np.maximum(depth * drawn.inner_radius(), 1e-9)
    longest = np.where(depth > 0, bound, 3.0)
    return worst(apart(found.achieved, thresholds), above(length, longest))


@claim(
    "slack",
    "identity",
    source="section 4 (μ-PPO)",
    stated="derived",
    tolerance=1e-9,
    given={"seed": SEEDS, "below": st.floats(0.01, 1.0)},
    breaks={"below": st.floats(-0.3, -0.05)},
)
def what_the_reference_keeps_costs_nothing(seed: int, below: float) -> Verdict:
    """If the reference is at or above the thresholds it is μ-PPO's solution, without a multiplier;
    ξ-PPO moves away from it, with negative ones.
    """
    drawn = Drawn.of(seed, 1)
    thresholds = drawn.achieved(drawn.log_reference) - below
    found, exact = drawn.optimum(thresholds), drawn.optimum(thresholds, sense="equal")
    return worst(
        apart(found.log_policy, drawn.log_reference),
        apart(found.multipliers, 0.0),
        apart(found.value, 0.0),
        above(np.nan_to_num(exact.multipliers, nan=-1.0), -1e-3 * below),
    )


@claim(
    "convex",
    "identity",
    source="section 4",
    stated="derived",
    tolerance=1e-6,
    given={
        "seed": SEEDS,
        "sense": st.sampled_from(list(SIGNS)),
        "share": st.just(1.0),
        "own": st.just(0.0),
    },
    breaks=({"share": st.sampled_from([0.5, -1.0, 2.0])}, {"own": st.floats(0.2, 1.0)}),
)
def dual_curves_by_the_covariance(seed: int, sense: str, share: float, own: float) -> Verdict:
    """The dual's gradient in the multipliers is what the policy has beyond the thresholds (short of
    them, for at most), its Hessian the covariance of the rewards over β: nowhere negative. Where
    rewards are multiples of one another multipliers are not unique, and the policy is.
    """
    drawn, sign = Drawn.of(seed), -1.0 if sense == "at_most" else 1.0
    at, thresholds = np.random.default_rng(seed).standard_normal((2, BATCH, 2))
    here = drawn.dual(at, thresholds, sense=sense)
    measured = problems.slopes(drawn, at, thresholds, sense=sense)
    stated = share * drawn.covariance(here.log_policy) / drawn.beta[:, None, None]
    twins = drawn.with_twins(own)
    level = twins.dual(at, twins.between(0.5), sense="equal")
    along = twins.dual(at + np.array([2.0, -1.0]), twins.between(0.5), sense="equal")
    return worst(
        apart(here.gradient, measured.gradient, relative=True),
        apart(here.gradient, sign * (drawn.achieved(here.log_policy) - thresholds)),
        apart(here.hessian, measured.hessian, relative=True),
        apart(here.hessian, stated, relative=True),
        above(0.0, np.linalg.eigvalsh(here.hessian)),
        apart(along.log_policy, level.log_policy),
        apart(along.value, level.value),
    )


@claim(
    "All",
    "inequality",
    source="section 4 (All-PPO)",
    stated="paper",
    tolerance=1e-8,
    given={"seed": SEEDS, "beyond": st.floats(-0.2, 0.8), "sense": st.just("at_most")},
    breaks={"sense": st.just("at_least"), "beyond": st.floats(-0.2, -0.1)},
)
def all_rewards_stay_below(seed: int, beyond: float, sense: str) -> Verdict:
    """All-PPO keeps every reward at or below its threshold: it weighs reward i by 1 − λ_i <= 1, and
    where plain PPO is below all of them it is plain PPO.
    """
    drawn = Drawn.of(seed)
    plain = drawn.tilted(np.ones((BATCH, 2)))
    thresholds = drawn.achieved(plain) + beyond
    found = drawn.optimum(thresholds, sense=sense, weights=np.ones(2))
    told = found.feasible
    weighed = drawn.where(told).tilted(1 - found.multipliers[told])
    return worst(
        above(found.achieved[told], thresholds[told]),
        apart(np.exp(found.log_policy[told]), np.exp(weighed)),
        apart(found.log_policy, plain) if beyond >= 0 else 0.0,
    )


# --- the multipliers of the release ---


@claim(
    "squash",
    "identity",
    source="section 4; release",
    stated="derived",
    tolerance=1e-9,
    given={"seed": SEEDS, "kind": SQUASHES, "share": st.just(1.0), "largest": st.floats(0.1, 0.99)},
    breaks=({"share": st.just(0.5)}, {"largest": st.floats(1.05, 1.5)}),
)
def squashed_weights_are_some_multipliers(
    seed: int, kind: str, share: float, largest: float
) -> Verdict:
    """The mixed advantage is at rest exactly at π ∝ π_ref exp(Σ s_i r_i/(β(m − Σs))): λ_i is
    s_i/(m − Σs), for one reward and a sigmoid e^ν. It has only those ratios λ >= 0 of which every
    m λ_i < 1 + Σλ: of two rewards none may have a multiplier larger by one than the other's.
    """
    drawn, raw = Drawn.of(seed, 3), 0.8 * np.random.default_rng(seed).standard_normal((BATCH, 3))
    weights = mixture_weights(raw, kind=kind)
    at_rest = drawn.advantages(drawn.tilted(share * ratios_of(raw, kind)))
    unpaid, rewards = drawn.advantages(drawn.log_reference)
    needed, ratios = problems.squashable(seed, 2, largest)
    return worst(
        apart(problems.mixed(*at_rest, raw, kind=kind, normalise=False), 0.0),
        apart(
            problems.mixed(unpaid, rewards, raw, kind=kind, normalise=False),
            np.einsum("bm,bmxy->bxy", weights.rewards, rewards),
        ),
        apart(ratios_of(raw[:, :1], "sigmoid"), np.exp(raw[:, :1]), relative=True),
        apart(2 * ratios / (1 + ratios.sum(axis=-1, keepdims=True)), needed),
        apart(ratios_of(problems.nearest_squashed(needed), "sigmoid"), ratios, relative=True),
    )


@claim(
    "descent",
    "minimiser",
    source="release",
    stated="derived",
    tolerance=0.01,
    examples=2,
    given={"seed": SEEDS, "kind": SQUASHES, "longest": st.just(0.9)},
    # Two rewards of which one needs a multiplier larger by more than one.
    breaks={"longest": st.just(3.0)},
)
def learned_multipliers_end_at_the_dual(seed: int, kind: str, longest: float) -> Verdict:
    """If a squash reaches the multipliers of the dual, descent with the best policy at every step
    ends at them, and the rewards at their thresholds.
    """
    drawn = Drawn.of(seed)
    wanted = np.random.default_rng(seed).uniform((0.3, 0.6), (0.6, 1.0), (BATCH, 2))
    thresholds = drawn.achieved(drawn.tilted(longest * wanted))
    log_policy, raw = drawn.learned(thresholds, kind=kind, steps=500)
    exact = drawn.optimum(thresholds, sense="equal").multipliers
    return worst(
        apart(drawn.achieved(log_policy), thresholds),
        apart(ratios_of(raw, kind), exact, scale=10.0),
    )


@claim(
    "inactive",
    "statistical",
    source="release",
    stated="derived",
    tolerance=0.3,
    examples=2,
    given={"seed": SEEDS, "below": st.floats(0.1, 0.3)},
    breaks={"below": st.floats(-0.3, -0.1)},
)
def an_idle_multiplier_falls_as_one_over_the_steps(seed: int, below: float) -> Verdict:
    """The sigmoid of a constraint that is idle by d leaves a weight of about (1 − momentum) over
    rate times d times t after t steps: zero only in the limit, ν → −∞.
    """
    drawn, steps = Drawn.of(seed, 1, batch=4), 500
    thresholds = drawn.achieved(drawn.log_reference) - below
    log_policy, raw = drawn.learned(thresholds, kind="sigmoid", steps=steps)
    travelled = problems.RATES["sigmoid"] * steps * (drawn.achieved(log_policy) - thresholds)
    return apart(mixture_weights(raw, kind="sigmoid").rewards * travelled / 0.9, 1.0)


@claim(
    "normalised",
    "invariance",
    source="release",
    stated="derived",
    tolerance=1e-6,
    given={"seed": SEEDS, "size": st.floats(0.2, 5.0), "normalise": st.just(True)},
    breaks={"normalise": st.just(False), "size": st.floats(1.5, 5.0)},
)
def normalised_advantages_forget_the_penalty(seed: int, size: float, normalise: bool) -> Verdict:
    """Normalised, as in the release, an advantage forgets its unit, the penalty its coefficient. Of
    one reward what is mixed on the path of its optima is (2s − 1) times its own advantage, whatever
    the strength: s = ½ rests at every one, no other s at any.
    """
    drawn, raw = Drawn.of(seed), np.random.default_rng(seed).standard_normal((BATCH, 2))
    penalty, rewards = drawn.advantages(drawn.log_policy)
    units = np.array([size, 1 / size])[:, None, None]
    scaled = problems.mixed(size * penalty, units * rewards, raw, normalise=normalise)
    alone = drawn._replace(rewards=drawn.rewards[:, :1])
    paid, own = alone.advantages(alone.tilted(np.full((BATCH, 1), size)))
    tilt = 2 * mixture_weights(raw[:, :1]).rewards[..., None] - 1
    return worst(
        apart(scaled, problems.mixed(penalty, rewards, raw, normalise=normalise)),
        apart(
            problems.mixed(paid, own, raw[:, :1], normalise=normalise),
            tilt * problems.normalised(own[:, 0]),
        ),
    )


@claim(
    "saturated",
    "invariance",
    source="section 5 (PPO-SAT)",
    stated="derived",
    tolerance=1e-10,
    given={"seed": SEEDS, "ceiling": st.floats(-0.5, 0.5), "caps": st.just(True)},
    breaks={"caps": st.just(False)},
)
def saturating_rewards_leave_what_is_beyond_alone(seed: int, ceiling: float, caps: bool) -> Verdict:
    """The optimum of rewards that saturate keeps the reference's proportions among all responses
    beyond every threshold, and pays those below as before.
    """
    drawn = Drawn.of(seed)
    paid = saturated(drawn.rewards, ceiling if caps else 99.0)
    ratio = drawn._replace(rewards=paid).tilted(np.ones((BATCH, 2))) - drawn.log_reference
    beyond = (drawn.rewards >= ceiling).all(axis=1)
    level = np.where(beyond, ratio, -np.inf).max(axis=-1, keepdims=True)
    return worst(
        apart(np.where(beyond, ratio - level, 0.0), 0.0),
        apart(paid, np.where(drawn.rewards < ceiling, drawn.rewards, ceiling)),
    )


# --- proxy points ---


@claim(
    "monotone",
    "monotone",
    source="section 3",
    stated="derived",
    tolerance=2e-3,
    given={"seed": SEEDS, "along": st.just((0.5, 0.5))},
    breaks={"along": st.just((0.5, -0.5))},
)
def optimised_rewards_never_fall(seed: int, along: tuple[float, float]) -> Verdict:
    """Along growing weights the mean of the rewards never falls; its slope is its variance, and
    that of the divergence the strength times it.
    """
    world = World.draw(1, np.random.default_rng(seed))
    mean, slope, variance, kl_slope = problems.along_path(world, path_of(world, along, SHORT))
    return worst(rises(mean), apart(slope, variance[0]), apart(kl_slope, variance[1]))


@claim(
    "proxy",
    "statistical",
    source="section 3",
    stated="chosen",
    tolerance=0.0,
    given={"seed": SEEDS, "aligned": st.just(False)},
    breaks={"aligned": st.just(True)},
)
def correlated_rewards_are_good_up_to_a_point(seed: int, aligned: bool) -> Verdict:
    """Gold rises up to the joint proxy point and falls by .05 or more beyond it, unless it is the
    rewards themselves. The more the rewards share, the weaker is the best optimisation of both.
    """
    worlds = World.family(np.random.default_rng(seed), aligned)
    point = point_of(worlds, steps=SHORT)
    ends = point.along[:, [0, -1]]
    return worst(above(ends + 0.05, point.gold[:, None]), falls(point.step))


@claim(
    "recover",
    "identity",
    source="section 4",
    stated="derived",
    tolerance=1e-6,
    given={"seed": SEEDS, "scale": st.just(1.0)},
    breaks={"scale": st.sampled_from([0.9, 1.1])},
)
def thresholds_at_the_proxy_point_recover_it(seed: int, scale: float) -> Verdict:
    """ξ-PPO and μ-PPO with the joint proxy point for thresholds are the best policy of the path;
    with thresholds a tenth larger or smaller they are not.
    """
    world = World.draw(2, np.random.default_rng(seed))
    point = point_of(world, steps=SHORT)
    found = [constrained(world, scale * point.achieved, sense=s) for s in ("equal", "at_least")]
    return worst(*(apart(world.gold_of(each.log_policy), point.gold) for each in found))


@claim(
    "search",
    "inequality",
    source="section 5 (NM-PPO)",
    stated="chosen",
    tolerance=1e-5,
    examples=2,
    given={"seed": SEEDS, "evaluations": st.just(40)},
    breaks={"evaluations": st.just(3)},
)
def searched_thresholds_beat_the_path(seed: int, evaluations: int) -> Verdict:
    """Nelder and Mead's simplex from half of the joint proxy point finds thresholds of more gold
    than any on the path has: those of a mixture that no fixed direction contains.
    """
    world = World.draw(1, np.random.default_rng(seed)).first()
    point = point_of(world, steps=SHORT)
    found = searched(world, 0.5 * point.achieved, nearby=5e-3, max_evaluations=evaluations)
    again = constrained(world, found.thresholds, sense="equal", infeasible="report")
    return worst(
        above(point.gold + 0.1, found.score),
        apart(np.nan_to_num(world.gold_of(again.log_policy), nan=9.0), found.score),
    )
