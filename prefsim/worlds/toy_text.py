"""Between gymnasium's toy-text environments and exact tables: read their dynamics, or play a table as an environment."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from prefsim.backend import to_numpy
from prefsim.worlds.transitions import row_pattern

if TYPE_CHECKING:
    from prefsim.worlds.mdp import TabularMDP

__all__ = ["EnvironmentTables", "make_environment", "read_environment"]

BLACKJACK_SHAPE = (32, 11, 2)
"""Ranges of a Blackjack observation: player's sum, dealer's card, usable ace."""


class EnvironmentTables(NamedTuple):
    """Tables of an environment: CSR ``(S*A, S)`` transitions and rewards, start ``(S,)`` and terminal ``(S,)``."""

    n_states: int
    transitions: sp.csr_array
    reward: sp.csr_array
    start_probs: np.ndarray
    terminal: np.ndarray


def read_environment(environment: Any, options: dict[str, Any]) -> EnvironmentTables:
    """Return the exact tables of an environment or of the id of one; see :meth:`TabularMDP.from_gymnasium`."""
    import gymnasium
    from gymnasium.envs.toy_text.blackjack import BlackjackEnv

    if isinstance(environment, gymnasium.Env):
        if options:
            raise ValueError(f"options are for an environment given by its id, got {sorted(options)} with an environment")
        name, made = type(environment.unwrapped).__name__, environment
    else:
        name = str(environment)
        try:
            made = gymnasium.make(environment, **options)
        except (gymnasium.error.Error, TypeError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(f"gymnasium cannot make {environment!r} with options {options}: {error}") from error
    base: Any = made.unwrapped
    if isinstance(base, BlackjackEnv):
        return _blackjack(natural=bool(base.natural), sab=bool(base.sab))
    if getattr(base, "fickle_passenger", False):
        raise ValueError(f"{name} with fickle_passenger=True changes the destination outside its transition table P, so P is not its dynamics")
    missing = [part for part in ("P", "initial_state_distrib") if not hasattr(base, part)]
    if missing:
        raise ValueError(
            f"{name} has no exact tables: it lacks {' and '.join(missing)}, which FrozenLake, CliffWalking and Taxi have "
            "(Blackjack is worked out from its rules)"
        )
    outcomes = [
        (s, a, p, after, r, ended) for s, row in base.P.items() for a, listed in row.items() for p, after, r, ended in listed if p > 0
    ]
    state, action, probability, after, reward, ended = (np.array(column) for column in zip(*outcomes, strict=True))
    start = np.asarray(base.initial_state_distrib, dtype=np.float64)
    return _from_outcomes(state, action, probability, after, reward, ended.astype(bool), start, len(base.P), len(base.P[0]))


def _from_outcomes(
    state: np.ndarray,
    action: np.ndarray,
    probability: np.ndarray,
    after: np.ndarray,
    reward: np.ndarray,
    ended: np.ndarray,
    start: np.ndarray,
    states: int,
    actions: int,
) -> EnvironmentTables:
    """Return the tables of a list of outcomes, turning ``ended`` ones into moves to terminal states."""
    on = ~ended
    graph = sp.csr_array((np.ones(on.sum()), (state[on], after[on])), shape=(states, states))
    live = start > 0
    while True:
        grown = live | (graph.T @ live > 0)
        if (grown == live).all():
            break
        live = grown
    terminal = np.zeros(states, dtype=bool)
    terminal[after[ended]] = True
    both = terminal & live
    if both.any():
        after = np.where(ended & both[after], states, after)
        terminal = np.append(terminal & ~both, True)
        start = np.append(start, 0.0)
        states += 1
    kept = ~terminal[state]
    stops = np.flatnonzero(terminal)
    stop_rows = (stops[:, None] * actions + np.arange(actions)).ravel()
    row = np.concatenate([(state * actions + action)[kept], stop_rows])
    column = np.concatenate([after[kept], np.repeat(stops, actions)])
    mass = np.concatenate([probability[kept], np.ones(stop_rows.size)])
    paid = np.concatenate([(probability * reward)[kept], np.zeros(stop_rows.size)])
    shape = (states * actions, states)
    # Here repeated entries are meant to add up: an environment may list one next state several times.
    transitions = sp.csr_array((mass, (row, column)), shape=shape)
    rewards = sp.csr_array((paid, (row, column)), shape=shape)
    transitions.sort_indices()
    rewards.sort_indices()
    rewards.data = rewards.data / transitions.data
    return EnvironmentTables(states, transitions, rewards, start, terminal)


def _blackjack(*, natural: bool, sab: bool) -> EnvironmentTables:
    """Work out Blackjack-v1 from its rules: an infinite deck, a dealer who sticks on 17.

    A natural (ace and ten as first two cards) pays differently under ``natural`` or ``sab`` although it looks like any other soft 21;
    ten states after the table, one for each dealer's card, hold it. The last states are the ends lose, draw, win, win by a natural, so
    that the reward of every transition is exact, not averaged.
    """
    card = np.array([*range(1, 11)])
    chance = np.where(card == 10, 4 / 13, 1 / 13)
    table_states = int(np.prod(BLACKJACK_SHAPE))
    first_natural, first_end = table_states, table_states + 10
    prize = np.array([-1.0, 0.0, 1.0, 1.5])
    states = first_end + prize.size
    index = np.ravel_multi_index(np.meshgrid(*map(np.arange, BLACKJACK_SHAPE), indexing="ij"), BLACKJACK_SHAPE)
    transitions, reward = np.zeros((states, 2, states)), np.zeros((states, 2, states))
    start = np.zeros(states)
    playing = np.zeros(states, dtype=bool)

    def drawn(total: int, ace: int, value: int) -> tuple[int, int]:
        """Return the sum and usable ace after one more card."""
        hard = total - 10 * ace + value
        holds_ace = bool(ace) or value == 1
        return (hard + 10, 1) if holds_ace and hard + 10 <= 21 else (hard, 0)

    @functools.cache
    def final(total: int, ace: int) -> np.ndarray:
        """Return the distribution of the dealer's final score, index 0 for a bust."""
        if total >= 17:
            return np.eye(22)[total if total <= 21 else 0]
        return sum((q * final(*drawn(total, ace, int(v))) for v, q in zip(card, chance, strict=True)), np.zeros(22))

    for dealer in range(1, 11):
        shown = drawn(0, 0, dealer)
        score = final(*shown)
        other = 10 if dealer == 1 else 1 if dealer == 10 else 0
        # Chance that the dealer holds a natural: the hidden card completes ace and ten.
        dealer_natural = float(chance[card == other].sum())
        for total in range(4, 22):
            for ace in (0, 1) if total >= 12 else (0,):
                wins, draws = score[:total].sum(), score[total]
                ends = {True: (wins, draws)}
                here = [(int(index[total, dealer, ace]), False)]
                if total == 21 and ace:
                    here.append((first_natural + dealer - 1, True))
                for s, is_natural in here:
                    playing[s] = True
                    wins, draws = ends[True]
                    best = 0.0
                    if is_natural and sab:
                        # The player's natural beats every hand but a natural.
                        wins, draws = 1.0 - dealer_natural, dealer_natural
                    elif is_natural and natural:
                        wins, best = 0.0, wins
                    transitions[s, 0, first_end:] = (1.0 - wins - draws - best, draws, wins, best)
                    reward[s, 0, first_end:] = prize
                    for value, q in zip(card, chance, strict=True):
                        after_total, after_ace = drawn(total, ace, int(value))
                        bust = after_total > 21
                        after = first_end if bust else int(index[after_total, dealer, after_ace])
                        transitions[s, 1, after] += q
                        reward[s, 1, after] = -1.0 if bust else 0.0
        for first, p in zip(card, chance, strict=True):
            for second, q in zip(card, chance, strict=True):
                hand = drawn(*drawn(0, 0, int(first)), int(second))
                special = (natural or sab) and {int(first), int(second)} == {1, 10}
                s = first_natural + dealer - 1 if special else int(index[hand[0], dealer, hand[1]])
                start[s] += p * q * chance[dealer - 1]
    # Sums that no hand has, and the ends: nothing happens there.
    stops = np.flatnonzero(~playing)
    transitions[stops] = 0.0
    transitions[stops, :, stops] = 1.0
    reward[stops] = 0.0
    flat = sp.csr_array(np.maximum(transitions, 0.0).reshape(-1, states))
    return EnvironmentTables(states, flat, sp.csr_array(reward.reshape(-1, states)), start, ~playing)


