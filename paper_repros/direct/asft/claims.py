"""What the loss is in the likelihoods, how hard it pulls at them, and where it is least."""

from __future__ import annotations

import functools

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit, logit

from paper_repros.direct.asft.likelihoods import (
    ALIGNMENT,
    ASFT,
    DPO,
    METHODS,
    ORPO,
    TABULAR,
    WEAK_ASFT,
    gradients_of_asft,
    gradients_of_orpo,
    one_token_pairs,
    pairs_of_odds,
    prob_gradients,
    sharing_a_feature,
    trajectory,
)
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.numerics import log_softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.testing import betas, margins, tables

PROBS = st.floats(1e-6, 1 - 1e-6)
WEIGHTS = st.floats(0.01, 3.0)

# --- the loss in the likelihoods ---


@claim(
    "A1",
    "identity",
    source="alignment loss and combined loss",
    stated="derived",
    tolerance=1e-13,
    given={
        "p_w": PROBS,
        "p_l": PROBS,
        "weight": WEIGHTS,
        "sft_weight": WEIGHTS,
        "beta": st.just(1.0),
    },
    breaks={"beta": st.floats(0.1, 0.8)},
)
def is_absolute_likelihood(
    p_w: float, p_l: float, weight: float, sft_weight: float, beta: float
) -> Verdict:
    """At β = 1 the loss is −(c + λ) log p_w − λ log(1 − p_l)."""
    data = one_token_pairs(p_w, p_l)
    loss = losses.asft(data, lambda_=weight, beta=beta, sft_weight=sft_weight)[0]
    # The logistic form of the definition, with the log-odds themselves.
    classified = np.logaddexp(0, -beta * logit(p_w)) + np.logaddexp(0, beta * logit(p_l))
    defined = -sft_weight * np.log(p_w) + weight * classified
    closed = -(sft_weight + weight) * np.log(p_w) - weight * np.log1p(-p_l)
    shown = f"loss {loss}, definition {defined}, closed form {closed}"
    return apart([loss, defined], closed, relative=True, detail=shown)


@claim(
    "A2",
    "inequality",
    source="derivation",
    stated="derived",
    tolerance=1e-10,
    given={"log_odds": margins(12.0, size=2)},
)
def alignment_term_exceeds_that_of_orpo(log_odds: np.ndarray) -> Verdict:
    """The alignment term exceeds ORPO's by log(1 + (e^{−f_w} + e^{f_l})/(1 + e^{f_l − f_w})), which
    is positive.
    """
    f_w, f_l = log_odds
    logps = pairs_of_odds(log_odds[:1], log_odds[1:])
    alignment, odds_ratio = ALIGNMENT(logps), losses.orpo(logps, lambda_=1.0) + logps.chosen
    formula = np.log1p((np.exp(-f_w) + np.exp(f_l)) / (1 + np.exp(f_l - f_w)))
    return worst(
        apart(alignment - odds_ratio, formula),
        above(odds_ratio, alignment),
        detail=f"gap {alignment[0] - odds_ratio[0]:.6g}, formula {formula:.6g}",
    )


@claim(
    "A7",
    "limit",
    source="combined loss",
    stated="derived",
    given={"log_odds": margins(15.0, size=6), "weight": WEIGHTS},
)
def lies_between_imitation_and_classification(log_odds: np.ndarray, weight: float) -> Verdict:
    """λ = 0 is SFT; without SFT it is the point-wise logistic classifier (BCO without shift) of the
    log-odds.
    """
    f_w, f_l = np.split(log_odds, 2)
    logps = pairs_of_odds(f_w, f_l)
    classifier = weight * losses.bco_pair(logps._replace(chosen=f_w, rejected=f_l), beta=1.0)
    alone = losses.asft(logps, lambda_=weight, sft_weight=0.0)
    return worst(
        apart(losses.asft(logps, lambda_=0.0), losses.sft(logps), relative=True),
        apart(alone, classifier, relative=True),
    )


