"""What the paper says about the loss, its gradient and its optimum, on random instances."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.copg.baselines import RIGHT, TOY, WRONG, Toy
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.gradients import loss_gradient
from prefsim.losses.kl_estimators import rloo_kl
from prefsim.numerics import log_softmax, stop_gradient
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.solvers.optimisers.policy_gradient import contrastive_gradient, regularised_reward
from prefsim.testing import (
    Contrast,
    betas,
    contrasts,
    pair_logps,
    regularised_reward_gap,
    scored_pair_logps,
    tables,
)

UNSEEN = {
    ("prefsim.losses.copg", "swap"): (
        "each response carries its own reward: exchanging the two changes nothing"
    ),
}

# --- one pair ---


def square_form(beta: float) -> functools.partial[Any]:
    """Return the loss as a regression."""
    return functools.partial(losses.copg, beta=beta)


def gradient_form(beta: float) -> functools.partial[Any]:
    """Return the loss as a contrast weighted by a constant."""
    return functools.partial(losses.copg, beta=beta, form="gradient")


def without_stop_gradient(beta: float) -> functools.partial[Any]:
    """Return the contrast whose weight is differentiated too."""

    def loss(logps: losses.PairLogps, *, beta: float) -> Any:
        return -regularised_reward_gap(logps, beta=beta) * (logps.chosen - logps.rejected)

    return functools.partial(loss, beta=beta)


@claim(
    "C1",
    "identity",
    source="section 3",
    stated="paper",
    given={
        "logps": scored_pair_logps(),
        "beta": betas(0.05, 2.0),
        "contrast": st.just(gradient_form),
    },
    breaks={"contrast": st.just(without_stop_gradient)},
)
def both_forms_have_one_gradient(
    logps: losses.PairLogps, beta: float, contrast: Callable[[float], Any]
) -> Verdict:
    """The contrastive form and the regression have one gradient: ∓(R_β(y) − R_β(y')) in the
    log-probabilities.
    """
    gap = regularised_reward_gap(logps, beta=beta)
    slopes = (loss_gradient(form(beta), logps) for form in (square_form, contrast))
    scale = 1 + np.abs(gap).max()
    return worst(
        *(
            apart(part, stated, scale=scale)
            for slope in slopes
            for part, stated in ((slope.chosen, -gap), (slope.rejected, gap))
        )
    )


@claim(
    "C5",
    "identity",
    source="section 3",
    stated="paper",
    given={
        "logps": pair_logps(max_size=4, lowest=-20.0),
        "beta": betas(0.05, 2.0),
        "score": st.just(0.25),
    },
    breaks={"score": st.just(0.5)},
)
def contains_ipo(logps: losses.PairLogps, beta: float, score: float) -> Verdict:
    """With scores ±¼ it is IPO: (β/2)(h − 1/(2β))²."""
    scores = np.full_like(logps.chosen, score)
    labelled = logps._replace(chosen_score=scores, rejected_score=-scores)
    ipo = beta / 2 * losses.ipo(logps, tau=beta)
    return apart(losses.copg(labelled, beta=beta), ipo, relative=True)


@claim(
    "C7",
    "invariance",
    source="derivation",
    stated="derived",
    given={
        "logps": scored_pair_logps(),
        "beta": betas(0.05, 2.0),
        "constant": tables((4,), low=1.0, high=50.0),
        "share_of_the_second": st.just(1.0),
    },
    breaks={"share_of_the_second": st.just(0.0)},
)
def is_blind_to_what_a_prompt_adds(
    logps: Any, beta: float, constant: np.ndarray, share_of_the_second: float
) -> Verdict:
    """R + δ(x) changes neither loss nor gradient; with equal scores the loss is (β/2)h², which
    pulls to π_ref.
    """
    moved = logps._replace(
        chosen_score=logps.chosen_score + constant,
        rejected_score=logps.rejected_score + share_of_the_second * constant,
    )
    parts = []
    for loss in (square_form(beta), gradient_form(beta)):
        before, after = loss_gradient(loss, logps), loss_gradient(loss, moved)
        parts.append(apart(loss(moved), loss(logps), relative=True))
        scale = 1 + np.abs(before.chosen).max()
        parts.append(apart(after.chosen, before.chosen, scale=scale))
        parts.append(apart(after.rejected, before.rejected, scale=scale))
    level = logps._replace(rejected_score=logps.chosen_score)
    pull = beta / 2 * losses.reward_margin(logps) ** 2
    return worst(*parts, apart(losses.copg(level, beta=beta), pull, relative=True))


# --- all pairs from two laws ---


@claim(
    "C2",
    "identity",
    source="derivation",
    stated="paper",
    tolerance=1e-24,
    given={"contrast": contrasts(), "away": st.just(0.0)},
    breaks={"away": st.just(1.0)},
)
def optimum_has_no_loss(contrast: Contrast, away: float) -> Verdict:
    """The loss is zero at π* ∝ π_ref exp(R/β), for any laws of the two responses."""
    logits = (1 - away) * contrast.optimum() + away * contrast.log_policy
    return apart(contrast.expected_loss(square_form(contrast.beta), log_softmax(logits)), 0.0)


def without_the_last(contrast: Contrast) -> Contrast:
    """Return the same bandit with pairs that never hold the last response."""
    first, second = (
        np.insert(log_softmax(law[:, :-1]), law.shape[1] - 1, -np.inf, axis=1)
        for law in (contrast.log_first, contrast.log_second)
    )
    return contrast._replace(log_first=first, log_second=second)


@claim(
    "C2-unique",
    "minimiser",
    source="theorem (uniqueness)",
    stated="paper",
    tolerance=1e-9,
    examples=12,
    given={"contrast": contrasts()},
    breaks={"contrast": contrasts().map(without_the_last)},
)
def optimum_is_the_only_minimum(contrast: Contrast) -> Verdict:
    """With full support π* is the only minimum: the loss is (β/2) E (Δ log π/π*)², and the fit ends
    at π*.
    """
    start, loss = contrast.log_policy, square_form(contrast.beta)
    fitted = fit(TabularPolicy(start), loss, contrast.pairs(), reference=contrast.reference())
    # How far a policy is from the optimum, as the pairs see it, is the whole of the loss.
    log_ratio = start - contrast.optimum()
    weight = np.exp(contrast.log_first[:, :, None] + contrast.log_second[:, None, :])
    spread = np.sum(weight * (log_ratio[:, :, None] - log_ratio[:, None, :]) ** 2, axis=(1, 2))
    return worst(
        apart(fitted.policy.probs, np.exp(contrast.optimum())),
        apart(
            contrast.expected_loss(loss, start), contrast.beta / 2 * spread.mean(), relative=True
        ),
    )


@claim(
    "C3",
    "identity",
    source="section 3",
    stated="paper",
    given={"contrast": contrasts(), "fresh": contrasts().map(Contrast.on_policy)},
    breaks={"fresh": contrasts()},
)
def fresh_pairs_give_the_policy_gradient(contrast: Contrast, fresh: Contrast) -> Verdict:
    """For pairs drawn from the policy the negative gradient is 2∇J; from anything else it is the
    enumerated μ₁(R_β − E_μ₂ R_β) + μ₂(R_β − E_μ₁ R_β).
    """
    enumerated = contrastive_gradient(contrast.advantage(), contrast.log_first, contrast.log_second)
    # The contexts are equally likely.
    contexts = len(contrast.reward)
    return worst(
        apart(fresh.descent(gradient_form(fresh.beta)), 2 * fresh.value_gradient()),
        apart(contrast.descent(gradient_form(contrast.beta)), enumerated / contexts),
    )


# --- groups of K samples ---


def pairs_of(group: losses.ListLogps, i: Any, j: Any) -> losses.PairLogps:
    """Return the pairs of candidates ``i`` and ``j``."""
    return losses.PairLogps(
        chosen=group.logps[..., i],
        rejected=group.logps[..., j],
        ref_chosen=group.ref_logps[..., i],
        ref_rejected=group.ref_logps[..., j],
        chosen_score=group.scores[..., i],
        rejected_score=group.scores[..., j],
    )


def groups_of(k: int) -> st.SearchStrategy[losses.ListLogps]:
    """Two prompts with ``k`` scored samples each."""
    table = tables((2, k), low=-4.0, high=0.0)
    # The samples are the policy's own.
    return st.builds(
        losses.ListLogps, logps=table, ref_logps=table, scores=table, old_logps=st.none()
    )


def mean_of_the_others(values: Any) -> Any:
    """Return for each of K values the mean of those beside it, ``(..., K)``."""
    return (values.sum(-1)[..., None] - values) / (values.shape[-1] - 1)


def mean_of_all(values: Any) -> Any:
    """Return the mean of K values, ``(..., 1)``."""
    return values.mean(-1)[..., None]


@claim(
    "C4",
    "identity",
    source="section 3",
    stated="paper",
    tolerance=1e-13,
    given={
        "group": st.integers(2, 6).flatmap(groups_of),
        "beta": betas(0.1, 2.0),
        "baseline": st.just(mean_of_the_others),
    },
    breaks={"baseline": st.just(mean_of_all)},
)
def group_is_leave_one_out(
    group: losses.ListLogps, beta: float, baseline: Callable[[Any], Any]
) -> Verdict:
    """For K samples the mean over pairs is 2 × RLOO with R_β, each reward less the mean of the
    others (and s²/β as a value); for K = 2 it is 2 × P3O's.
    """
    i, j = np.nonzero(~np.eye(group.logps.shape[-1], dtype=bool))

    def over_pairs(group: losses.ListLogps) -> Any:
        return losses.copg(pairs_of(group, i, j), beta=beta, form="gradient").mean(-1)

    def reinforce(group: losses.ListLogps) -> Any:
        reward = regularised_reward(group.scores, group.logps, group.ref_logps, beta=beta)
        advantage = stop_gradient(reward - baseline(reward))
        return -2 * (advantage * group.logps).mean(-1)

    def rloo(group: losses.ListLogps) -> Any:
        # RLOO of a reward is that of the penalty alone from a tilted reference.
        return 2 * beta * rloo_kl(group.logps, group.ref_logps + group.scores / beta).mean(-1)

    def slopes(loss: Callable[[losses.ListLogps], Any]) -> np.ndarray:
        return np.asarray(loss_gradient(loss, group).logps)

    stated = slopes(over_pairs)
    scale = 1 + np.abs(stated).max()
    of_group = (
        functools.partial(losses.copg_group, beta=beta),
        functools.partial(losses.copg_group, beta=beta, form="gradient"),
        reinforce,
        rloo,
    )
    value = losses.copg(pairs_of(group, i, j), beta=beta).mean(-1)
    two = pairs_of(group, [0], [1])
    p3o = loss_gradient(functools.partial(losses.p3o, beta=beta), two)
    return worst(
        *(apart(slopes(loss), stated, scale=scale) for loss in of_group),
        apart(losses.copg_group(group, beta=beta), value, scale=1 + np.abs(value).max()),
        apart(loss_gradient(square_form(beta), two).chosen, 2 * to_numpy(p3o.chosen), scale=scale),
    )


# --- baselines, off policy ---


def toys() -> st.SearchStrategy[Toy]:
    """Bandits near the one of the reproduction."""
    small = tables((3,), low=-0.05, high=0.05)
    return st.builds(
        Toy,
        reward=small.map(lambda shift: TOY.reward + shift),
        log_behaviour=small.map(lambda tilt: log_softmax(TOY.log_behaviour + tilt)),
        log_reference=small.map(log_softmax),
        beta=st.floats(0.45, 0.5),
    )


# Total variation; in these bandits the nearer of the two wrong ends is farther than this.
ELSEWHERE = 0.15


@claim(
    "C6",
    "counterexample",
    source="bandit example",
    stated="chosen",
    tolerance=1e-6,
    examples=8,
    given={"toy": toys(), "fresh": st.just(0.0)},
    breaks={"fresh": st.just(1.0)},
)
def only_right_baselines_lead_to_the_optimum(toy: Toy, fresh: float) -> Verdict:
    """Off policy, no baseline and b = E_μ R end elsewhere (0.15 away or more), where
    μ(R_β − b) = cπ; b = E_μ R_β, b = V^π and CoPG end at π*.
    """
    ends = toy.ends(fresh)
    distances = {name: float(toy.distance(end)) for name, end in ends.items()}
    return worst(
        *(apart(distances[name], 0.0) for name in RIGHT),
        *(apart(ends[name], toy.wrong_limit(name)) for name in WRONG),
        *(above(ELSEWHERE, distances[name]) for name in WRONG),
        detail=", ".join(f"{name}: TV {x:.2g}" for name, x in distances.items()),
    )
