"""TRANSITION: where the old form of two papers finds its random games."""

from __future__ import annotations

import numpy as np

from prefsim.testing import games


def random_games(n_games: int, rng: np.random.Generator) -> np.ndarray:
    return games.random_games(n_games, seed=rng)
