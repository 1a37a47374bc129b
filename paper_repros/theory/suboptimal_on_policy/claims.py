"""Where mass goes in a step, what best-of-n can reach, and what depends on the order alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from paper_repros.theory.suboptimal_on_policy.didactic import (
    PUSH,
    SAMPLES,
    Bandit,
    Path,
    bump,
    dpo,
    dpo_loss,
    imitate_best,
    reinforce,
    squashed_cauchy,
    train,
)
from prefsim.analysis import kl_gradients, logarithmic_mean, regularised_value
from prefsim.gradients import gradient
from prefsim.numerics import categorical_kl, log_softmax, logsumexp, sigmoid
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import optimal_policy
from prefsim.solvers.closed_forms.self_training import best_of_n
from prefsim.solvers.optimisers.policy_gradient import score_gradient
from prefsim.testing import bandits_with_reference, betas
from prefsim.testing.bandits import tables
from prefsim.worlds import ContextualBandit

Y = 6
LAWS = tables((Y,), low=-3.0, high=3.0).map(log_softmax)
REWARDS = tables((Y,), low=-2.0, high=2.0)
INSTANCES = bandits_with_reference(n_contexts=2, n_responses=Y)
COUNTS = st.integers(2, 12)


# --- the two directions of the divergence ---


@claim(
    "C1",
    "identity",
    source="section 6, lemma on the gradients",
    stated="paper",
    given={"log_policy": LAWS, "log_target": LAWS},
)
def gradients_of_both_divergences(log_policy: np.ndarray, log_target: np.ndarray) -> Verdict:
    """In the logits ∇KL(q‖π) = π − q and ∇KL(π‖q) = π (log(π/q) − KL(π‖q))."""
    target = torch.as_tensor(log_target)
    found = kl_gradients(log_policy, log_target)
    forward = gradient(lambda z: categorical_kl(target, log_softmax(z)), log_policy)
    reverse = gradient(lambda z: categorical_kl(log_softmax(z), target), log_policy)
    return worst(apart(found.forward, forward), apart(found.reverse, reverse))


@claim(
    "C2",
    "equivalence",
    source="theorem 6.5",
    stated="derived",
    given={
        "log_policy": LAWS,
        "log_target": LAWS,
        "step": st.floats(0.01, 5.0),
        "ahead": st.just(0.0),
    },
    breaks={"ahead": st.floats(0.5, 2.0)},
)
def the_reverse_direction_relocates_faster_above_the_logarithmic_mean(
    log_policy: np.ndarray, log_target: np.ndarray, step: float, ahead: float
) -> Verdict:
    """Of two responses of equal probability p, a step down the reverse divergence separates the
    likelier one under the target more than a step down the forward one exactly if p exceeds the
    logarithmic mean of both target probabilities; by e^{η log(q₁/q₂)(p − mean)}.
    """
    level = log_softmax(np.concatenate([log_policy[:1] + ahead, log_policy[:1], log_policy[2:]]))
    slopes = kl_gradients(level, log_target)
    forward, reverse = (log_softmax(level - step * slope) for slope in slopes)
    faster = (reverse[0] - reverse[1]) - (forward[0] - forward[1])
    between = float(logarithmic_mean(log_target[0], log_target[1]))
    expected = step * (log_target[0] - log_target[1]) * (np.exp(level[0]) - between)
    return apart(
        faster,
        expected,
        relative=True,
        detail=f"p = {np.exp(level[0]):.4g}, logarithmic mean {between:.4g}",
    )


@claim(
    "C3",
    "identity",
    source="section 6, on the objectives",
    stated="paper",
    given={"instance": INSTANCES, "beta": betas(0.2, 3.0), "law": tables((2, Y), low=-2, high=2)},
)
def regularised_reward_is_a_reverse_divergence(
    instance: tuple[ContextualBandit, TabularPolicy], beta: float, law: np.ndarray
) -> Verdict:
    """The regularised reward is its best value less β KL(π‖π*): mode seeking."""
    world, reference = instance
    reward = np.asarray(world.reward)
    log_policy, log_reference = log_softmax(law), reference.log_probs
    optimum = np.log(optimal_policy(reward, reference.probs, beta=beta))
    value = regularised_value(log_policy, log_reference, world, beta=beta)
    best = beta * logsumexp(log_reference + reward / beta)
    lost = beta * categorical_kl(log_policy, optimum)
    return apart(value, world.context_probs @ (best - lost), relative=True)


@claim(
    "C3-weighted",
    "identity",
    source="section 6, on the objectives",
    stated="paper",
    given={
        "instance": INSTANCES,
        "beta": betas(0.2, 3.0),
        "first": tables((2, Y), low=-2, high=2),
        "second": tables((2, Y), low=-2, high=2),
        "sampling": st.none(),
    },
    breaks={"sampling": tables((2, Y), low=-2, high=2)},
)
def weighted_imitation_is_a_forward_divergence(
    instance: tuple[ContextualBandit, TabularPolicy],
    beta: float,
    first: np.ndarray,
    second: np.ndarray,
    sampling: Any,
) -> Verdict:
    """Likelihood weighted by e^{r/β} on samples of the reference orders policies as −KL(π*‖π) does:
    mode covering.
    """
    world, reference = instance
    reward = np.asarray(world.reward)
    optimum = np.log(optimal_policy(reward, reference.probs, beta=beta))
    from_law = reference.log_probs if sampling is None else log_softmax(sampling)
    weight = np.exp(from_law + reward / beta)
    weight = weight / weight.sum(axis=-1, keepdims=True)
    policies = log_softmax(first), log_softmax(second)
    likelihoods = [(weight * law).sum(axis=-1) for law in policies]
    divergences = [categorical_kl(optimum, law) for law in policies]
    return apart(likelihoods[0] - likelihoods[1], divergences[1] - divergences[0], relative=True)


# --- the methods ---

POSITIONS = tables((100,), low=-1.0, high=1.0)


@claim(
    "C5",
    "identity",
    source="section 3, the losses",
    stated="derived",
    given={
        "method": st.sampled_from(["best of n", "worst pushed"]),
        "moved": POSITIONS,
        "on_policy": st.booleans(),
        "target": st.just(1),
    },
    breaks={"target": st.just(-1)},
)
def imitation_descends_the_forward_divergence_to_the_best(
    method: str, moved: np.ndarray, on_policy: bool, target: int
) -> Verdict:
    """Imitating the best of n descends KL(B‖π), B their law; pushing the worst down adds an ascent
    of KL(W‖π).
    """
    world = Bandit(squashed_cauchy(), target * bump(70.0))
    push = PUSH if method == "worst pushed" else 0.0
    log_policy = log_softmax(world.log_data + moved)
    samples = log_policy if on_policy else world.log_data
    best, worst_of = (best_of_n(sign * bump(70.0), samples, SAMPLES) for sign in (1, -1))
    pulled = kl_gradients(log_policy, best).forward
    pushed = kl_gradients(log_policy, worst_of).forward
    found = imitate_best(push)(world)(log_policy, samples)
    return apart(found, pulled - push * pushed, detail=method)


@claim(
    "C5-reward",
    "identity",
    source="section 3, the losses",
    stated="paper",
    given={"moved": POSITIONS, "on_policy": st.just(True)},
    breaks={"on_policy": st.just(False)},
)
def the_policy_gradient_ascends_the_reward(moved: np.ndarray, on_policy: bool) -> Verdict:
    """On its own samples the policy gradient is that of the expected reward."""
    world = Bandit(squashed_cauchy(), bump(70.0))
    log_policy = log_softmax(world.log_data + moved)
    found = reinforce(world)(log_policy, log_policy if on_policy else world.log_data)
    reward = torch.as_tensor(world.reward)
    return apart(found, gradient(lambda z: -(log_softmax(z).exp() * reward), log_policy))


@claim(
    "C5-pairs",
    "identity",
    source="section 3, the losses",
    stated="derived",
    given={"moved": POSITIONS, "beta": betas(0.05, 3.0)},
)
def dpo_descends_on_all_pairs(moved: np.ndarray, beta: float) -> Verdict:
    """DPO on all pairs moves each response by β times how unsure the policy is of the order."""
    world = Bandit(squashed_cauchy(), bump(70.0))
    log_policy = log_softmax(world.log_data + moved)
    ratio = log_policy - world.log_data
    wins = np.sign(world.reward[:, None] - world.reward)
    unsure = sigmoid(-beta * wins * (ratio[:, None] - ratio))
    law = np.exp(world.log_data)
    expected = -2 * beta * law * ((wins * unsure) @ law)
    return apart(dpo(beta)(world)(log_policy, world.log_data), expected)


# --- best of n ---


@claim(
    "C4",
    "identity",
    source="section 5, iterated best-of-n",
    stated="derived",
    given={"log_policy": LAWS, "reward": REWARDS, "n": COUNTS, "m": COUNTS, "again": st.none()},
    breaks={"again": REWARDS},
)
def the_best_of_the_best_is_the_best_of_all(
    log_policy: np.ndarray, reward: np.ndarray, n: int, m: int, again: Any
) -> Verdict:
    """Imitating the best of m samples of the best of n is imitating the best of nm."""
    once = best_of_n(reward, log_policy, n)
    twice = best_of_n(reward if again is None else again, once, m)
    return apart(np.exp(twice), np.exp(best_of_n(reward, log_policy, n * m)))


@claim(
    "C4-limit",
    "limit",
    source="section 5, iterated best-of-n",
    stated="derived",
    given={
        "log_policy": LAWS,
        "reward": REWARDS,
        "n": COUNTS,
        "rounds": st.integers(1, 6),
        "samples_anew": st.just(True),
    },
    breaks={"samples_anew": st.just(False), "rounds": st.integers(2, 6)},
)
def sampling_anew_reaches_the_best_response(
    log_policy: np.ndarray, reward: np.ndarray, n: int, rounds: int, samples_anew: bool
) -> Verdict:
    """After k rounds of imitating the best of n of one's own samples the best responses are missed
    with probability (1 − p)^(n^k), which on samples of the first policy stays (1 − p)^n.
    """
    law = log_policy
    for _ in range(rounds):
        law = best_of_n(reward, law if samples_anew else log_policy, n)
    best = reward == reward.max()
    missed, expected = (np.exp(x)[~best].sum() for x in (law, log_policy))
    return apart(missed, expected ** float(n) ** rounds, detail=f"{rounds} rounds of {n}")


# --- what a method reads of the reward ---


def _standardised(reward: np.ndarray, log_policy: np.ndarray) -> np.ndarray:
    policy = np.exp(log_policy)
    centred = reward - policy @ reward
    return np.asarray(centred / np.sqrt(policy @ centred**2))


@claim(
    "C6",
    "invariance",
    source="section 3, the losses",
    stated="derived",
    given={
        "log_policy": LAWS,
        "reward": REWARDS.filter(lambda reward: np.ptp(reward) > 0.1),
        "slope": st.floats(0.1, 10.0),
        "shift": st.floats(-5.0, 5.0),
    },
    breaks={"slope": st.floats(-10.0, -0.1)},
)
def standardised_rewards_have_no_unit(
    log_policy: np.ndarray, reward: np.ndarray, slope: float, shift: float
) -> Verdict:
    """The policy gradient of standardised rewards is the same for a r + b with any a > 0."""
    plain, moved = (
        score_gradient(_standardised(values, log_policy), log_policy)
        for values in (reward, slope * reward + shift)
    )
    return apart(moved, plain)


@claim(
    "C6-order",
    "invariance",
    source="section 3, the losses",
    stated="derived",
    given={
        "log_policy": LAWS,
        "reward": tables((Y,), low=-1.0, high=1.0),
        "n": COUNTS,
        "power": st.sampled_from([1, 3, 5]),
    },
    breaks={"power": st.sampled_from([2, 4])},
)
def best_of_n_reads_the_order_alone(
    log_policy: np.ndarray, reward: np.ndarray, n: int, power: int
) -> Verdict:
    """The best of n is the same for every increasing function of the reward, as are DPO's pairs."""
    # Coarse enough that no power brings two rewards together.
    coarse = np.round(reward, 2)
    found = best_of_n(coarse**power, log_policy, n)
    return apart(np.exp(found), np.exp(best_of_n(coarse, log_policy, n)))


