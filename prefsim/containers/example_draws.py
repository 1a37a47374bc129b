"""Random entries for the examples of containers."""

from __future__ import annotations

import numpy as np

__all__ = ["CANDIDATES", "CLASSES", "TOKENS", "VERSIONS", "Draws"]

# Sizes of the examples: small, and all different, so that a confusion of axes is an error of shape.
CANDIDATES, TOKENS, CLASSES, VERSIONS = 4, 5, 7, 3


class Draws:
    """Random entries of moderate size: examples test formulas, extremes have their own tests."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.rng = rows, np.random.default_rng(seed)

    def log_probs(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        """Return log-probabilities ``(rows, *shape)`` in nats."""
        return scale * (-0.5 - 4 * self.rng.random((self.rows, *shape)))

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        """Return numbers ``(rows, *shape)`` between two bounds."""
        return low + (high - low) * self.rng.random((self.rows, *shape))

    def normal(self, *shape: int) -> np.ndarray:
        """Return scores or rewards ``(rows, *shape)``."""
        return 1.5 * self.rng.standard_normal((self.rows, *shape))

    def lengths(self) -> np.ndarray:
        """Return how many tokens each of ``rows`` responses has."""
        return self.rng.integers(2, 9, self.rows).astype(float)

    def mask(self, *shape: int) -> np.ndarray:
        """Return which tokens ``(rows, *shape, TOKENS)`` belong to a response: its first ones."""
        return np.arange(TOKENS) < self.rng.integers(1, TOKENS + 1, (self.rows, *shape, 1))

    def token_log_probs(self, mask: np.ndarray) -> np.ndarray:
        """Return log-probabilities in nats of the shape of a mask, 0 outside it."""
        return np.where(mask, self.log_probs(*mask.shape[1:], scale=0.25), 0.0)

    def degrees(self) -> np.ndarray:
        """Return degrees of which some are left out, but never all of a response."""
        degree = np.where(self.rng.random((self.rows, VERSIONS)) < 0.3, -1, np.arange(VERSIONS))
        degree[:, 0] = 0
        return degree
