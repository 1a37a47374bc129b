"""What data prepare once for all the tables of a policy that a search goes through.

A search asks for the same examples again and again, and only the policy's log-probabilities are
others. Everything else is moved beside them, broadcast and read both ways before it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from prefsim.backend import like
from prefsim.containers import PairLogps, TokenPairLogps, UnpairedLogps, stacked
from prefsim.data.columns import both_ways, supported
from prefsim.numerics import array_namespace
from prefsim.policies.base import InMemoryPolicy, entries_of
from prefsim.typing import Array

__all__ = ["prepared_completions", "prepared_pairs", "prepared_segments", "steps_of"]

Asked = Mapping[str, tuple[np.ndarray, np.ndarray]]


def _shape_of_rows(table: Array, asked: Asked) -> tuple[int, ...]:
    """Return the shape of entries of a table ``(*batch, X, Y)`` at some places."""
    places = (np.shape(each) for both in asked.values() for each in both)
    return np.broadcast_shapes((*table.shape[:-2], 1), *places)


def prepared_pairs(
    data: Any,
    asked: Asked,
    policy: InMemoryPolicy,
    table: Array,
    ref_logps: tuple[Array, Array] | None,
) -> Callable[[Array], tuple[PairLogps, Array]]:
    """Return the examples of comparisons as a function of a table of log-probabilities.

    See :meth:`prefsim.data.Comparisons.prepared`; ``asked`` are the places of both responses.
    """
    read = entries_of(table, asked)
    xp = array_namespace(table)
    rows = _shape_of_rows(table, asked)
    ref_chosen, ref_rejected = ref_logps or (xp.zeros_like(table[..., 0, :1]),) * 2
    log_probs = {
        "ref_chosen": ref_chosen,
        "ref_rejected": ref_rejected,
        "old_chosen": data.old_chosen,
        "old_rejected": data.old_rejected,
    }
    others = {
        "chosen_length": policy.length(data.prompt, data.chosen),
        "rejected_length": policy.length(data.prompt, data.rejected),
        "chosen_score": data.chosen_score,
        "rejected_score": data.rejected_score,
        "weight": data.weight,
        "prob": data.prob,
    }
    columns = {
        name: like(column, table)
        for name, column in (log_probs | others).items()
        if column is not None
    }
    shape = np.broadcast_shapes(rows, *(tuple(column.shape) for column in columns.values()))
    columns = {name: xp.broadcast_to(column, shape) for name, column in columns.items()}
    weight, prob = columns.pop("weight"), columns.pop("prob")
    some_empty, soft = (data.weight == 0).any(), not (data.prob == 1).all()
    row_weight = weight
    if some_empty:
        for name in log_probs.keys() & columns.keys():
            columns[name] = supported(columns[name], row_weight)
    # The two that stand for the policy's come with every table.
    pairs = PairLogps(chosen=columns["ref_chosen"], rejected=columns["ref_rejected"], **columns)
    if soft:
        pairs, weight = both_ways(pairs, weight, prob)

    def of(table: Array) -> tuple[PairLogps, Array]:
        chosen, rejected = (xp.broadcast_to(each, shape) for each in read(table).values())
        if some_empty:
            chosen, rejected = (supported(each, row_weight) for each in (chosen, rejected))
        if soft:
            chosen, rejected = (
                xp.concat(way, axis=-1) for way in ([chosen, rejected], [rejected, chosen])
            )
        return pairs._replace(chosen=chosen, rejected=rejected), weight

    return of


def prepared_completions(
    data: Any,
    asked: Asked,
    policy: InMemoryPolicy,
    table: Array,
    ref_logps: tuple[Array, ...] | None,
) -> Callable[[Array], tuple[UnpairedLogps, Array]]:
    """Return the examples of feedback as a function of a table of log-probabilities.

    See :meth:`prefsim.data.Feedback.prepared`; ``asked`` are the places of the completions.
    """
    read = entries_of(table, asked)
    xp = array_namespace(table)
    zero = xp.zeros_like(table[..., 0, :1])
    ref_logp, *ref_other = ref_logps or (zero, zero)
    rows = xp.broadcast_to(zero, _shape_of_rows(table, asked))
    _, ref_logp, length, weight, label = xp.broadcast_arrays(
        rows,
        like(ref_logp, table),
        policy.length(data.prompt, data.completion),
        like(data.weight, table),
        like(data.label, table),
    )
    shape, row_weight = tuple(weight.shape), weight
    some_empty = (data.weight == 0).any()
    if some_empty:
        ref_logp = supported(ref_logp, row_weight)
    further: dict[str, Any] = {}
    if data.density_ratio is not None:
        further["density_ratio"] = like(data.density_ratio, table)
    if data.mismatched is not None:
        further |= {"mismatched": zero, "ref_mismatched": like(ref_other[0], table)}
    further = {name: xp.broadcast_to(value, shape) for name, value in further.items()}
    # Ones that stand for the policy's, which come with every table.
    completions = UnpairedLogps(ref_logp, ref_logp, desirable=label > 0.5, length=length, **further)
    soft = not np.isin(data.label, (0.0, 1.0)).all()
    if soft:
        never = xp.zeros_like(completions.desirable)
        completions = stacked(
            completions._replace(desirable=~never), completions._replace(desirable=never)
        )
        weight = xp.concat([weight * label, weight * (1 - label)], axis=-1)

    def of(table: Array) -> tuple[UnpairedLogps, Array]:
        logp, *other = (xp.broadcast_to(each, shape) for each in read(table).values())
        if some_empty:
            logp = supported(logp, row_weight)
        found = dict(zip(("logp", "mismatched"), (logp, *other), strict=False))
        if soft:
            found = {name: xp.concat([each, each], axis=-1) for name, each in found.items()}
        return completions._replace(**found), weight

    return of


def steps_of(data: Any, table: Array) -> Callable[[Array], tuple[Array, Array]]:
    """Return what reads the steps of first and second segments off a table, 0 where masked.

    Each ``(..., n, T)`` in nats.
    """
    state = np.where(data.mask, data.states[..., :-1], 0)
    action = np.where(data.mask, data.actions, 0)
    shared = state.ndim == 3
    # One list of steps is shared by every member of a batch of policies.
    steps = (state.reshape(-1), action.reshape(-1)) if shared else (state, action)
    read = entries_of(table, {"actions": steps}, prompts_are="states")
    xp = array_namespace(table)
    taken = like(data.mask, table, integer=True) > 0

    def of(table: Array) -> tuple[Array, Array]:
        logp = read(table)["actions"]
        if shared:
            logp = xp.reshape(logp, (*logp.shape[:-1], *state.shape))
        logp = xp.where(taken, logp, xp.zeros_like(logp))
        return logp[..., 0, :], logp[..., 1, :]

    return of


def prepared_segments(
    data: Any, table: Array, ref_logps: tuple[Array, Array] | None
) -> Callable[[Array], tuple[TokenPairLogps, Array]]:
    """Return the examples of segments as a function of a table of log-probabilities.

    See :meth:`prefsim.data.Segments.prepared`.
    """
    read = steps_of(data, table)
    xp = array_namespace(table)
    zero = xp.zeros_like(table[..., 0, :1])[..., None]
    ref_first, ref_second = ref_logps or (zero, zero)
    weight, prob = like(data.weight, table), like(data.prob, table)
    lead = np.broadcast_shapes(
        (*table.shape[:-2], 1), tuple(weight.shape), tuple(prob.shape), data.mask.shape[:-2]
    )
    weight, prob = xp.broadcast_to(weight, lead), xp.broadcast_to(prob, lead)
    some_empty, soft = (data.weight == 0).any(), not (data.prob == 1).all()
    row_weight = weight[..., None]

    def wide(steps: Array) -> Array:
        steps = xp.broadcast_to(steps, (*lead, data.length))
        return supported(steps, row_weight) if some_empty else steps

    def mask(segment: int) -> Array:
        taken = like(data.mask[..., segment, :], table, integer=True) > 0
        return xp.broadcast_to(taken, (*lead, data.length))

    # The reference's stand for the policy's, which come with every table.
    pairs = TokenPairLogps(
        chosen=wide(ref_first),
        rejected=wide(ref_second),
        ref_chosen=wide(ref_first),
        ref_rejected=wide(ref_second),
        chosen_mask=mask(0),
        rejected_mask=mask(1),
    )
    if soft:
        pairs, weight = both_ways(pairs, weight, prob, axis=-2)

    def of(table: Array) -> tuple[TokenPairLogps, Array]:
        first, second = map(wide, read(table))
        if soft:
            first, second = (xp.concat(way, axis=-2) for way in ([first, second], [second, first]))
        return pairs._replace(chosen=first, rejected=second), weight

    return of
