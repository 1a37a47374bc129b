"""What the optimum ranks, what a loss says of a ranking, and what it does not."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from paper_repros.theory.ranking_accuracy.pairs import pair_logps
from prefsim import losses
from prefsim.analysis import (
    exact_ranking_accuracy,
    idealised_log_ratio,
    idealised_ranking_accuracy,
    largest_ranking_beta,
    ranking_accuracy,
    ranking_loss,
    reward_accuracy,
)
from prefsim.data import Comparisons
from prefsim.gradients import loss_gradient
from prefsim.numerics import sigmoid
from prefsim.papers import Verdict, above, apart, claim, falls, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, optimal_policy
from prefsim.testing import bandits_with_reference, betas
from prefsim.testing.bandits import tables
from prefsim.worlds import ContextualBandit

LOG_PROBS = tables((2, 6), low=-20.0, high=-0.1)
SHARES = tables((6,), low=0.51, high=1.0)
MARGINS = tables((8,), low=-30.0, high=30.0)


def _disagree(found: Any, stated: Any) -> float:
    return float(np.mean(np.asarray(found) != np.asarray(stated)))


# --- the optimum ---


@claim(
    "C1",
    "identity",
    source="theorem 3.1",
    stated="paper",
    given={
        "instance": bandits_with_reference(n_contexts=2, n_responses=4),
        "beta": betas(0.1, 3.0),
        "learned_with": st.none(),
    },
    breaks={"learned_with": betas(5.0, 9.0)},
)
def the_optimum_weighs_the_reference_against_the_votes(
    instance: tuple[ContextualBandit, TabularPolicy], beta: float, learned_with: float | None
) -> Verdict:
    """At the optimum π*(y_w)/π*(y_l) = π_ref(y_w)/π_ref(y_l) · (α/(1 − α))^{1/β} for every pair."""
    world, reference = instance
    reward = np.asarray(world.reward)
    optimum = np.log(optimal_policy(reward, reference.probs, beta=learned_with or beta))
    gap = reward[..., :, None] - reward[..., None, :]
    context, chosen, rejected = np.nonzero(gap > 1e-3)
    assume(context.size > 0)
    logs = np.asarray(reference.log_probs)
    ratio = idealised_log_ratio(
        logs[context, chosen],
        logs[context, rejected],
        sigmoid(gap[context, chosen, rejected]),
        beta=beta,
    )
    return apart(optimum[context, chosen] - optimum[context, rejected], ratio, relative=True)


@claim(
    "C1-fitted",
    "minimiser",
    source="theorem 3.1",
    stated="paper",
    tolerance=1e-7,
    examples=8,
    given={
        "instance": bandits_with_reference(n_contexts=2, n_responses=4, spread=1.0),
        "beta": betas(0.3, 3.0),
    },
)
def dpo_on_all_pairs_has_that_optimum(
    instance: tuple[ContextualBandit, TabularPolicy], beta: float
) -> Verdict:
    """DPO on all pairs, labelled as people vote, has this optimum."""
    world, reference = instance
    data = Comparisons.population(world, TabularPolicy.uniform(2, 4), distinct=True)
    loss = functools.partial(losses.dpo, beta=beta)
    learned = fit(reference, loss, data, reference=reference).policy
    logs, reward = np.asarray(reference.log_probs), np.asarray(world.reward)
    share = sigmoid(reward[:, :1] - reward[:, 1:])
    first = np.where(share >= 0.5, logs[:, :1], logs[:, 1:])
    second = np.where(share >= 0.5, logs[:, 1:], logs[:, :1])
    ratio = idealised_log_ratio(first, second, np.maximum(share, 1 - share), beta=beta)
    found = np.asarray(learned.log_probs)
    return apart(found[:, :1] - found[:, 1:], np.where(share >= 0.5, ratio, -ratio), relative=True)


@claim(
    "C4",
    "monotone",
    source="corollary 3.3",
    stated="derived",
    tolerance=0.0,
    given={"log_probs": LOG_PROBS, "shares": SHARES},
    breaks={"shares": st.just(np.full(6, 0.5))},
)
def a_weaker_penalty_ranks_more(log_probs: np.ndarray, shares: np.ndarray) -> Verdict:
    """The idealised accuracy does not rise with β: it is 1 as β → 0 and that of the reference,
    strictly, as β → ∞.
    """
    chosen, rejected = log_probs
    assume(np.abs(chosen - rejected).min() > 1e-3)
    accuracy = functools.partial(idealised_ranking_accuracy, chosen, rejected, shares)
    values = [float(accuracy(beta=beta)) for beta in np.geomspace(1e-4, 1e6, 40)]
    ends = [1.0, float(np.mean(chosen > rejected))]
    return worst(falls(values), apart([values[0], values[-1]], ends))


@claim(
    "C4-threshold",
    "equivalence",
    source="corollary 3.3",
    stated="derived",
    tolerance=0.0,
    given={"log_probs": LOG_PROBS, "shares": SHARES, "nearer": st.just(1e-6)},
    breaks={"nearer": st.just(-1e-6)},
)
def each_pair_has_a_largest_penalty(
    log_probs: np.ndarray, shares: np.ndarray, nearer: float
) -> Verdict:
    """The optimum ranks a pair as the votes do exactly if β < logit(α)/c, or c < 0."""
    chosen, rejected = log_probs
    assume((np.abs(chosen - rejected) > 1e-3).all())
    largest = largest_ranking_beta(chosen, rejected, shares)
    ranked = [
        [
            float(idealised_log_ratio(first, second, share, beta=factor * beta)[0]) > 0
            for factor in (1 - nearer, 1 + nearer)
        ]
        for first, second, share, beta in zip(
            chosen[:, None], rejected[:, None], shares, np.minimum(largest, 1e3), strict=True
        )
    ]
    wrong = rejected > chosen
    expected = np.stack([np.full(6, True), ~wrong], axis=-1)
    return Verdict(_disagree(ranked, expected) + _disagree(np.isfinite(largest), wrong))


# --- what a loss says ---


@claim(
    "C2",
    "equivalence",
    source="theorem 4.1",
    stated="paper",
    tolerance=0.0,
    given={"margins": MARGINS, "against": MARGINS, "beta": betas(0.05, 1.0), "of": st.just("dpo")},
    breaks={"of": st.just("ipo")},
)
def a_pair_is_turned_exactly_below_its_loss(
    margins: np.ndarray, against: np.ndarray, beta: float, of: str
) -> Verdict:
    """A pair is ranked as labelled if and only if its DPO loss is at most −log σ(βc)."""
    # Losses too small or too near to tell apart in floating point say nothing.
    near = (np.abs(margins) < 1e-6) | (beta * np.minimum(against, margins + against) > 25)
    assume(not near.any())
    pair = pair_logps(margins, against)
    options = {"beta": beta} if of == "dpo" else {"tau": beta}
    value = getattr(losses, of)(pair, **options)
    limit = ranking_loss(-against, 0 * against, beta=beta)
    ranked = [bool(ranking_accuracy(m, 0 * m)) for m in margins[:, None]]
    return Verdict(_disagree(value <= limit, ranked), detail=of)


@claim(
    "C3",
    "inequality",
    source="proposition 2.6",
    stated="paper",
    tolerance=0.0,
    given={
        "against": st.floats(-30.0, -1e-6),
        "beta": betas(0.05, 1.0),
        "level": st.sampled_from([0.6, math.log(2) - 1e-9]),
    },
    breaks={"against": st.floats(5.0, 30.0)},
)
def a_pair_ranked_by_the_reference_stays_ranked(
    against: float, beta: float, level: float
) -> Verdict:
    """If the reference ranks a pair as labelled and the loss is at most .6, or anything below
    log 2, the policy does.
    """
    # The log-ratio at which the loss is just this.
    margin = math.log(math.expm1(level)) / -beta - against
    found = losses.dpo(pair_logps(np.array([margin]), np.array([against])), beta=beta)[0]
    return worst(
        above(-margin, 0.0),
        0.0 if abs(found - level) < 1e-9 else 1.0,
        detail=f"margin {margin:.3g}",
    )


@claim(
    "C5",
    "identity",
    source="section 4.2",
    stated="derived",
    given={"against": MARGINS, "beta": betas(0.05, 1.0), "rates": st.none()},
    breaks={"rates": tables((8,), low=1.0, high=20.0)},
)
def independent_pairs_move_alike(against: np.ndarray, beta: float, rates: Any) -> Verdict:
    """Pairs with log-ratios of their own, trained from the reference, all move by the same u at
    every step, and have the same loss: turned are those with c ≤ u.
    """
    margins, rate = -against, 5.0 if rates is None else rates
    loss = functools.partial(losses.dpo, beta=beta)
    for _ in range(20):
        margins = margins - rate * loss_gradient(loss, pair_logps(margins, against)).chosen
    moved = margins + against
    value = np.asarray(loss(pair_logps(margins, against)))
    turned = moved[0] >= against
    sure = np.abs(moved[0] - against) > 1e-9
    return worst(
        apart(moved, moved[0], relative=True),
        apart(value, value[0]),
        _disagree(turned[sure], (margins >= 0)[sure]),
    )


@claim(
    "C6",
    "identity",
    source="section 4, IPO",
    stated="paper",
    given={"against": MARGINS, "tau": betas(0.02, 1.0), "loss_of": st.just(0.0)},
    breaks={"loss_of": st.floats(0.5, 2.0)},
)
def ipo_without_loss_may_rank_wrongly(against: np.ndarray, tau: float, loss_of: float) -> Verdict:
    """IPO's loss is the squared distance from the log-ratio −c + 1/(2τ), which ranks a pair wrongly
    where c exceeds 1/(2τ).
    """
    margins = 1 / (2 * tau) - against + loss_of
    value = losses.ipo(pair_logps(margins, against), tau=tau)
    sure = np.abs(against - 1 / (2 * tau)) > 1e-6
    wrong = _disagree((margins < 0)[sure], (against > 1 / (2 * tau))[sure]) if sure.any() else 0.0
    farther = losses.ipo(pair_logps(margins + 3.0, against), tau=tau)
    size = 1 + margins**2
    return worst(apart(value, 0.0, scale=size), apart(farther, 9.0, scale=size), wrong)


# --- two accuracies ---


@claim(
    "C7",
    "invariance",
    source="definitions 2.1 and 2.5",
    stated="derived",
    tolerance=0.0,
    given={
        "log_probs": tables((4, 6), low=-20.0, high=-0.1).map(lambda x: np.round(x, 3)),
        "shift": tables((6,), low=-3.0, high=3.0).map(lambda x: np.round(x, 3)),
        "of": st.just("ranking"),
    },
    breaks={"of": st.just("reward")},
)
def ranking_accuracy_is_reward_accuracy_with_a_margin(
    log_probs: np.ndarray, shift: np.ndarray, of: str
) -> Verdict:
    """Only ratios within a prompt count; and a pair is ranked as labelled exactly if its implicit
    reward favours the chosen response by at least βc, not by anything.
    """
    chosen, rejected, ref_chosen, ref_rejected = log_probs
    assume((np.abs(chosen - rejected) > 1e-9).all())
    ranked = float(ranking_accuracy(chosen, rejected))
    moved = float(ranking_accuracy(chosen + shift, rejected + shift))
    gained = chosen - ref_chosen - (rejected - ref_rejected)
    with_margin = float(np.mean(gained - (ref_rejected - ref_chosen) > -1e-9))
    by_reward = float(reward_accuracy(chosen, rejected, ref_chosen, ref_rejected))
    expected = with_margin if of == "ranking" else by_reward
    favoured = float(np.mean(gained > 0))
    listed = float(exact_ranking_accuracy(np.stack([chosen, rejected], axis=-1)))
    return worst(
        apart(ranked, moved),
        apart(ranked, expected),
        apart(ranked, listed),
        apart(by_reward, favoured),
    )
