"""The authors' five algorithms with exact gradients, and where mirror descent is stable."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.numerics import softmax
from prefsim.solvers import nash_path, solve_nash
from prefsim.solvers.games.certificates import (
    geometric_mixture,
    mirror_step,
    payoff,
    regularised_gap,
)
from prefsim.solvers.games.nash import StepSizeWarning
from prefsim.testing.games import random_games

ALGORITHMS = ("EGPO", "online IPO 1", "online IPO 2", "Nash-MD", "Nash-MD-PG")


class Setting(NamedTuple):
    """A penalty β of the authors, with their number of steps and learning rate."""

    beta: float
    iterations: int
    rate: float

    def mirror_step(self, n: int) -> float:
        """Return the step η of a gradient step with uniform pairs among ``n`` responses."""
        return 4 * self.rate / (n * self.beta)


SETTINGS = (Setting(0.1, 1000, 0.1), Setting(0.01, 5000, 0.02), Setting(0.001, 100_000, 2e-4))


def games_and_references(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ten games of ten responses as the authors draw them, and references."""
    rng = np.random.default_rng(seed)
    return random_games(10, seed=rng), softmax(rng.standard_normal((10, 10)))


def largest_stable_step(games: np.ndarray, reference: np.ndarray, *, beta: float) -> np.ndarray:
    """Return the step beyond which mirror descent cannot stay near the equilibrium, ``(games,)``.

    It is 2β/(β² + ω²) with ±iω the fastest rotation there.
    """
    point = to_numpy(solve_nash(games, method="regularised", reference=reference, tau=beta).policy)
    covariance = point[:, :, None] * np.eye(point.shape[-1]) - point[:, :, None] * point[:, None, :]
    rotation = np.abs(np.linalg.eigvals((games - 0.5) @ covariance).imag).max(axis=-1)
    return np.asarray(2 * beta / (beta**2 + rotation**2))


class Curve(NamedTuple):
    """Regularised gaps by iteration, ``(K,)`` and ``(K, games)``."""

    iteration: np.ndarray
    gap: np.ndarray

    def text(self) -> str:
        """Return median and largest gap at the end."""
        return f"{np.median(self.gap[-1]):.1g} [{self.gap[-1].max():.1g}]"


def gaps(
    games: np.ndarray,
    reference: np.ndarray,
    *,
    method: str,
    beta: float,
    iterations: int,
    record: int,
    **options: float,
) -> Curve:
    """Play a method with exact gradients."""
    with warnings.catch_warnings():
        # The authors' steps go beyond those with a guarantee: that is what their figure shows.
        warnings.simplefilter("ignore", StepSizeWarning)
        played = nash_path(
            games,
            method=method,
            reference=reference,
            tau=beta,
            iterations=iterations,
            record=record,
            **options,
        )
    return Curve(played.iteration, to_numpy(played.regularised_gap))


def gaps_of_algorithm(
    name: str, games: np.ndarray, reference: np.ndarray, setting: Setting
) -> Curve:
    """Play one of the authors' algorithms in their setting."""
    n, rate, record = games.shape[-1], setting.rate, max(1, setting.iterations // 100)
    if name == "Nash-MD":
        return gaps_against_half_the_mixture(games, reference, setting, record)
    options: dict[str, dict[str, Any]] = {
        "EGPO": {"method": "egpo", "step": setting.mirror_step(n)},
        "online IPO 1": {"method": "inpo", "step": setting.mirror_step(n)},
        "online IPO 2": {"method": "online_ipo", "step": 4 * rate / setting.beta},
        "Nash-MD-PG": {"method": "nash_md_pg", "step": rate, "mixture": 2 * rate / n},
    }
    return gaps(
        games,
        reference,
        beta=setting.beta,
        iterations=setting.iterations,
        record=record,
        **options[name],
    )


def gaps_against_half_the_mixture(
    games: np.ndarray, reference: np.ndarray, setting: Setting, record: int
) -> Curve:
    """Play Nash-MD as the authors' code has it.

    The opponent is a mixture with half the weight that the reference has in the step.
    """
    log_reference, tau = np.log(reference), setting.beta
    step = setting.mirror_step(games.shape[-1])
    log_policy, iterations, found = log_reference, [], []
    for t in range(setting.iterations + 1):
        if t % record == 0:
            iterations.append(t)
            found.append(regularised_gap(games, np.exp(log_policy), reference=reference, tau=tau))
        opponent = geometric_mixture(log_policy, log_reference, weight=step * tau / 2)
        wins = payoff(games, np.exp(opponent))
        log_policy = mirror_step(log_policy, log_reference, wins, step=step, tau=tau)
    return Curve(np.array(iterations), np.array(found))
