"""The exact tables of gymnasium's Blackjack-v1, worked out from its rules.

The deck is infinite and the dealer sticks on 17.
"""

from __future__ import annotations

import functools

import numpy as np
import scipy.sparse as sp

from prefsim.worlds.transitions import ProcessTables

__all__ = ["blackjack_tables"]

OBSERVATION_SHAPE = (32, 11, 2)
"""Ranges of an observation: player's sum, dealer's card, usable ace."""

CARDS = np.arange(1, 11)
CHANCE = np.where(CARDS == 10, 4 / 13, 1 / 13)
PRIZES = np.array([-1.0, 0.0, 1.0, 1.5])
"""Rewards of the last four states: lose, draw, win, win by a natural."""

FIRST_NATURAL = int(np.prod(OBSERVATION_SHAPE))
FIRST_END = FIRST_NATURAL + len(CARDS)
N_STATES = FIRST_END + len(PRIZES)


def _with_card(total: int, ace: int, card: int) -> tuple[int, int]:
    """Return the sum and usable ace of a hand after one more card."""
    hard = total - 10 * ace + card
    holds_ace = bool(ace) or card == 1
    return (hard + 10, 1) if holds_ace and hard + 10 <= 21 else (hard, 0)


@functools.cache
def _dealer_score(total: int, ace: int) -> np.ndarray:
    """Return the distribution of the dealer's final score in 0 … 21, 0 for a bust."""
    if total >= 17:
        return np.eye(22)[total if total <= 21 else 0]
    parts = [
        chance * _dealer_score(*_with_card(total, ace, int(card)))
        for card, chance in zip(CARDS, CHANCE, strict=True)
    ]
    return np.sum(parts, axis=0)


def _state(total: int, dealer: int, ace: int) -> int:
    return int(np.ravel_multi_index((total, dealer, ace), OBSERVATION_SHAPE))


def _stick(total: int, dealer: int, *, is_natural: bool, natural: bool, sab: bool) -> np.ndarray:
    """Return the probabilities of the four prizes for a player who sticks."""
    score = _dealer_score(*_with_card(0, 0, dealer))
    lose, draw, win = score[total + 1 :].sum(), score[total], score[:total].sum()
    if is_natural and sab:
        # The player's natural beats every hand but a natural; the hidden card decides.
        hidden = {1: 10, 10: 1}.get(dealer, 0)
        draw = CHANCE[hidden == CARDS].sum()
        return np.array([0.0, draw, 1.0 - draw, 0.0])
    return np.array([lose, draw, 0.0, win] if is_natural and natural else [lose, draw, win, 0.0])


def blackjack_tables(*, natural: bool, sab: bool) -> ProcessTables:
    """Return the tables of Blackjack-v1 with its options ``natural`` and ``sab``.

    Actions are stick and hit.

    State ``ravel_multi_index((sum, dealer, ace), (32, 11, 2))`` is the observation. A natural (ace
    and ten as the first two cards) pays differently under the options although it looks like any
    other soft 21: ten states after the observations, by dealer's card, hold it. The last four
    states are the ends, one for each prize, so that rewards of transitions are exact, not averaged.
    """
    transitions, reward = np.zeros((N_STATES, 2, N_STATES)), np.zeros((N_STATES, 2, N_STATES))
    start = np.zeros(N_STATES)
    playing = np.zeros(N_STATES, dtype=bool)
    hands = [(total, ace) for total in range(4, 22) for ace in ((0, 1) if total >= 12 else (0,))]
    for dealer in range(1, 11):
        states = [(_state(total, dealer, ace), total, ace, False) for total, ace in hands]
        states.append((FIRST_NATURAL + dealer - 1, 21, 1, True))
        for state, total, ace, is_natural in states:
            playing[state] = True
            transitions[state, 0, FIRST_END:] = _stick(
                total, dealer, is_natural=is_natural, natural=natural, sab=sab
            )
            reward[state, 0, FIRST_END:] = PRIZES
            for card, chance in zip(CARDS, CHANCE, strict=True):
                after, after_ace = _with_card(total, ace, int(card))
                target = _state(after, dealer, after_ace) if after <= 21 else FIRST_END
                transitions[state, 1, target] += chance
                reward[state, 1, target] = 0.0 if after <= 21 else PRIZES[0]
        for first, p in zip(CARDS, CHANCE, strict=True):
            for second, q in zip(CARDS, CHANCE, strict=True):
                hand = _with_card(*_with_card(0, 0, int(first)), int(second))
                special = (natural or sab) and {int(first), int(second)} == {1, 10}
                state = FIRST_NATURAL + dealer - 1 if special else _state(hand[0], dealer, hand[1])
                start[state] += p * q * CHANCE[dealer - 1]
    # Sums that no hand has, and the ends: nothing happens there.
    stops = np.flatnonzero(~playing)
    transitions[stops, :, stops] = 1.0
    rows = (-1, N_STATES)
    return ProcessTables(
        N_STATES,
        sp.csr_array(transitions.reshape(rows)),
        sp.csr_array(reward.reshape(rows)),
        start,
        ~playing,
    )
