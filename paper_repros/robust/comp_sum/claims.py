"""What the paper says about its losses: the family, the bounds, their gaps, and adversaries."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from paper_repros.robust.comp_sum import one_input
from paper_repros.robust.comp_sum.linear_scorers import LinearScorer, linear_scorers
from paper_repros.robust.comp_sum.one_input import TAUS, Input, Perturbed, Population
from prefsim.analysis import (
    constant_minimisability_gap,
    h_consistency_bound,
    h_consistency_transformation,
    least_comp_sum_risk,
    minimisability_gap_bound,
    simple_h_consistency_bound,
)
from prefsim.gradients import loss_gradient
from prefsim.losses import comp_sum, cross_entropy, mae
from prefsim.losses.class_scores import every_label
from prefsim.losses.comp_sum import comp_sum_link
from prefsim.numerics import logsumexp, softmax
from prefsim.papers import Verdict, above, apart, claim, falls, worst
from prefsim.testing.bandits import betas, tables

SCORES = st.integers(2, 6).flatmap(lambda n: tables((n,), low=-3.0, high=3.0))

# --- the family ---


@claim(
    "S1",
    "identity",
    source="definition of comp-sum losses, and its members",
    stated="paper",
    tolerance=1e-11,
    given={"scores": SCORES, "tau": TAUS, "margin": st.just(0.0)},
    breaks={"margin": st.floats(0.2, 2.0)},
)
def losses_are_functions_of_one_sum(scores: np.ndarray, tau: float, margin: float) -> Verdict:
    """A comp-sum loss is Φ(Σ exp(f_k − f_y)) = (p_y^(τ−1) − 1)/(1 − τ), with gradient p_y^(τ−1) (p
    − e_y): 1/p_y − 1 at τ = 0, cross-entropy at 1, (1 − p_y^q)/q at 1 + q, MAE at 2.
    """
    classes, p = every_label(scores, margin), softmax(scores)
    found = comp_sum(classes, tau=tau)
    members = np.stack([comp_sum(classes, tau=t) for t in (0.0, 1.0, 2.0)])
    power = np.log(p) if tau == 1 else -np.expm1((tau - 1) * np.log(p)) / (1 - tau)
    slopes = loss_gradient(lambda each: comp_sum(each, tau=tau), classes).logits
    # Exponentials of a loss below τ = 1 carry its own rounding.
    scale = 1 + np.abs(found)
    return worst(
        apart(found, -power, scale=scale),
        apart(members, [1 / p - 1, -np.log(p), 1 - p], relative=True),
        apart(members[1:], [cross_entropy(classes), mae(classes)]),
        apart(found, comp_sum_link(-np.log(p), tau=tau), scale=scale),
        apart(slopes, p[:, None] ** (tau - 1) * (p - np.eye(p.size)), scale=scale[:, None]),
    )


@claim(
    "S2",
    "minimiser",
    source="conditional risk of comp-sum losses",
    stated="derived",
    tolerance=1e-10,
    examples=8,
    given={
        "law": one_input.laws(least=0.05),
        "tau": st.sampled_from([0.0, 1.0, 1.5]) | st.floats(0.0, 1.5) | st.floats(2.0, 4.0),
        "reach": st.just(math.inf),
    },
    breaks={
        "law": one_input.laws(least=0.05).filter(lambda q: np.ptp(q) > 0.2),
        "reach": st.floats(0.01, 0.1),
    },
)
def least_conditional_risk_has_a_closed_form(law: np.ndarray, tau: float, reach: float) -> Verdict:
    """Over all scores the least expected loss at an input is ((Σ q^(1/(2−τ)))^(2−τ) − 1)/(1 − τ),
    the entropy at τ = 1, attained at p ∝ q^(1/(2−τ)); from τ = 2 on (1 − max q)/(τ − 1), approached
    as the best label runs ahead.
    """
    stated = least_comp_sum_risk(law, tau=tau)
    at_best = one_input.risk(one_input.best_scores(law, tau), law, tau)
    found = one_input.least_risk_found(law, tau, reach)
    return worst(apart(found, stated), apart(at_best, stated), detail=f"{float(stated):.10g}")


# --- the bound of one input ---


@claim(
    "S3",
    "inequality",
    source="H-consistency bounds, the conditional inequality",
    stated="paper",
    tolerance=1e-11,
    given={
        "at": one_input.inputs() | one_input.rarer_inputs(),
        "tau": TAUS,
        "classes": st.none(),
    },
    breaks={"at": one_input.rarer_inputs(), "tau": st.just(2.0), "classes": st.just(2)},
)
def an_error_costs_at_least_its_transformation(
    at: Input, tau: float, classes: int | None
) -> Verdict:
    """At an input whose decision misses the best label by β in probability, the excess loss is at
    least T(β), whatever law and scores.
    """
    n_classes = at.law.size if classes is None else classes
    cost = h_consistency_transformation(at.gap(), tau=tau, n_classes=n_classes)
    excess = at.excess(tau)
    # What rounding makes of a sum of exponentials.
    scale = 1 + one_input.risk(at.scores, at.law, tau)
    return above(cost, max(excess, 0.0), scale=scale, detail=f"β = {at.gap():.4g}, {excess:.6g}")


@claim(
    "S4",
    "identity",
    source="tightness of the bounds",
    stated="paper",
    tolerance=1e-11,
    given={"case": one_input.attaining(st.floats(0.0, 1.0), most=1.99)},
    breaks={"case": one_input.attaining(st.floats(1.2, 1.8), most=None)},
)
def some_inputs_attain_the_transformation(case: tuple[Input, float, float]) -> Verdict:
    """Two possible labels β apart and scores that cannot tell them apart have an excess of T(β), up
    to τ = 1, and for two classes below τ = 2; at τ = 2 so have equal scores of labels alike but for
    one rarer by β. There no bound is better.
    """
    at, tau, gap = case
    stated = h_consistency_transformation(gap, tau=tau, n_classes=at.law.size)
    return apart(at.excess(tau), stated, detail=f"τ = {tau:.4g}, β = {gap:.4g}")


@claim(
    "S5",
    "counterexample",
    source="tightness of the bounds",
    stated="derived",
    tolerance=1e-11,
    given={
        "tau": st.floats(1.05, 1.95),
        "scores": st.integers(3, 6).flatmap(lambda n: tables((n,), low=-4.0, high=4.0)),
        "wrong": st.just(True),
    },
    breaks={"wrong": st.just(False)},
)
def not_tight_for_three_classes_above_cross_entropy(
    tau: float, scores: np.ndarray, wrong: bool
) -> Verdict:
    """For 1 < τ < 2 and n > 2 classes a certain label that is not decided for costs at least (1 −
    2^(1−τ))/(τ − 1), which is T(1) times (n/2)^(τ−1).
    """
    n_classes = scores.size
    certain = int(scores.argmin() if wrong else scores.argmax())
    assume(np.ptp(scores) > 0.1)
    tied = one_input.two_labels(1.0, n_classes).excess(tau)
    stated = h_consistency_transformation(1.0, tau=tau, n_classes=n_classes)
    return worst(
        apart(tied, stated * (n_classes / 2) ** (tau - 1)),
        above(tied, Input(np.eye(n_classes)[certain], scores).excess(tau)),
        detail=f"least cost {tied:.10g}, T(1) = {float(stated):.10g}",
    )


@claim(
    "S6",
    "inequality",
    source="upper bounds of the inverse transformation",
    stated="paper",
    given={"tau": TAUS, "n_classes": st.integers(2, 10), "counted": st.none()},
    breaks={"tau": st.floats(1.5, 2.5), "n_classes": st.integers(6, 10), "counted": st.just(2)},
)
def the_inverse_is_below_a_root(tau: float, n_classes: int, counted: int | None) -> Verdict:
    """β <= Γ̃(T(β)) on all of [0, 1], with Γ̃(t) = √(2^τ (2 − τ) t), √(2n^(τ−1) t), (τ − 1)n^(τ−1)t;
    near 0 it is attained, but for a factor of 1/√(2 − τ) where 1 < τ < 2. The inverse Γ itself
    gives β back.
    """
    gaps = np.linspace(0.0, 1.0, 1001)
    costs = h_consistency_transformation(gaps, tau=tau, n_classes=n_classes)
    some = costs[::100]
    inverse = h_consistency_bound(some, tau=tau, n_classes=n_classes)
    near_zero = simple_h_consistency_bound(costs[1], tau=tau, n_classes=n_classes) / gaps[1]
    factor = (2 - tau) ** -0.5 if 1 < tau < 2 else 1.0
    return worst(
        above(near_zero, (1 + 1e-4) * factor),
        above(gaps, simple_h_consistency_bound(costs, tau=tau, n_classes=counted or n_classes)),
        # A slope of nearly zero at the start leaves half of the digits.
        apart(inverse, gaps[::100], scale=1e-12 / np.maximum(some, 1e-16) + 1),
    )


# --- the bound for sets of scorers ---


@claim(
    "S7",
    "inequality",
    source="H-consistency bounds, all scorers",
    stated="paper",
    tolerance=1e-9,
    given={
        "population": one_input.populations(constant=False) | one_input.two_label_populations(),
        "tau": TAUS,
        "counted": st.just(1.0),
    },
    breaks={
        "population": one_input.two_label_populations(),
        "tau": st.floats(0.0, 1.0),
        "counted": st.floats(0.2, 0.8),
    },
)
def excess_error_is_bounded_by_excess_risk(
    population: Population, tau: float, counted: float
) -> Verdict:
    """Over all scorers, R₀₁(h) − R₀₁* <= Γ(R(h) − R*), without any gap."""
    t = counted * population.excess(tau)
    bound = h_consistency_bound(t, tau=tau, n_classes=population.law.shape[-1])
    return above(population.gap(), bound, detail=f"excess risk {t:.6g}")


@claim(
    "S7-constant",
    "inequality",
    source="H-consistency bounds, a restricted set",
    stated="paper",
    tolerance=1e-9,
    given={
        "population": one_input.populations(constant=True, most=5),
        "tau": TAUS,
        "fitted": st.booleans(),
        "with_gap": st.just(True),
    },
    breaks={"fitted": st.just(True), "with_gap": st.just(False), "tau": st.floats(0.0, 1.5)},
)
def minimisability_gaps_belong_to_the_bound(
    population: Population, tau: float, fitted: bool, with_gap: bool
) -> Verdict:
    """For scorers that give every input the same scores, R₀₁(h) − R₀₁*(H) + M₀₁ <= Γ(R(h) − R*(H) +
    M), with gaps 0 < M <= Φ(R₀*(H)) − E C*; without M in the surrogate it is false.
    """
    if fitted:
        population = one_input.best_constant(population, tau)
    weight, law = population.weight, population.law
    gap = float(constant_minimisability_gap(weight, law, tau=tau))
    zero_one = float(constant_minimisability_gap(weight, law, tau=None))
    mixed = Input(weight @ law, population.scores[0])
    t = max(mixed.excess(tau), 0.0) + (gap if with_gap else 0.0)
    bound = h_consistency_bound(t, tau=tau, n_classes=law.shape[-1])
    least = least_comp_sum_risk(weight @ law, tau=0.0)
    return worst(
        above(mixed.gap() + zero_one, bound),
        above(gap - 1e-11, minimisability_gap_bound(least, weight, law, tau=tau)),
        # The two ways to add up what the risk exceeds the best of each input by.
        apart(mixed.excess(tau) + gap, population.excess(tau), relative=True),
        detail=f"M = {gap:.4g}, M₀₁ = {zero_one:.4g}",
    )


@claim(
    "S8",
    "monotone",
    source="comparison of minimisability gaps",
    stated="paper",
    given={
        "risk": betas(0.01, 100.0),
        "share": st.floats(0.0, 1.0),
        "labels": st.lists(st.integers(0, 3), min_size=2, max_size=5),
    },
    breaks={"share": st.floats(1.5, 3.0)},
)
def gaps_of_certain_labels_fall_with_tau(risk: float, share: float, labels: list[int]) -> Verdict:
    """With deterministic labels the bound of the gap, Φ(R₀*(H)) − Φ(c), falls as τ grows, where no
    scores of H cost less than c <= R₀*(H) at an input.
    """
    ladder, mu = np.linspace(0.0, 3.0, 13), np.full(len(labels), 1 / len(labels))
    upper = [minimisability_gap_bound(risk, mu, np.eye(4)[labels], tau=tau) for tau in ladder]
    floor = comp_sum_link(np.log1p(np.full(13, share * risk)), tau=ladder)
    scale = 1 + risk
    return worst(
        falls((np.stack(upper) - floor) / scale),
        apart(upper, comp_sum_link(np.log1p(np.full(13, risk)), tau=ladder), scale=scale),
    )


# --- adversaries ---


@claim(
    "S9",
    "inequality",
    source="H-consistency of adversarial comp-sum losses, the conditional inequality",
    stated="derived",
    given={
        "at": one_input.perturbed()
        | one_input.laws(st.integers(2, 4)).map(one_input.swapped_first_two),
        "tau": TAUS,
        "rho": st.just(1.0) | st.floats(0.5, 1.2),
        "turned": st.just(False),
    },
    breaks={
        "at": one_input.laws(st.just(2)).map(one_input.swapped_first_two),
        "tau": st.just(1.0),
        "turned": st.just(True),
    },
)
def an_adversarial_error_costs_as_much(
    at: Perturbed, tau: float, rho: float, turned: bool
) -> Verdict:
    """Φ(1) times the excess adversarial error at an input is at most the excess of the adversarial
    comp-sum loss of ramps, whose least value is Σ q_(k) Φ(k − 1), q falling.
    """
    one = float(comp_sum_link(np.log(np.asarray(2.0)), tau=tau))
    excess, surrogate = at.zero_one_excess(), max(at.ramp_excess(tau, rho), 0.0)
    smaller, larger = (excess, one * surrogate) if turned else (one * excess, surrogate)
    return above(smaller, larger, detail=f"errors {excess:.4g}, loss {surrogate:.6g}")


@claim(
    "S10",
    "inequality",
    source="smooth adversarial comp-sum losses",
    stated="derived",
    given={"scorer": linear_scorers(), "tau": TAUS, "factor": st.just(1.0)},
    breaks={"factor": st.just(0.05)},
)
def the_smooth_loss_is_above_the_adversarial(
    scorer: LinearScorer, tau: float, factor: float
) -> Verdict:
    """With ν >= √(n − 1)/ρ the smooth loss is at least the comp-sum loss of ramps anywhere in the
    ball, and that at least Φ(1) times the adversarial error.
    """
    smooth, ramps = scorer.smooth_loss(tau, factor), scorer.worst_ramps(tau)
    one = float(comp_sum_link(np.log(np.asarray(2.0)), tau=tau))
    return worst(
        above(ramps, smooth),
        above(one * scorer.turned(), ramps),
        detail=f"smooth {smooth:.6g}, ramps {ramps:.6g}",
    )


@claim(
    "S10-linear",
    "identity",
    source="smooth adversarial comp-sum losses",
    stated="derived",
    tolerance=1e-11,
    given={"scorer": linear_scorers(), "reach": st.just(1.0)},
    breaks={"reach": st.floats(0.5, 0.9)},
)
def a_linear_scorer_knows_its_worst_input(scorer: LinearScorer, reach: float) -> Verdict:
    """Of a linear scorer and an ℓ₂ ball the local variation is γ‖A_y‖, and the least lead that of x
    less γ‖w_y − w_k‖, both attained in the ball and nowhere exceeded. Without a ball the smooth
    loss is that of the scores over ρ.
    """
    without = scorer._replace(radius=0.0).smooth_loss(1.0)
    scores = scorer.classes().logits / scorer.rho
    variation, lead = scorer.variation(), scorer.robust_lead()
    nearby = scorer.in_the_ball()
    return worst(
        apart(scorer.varies(reach * scorer.most_moved()), variation),
        above(scorer.varies(nearby), variation),
        apart(scorer.leads(reach * scorer.towards_each()).min(), lead),
        above(lead - 1e3, scorer.leads(nearby).min() - 1e3),
        apart(without, logsumexp(scores)[0] - scores[0, 0], scale=1 + np.abs(scores).max()),
    )


@claim(
    "S11",
    "identity",
    source="smooth adversarial comp-sum losses",
    stated="derived",
    tolerance=1e-9,
    given={
        "direction": tables((3, 2), low=-1.0, high=1.0),
        "tau": TAUS,
        "radius": st.floats(0.5, 4.0),
        "excess": st.floats(0.0, 1.0),
    },
    breaks={"excess": st.floats(-0.5, -0.05)},
)
def the_zero_scorer_is_a_minimum_of_large_balls(
    direction: np.ndarray, tau: float, radius: float, excess: float
) -> Verdict:
    """For three symmetric classes at radius R (ν = √2, ρ = 1) the zero scorer is a local minimum
    exactly from γ = R 3^(−τ) on: a larger τ collapses earlier.
    """
    threshold = radius * 3.0**-tau
    along = one_input.zero_scorer_slope(
        direction, tau=tau, radius=radius, gamma=threshold * (1 + excess)
    )
    towards = one_input.zero_scorer_slope(
        one_input.THREE, tau=tau, radius=radius, gamma=threshold * (1 + excess)
    )
    stated = 3 * threshold * excess
    return worst(
        max(0.0, -along), apart(towards, stated), max(0.0, -towards), detail=f"slope {along:.4g}"
    )


UNSEEN: dict[tuple[str, str], str] = {}
