"""What a judge answered, checked: preferences between responses, NaN where it abstained."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import (
    NUMBERS,
    as_array,
    check_choice,
    check_preference,
    check_shape,
    tolerance_of,
    widened_preference,
)
from prefsim.data.ranked_pairs import ranked_pairs

LABELS = ("rank", "soft", "sampled")

__all__ = ["LABELS", "JudgedPairs", "judged_pairs", "judgements", "picked"]


def judgements(answer: Any, shape: tuple[int, ...], *, mutual: bool) -> np.ndarray:
    """Return the answer of a judge as float64, or raise.

    Parameters
    ----------
    answer
        ``(..., K, L)``, how likely each response is preferred to each of the opponent's, in [0, 1],
        or NaN where the judge abstained.
    shape
        Trailing shape that it must have.
    mutual
        Whether the opponent's responses are the same ones, so that ``P + Pᵀ = 1`` wherever the
        judge did not abstain.

    Raises
    ------
    ValueError
        If the answer has another shape or holds something else than preferences.
    """
    name = "preferences of the judge"
    table = to_numpy(as_array(answer, name, *NUMBERS)).astype(np.float64)
    check_shape(table, name, shape)
    abstained = np.isnan(table)
    if not mutual:
        bad = ~abstained & ~((table >= 0) & (table <= 1))
        if bad.any():
            raise ValueError(
                f"{name} must lie in [0, 1] or be NaN for an abstention, got {table[bad][0]}"
            )
        return table
    even = np.where(abstained, 0.5, table)
    check_preference(even, name, tolerance=tolerance_of(answer))
    return np.where(abstained, np.nan, widened_preference(even, answer))


class JudgedPairs(NamedTuple):
    """Pairs of judged responses.

    Attributes
    ----------
    places
        Positions of the chosen and of the rejected ones among the K, integers ``(2, ..., P)``.
    prob
        P(first ≻ second) of their ranking, ``(..., P)``.
    kept
        ``(..., P)``, whether the judge compared the two and both have a win rate.
    """

    places: np.ndarray
    prob: np.ndarray
    kept: np.ndarray


def judged_pairs(
    preference: np.ndarray, win_rate: np.ndarray, *, pairing: str, labels: str, seed: Seed
) -> JudgedPairs:
    """Return which of K judged responses are paired; where they are ranked, an abstention is a tie.

    Parameters
    ----------
    preference, win_rate
        ``(*batch, m, K, K)`` and ``(*batch, m, K)``, NaN where the judge abstained.
    pairing, labels, seed
        As in :func:`prefsim.loops.sampled_pairs`.

    Raises
    ------
    ValueError
        If ``pairing`` or ``labels`` is unknown, or the judge abstained from every pair of one of
        the batch.
    """
    check_choice(LABELS, labels=labels)
    known = ~np.isnan(preference)
    pairs = ranked_pairs(np.where(known, preference, 0.5), pairing=pairing)
    flat = known.reshape(*known.shape[:-2], -1)
    kept = np.take_along_axis(flat, pairs.first * known.shape[-1] + pairs.second, axis=-1)
    for place in (pairs.first, pairs.second):
        kept = kept & ~np.isnan(np.take_along_axis(win_rate, place, axis=-1))
    if not kept.any(axis=(-2, -1)).all():
        raise ValueError(
            f"the judge abstained from every one of {kept.shape[-2] * kept.shape[-1]} pairs: there"
            " is nothing to learn from"
        )
    places = np.stack([pairs.first, pairs.second])
    if labels == "sampled":
        lost = random_generator(seed).random(pairs.prob.shape) >= pairs.prob
        places = np.where(lost, places[::-1], places)
    return JudgedPairs(places, pairs.prob, kept)


def picked(column: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the entries of ``(..., m, K)`` at ``(..., m, P)``, row after row, ``(..., m·P)``."""
    entries = np.take_along_axis(column, places, axis=-1)
    return entries.reshape(*entries.shape[:-2], -1)
