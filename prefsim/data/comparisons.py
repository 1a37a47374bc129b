"""Pairwise comparisons: which of two responses to one prompt is preferred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import (
    as_float_array,
    as_index_array,
    check_flag,
    check_integer,
    check_kind,
    check_unit_interval,
)
from prefsim.containers import (
    AnchoredLogps,
    ListLogps,
    PairLogps,
    SelfImprovementLogps,
    TokenPairLogps,
    UnpairedLogps,
)
from prefsim.data.columns import (
    as_log_probabilities,
    check_both_or_none,
    check_columns,
    check_policy_shape,
)
from prefsim.data.feedback import Feedback
from prefsim.data.prepared import prepared_pairs
from prefsim.policies.base import InMemoryPolicy, entries_of
from prefsim.policies.inverse_transform import inverse_transform
from prefsim.raters.general import sample_labels
from prefsim.typing import Array
from prefsim.worlds.bandit import ContextualBandit

__all__ = ["Comparisons"]

# Where a loss of another container finds its data.
_OTHER_DATA: dict[type, str] = {
    UnpairedLogps: "Comparisons.to_feedback makes single completions of them",
    ListLogps: "prefsim.data.Rankings hold lists, of two responses too",
    AnchoredLogps: "prefsim.data.Negatives hold rejected responses and samples",
    SelfImprovementLogps: "prefsim.data.Revisions read them as answers and as revisions",
    TokenPairLogps: "prefsim.data.Segments hold steps",
}


@readable
@dataclass(frozen=True, init=False, eq=False)
class Comparisons:
    """Comparisons in a tabular world, in the ecosystem's columns.

    Parameters
    ----------
    prompt, chosen, rejected
        Integers ``(n,)``, or ``(*batch, n)`` for one data set for each of a batch of policies.
    prob
        P(chosen ≻ rejected) in [0, 1], ``(n,)`` or ``(*batch, n)``; 1 unless given. A comparison
        with ``prob`` p enters an objective once as it stands with weight p and once reversed with
        weight 1 − p.
    weight
        Weight of each comparison, >= 0; 1/n unless given, so that an objective is a mean.
    chosen_score, rejected_score
        Judgements of the two responses for the losses that use their size: rewards, or
        probabilities of winning against an opponent. Both or neither.
    old_chosen, old_rejected
        Log-probabilities (<= 0 nats) under the policy that drew the responses, for losses of
        self-play and of policy gradients; ``-inf`` for what it never draws. Both or neither.

    Raises
    ------
    ValueError
        If a column has another length, an index is negative, or a probability or weight is out of
        range.
    """

    prompt: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    prob: np.ndarray
    weight: np.ndarray
    chosen_score: np.ndarray | None
    rejected_score: np.ndarray | None
    old_chosen: np.ndarray | None
    old_rejected: np.ndarray | None

    def __init__(
        self,
        prompt: Any,
        chosen: Any,
        rejected: Any,
        prob: Any = 1.0,
        weight: Any = None,
        *,
        chosen_score: Any = None,
        rejected_score: Any = None,
        old_chosen: Any = None,
        old_rejected: Any = None,
    ) -> None:
        columns = {
            "prompt": as_index_array(prompt, "prompt"),
            "chosen": as_index_array(chosen, "chosen"),
            "rejected": as_index_array(rejected, "rejected"),
        }
        if columns["prompt"].ndim == 0:
            raise ValueError("prompt must have shape (..., n), got a scalar")
        n = columns["prompt"].shape[-1]
        prob = as_float_array(prob, "prob")
        weight = as_float_array(1.0 / max(n, 1) if weight is None else weight, "weight")
        columns["prob"] = prob if prob.ndim else np.full(n, float(prob))
        columns["weight"] = weight if weight.ndim else np.full(n, float(weight))
        scores = {"chosen_score": chosen_score, "rejected_score": rejected_score}
        old = {"old_chosen": old_chosen, "old_rejected": old_rejected}
        check_both_or_none(scores, "responses")
        check_both_or_none(old, "responses")
        for name, column in scores.items():
            if column is not None:
                columns[name] = as_float_array(column, name)
        for name, column in old.items():
            if column is not None:
                columns[name] = as_log_probabilities(column, name)
        check_columns(columns, n)
        check_unit_interval(columns["prob"], "prob")
        if (columns["weight"] < 0).any():
            raise ValueError(f"weight must be >= 0, got {columns['weight'].min()}")
        set_fields(self, **(scores | old | columns))

    def __len__(self) -> int:
        return int(self.prompt.shape[-1])

    @classmethod
    def population(
        cls,
        world: ContextualBandit,
        policy: InMemoryPolicy | None = None,
        *,
        against: InMemoryPolicy | None = None,
        distinct: bool = False,
    ) -> Comparisons:
        """Enumerate every (x, y, y') of ``world`` with its preference probability.

        Each is weighted by ``ρ(x) π(y|x) π'(y'|x)``.

        Parameters
        ----------
        world
            Any leading batch axes.
        policy, against
            Distributions of the two responses: the first is uniform, as in :meth:`sample`, and the
            second ``policy`` unless given.
        distinct
            Condition on the two responses being different, in each context, rather than keep y = y'
            (which adds a constant to the losses of the margin).

        Returns
        -------
        Comparisons with ``n = X·Y²`` rows (``X·Y·(Y − 1)`` if distinct) and weights that sum to
        one.
        """
        check_kind(ContextualBandit, world=world)
        given = {"policy": policy, "against": against}
        check_kind(InMemoryPolicy, **{name: one for name, one in given.items() if one is not None})
        check_flag(distinct=distinct)
        x, y = world.n_contexts, world.n_responses
        first = _drawn_by(policy, np.full((x, y), 1.0 / y))
        second = _drawn_by(against, first)
        for table in (first, second):
            check_policy_shape(table, world)
        context = to_numpy(world.context_probs).astype(np.float64)
        pairs = first[..., :, :, None] * second[..., :, None, :]
        if distinct:
            pairs = pairs * (1 - np.eye(y))
            total = pairs.sum(axis=(-2, -1), keepdims=True)
            if (total[..., context > 0, :, :] <= 0).any():
                raise ValueError(
                    "distinct comparisons need two different responses of positive probability in"
                    " every context, got one"
                )
            pairs = pairs / np.where(total > 0, total, 1.0)
        weight = context[:, None, None] * pairs
        prompt, chosen, rejected = np.indices((x, y, y)).reshape(3, -1)
        keep = chosen != rejected if distinct else np.ones(prompt.size, dtype=bool)
        weight = weight.reshape(*weight.shape[:-3], -1)[..., keep]
        prob = to_numpy(world.preference).astype(np.float64)
        prob = prob.reshape(*prob.shape[:-3], -1)[..., keep]
        return cls(prompt[keep], chosen[keep], rejected[keep], prob, weight)

    @classmethod
    def self_play(
        cls,
        world: ContextualBandit,
        policy: InMemoryPolicy,
        *,
        opponent: InMemoryPolicy | None = None,
        pairs: Comparisons | None = None,
    ) -> Comparisons:
        """Enumerate every pair of responses of ``policy`` with its chance to win.

        The losses of self-play need both.

        Parameters
        ----------
        world
            Any leading batch axes.
        policy
            π_t, which draws both responses; ``old_*`` are its log-probabilities.
        opponent
            Whom the responses play against: ``*_score`` is P(y ≻ opponent | x). The policy itself
            unless given.
        pairs
            Comparisons to judge in place of the population, for instance a sample of it.

        Returns
        -------
        Comparisons

        Examples
        --------
        >>> from prefsim.policies import TabularPolicy
        >>> world = ContextualBandit(preference=[[[0.5, 0.9], [0.1, 0.5]]])
        >>> Comparisons.self_play(
        ...     world, TabularPolicy.from_probs([[0.25, 0.75]])
        ... ).chosen_score.round(3)
        array([0.8, 0.8, 0.4, 0.4])
        """
        opponent = policy if opponent is None else opponent
        check_kind(InMemoryPolicy, opponent=opponent)
        rows = cls.population(world, policy) if pairs is None else pairs
        against = np.asarray(to_numpy(opponent.probs), dtype=np.float64)
        wins = (to_numpy(world.preference).astype(np.float64) @ against[..., None])[..., 0]
        logs = np.asarray(to_numpy(policy.log_probs), dtype=np.float64)
        first, second = (..., rows.prompt, rows.chosen), (..., rows.prompt, rows.rejected)
        return rows._with(
            chosen_score=wins[first],
            rejected_score=wins[second],
            old_chosen=logs[first],
            old_rejected=logs[second],
        )

    @classmethod
    def sample(
        cls,
        world: ContextualBandit,
        n: int,
        *,
        seed: Seed,
        policy: InMemoryPolicy | None = None,
        distinct: bool = False,
    ) -> Comparisons:
        """Draw ``n`` labelled comparisons.

        A prompt, two responses from ``policy`` (uniform unless given) and one Bernoulli label: rows
        of :meth:`population`, drawn with their weights. The preferred response is returned as
        ``chosen`` with ``prob`` 1. Unbatched worlds only.

        Two draws may be one response twice, from which losses of the margin learn nothing;
        ``distinct`` conditions on two different ones, as people are asked.
        """
        check_kind(ContextualBandit, world=world)
        if policy is not None:
            check_kind(InMemoryPolicy, policy=policy)
        check_integer(low=0, n=n)
        check_flag(distinct=distinct)
        if world.batch_shape:
            raise ValueError(f"sampling needs one world, got a batch of shape {world.batch_shape}")
        rng = random_generator(seed)
        x, y = world.n_contexts, world.n_responses
        if distinct and y < 2:
            raise ValueError("distinct comparisons need at least two responses, got 1")
        table = _drawn_by(policy, np.full((x, y), 1.0 / y))
        if table.shape != (x, y):
            expected = f"one policy over the world's {x} contexts and {y} responses"
            raise ValueError(f"sampling needs {expected}, got shape {table.shape}")
        pairs = table[:, :, None] * table[:, None, :]
        if distinct:
            pairs = pairs * (1 - np.eye(y))
        prompt = rng.choice(x, size=n, p=to_numpy(world.context_probs).astype(np.float64))
        cumulative = np.cumsum(pairs.reshape(x, -1), axis=-1)
        threshold = rng.random(n) * cumulative[prompt, -1]
        first, second = np.divmod(inverse_transform(cumulative, prompt, threshold), y)
        wins = (
            to_numpy(sample_labels(to_numpy(world.preference)[prompt, first, second], seed=rng)) > 0
        )
        return cls(prompt, np.where(wins, first, second), np.where(wins, second, first))

    def relabelled(self, prob: Any) -> Comparisons:
        """Return the same comparisons with other preference probabilities."""
        return self._with(prob=prob)

    def _with(self, **changed: Any) -> Comparisons:
        return Comparisons(
            **({field.name: getattr(self, field.name) for field in fields(self)} | changed)
        )

    def log_probs(self, policy: InMemoryPolicy) -> tuple[Array, Array]:
        """Return the log-probabilities of chosen and rejected, each ``(..., n)`` in nats."""
        table = policy.log_probs
        found = entries_of(table, self._asked())(table)
        return found["chosen"], found["rejected"]

    def _asked(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        prompt, chosen, rejected = np.broadcast_arrays(self.prompt, self.chosen, self.rejected)
        return {"chosen": (prompt, chosen), "rejected": (prompt, rejected)}

    def examples(
        self, policy: InMemoryPolicy, ref_logps: tuple[Array, Array] | None, kind: type
    ) -> tuple[PairLogps, Array]:
        """Return what a loss sees and the weight of each value.

        The rows as they stand, then (where needed) reversed.

        Parameters
        ----------
        policy
            The policy under training.
        ref_logps
            Log-probabilities of the reference on these rows; ``None`` stands for no reference
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
    ) -> Callable[[Array], tuple[PairLogps, Array]]:
        """Return :meth:`examples` as a function of the policy's table of log-probabilities alone.

        What does not depend on it is moved beside it, broadcast and reversed here, once.

        Parameters
        ----------
        policy, ref_logps, kind
            As for :meth:`examples`.
        table
            ``policy.log_probs``, of which others of its shape may stand in the place.
        """
        if kind is not PairLogps:
            hint = _OTHER_DATA.get(kind)
            raise ValueError(
                f"Comparisons feed losses of PairLogps, got a loss of {kind.__name__}"
                + (f"; {hint}" if hint else "")
            )
        return prepared_pairs(self, self._asked(), policy, table, ref_logps)

    def to_feedback(self) -> Feedback:
        """Return both responses of each comparison as single completions.

        Each is desirable with ``prob`` (the rejected with ``1 − prob``).

        Each completion carries the comparison's weight, so that the total weight doubles as the
        rows do.
        """
        prob, weight = np.broadcast_arrays(self.prob, self.weight)
        prompt, first, second = np.broadcast_arrays(self.prompt, self.chosen, self.rejected)
        return Feedback(
            np.concatenate([prompt, prompt], axis=-1),
            np.concatenate([first, second], axis=-1),
            np.concatenate([prob, 1 - prob], axis=-1),
            np.concatenate([weight, weight], axis=-1),
        )


def _drawn_by(policy: InMemoryPolicy | None, otherwise: np.ndarray) -> np.ndarray:
    """Return the probabilities of a policy as float64, or others where there is none."""
    return otherwise if policy is None else to_numpy(policy.probs).astype(np.float64, copy=False)
