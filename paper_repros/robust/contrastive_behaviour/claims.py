"""What the paper says of the gradient, of its limits, and of what the temperature does."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.robust.contrastive_behaviour import encoders as world
from prefsim.analysis import tolerance, uniformity
from prefsim.containers import ClassLogits
from prefsim.gradients import loss_gradient
from prefsim.losses import infonce, ldr_kl, rgcl, simple_contrastive
from prefsim.losses.contrastive import negative_weights
from prefsim.numerics import softmax
from prefsim.papers import Verdict, above, apart, claim, falls, rises, worst
from prefsim.testing import betas, tables

# One anchor: its similarities to the positive, first, and to the negatives.
# Similarities that are equal or apart: the hardest negatives are told by differences.
ROWS = st.integers(3, 8).flatmap(
    lambda size: tables((size,), low=-1.0, high=1.0).map(lambda row: row.round(6))
)
TEMPERATURES = betas(0.05, 5.0)
SHARES = st.floats(0.05, 1.0)


def anchor(s: np.ndarray) -> ClassLogits[np.ndarray]:
    """Return one row of similarities whose first is the positive's."""
    return ClassLogits(s, np.asarray(0))


# --- the loss and its gradient ---


@claim(
    "definitions",
    "identity",
    source="eqs. of the contrastive, the simple and the hard losses; relative penalty",
    stated="paper",
    given={
        "s": ROWS,
        "temperature": betas(0.1, 5.0),
        "share": SHARES,
        "weight": st.floats(0.05, 2.0),
        "written_for": st.just(1.0),
    },
    breaks={"written_for": st.floats(1.5, 3.0)},
)
def losses_are_what_is_written(
    s: np.ndarray, temperature: float, share: float, weight: float, written_for: float
) -> Verdict:
    """The softmax loss, the linear one, both on the hardest share of the negatives, and the entropy
    of the relative penalties, written out at the same temperature and weight.
    """
    options = {"temperature": temperature, "share": share, "weight": weight}
    changed = {"temperature": temperature * written_for, "weight": weight * written_for}
    found = world.by_the_library(s, **options)
    return apart(found, world.written_out(s, **options | changed), relative=True)


def over_all(temperature: float) -> Callable[..., Any]:
    """Return the loss with the positive in the denominator."""
    return functools.partial(infonce, temperature=temperature)


def decoupled(temperature: float) -> Callable[..., Any]:
    """Return the loss whose denominator holds negatives alone, but for a constant."""

    def loss(classes: ClassLogits[Any]) -> Any:
        return rgcl(classes, temperature=temperature, radius=0.0) / temperature

    return loss


@claim(
    "K1",
    "identity",
    source="gradients with respect to the similarities",
    stated="paper",
    tolerance=1e-11,
    given={"s": ROWS, "temperature": TEMPERATURES, "loss": st.just(over_all)},
    breaks={"loss": st.just(decoupled)},
)
def gradient_is_a_boltzmann_law(
    s: np.ndarray, temperature: float, loss: Callable[[float], Callable[..., Any]]
) -> Verdict:
    """A negative's gradient is P_j/τ with P = softmax(s/τ), the positive's −(1 − P_i)/τ: as large
    as all of theirs together.
    """
    slope = loss_gradient(loss(temperature), anchor(s)).logits
    law = softmax(s / temperature)
    stated = np.append(law[0] - 1, law[1:]) / temperature
    return worst(
        apart(slope * temperature, stated * temperature),
        apart(np.abs(slope[1:]).sum() * temperature, -stated[0] * temperature),
    )


LADDER = np.geomspace(0.03, 30.0, 25)


def entropy(law: np.ndarray) -> np.ndarray:
    """Return the entropy of laws along the last axis, of which some parts may vanish."""
    safe = np.where(law > 0, law, 1.0)
    return -np.sum(law * np.log(safe), axis=-1)


