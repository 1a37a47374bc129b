"""Tabular Markov decision processes: dense or sparse, with or without an end."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, to_numpy
from prefsim.checks import as_index_array
from prefsim.typing import Array
from prefsim.worlds.grid import grid_tables
from prefsim.worlds.mdp_input import (
    check_sums,
    check_unpaid,
    read_process,
    read_rewards,
    read_shaped_reward,
)
from prefsim.worlds.random_tables import random_sparse_tables, random_tables
from prefsim.worlds.toy_text import make_environment, read_environment
from prefsim.worlds.transitions import (
    draw_successors,
    entries,
    sparse_form,
    successor_table,
    to_dense,
)
from prefsim.worlds.vector_environment import make_vector_environment

__all__ = ["DENSE_LIMIT", "TabularMDP"]

DENSE_LIMIT = 2000
"""Generators and readers choose the sparse layout above this number of states."""


@readable
@dataclass(frozen=True, init=False, eq=False)
class TabularMDP:
    r"""A Markov decision process whose states and actions can be listed.

    Parameters
    ----------
    transitions
        Dense ``(*batch, S, A, S)``, entry ``[s, a, s']`` the probability of moving to ``s'``; or
        any ``scipy.sparse`` matrix ``(S*A, S)`` with row ``s * A + a`` (actions fastest), kept as
        CSR in NumPy float64 on every backend.
    reward
        Expected reward ``(*batch, S, A)``, or reward of each transition ``(*batch, S, A, S)``
        (sparse: ``(S*A, S)``), of which the expectation is taken and the table kept as
        ``transition_reward``. One table of transitions may serve a batch of rewards. A cube
        ``(S, A, S)`` is read as rewards of transitions.
    discount
        In ``[0, 1)``; 1 is allowed with a ``horizon``, or where every state can reach a terminal
        one.
    horizon
        Number of decisions, or ``None`` for no limit.
    start_probs
        ``(S,)`` or ``(*batch, S)``; uniform over the non-terminal states unless given.
    terminal
        ``(S,)`` or ``(*batch, S)`` booleans: states in which nothing happens any more. They must be
        absorbing with reward 0 (see :func:`~prefsim.worlds.transitions.make_absorbing`); their
        value is 0 under every criterion.

    Attributes
    ----------
    transition_reward
        Reward of each transition in the layout of ``transitions``, or ``None`` where only its
        expectation was given.

    Raises
    ------
    ValueError
        If a shape does not fit, an entry is not finite, a probability is negative, a row does not
        sum to one within 1e-9 (1e-5 where held in single precision), a sparse entry is given twice,
        the discount is out of range, or a terminal state is not absorbing or pays.

    Examples
    --------
    >>> moves, reward = [[[0.0, 1.0]], [[0.0, 1.0]]], [[-1.0], [0.0]]
    >>> mdp = TabularMDP(moves, reward, discount=1.0, terminal=[False, True])
    >>> mdp.n_states, mdp.n_actions, mdp.start_probs
    (2, 1, array([1., 0.]))
    """

    transitions: Any  # dense ``(*batch, S, A, S)`` or CSR ``(S*A, S)``
    reward: Array
    discount: float
    horizon: int | None
    start_probs: Array
    terminal: Array
    transition_reward: Array | None

    def __init__(
        self,
        transitions: Any,
        reward: Any,
        *,
        discount: float,
        horizon: int | None = None,
        start_probs: Any = None,
        terminal: Any = None,
    ) -> None:
        set_fields(
            self,
            **read_process(
                transitions,
                reward,
                discount=discount,
                horizon=horizon,
                start_probs=start_probs,
                terminal=terminal,
            )._asdict(),
        )

    @property
    def n_states(self) -> int:
        """Number of states S."""
        return int(self.transitions.shape[-1])

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return int(self.reward.shape[-1])

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes: independent decision processes."""
        tables = (self.reward.shape[:-2], self.terminal.shape[:-1], self.start_probs.shape[:-1])
        own = () if self.is_sparse else self.transitions.shape[:-3]
        return tuple(np.broadcast_shapes(tuple(own), *(tuple(shape) for shape in tables)))

    @property
    def is_sparse(self) -> bool:
        """Whether the transitions are a CSR matrix ``(S*A, S)``."""
        return bool(sp.issparse(self.transitions))

    def to_dense(self) -> TabularMDP:
        """Return the same process with dense tables."""
        if not self.is_sparse:
            return self
        reward = self.reward if self.transition_reward is None else to_dense(self.transition_reward)
        return self._rebuild(to_dense(self.transitions), reward)

    def to_sparse(self) -> TabularMDP:
        """Return the same process with CSR tables, in NumPy float64; a batch has no sparse form."""
        if self.is_sparse:
            return self
        self._check_single("the sparse form")
        return self._rebuild(*sparse_form(self.transitions, self.reward, self.transition_reward))

    def with_reward(self, reward: Any) -> TabularMDP:
        """Return the process with another reward, in any form that the constructor takes.

        The dynamics are the same, and not checked again.
        """
        expected, per_transition = read_rewards(reward, self.transitions, self.n_actions)
        check_unpaid(to_numpy(expected), to_numpy(self.terminal))
        check_sums(expected, self.discount, self.horizon)
        return self.replace_checked(reward=expected, transition_reward=per_transition)

    def replace_checked(self, **changes: Any) -> Self:
        """Return the process with other fields, taken as they are.

        Only for values that are known to be valid.
        """
        changed = object.__new__(type(self))
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        set_fields(changed, **(kept | changes))
        return changed

    def shaped(self, potential: Any) -> TabularMDP:
        r"""Return the process with potential-based shaping.

        Its reward is :math:`r + \gamma\,\mathbb E\,\Phi(s') - \Phi(s)`.
        Optimal policies and advantages do not change; values change by :math:`-\Phi`.

        Parameters
        ----------
        potential
            ``(S,)`` or ``(*batch, S)``, zero in terminal states.

        Raises
        ------
        ValueError
            If the potential is not zero in a terminal state, or the horizon is finite (where
            shaping would have to depend on time).

        References
        ----------
        Ng, Harada and Russell 1999, "Policy invariance under reward transformations", theorem 1.
        """
        return self.with_reward(read_shaped_reward(self, potential))

    def transition_reward_at(self, state: Any, action: Any, next_state: Any) -> np.ndarray:
        """Return ``r(s, a, s')`` of transitions of one unbatched process.

        A NumPy array of the indices' shape. Where only the expectation was given, that is
        ``r(s, a)``.
        """
        self._check_single("transition_reward_at")
        s = as_index_array(state, "state", size=self.n_states)
        a = as_index_array(action, "action", size=self.n_actions)
        after = as_index_array(next_state, "next_state", size=self.n_states)
        if self.transition_reward is None:
            return to_numpy(self.reward)[s, a] + np.zeros(after.shape)
        return entries(self.transition_reward, s, a, after)

    def sample_next(self, state: Any, action: Any, *, seed: Seed) -> np.ndarray:
        """Draw the next state of each pair of one unbatched process.

        Integers of the indices' shape.
        """
        self._check_single("sample_next")
        s = as_index_array(state, "state", size=self.n_states)
        a = as_index_array(action, "action", size=self.n_actions)
        return draw_successors(self.transitions, s, a, seed=seed)

    def to_gymnasium(self, *, num_envs: int | None = None) -> Any:
        """Return a ``gymnasium.Env`` that draws from these tables.

        Its spaces are ``Discrete(S)`` and ``Discrete(A)``. It terminates in terminal states, and
        after ``horizon`` decisions. With ``num_envs`` it is a ``gymnasium.vector.VectorEnv`` of so
        many copies, each reset in the step after its end.
        """
        self._check_single("to_gymnasium")
        return (
            make_environment(self) if num_envs is None else make_vector_environment(self, num_envs)
        )

    @classmethod
    def from_gymnasium(
        cls,
        environment: Any,
        *,
        discount: float,
        horizon: int | None = None,
        sparse: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Return the exact tables of a small environment.

        Parameters
        ----------
        environment
            An id such as ``"FrozenLake-v1"``, made with ``kwargs``, or an environment of toy text,
            whose states keep their numbers; or of minigrid or mo-gymnasium (extra ``worlds``),
            which is stepped through (:func:`~prefsim.worlds.explored.explore`). Several rewards
            are a batch ``(m, S, A)``. Blackjack is worked out from its rules: state
            ``numpy.ravel_multi_index((sum, dealer, ace), (32, 11, 2))``.
        discount, horizon
            As in the constructor. Gymnasium's time limits are not part of the process and are left
            out.
        sparse
            Layout; dense up to 2,000 states unless given.
        **kwargs
            Options of the environment, such as ``is_slippery=False`` or ``map_name="8x8"``.

        Notes
        -----
        A transition that terminates leads to a terminal state of value 0. Where that state can also
        be entered without an end, the transition leads to a state of its own, numbered after all
        others (Taxi, where the passenger may be at the goal before the ride). Several outcomes with
        one next state are merged; their reward is the conditional mean.

        Raises
        ------
        ValueError
            If the environment is unknown, rejects an option, has no transition table, or acts
            beyond its table (a fickle taxi passenger).
        """
        tables = read_environment(environment, kwargs)
        transitions, reward = tables.in_layout(sparse, DENSE_LIMIT)
        return cls(
            transitions,
            reward,
            discount=discount,
            horizon=horizon,
            start_probs=tables.start_probs,
            terminal=tables.terminal,
        )

    @classmethod
    def random(
        cls,
        n_states: int,
        n_actions: int,
        *,
        discount: float,
        seed: Seed,
        horizon: int | None = None,
        batch_shape: tuple[int, ...] = (),
        n_terminal: int = 0,
        deterministic: bool = False,
        transition_rewards: bool = False,
    ) -> Self:
        """Draw a dense process.

        Rows uniform on the simplex (or one uniform successor), rewards standard normal.
        The last ``n_terminal`` states are terminal. With ``transition_rewards`` every transition
        has its own reward.
        """
        table, reward, ended = random_tables(
            n_states,
            n_actions,
            seed=seed,
            batch_shape=batch_shape,
            n_terminal=n_terminal,
            deterministic=deterministic,
            transition_rewards=transition_rewards,
        )
        return cls(table, reward, discount=discount, horizon=horizon, terminal=ended)

    @classmethod
    def random_sparse(
        cls, n_states: int, n_actions: int, n_successors: int, *, discount: float, seed: Seed
    ) -> Self:
        """Draw a sparse process with ``n_successors`` distinct successors for every pair.

        One lies in each equal part of the states. Their probabilities are uniform on the simplex,
        rewards are uniform on [0, 1].
        """
        table, reward = random_sparse_tables(n_states, n_actions, n_successors, seed=seed)
        return cls(table, reward, discount=discount)

    @classmethod
    def grid_world(
        cls,
        reward: Any,
        *,
        discount: float,
        terminal: Any = None,
        blocked: Any = None,
        bump_reward: Any = None,
        horizon: int | None = None,
        start_probs: Any = None,
    ) -> Self:
        """Return a deterministic grid with the moves up, down, left, right.

        Cells are counted row by row.

        Parameters
        ----------
        reward
            ``(rows, columns)``: paid on entering a cell.
        discount, horizon, start_probs
            As in the constructor.
        terminal, blocked
            ``(rows, columns)`` booleans: cells that end the episode, and cells that cannot be
            entered.
        bump_reward
            ``(rows, columns)``: paid for a move that stays, off the board or into a blocked cell;
            ``reward`` of the own cell unless given.

        Raises
        ------
        ValueError
            If shapes differ, or the constructor rejects the process.

        Examples
        --------
        >>> rewards, stops = [[-1.0, -1.0, 5.0]], [[False, False, True]]
        >>> TabularMDP.grid_world(rewards, terminal=stops, discount=1.0).reward
        array([[-1., -1., -1., -1.],
               [-1., -1., -1.,  5.],
               [ 0.,  0.,  0.,  0.]])
        """
        successor, paid, ended = grid_tables(
            reward, terminal=terminal, blocked=blocked, bump_reward=bump_reward
        )
        table = successor_table(successor)
        return cls(
            to_dense(table) if ended.size <= DENSE_LIMIT else table,
            paid,
            discount=discount,
            horizon=horizon,
            start_probs=start_probs,
            terminal=ended,
        )

    def _rebuild(self, transitions: Any, reward: Any) -> TabularMDP:
        return type(self)(
            transitions,
            reward,
            discount=self.discount,
            horizon=self.horizon,
            start_probs=to_numpy(self.start_probs),
            terminal=to_numpy(self.terminal),
        )

    def _check_single(self, what: str) -> None:
        if self.batch_shape:
            raise ValueError(
                f"{what} needs one decision process, got batch shape {self.batch_shape}"
            )
