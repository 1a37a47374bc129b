"""Soft labels, their optimum, and a judge with a bias for a position."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit

from paper_repros.selfimprove.osp.judged_labels import LABELS, STEPS, train
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.data.ranked_pairs import ranked_pairs
from prefsim.gradients import loss_gradient
from prefsim.loops import self_preferring
from prefsim.numerics import categorical_entropy, categorical_kl, log_sigmoid, log_softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.raters import both_orders, judged_preference
from prefsim.solvers import fit, gibbs_log_policy
from prefsim.testing import betas, margins, tables

UNSEEN = {
    ("prefsim.losses.spce", "swap"): (
        "the loss is the same for the two responses exchanged along with their judgements (O8)"
    ),
}

STRENGTHS = betas(0.05, 2.0)
INNER_PROBS = st.floats(0.01, 0.99)
PROBS = tables((4,), low=0.0, high=1.0)

# --- one pair ---


def pairs(margin: Any, prob: Any) -> losses.PairLogps:
    """Return pairs with these log-ratio margins and judged probabilities."""
    h, p = np.broadcast_arrays(np.atleast_1d(np.asarray(margin, dtype=np.float64)), prob)
    zero = np.zeros_like(h)
    return losses.PairLogps(0.5 * h, -0.5 * h, zero, zero, chosen_score=p, rejected_score=1 - p)


def slope(margin: Any, prob: Any, beta: float) -> np.ndarray:
    """Return ∂L/∂h, ``(n,)``."""
    return loss_gradient(functools.partial(losses.spce, beta=beta), pairs(margin, prob)).chosen


@claim(
    "O1",
    "minimiser",
    source="derivation",
    stated="derived",
    tolerance=1e-9,
    examples=15,
    given={"prob": INNER_PROBS, "beta": STRENGTHS},
    breaks={"prob": st.sampled_from([0.0, 1.0])},
)
def is_least_at_the_log_odds(prob: float, beta: float) -> Verdict:
    """A pair's loss has the slope −β(p − σ(βh)) and is least at βh = logit p, finite for p in
    (0, 1).
    """
    margin, end = np.asarray([-3.0, 0.5, 7.0]), 40 / beta
    falling, rising = slope([-end, end], prob, beta)
    if not falling < 0 < rising:
        shown = f"slopes {falling:.3g} and {rising:.3g} at βh = ∓40"
        return Verdict(1.0, f"no minimiser at p = {prob}: {shown}")
    least = beta * brentq(lambda h: float(slope(h, prob, beta)[0]), -end, end, xtol=1e-13)
    return worst(
        apart(slope(margin, prob, beta), -beta * (prob - expit(beta * margin))),
        apart(least, logit(prob)),
        detail=f"βh* = {least:.9f}, logit p = {logit(prob):.9f}",
    )


@claim(
    "O2",
    "identity",
    source="soft-preference cross-entropy loss",
    stated="derived",
    tolerance=1e-14,
    given={
        "margin": margins(30.0, size=4),
        "prob": PROBS,
        "beta": STRENGTHS,
        "smoothing": st.floats(0.0, 0.49),
    },
)
def is_divergence_plus_entropy(
    margin: np.ndarray, prob: np.ndarray, beta: float, smoothing: float
) -> Verdict:
    """The loss is KL(p‖σ(βh)) + H(p) >= H(p); p = 1 is DPO, p = 1 − ε conservative DPO, p = ½ is
    least at h = 0.
    """

    def spce(p: Any) -> np.ndarray:
        return losses.spce(pairs(margin, p), beta=beta)

    with np.errstate(divide="ignore"):
        log_p = np.log(np.stack([prob, 1 - prob], axis=-1))
    log_q = np.stack([log_sigmoid(beta * margin), log_sigmoid(-beta * margin)], axis=-1)
    entropy = categorical_entropy(log_p)
    certain = pairs(margin, 1.0)
    # Rounding grows with the log-odds.
    scale = 1 + beta * np.abs(margin).max()
    return worst(
        apart(spce(prob), categorical_kl(log_p, log_q) + entropy, scale=scale),
        apart(spce(1.0), losses.dpo(certain, beta=beta), scale=scale),
        apart(
            spce(1 - smoothing),
            losses.dpo(certain, beta=beta, label_smoothing=smoothing),
            scale=scale,
        ),
        apart(slope(0.0, 0.5, beta), 0.0, scale=scale),
        above(entropy, spce(prob), scale=scale),
    )


@claim(
    "O5",
    "identity",
    source="derivation",
    stated="derived",
    tolerance=1e-14,
    given={
        "margin": st.floats(-10.0, 10.0),
        "prob": INNER_PROBS,
        "beta": STRENGTHS,
        "label": st.just("sampled"),
    },
    breaks={"label": st.just("argmax")},
)
def sampled_labels_add_variance_alone(
    margin: float, prob: float, beta: float, label: str
) -> Verdict:
    """A sampled label keeps the mean gradient and adds the variance β²p(1 − p) per pair."""
    one, zero = slope([margin, margin], [1.0, 0.0], beta)
    chance = prob if label == "sampled" else float(prob > 0.5)
    mean = chance * one + (1 - chance) * zero
    variance = chance * (one - mean) ** 2 + (1 - chance) * (zero - mean) ** 2
    return worst(
        apart(mean, slope(margin, prob, beta)),
        apart(variance, beta**2 * prob * (1 - prob)),
        detail=f"mean {mean:.6g}, variance {variance:.6g}",
    )


@claim(
    "O8",
    "invariance",
    source="derivation",
    stated="derived",
    tolerance=1e-14,
    given={
        "margin": margins(30.0, size=4),
        "prob": PROBS,
        "beta": STRENGTHS,
        "other_prob": st.none(),
    },
    breaks={"other_prob": PROBS},
)
def is_blind_to_the_order(
    margin: np.ndarray, prob: np.ndarray, beta: float, other_prob: Any
) -> Verdict:
    """L(p, h) = L(1 − p, −h): swapping the two responses is harmless."""
    swapped = pairs(margin, prob).swapped()
    if other_prob is not None:
        swapped = swapped._replace(chosen_score=other_prob)
    value = losses.spce(pairs(margin, prob), beta=beta)
    return apart(losses.spce(swapped, beta=beta), value, relative=True)


# --- all pairs of five responses: the fit to a judge's probabilities ---


def fitted_to(
    preference: np.ndarray,
    exponent: np.ndarray,
    *,
    log_ref: np.ndarray,
    weight: np.ndarray,
    beta: float,
    pairing: str,
) -> Verdict:
    """Compare the fit to a judge's preferences with π_ref e^{exponent/β}/Z, in probability."""
    ranked = ranked_pairs(preference, pairing=pairing)
    weight = weight[: ranked.first.size] / weight[: ranked.first.size].sum()
    prompt = np.zeros_like(ranked.first)
    judged = Comparisons(
        prompt,
        ranked.first,
        ranked.second,
        weight=weight,
        chosen_score=ranked.prob,
        rejected_score=1 - ranked.prob,
    )
    # The same objective with the soft labels as weights of pairs and reversed pairs.
    weighed = Comparisons(prompt, ranked.first, ranked.second, ranked.prob, weight)
    reference = TabularPolicy.from_logits(log_ref[None])
    policy, twin = (
        fit(reference, functools.partial(loss, beta=beta), data, reference=reference).policy
        for loss, data in ((losses.spce, judged), (losses.dpo, weighed))
    )
    target, _ = gibbs_log_policy(exponent, log_ref, beta=beta)
    return worst(
        apart(policy.probs[0], np.exp(target)),
        apart(twin.probs[0], np.exp(target)),
        detail=f"{pairing}: KL {categorical_kl(target, policy.log_probs[0]):.3g}",
    )


