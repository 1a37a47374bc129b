"""What the paper says about the maximum-entropy expert and the loss that recovers it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.cpl.continuous import Plane
from paper_repros.mdp.cpl.instances import (
    Policied,
    Shaped,
    hard_advantage,
    loss_of,
    nats,
    pairs_of,
    planes,
    policied,
    rewards,
    shaped,
    soft_advantage,
    soft_plan,
    squared_and_gaussian,
    unchanged,
)
from paper_repros.mdp.cpl.learning import behaviour_cloning, cpl_policies, preferred_cloning
from prefsim import losses
from prefsim.data import Segments
from prefsim.data.trajectories import enumerate_trajectories
from prefsim.gradients import loss_gradient
from prefsim.losses import PairLogps, TokenPairLogps
from prefsim.losses.segments import cpl, segment_scores
from prefsim.numerics import log_softmax, sigmoid
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.raters.regret import partial_return_preference, segment_return
from prefsim.solvers import fit
from prefsim.solvers.planning import soft_value_iteration
from prefsim.testing.bandits import tables
from prefsim.testing.segments import (
    SegmentProcess,
    segment_pairs,
    segment_processes,
    token_pair_logps,
)

ALPHAS = st.floats(0.2, 2.0)
BELOW_ONE = st.floats(0.1, 0.9)

# --- the maximum-entropy expert ---


@claim(
    "soft_advantage",
    "identity",
    source="section 2",
    stated="paper",
    given={
        "process": segment_processes(),
        "alpha": ALPHAS,
        "advantage_of": st.just(soft_advantage),
    },
    breaks={"advantage_of": st.just(hard_advantage)},
)
def advantages_are_log_probabilities(
    process: SegmentProcess, alpha: float, advantage_of: Callable[..., np.ndarray]
) -> Verdict:
    """Under soft optimality exp(A*/α) sums to one over the actions, and A* = α log π*."""
    alive = ~np.asarray(process.mdp.terminal)
    advantage = advantage_of(process.mdp, alpha)[alive]
    plan = soft_plan(process.mdp, alpha)
    scale = nats(plan.value, alpha)
    return worst(
        apart(np.exp(advantage / alpha).sum(axis=-1), 1.0, scale=scale),
        apart(advantage / alpha, np.log(np.asarray(plan.policy)[alive]), scale=scale),
    )


@claim(
    "bijection",
    "identity",
    source="proposition 1",
    stated="paper",
    given={"policied": policied(), "alpha": ALPHAS},
)
def every_policy_is_optimal_for_a_reward(policied: Policied, alpha: float) -> Verdict:
    """Every policy p > 0 is optimal for the reward α log p, whose soft value is zero."""
    mdp = policied.process.mdp
    alive = ~np.asarray(mdp.terminal)
    reward = np.where(alive[:, None], alpha * policied.log_policy, 0.0)
    found = soft_plan(mdp.with_reward(reward), alpha)
    return worst(
        apart(found.value, 0.0),
        apart(np.asarray(found.policy)[alive], np.exp(policied.log_policy)[alive]),
    )


@claim(
    "shaping",
    "invariance",
    source="section 2",
    stated="paper",
    given={"shaped": shaped(), "alpha": ALPHAS, "worth_of": st.just(soft_advantage)},
    breaks={"worth_of": st.just(rewards)},
)
def shaping_moves_no_preference(
    shaped: Shaped, alpha: float, worth_of: Callable[..., np.ndarray]
) -> Verdict:
    """Potential-based shaping changes neither the expert nor any preference by advantages."""
    ways, mdp = enumerate_trajectories(*shaped.process), shaped.process.mdp
    preferences, policies, scales = [], [], []
    for reshaped in (mdp, mdp.shaped(shaped.potential)):
        worth = worth_of(reshaped, alpha)[ways.states[:, :-1], ways.actions]
        score = segment_return(worth, ways.mask, discount=mdp.discount)
        preferences.append(partial_return_preference(score[:, None], score))
        plan = soft_plan(reshaped, alpha)
        policies.append(plan.policy)
        scales.append(nats(plan.value, alpha))
    return worst(apart(*preferences, scale=max(scales)), apart(*policies, scale=max(scales)))


# --- what the loss recovers ---


@claim(
    "consistency",
    "consistency",
    source="theorem 1",
    stated="paper",
    tolerance=1e-6,
    examples=6,
    given={
        "process": segment_processes(
            min_states=2,
            max_states=3,
            min_actions=2,
            max_actions=2,
            max_length=2,
            deterministic=True,
            scale=1.0,
        ),
        "alpha": st.floats(0.5, 1.5),
        "lambda_": st.just(1.0),
        "discount_off_by": st.just(0.0),
    },
    breaks=({"lambda_": st.just(0.5)}, {"discount_off_by": st.just(0.5)}),
)
def population_recovers_the_expert(
    process: SegmentProcess, alpha: float, lambda_: float, discount_off_by: float
) -> Verdict:
    """The population loss with λ = 1 and the labels' own discount is minimised by the expert."""
    mdp, length = process
    expert = soft_value_iteration(mdp, temperature=alpha)
    data = Segments.population(mdp, length, scores=expert.advantage, discount=mdp.discount)
    assumed = abs(mdp.discount - discount_off_by)
    fitted = cpl_policies(data, *mdp.reward.shape, lambda_=lambda_, alpha=alpha, discount=assumed)
    alive = ~np.asarray(mdp.terminal)
    return apart(
        fitted[alive],
        np.asarray(expert.policy)[alive],
        detail=f"λ = {lambda_}, γ = {assumed:.3g} for {mdp.discount:.3g}, {len(data)} pairs",
    )


