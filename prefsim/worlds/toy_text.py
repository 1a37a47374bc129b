"""Between gymnasium's toy-text environments and exact tables.

Read their dynamics, or play a table as an environment.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import scipy.sparse as sp

from prefsim.backend import to_numpy
from prefsim.worlds.blackjack import blackjack_tables
from prefsim.worlds.transitions import ProcessTables, row_pattern

__all__ = ["make_environment", "read_environment"]


def read_environment(environment: Any, options: dict[str, Any]) -> ProcessTables:
    """Return the exact tables of an environment or of the id of one.

    See :meth:`TabularMDP.from_gymnasium`.
    """
    import gymnasium
    from gymnasium.envs.toy_text.blackjack import BlackjackEnv

    if isinstance(environment, gymnasium.Env):
        if options:
            raise ValueError(
                f"options are for an environment given by its id, got {sorted(options)} with an"
                " environment"
            )
        name, made = type(environment.unwrapped).__name__, environment
    else:
        name = str(environment)
        try:
            made = gymnasium.make(environment, **options)
        except (gymnasium.error.Error, TypeError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(
                f"gymnasium cannot make {environment!r} with options {options}: {error}"
            ) from error
    base: Any = made.unwrapped
    if isinstance(base, BlackjackEnv):
        return blackjack_tables(natural=bool(base.natural), sab=bool(base.sab))
    if getattr(base, "fickle_passenger", False):
        raise ValueError(
            f"{name} with fickle_passenger=True changes the destination outside its transition"
            " table P, so P is not its dynamics"
        )
    missing = [part for part in ("P", "initial_state_distrib") if not hasattr(base, part)]
    if missing:
        raise ValueError(
            f"{name} has no exact tables: it lacks {' and '.join(missing)}, which FrozenLake,"
            " CliffWalking and Taxi have (Blackjack is worked out from its rules)"
        )
    outcomes = [
        (s, a, p, after, r, ended)
        for s, row in base.P.items()
        for a, listed in row.items()
        for p, after, r, ended in listed
        if p > 0
    ]
    state, action, probability, after, reward, ended = (
        np.array(column) for column in zip(*outcomes, strict=True)
    )
    start = np.asarray(base.initial_state_distrib, dtype=np.float64)
    return _from_outcomes(
        state,
        action,
        probability,
        after,
        reward,
        ended.astype(bool),
        start,
        len(base.P),
        len(base.P[0]),
    )


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
) -> ProcessTables:
    """Return the tables of a list of outcomes.

    ``ended`` ones become moves to terminal states.
    """
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
    # Here repeated entries are meant to add up: an environment may list one next state several
    # times.
    transitions = sp.csr_array((mass, (row, column)), shape=shape)
    rewards = sp.csr_array((paid, (row, column)), shape=shape)
    transitions.sort_indices()
    rewards.sort_indices()
    rewards.data = rewards.data / transitions.data
    return ProcessTables(states, transitions, rewards, start, terminal)


@functools.cache
def _environment_class() -> type:
    """Define the environment on first use, so that gymnasium is imported no earlier."""
    import gymnasium

    class TabularEnv(gymnasium.Env):
        """A tabular process as an environment.

        ``P`` and ``initial_state_distrib`` are those of gymnasium's toy-text environments.
        """

        metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's own form)

        def __init__(self, mdp: Any) -> None:
            self.mdp = mdp
            self.observation_space = gymnasium.spaces.Discrete(mdp.n_states)
            self.action_space = gymnasium.spaces.Discrete(mdp.n_actions)
            self.initial_state_distrib = to_numpy(mdp.start_probs).astype(np.float64)
            self.render_mode = None
            self.state = 0
            self.elapsed = 0

        @functools.cached_property
        def P(self) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:
            """Outcomes ``(probability, next state, reward, terminated)`` by state and action."""
            table = self.mdp.to_sparse()
            terminal = to_numpy(table.terminal)
            outcomes: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = {}
            for s in range(table.n_states):
                outcomes[s] = {}
                for a in range(table.n_actions):
                    columns, mass = row_pattern(
                        table.transitions, np.array([s * table.n_actions + a])
                    )
                    paid = table.transition_reward_at(s, a, columns[0])
                    listed = zip(mass[0], columns[0], paid, strict=True)
                    outcomes[s][a] = [
                        (float(p), int(t), float(r), bool(terminal[t]))
                        for p, t, r in listed
                        if p > 0
                    ]
            return outcomes

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[int, dict[str, Any]]:
            super().reset(seed=seed)
            self.state = int(
                self.np_random.choice(self.initial_state_distrib.size, p=self.initial_state_distrib)
            )
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


def make_environment(mdp: Any) -> Any:
    """Return an unbatched :class:`~prefsim.worlds.TabularMDP` as a ``gymnasium.Env``.

    See :meth:`TabularMDP.to_gymnasium`.
    """
    return _environment_class()(mdp)
