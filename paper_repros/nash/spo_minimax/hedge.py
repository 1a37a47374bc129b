"""Bounds on self-play with Hedge, and games with the margin that the fast one asks for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefsim.backend import to_numpy
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
