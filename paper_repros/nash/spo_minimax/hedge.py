"""Bounds on self-play with Hedge, and the preferences that it is tried on."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.voting import borda_scores
from prefsim.backend import to_numpy
from prefsim.numerics import normal_log_cdf, sigmoid
from prefsim.worlds import PreferenceGame


def hedge_bound(horizon: Any, n: int) -> Any:
    """Return √(log n/(2T)), which bounds the exploitability of the average of n responses.

    The step is √(8 log n/T).
    """
    return np.sqrt(math.log(n) / (2 * np.asarray(horizon, dtype=float)))


def fast_bound(n: int, margin: float) -> float:
    """Return the bound on Σ_t (1 − π_t(y*)) with the step Δ/2 from the uniform policy."""
    step = margin / 2
    return math.log(n) / (step * margin - (math.exp(step) - 1 - step))


def margin_games(seed: int, n: int, margin: float, n_games: int) -> np.ndarray:
    """Return random games ``(n_games, n, n)`` in which response 0 beats all by ``margin`` or more.

    The closest one is beaten by exactly that.
    """
    rng = np.random.default_rng(seed)
    games = to_numpy(PreferenceGame.random(n, seed=rng, batch_shape=(n_games,)).preference).copy()
    lead = margin + (0.5 - margin) * rng.random((n_games, n - 1))
    lead[np.arange(n_games), rng.integers(0, n - 1, n_games)] = margin
    games[:, 0, 1:], games[:, 1:, 0] = 0.5 + lead, 0.5 - lead
    return games


LINKS = {
    "logistic": sigmoid,
    "probit": lambda x: np.exp(normal_log_cdf(x)),
    "clipped": lambda x: np.clip(0.5 + x / 4, 0.0, 1.0),
    "certain": lambda x: 0.5 * (1 + np.sign(x)),
}


class Utility(NamedTuple):
    """Preferences ``(n, n)``, and the utility ``(n,)`` that they are said to come from."""

    preference: np.ndarray
    utility: np.ndarray


def with_link(utility: np.ndarray, best: int, link: str) -> Utility:
    """Raise one of the utilities above all others, and compare by a link."""
    raised = utility.copy()
    raised[best % raised.size] = raised.max() + 0.1
    return Utility(LINKS[link](raised[:, None] - raised[None, :]), raised)


def with_borda_scores(game: PreferenceGame) -> Utility:
    preference = np.asarray(game.preference)
    return Utility(preference, borda_scores(preference))


def margin_game(seed: int, n: int, margin: float) -> PreferenceGame:
    return PreferenceGame(margin_games(seed, n, margin, 1)[0])


def as_preferred(table: np.ndarray) -> np.ndarray:
    """Return the preferences."""
    return table


def by_majority(table: np.ndarray) -> np.ndarray:
    """Return sure preferences for whatever wins more often than not."""
    return 0.5 * (1 + np.sign(table - 0.5))