@functools.cache
def _environment_class() -> type:
    """Define the environment on first use, so that gymnasium is imported no earlier."""
    import gymnasium

    class TabularEnv(gymnasium.Env):
        """A tabular process as an environment; ``P`` and ``initial_state_distrib`` are those of gymnasium's toy-text environments."""

        metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's own form)

        def __init__(self, mdp: TabularMDP) -> None:
            self.mdp = mdp
            self.observation_space = gymnasium.spaces.Discrete(mdp.n_states)
            self.action_space = gymnasium.spaces.Discrete(mdp.n_actions)
            self.initial_state_distrib = to_numpy(mdp.start_probs).astype(np.float64)
            self.render_mode = None
            self.state = 0
            self.elapsed = 0

        @functools.cached_property
        def P(self) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:  # noqa: N802
            """Outcomes ``(probability, next state, reward, terminated)`` by state and action."""
            table = self.mdp.to_sparse()
            terminal = to_numpy(table.terminal)
            outcomes: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = {}
            for s in range(table.n_states):
                outcomes[s] = {}
                for a in range(table.n_actions):
                    columns, mass = row_pattern(table.transitions, np.array([s * table.n_actions + a]))
                    paid = table.transition_reward_at(s, a, columns[0])
                    listed = zip(mass[0], columns[0], paid, strict=True)
                    outcomes[s][a] = [(float(p), int(t), float(r), bool(terminal[t])) for p, t, r in listed if p > 0]
            return outcomes

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
            super().reset(seed=seed)
            self.state = int(self.np_random.choice(self.initial_state_distrib.size, p=self.initial_state_distrib))
            self.elapsed = 0
            return self.state, {}

        def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
            after = int(self.mdp.sample_next(self.state, action, seed=self.np_random))
            reward = float(self.mdp.transition_reward_at(self.state, action, after))
            self.state = after
            self.elapsed += 1
            # The horizon belongs to the process, so reaching it is an end, not a truncation.
            at_horizon = self.mdp.horizon is not None and self.elapsed >= self.mdp.horizon
            return after, reward, bool(to_numpy(self.mdp.terminal)[after]) or at_horizon, False, {}

    return TabularEnv


def make_environment(mdp: TabularMDP) -> Any:
    """Return an unbatched process as a ``gymnasium.Env``; see :meth:`TabularMDP.to_gymnasium`."""
    return _environment_class()(mdp)
