"""What is accepted, at what price, and what pairs of accepted samples are good for."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.direct.rso.sampler import EXAMPLE, Sampler, distance_in_law
from paper_repros.direct.rso.sources import (
    asymptotic_gaps,
    best_margin,
    misspecified_rewards,
    pairs,
)
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.papers import Verdict, above, apart, claim, falls, outside, rises, worst
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import fit, gibbs_log_policy, optimal_policy
from prefsim.solvers.closed_forms.rejection import accepted_law, rejection_sample
from prefsim.testing import betas, margins, tables
from prefsim.worlds import ContextualBandit

LOG_SFT = tables((5,), low=-2.0, high=2.0).map(log_softmax)
SAMPLERS = st.builds(Sampler, tables((5,), low=-3.0, high=3.0), LOG_SFT, betas(0.1, 3.0))
SEEDS = st.integers(0, 10**6)

# --- the law of what is accepted ---


@claim(
    "S1",
    "identity",
    source="theorem 1",
    stated="paper",
    given={"sampler": SAMPLERS, "candidates_that_set_the_cap": st.none()},
    breaks={"candidates_that_set_the_cap": st.just(2)},
)
def accepted_samples_follow_the_target(
    sampler: Sampler, candidates_that_set_the_cap: int | None
) -> Verdict:
    """An accepted sample has the law π_r exactly, and the rate is Z exp(−r_max/β)."""
    target, log_z = gibbs_log_policy(sampler.reward, sampler.log_sft, beta=sampler.beta)
    if candidates_that_set_the_cap is not None:
        return worst(distance_in_law(sampler.first_of(candidates_that_set_the_cap), target))
    law, rate = sampler.law(), np.exp(log_z - sampler.reward.max() / sampler.beta)
    return worst(
        distance_in_law(law.log_probs, target),
        apart(np.exp(law.log_rate), rate),
        detail=f"rate {rate:.6f}",
    )


# Temperate: the rarest response is still accepted hundreds of times.
TEMPERATE = st.builds(
    Sampler,
    tables((2,), low=0.0, high=1.0).map(lambda between: np.array([0.0, *between, 1.0])),
    tables((4,), low=-1.0, high=1.0).map(log_softmax),
    betas(0.5, 3.0),
)


@claim(
    "S1-sampled",
    "statistical",
    source="theorem 1",
    stated="derived",
    tolerance=0.0,
    examples=2,
    given={"sampler": TEMPERATE, "seed": SEEDS},
)
def the_sampler_draws_from_its_law(sampler: Sampler, seed: int) -> Verdict:
    """2·10⁵ proposals: rate and shares of the sampler lie within 5 standard errors of the exact
    law.
    """
    law, drawn = sampler.law(), sampler.propose(200_000, seed)
    deviations = np.append(drawn.deviations_of_shares(law), drawn.deviation_of_rate(law))
    return worst(
        above(deviations, 5.0),
        detail=(
            f"rate {drawn.accepted.mean():.5f} for {np.exp(law.log_rate):.5f};"
            f" worst deviation {deviations.max():.2f} standard errors"
        ),
    )


# Five rewards in some order, neighbours one to two apart.
DIFFERENT_REWARDS = st.tuples(tables((5,), low=1.0, high=2.0), st.permutations(range(5))).map(
    lambda drawn: np.cumsum(drawn[0])[list(drawn[1])]
)


@claim(
    "S2",
    "limit",
    source="section 3.3",
    stated="paper",
    given={
        "reward": DIFFERENT_REWARDS,
        "log_sft": LOG_SFT,
        "hot": st.floats(5.0, 1e4),
        "cold": st.floats(0.05, 0.5),
        "seed": SEEDS,
    },
    # The second best is as good as the best.
    breaks={
        "reward": DIFFERENT_REWARDS.map(lambda reward: np.minimum(reward, np.sort(reward)[-2]))
    },
)
def hot_accepts_everything_and_cold_the_best(
    reward: np.ndarray, log_sft: np.ndarray, hot: float, cold: float, seed: int
) -> Verdict:
    """With rewards one or more apart all but E(r_max − r)/β is accepted, and the law is as near to
    π_sft; of what is accepted a share of at most exp(−1/β)/π_sft(best) is not the best. The
    algorithm takes candidates in their order as β → ∞, and from the top as β → 0.
    """
    sft, best = np.exp(log_sft), int(reward.argmax())
    everything, little = (accepted_law(reward, log_sft, beta=beta) for beta in (hot, cold))
    lost = sft @ (reward.max() - reward) / hot
    others = (1 - sft[best]) * np.exp(-1 / cold)
    in_order = rejection_sample(reward, 3, beta=1e15, seed=seed)
    from_the_top = rejection_sample(reward, 3, beta=1e-3, seed=seed)
    return worst(
        above(-np.expm1(everything.log_rate), lost),
        above(distance_in_law(everything.log_probs, log_sft), lost),
        above(np.exp(little.log_rate) - sft[best], others),
        above(-np.expm1(little.log_probs[best]), others / sft[best]),
        float((in_order != np.arange(3)).any()),
        float((from_the_top != np.argsort(-reward, kind="stable")[:3]).any()),
    )


@claim(
    "S3",
    "identity",
    source="derivation",
    stated="derived",
    given={"sampler": SAMPLERS, "cap_above_the_largest": st.floats(-2.0, 2.0)},
)
def a_low_cap_clips_the_reward(sampler: Sampler, cap_above_the_largest: float) -> Verdict:
    """With a cap r̃ below max r the law is that of the clipped reward min(r, r̃), at the rate
    Z̃ exp(−r̃/β); with one above, it is π_r at a lower rate.
    """
    reward, log_sft, beta = sampler
    cap = np.asarray(reward.max() + cap_above_the_largest)
    law = accepted_law(reward, log_sft, beta=beta, cap=cap)
    clipped, log_z = gibbs_log_policy(np.minimum(reward, cap), log_sft, beta=beta)
    return worst(
        distance_in_law(law.log_probs, clipped),
        apart(np.exp(law.log_rate), np.exp(log_z - cap / beta)),
        detail=f"cap {cap_above_the_largest:+.3f} from the largest reward",
    )


@claim(
    "S4",
    "limit",
    source="algorithm 1; the law enumerated",
    stated="derived",
    given={"sampler": SAMPLERS, "candidates": st.integers(1, 300), "drawn_from": st.none()},
    # Candidates of another policy than π_sft.
    breaks={"drawn_from": LOG_SFT},
)
def the_first_accepted_of_many_follows_the_target(
    sampler: Sampler, candidates: int, drawn_from: np.ndarray | None
) -> Verdict:
    """The first sample accepted among N candidates is within (1 − rate)^N of π_r, where the rate is
    that of acceptance at the right cap; it is the best response with probability π_r(best)(1 − (1 −
    rate)^N).
    """
    target, excess = sampler.target(), sampler.excess_of_first(candidates)
    source = sampler if drawn_from is None else sampler._replace(log_sft=drawn_from)
    first = source.first_of(candidates)
    distance, best = np.abs(excess).sum() / 2, sampler.reward.argmax()
    rejected = sampler.rejected(sampler.reward.max())
    nothing = rejected**candidates
    return worst(
        apart(np.exp(sampler.law().log_rate), 1 - rejected),
        apart(np.exp(first), np.exp(target) + excess),
        # Relative: most of these distances are far below rounding.
        above(distance, nothing, scale=max(nothing, np.finfo(float).tiny)),
        apart(np.exp(first[best]), np.exp(target[best]) * (1 - nothing)),
        detail=f"TV {distance:.3g} of at most {nothing:.3g} (N = {candidates})",
    )


@claim(
    "S4-all",
    "statistical",
    source="algorithm 1",
    stated="chosen",
    tolerance=0.0,
    examples=2,
    given={"samples": st.just(8), "without_repetition": st.just(False), "seed": SEEDS},
    breaks={"samples": st.just(3), "without_repetition": st.just(True)},
)
def all_accepted_of_many_follow_the_target(
    samples: int, without_repetition: bool, seed: int
) -> Verdict:
    """All k = 8 samples of N = 1024 candidates are within 0.02 of π_r."""
    distance = EXAMPLE.pooled_distance(
        1024, samples, distinct=without_repetition, runs=1000, seed=seed
    )
    return worst(above(distance, 0.02), detail=f"k = {samples}: TV {distance:.4f}")


# --- what a sample costs ---


@claim(
    "S8",
    "monotone",
    source="section 3.3",
    stated="derived",
    given={"sampler": SAMPLERS, "factor": st.floats(1.0, 10.0)},
)
def hotter_is_nearer_and_cheaper(sampler: Sampler, factor: float) -> Verdict:
    """KL(π_r‖π_sft) falls and the rate of acceptance rises with β."""
    cold, hot = sampler.law(), sampler._replace(beta=factor * sampler.beta).law()
    kls = [float(categorical_kl(law.log_probs, sampler.log_sft)) for law in (cold, hot)]
    return worst(
        falls(kls),
        rises([cold.log_rate, hot.log_rate]),
        detail=f"KL {kls[0]:.4g} to {kls[1]:.4g}",
    )


@claim(
    "S9",
    "identity",
    source="derivation",
    stated="derived",
    tolerance=1e-10,
    given={"sampler": SAMPLERS},
)
def a_sample_costs_at_least_exp_kl(sampler: Sampler) -> Verdict:
    """log rate = −KL(π_r‖π_sft) − (r_max − E r)/β: at least exp KL proposals per sample."""
    law = sampler.law()
    kl = float(categorical_kl(law.log_probs, sampler.log_sft))
    short = (sampler.reward.max() - np.exp(law.log_probs) @ sampler.reward) / sampler.beta
    return worst(
        apart(law.log_rate, -kl - short),
        outside(short, 0.0, math.inf),
        detail=f"proposals per sample {np.exp(-law.log_rate):.4g}",
    )


# --- what the pairs teach ---


@claim(
    "S5",
    "identity",
    source="section 3.2",
    stated="paper",
    given={
        "margin": margins(20.0),
        "level": st.floats(-30.0, 0.0),
        "gamma": betas(0.05, 2.0),
        # Away from one half, where the minimiser jumps.
        "p": st.floats(0.05, 0.4) | st.floats(0.6, 0.95),
    },
)
def normalised_losses_see_the_scaled_margin(
    margin: np.ndarray, level: float, gamma: float, p: float
) -> Verdict:
    """Hinge-norm and sigmoid-norm see (γ, m) only, sigmoid-norm at γ = β is DPO; hinge-norm is
    least at sign(p − ½)/γ.
    """
    hinge = functools.partial(losses.hinge, beta=gamma)
    stated = {
        functools.partial(losses.dpo, beta=gamma): np.logaddexp(0, -gamma * margin),
        hinge: np.maximum(0, 1 - gamma * margin),
    }
    uneven = pairs(margin)._replace(chosen=margin, rejected=np.zeros_like(margin))
    same_margin = (pairs(margin), pairs(margin, level), uneven)
    values = [
        apart(loss(logps), value, relative=True)
        for loss, value in stated.items()
        for logps in same_margin
    ]

    best = best_margin(hinge, p, within=3 / gamma)
    return worst(
        *values,
        # The search ends where it was told to, far from rounding.
        apart(gamma * best, np.sign(p - 0.5), scale=1e6),
        detail=f"minimiser {best:.4f}, 1/γ {1 / gamma:.4f}, p {p:.3f}",
    )


LAWS = tables((2, 4), low=-1.5, high=1.5).map(log_softmax)


@claim(
    "S6",
    "invariance",
    source="derivation",
    stated="derived",
    tolerance=1e-6,
    examples=8,
    given={
        "reward": tables((2, 4), low=-2.0, high=2.0),
        "log_sft": LAWS,
        "log_law_of_the_pairs": LAWS,
        "beta": betas(0.3, 2.0),
        "features": st.none(),
    },
    breaks={"features": tables((2, 4, 1), low=-1.0, high=1.0)},
)
def a_saturated_class_learns_the_target_from_any_pairs(
    reward: np.ndarray,
    log_sft: np.ndarray,
    log_law_of_the_pairs: np.ndarray,
    beta: float,
    features: np.ndarray | None,
) -> Verdict:
    """A saturated class fits π_r wherever the pairs come from."""
    sft = TabularPolicy.from_logits(log_sft)
    start: Any = sft if features is None else LogLinearPolicy.from_features(features, base=sft)
    law = TabularPolicy.from_logits(log_law_of_the_pairs)
    data = Comparisons.population(ContextualBandit(reward=reward), law, distinct=True)
    policy = fit(start, functools.partial(losses.dpo, beta=beta), data, reference=sft).policy
    return apart(policy.probs, optimal_policy(reward, sft.probs, beta=beta))


@claim(
    "S7",
    "counterexample",
    source="experiment",
    stated="chosen",
    tolerance=0.0,
    examples=1,
    given={"seed": SEEDS},
)
def pairs_of_the_target_are_not_always_better(seed: int) -> Verdict:
    """Misspecified log-linear policies earn more from pairs of π_r in fewer than half of 60 worlds,
    though in some.
    """
    sft, target = misspecified_rewards(seed, instances=60)
    share = (target > sft).mean()
    return outside(
        share,
        0.05,
        0.5,
        detail=(f"π_r pairs win {share:.0%}; E r {target.mean():.3f} against {sft.mean():.3f}"),
    )


@claim(
    "S7-mixture",
    "inequality",
    source="convexity of the inverse information",
    stated="derived",
    tolerance=1e-9,
    given={"seed": SEEDS},
)
def half_of_each_source_is_no_worse_than_their_mean(seed: int) -> Verdict:
    """Well-specified: half of each source has at most the mean of their asymptotic gaps."""
    sft, target, half = asymptotic_gaps(seed)
    return worst(
        above(half, (sft + target) / 2),
        detail=f"π_sft {sft:.3f}, π_r {target:.3f}, half–half {half:.3f}",
    )


UNSEEN = {
    ("prefsim.solvers.closed_forms.rejection.rejection_sample", ""): (
        "its results are indices, which these mutants leave alone; the tests break it in three ways"
        " of its own, which claims and reproduction notice"
    ),
}
