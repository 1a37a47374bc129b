"""What the paper says about the pairwise policy gradient and its clipped loss."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.p3o.estimates import (
    enumerated_variance,
    fresh,
    ppo_slopes,
    ratio_descent,
    with_behaviour,
)
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.gradients import loss_gradient
from prefsim.losses.kl_estimators import rloo_kl
from prefsim.numerics import log_softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import objective
from prefsim.solvers.optimisers.policy_gradient import (
    pairwise_variance,
    regularised_reward,
    score_gradient,
    score_variance,
)
from prefsim.testing import (
    Contrast,
    betas,
    contrasts,
    regularised_reward_gap,
    scored_pair_logps,
    tables,
)
from prefsim.worlds import ContextualBandit

# --- the gradient over all pairs ---


@claim(
    "C1",
    "identity",
    source="theorem (PPG)",
    stated="paper",
    given={"contrast": contrasts().map(Contrast.on_policy)},
    breaks={"contrast": contrasts().map(lambda c: c._replace(log_first=c.log_policy))},
)
def fresh_pairs_give_the_policy_gradient(contrast: Contrast) -> Verdict:
    """½ E[(R_β(y₁) − R_β(y₂)) ∇(log π(y₁) − log π(y₂))] over pairs from π is ∇J, exactly."""
    loss = functools.partial(losses.p3o, beta=contrast.beta)
    # Without behaviour log-probabilities the pairs count as fresh ones.
    found = contrast.descent(loss, contrast.pairs().without_behaviour())
    return apart(found, contrast.value_gradient())


@claim(
    "C2",
    "identity",
    source="section 4",
    stated="paper",
    tolerance=1e-11,
    given={
        "contrast": contrasts(),
        "epsilon": st.just(math.inf),
        "weight_clip": st.just(math.inf),
    },
    breaks=({"epsilon": st.just(0.2)}, {"weight_clip": st.just(2.0)}),
)
def unclipped_it_is_exact_off_policy(
    contrast: Contrast, epsilon: float, weight_clip: float
) -> Verdict:
    """Off policy and unclipped, weighted by both ratios or with the ratios inside the gradient, it
    is still ∇J.
    """
    exact = contrast.value_gradient()
    loss = functools.partial(
        losses.p3o, beta=contrast.beta, epsilon=epsilon, weight_clip=weight_clip
    )
    scale = 1 + np.abs(exact).max()
    return worst(
        apart(contrast.descent(loss), exact, scale=scale),
        apart(ratio_descent(contrast), exact, scale=scale),
    )


# --- pairs whose behaviour policy is near, so that some are clipped and some are not ---


MOVES = tables((4,), low=-1.0, high=1.0)
STALE_PAIRS = st.builds(with_behaviour, scored_pair_logps(lowest=-6.0), MOVES, MOVES)
PAIRS = {"logps": STALE_PAIRS, "beta": betas(0.01, 0.5)}
CLIPS = st.sampled_from(["joint", "separate"])


@claim(
    "C3",
    "invariance",
    source="theorem (invariance)",
    stated="paper",
    given=PAIRS
    | {
        "clip": CLIPS,
        "constant": tables((4,), low=1.0, high=50.0),
        "share_of_the_second": st.just(1.0),
    },
    breaks={"share_of_the_second": st.just(0.0)},
)
def is_blind_to_what_a_prompt_adds(
    logps: Any,
    beta: float,
    clip: str,
    constant: np.ndarray,
    share_of_the_second: float,
) -> Verdict:
    """r + δ(x) leaves value and gradient of every pair alone."""
    loss = functools.partial(losses.p3o, beta=beta, clip=clip)
    moved = logps._replace(
        chosen_score=logps.chosen_score + constant,
        rejected_score=logps.rejected_score + share_of_the_second * constant,
    )
    value, slope, moved_slope = loss(logps), loss_gradient(loss, logps), loss_gradient(loss, moved)
    scale = 1 + np.abs(slope.chosen).max()
    return worst(
        apart(loss(moved), value, scale=1 + np.abs(value).max()),
        apart(moved_slope.chosen, slope.chosen, scale=scale),
        apart(moved_slope.rejected, slope.rejected, scale=scale),
    )


@claim(
    "C4",
    "invariance",
    source="derived",
    stated="derived",
    tolerance=1e-13,
    given=PAIRS | {"clip": CLIPS, "scale_q": st.just(False)},
    breaks={"scale_q": st.just(True)},
)
def order_of_a_pair_does_not_matter(
    logps: losses.PairLogps, beta: float, clip: str, scale_q: bool
) -> Verdict:
    """Exchanging the two responses of a pair changes nothing, unless q is scaled by its
    deviation.
    """
    # Of one pair only: the deviation of q would not see all of its signs turned.
    one = np.arange(logps.chosen.size) == 0
    exchanged = losses.PairLogps(
        *(
            None if own is None else np.where(one, other, own)
            for own, other in zip(logps, logps.swapped(), strict=True)
        )
    )
    loss = functools.partial(losses.p3o, beta=beta, clip=clip, scale_q=scale_q)
    value = loss(logps)
    return apart(loss(exchanged), value, scale=1 + np.abs(value).max())


@claim(
    "C5",
    "identity",
    source="derived",
    stated="derived",
    # Weights of at most e² in these pairs, so that C bounds some and not all.
    given=PAIRS
    | {"clip": st.just("joint"), "epsilon": st.floats(0.05, 0.5), "most": st.floats(1.0, 8.0)},
    breaks={"clip": st.just("separate")},
)
def stops_beyond_epsilon(
    logps: losses.PairLogps, beta: float, clip: str, epsilon: float, most: float
) -> Verdict:
    """V2's gradient is zero exactly if q (d − d_old) > ε |q|, and −½ q w ∇d otherwise, with the
    weight w between 1/C and C.
    """
    before = logps._replace(chosen=logps.old_chosen, rejected=logps.old_rejected)
    moved = losses.reward_margin(logps) - losses.reward_margin(before)
    q = regularised_reward_gap(logps, beta=beta)
    log_weight = logps.chosen + logps.rejected - before.chosen - before.rejected
    weight = np.clip(np.exp(log_weight), 1 / most, most)
    stated = np.where(q * moved > epsilon * np.abs(q), 0.0, -0.5 * q * weight)
    # On the edge itself there is no derivative.
    smooth = np.abs(np.abs(moved) - epsilon) > 1e-9
    loss = functools.partial(losses.p3o, beta=beta, epsilon=epsilon, weight_clip=most, clip=clip)
    slope = loss_gradient(loss, logps)
    scale = 1 + np.abs(stated).max()
    return worst(
        apart(np.where(smooth, slope.chosen, stated), stated, scale=scale),
        apart(np.where(smooth, slope.rejected, -stated), -stated, scale=scale),
    )


@claim(
    "C6",
    "identity",
    source="derived",
    stated="derived",
    given=PAIRS | {"logps": STALE_PAIRS.map(fresh), "clip": CLIPS},
    breaks={"logps": STALE_PAIRS},
)
def first_step_is_half_of_copg(logps: losses.PairLogps, beta: float, clip: str) -> Verdict:
    """On policy the gradient is half of CoPG's, and RLOO's for two samples."""

    def rloo(pairs: Any) -> Any:
        import torch

        own = torch.stack([pairs.chosen, pairs.rejected], dim=-1)
        tilted = [
            pairs.ref_chosen + pairs.chosen_score / beta,
            pairs.ref_rejected + pairs.rejected_score / beta,
        ]
        return beta * rloo_kl(own, torch.stack(tilted, dim=-1)).mean(-1)

    found = loss_gradient(functools.partial(losses.p3o, beta=beta, clip=clip), logps)
    copg = loss_gradient(functools.partial(losses.copg, beta=beta, form="gradient"), logps)
    leave_one_out = loss_gradient(rloo, logps)
    scale = 1 + np.abs(copg.chosen).max()
    return worst(
        apart(found.chosen, 0.5 * np.asarray(copg.chosen), scale=scale),
        apart(found.rejected, 0.5 * np.asarray(copg.rejected), scale=scale),
        apart(found.chosen, leave_one_out.chosen, scale=scale),
        apart(found.rejected, leave_one_out.rejected, scale=scale),
    )


# --- what a shift of the rewards does to estimates and to their preprocessing ---


@claim(
    "C3-variance",
    "identity",
    source="derived",
    stated="derived",
    given={
        "reward": tables((4,), low=-2.0, high=2.0),
        "log_policy": tables((4,), low=-1.5, high=1.5).map(log_softmax),
        "direction": st.just(np.ones(4)),
    },
    breaks={"direction": st.just(np.arange(4.0))},
)
def only_single_samples_feel_a_shift(
    reward: np.ndarray, log_policy: np.ndarray, direction: np.ndarray
) -> Verdict:
    """The variance of a pair's estimate is Var r − ‖∇‖² whatever δ; that of REINFORCE grows by
    δ²(1 − Σπ²) + O(δ).
    """
    policy, unit = np.exp(log_policy), np.eye(reward.size)
    i, j = np.indices(unit.shape).reshape(2, -1)
    parts = []
    for shift in (0.0, 10.0, 100.0):
        moved = reward + shift * direction
        single = enumerated_variance(moved[:, None] * (unit - policy), policy)
        pair = enumerated_variance(
            0.5 * (moved[i] - moved[j])[:, None] * (unit[i] - unit[j]), policy[i] * policy[j]
        )
        # E‖∇ log π‖² = 1 − Σπ² is the coefficient of δ².
        square = shift**2 * (1 - policy @ policy)
        linear = 2 * shift * (policy * reward) @ (1 - 2 * policy + policy @ policy)
        scale = 1 + np.abs(moved).max() ** 2
        parts += [
            apart(score_variance(moved, log_policy), single, scale=scale),
            apart(pairwise_variance(moved, log_policy), pair, scale=scale),
            apart(pairwise_variance(reward, log_policy), pair, scale=scale),
            apart(score_variance(reward, log_policy) + square + linear, single, scale=scale),
        ]
    return worst(*parts)


@claim(
    "C3-scale",
    "counterexample",
    source="derived",
    stated="chosen",
    tolerance=0.0,
    given={"seed": st.integers(0, 10**6), "spread": st.just(10.0)},
    breaks={"spread": st.just(0.0)},
)
def preprocessing_sees_a_shift(seed: int, spread: float) -> Verdict:
    """The trainer's preprocessing (clip to ±10, divide by the running deviation) is not blind to
    δ(x): a difference of scaled rewards moves by more than ½.
    """
    rng = np.random.default_rng(seed)
    reward, constant = rng.standard_normal((64, 2)), spread * rng.standard_normal((64, 1))
    before, after = (
        losses.RewardScale().updated(rewards).scaled(rewards)
        for rewards in (reward, reward + constant)
    )
    change = np.abs(np.diff(before) - np.diff(after)).max()
    return above(0.5, change, detail=f"differences of scaled rewards move by up to {change:.3g}")


@claim(
    "C8",
    "identity",
    source="preprocessing of rewards in the authors' trainer",
    stated="derived",
    given={
        # Not all beyond the same limit.
        "rewards": tables((3, 5), low=-15.0, high=15.0).filter(
            lambda drawn: bool(drawn.clip(-10.0, 10.0).std() > 0.1)
        ),
        "forgotten": st.just(0),
    },
    breaks={"forgotten": st.just(1)},
)
def scale_is_the_deviation_of_all_that_was_seen(rewards: np.ndarray, forgotten: int) -> Verdict:
    """Rewards are clipped to ±10 and divided by the deviation of the clipped ones of all batches so
    far; the mean is not taken away.
    """
    scale = losses.RewardScale()
    for batch in rewards[forgotten:]:
        scale = scale.updated(batch)
    clipped = rewards.clip(-10.0, 10.0)
    return apart(scale.scaled(rewards), clipped / clipped.std(ddof=1), relative=True)


SHIFT = np.asarray([[30.0], [-30.0]])  # of the two prompts


@claim(
    "C7",
    "invariance",
    source="section 3",
    stated="paper",
    given={"contrast": contrasts(), "baseline": st.just(0.0)},
    # The exact value of the prompt as baseline.
    breaks={"baseline": st.just(1.0)},
)
def a_shift_raises_the_variance_alone(contrast: Contrast, baseline: float) -> Verdict:
    """A shift δ moves neither Bradley–Terry likelihood nor expected policy gradient, but raises the
    variance of the sampled one (without a baseline) by δ²(1 − Σπ²) + 2δ π·R_β(1 − 2π + Σπ²).
    """
    rewards = contrast.reward, contrast.reward + SHIFT
    worlds = [ContextualBandit(reward=reward) for reward in rewards]
    policy, reference = TabularPolicy(contrast.log_policy), contrast.reference()
    likelihood, expected = [], []
    sampled: list[Any] = []
    for reward, world in zip(rewards, worlds, strict=True):
        data = Comparisons.population(world, reference)
        likelihood.append(objective(policy, losses.dpo, data, reference=reference))
        advantage = regularised_reward(
            reward, contrast.log_policy, contrast.log_reference, beta=contrast.beta
        )
        value = (np.exp(contrast.log_policy) * advantage).sum(axis=-1, keepdims=True)
        centred = advantage - baseline * value
        expected.append(score_gradient(centred, contrast.log_policy))
        sampled.append(score_variance(centred, contrast.log_policy))
    prob, alone = np.exp(contrast.log_policy), contrast.advantage()
    collision = (prob**2).sum(axis=-1, keepdims=True)
    linear = (prob * alone * (1 - 2 * prob + collision)).sum(axis=-1)
    risen = (SHIFT**2 * (1 - collision))[:, 0] + 2 * SHIFT[:, 0] * linear
    return worst(
        apart(*likelihood),
        apart(*(world.preference for world in worlds)),
        apart(*expected),
        apart(sampled[1] - sampled[0], risen, scale=1 + np.abs(SHIFT).max() ** 2),
        detail=f"variance {sampled[0].round(3)} to {sampled[1].round(3)}",
    )


@claim(
    "C7-clip",
    "counterexample",
    source="section 3",
    stated="derived",
    tolerance=0.0,
    examples=1,
    given={"baseline": st.just(0.0)},
    breaks={"baseline": st.just(1.0)},
)
def a_shift_changes_what_ppo_clips(baseline: float) -> Verdict:
    """A shift changes which samples PPO without a baseline clips; with the prompt's value it does
    not.
    """
    # Every ratio differs from one by more than ε, and there are rewards of either sign.
    old, new = np.log([0.25, 0.5, 0.25]), np.log([0.45, 0.35, 0.2])
    reward = np.asarray([1.0, -0.5, -1.0])
    ratio = np.exp(new - old)
    parts, decisions = [], []
    for shift in (0.0, 10.0):
        advantage = reward + shift - baseline * (np.exp(old) @ (reward + shift))
        clipped = ((advantage > 0) & (ratio > 1.2)) | ((advantage < 0) & (ratio < 0.8))
        parts.append(apart(ppo_slopes(new, old, advantage) == 0, clipped))
        decisions.append(clipped)
    changed = int((decisions[0] != decisions[1]).sum())
    return worst(*parts, above(1.0, changed), detail=f"{changed} of 3 clip decisions change")


# --- what sabotage cannot show ---

UNSEEN = {
    ("prefsim.losses.p3o", "swap"): "the loss of a pair is the same in either order, as C4 says",
}
