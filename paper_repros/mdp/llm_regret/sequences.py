"""Families of loss sequences, and the agents that are played against them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from prefsim.loops.online_play import (
    Learner,
    OnlinePlay,
    most_likely_loses,
    play_against,
    play_online,
)
from prefsim.numerics import softmax
from prefsim.solvers.online_learning.ftpl import ftpl, posterior_scale
from prefsim.solvers.online_learning.hedge import (
    hedge,
    hedge_step,
    importance_weighted_loss,
)

# Temperatures of the two agents that are not no-regret.
QUANTAL, RECENCY = 0.3, 0.1
ADAPTIVE = "adaptive"


# --- losses of two actions, in [0, 1] ---


def _uniform(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    return rng.random((n, rounds, 2))


def _gauss(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    return 0.5 + 0.25 * rng.standard_normal((n, rounds, 2))


def _gap(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    return np.array([0.4, 0.6]) + 0.2 * rng.standard_normal((n, rounds, 2))


def _linear(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    start, end = rng.random((2, n, 1, 2))
    time = np.linspace(0.0, 1.0, rounds)[:, None]
    return start + (end - start) * time + 0.05 * rng.standard_normal((n, rounds, 2))


def _sine(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    phase = 2 * math.pi * rng.random((n, 1, 2))
    angle = 2 * math.pi * np.arange(rounds)[:, None] / 12 + phase
    return 0.5 + 0.4 * np.sin(angle) + 0.05 * rng.standard_normal((n, rounds, 2))


def alternating(rounds: int) -> np.ndarray:
    """Return the losses ``(T, 2)`` on which the leader is always the one that loses next."""
    losses = np.zeros((rounds, 2))
    losses[0] = 0.5, 0.0
    losses[1::2, 1] = 1.0
    losses[2::2, 0] = 1.0
    return losses


def _alternating(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    return np.broadcast_to(alternating(rounds), (n, rounds, 2))


FAMILIES: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "uniform": _uniform,
    "gauss": _gauss,
    "gap": _gap,
    "linear": _linear,
    "sine": _sine,
    "alternating": _alternating,
}
NAMES = (*FAMILIES, ADAPTIVE)


def drawn_losses(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    """Return losses ``(families, n, T, 2)`` of every family that does not answer to the agent."""
    return np.stack([np.clip(draw(rng, n, rounds), 0.0, 1.0) for draw in FAMILIES.values()])


# --- agents: from the losses before, (..., t, d), to what is played next, (..., d) ---


def total(history: np.ndarray) -> np.ndarray:
    """Return the cumulative losses ``(..., d)``: as a product ten times as fast as a sum."""
    return np.asarray(np.ones(history.shape[-2]) @ history)


def _uniform_at_first(history: np.ndarray, later: Callable[[], Any]) -> Any:
    d = history.shape[-1]
    return np.full((*history.shape[:-2], d), 1.0 / d) if history.shape[-2] == 0 else later()


def follow_the_leader(history: np.ndarray, *, first: str = "uniform") -> Any:
    """Play the best action so far, the first of several; in the first round all or that one."""

    def leader() -> np.ndarray:
        best = np.argmin(total(history), axis=-1)
        return (np.arange(history.shape[-1]) == best[..., None]).astype(float)

    return leader() if first == "leader" else _uniform_at_first(history, leader)


def hedge_agent(history: np.ndarray, *, rounds: int) -> Any:
    """Play Hedge with the step of the bound."""
    return hedge(total(history), step=hedge_step(rounds, history.shape[-1]))


def growing_scale(history: np.ndarray, noise: float = 1.0) -> float:
    """Return the scale √t of the round that is played next, as of a posterior with unit prior."""
    return float(posterior_scale(history.shape[-2], prior=noise, noise=noise))


def ftpl_agent(history: np.ndarray) -> Any:
    """Follow the leader perturbed by Gaussian noise of scale √t."""
    return ftpl(total(history), scale=growing_scale(history), noise="gaussian")


def quantal_agent(history: np.ndarray) -> Any:
    """Respond to the sum of losses with noise that does not grow."""
    return ftpl(total(history), scale=QUANTAL)


def recency_agent(history: np.ndarray) -> Any:
    """Respond to the last round alone."""
    return _uniform_at_first(history, lambda: softmax(-history[..., -1, :] / RECENCY))


def agents(rounds: int) -> dict[str, Learner]:
    """Return the agents by name."""
    return {
        "FTL": follow_the_leader,
        "Hedge": partial(hedge_agent, rounds=rounds),
        "FTPL": ftpl_agent,
        "quantal": quantal_agent,
        "recency": recency_agent,
    }


def play_all(learner: Learner, losses: np.ndarray) -> OnlinePlay:
    """Play a learner on drawn losses ``(families, n, T, d)`` and against the adaptive adversary.

    Decisions and losses have the families of :data:`NAMES`.
    """
    fixed = play_online(learner, losses)
    _, _, rounds, d = losses.shape
    # The adversary draws nothing: all of its runs are one.
    answered = play_against(learner, most_likely_loses, rounds=rounds, shape=(1, 1, d))
    wide = [np.broadcast_to(each, (1, *losses.shape[1:])) for each in answered]
    return OnlinePlay(*(np.concatenate(pair) for pair in zip(fixed, wide, strict=True)))


# --- what is seen of one action alone ---


def play_bandit(
    losses: np.ndarray, *, step: float, rng: np.random.Generator
) -> tuple[OnlinePlay, np.ndarray]:
    """Play Hedge on estimates from the one action that is drawn in each round (Exp3).

    Also returns the sum of all estimates, ``(..., d)``.
    """
    estimated = np.zeros((*losses.shape[:-2], losses.shape[-1]))
    decided = np.empty_like(losses)
    for t in range(losses.shape[-2]):
        policy = decided[..., t, :] = hedge(estimated, step=step)
        draws = rng.random(policy.shape[:-1])[..., None]
        # The last action takes what rounding leaves of the sum.
        action = (draws > policy.cumsum(axis=-1)[..., :-1]).sum(axis=-1)
        paid = np.take_along_axis(losses[..., t, :], action[..., None], axis=-1)[..., 0]
        estimated = estimated + importance_weighted_loss(paid, action, policy)
    return OnlinePlay(decided, losses), estimated


def bandit_step(rounds: int, actions: int) -> float:
    """Return √(2 ln d/(Td)), with which the expected regret is at most √(2Td ln d)."""
    return math.sqrt(2 * math.log(actions) / (rounds * actions))


def bandit_bound(rounds: int, actions: int) -> float:
    return math.sqrt(2 * rounds * actions * math.log(actions))