JUDGED = {
    "reward": tables((5,), low=-1.5, high=1.5),
    "log_ref": tables((5,), low=-1.0, high=1.0).map(log_softmax),
    # Of as many pairs as there are; the first ones where there are fewer.
    "weight": tables((10,), low=0.2, high=1.0),
    "beta": betas(0.3, 2.0),
}


@claim(
    "O3",
    "consistency",
    source="derivation",
    stated="derived",
    tolerance=2e-8,
    examples=8,
    given=JUDGED
    | {"pairing": st.sampled_from(["all", "adjacent", "extremes"]), "cycle": st.just(0.0)},
    breaks=({"cycle": st.just(1.0)}, {"pairing": st.just("top_bottom")}),
)
def connected_pairs_give_the_optimum(
    reward: np.ndarray,
    log_ref: np.ndarray,
    weight: np.ndarray,
    beta: float,
    pairing: str,
    cycle: float,
) -> Verdict:
    """If p = σ(r_i − r_j), the fit is π_ref e^{r/β}/Z for any weights of connected pairs."""
    # Log-odds of each response against the next, all the way round: no reward explains them.
    ahead = cycle * np.roll(np.eye(5), 1, axis=1)
    preference = expit(logit(judged_preference(reward)) + ahead - ahead.T)
    return fitted_to(preference, reward, log_ref=log_ref, weight=weight, beta=beta, pairing=pairing)