@claim(
    "A8",
    "invariance",
    source="derivation",
    stated="derived",
    given={
        "name": st.sampled_from(["dpo", "ipo", "rdpo"]),
        "p_w": st.floats(0.01, 0.5),
        "p_l": st.floats(0.01, 0.5),
        "factor": st.floats(0.1, 0.9),
    },
    breaks=({"name": st.just("asft")}, {"name": st.just("orpo")}),
)
def margins_alone_do_not_see_a_prompt_constant(
    name: str, p_w: float, p_l: float, factor: float
) -> Verdict:
    """A prompt constant on both log-likelihoods does not move DPO; it moves ASFT and ORPO."""
    loss = getattr(losses, name)
    before = loss(one_token_pairs(p_w, p_l))[0]
    after = loss(one_token_pairs(factor * p_w, factor * p_l))[0]
    return apart(after, before, detail=f"{name}: {before:.6g} to {after:.6g}")


# --- how hard it pulls ---


@claim(
    "A3",
    "identity",
    source="gradient analysis",
    stated="paper",
    tolerance=1e-11,
    given={
        "probs": tables((4,), low=0.01, high=0.99),
        "beta": betas(0.05, 2.0),
        "weight": WEIGHTS,
        "sft_weight": WEIGHTS,
    },
)
def gradients_have_closed_forms(
    probs: np.ndarray, beta: float, weight: float, sft_weight: float
) -> Verdict:
    """In (p_w, p_l) DPO has the gradient βσ(−βh) (−1/p_w, 1/p_l), ASFT (−(c + λ)/p_w, λ/(1 − p_l)),
    and ORPO, with s = λσ(f_l − f_w), (−1/p_w − s/(p_w(1 − p_w)), s/(p_l(1 − p_l))).
    """
    p_w, p_l, ref_w, ref_l = probs
    pull = beta * expit(-beta * (np.log(p_w / ref_w) - np.log(p_l / ref_l)))
    asft = functools.partial(losses.asft, lambda_=weight, sft_weight=sft_weight)
    formulas = (
        (functools.partial(losses.dpo, beta=beta), (-pull / p_w, pull / p_l)),
        (asft, gradients_of_asft(p_w, p_l, weight, sft_weight)),
        (functools.partial(losses.orpo, lambda_=weight), gradients_of_orpo(p_w, p_l, weight)),
    )
    data = one_token_pairs(p_w, p_l, ref_w, ref_l)
    return worst(
        *(
            apart(np.ravel(prob_gradients(loss, data)), stated, relative=True)
            for loss, stated in formulas
        )
    )


@claim(
    "A4",
    "inequality",
    source="gradient analysis",
    stated="paper",
    tolerance=1e-9,
    given={"logits": tables((3,), low=-4.0, high=4.0), "tokens": st.just(1)},
    breaks={"tokens": st.just(5)},
)
def pulls_harder_than_it_pushes(logits: np.ndarray, tokens: int) -> Verdict:
    """The gradient on p_l is p_w/(1 − p_l) < 1 times that on p_w (two of the responses of one
    distribution, of one token each); DPO's ratio p_w/p_l exceeds 1 wherever p_l < p_w.
    """
    log_probs, zero, length = log_softmax(logits), np.zeros(1), np.full(1, float(tokens))
    logps = losses.PairLogps(log_probs[:1], log_probs[1:2], zero, zero, length, length)
    p_w, p_l = np.exp(log_probs[:2] / tokens)
    on_w, on_l = prob_gradients(ALIGNMENT, logps)
    # DPO sees whole responses.
    whole = logps._replace(chosen_length=np.ones(1), rejected_length=np.ones(1))
    dpo_on_w, dpo_on_l = prob_gradients(functools.partial(losses.dpo, beta=0.1), whole)
    ratio, dpo_ratio = np.abs(on_l / on_w), np.abs(dpo_on_l / dpo_on_w)
    return worst(
        above(ratio, 1.0),
        apart(ratio, p_w / (1 - p_l), relative=True),
        apart(dpo_ratio, np.exp(log_probs[0] - log_probs[1]), relative=True),
        detail=f"ASFT ratio {ratio[0]:.4g}, DPO ratio {dpo_ratio[0]:.4g}",
    )


