"""Between gymnasium's toy-text environments and exact tables.

Read their dynamics, or play a table as an environment.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.worlds.blackjack import blackjack_tables
from prefsim.worlds.explored import can_be_explored, explore, make_at_home
from prefsim.worlds.outcomes import Outcomes, ends_of, tables_of_outcomes
from prefsim.worlds.transitions import ProcessTables, row_pattern

__all__ = ["make_environment", "read_environment", "state_after_end"]


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
        make_at_home(name)
        try:
            # A map without a start divides zero by zero; it is named below.
            with np.errstate(invalid="ignore"), warnings.catch_warnings():
                # Of spaces in single precision, which have no part in the dynamics.
                warnings.filterwarnings("ignore", message=".*precision lowered")
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
    if can_be_explored(base):
        found = explore(base)
        placed = np.eye(1, len(found.states))[0]
        return tables_of_outcomes(found.outcomes, placed, int(base.action_space.n))
    missing = [part for part in ("P", "initial_state_distrib") if not hasattr(base, part)]
    if missing:
        raise ValueError(
            f"{name} has no exact tables: it lacks {' and '.join(missing)}, which FrozenLake,"
            " CliffWalking and Taxi have (Blackjack is worked out from its rules, and minigrid and"
            " multi-objective environments are explored)"
        )
    start = np.asarray(base.initial_state_distrib, dtype=np.float64)
    if not (start > 0).any():
        raise ValueError(
            f"{name} has no state to start in: a map of FrozenLake needs an S, and"
            " initial_state_distrib an entry > 0"
        )
    return tables_of_outcomes(_listed_outcomes(base.P), start, len(base.P[0]))


def _listed_outcomes(table: Mapping[int, Mapping[int, Any]]) -> Outcomes:
    listed = [
        (s, a, p, after, r, bool(ended))
        for s, row in table.items()
        for a, outcomes in row.items()
        for p, after, r, ended in outcomes
        if p > 0
    ]
    return Outcomes(*(np.array(column) for column in zip(*listed, strict=True)))


def state_after_end(environment: Any) -> np.ndarray | None:
    """Return the numbers ``(S,)`` that states have in the tables once an outcome ended in them.

    Their own, or S where the process may also go on from there; None without a transition table.
    """
    base = environment.unwrapped
    if not (hasattr(base, "P") and hasattr(base, "initial_state_distrib")):
        return None
    start = np.asarray(base.initial_state_distrib, dtype=np.float64)
    _, both = ends_of(_listed_outcomes(base.P), start)
    return np.where(both, start.size, np.arange(start.size))


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
            start = to_numpy(mdp.start_probs).astype(np.float64)
            # Draws are stricter than single precision sums.
            self.initial_state_distrib = start / start.sum()
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