@claim(
    "dpo",
    "equivalence",
    source="section 3.2",
    stated="paper",
    given={
        "logps": token_pair_logps(max_length=1),
        "alpha": ALPHAS,
        "lambda_": st.just(1.0),
    },
    breaks={"lambda_": BELOW_ONE},
)
def one_step_is_dpo(logps: TokenPairLogps, alpha: float, lambda_: float) -> Verdict:
    """On one-step segments from one state the loss is DPO with β = α, and without a reference DPO
    without one.
    """
    nothing = np.zeros_like(logps.chosen)
    parts = []
    for steps in (logps, logps._replace(ref_chosen=nothing, ref_rejected=nothing)):
        pairs = PairLogps(
            chosen=steps.chosen[:, 0],
            rejected=steps.rejected[:, 0],
            ref_chosen=steps.ref_chosen[:, 0],
            ref_rejected=steps.ref_rejected[:, 0],
        )
        loss = cpl(steps, alpha=alpha, lambda_=lambda_)
        parts.append(apart(loss, losses.dpo(pairs, beta=alpha)))
    return worst(*parts)


# --- the shape of the loss ---


@claim(
    "convexity",
    "inequality",
    source="appendix, convexity",
    stated="paper",
    given={
        "pair": tables((2, 3, 2), low=-5, high=0),
        "segments": segment_pairs(),
        "lambda_": st.floats(0.1, 1.0),
        "log_probs_of": st.just(unchanged),
    },
    # Logits, in which the loss is not convex: one step compared with one from another state.
    breaks={
        "pair": tables((2, 3, 2), low=-5, high=5),
        "segments": st.just(Segments(states=[[[0, 2], [1, 2]]], actions=[[[0], [0]]])),
        "log_probs_of": st.just(log_softmax),
    },
)
def is_convex_in_the_log_probabilities(
    pair: np.ndarray,
    segments: Segments,
    lambda_: float,
    log_probs_of: Callable[[np.ndarray], np.ndarray],
) -> Verdict:
    """The loss is convex in the table of log-probabilities."""
    first, second, middle = (
        loss_of(log_probs_of(table), segments, lambda_=lambda_) for table in (*pair, pair.mean(0))
    )
    return above(middle, 0.5 * (first + second))


