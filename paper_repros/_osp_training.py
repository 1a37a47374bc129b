"""Training on soft, sampled and argmax labels of the same judge, and the online loop with judges of three temperatures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

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
PAIRS = np.triu_indices(8, 1)


class Paths(NamedTuple):
    """KL(π*‖π) in nats and E_π r − E_π* r along gradient descent, each ``(T, labels, seeds)``."""

    steps: np.ndarray
    kl: np.ndarray
    reward: np.ndarray


def rewards_and_labels(
    seeds: Iterable[int], *, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return normal rewards of 8 responses ``(seeds, 8)`` and the labels of their 28 pairs by a judge of them ``(3, seeds, 28)``."""
    rewards, sampled = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rewards.append(rng.standard_normal(8))
        sampled.append(rng.random(28))
    reward = np.asarray(rewards)
    prob = expit(temperature * (reward[:, PAIRS[0]] - reward[:, PAIRS[1]]))
    return reward, np.stack(
        [prob, (np.asarray(sampled) < prob).astype(np.float64), (prob > 0.5).astype(np.float64)]
    )


def descend(
    labels: np.ndarray, steps: int, note: Callable[[int, np.ndarray], Any], times: Iterable[int]
) -> None:
    """Follow gradient descent on the mean loss over 28 pairs from uniform logits, and ``note`` the logits ``(..., 8)`` at ``times``.

    Margins are differences of logits, so that ∂L/∂logits sums −β(p − σ(βh)) over the pairs of a
    response.
    """
    ends = np.zeros((28, 8))
    ends[np.arange(28), PAIRS[0]], ends[np.arange(28), PAIRS[1]] = 1.0, -1.0
    logits, wanted = np.zeros((*labels.shape[:-1], 8)), set(times)
    for t in range(steps + 1):
        if t in wanted:
            note(t, logits)
        logits = logits + STEP * BETA / 28 * (labels - expit(BETA * logits @ ends.T)) @ ends


def train(seeds: Iterable[int], steps: int, *, temperature: float = 1.0) -> Paths:
    """Train on each kind of labels and measure against π* ∝ e^{r/β}; times are even on a log scale, with 100 and 1000 among them."""
    reward, labels = rewards_and_labels(seeds, temperature=temperature)
    target, _ = gibbs_log_policy(reward, np.full(reward.shape, -np.log(8)), beta=BETA)
    times = sorted(
        {*np.unique(np.geomspace(1, steps, 60).round().astype(int)).tolist(), 100, 1000, steps}
    )
    best = (np.exp(target) * reward).sum(axis=-1)
    kl, expected = [], []

    def note(_: int, logits: np.ndarray) -> None:
        log_probs = log_softmax(logits)
        kl.append(categorical_kl(target, log_probs))
        expected.append((np.exp(log_probs) * reward).sum(axis=-1) - best)

    descend(labels, steps, note, times)
    return Paths(np.asarray(times), np.asarray(kl), np.asarray(expected))


def online(
    temperature: float,
    seeds: Iterable[int],
    *,
    rounds: int = 10,
    draws: int = 16,
    epochs: int = 30,
    pairing: str = "all",
) -> np.ndarray:
    """Return the mean KL of π_ref e^{cr/β}/Z from the policy before and after each round of the online loop, ``(seeds, rounds + 1)``."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        reward, start = (
            rng.standard_normal((3, 6)),
            TabularPolicy.random(3, 6, seed=rng, concentration=5.0),
        )
        target, _ = gibbs_log_policy(temperature * reward, start.log_probs, beta=1.0)
        history = self_preferring(
            start, judged_preference(reward, temperature=temperature), rounds=rounds, draws=draws, pairing=pairing, beta=1.0, step=STEP,
            epochs=epochs, seed=rng,
        )  # fmt: skip
        found.append(
            [
                categorical_kl(target, to_numpy(p.log_probs)).mean()
                for p in (start, *(r.policy for r in history))
            ]
        )
    return np.asarray(found)
