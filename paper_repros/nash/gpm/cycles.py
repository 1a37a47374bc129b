"""Labels that no order ranks right, and how many of them the best one does."""

from __future__ import annotations

import itertools

import numpy as np

# Items, and cycles drawn from them, of a mixture.
POOL, CYCLES = 20, 12


def cycle(n: int) -> np.ndarray:
    """Return the wins of n items of which each beats the next."""
    return np.roll(np.eye(n), 1, axis=1)


def mixture(rng: np.random.Generator) -> np.ndarray:
    """Return the wins of cycles of 3 to 5 items out of the pool.

    A pair keeps the label that it gets first.
    """
    wins = np.zeros((POOL, POOL))
    for _ in range(CYCLES):
        members = rng.permutation(POOL)[: rng.integers(3, 6)]
        for i, j in zip(members, np.roll(members, -1), strict=True):
            if wins[j, i] == 0:
                wins[i, j] = 1.0
    return wins


def on_circle(angle: np.ndarray, radius: float = 1.0) -> np.ndarray:
    """Return the vectors ``(n, 2)`` at these angles."""
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def accuracy(scores: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """Return the share ``(...,)`` of labels whose score has the right sign, a tie half."""
    # Rounding errors of zero count as ties.
    right = np.where(np.abs(scores) < 1e-9, 0.5, scores > 0)
    return np.asarray((wins * right).sum(axis=(-2, -1)) / wins.sum(axis=(-2, -1)))


def best_order(wins: np.ndarray) -> float:
    """Return the largest share of labels, each 0 or 1, that any strict order ranks right.

    By dynamic programming over sets of items.
    """
    n = len(wins)
    places = 1 << np.arange(n, dtype=np.int32)
    beaten_by = (wins > 0).T @ places
    sets = np.arange(2**n, dtype=np.int32)
    size = np.bitwise_count(sets)
    best = np.zeros(2**n, dtype=np.int16)  # labels ranked right within a set by its best order
    for count in range(1, n + 1):
        layer = sets[size == count]
        value = np.zeros(layer.size, dtype=np.int16)
        for place, winners in zip(places, beaten_by, strict=True):
            inside = np.flatnonzero(layer & place)
            before = layer[inside] ^ place
            right = best[before] + np.bitwise_count(before & winners)
            value[inside] = np.maximum(value[inside], right)
        best[layer] = value
    return float(best[-1] / wins.sum())


def best_order_by_enumeration(wins: np.ndarray) -> float:
    """Return the same by trying every order."""
    ranks = (np.argsort(order) for order in itertools.permutations(range(len(wins))))
    return float(max(accuracy(np.subtract.outer(-r, -r).astype(float), wins) for r in ranks))
