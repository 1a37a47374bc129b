"""Compared segments of trajectories: which of two pieces of behaviour is preferred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import (
    as_float_array,
    as_index_array,
    as_mask,
    check_integer,
    check_same_shape,
    check_unit_interval,
)
from prefsim.containers import TokenPairLogps
from prefsim.data.columns import check_columns
from prefsim.data.prepared import prepared_segments, steps_of
from prefsim.data.trajectories import (
    Trajectories,
    at_steps,
    enumerate_trajectories,
    record_trajectories,
    sample_trajectories,
)
from prefsim.policies.base import InMemoryPolicy
from prefsim.raters.regret import partial_return_preference, segment_return
from prefsim.typing import Array
from prefsim.worlds.mdp import TabularMDP

Rater = Callable[["Segments"], Any]

# Beyond, columns of pairs are gigabytes and a sample is the better tool.
MAX_PAIRS = 4_000_000

__all__ = ["MAX_PAIRS", "Segments"]


@readable
@dataclass(frozen=True, init=False, eq=False)
class Segments:
    """Pairs of trajectory segments in a tabular decision process.

    Parameters
    ----------
    states
        Integers ``(*batch, n, 2, T + 1)``: the states of first and second segment, the one after
        the last step included.
    actions
        Integers ``(*batch, n, 2, T)``.
    prob
        P(first ≻ second) in [0, 1], ``(n,)`` or ``(*batch, n)``, ½ for a tie; 1 unless given. A
        pair with ``prob`` p enters an objective once as it stands with weight p and once reversed
        with weight 1 − p.
    weight
        Weight of each pair, >= 0; 1/n unless given, so that an objective is a mean.
    mask
        Booleans ``(*batch, n, 2, T)``: the steps that count, such as those before the end of an
        episode; all unless given. What the padding holds does not matter.

    Raises
    ------
    ValueError
        If a shape does not fit, there is no step, an index is negative, or a probability or weight
        is out of range.

    Examples
    --------
    >>> pair = Segments(states=[[[0, 1], [0, 0]]], actions=[[[1], [0]]])
    >>> len(pair), pair.length, pair.returns([[0.0, 2.0], [0.0, 0.0]])
    (1, 1, array([[2., 0.]]))
    """

    states: np.ndarray
    actions: np.ndarray
    prob: np.ndarray
    weight: np.ndarray
    mask: np.ndarray

    def __init__(
        self, states: Any, actions: Any, prob: Any = 1.0, weight: Any = None, mask: Any = None
    ) -> None:
        states, actions = as_index_array(states, "states"), as_index_array(actions, "actions")
        if actions.ndim < 3 or actions.shape[-2] != 2 or actions.shape[-1] == 0:
            raise ValueError(
                f"actions must have shape (..., n, 2, T) with T >= 1 steps, got {actions.shape}"
            )
        if states.shape != (*actions.shape[:-1], actions.shape[-1] + 1):
            expected = (*actions.shape[:-1], actions.shape[-1] + 1)
            raise ValueError(
                "states must have one entry more than actions along the last axis, shape"
                f" {expected}, got {states.shape}"
            )
        mask = (
            np.ones(actions.shape, dtype=bool)
            if mask is None
            else as_mask(to_numpy(mask), "mask", length=actions.shape[-1])
        )
        check_same_shape(actions=actions, mask=mask)
        n = actions.shape[-3]
        prob = as_float_array(prob, "prob")
        weight = as_float_array(1.0 / max(n, 1) if weight is None else weight, "weight")
        columns = {
            "prob": prob if prob.ndim else np.full(n, float(prob)),
            "weight": weight if weight.ndim else np.full(n, float(weight)),
        }
        check_columns(columns, n)
        check_unit_interval(columns["prob"], "prob")
        if (columns["weight"] < 0).any():
            raise ValueError(f"weight must be >= 0, got {columns['weight'].min()}")
        set_fields(self, states=states, actions=actions, mask=mask, **columns)

    def __len__(self) -> int:
        return int(self.actions.shape[-3])

    @property
    def length(self) -> int:
        """Number of steps T of a segment, padding included."""
        return int(self.actions.shape[-1])

    @classmethod
    def population(
        cls,
        mdp: TabularMDP,
        length: int,
        *,
        scores: Any = None,
        rater: Rater | None = None,
        discount: float = 1.0,
        policy: InMemoryPolicy | None = None,
        start: Any = None,
    ) -> Segments:
        """Enumerate all pairs of segments of ``length`` steps.

        Each is weighted by its probability under the design.

        The design draws two independent segments: a start state, actions and what the process makes
        of them. A pair and its reverse are one row with the weight of both; a segment is also
        compared with itself.

        Parameters
        ----------
        mdp
            One decision process.
        length
            Steps T, >= 1.
        scores
            What each step is worth to the rater, ``(S, A)`` or ``(S, A, S)``: rewards for the
            partial-return model, optimal advantages for the regret model. The first segment is
            preferred with the logistic probability of the difference in summed scores.
        rater
            In place of ``scores``: a function of the (unlabelled) segments that returns P(first ≻
            second), ``(n,)``.
        discount
            Inside the segments, for ``scores``; in [0, 1].
        policy, start
            The design: see :func:`~prefsim.data.trajectories.enumerate_trajectories`. Uniform
            actions and non-terminal states unless given.

        Raises
        ------
        ValueError
            If an argument does not fit the process, or there are more than four million pairs.
        """
        trajectories = enumerate_trajectories(mdp, length, policy=policy, start=start)
        m = trajectories.prob.size
        if m * (m + 1) // 2 > MAX_PAIRS:
            raise ValueError(
                f"at most {MAX_PAIRS} pairs are enumerated, got {m * (m + 1) // 2} of {m} segments;"
                " draw a sample instead"
            )
        first, second = np.triu_indices(m)
        weight = (
            trajectories.prob[first]
            * trajectories.prob[second]
            * np.where(first == second, 1.0, 2.0)
        )
        return cls._labelled(_pairs(trajectories, first, second, weight), scores, rater, discount)

    @classmethod
    def sample(
        cls,
        mdp: TabularMDP,
        n: int,
        length: int,
        *,
        seed: Seed,
        scores: Any = None,
        rater: Rater | None = None,
        discount: float = 1.0,
        policy: InMemoryPolicy | None = None,
        start: Any = None,
    ) -> Segments:
        """Draw ``n`` pairs of independent segments and one Bernoulli label for each.

        The arguments are those of :meth:`population`. The preferred segment comes first, with
        ``prob`` 1.
        """
        check_integer(low=0, n=n)
        rng = random_generator(seed)
        trajectories = sample_trajectories(mdp, 2 * n, length, seed=rng, policy=policy, start=start)
        return cls._labelled(_neighbours(trajectories), scores, rater, discount).drawn(seed=rng)

    @classmethod
    def from_gymnasium(
        cls,
        environment: Any,
        n: int,
        length: int,
        *,
        seed: Seed,
        scores: Any = None,
        rater: Rater | None = None,
        discount: float = 1.0,
        policy: InMemoryPolicy | None = None,
        start: Any = None,
    ) -> Segments:
        """Record ``n`` pairs of segments by acting in a gymnasium environment.

        One label is drawn for each, as in :meth:`sample`. Two consecutive pieces of behaviour make
        a pair; see :func:`~prefsim.data.trajectories.record_trajectories` for the other arguments.
        """
        check_integer(low=0, n=n)
        rng = random_generator(seed)
        trajectories = record_trajectories(
            environment, 2 * n, length, seed=rng, policy=policy, start=start
        )
        return cls._labelled(_neighbours(trajectories), scores, rater, discount).drawn(seed=rng)

    @classmethod
    def _labelled(
        cls, pairs: Segments, scores: Any, rater: Rater | None, discount: float
    ) -> Segments:
        if (scores is None) == (rater is None):
            raise ValueError(
                "labels need either scores or a rater, got "
                + ("neither" if rater is None else "both")
            )
        if rater is not None:
            return pairs.relabelled(rater(pairs))
        total = pairs.returns(scores, discount=discount)
        return pairs.relabelled(partial_return_preference(total[..., 0], total[..., 1]))

    @classmethod
    def stack(cls, members: Sequence[Segments]) -> Segments:
        """Return a batch ``(B, n, 2, T)`` of data sets of one size."""
        if not members:
            raise ValueError("a batch needs at least one data set, got none")
        columns = {
            name: [getattr(member, name) for member in members] for name in cls.__dataclass_fields__
        }
        for name, values in columns.items():
            check_same_shape(**{f"{name} of member {i}": value for i, value in enumerate(values)})
        return cls(**{name: np.stack(values) for name, values in columns.items()})

    def take(self, rows: Any) -> Segments:
        """Return the pairs ``rows`` of an unbatched data set, weighted 1/m each.

        ``(m,)``, or a batch of such choices ``(*batch, m)``.
        """
        if self.actions.ndim != 3:
            raise ValueError(
                f"rows are taken of one data set, got batch shape {self.actions.shape[:-3]}"
            )
        rows = as_index_array(rows, "rows", size=len(self))
        return Segments(
            self.states[rows], self.actions[rows], self.prob[rows], None, self.mask[rows]
        )

    def relabelled(self, prob: Any) -> Segments:
        """Return the same segments with other preference probabilities."""
        return Segments(self.states, self.actions, prob, self.weight, self.mask)

    def drawn(self, *, seed: Seed) -> Segments:
        """Return the same pairs with one Bernoulli label each, put in order.

        The preferred segment comes first, with ``prob`` 1.
        """
        lead = np.broadcast_shapes(self.prob.shape, self.actions.shape[:-2])
        wins = random_generator(seed).random(lead) < self.prob
        order = np.where(wins[..., None], [0, 1], [1, 0])[..., None]
        parts = (
            np.broadcast_to(part, (*lead, *part.shape[-2:]))
            for part in (self.states, self.actions, self.mask)
        )
        states, actions, mask = (np.take_along_axis(part, order, axis=-2) for part in parts)
        return Segments(states, actions, 1.0, self.weight, mask)

    def step_values(self, table: Any) -> np.ndarray:
        """Return the entries of a table at every step, ``(..., n, 2, T)``, 0 where masked.

        The table is ``(S, A)`` or ``(S, A, S)``.
        """
        values = as_float_array(table, "table")
        if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[0] != values.shape[2]):
            raise ValueError(f"table must have shape (S, A) or (S, A, S), got {values.shape}")
        return at_steps(values, self.states, self.actions, self.mask, next_state=values.ndim == 3)

    def step_features(self, features: Any) -> np.ndarray:
        """Return the vectors of a table at every step, ``(..., n, 2, T, d)``, 0 where masked.

        The table is ``(S, A, d)`` or ``(S, A, S, d)``.
        """
        values = as_float_array(features, "features")
        if values.ndim not in (3, 4):
            raise ValueError(
                f"features must have shape (S, A, d) or (S, A, S, d), got {values.shape}"
            )
        return at_steps(values, self.states, self.actions, self.mask, next_state=values.ndim == 4)

    def returns(self, table: Any, *, discount: float = 1.0) -> np.ndarray:
        r"""Return the discounted sums of the table's entries along segments, ``(..., n, 2)``."""
        return segment_return(self.step_values(table), discount=discount)

    def log_probs(self, policy: InMemoryPolicy) -> tuple[Array, Array]:
        """Return the log-probability of every step of first and second segment.

        Each ``(..., n, T)`` in nats, 0 where masked.
        """
        table = policy.log_probs
        return steps_of(self, table)(table)

    def examples(
        self, policy: InMemoryPolicy, ref_logps: tuple[Array, Array] | None, kind: type
    ) -> tuple[TokenPairLogps, Array]:
        """Return what a loss sees and the weight of each value.

        The pairs as they stand, then (where needed) reversed.

        Parameters
        ----------
        policy
            The policy under training.
        ref_logps
            Log-probabilities of the reference on these pairs; ``None`` stands for no reference
            (zeros).
        kind
            The loss's container.
        """
        table = policy.log_probs
        return self.prepared(policy, table, ref_logps, kind)(table)

    def prepared(
        self,
        policy: InMemoryPolicy,
        table: Array,
        ref_logps: tuple[Array, Array] | None,
        kind: type,
    ) -> Callable[[Array], tuple[TokenPairLogps, Array]]:
        """Return :meth:`examples` as a function of the policy's table of log-probabilities alone.

        See :meth:`prefsim.data.Comparisons.prepared`.
        """
        if kind is not TokenPairLogps:
            raise ValueError(
                f"Segments feed losses of TokenPairLogps, got a loss of {kind.__name__}"
            )
        return prepared_segments(self, table, ref_logps)


def _pairs(ways: Trajectories, first: np.ndarray, second: np.ndarray, weight: Any) -> Segments:
    states, actions, mask = (
        np.stack([column[first], column[second]], axis=1)
        for column in (ways.states, ways.actions, ways.mask)
    )
    return Segments(states, actions, 0.5, weight, mask)


def _neighbours(ways: Trajectories) -> Segments:
    index = np.arange(ways.prob.size).reshape(-1, 2)
    return _pairs(ways, index[:, 0], index[:, 1], None)
