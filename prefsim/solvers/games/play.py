"""Playing a method's updates until every game of a batch has met its certificate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from prefsim.numerics import array_namespace
from prefsim.solvers.games.certificates import gap_to_best_response, largest_gain
from prefsim.solvers.games.nash_methods import Update
from prefsim.solvers.games.results import NashHistory, NashResult
from prefsim.typing import Array

#: Tolerance of the iterative methods unless given.
UPDATE_TOLERANCE = 1e-8
# A certificate costs as much as an update or two.
CHECK_EVERY = 10

__all__ = ["UPDATE_TOLERANCE", "play"]


class Certified(NamedTuple):
    """The last and the average policy ``(..., n)`` with their certificates ``(...,)``."""

    policy: Array
    average_policy: Array
    exploitability: Array
    average_exploitability: Array
    regularised_gap: Array | None


def play(
    update: Update,
    preference: Array,
    log_reference: Array,
    start: Array,
    *,
    tau: float,
    steps: Iterable[float | None],
    options: Mapping[str, float],
    goal: float,
    record: int,
) -> NashResult:
    """Play updates from ``start`` until the certificates are at most ``goal`` or no step is left.

    With a goal of 0 every step is played.
    """
    xp = array_namespace(preference)
    batch = np.broadcast_shapes(
        tuple(preference.shape[:-2]), tuple(log_reference.shape[:-1]), tuple(start.shape[:-1])
    )
    state = update.start(xp.broadcast_to(start, (*batch, start.shape[-1])), preference)
    total = xp.zeros_like(state[0])
    used = xp.zeros(batch, dtype=xp.int64, device=preference.device)
    active = xp.ones(batch, dtype=xp.bool, device=preference.device)
    knows_tau = update.default_step is not None or update.penalty == "proximal"
    settings = {**options, **({"tau": tau} if knows_tau else {})}
    penalised = tau > 0 and update.penalty != "proximal"
    records: list[tuple[int, Certified]] = []
    everyone = True

    def certified() -> Certified:
        policy = xp.exp(state[0])
        played = xp.sum(total, axis=-1, keepdims=True)
        # Before the first update nothing has been played: its average is the policy itself.
        mean = total / xp.where(played > 0, played, xp.ones_like(played))
        average = xp.where(played > 0, mean, policy)
        gap = None
        if penalised:
            gap = gap_to_best_response(preference, policy, log_reference, tau=tau)
        return Certified(
            policy=policy,
            average_policy=average,
            exploitability=largest_gain(preference, policy),
            average_exploitability=largest_gain(preference, average),
            regularised_gap=gap,
        )

    for done, step in enumerate(steps):
        if done % CHECK_EVERY == 0 and goal > 0:
            active = active & ~(_certificate(certified(), update) <= goal)
            if not bool(xp.any(active)):
                break
            everyone = bool(xp.all(active))
        if record and done % record == 0:
            records.append((done, certified()))
        played = update.weight(done) * xp.exp(state[0])
        new = update.apply(
            state, preference, log_reference, **settings, **({} if step is None else {"step": step})
        )
        if not everyone:
            # A game that has met the tolerance stays as it is, so that it does not matter which
            # games are solved together.
            going = active[..., None]
            played = xp.where(going, played, xp.zeros_like(played))
            new = tuple(
                xp.where(going, after, before) for after, before in zip(new, state, strict=True)
            )
        total, state = total + played, new
        used = used + xp.astype(active, xp.int64)
    last = certified()
    if record:
        records.append((int(xp.max(used)) if used.shape != () else int(used), last))
    return NashResult(
        policy=last.policy,
        average_policy=last.average_policy,
        exploitability=last.exploitability,
        regularised_gap=last.regularised_gap,
        iterations=used,
        converged=_certificate(last, update) <= (goal if goal > 0 else UPDATE_TOLERANCE),
        history=_history(records) if record else None,
        average_exploitability=last.average_exploitability,
        certified=_certified_name(last, update),
    )


def _certificate(certified: Certified, update: Update) -> Array:
    """Return the certificate that the theory of the method is about."""
    if certified.regularised_gap is not None:
        return certified.regularised_gap
    averaged = _certified_name(certified, update) == "average_policy"
    return certified.average_exploitability if averaged else certified.exploitability


def _certified_name(certified: Certified, update: Update) -> str:
    """Return which of the policies the certificate is about."""
    averaged = update.certified == "average" and certified.regularised_gap is None
    return "average_policy" if averaged else "policy"


def _history(records: list[tuple[int, Certified]]) -> NashHistory:
    iteration = np.array([done for done, _ in records])
    stacked: dict[str, Any] = {}
    for name in Certified._fields:
        column = [getattr(certified, name) for _, certified in records]
        is_kept = column[0] is not None
        stacked[name] = array_namespace(column[0]).stack(column) if is_kept else None
    return NashHistory(iteration=iteration, **stacked)
