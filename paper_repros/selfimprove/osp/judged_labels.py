"""Training on soft, sampled and argmax labels of one judge, and online with judges of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from prefsim.backend import to_numpy
from prefsim.loops import self_preferring
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.policies import TabularPolicy
from prefsim.raters import judged_preference
from prefsim.solvers import gibbs_log_policy

LABELS = ("soft", "sampled", "argmax")
BETA = 0.5
STEP = 4.0
RESPONSES = 8
PAIRS = np.triu_indices(RESPONSES, 1)
N_PAIRS = PAIRS[0].size


class Paths(NamedTuple):
    """What happens along gradient descent, each ``(T, labels, seeds)``.

    Attributes
    ----------
    steps
        When it was measured, ``(T,)``.
    kl
        KL(π*‖π) in nats.
    reward
        E_π r − E_π* r.
    """

    steps: np.ndarray
    kl: np.ndarray
    reward: np.ndarray

    def kl_at(self, step: int) -> np.ndarray:
        """Return KL(π*‖π) after one of the ``steps``, ``(labels, seeds)``."""
        return self.kl[self.steps.tolist().index(step)]


def rewards_and_labels(
    seeds: Iterable[int], *, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return normal rewards ``(seeds, 8)`` and three kinds of labels of the pairs.

    The labels ``(3, seeds, 28)``, in the order of :data:`LABELS`, are of a judge of these rewards.
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


def descend(labels: np.ndarray, times: Sequence[int]) -> np.ndarray:
    """Return the logits ``(T, ..., 8)`` of gradient descent after so many steps.

    The loss is the mean over the labelled pairs ``(..., 28)``, the first logits are zero. Margins
    are differences of logits, so that ∂L/∂logits sums −β(p − σ(βh)) over the pairs of a response.
    """
    ends = np.zeros((N_PAIRS, RESPONSES))
    ends[np.arange(N_PAIRS), PAIRS[0]] = 1.0
    ends[np.arange(N_PAIRS), PAIRS[1]] = -1.0
    logits, kept = np.zeros((*labels.shape[:-1], RESPONSES)), []
    for t in range(times[-1] + 1):
        if t in times:
            kept.append(logits)
        pull = labels - expit(BETA * logits @ ends.T)
        logits = logits + STEP * BETA / N_PAIRS * pull @ ends
    return np.asarray(kept)


def train(seeds: Iterable[int], steps: int, *, temperature: float = 1.0) -> Paths:
    """Train on each kind of labels and measure the way to π* ∝ e^{r/β}.

    The times of measurement are even on a logarithmic scale, with 100 and 1000 among them.
    """
    reward, labels = rewards_and_labels(seeds, temperature=temperature)
    log_uniform = np.full(reward.shape, -np.log(RESPONSES))
    target, _ = gibbs_log_policy(reward, log_uniform, beta=BETA)
    even = np.geomspace(1, steps, 60).round().astype(int).tolist()
    times = sorted({*even, 100, 1000, steps})
    log_probs = log_softmax(descend(labels, times))
    excess = (np.exp(log_probs) * reward).sum(axis=-1) - (np.exp(target) * reward).sum(axis=-1)
    return Paths(np.asarray(times), categorical_kl(np.asarray(target), log_probs), excess)


def online(
    temperature: float, seeds: Iterable[int], *, rounds: int = 10, draws: int = 16, epochs: int = 30
) -> np.ndarray:
    """Return the mean KL(π*_c‖π) before and after each round, ``(seeds, rounds + 1)``.

    π*_c ∝ π_ref e^{cr/β} is the optimum of a judge of temperature c; all pairs of a round's samples
    are judged.
    """
    distances = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        reward = rng.standard_normal((3, 6))
        start = TabularPolicy.random(3, 6, seed=rng, concentration=5.0)
        target, _ = gibbs_log_policy(temperature * reward, start.log_probs, beta=1.0)
        history = self_preferring(
            start,
            judged_preference(reward, temperature=temperature),
            rounds=rounds,
            draws=draws,
            beta=1.0,
            step=STEP,
            epochs=epochs,
            seed=rng,
        )
        policies = [start, *(made.policy for made in history)]
        distances.append(
            [categorical_kl(target, to_numpy(policy.log_probs)).mean() for policy in policies]
        )
    return np.asarray(distances)
