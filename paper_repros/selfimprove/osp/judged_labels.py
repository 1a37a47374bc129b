"""Training on soft, sampled and argmax labels of one judge, and online with judges of one's own."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.loops import self_preferring
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.policies import TabularPolicy
from prefsim.raters import judged_preference
from prefsim.solvers import gibbs_log_policy, gradient_descent

LABELS = ("soft", "sampled", "argmax")
BETA = 0.5
# The mean loss of all pairs curves by at most β²/4 · 8/28, so that steps of up to 112 converge.
STEP = 40.0
STEPS = 500
RESPONSES = 8
PAIRS = np.triu_indices(RESPONSES, 1)
N_PAIRS = PAIRS[0].size


class Paths(NamedTuple):
    """What happens along gradient descent, before and after each step: ``(T, labels, worlds)``.

    Attributes
    ----------
    kl
        KL(π*‖π) in nats.
    reward
        E_π r − E_π* r.
    distance
        Largest difference of log-probabilities from π*, which falls on where the KL is rounding.
    """

    kl: np.ndarray
    reward: np.ndarray
    distance: np.ndarray


def rewards_and_labels(
    seeds: Iterable[int], *, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return normal rewards ``(worlds, 8)`` and three kinds of labels of the pairs.

    The labels ``(3, worlds, 28)``, in the order of :data:`LABELS`, are of a judge of these rewards.
    """
    rewards, uniforms = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rewards.append(rng.standard_normal(RESPONSES))
        uniforms.append(rng.random(N_PAIRS))
    reward = np.asarray(rewards)
    prob = expit(temperature * (reward[:, PAIRS[0]] - reward[:, PAIRS[1]]))
    sampled, argmax = np.asarray(uniforms) < prob, prob > 0.5
    return reward, np.stack([prob, sampled, argmax])


def descend(labels: np.ndarray, steps: int, *, step: float = STEP) -> np.ndarray:
    """Return the logits ``(steps + 1, ..., 8)`` along gradient descent from zero.

    The loss is the mean over the labelled pairs ``(..., 28)``.
    """
    start = TabularPolicy.uniform(1, RESPONSES)
    prompt = np.zeros(N_PAIRS, dtype=np.int64)
    data = Comparisons(prompt, *PAIRS, chosen_score=labels, rejected_score=1 - labels)
    _, logits = gradient_descent(
        start,
        functools.partial(losses.spce, beta=BETA),
        data,
        reference=start,
        step=step,
        iterations=steps,
        record=lambda policy: to_numpy(policy.logits),
    )
    return np.stack(logits)[..., 0, :]


def train(seeds: Iterable[int], *, temperature: float = 1.0) -> Paths:
    """Train on each kind of labels and measure the way to π* ∝ e^{r/β}."""
    reward, labels = rewards_and_labels(seeds, temperature=temperature)
    log_uniform = np.full(reward.shape, -np.log(RESPONSES))
    target, _ = gibbs_log_policy(reward, log_uniform, beta=BETA)
    log_probs = log_softmax(descend(labels, STEPS))
    excess = (np.exp(log_probs) * reward).sum(axis=-1) - (np.exp(target) * reward).sum(axis=-1)
    distance = np.abs(log_probs - target).max(axis=-1)
    return Paths(categorical_kl(np.asarray(target), log_probs), excess, distance)


def predicted_decay(seeds: Iterable[int]) -> np.ndarray:
    """Return the factor by which a step on soft labels shrinks the distance, ``(worlds,)``.

    In the end, by the slowest direction of the loss's second derivative at the optimum,
    β²/28 Σ p(1 − p)(e_i − e_j)(e_i − e_j)ᵀ.
    """
    _, (soft, _, _) = rewards_and_labels(seeds)
    ends = np.eye(RESPONSES)[PAIRS[0]] - np.eye(RESPONSES)[PAIRS[1]]
    curvature = BETA**2 / N_PAIRS * np.einsum("wp,pi,pj->wij", soft * (1 - soft), ends, ends)
    # The smallest eigenvalue is the zero of a constant added to all logits.
    slowest: np.ndarray = np.linalg.eigvalsh(curvature)[:, 1]
    return 1 - STEP * slowest


def measured_decay(distance: np.ndarray, *, over: int = 10, least: float = 1e-9) -> np.ndarray:
    """Return the factor by which a step shrinks ``distance`` ``(T, worlds)``, ``(worlds,)``.

    Over the last ``over`` steps before it falls below ``least``, where rounding begins to count.
    """
    factors = []
    for path in distance.T:
        end = int(np.flatnonzero(path > least)[-1])
        factors.append((path[end] / path[end - over]) ** (1 / over))
    return np.asarray(factors)


def online(
    temperature: float, seeds: Iterable[int], *, rounds: int = 10, draws: int = 16, epochs: int = 30
) -> np.ndarray:
    """Return the mean KL(π*_c‖π) before and after each round, ``(worlds, rounds + 1)``.

    π*_c ∝ π_ref e^{cr/β} is the optimum of a judge of temperature c; all pairs of a round's samples
    are judged. The judge favours what it is shown first, and is asked in both orders.
    """
    distances = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        reward = rng.standard_normal((3, 6))
        start = TabularPolicy.random(3, 6, seed=rng, concentration=5.0)
        target, _ = gibbs_log_policy(temperature * reward, start.log_probs, beta=1.0)
        judge = judged_preference(
            reward, temperature=temperature, position_bias=1.5, average="logit"
        )
        history = self_preferring(
            start,
            judge,
            rounds=rounds,
            draws=draws,
            beta=1.0,
            step=4.0,
            epochs=epochs,
            seed=rng,
        )
        policies = [start, *(made.policy for made in history)]
        distances.append(
            [categorical_kl(target, to_numpy(policy.log_probs)).mean() for policy in policies]
        )
    return np.asarray(distances)
