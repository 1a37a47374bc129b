"""Rounds with momentum: on rewards that stay as they are, and in games."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.loops import accelerate, momentum_coefficients
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import NashHistory, solve_nash
from prefsim.solvers.games.certificates import log_probs, mirror_step, payoff
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.solvers.games.play import play

MOMENTA = (0.0, 0.3, 0.6, 0.9)
# In games three tell the story: with .9 the policy of a cycle is pure to the last digit.
GAME_MOMENTA = MOMENTA[:3]
DOMINANCE = np.array([[0.5, 0.6, 0.7], [0.4, 0.5, 0.65], [0.3, 0.35, 0.5]])
CYCLE = 0.5 + np.array([[0.0, 0.3, -0.2], [-0.3, 0.0, 0.4], [0.2, -0.4, 0.0]])
CYCLE_START = np.array([0.6, 0.3, 0.1])

# --- rounds on one reward ---


class Bandit(NamedTuple):
    """Rewards and the reference of n responses, ``(n,)``."""

    reward: np.ndarray
    reference: np.ndarray

    def shortfall(self, log_policy: np.ndarray) -> np.ndarray:
        """Return by how much the expected reward misses the largest, a sum of terms >= 0."""
        return np.sum(np.exp(log_policy) * (self.reward.max() - self.reward), axis=-1)

    def bound(self, beta: float, coefficients: np.ndarray) -> np.ndarray:
        """Return the bound β log(1/π_ref(y*))/c on the shortfall after so many plain rounds."""
        return beta * -np.log(self.reference[self.reward.argmax()]) / coefficients


class Rounds(NamedTuple):
    """What holds after each round, the first axis, of the fitted and the extrapolated policy."""

    fitted: np.ndarray
    extrapolated: np.ndarray


def rounds_on(
    payoffs: Callable[[np.ndarray], np.ndarray],
    reference: np.ndarray,
    *,
    beta: float,
    momentum: float,
    rounds: int,
) -> Rounds:
    """Return log-policies ``(rounds, n)`` of exact rounds, each of which adds ``payoffs(π)/β``."""

    def improve(policy: TabularPolicy, t: int) -> TabularPolicy:
        gained = payoffs(np.asarray(policy.probs))
        return TabularPolicy(mirror_step(policy.log_probs, None, gained, step=1 / beta))

    start = TabularPolicy(np.log(reference)[None])
    path = accelerate(improve, start, momentum=momentum, rounds=rounds)
    return Rounds(
        fitted=np.stack([passed.fitted.log_probs[0] for passed in path]),
        extrapolated=np.stack([passed.extrapolated.log_probs[0] for passed in path]),
    )


def constant(payoffs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return payoffs that do not depend on the policy."""
    return lambda policy: payoffs


def against_itself(table: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the payoffs of a policy that meets itself, such as its win rates in a game."""
    return lambda policy: payoff(table, policy)


def rounds_on_reward(bandit: Bandit, *, beta: float, momentum: float, rounds: int) -> Rounds:
    """Run exact rounds on a reward, from the reference."""
    return rounds_on(
        constant(bandit.reward), bandit.reference, beta=beta, momentum=momentum, rounds=rounds
    )


def coefficients(momentum: float, rounds: int) -> Rounds:
    """Return how many plain rounds the policies are worth, ``(rounds,)``: c and d."""
    worth = [momentum_coefficients(t, momentum=momentum) for t in range(1, rounds + 1)]
    return Rounds(*np.array(worth).T)


def tilted_references(bandit: Bandit, *, beta: float, momentum: float, rounds: int) -> Rounds:
    """Return the log-policies ``(rounds, n)`` of π_ref exp(c r/β) and π_ref exp(d r/β)."""
    log_reference, gained = np.log(bandit.reference), bandit.reward / beta
    worth = coefficients(momentum, rounds)
    return Rounds(*(log_softmax(log_reference + c[:, None] * gained) for c in worth))


# --- games ---


def play_game(
    preference: np.ndarray, start: np.ndarray, *, step: float, rounds: int, record: int = 1
) -> NashHistory:
    """Play a game with all of ``GAME_MOMENTA`` at once, along the second axis of the history."""
    starts = np.broadcast_to(np.log(start), (len(GAME_MOMENTA), start.size))
    # One momentum for each of the policies, which are played together.
    options: Any = {"momentum": np.array(GAME_MOMENTA)[:, None]}
    history = play(
        UPDATES["apo"],
        preference,
        starts,
        starts,
        tau=0.0,
        steps=itertools.repeat(step, rounds),
        options=options,
        goal=0.0,
        record=record,
    ).history
    assert history is not None
    return history


def equilibrium(preference: np.ndarray) -> np.ndarray:
    """Return the equilibrium ``(n,)`` of a game."""
    return to_numpy(solve_nash(preference, method="lp").policy)


def equilibrium_of_a_cycle(preference: np.ndarray) -> np.ndarray:
    """Return that of three responses each of which beats the next, in closed form.

    Each is played in proportion to the margin of the duel between the two others.
    """
    margins = np.array([preference[1, 2], preference[2, 0], preference[0, 1]]) - 0.5
    return margins / margins.sum()


def distance(path: NashHistory, preference: np.ndarray) -> np.ndarray:
    """Return KL(π*‖π̂) ``(records, momenta)``, which has no phase on a spiral."""
    return categorical_kl(log_probs(equilibrium(preference)), np.log(path.policy))
