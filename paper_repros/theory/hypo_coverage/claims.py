"""What the paper says of coverage, of policies in a KL ball, and of HyPO, on random instances."""

from __future__ import annotations

import functools

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from paper_repros.theory.hypo_coverage.drawn_bandits import (
    LIMIT,
    Instance,
    farthest_in_ball,
    instances,
    strongly_rewarded,
)
from paper_repros.theory.hypo_coverage.extrapolation import Extrapolation
from paper_repros.theory.hypo_coverage.rare_response import (
    WORLD,
    Rare,
    gap_bound,
    pairwise_error,
)
from prefsim import losses
from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.analysis.coverage import (
    concentrability,
    global_coverage,
    in_distribution_reward_error,
    kl_ball_coverage,
)
from prefsim.checks import trusted_values
from prefsim.data import Comparisons
from prefsim.gradients import gradient
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective
from prefsim.solvers.optimisers.penalties import (
    Penalty,
    kl_penalty,
    online_kl_penalty,
    sampled_kl_penalty,
)
from prefsim.testing.bandits import betas, tables
from prefsim.worlds import ContextualBandit

BETAS = betas(0.1, 3.0)


@claim(
    "C1",
    "identity",
    source="section 2",
    stated="paper",
    given={"instance": instances(), "beta": BETAS},
)
def lost_value_is_divergence_from_the_optimum(instance: Instance, beta: float) -> Verdict:
    """The value lost by a policy is β times its divergence from the optimum."""
    best, policy = instance.optimum(instance.reward, beta), instance.policy.log_probs
    lost = instance.value(best, beta) - instance.value(policy, beta)
    divergence = beta * kl_to_reference(policy, best, instance.world)
    return apart(lost, divergence, detail=f"J* − J = {lost:.9g}, β KL(π‖π*) = {divergence:.9g}")


@claim(
    "C2",
    "inequality",
    source="shape of the theorems on RLHF and DPO; constants derived here",
    stated="derived",
    given={"instance": instances(), "beta": BETAS, "unseen": st.just(0)},
    breaks={"unseen": st.just(1)},
)
def coverage_bounds_the_gap(instance: Instance, beta: float, unseen: int) -> Verdict:
    """J* − J(π_r̂) <= E_π̂ Δ − E_π* Δ <= (√(C_π̂ − 1) + √(C_π* − 1)) √(ε_r / 2) with Δ = r̂ − r* and
    coverage relative to the data.
    """
    world, estimate, rho = instance.world, instance.estimate, instance.rho
    seen = np.arange(world.n_responses) < world.n_responses - unseen
    log_data = log_softmax(np.where(seen, instance.policy.log_probs, -np.inf))
    best, learned = (instance.optimum(reward, beta) for reward in (instance.reward, estimate))
    gap = instance.value(best, beta) - instance.value(learned, beta)
    wrong = ContextualBandit(reward=estimate - instance.reward, context_probs=rho)
    overrated = expected_reward(learned, wrong) - expected_reward(best, wrong)
    # The coverage of what the data show; all there is where the data show everything.
    # A part of a policy is none, and taken as it is.
    with trusted_values():
        covered, needed = (
            concentrability(np.where(seen, policy, -np.inf), log_data, context_probs=rho)
            for policy in (learned, best)
        )
    error = in_distribution_reward_error(estimate, instance.reward, log_data, context_probs=rho)
    bound = gap_bound(covered, needed, error)
    return worst(
        above(gap, overrated),
        above(overrated, bound),
        detail=f"gap {gap:.6g} <= {overrated:.6g} <= {bound:.6g}",
    )


