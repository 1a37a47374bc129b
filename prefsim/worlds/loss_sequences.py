"""Sequences of losses for online learners: noise, gaps, trends, and losses that fool a leader."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import check_integer, check_known

__all__ = ["FAMILIES", "alternating", "drawn_losses"]


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
    """Return the losses ``(T, 2)`` on which the leader is always the one that loses next.

    Parameters
    ----------
    rounds
        T >= 1.

    Examples
    --------
    >>> alternating(4)
    array([[0.5, 0. ],
           [0. , 1. ],
           [1. , 0. ],
           [0. , 1. ]])
    """
    check_integer(low=1, rounds=rounds)
    losses = np.zeros((rounds, 2))
    losses[0] = 0.5, 0.0
    losses[1::2, 1] = 1.0
    losses[2::2, 0] = 1.0
    return losses


def _alternating(rng: np.random.Generator, n: int, rounds: int) -> np.ndarray:
    return np.broadcast_to(alternating(rounds), (n, rounds, 2))


FAMILIES: Mapping[str, Callable[[np.random.Generator, int, int], np.ndarray]] = MappingProxyType(
    {
        "uniform": _uniform,
        "gauss": _gauss,
        "gap": _gap,
        "linear": _linear,
        "sine": _sine,
        "alternating": _alternating,
    }
)
"""By name: draws ``(n, T, 2)`` from a generator, n and T, before they are cut to [0, 1]."""


def drawn_losses(names: Sequence[str], n: int, rounds: int, *, seed: Seed) -> np.ndarray:
    """Return losses of two actions in [0, 1], ``(families, n, T, 2)``.

    Parameters
    ----------
    names
        Of :data:`FAMILIES`: uniform and Gaussian noise, a gap between the actions, trends, sines
        with a phase, and the alternating losses, of which nothing is drawn.
    n
        Sequences of each.
    rounds
        T >= 1.
    seed
        Of the draws.

    References
    ----------
    Park et al. 2024, arXiv:2403.16843 (families of this kind).

    Examples
    --------
    >>> drawn_losses(["gap", "sine"], 3, 10, seed=0).shape
    (2, 3, 10, 2)
    """
    check_integer(low=0, n=n)
    check_integer(low=1, rounds=rounds)
    for name in names:
        check_known(FAMILIES, names=name)
    rng = random_generator(seed)
    return np.stack([np.clip(FAMILIES[name](rng, n, rounds), 0.0, 1.0) for name in names])