@claim(
    "flat_directions",
    "invariance",
    source="appendix, convexity",
    stated="paper",
    given={
        "start": tables((3, 2), low=-3, high=0),
        "direction": tables((3, 2), low=-3, high=0),
        "segments": segment_pairs(),
        "share_removed": st.just(1.0),
    },
    breaks={"share_removed": st.just(0.0)},
)
def is_flat_where_nothing_is_compared(
    start: np.ndarray, direction: np.ndarray, segments: Segments, share_removed: float
) -> Verdict:
    """It is not strictly convex: directions that no compared difference sees change nothing."""
    steps = segments.step_features(np.eye(6).reshape(3, 2, 6))
    visits = np.einsum("nktd,t->nkd", steps, 0.9 ** np.arange(segments.length))
    compared, way = visits[:, 0] - visits[:, 1], direction.reshape(-1)
    seen = np.linalg.pinv(compared, rcond=1e-10) @ (compared @ way)
    step = (way - share_removed * seen).reshape(3, 2)
    before, after = (loss_of(table, segments, lambda_=1.0) for table in (start, start + step))
    return apart(after, before, detail=f"moved by {np.abs(step).max():.3g}")


@claim(
    "conservatism",
    "monotone",
    source="proposition 2",
    stated="paper",
    tolerance=1e-8,
    given={
        "logps": token_pair_logps(),
        "alpha": st.floats(0.2, 1.0),
        "lambda_": BELOW_ONE,
        "constant": st.floats(-3, 3),
    },
    breaks={"lambda_": st.just(1.0)},
)
def likelier_segments_cost_less(
    logps: TokenPairLogps, alpha: float, lambda_: float, constant: float
) -> Verdict:
    """Raising both scores by c changes the loss at the rate −(1−λ) σ(λv₋ − v₊ + (λ−1)c), which is
    negative for λ < 1.
    """

    def raised(c: float) -> np.ndarray:
        lift = np.where(np.arange(logps.chosen.shape[-1]) == 0, c / alpha, 0.0)
        moved = logps._replace(chosen=logps.chosen + lift, rejected=logps.rejected + lift)
        return cpl(moved, alpha=alpha, lambda_=lambda_)

    step = 1e-4
    slope = (raised(constant + step) - raised(constant - step)) / (2 * step)
    chosen, rejected = segment_scores(logps, alpha=alpha)
    rate = -(1 - lambda_) * sigmoid(lambda_ * rejected - chosen + (lambda_ - 1) * constant)
    return worst(
        apart(slope, rate),
        float((rate >= 0).sum()),
        detail=f"steepest {rate.min():.3g}, least {rate.max():.3g}",
    )


@claim(
    "gradient",
    "identity",
    source="section 3.1",
    stated="derived",
    given={
        "logps": token_pair_logps(),
        "alpha": st.floats(0.2, 1.0),
        "lambda_": st.floats(0.1, 1.0),
    },
)
def gradient_weighs_by_the_mistake(logps: TokenPairLogps, alpha: float, lambda_: float) -> Verdict:
    """The gradient is −σ(λv₋ − v₊)(∇v₊ − λ∇v₋)."""
    loss = functools.partial(cpl, alpha=alpha, lambda_=lambda_, discount=0.9)
    slope = loss_gradient(loss, logps)
    chosen, rejected = segment_scores(logps, alpha=alpha, discount=0.9)
    mistake = sigmoid(lambda_ * rejected - chosen)[:, None]
    step = mistake * alpha * 0.9 ** np.arange(logps.chosen.shape[-1])
    return worst(
        apart(slope.chosen, -step * logps.chosen_mask),
        apart(slope.rejected, lambda_ * step * logps.rejected_mask),
    )


# --- lists of segments, policies that are a mean, and cloning first ---