@claim(
    "C10",
    "identity",
    source="assumption on in-distribution reward learning; the variance derived here",
    stated="derived",
    given={"instance": instances(), "drawn_by_the_data": st.just(True)},
    breaks={"drawn_by_the_data": st.just(False)},
)
def error_is_a_mean_over_pairs(instance: Instance, drawn_by_the_data: bool) -> Verdict:
    """ε_r, twice the variance of r̂ − r* over the data, is the mean squared error of reward
    differences over pairs that the data's policy draws.
    """
    data = instance.policy
    found = in_distribution_reward_error(
        instance.estimate, instance.reward, data.log_probs, context_probs=instance.rho
    )
    drawing = data if drawn_by_the_data else instance.reference
    one_by_one = pairwise_error(instance.estimate, instance.world, drawing)
    return apart(found, one_by_one, detail=f"ε_r = {found:.6g}, over pairs {one_by_one:.6g}")


@claim(
    "C3",
    "counterexample",
    source="proposition that global coverage is necessary; the instance is our own",
    stated="derived",
    given={
        "delta": st.floats(-6.0, -1.0).map(lambda exponent: 10.0**exponent),
        "beta": st.floats(0.1, 0.2),
        "weight": st.just(0.0),
    },
    breaks={"weight": st.floats(1e-3, 1.0)},
)
def the_loss_does_not_see_what_the_data_do_not_show(
    delta: float, beta: float, weight: float
) -> Verdict:
    """Without coverage, policies with any mass on an unseen response have one DPO (and IPO) loss,
    no reward error and value −∞; as its reference mass vanishes the error goes to 0 while the gap
    stays above 0.5.
    """
    mass, never = np.array([0.0, 0.1, 0.5, 0.9]), Rare(0.0, beta)
    data = Comparisons.population(WORLD, never.reference, distinct=True)
    penalty = None if weight == 0 else kl_penalty(never.reference, weight=weight)
    one_loss = []
    for loss in (functools.partial(losses.dpo, beta=beta), functools.partial(losses.ipo, tau=beta)):
        values = objective(
            never.policy(mass), loss, data, reference=never.reference, penalty=penalty
        )
        one_loss.append(apart(values, values[0], scale=values[0]))
    hidden = never.measure(mass)
    here, rarer = (Rare(share, beta).measure(0.5) for share in (delta, delta / 100))
    return worst(
        *one_loss,
        apart(hidden.error, 0.0),
        apart(np.isposinf(hidden.gap[1:]), 1.0),
        above(rarer.error, here.error),
        above(here.gap, rarer.gap),
        above(0.5, here.gap),
        detail=f"δ = {delta:.2g}: error {here.error:.3g}, gap {here.gap:.3g}",
    )


@claim(
    "C4",
    "inequality",
    source="lemma on the KL ball (the constant 2 derived here)",
    stated="derived",
    given={"instance": instances(), "beta": BETAS, "excess": st.just(1.0)},
    # Of an estimate that is not bounded by R'.
    breaks={"excess": st.just(20.0)},
)
def bounded_rewards_stay_in_a_ball(instance: Instance, beta: float, excess: float) -> Verdict:
    """With rewards in [−R', R'] the learned policy stays in the ball of radius 2R'/β, so the
    coverage of that ball suffices.
    """
    estimate = excess * instance.estimate
    learned = instance.optimum(estimate, beta)
    spent, range_ = beta * instance.divergence(learned), instance.rho @ np.ptp(estimate, axis=-1)
    reached, ball = instance.coverage(learned), instance.ball_coverage(2 * LIMIT / beta)
    shown = f"C {reached:.6g} <= {ball:.6g}"
    return worst(
        above(spent, range_),
        above(range_, 2 * LIMIT),
        above(reached, ball, scale=ball),
        detail=f"β KL {spent:.6g} <= {range_:.6g} <= {2 * LIMIT}; {shown}",
    )


