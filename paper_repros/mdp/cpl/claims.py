"""What the paper says about the maximum-entropy expert and the loss that recovers it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.cpl.learning import cpl_policies
from prefsim import losses
from prefsim.data import Segments
from prefsim.data.trajectories import enumerate_trajectories
from prefsim.gradients import loss_gradient
from prefsim.losses import PairLogps, TokenPairLogps
from prefsim.losses.segments import cpl, segment_contrast, segment_scores
from prefsim.numerics import log_softmax, sigmoid
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.raters.regret import partial_return_preference, segment_return
from prefsim.solvers.planning import policy_iteration, soft_value_iteration
from prefsim.testing.bandits import tables
from prefsim.testing.segments import (
    SegmentProcess,
    potentials,
    segment_pairs,
    segment_processes,
    token_pair_logps,
)
from prefsim.worlds import TabularMDP

ALPHAS = st.floats(0.2, 2.0)
BELOW_ONE = st.floats(0.1, 0.9)

# --- the maximum-entropy expert ---


def soft_advantage(mdp: TabularMDP, alpha: float) -> np.ndarray:
    """Return the advantages ``(S, A)`` of the maximum-entropy expert."""
    return np.asarray(soft_value_iteration(mdp, temperature=alpha).advantage)


def hard_advantage(mdp: TabularMDP, alpha: float) -> np.ndarray:
    """Return the optimal advantages ``(S, A)``, whatever the temperature."""
    return np.asarray(policy_iteration(mdp).advantage)


@claim(
    "soft_advantage",
    "identity",
    source="section 2",
    stated="paper",
    tolerance=1e-11,
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
    policy = np.asarray(soft_value_iteration(process.mdp, temperature=alpha).policy)[alive]
    return worst(
        apart(np.exp(advantage / alpha).sum(axis=-1), 1.0),
        apart(advantage, alpha * np.log(policy), scale=alpha),
    )


class Policied(NamedTuple):
    """A process and log-probabilities ``(S, A)`` of a policy in it."""

    process: SegmentProcess
    log_policy: np.ndarray


def policied() -> st.SearchStrategy[Policied]:
    """Processes with a policy of full support."""
    return segment_processes().flatmap(
        lambda process: tables(process.mdp.reward.shape, low=-3, high=3).map(
            lambda logits: Policied(process, log_softmax(logits))
        )
    )


@claim(
    "bijection",
    "identity",
    source="proposition 1",
    stated="paper",
    tolerance=1e-11,
    given={"policied": policied(), "alpha": ALPHAS},
)
def every_policy_is_optimal_for_a_reward(policied: Policied, alpha: float) -> Verdict:
    """Every policy p > 0 is optimal for the reward α log p, whose soft value is zero."""
    mdp = policied.process.mdp
    alive = ~np.asarray(mdp.terminal)
    reward = np.where(alive[:, None], alpha * policied.log_policy, 0.0)
    found = soft_value_iteration(mdp.with_reward(reward), temperature=alpha)
    return worst(
        apart(found.value, 0.0),
        apart(np.asarray(found.policy)[alive], np.exp(policied.log_policy)[alive]),
    )


class Shaped(NamedTuple):
    """A process and a potential ``(S,)`` that shapes its reward."""

    process: SegmentProcess
    potential: np.ndarray


def shaped() -> st.SearchStrategy[Shaped]:
    """Processes with potentials that are zero where the episode ends."""
    return segment_processes(max_actions=2).flatmap(
        lambda process: st.builds(Shaped, st.just(process), potentials(process.mdp))
    )


def rewards(mdp: TabularMDP, alpha: float) -> np.ndarray:
    """Return the rewards ``(S, A)``, whatever the temperature."""
    return np.asarray(mdp.reward)


@claim(
    "shaping",
    "invariance",
    source="section 2",
    stated="paper",
    tolerance=1e-11,
    given={"shaped": shaped(), "alpha": ALPHAS, "worth_of": st.just(soft_advantage)},
    breaks={"worth_of": st.just(rewards)},
)
def shaping_moves_no_preference(
    shaped: Shaped, alpha: float, worth_of: Callable[..., np.ndarray]
) -> Verdict:
    """Potential-based shaping changes neither the expert nor any preference by advantages."""
    ways, mdp = enumerate_trajectories(*shaped.process), shaped.process.mdp
    preferences, policies = [], []
    for reshaped in (mdp, mdp.shaped(shaped.potential)):
        worth = worth_of(reshaped, alpha)[ways.states[:, :-1], ways.actions]
        score = segment_return(worth, ways.mask, discount=mdp.discount)
        preferences.append(partial_return_preference(score[:, None], score))
        policies.append(soft_value_iteration(reshaped, temperature=alpha).policy)
    return worst(apart(*preferences), apart(*policies))


# --- what the loss recovers ---


@claim(
    "consistency",
    "consistency",
    source="theorem 1",
    stated="paper",
    tolerance=1e-6,
    examples=10,
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
        detail=f"λ = {lambda_}, γ = {assumed:.3g} for {mdp.discount:.3g}, {len(data)} pairs of"
        f" {length} steps",
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


def loss_of(table: np.ndarray, segments: Segments, *, lambda_: float) -> float:
    """Return the objective of a table ``(S, A)`` of anything in the place of log-probabilities."""
    first, second = np.moveaxis(segments.returns(table, discount=0.9), -1, 0)
    forth = segments.prob * segment_contrast(first, second, lambda_=lambda_)
    back = (1 - segments.prob) * segment_contrast(second, first, lambda_=lambda_)
    return float(segments.weight @ (forth + back))


def unchanged(table: np.ndarray) -> np.ndarray:
    """Return a table of log-probabilities as it is."""
    return table


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
    tolerance=1e-11,
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
    tolerance=1e-10,
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