@claim(
    "K2",
    "monotone",
    source="relative penalty r_i(j); its entropy",
    stated="paper",
    given={"s": ROWS, "temperatures": st.just(LADDER)},
    breaks={"temperatures": st.just(LADDER[::-1])},
)
def penalties_spread_as_the_temperature_rises(s: np.ndarray, temperatures: np.ndarray) -> Verdict:
    """As τ rises the relative penalties get more even: their entropy rises, the largest one falls;
    two of them have the ratio exp((s_j − s_k)/τ), and they are the gradients over the positive's.
    """
    penalties = np.stack([negative_weights(anchor(s), temperature=t) for t in temperatures])
    # Ratios are read where no penalty vanishes.
    tau = 0.5
    at = negative_weights(anchor(s), temperature=tau)
    slope = loss_gradient(over_all(tau), anchor(s)).logits
    return worst(
        rises(entropy(penalties)),
        falls(penalties.max(axis=-1)),
        apart(np.log(at / at[0]), (s[1:] - s[1]) / tau, relative=True),
        apart(slope[1:] / -slope[0], at),
        detail=f"entropy {entropy(penalties)[0]:.3g} to {entropy(penalties)[-1]:.3g}",
    )


# --- the two limits ---


@claim(
    "K3-small",
    "inequality",
    source="limit of small temperatures; the rate derived here",
    stated="derived",
    given={"s": ROWS, "temperature": betas(0.005, 1.0), "power": st.just(1.0)},
    breaks={"temperature": betas(0.005, 0.1), "power": st.just(3.0)},
)
def small_temperatures_give_a_triplet_loss(
    s: np.ndarray, temperature: float, power: float
) -> Verdict:
    """τL is above max(0, max_k s_k − s_i) by at most τ log N: the hardest negative alone, and it
    only while it is nearer than the positive.
    """
    value = temperature * infonce(anchor(s), temperature=temperature)
    triplet = max(0.0, float(s[1:].max() - s[0]))
    return worst(
        above(triplet, value),
        above(value - triplet, temperature**power * math.log(s.size), scale=temperature),
    )


@claim(
    "K3-large",
    "inequality",
    source="limit of large temperatures; the rate derived here (Hoeffding's lemma)",
    stated="derived",
    tolerance=1e-11,
    given={"s": ROWS, "temperature": betas(0.3, 100.0), "counted": st.just(1.0)},
    breaks={"temperature": betas(10.0, 100.0), "counted": st.just(0.0)},
)
def large_temperatures_give_the_linear_loss(
    s: np.ndarray, temperature: float, counted: float
) -> Verdict:
    """τ(L − log N) is above (N−1)/N times the linear loss by at most (max s − min s)²/(8τ), where N
    counts the positive: all negatives alike.
    """
    size = s.size - 1 + counted
    value = temperature * (float(infonce(anchor(s), temperature=temperature)) - math.log(size))
    linear = (s.size - 1) / s.size * float(simple_contrastive(anchor(s)))
    bound = (s.max() - s.min()) ** 2 / (8 * temperature)
    # The logarithms cancel, and what is left is multiplied by τ.
    return worst(
        above(linear, value, scale=1 + temperature),
        above(max(value - linear, 0.0), bound, scale=1 + temperature),
    )


@claim(
    "K4",
    "identity",
    source="the loss as a worst case over the row",
    stated="derived",
    given={"s": ROWS, "temperature": TEMPERATURES, "ratio": st.just(1.0)},
    breaks={"ratio": st.floats(1.5, 3.0)},
)
def it_is_a_worst_case_over_the_row(s: np.ndarray, temperature: float, ratio: float) -> Verdict:
    """τL = max_p Σ p_k (s_k − s_i) − τ KL(p‖1/N) + τ log N: the label-distributionally-robust loss
    of the row at λ = τ.
    """
    robust = ldr_kl(anchor(s), lambda_=temperature * ratio) + temperature * math.log(s.size)
    return apart(temperature * infonce(anchor(s), temperature=temperature), robust, relative=True)


# --- hard negatives ---


def least_similar_dropped(s: np.ndarray, count: int) -> np.ndarray:
    """Return the row with its ``count`` most similar negatives."""
    return np.append(s[0], np.sort(s[1:])[::-1][:count])


def most_similar_dropped(s: np.ndarray, count: int) -> np.ndarray:
    """Return the row with its ``count`` least similar negatives."""
    return np.append(s[0], np.sort(s[1:])[:count])