@claim(
    "C5",
    "identity",
    source="definition of partial coverage; closed form derived here",
    stated="derived",
    tolerance=1e-11,
    given={"instance": instances(), "radius": st.floats(1e-3, 4.0)},
)
def ball_coverage_has_a_closed_form(instance: Instance, radius: float) -> Verdict:
    """The coverage of a KL ball has the closed form of one response lifted at the expense of all
    others, and is the global coverage once the ball holds every policy.
    """
    log_reference, rho = instance.reference.log_probs, instance.rho
    ball = kl_ball_coverage(log_reference, radius, context_probs=rho)
    found = float(instance.coverage(farthest_in_ball(instance, radius)).max())
    whole = float(np.max(-log_reference.min(axis=-1) / rho))
    return worst(
        apart(found, ball.value, scale=ball.value),
        above(ball.spent, radius * (1 + 1e-12)),
        apart(
            instance.ball_coverage(whole * (1 + 1e-12)),
            global_coverage(log_reference, context_probs=rho),
            relative=True,
        ),
        detail=f"C_ε = {float(ball.value):.9g}, search {found:.9g}",
    )


@claim(
    "C6",
    "inequality",
    source="HyPO's objective; the radius is derived here",
    stated="derived",
    examples=5,
    given={
        "instance": instances(),
        "beta": betas(0.2, 2.0),
        "weight": st.floats(0.02, 2.0),
        "penalised": st.just(1.0),
    },
    # Of DPO alone, where the reward is strong: whatever β, it leaves the ball of λ = 2.
    breaks={
        "penalised": st.just(0.0),
        "weight": st.just(2.0),
        "instance": instances().map(strongly_rewarded),
    },
)
def hybrid_policies_stay_in_a_ball(
    instance: Instance, beta: float, weight: float, penalised: float
) -> Verdict:
    """A policy at least as good as the reference for HyPO's objective has KL <= log 2 / λ, hence
    coverage C_{log 2 / λ}.
    """
    reference, rho = instance.reference, instance.rho
    dpo = functools.partial(losses.dpo, beta=beta)
    data = Comparisons.population(instance.world, reference)
    penalty = kl_penalty(reference, weight=weight * penalised, context_probs=rho)
    solution = fit(reference, dpo, data, reference=reference, penalty=penalty).policy
    path = np.linspace(0.0, 1.0, 5)[:, None, None]
    between = reference.log_probs + path * (solution.log_probs - reference.log_probs)
    candidates = TabularPolicy(between)
    reached = objective(candidates, dpo, data, reference=reference, penalty=penalty)
    # The reference has a loss of log 2, and a loss is never negative.
    log_policies = candidates.log_probs[reached <= np.log(2) + 1e-12]
    divergence, coverage = instance.divergence(log_policies), instance.coverage(log_policies)
    ball = instance.ball_coverage(np.log(2) / weight)
    shown = f"KL {divergence.max():.4g} <= {np.log(2) / weight:.4g}"
    return worst(
        above(weight * divergence, np.log(2)),
        above(coverage, ball, scale=ball),
        detail=f"{shown}, C {coverage.max():.4g} <= {ball:.4g} at {len(log_policies)} policies",
    )


@st.composite
def extrapolations(draw: st.DrawFn) -> Extrapolation:
    """Six responses with two features, which the shown responses span."""
    case = Extrapolation(
        features=draw(tables((6, 2), low=-2.0, high=2.0)),
        weights=draw(tables((2,), low=-1.5, high=1.5)),
        beta=draw(betas(0.5, 2.0)),
    )
    shown = np.delete(case.features, case.best, axis=0)
    assume(np.linalg.svd(shown - shown.mean(axis=0), compute_uv=False)[-1] > 0.3)
    return case


@claim(
    "C7",
    "equivalence",
    source="section on extrapolation",
    stated="paper",
    tolerance=1e-9,
    examples=12,
    given={"case": extrapolations(), "kind": st.just("log-linear")},
    breaks={"kind": st.just("tabular")},
)
def features_find_the_unseen_best_response(case: Extrapolation, kind: str) -> Verdict:
    """A log-linear class that holds the reward recovers π* from data that never show the best
    response, if they span its features.
    """
    found, best = np.exp(case.trained(kind)), np.exp(case.optimum())
    shown = f"fitted {found[0, case.best]:.6g}, optimal {best[0, case.best]:.6g}"
    return apart(found, best, detail=f"unseen best response: {shown}")


