"""What is accepted, at what price, and what pairs of accepted samples are good for."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from paper_repros.direct.rso.sampler import EXAMPLE, Sampler, distance_in_law
from paper_repros.direct.rso.sources import asymptotic_gaps, misspecified_rewards
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


@claim(
    "S1-sampled",
    "statistical",
    source="theorem 1",
    stated="derived",
    tolerance=0.0,
    examples=1,
    given={"seed": st.just(0)},
)
def the_sampler_draws_from_its_law(seed: int) -> Verdict:
    """4·10⁵ proposals: rate and shares of the sampler lie within 4 standard errors of the exact
    law.
    """
    law, drawn = EXAMPLE.law(), EXAMPLE.propose(400_000, seed)
    deviations = np.append(drawn.deviations_of_shares(law), drawn.deviation_of_rate(law))
    return worst(
        above(deviations, 4.0),
        detail=(
            f"rate {drawn.accepted.mean():.5f} for {np.exp(law.log_rate):.5f};"
            f" worst deviation {deviations.max():.2f} standard errors"
        ),
    )


DIFFERENT_REWARDS = st.permutations(range(5)).map(lambda order: np.asarray(order, dtype=float))


@claim(
    "S2",
    "limit",
    source="section 3.3",
    stated="paper",
    tolerance=1e-2,
    given={"reward": DIFFERENT_REWARDS, "log_sft": LOG_SFT},
    breaks={"reward": DIFFERENT_REWARDS.map(lambda reward: np.minimum(reward, 3.0))},
)
def hot_accepts_everything_and_cold_the_best(reward: np.ndarray, log_sft: np.ndarray) -> Verdict:
    """β → ∞ accepts everything, law π_sft; β → 0 only the best response, at the rate π_sft(best),
    then the next.
    """
    hot, cold = (Sampler(reward, log_sft, beta).law() for beta in (1e6, 1e-2))
    order = np.argsort(-reward, kind="stable")
    best = order[0]
    point = np.where(np.arange(reward.size) == best, 0.0, -np.inf)
    top = rejection_sample(reward, 3, beta=1e-4, seed=0)
    return worst(
        apart(np.exp(hot.log_rate), 1.0),
        distance_in_law(hot.log_probs, log_sft),
        apart(np.exp(cold.log_rate), np.exp(log_sft[best])),
        distance_in_law(cold.log_probs, point),
        float((top != order[:3]).any()),
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


CANDIDATES = np.asarray([2, 8, 64, 256])


@claim(
    "S4",
    "limit",
    source="algorithm 1; the bound by coupling, the law enumerated",
    stated="derived",
    given={"sampler": SAMPLERS},
)
def the_first_accepted_of_many_follows_the_target(sampler: Sampler) -> Verdict:
    """The first sample accepted among N candidates is within (1 − π_sft(argmax r))^N of π_r."""
    target = sampler.target()
    distances = np.asarray([distance_in_law(sampler.first_of(int(n)), target) for n in CANDIDATES])
    # The chance that no candidate is the best response, whose reward is the right cap.
    missed = -np.expm1(sampler.log_sft[sampler.reward.argmax()])
    shown = (f"{far:.3g} (N = {n})" for far, n in zip(distances, CANDIDATES, strict=True))
    # Below rounding a distance says nothing.
    bound = np.maximum(missed**CANDIDATES, 1e-15)
    return worst(above(distances, bound), detail=f"TV {', '.join(shown)}")


@claim(
    "S4-all",
    "statistical",
    source="algorithm 1",
    stated="derived",
    tolerance=0.0,
    examples=1,
    given={"samples": st.just(8), "without_repetition": st.just(False)},
    breaks={"samples": st.just(3), "without_repetition": st.just(True)},
)
def all_accepted_of_many_follow_the_target(samples: int, without_repetition: bool) -> Verdict:
    """All k = 8 samples of N = 1024 candidates are within 0.02 of π_r."""
    distance = EXAMPLE.pooled_distance(
        1024, samples, distinct=without_repetition, runs=1000, seed=0
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


def pairs(margin: np.ndarray, level: float = 0.0) -> losses.PairLogps:
    """Return pairs with these log-ratio margins.

    ``level`` moves policy and reference of both responses alike.
    """
    reference = np.full_like(margin, level)
    return losses.PairLogps(margin / 2 + level, -margin / 2 + level, reference, reference)


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

    def risk(h: float) -> float:
        won, lost = hinge(pairs(np.asarray([h, -h])))
        return float(p * won + (1 - p) * lost)

    best = minimize_scalar(
        risk, bounds=(-3 / gamma, 3 / gamma), method="bounded", options={"xatol": 1e-9 / gamma}
    ).x
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
    given={"seed": st.just(0)},
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
    given={"seed": st.integers(0, 10**6)},
)
def half_of_each_source_is_no_worse_than_their_mean(seed: int) -> Verdict:
    """Well-specified: half of each source has at most the mean of their asymptotic gaps."""
    sft, target, half = asymptotic_gaps(seed)
    return worst(
        above(half, (sft + target) / 2),
        detail=f"π_sft {sft:.3f}, π_r {target:.3f}, half–half {half:.3f}",
    )
