"""What the paper says of strengths, treated labels and its terms, each on random instances."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from scipy.special import logit

from paper_repros.robust.secrets_rm.added_terms import Small
from paper_repros.robust.secrets_rm.doubted_labels import (
    accuracy,
    best_margin,
    best_with_margin_of_both,
    decile_accuracy,
    held_out_strength,
    linear_pairs,
    own_strength,
    wide_pairs,
    wrong_share,
)
from prefsim.containers import PairRewards
from prefsim.data.strength import half_samples, preference_strength, treat_labels
from prefsim.losses import bradley_terry
from prefsim.losses.dro import kl_dro
from prefsim.losses.paired_views import simcse, sinkhorn_codes, swapped_prediction
from prefsim.numerics import categorical_entropy
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.raters.noise import flip_labels
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward
from prefsim.solvers.look_ahead import look_ahead_gradient, look_ahead_step, reward_difference
from prefsim.testing import flip_rates, tables

WIN_RATES = st.floats(0.03, 0.97)
DECIDED = st.floats(0.7, 0.95)
SEEDS = st.integers(0, 10**6)

# --- the loss of one pair with a free margin ---


@claim(
    "R1",
    "minimiser",
    source="label smoothing, and labels that are flipped",
    stated="derived",
    tolerance=1e-8,
    examples=6,
    given={
        "win_rate": WIN_RATES,
        "delta": tables((5,), low=-20.0, high=20.0),
        "rate": flip_rates(0.0, 0.45),
        "excess": st.just(0.0),
    },
    breaks={"win_rate": DECIDED, "excess": st.floats(0.02, 0.05)},
)
def smoothing_is_training_on_flipped_labels(
    win_rate: float, delta: np.ndarray, rate: float, excess: float
) -> Verdict:
    """Smoothing α costs what labels flipped at the rate α cost on average: both have their optimum
    at logit((1 − α)p + α(1 − p)), never beyond logit(1 − α).
    """
    alpha, pairs = rate + excess, PairRewards(delta, 0 * delta)
    flipped = (1 - rate) * bradley_terry(pairs) + rate * bradley_terry(pairs.swapped())
    stated = logit((1 - rate) * win_rate + rate * (1 - win_rate))
    smoothed = best_margin(win_rate, label_smoothing=alpha)
    return worst(
        apart(bradley_terry(pairs, label_smoothing=alpha), flipped, relative=True),
        apart(smoothed, stated, relative=True),
        apart(best_margin(float(flip_labels(np.asarray(win_rate), rate))), stated, relative=True),
        above(abs(stated), logit(1 - rate) if rate > 0 else math.inf),
        detail=f"Δ* {smoothed:.6f}",
    )


@claim(
    "R2",
    "minimiser",
    source="adaptive margin",
    stated="derived",
    tolerance=1e-10,
    examples=6,
    given={"win_rate": WIN_RATES, "margin": st.floats(-3.0, 3.0), "other_order": st.just(-1.0)},
    breaks={"win_rate": DECIDED, "margin": st.floats(1.0, 3.0), "other_order": st.just(1.0)},
)
def a_signed_margin_is_added(win_rate: float, margin: float, other_order: float) -> Verdict:
    """A margin μ for one order and −μ for the other moves the optimum to logit p + μ."""
    found = best_margin(win_rate, margins=(margin, other_order * margin))
    return apart(found, logit(win_rate) + margin, relative=True, detail=f"Δ* {found:.6f}")


@claim(
    "R3",
    "minimiser",
    source="margin loss",
    stated="derived",
    tolerance=1e-8,
    examples=6,
    given={"win_rate": WIN_RATES, "margin": st.floats(0.0, 3.0), "other_order": st.just(1.0)},
    breaks={"win_rate": DECIDED, "margin": st.floats(1.0, 3.0), "other_order": st.just(-1.0)},
)
def one_margin_for_both_orders_inflates(
    win_rate: float, margin: float, other_order: float
) -> Verdict:
    """The same margin m >= 0 for both orders has its optimum at log t, with t the positive root of
    (1 − p)e⁻ᵐt² + (1 − 2p)t − pe⁻ᵐ: at least as far from 0 as logit p, and 0 where p = ½.
    """
    margins = (margin, other_order * margin)
    found, even = (best_margin(p, margins=margins) for p in (win_rate, 0.5))
    return worst(
        apart(found, best_with_margin_of_both(win_rate, margin), relative=True),
        above(abs(logit(win_rate)), abs(found)),
        apart(even, 0.0),
        detail=f"Δ* {found:.6f}, logit p {logit(win_rate):.6f}",
    )


# --- strength, and what is done with it ---


@claim(
    "strength",
    "identity",
    source="preference strength of an ensemble",
    stated="paper",
    given={
        "margins": tables((6, 5), low=-4.0, high=4.0),
        "seed": SEEDS,
        "shown_ones_too": st.just(False),
    },
    breaks={"shown_ones_too": st.just(True)},
)
def strength_is_told_by_models_that_did_not_see_the_pair(
    margins: np.ndarray, seed: int, shown_ones_too: bool
) -> Verdict:
    """Of half-samples every pair has half of the models for judges, with their mean and population
    deviation.
    """
    fitted_to = half_samples(5, 6, seed=seed)
    found = preference_strength(margins, fitted_to=None if shown_ones_too else fitted_to)
    judges = [column[~shown] for column, shown in zip(margins.T, fitted_to.T, strict=True)]
    return worst(
        apart([len(heard) for heard in judges], 3),
        apart(found.mean, [heard.mean() for heard in judges]),
        apart(found.deviation, [heard.std(ddof=0) for heard in judges]),
    )


@claim(
    "flip+margin",
    "identity",
    source="label flipping with adaptive margin",
    stated="derived",
    given={
        "delta": tables((5,), low=-5.0, high=5.0),
        "mean": tables((5,), low=-3.0, high=3.0),
        "sign_after_flip": st.just(1.0),
    },
    breaks={"mean": tables((5,), low=-3.0, high=-0.5), "sign_after_flip": st.just(-1.0)},
)
def a_flipped_pair_is_to_be_ahead_by_what_it_was_behind(
    delta: np.ndarray, mean: np.ndarray, sign_after_flip: float
) -> Verdict:
    """Flipped and with a margin, a pair of strength μ costs −log σ(sign(μ)Δ − |μ|): the raw μ after
    a flip would ask for the opposite.
    """
    treatment = treat_labels(mean, "flip+margin")
    turned = np.where(treatment.flipped, sign_after_flip, 1.0)
    treatment = treatment._replace(margin=treatment.margin * turned)
    found = bradley_terry(treatment.apply(PairRewards(delta, 0 * delta)))
    ahead = np.where(mean < 0, -delta, delta) - np.abs(mean)
    return apart(found, np.logaddexp(0, -ahead))


@claim(
    "R5-R6",
    "statistical",
    source="figures of preference strength and of accuracy by strength",
    stated="chosen",
    tolerance=0.0,
    examples=2,
    given={"seed": SEEDS, "memorises": st.just(False), "shuffled": st.just(False)},
    breaks=({"memorises": st.just(True)}, {"shuffled": st.just(True)}),
)
def an_ensemble_finds_wrong_labels(seed: int, memorises: bool, shuffled: bool) -> Verdict:
    """Of 600 pairs with a linear reward and a quarter of labels flipped, over 85 % of the fifth of
    least strength are against the reward, and under 42 % of all; a model of the weakest decile
    orders less than a fifth of new pairs rightly, one of the strongest, or of all, more than four
    fifths. The margins of a model that can follow any label do not tell.
    """
    pairs, rng = wide_pairs(seed) if memorises else linear_pairs(seed), np.random.default_rng(seed)
    strength = own_strength(pairs) if memorises else held_out_strength(pairs, rng)
    strength = rng.permutation(strength) if shuffled else strength
    assert pairs.wrong is not None
    found, base = wrong_share(pairs, strength), float(pairs.wrong.mean())
    deciles = decile_accuracy(pairs, strength)
    whole = accuracy(fit_linear_reward(pairs.train).weights, pairs)
    return worst(
        above(0.85, found),
        above(base, 0.42),
        above(deciles[0], 0.2),
        above(0.8, [deciles[-1], whole]),
        detail=f"wrong {found:.3f}, of all {base:.3f}; by decile {deciles.round(3)}",
    )


@claim(
    "R6-clean",
    "counterexample",
    source="reading of the weakest pairs as incorrect labels",
    stated="derived",
    tolerance=0.0,
    examples=2,
    given={"seed": SEEDS, "scale": st.just(3.0)},
    breaks={"scale": st.just(300.0)},
)
def they_do_so_without_any_wrong_label(seed: int, scale: float) -> Verdict:
    """Where each label is a fair draw of a Bradley–Terry rater and none is flipped, a model of the
    weakest decile still orders less than a quarter of new pairs rightly: only a rater without
    chance ends that.
    """
    pairs, rng = linear_pairs(seed, flip_rate=0.0, scale=scale), np.random.default_rng(seed)
    found = decile_accuracy(pairs, held_out_strength(pairs, rng))
    return above(found[0], 0.25, detail=f"{found.round(3)}")


# --- the contrastive terms ---

SCORES = tables((2, 6, 3), low=-1.0, high=1.0)


@claim(
    "SimCSE",
    "identity",
    source="contrastive term, SimCSE",
    stated="derived",
    tolerance=1e-11,
    given={
        "views": tables((2, 5, 3), low=-2.0, high=2.0),
        "temperature": st.floats(0.1, 1.0),
        "ratio": st.just(1.0),
    },
    breaks={"ratio": st.floats(1.5, 3.0)},
)
def simcse_is_a_worst_case(views: np.ndarray, temperature: float, ratio: float) -> Verdict:
    """The SimCSE term of a response is log(1 + (n − 1)e^(w/τ)) with w the worst mean over the other
    responses of how much more alike they are than its own view, less τKL; lengths do not count.
    """
    length = np.linalg.norm(views, axis=-1, keepdims=True)
    assume(length.min() > 1e-2)
    found = simcse(views[0], 3 * views[1], temperature=temperature)
    cosine = (views[0] / length[0]) @ (views[1] / length[1]).T
    more = (cosine - np.diagonal(cosine)[:, None])[~np.eye(5, dtype=bool)].reshape(5, 4)
    case = kl_dro(more, lambda_=ratio * temperature)
    return apart(found, np.logaddexp(0, math.log(4) + case / temperature), relative=True)


@claim(
    "SwAV",
    "inequality",
    source="contrastive term, SwAV",
    stated="derived",
    tolerance=1e-9,
    examples=5,
    given={
        "views": SCORES,
        "epsilon": st.floats(1.0, 2.0),
        "iterations": st.just(60),
    },
    breaks={"iterations": st.just(1)},
)
def codes_share_the_prototypes_and_bound_the_prediction(
    views: np.ndarray, epsilon: float, iterations: int
) -> Verdict:
    """Sinkhorn's codes are distributions that use each prototype equally and maximise ⟨Q, S⟩ +
    εH(Q); the swapped prediction costs at least the entropy of both codes, and that where each
    view's probabilities are the other's code.
    """
    codes = sinkhorn_codes(views, temperature=epsilon, iterations=iterations)
    # log Q − S/ε is a number of the row plus one of the column.
    left = np.log(codes) - views / epsilon
    for axis in (-1, -2):
        left = left - left.mean(axis=axis, keepdims=True)
    given = dict(zip(("first_codes", "second_codes"), codes, strict=True))
    entropy = categorical_entropy(np.log(codes)).sum(axis=0)
    least = swapped_prediction(*np.log(codes[::-1]), temperature=1.0, **given)
    return worst(
        apart(codes.sum(axis=-1), 1.0),
        apart(codes.sum(axis=-2), 2.0),
        apart(left, 0.0),
        above(entropy, swapped_prediction(*views, temperature=0.5, **given)),
        apart(least, entropy),
    )


# --- MetaRM ---

WORLDS = st.builds(Small, tables((5, 3), low=-2.0, high=2.0), tables((4, 3), low=-2.0, high=2.0))
WEIGHTS = tables((3,), low=-1.5, high=1.5)


@claim(
    "R7",
    "inequality",
    source="the look-ahead step (companion report)",
    stated="derived",
    tolerance=1e-10,
    given={"world": WORLDS, "theta": WEIGHTS, "ahead": st.floats(0.05, 3.0), "order": st.just(2)},
    breaks={"ahead": st.floats(1.0, 3.0), "order": st.just(1)},
)
def looking_ahead_aligns_both_gradients(
    world: Small, theta: np.ndarray, ahead: float, order: int
) -> Verdict:
    """L(θ + η∇J) is L + η∇J·∇L within η²/8 times the mean square of ∇J·x over the pairs x, and the
    step of order 2 descends along its derivative in θ.
    """
    assume(np.abs(world.gaps @ theta).min() > 1e-3)
    up, slope = world.difference_gradient(theta), world.loss_gradient(theta)
    remainder = world.loss(theta + ahead * up) - world.loss(theta) - ahead * up @ slope
    moved = look_ahead_step(
        theta,
        world.loss_gradient,
        world.difference_gradient,
        step=1.0,
        ahead=ahead,
        order=order,
        ascent_hessian=world.difference_hessian,
    )
    stated = world.slope_looked_ahead(theta, ahead)
    return worst(
        above(np.abs(remainder), ahead**2 / 8 * np.mean((world.pairs @ up) ** 2)),
        # A difference quotient knows four digits less.
        apart(1e-4 * (theta - moved), 1e-4 * stated, relative=True),
    )


@claim(
    "R7-end",
    "inequality",
    source="the look-ahead step (companion report); derivation",
    stated="derived",
    tolerance=1e-9,
    given={"world": WORLDS, "theta": WEIGHTS, "share": st.floats(0.05, 0.9), "ratio": st.just(1.0)},
    breaks={"ratio": st.floats(1.5, 3.0)},
)
def training_to_the_end_leaves_smaller_differences(
    world: Small, theta: np.ndarray, share: float, ratio: float
) -> Verdict:
    """Where MetaRM has nothing left to learn, θ + η∇J(θ) is where plain training ends, so that its
    own rewards tell the new responses apart less clearly than those of plain training: J(θ) <=
    J(θ + η∇J(θ)) for η up to one over the curvature of J.
    """
    assume(np.abs(world.gaps @ theta).min() > 1e-3)
    assume(world.bend > 1e-3)
    ahead = share / world.bend
    ends = theta + ahead * world.difference_gradient(theta)
    slope = world.loss_gradient(ends)
    # Less something linear it is a loss whose plain training ends there.
    found = look_ahead_gradient(
        theta,
        lambda at: world.loss_gradient(at) - slope,
        world.difference_gradient,
        ahead=ratio * ahead,
    )
    own, plain = (reward_difference(world.responses @ at) for at in (theta, ends))
    return worst(
        apart(found, 0.0),
        above(own, plain),
        detail=f"J {float(own):.5f}, of plain training {float(plain):.5f}",
    )


@claim(
    "R8",
    "inequality",
    source="the difference of rewards (companion report)",
    stated="derived",
    given={
        "rewards": st.integers(2, 6).flatmap(lambda k: tables((k,), low=-20.0, high=20.0)),
        "shift": st.floats(-5.0, 5.0),
        "shifted": st.just(1.0),
    },
    breaks={
        "rewards": tables((3,), low=-1.0, high=1.0),
        "shift": st.floats(3.0, 5.0),
        "shifted": st.just(0.0),
    },
)
def differences_are_bounded(rewards: np.ndarray, shift: float, shifted: float) -> Verdict:
    """J of k rewards lies between (k − 1)/(2k), where all are equal, and (k − 1)/k, and does not
    change when all are shifted.
    """
    k = rewards.size
    found, equal = (float(reward_difference(r)) for r in (rewards, 0 * rewards))
    moved = rewards + shift * np.append(1.0, np.full(k - 1, shifted))
    return worst(
        above((k - 1) / (2 * k), found),
        above(found, (k - 1) / k),
        apart(equal, (k - 1) / (2 * k)),
        apart(reward_difference(moved), found),
    )