@claim(
    "C8",
    "identity",
    source="HyPO's online gradient",
    stated="paper",
    tolerance=1e-8,
    examples=25,
    given={
        "instance": instances(),
        "samples": st.integers(1, 3),
        "differentiate_ratio": st.just(False),
    },
    breaks={"samples": st.just(1), "differentiate_ratio": st.just(True)},
)
def online_estimator_has_the_gradient_of_kl(
    instance: Instance, samples: int, differentiate_ratio: bool
) -> Verdict:
    """The score-function estimator with a leave-one-out baseline has the KL gradient p ⊙ (log
    p/π_ref − KL) as expectation.
    """
    policy, reference, rho = instance.policy, instance.reference, instance.rho
    log_ratio = policy.log_probs - reference.log_probs
    advantage = log_ratio - np.sum(policy.probs * log_ratio, axis=-1, keepdims=True)
    formula = rho[:, None] * policy.probs * advantage
    steps = 1e-5 * np.eye(formula.size).reshape(-1, *formula.shape)
    ahead, behind = (
        categorical_kl(log_softmax(policy.logits + change), reference.log_probs) @ rho
        for change in (steps, -steps)
    )
    estimator = sampled_kl_penalty(
        reference,
        weight=1.0,
        samples=samples,
        context_probs=rho,
        differentiate_ratio=differentiate_ratio,
    )
    exact, expected = (
        gradient(lambda logits, penalty=penalty: penalty(TabularPolicy(logits)), policy.logits)
        for penalty in (kl_penalty(reference, weight=1.0, context_probs=rho), estimator)
    )
    parts = {
        "differences": apart((ahead - behind).reshape(formula.shape) / 2e-5, formula),
        "exact penalty": apart(exact, formula),
        "expected estimator": apart(expected, formula),
    }
    shown = ", ".join(f"{name} {part.error:.2g}" for name, part in parts.items())
    return worst(*parts.values(), detail=shown)


ESTIMATES = 50
"""Independent estimates of one gradient: enough for a mean and its standard error."""


@claim(
    "C9",
    "statistical",
    source="HyPO's algorithm",
    stated="paper",
    # Standard errors, of the largest of fifteen means.
    tolerance=7.0,
    examples=10,
    given={
        "instance": instances(),
        "samples": st.integers(2, 3),
        "seed": st.integers(0, 2**32 - 1),
        "own_samples": st.just(True),
    },
    breaks={"own_samples": st.just(False)},
)
def fresh_samples_descend_the_divergence(
    instance: Instance, samples: int, seed: int, own_samples: bool
) -> Verdict:
    """Responses that the current policy draws at each step give an unbiased estimate of the
    gradient of KL.
    """
    policy, reference, rho = instance.policy, instance.reference, instance.rho
    exact = kl_penalty(reference, weight=1.0, context_probs=rho)
    online = online_kl_penalty(
        reference,
        weight=1.0,
        seed=seed,
        prompts=500,
        samples=samples,
        context_probs=rho,
        sampler=None if own_samples else reference,
    )

    def slope(penalty: Penalty) -> np.ndarray:
        return gradient(lambda logits: penalty(TabularPolicy(logits)), policy.logits)

    estimates = np.stack([slope(online) for _ in range(ESTIMATES)])
    mean, stated = estimates.mean(axis=0), slope(exact)
    deviation = estimates.std(axis=0, ddof=1) / np.sqrt(ESTIMATES)
    return apart(
        mean,
        stated,
        # A policy that is the reference leaves nothing to estimate but rounding.
        scale=deviation + 1e-12,
        detail=f"off by {np.abs(mean - stated).max():.2g}, standard error {deviation.max():.2g}",
    )
