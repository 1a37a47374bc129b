"""Comparisons from a judge's preferences among N responses.

Which pairs to keep, each with its strength.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import as_index_array, as_preference, check_choice
from prefsim.data.comparisons import Comparisons
from prefsim.raters.borda import borda_scores

__all__ = ["PAIRINGS", "RankedPairs", "ranked_comparisons", "ranked_pairs"]

# Those that rank the responses first, and those that play matches in the order in which they come.
RANKED = ("all", "adjacent", "extremes", "top_bottom", "best_worst")
PAIRINGS = (*RANKED, "first_round", "tournament")


class RankedPairs(NamedTuple):
    """Pairs among N responses, the higher ranked one first.

    Attributes
    ----------
    first, second
        Positions among the N, integers ``(..., m)``.
    prob
        P(first ≻ second), ``(..., m)``; it may be below ½ where preferences are no ranking.
    strength
        ``|2 prob − 1|``, ``(..., m)``.
    """

    first: np.ndarray
    second: np.ndarray
    prob: np.ndarray
    strength: np.ndarray


def _preference(preference: Any) -> np.ndarray:
    table = as_preference(preference)
    if table.shape[-1] < 2:
        raise ValueError(f"preference must be among N >= 2 responses, got shape {table.shape}")
    return table


def ranked_pairs(preference: Any, *, pairing: str = "all") -> RankedPairs:
    """Rank N responses by their Borda scores and pair them.

    Parameters
    ----------
    preference
        ``(..., N, N)`` with ``P + Pᵀ = 1``.
    pairing
        ``"all"`` N(N−1)/2 pairs; ``"adjacent"`` ranks, N−1; ``"extremes"``, the best with each
        other, N−1; ``"top_bottom"``, the i-th best with the i-th worst, ⌊N/2⌋ pairs, which for N >
        2 do not connect the responses; ``"best_worst"``, the first of these alone. Two modes do not
        rank but play, in the order in which the responses come: ``"first_round"``, each with its
        neighbour, ⌊N/2⌋ matches; ``"tournament"``, whose winners meet again until one is left, N−1
        matches. The likelier of two wins, the earlier one where both are as likely, and who has no
        opponent advances.

    Returns
    -------
    RankedPairs
        Ties in the ranking are broken by position.

    Raises
    ------
    ValueError
        If ``pairing`` is unknown, the preferences are none, or N < 2.

    References
    ----------
    Zhai et al. 2024, ranked pairing, arXiv:2405.14103 (the modes are this library's; the paper's
    exact rule is not confirmed). Liu et al. 2023 (RSO), first-round-rank and tournament-rank,
    arXiv:2309.06657.

    Examples
    --------
    >>> pairs = ranked_pairs(
    ...     [[0.5, 0.4, 0.1], [0.6, 0.5, 0.3], [0.9, 0.7, 0.5]], pairing="adjacent"
    ... )
    >>> pairs.first, pairs.second, pairs.prob
    (array([2, 1]), array([1, 0]), array([0.7, 0.6]))
    """
    check_choice(PAIRINGS, pairing=pairing)
    table = _preference(preference)
    n = table.shape[-1]
    if pairing in RANKED:
        first, second = _ranked(table, pairing)
    else:
        first, second = _matches(table, rounds=1 if pairing == "first_round" else n)
    prob = _probability(table, first, second)
    return RankedPairs(first, second, prob, np.abs(2 * prob - 1))


def _probability(table: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the preference of each first over its second, ``(..., m)``."""
    flat = table.reshape(*table.shape[:-2], -1)
    return np.take_along_axis(flat, first * table.shape[-1] + second, axis=-1)


def _ranked(table: np.ndarray, pairing: str) -> tuple[np.ndarray, np.ndarray]:
    n = table.shape[-1]
    order = np.argsort(-borda_scores(table), axis=-1, kind="stable")
    ranks = np.arange(n)
    high, low = {
        "all": np.triu_indices(n, 1),
        "adjacent": (ranks[:-1], ranks[1:]),
        "extremes": (np.zeros(n - 1, dtype=np.int64), ranks[1:]),
        "top_bottom": (ranks[: n // 2], ranks[::-1][: n // 2]),
        "best_worst": (ranks[:1], ranks[-1:]),
    }[pairing]
    return order[..., high], order[..., low]


def _matches(table: np.ndarray, *, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the winners and losers of so many rounds, or of all until one is left."""
    left = np.broadcast_to(np.arange(table.shape[-1]), table.shape[:-1])
    winners, losers = [], []
    for _ in range(rounds):
        matches = left.shape[-1] // 2
        if matches == 0:
            break
        home, guest = left[..., 0 : 2 * matches : 2], left[..., 1 : 2 * matches : 2]
        home_wins = _probability(table, home, guest) >= 0.5
        winners.append(np.where(home_wins, home, guest))
        losers.append(np.where(home_wins, guest, home))
        left = np.concatenate([winners[-1], left[..., 2 * matches :]], axis=-1)
    return np.concatenate(winners, axis=-1), np.concatenate(losers, axis=-1)


def ranked_comparisons(
    prompt: Any, responses: Any, preference: Any, *, pairing: str = "all"
) -> Comparisons:
    """Return the ranked pairs of N responses to each of n prompts as comparisons.

    Their scores are the judged probabilities.

    Parameters
    ----------
    prompt
        Integers ``(n,)``.
    responses
        Integers ``(n, N)``.
    preference
        ``(n, N, N)``, the judge's preferences among these responses.
    pairing
        See :func:`ranked_pairs`.

    Returns
    -------
    Comparisons of n·m rows with ``chosen_score`` p and ``rejected_score`` 1 − p, for
    :func:`prefsim.losses.spce`.

    Raises
    ------
    ValueError
        If shapes do not fit, or as for :func:`ranked_pairs`.
    """
    prompt, responses = as_index_array(prompt, "prompt"), as_index_array(responses, "responses")
    pairs = ranked_pairs(preference, pairing=pairing)
    n = np.shape(preference)[-1]
    if prompt.ndim != 1 or responses.shape != (prompt.size, n) or np.ndim(preference) != 3:
        shapes = f"{prompt.shape}, {responses.shape}, {np.shape(preference)}"
        raise ValueError(
            f"prompt, responses and preference must be (n,), (n, N) and (n, N, N), got {shapes}"
        )
    first, second = (
        np.take_along_axis(responses, part, axis=-1).ravel() for part in (pairs.first, pairs.second)
    )
    rows = np.repeat(prompt, pairs.first.shape[-1])
    return Comparisons(
        rows, first, second, chosen_score=pairs.prob.ravel(), rejected_score=1 - pairs.prob.ravel()
    )
