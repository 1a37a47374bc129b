"""Optimal policies of many linear rewards at once, and the successor features that come with them.

Policy iteration from given policies: learning a reward solves almost the same problem at every
step, and the last optimal policy is then one or two improvements from the next. Deterministic moves
need no linear systems: following a policy for ``2^k`` steps is the same as following twice what it
does in ``2^(k-1)``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import to_numpy
from prefsim.checks import as_float_array, check_discount, check_kind, check_shape
from prefsim.solvers.planning.bellman import greedy_policy
from prefsim.worlds.mdp import TabularMDP

__all__ = ["FeatureOptimum", "FeatureProcess"]

IMPROVEMENT = 1e-10
"""An action replaces the current one if it is better by more than this.

Relative to the largest value and reward: equal ones never cycle.
"""

# A cap that is never met: policy iteration takes a handful of rounds, whatever the size.
MAX_IMPROVEMENTS = 1000


@readable
class FeatureOptimum(NamedTuple):
    """Optimal deterministic policies and their successor features, for weights ``(*more, d)``.

    Attributes
    ----------
    policy
        Integers ``(*more, S)``. Among equally good actions the one of the given policy is kept.
    state, state_action
        ``(*more, S, d)`` and ``(*more, S, A, d)``. Times the weights these are optimal values and
        action values; they are also a (sub)gradient of those values in the weights.
    improvements
        Rounds of policy improvement.
    """

    policy: np.ndarray
    state: np.ndarray
    state_action: np.ndarray
    improvements: int


class FeatureProcess:
    """A decision process with rewards linear in features, solved for many weights at once.

    Parameters
    ----------
    mdp
        Dense, infinite horizon; its own reward plays no part. A batch ``(B,)`` of processes needs
        weights ``(*more, B, d)``.
    features
        Expected features of each step, ``(S, A, d)`` or ``(B, S, A, d)``; those of terminal states
        are not counted.

    Raises
    ------
    ValueError
        If a shape does not fit or the discount is 1 (where weights that pay for going in circles
        have no optimum).
    """

    def __init__(self, mdp: TabularMDP, features: Any) -> None:
        check_kind(TabularMDP, mdp=mdp)
        check_discount(mdp.discount)
        if mdp.horizon is not None:
            raise ValueError(
                f"rewards are learned for an infinite horizon, got horizon {mdp.horizon}"
            )
        mdp = mdp.to_dense()
        transitions = to_numpy(mdp.transitions).astype(np.float64)
        table = as_float_array(features, "features", min_ndim=3)
        check_shape(table, "features", (mdp.n_states, mdp.n_actions, None))
        self.discount, self.shape = (
            mdp.discount,
            (mdp.n_states, mdp.n_actions, int(table.shape[-1])),
        )
        self.batch = np.broadcast_shapes(
            transitions.shape[:-3], table.shape[:-3], mdp.terminal.shape[:-1]
        )
        if len(self.batch) > 1:
            raise ValueError(f"one batch axis is understood, got batch shape {self.batch}")
        terminal = to_numpy(mdp.terminal)
        self._features = np.where(terminal[..., None, None], 0.0, table).reshape(-1, *self.shape)
        deterministic = bool((transitions.max(axis=-1) == 1).all())
        moves = transitions.reshape(-1, *transitions.shape[-3:])
        self._successor = np.argmax(moves, axis=-1) if deterministic else None
        self._moves = (
            None
            if deterministic
            else np.where(terminal.reshape(-1, self.shape[0])[..., None, None], 0.0, moves)
        )
        self._ended = np.broadcast_to(terminal, (*self.batch, self.shape[0])).reshape(
            -1, self.shape[0]
        )

    def optimum(self, weights: Any, policy: np.ndarray | None = None) -> FeatureOptimum:
        """Return optimal policies for weights ``(*more, *batch, d)``.

        They are improved from ``policy``, integers ``(*more, *batch, S)``, or from action 0 in
        every state.
        """
        weights = as_float_array(weights, "weights", min_ndim=1)
        states, actions, d = self.shape
        check_shape(weights, "weights", (*self.batch, d))
        lead = weights.shape[:-1]
        flat = weights.reshape(-1, d)
        member = self._members(flat)
        chosen = (
            np.zeros((flat.shape[0], states), dtype=np.int64)
            if policy is None
            else np.array(policy).reshape(-1, states)
        )
        reward = self._rewards(flat, member)
        size = np.abs(reward).max(axis=(-2, -1))
        active, rounds = np.arange(flat.shape[0]), 0
        while active.size and rounds < MAX_IMPROVEMENTS:
            rounds += 1
            gain, own = reward[active], chosen[active]
            value = self._evaluate(_pick(gain, own)[..., None], own, member[active])
            q_value = gain + self.discount * self._next(value, member[active])[..., 0]
            best = np.argmax(q_value, axis=-1)
            margin = IMPROVEMENT * (size[active] + np.abs(value).max(axis=(-2, -1)))
            better = _pick(q_value, best) > _pick(q_value, own) + margin[:, None]
            chosen[active] = np.where(better, best, own)
            active = active[better.any(axis=-1)]
        paid = np.take_along_axis(
            self._of(self._features, member), chosen[:, :, None, None], axis=2
        )[:, :, 0]
        state = self._evaluate(paid, chosen, member)
        after = self._of(self._features, member) + self.discount * self._next(state, member)
        return FeatureOptimum(
            chosen.reshape(*lead, states),
            state.reshape(*lead, states, d),
            after.reshape(*lead, states, actions, d),
            rounds,
        )

    def greedy_policy(self, weights: Any) -> np.ndarray:
        """Return optimal policies ``(*more, S, A)`` as probabilities.

        Equally good actions share the mass equally.
        """
        weights = as_float_array(weights, "weights", min_ndim=1)
        q_value = np.matmul(self.optimum(weights).state_action, weights[..., None, :, None])[..., 0]
        flat = weights.reshape(-1, weights.shape[-1])
        size = np.abs(self._rewards(flat, self._members(flat))).max(axis=(-2, -1))
        return greedy_policy(q_value, unit=np.minimum(size, 1.0).reshape(weights.shape[:-1]))

    def _members(self, flat: np.ndarray) -> np.ndarray:
        """Return which process of the batch each row of weights ``(K, d)`` is for."""
        return np.arange(flat.shape[0]) % max(int(np.prod(self.batch)), 1)

    @staticmethod
    def _of(table: np.ndarray, member: np.ndarray) -> np.ndarray:
        """Return the tables of these members; one table serves all."""
        return table if table.shape[0] == 1 else table[member]

    def _rewards(self, weights: np.ndarray, member: np.ndarray) -> np.ndarray:
        states, actions, d = self.shape
        if self._features.shape[0] == 1:
            return (weights @ self._features.reshape(-1, d).T).reshape(-1, states, actions)
        return np.matmul(
            self._features[member].reshape(-1, states * actions, d), weights[..., None]
        ).reshape(-1, states, actions)

    def _next(self, value: np.ndarray, member: np.ndarray) -> np.ndarray:
        """Return the expected next value ``(K, S, A, c)`` of values ``(K, S, c)``.

        It is 0 in terminal states, which stay where they are.
        """
        states, actions, _ = self.shape
        if self._successor is not None:
            offset = np.arange(value.shape[0])[:, None, None] * states
            return value.reshape(-1, value.shape[-1])[self._of(self._successor, member) + offset]
        assert self._moves is not None
        moves = self._of(self._moves.reshape(-1, states * actions, states), member)
        return np.matmul(moves, value).reshape(-1, states, actions, value.shape[-1])

    def _evaluate(self, paid: np.ndarray, policy: np.ndarray, member: np.ndarray) -> np.ndarray:
        """Return discounted sums ``(K, S, c)`` of what states pay under a policy ``(K, S)``."""
        problems, states = policy.shape
        if self._moves is not None:
            moves = np.take_along_axis(
                self._of(self._moves, member), policy[:, :, None, None], axis=2
            )[:, :, 0]
            return np.linalg.solve(np.eye(states) - self.discount * moves, paid)
        assert self._successor is not None
        successor = _pick(
            np.broadcast_to(
                self._of(self._successor, member), (problems, *self._successor.shape[1:])
            ),
            policy,
        )
        jump = (successor + np.arange(problems)[:, None] * states).reshape(-1)
        ended = self._of(self._ended, member)
        ended = np.broadcast_to(ended, policy.shape).reshape(-1)
        total, factor = paid.reshape(-1, paid.shape[-1]), self.discount
        # Steps so far double each time: until everything has ended, or what is left is below
        # rounding.
        while factor > 1e-18 and not ended[jump].all():
            total = total + factor * total[jump]
            jump, factor = jump[jump], factor * factor
        return (total + factor * total[jump]).reshape(paid.shape)


def _pick(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.take_along_axis(table, index[..., None], axis=-1)[..., 0]