@claim(
    "A5",
    "counterexample",
    source="checked by construction",
    stated="derived",
    tolerance=0.0,
    examples=3,
    given={"features": st.floats(0.2, 0.9).map(sharing_a_feature)},
    breaks={"features": st.just(TABULAR)},
)
def only_dpo_lowers_what_shares_a_feature(features: np.ndarray) -> Verdict:
    """With a feature shared by both responses DPO lowers π(w); ORPO and ASFT do not."""
    paths = {method: trajectory(features, method, 40)[:, 0] for method in METHODS}
    return worst(
        above(paths[DPO][-1], paths[DPO][0]),
        *(above(paths[method][0], paths[method]) for method in (ORPO, ASFT, WEAK_ASFT)),
        detail=", ".join(f"{m}: {path[0]:.4f} to {path[-1]:.4f}" for m, path in paths.items()),
    )


# --- where it is least ---


def kkt_policy(
    chosen: np.ndarray, rejected: np.ndarray, weight: float, sft_weight: float = 1.0
) -> tuple[np.ndarray, float]:
    """Return the minimiser of −(c + λ) Σ c log π − λ Σ d log(1 − π) and its multiplier.

    At a multiplier ν each π solves νπ² − (c' + λd + ν)π + c' = 0 with c' = (c + λ) c(y), and falls
    in ν; one root find makes them sum to one.
    """
    pull, push = (sft_weight + weight) * chosen, weight * rejected

    def probs(multiplier: float) -> np.ndarray:
        b = pull + push + multiplier
        return 2 * pull / (b + np.sqrt((pull - push - multiplier) ** 2 + 4 * pull * push))

    multiplier = brentq(lambda v: probs(v).sum() - 1, -1e3, 1e3, xtol=1e-14)
    return probs(multiplier), multiplier


def fitted_policy(
    chosen: np.ndarray, rejected: np.ndarray, weight: float, sft_weight: float = 1.0
) -> np.ndarray:
    """Return the minimiser of the loss over all pairs of chosen and rejected responses."""
    size = chosen.size
    first, second = np.indices((size, size)).reshape(2, -1)
    frequency = np.outer(chosen, rejected).ravel()
    data = Comparisons(np.zeros(size**2, int), first, second, weight=frequency)
    loss = functools.partial(losses.asft, lambda_=weight, sft_weight=sft_weight)
    return fit(TabularPolicy.uniform(1, size), loss, data).policy.probs[0]


def frequencies(n: int) -> st.SearchStrategy[np.ndarray]:
    """Frequencies ``(n,)`` of which none is small."""
    return tables((n,), low=0.1, high=1.0).map(lambda weight: weight / weight.sum())


@claim(
    "A6",
    "minimiser",
    source="derivation, KKT",
    stated="derived",
    tolerance=1e-9,
    examples=12,
    given={
        "chosen_and_rejected": st.integers(3, 6).flatmap(
            lambda n: st.tuples(frequencies(n), frequencies(n))
        ),
        "weight": st.floats(0.02, 1.0),
        "sft_weight": st.floats(0.5, 2.0),
    },
)
def minimiser_balances_pull_and_push(
    chosen_and_rejected: tuple[np.ndarray, np.ndarray], weight: float, sft_weight: float
) -> Verdict:
    """The tabular minimiser satisfies (c + λ)c(y)/π(y) − λd(y)/(1 − π(y)) = const."""
    balanced, multiplier = kkt_policy(*chosen_and_rejected, weight, sft_weight)
    fitted = fitted_policy(*chosen_and_rejected, weight, sft_weight)
    shown = f"fitted {fitted}, KKT {balanced}, multiplier {multiplier}"
    return apart(fitted, balanced, detail=shown)
