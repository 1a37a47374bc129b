"""A step of the paper as it writes it, the pairs that it learns from, and play step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prefsim.data import Comparisons
from prefsim.numerics import softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers.games.certificates import payoff
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.testing.games import Play


def as_policy(probs: np.ndarray) -> TabularPolicy:
    """Return a policy ``(n,)`` as one of a single prompt."""
    return TabularPolicy.from_probs(probs[None])


def drawn_pairs(play: Play, sampler: np.ndarray) -> Comparisons:
    """Enumerate the pairs that a policy draws, with the log-probabilities of π_t."""
    pairs = Comparisons.population(play.world(), as_policy(sampler))
    return Comparisons.self_play(play.world(), as_policy(play.policy), pairs=pairs)


def closed_form(play: Play) -> np.ndarray:
    """Return the step as the paper writes it, π ∝ exp(P(y ≻ π_t)/η) μ^(τ/η) π_t^(1−τ/η)."""
    eta = 1 / play.step
    wins, share = play.preference @ play.policy, play.tau / eta
    return softmax(wins / eta + share * np.log(play.reference) + (1 - share) * np.log(play.policy))


def by_majority(prob: np.ndarray) -> np.ndarray:
    """Return the probability of a label that is always the likelier one."""
    return (prob > 0.5) + 0.5 * (prob == 0.5)


def from_reference(play: Play) -> Play:
    """Return the play that starts at the reference, as the algorithm does."""
    return play._replace(policy=play.reference)


def log_iterates(
    preference: np.ndarray,
    reference: np.ndarray,
    start: np.ndarray,
    *,
    iterations: int,
    step: float | Callable[[int], float],
    tau: float,
) -> np.ndarray:
    """Return the log-policies of mirror descent, ``(iterations + 1, ..., n)``.

    Of payoffs that need not be preferences, and of policies too near the edge to be probabilities.
    """
    update, found = UPDATES["inpo"].apply, [np.log(start)]
    for t in range(iterations):
        now = step(t) if callable(step) else step
        (following,) = update((found[-1],), preference, np.log(reference), step=now, tau=tau)
        found.append(following)
    return np.stack(found)


def log_policies_of(play: Play, iterations: int) -> np.ndarray:
    """Return the log-policies of a play, ``(iterations + 1, n)``."""
    return log_iterates(
        play.preference,
        play.reference,
        play.policy,
        iterations=iterations,
        step=play.step,
        tau=play.tau,
    )


def gradient_spans(play: Play, log_policies: np.ndarray) -> np.ndarray:
    """Return the span of the gradient of the learner's loss against itself, ``(T,)``."""
    penalties = play.tau * (log_policies - np.log(play.reference))
    return np.ptp(penalties - payoff(play.preference, np.exp(log_policies)), axis=-1)


def amplified(play: Play) -> Play:
    """Return the play with payoffs ten times as far from one half as preferences may be."""
    return play._replace(preference=0.5 + 10 * (play.preference - 0.5))


def equilibrium_of_payoffs(play: Play) -> np.ndarray:
    """Return the equilibrium also where payoffs are no probabilities.

    The game of k times the payoffs has the equilibrium of a penalty τ/k.
    """
    scale = max(1.0, 2 * np.abs(play.preference - 0.5).max())
    shrunk = 0.5 + (play.preference - 0.5) / scale
    return play._replace(preference=shrunk, tau=play.tau / scale).equilibrium()