@claim(
    "ranked",
    "identity",
    source="section 4, dense comparisons",
    stated="derived",
    given={
        "logps": tables((2, 2, 5), low=-6.0, high=0.0),  # of policy and reference
        "order": st.permutations(range(5)),
        "alpha": ALPHAS,
        "lambda_": st.floats(0.1, 1.0),
        "upwards": st.just(True),
    },
    breaks={"upwards": st.just(False)},
)
def a_list_is_all_its_pairs(
    logps: np.ndarray, order: list[int], alpha: float, lambda_: float, upwards: bool
) -> Verdict:
    """The loss of a scored list is the mean of CPL over its pairs, the higher score preferred."""
    scores = np.array([order, order[::-1]], dtype=float)
    lists = losses.ListLogps(logps[0], logps[1], scores if upwards else -scores)
    value = losses.segments.cpl_ranked(lists, alpha=alpha, lambda_=lambda_)
    pairs = pairs_of(logps[0], logps[1], scores)
    return apart(value, cpl(pairs, alpha=alpha, lambda_=lambda_).mean(axis=-1))


@claim(
    "mean_alone",
    "equivalence",
    source="appendix, implementation",
    stated="derived",
    given={
        "plane": planes(),
        "seed": st.integers(0, 2**32 - 1),
        "gain": tables((2, 2), low=-2.0, high=2.0),
        "lambda_": st.just(1.0),
    },
    breaks={"lambda_": BELOW_ONE},
)
def squared_errors_are_a_gaussian(
    plane: Plane, seed: int, gain: np.ndarray, lambda_: float
) -> Verdict:
    """Squared distances from a mean, in the place of log-probabilities, give the loss of a Gaussian
    of variance 1/2, for λ = 1 and segments of one length: its constant cancels.
    """
    found, gaussian = squared_and_gaussian(plane, seed, gain, lambda_=lambda_)
    return apart(found, gaussian, relative=True)


@claim(
    "expert_of_a_plane",
    "consistency",
    source="theorem 1, for continuous actions",
    stated="derived",
    tolerance=1e-6,
    examples=5,
    given={"plane": planes(), "seed": st.integers(0, 2**32 - 1), "times_alpha": st.just(1.0)},
    breaks={"times_alpha": st.just(2.0)},
)
def squared_errors_recover_the_expert(plane: Plane, seed: int, times_alpha: float) -> Verdict:
    """Of linear means the best one for segments of the plane is the expert's, and its loss is the
    entropy of the labels.
    """
    data, (_, advantage) = plane.draw(60, seed), plane.curvatures()
    options = {"alpha": times_alpha * advantage, "discount": plane.discount}
    expert = plane.gain()
    return worst(
        apart(data.fitted_gain(**options), expert),
        apart(data.loss(expert, **options), data.entropy()),
    )


@claim(
    "cloning",
    "minimiser",
    source="section 4, pretraining with behaviour cloning",
    stated="derived",
    tolerance=1e-6,
    examples=6,
    given={
        "policied": policied(terminal=False, max_states=3),
        "cloned": st.just(behaviour_cloning),
    },
    # The preferred segments alone, of a rater who prefers what is likely; or a mean over steps
    # where some segments have fewer.
    breaks=(
        {"cloned": st.just(preferred_cloning)},
        {"policied": policied(terminal=True, min_states=3, max_states=3, max_actions=2)},
    ),
)
def the_first_phase_ends_at_the_behaviour(
    policied: Policied, cloned: Callable[[TokenPairLogps], np.ndarray]
) -> Verdict:
    """Behaviour cloning on all pairs of segments of one length ends at the policy that drew them,
    whatever the labels.
    """
    ((mdp, length), log_policy), behaviour = policied, TabularPolicy(policied.log_policy)
    data = Segments.population(mdp, length, scores=log_policy, policy=behaviour)
    found = fit(TabularPolicy(0 * log_policy), cloned, data).policy.probs
    alive = ~np.asarray(mdp.terminal)
    return apart(found[alive], behaviour.probs[alive])