# --- preference losses on fixed data ---

STEPS = 150


@claim(
    "C7",
    "counterexample",
    source="section 5, the geometry of the peak",
    stated="derived",
    tolerance=0.0,
    examples=6,
    given={
        "peak": st.floats(65.0, 75.0),
        "width": st.floats(8.0, 12.0),
        "location": st.floats(-0.75, -0.65),
        "beta": betas(0.05, 0.1),
    },
    breaks={"beta": betas(1.0, 3.0)},
)
def the_loss_falls_while_the_reward_falls(
    peak: float, width: float, location: float, beta: float
) -> Verdict:
    """Where the peak is far from the data and β small, DPO on fixed data lowers its loss and the
    reward, below what the data had.
    """
    world = Bandit(squashed_cauchy(location, 0.4), bump(peak, width))
    path = train(world, dpo(beta), rate=20.0, steps=STEPS, on_policy=False, record=STEPS)
    return _falls_together(world, path, beta)


def _falls_together(world: Bandit, path: Path, beta: float) -> Verdict:
    reward = path.rewards(world)
    loss = dpo_loss(world, path.log_policies, beta)
    return worst(
        above(reward[-1], reward[0]),
        above(loss[-1], loss[0]),
        detail=f"reward {reward[0]:.4f} to {reward[-1]:.4f}, loss {loss[0]:.4f} to {loss[-1]:.4f}",
    )
