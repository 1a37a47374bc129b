"""What the paper says of its loss: dual form, temperatures, gradients, frequent semantics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.stats import norm

from paper_repros.robust.isogclr import long_tail as world
from prefsim.containers import ClassLogits
from prefsim.gradients import gradient
from prefsim.losses import ldr_kl, rgcl
from prefsim.losses.constrained_dro import constrained_kl_dro
from prefsim.losses.contrastive import rgcl_temperature
from prefsim.losses.contrastive_state import contrastive_state, isogclr_update
from prefsim.losses.dro import kl_dro_dual
from prefsim.numerics import like
from prefsim.papers import Verdict, above, apart, claim, falls, rises, worst
from prefsim.testing import betas, tables

# Negatives less the positive: of unit vectors they lie in [-2, 2].
NEGATIVES = st.integers(3, 7).flatmap(lambda size: tables((size,), low=-2.0, high=1.0))
TEMPERATURES = betas(0.1, 2.0)
RADII = st.floats(0.02, 1.5)
LOWEST = 0.05

# --- the worst case and its dual ---


@claim(
    "I1",
    "identity",
    source="dual of the KL-constrained problem",
    stated="paper",
    tolerance=1e-6,
    examples=6,
    given={"h": NEGATIVES, "radius": RADII, "lowest": betas(0.05, 0.5), "solved_for": st.just(1.0)},
    breaks={
        "h": st.just(np.asarray([0.0, -0.4, -1.0, -1.7])),
        "radius": st.just(0.2),
        "solved_for": st.just(2.0),
    },
)
def the_ball_has_a_dual_in_one_temperature(
    h: np.ndarray, radius: float, lowest: float, solved_for: float
) -> Verdict:
    """The worst mean in a KL ball, less τ₀KL, is the minimum over τ >= τ₀ of τ log mean exp(h/τ) +
    (τ − τ₀)ρ, and a conic solver finds the same.
    """
    found = constrained_kl_dro(h, radius=radius, lowest=lowest)
    solved = world.solved_worst_case(h, radius * solved_for, lowest)
    return worst(
        apart(solved, found.value),
        # What the temperature is certified to miss, in the scale of the solver's error.
        apart(1e4 * found.residual, 0.0),
    )


@claim(
    "I2",
    "identity",
    source="derivative of the loss in the temperature",
    stated="paper",
    tolerance=1e-9,
    given={"h": NEGATIVES, "temperature": TEMPERATURES, "radius": RADII, "ratio": st.just(1.0)},
    breaks={"h": st.just(np.asarray([0.0, -1.0, -2.0])), "ratio": st.floats(1.5, 3.0)},
)
def slope_in_the_temperature_is_radius_less_divergence(
    h: np.ndarray, temperature: float, radius: float, ratio: float
) -> Verdict:
    """The loss has the derivative ρ − KL(p_τ‖1/m) in τ with p = softmax(h/τ), and the divergence
    −Var_p(h)/τ³: the loss is convex in τ.
    """
    rows = world.anchor(h)

    def bracket(tau: Any) -> Any:
        there = ClassLogits(like(rows.logits, tau), like(rows.label, tau, integer=True))
        return rgcl(there, temperature=tau, radius=radius)

    law = world.law_of(h, temperature * ratio)
    slope = gradient(bracket, np.asarray(temperature))
    dual = kl_dro_dual(h, lambda_=temperature)
    step = 1e-5 * temperature
    near = [kl_dro_dual(h, lambda_=temperature + s).divergence for s in (step, -step)]
    return worst(
        apart(slope, radius - law.divergence),
        apart(dual.weights, law.weights),
        apart(dual.divergence, law.divergence),
        # A difference quotient knows five digits less.
        apart(
            1e-3 * temperature * (near[0] - near[1]) / (2 * step),
            -1e-3 * law.variance / temperature**2,
        ),
    )


GRID = np.geomspace(LOWEST, 5.0, 40)


@claim(
    "I3",
    "minimiser",
    source="optimal temperature of an anchor",
    stated="derived",
    tolerance=1e-11,
    given={"h": NEGATIVES, "radius": RADII, "ratio": st.just(1.0)},
    breaks={
        "h": st.just(np.asarray([0.0, -0.4, -1.0, -1.7])),
        "radius": st.just(0.3),
        "ratio": st.floats(1.5, 3.0),
    },
)
def the_temperature_is_where_the_divergence_meets_the_radius(
    h: np.ndarray, radius: float, ratio: float
) -> Verdict:
    """No temperature in [τ₀, 5] has a smaller loss than τ*, where KL(p_τ‖1/m) = ρ, or an end of the
    interval; the divergence falls in τ; equal negatives have τ* = τ₀.
    """
    rows = world.anchor(h)
    ends = {"radius": radius, "lowest": LOWEST, "highest": 5.0}
    tau = float(rgcl_temperature(rows, **ends))
    others = np.stack([rgcl(rows, temperature=t, radius=radius * ratio) for t in GRID])
    divergences = np.stack([kl_dro_dual(h, lambda_=t).divergence for t in GRID])
    missed = world.law_of(h, tau).divergence - radius
    # There the slope may be on one side.
    at_an_end = missed if tau == LOWEST else -missed
    equal = rgcl_temperature(world.anchor(0 * h), **ends)
    return worst(
        above(rgcl(rows, **ends) - others.min(), 0.0),
        above(rgcl(rows, temperature=tau, radius=radius * ratio) - others.min(), 0.0),
        apart(missed, 0.0) if LOWEST < tau < 5.0 else above(at_an_end, 0.0),
        falls(divergences),
        apart(equal, LOWEST),
        detail=f"τ* = {tau:.4f}",
    )


@claim(
    "I4",
    "invariance",
    source="the loss on similarities and on their differences",
    stated="derived",
    given={
        "h": NEGATIVES,
        "shift": st.floats(-1.0, 1.0),
        "temperature": TEMPERATURES,
        "mixing": st.just(1.0),
    },
    breaks={"shift": st.floats(0.3, 1.0), "mixing": st.floats(0.2, 0.8)},
)
def a_constant_moves_the_loss_and_no_temperature(
    h: np.ndarray, shift: float, temperature: float, mixing: float
) -> Verdict:
    """A constant added to all negatives is added to the loss, and moves neither weights nor the
    step of the temperature, if the normaliser is counted afresh: a moving one mixes conventions.
    """
    state, zero = contrastive_state(1, temperature=temperature), np.asarray([0])
    first, moved = (ClassLogits(*(p[None] for p in world.anchor(x)[:2])) for x in (h, h + shift))
    state, _ = isogclr_update(state, zero, first, rate=0.0, highest=5.0)
    steps = [
        isogclr_update(state, zero, rows, mixing=mixing, highest=5.0)[0].temperature[0]
        for rows in (first, moved)
    ]
    losses = [rgcl(rows, temperature=temperature)[0] for rows in (first, moved)]
    weights = [kl_dro_dual(x, lambda_=temperature).weights for x in (h, h + shift)]
    return worst(
        apart(losses[1] - losses[0], shift),
        apart(steps[1], steps[0]),
        apart(weights[1], weights[0]),
    )


# --- the algorithm ---

STEPS = 80


@claim(
    "I5",
    "identity",
    source="gradient in the features; moving average of the normaliser",
    stated="paper",
    tolerance=1e-9,
    examples=8,
    given={
        "h": tables((5,), low=-2.0, high=1.0),
        "size": st.integers(1, 4),
        "temperature": betas(0.2, 1.0),
        "mixing": st.just(1e-12),
    },
    breaks={"h": tables((5,), low=-2.0, high=1.0), "size": st.just(2), "mixing": st.just(1.0)},
)
def small_batches_are_unbiased_with_the_whole_normaliser(
    h: np.ndarray, size: int, temperature: float, mixing: float
) -> Verdict:
    """With the normaliser of all negatives the stochastic gradient, over all batches of a size, has
    the mean Σ p_j ∇h_j: no τ is left in it. With that of the batch it is biased.
    """
    found = world.gradient_over_batches(h, size=size, tau=temperature, mixing=mixing)
    return apart(found, world.law_of(h, temperature).weights)


@claim(
    "I9",
    "limit",
    source="the algorithm's step of the temperature",
    stated="derived",
    tolerance=1e-5,
    examples=4,
    given={"h": NEGATIVES, "radius": st.floats(0.05, 0.5), "learned_for": st.just(1.0)},
    breaks={"radius": st.floats(0.05, 0.2), "learned_for": st.just(2.0)},
)
def steps_end_at_the_exact_temperature(h: np.ndarray, radius: float, learned_for: float) -> Verdict:
    """At fixed similarities the momentum steps of iSogCLR end at τ*, whatever they start from."""
    ends = {"lowest": LOWEST, "highest": 3.0}
    rows = ClassLogits(*(part[None] for part in world.anchor(h)[:2]))
    exact = rgcl_temperature(rows, radius=radius, **ends)
    state = contrastive_state(1, temperature=0.3)
    for _ in range(STEPS):
        state, _ = isogclr_update(
            state,
            np.asarray([0]),
            rows,
            radius=radius * learned_for,
            mixing=1.0,
            # Near τ* the loss has the curvature Var/τ³, about 2ρ/τ.
            rate=0.3 * float(state.temperature[0]) / radius,
            **ends,
        )
    return apart(state.temperature, exact, detail=f"τ* = {float(exact[0]):.4f}")


# --- which anchors have large temperatures ---


def normal_scores(spread: float) -> np.ndarray:
    """Return quantiles of the normal law, as many negatives as are enough."""
    return np.asarray(spread * norm.ppf((np.arange(20_000) + 0.5) / 20_000))


def uniform_scores(spread: float) -> np.ndarray:
    """Return quantiles of a uniform law of the same deviation."""
    return spread * math.sqrt(12) * ((np.arange(20_000) + 0.5) / 20_000 - 0.5)


@claim(
    "I6",
    "limit",
    source="optimal temperature, normal similarities",
    stated="derived",
    # What 20,000 quantiles lack of the tail: .0022 at the largest radius.
    tolerance=3e-3,
    examples=10,
    given={
        "spread": betas(0.1, 1.0),
        "radius": st.floats(0.05, 1.0),
        "law": st.just(normal_scores),
    },
    breaks={"radius": st.floats(0.5, 1.0), "law": st.just(uniform_scores)},
)
def normal_similarities_have_a_closed_temperature(
    spread: float, radius: float, law: Callable[[float], np.ndarray]
) -> Verdict:
    """Of many negatives with normal similarities KL(p_τ‖1/m) = σ²/(2τ²), so that τ* = σ/√(2ρ): it
    grows with the spread.
    """
    found = constrained_kl_dro(law(spread), radius=radius, lowest=1e-3)
    return apart(found.lambda_ / spread * math.sqrt(2 * radius), 1.0)


FREQUENCIES = (0.005, 0.02, 0.05, 0.1, 0.2, 0.4)


@claim(
    "I7",
    "monotone",
    source="larger temperatures for frequent semantics",
    stated="derived",
    tolerance=0.0,
    given={"radius": st.floats(0.02, 0.1)},
    breaks={"radius": st.floats(0.5, 2.0)},
)
def frequent_semantics_have_larger_temperatures(radius: float) -> Verdict:
    """Where a share q of the negatives is as similar as the positive and the others by 1 less, τ*
    rises with q up to q = .4 for ρ <= .1. For larger ρ it turns down: the statement is one of small
    radii against log(1/q).
    """
    found = world.temperatures_of_two_levels(FREQUENCIES, radius)
    return rises(found, detail=f"τ* = {found.round(3).tolist()}")


@claim(
    "I7-floor",
    "identity",
    source="larger temperatures for frequent semantics",
    stated="derived",
    tolerance=0.0,
    given={"share": st.sampled_from(FREQUENCIES), "ratio": st.floats(1.001, 3.0)},
    breaks={"ratio": st.floats(0.1, 0.9)},
)
def very_frequent_semantics_have_the_lowest_temperature(share: float, ratio: float) -> Verdict:
    """For ρ >= log(1/q) the temperature is the lowest there is."""
    radius = ratio * math.log(1 / share)
    return apart(world.temperatures_of_two_levels([share], radius), world.LOWEST)


@claim(
    "I8",
    "identity",
    source="the loss as a worst case over the row",
    stated="derived",
    given={"h": NEGATIVES, "temperature": TEMPERATURES, "radius": RADII, "ratio": st.just(1.0)},
    breaks={"ratio": st.floats(1.5, 3.0)},
)
def it_is_a_worst_case_without_the_positive(
    h: np.ndarray, temperature: float, radius: float, ratio: float
) -> Verdict:
    """The loss less τρ is the label-distributionally-robust loss at λ = τ of the row without its
    positive: with it, log mean exp gains the term exp(0).
    """
    bare = rgcl(world.anchor(h), temperature=temperature, radius=radius) - temperature * radius
    with_positive = (1 + h.size * math.exp(bare / temperature)) / (1 + h.size)
    robust = ldr_kl(world.anchor(h), lambda_=temperature * ratio)
    return apart(robust, temperature * math.log(with_positive))