@claim(
    "K5",
    "inequality",
    source="hard contrastive loss",
    stated="derived",
    given={
        "s": ROWS,
        "temperature": TEMPERATURES,
        "share": SHARES,
        "dropping": st.just(least_similar_dropped),
    },
    breaks={"share": st.floats(0.2, 0.6), "dropping": st.just(most_similar_dropped)},
)
def hard_negatives_carry_more_than_their_share(
    s: np.ndarray,
    temperature: float,
    share: float,
    dropping: Callable[[np.ndarray, int], np.ndarray],
) -> Verdict:
    """The hard loss is at most the whole one, and the same where all are kept; its odds e^L − 1 are
    at least the share of the negatives that are kept of the whole odds.
    """
    count = world.share_kept(s.size - 1, share)
    whole = float(infonce(anchor(s), temperature=temperature))
    hard = float(infonce(anchor(s), temperature=temperature, share=share))
    kept = float(infonce(anchor(dropping(s, count)), temperature=temperature))
    return worst(
        above(hard, whole),
        apart(infonce(anchor(s), temperature=temperature, share=1.0), whole),
        above(count / (s.size - 1) * math.expm1(whole), math.expm1(min(hard, kept)), relative=True),
    )


# --- embeddings ---


@claim(
    "K7",
    "invariance",
    source="definition of the losses",
    stated="derived",
    tolerance=1e-11,
    given={
        "s": ROWS,
        "shift": st.floats(-5.0, 5.0),
        "temperature": TEMPERATURES,
        "weight": st.none(),
    },
    breaks={"shift": st.floats(1.0, 5.0), "weight": st.floats(0.6, 2.0)},
)
def a_constant_changes_nothing(
    s: np.ndarray, shift: float, temperature: float, weight: float | None
) -> Verdict:
    """A constant added to the whole row changes neither the softmax loss nor, at one over the
    number of negatives and at no other weight, the linear one.
    """
    softmax_losses, linear_losses = (
        [loss(anchor(s + c), **options) for c in (0.0, shift)]
        for loss, options in (
            (infonce, {"temperature": temperature}),
            (simple_contrastive, {"weight": weight}),
        )
    )
    return worst(
        apart(softmax_losses[1], softmax_losses[0], scale=1 + 1 / temperature),
        apart(linear_losses[1], linear_losses[0]),
    )


@claim(
    "K7-sphere",
    "invariance",
    source="definitions of uniformity and tolerance",
    stated="derived",
    given={"seed": st.integers(0, 10**6), "stretch": st.just(1.0)},
    breaks={"stretch": st.floats(1.2, 2.0)},
)
def rotations_change_nothing(seed: int, stretch: float) -> Verdict:
    """Uniformity and tolerance are means over pairs of different points, and see no rotation."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((7, 3))
    points /= np.linalg.norm(points, axis=-1, keepdims=True)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    label, turned = np.asarray([0, 0, 0, 1, 1, 2, 2]), points @ (stretch * turn)
    by_pairs = world.pair_by_pair(points, label)
    return worst(
        apart([uniformity(points), tolerance(points, label)], by_pairs),
        apart([uniformity(turned), tolerance(turned, label)], by_pairs),
    )


SEEDS_TOGETHER, STEPS = 6, 120


@claim(
    "K6",
    "statistical",
    source="uniformity–tolerance dilemma (figures)",
    stated="paper",
    tolerance=0.0,
    examples=1,
    given={
        "seed": st.integers(0, 10**6),
        "noise": st.sampled_from([0.1, 0.3]),
        "temperatures": st.just((0.3, 10.0)),
    },
    breaks={
        "seed": st.just(0),
        "noise": st.just(0.1),
        "temperatures": st.just((0.05, 0.3)),
    },
)
def large_temperatures_are_tolerant_and_uneven(
    seed: int, noise: float, temperatures: tuple[float, float]
) -> Verdict:
    """In the mean of six trained encoders, τ = 10 is less uniform and more tolerant than τ = .3.
    The smallest temperatures break it: where the nearest negative is behind the positive their loss
    has vanished, and embeddings are left uneven.
    """
    encoders = world.on_clusters(noise, range(seed, seed + SEEDS_TOGETHER), views=1)
    found = encoders.across_temperatures(temperatures, steps=STEPS)
    u, t = found.uniformity.mean(axis=1), found.tolerance.mean(axis=1)
    return worst(
        above(u[0], u[1]),
        above(t[0], t[1]),
        detail=f"noise {noise:g}: uniformity {u.round(3)}, tolerance {t.round(3)}",
    )