@claim(
    "O4",
    "identity",
    source="derivation",
    stated="derived",
    tolerance=2e-8,
    examples=6,
    given=JUDGED
    | {
        "temperature": st.floats(0.3, 2.0),
        "position_bias": st.floats(-2.0, 2.0),
        "average": st.just("logit"),
    },
    breaks={"position_bias": st.floats(1.0, 2.0), "average": st.just("prob")},
)
def overconfidence_acts_like_a_smaller_beta(
    reward: np.ndarray,
    log_ref: np.ndarray,
    weight: np.ndarray,
    beta: float,
    temperature: float,
    position_bias: float,
    average: str,
) -> Verdict:
    """A judge with log-odds c(r_i − r_j) gives π_ref e^{cr/β}/Z: over-confidence acts like a
    smaller β.
    """
    preference = judged_preference(
        reward, temperature=temperature, position_bias=position_bias, average=average
    )
    return fitted_to(
        np.asarray(preference),
        temperature * reward,
        log_ref=log_ref,
        weight=weight,
        beta=beta,
        pairing="all",
    )


@claim(
    "O6",
    "statistical",
    source="abstract; experiment",
    stated="chosen",
    tolerance=0.0,
    examples=2,
    given={"seed": st.integers(0, 10**6), "temperature": st.just(1.0)},
    breaks={"temperature": st.just(2.0)},
)
def only_soft_labels_end_at_the_optimum(seed: int, temperature: float) -> Verdict:
    """Eight responses, 28 pairs labelled once, eight worlds: in each, soft labels reach π* (KL <
    10⁻³ from step 25 on) and argmax labels run off (KL more than doubles from step 50 to 500);
    sampled ones stay away, more than 0.1 in the median world.
    """
    path = train(range(seed, seed + 8), temperature=temperature)
    (soft, _, _), (_, _, early_argmax) = path.kl[25], path.kl[50]
    end_soft, sampled, argmax = path.kl[-1]
    shown = (f"{name} {kl.round(3).tolist()}" for name, kl in zip(LABELS, path.kl[-1], strict=True))
    return worst(
        above([soft, end_soft], 1e-3),
        above(0.1, np.median(sampled)),
        above(2.0, argmax / early_argmax),
        detail=f"KL after {STEPS} steps: " + ", ".join(shown),
    )


# --- online ---


@claim(
    "O9",
    "limit",
    source="online algorithm; its end derived",
    stated="derived",
    tolerance=1e-3,
    examples=4,
    given={
        "reward": tables((1, 4), low=-1.0, high=1.0),
        "logits": tables((1, 4), low=-1.0, high=1.0),
        "pairing": st.sampled_from(["all", "adjacent", "extremes"]),
        "seed": st.integers(0, 10**6),
        "refresh": st.none(),
    },
    breaks={"refresh": st.just(1)},
)
def rounds_end_at_the_judges_optimum(
    reward: np.ndarray, logits: np.ndarray, pairing: str, seed: int, refresh: int | None
) -> Verdict:
    """Rounds of sampling, judging and learning end at π_ref e^{r/β}/Z, whatever was sampled, as
    long as the reference stays.
    """
    start = TabularPolicy.from_logits(logits)
    rounds = self_preferring(
        start,
        judged_preference(reward),
        rounds=6,
        draws=16,
        pairing=pairing,
        beta=1.0,
        step=4.0,
        epochs=30,
        refresh=refresh,
        seed=seed,
    )
    target, _ = gibbs_log_policy(reward, start.log_probs, beta=1.0)
    return apart(rounds[-1].policy.probs, np.exp(target))


# --- a judge with a bias for the response that it is shown first ---


def both_ways(gap: float, bias: float, average: str) -> float:
    """Return the probability judged in both orders, with log-odds ``gap`` between the responses."""
    return float(both_orders(np.asarray(gap + bias), np.asarray(bias - gap), average=average))


@claim(
    "O7",
    "identity",
    source="derivation",
    stated="derived",
    tolerance=1e-14,
    given={
        "gap": st.floats(-5.0, 5.0),
        "bias": st.floats(-3.0, 3.0),
        "average": st.just("logit"),
    },
    breaks={"average": st.just("prob")},
)
def position_bias_cancels_in_log_odds(gap: float, bias: float, average: str) -> Verdict:
    """A position bias added to the judge's log-odds cancels in their mean over both orders."""
    judged = both_ways(gap, bias, average)
    return apart(judged, expit(gap), detail=f"{judged:.5f} for {expit(gap):.5f}")


@claim(
    "O7-prob",
    "inequality",
    source="derivation",
    stated="derived",
    tolerance=1e-14,
    given={"gap": st.floats(-5.0, 5.0), "bias": st.floats(-3.0, 3.0)},
)
def mean_probability_is_drawn_to_one_half(gap: float, bias: float) -> Verdict:
    """The mean of probabilities is drawn towards ½ but keeps the side."""
    judged = both_ways(gap, bias, "prob")
    return worst(
        above(abs(judged - 0.5), abs(expit(gap) - 0.5)),
        above(0.0, (judged - 0.5) * gap),
        detail=f"{judged:.5f} for {expit(gap):.5f}",
    )
