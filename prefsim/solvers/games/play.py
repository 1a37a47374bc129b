"""Playing a method's updates until every game of a batch has met its certificate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from prefsim.numerics import array_namespace
from prefsim.solvers.games.margins import gap_of_margins, largest_margin
from prefsim.solvers.games.nash_methods import Update
from prefsim.solvers.games.results import NashHistory, NashResult
from prefsim.solvers.games.updates import State, shares
from prefsim.typing import Array

#: Tolerance of the iterative methods unless given.
UPDATE_TOLERANCE = 1e-8
# A certificate costs as much as an update.
CHECK_EVERY = 10

__all__ = ["UPDATE_TOLERANCE", "play"]


class Certified(NamedTuple):
    """The last and the average policy ``(..., n)`` with their certificates ``(...,)``."""

    policy: Array
    average_policy: Array
    exploitability: Array
    average_exploitability: Array
    regularised_gap: Array | None


class Certificates(NamedTuple):
    """What play in games with margins ``P - 1/2`` is worth.

    ``tau`` is the penalty of the game, 0 where a method has only one of its own.
    """

    update: Update
    margins: Array
    log_reference: Array
    tau: float

    @property
    def name(self) -> str:
        """Which of the policies the theory of the method is about."""
        averaged = self.update.certified == "average" and self.tau == 0
        return "average_policy" if averaged else "policy"

    def decisive(self, state: State, total: Array) -> Array:
        """Return the certificate ``(...,)`` that the theory of the method is about, alone."""
        policy = self.update.policy(state)
        if self.tau > 0:
            return self._gap(policy)
        # Before the first update nothing has been played: its average is the policy itself.
        decides = policy if self.name == "policy" else shares(total, otherwise=policy)
        return largest_margin(self.margins, decides)

    def every(self, state: State, total: Array) -> Certified:
        """Return both policies and all of their certificates."""
        policy = self.update.policy(state)
        average = shares(total, otherwise=policy)
        return Certified(
            policy=policy,
            average_policy=average,
            exploitability=largest_margin(self.margins, policy),
            average_exploitability=largest_margin(self.margins, average),
            regularised_gap=self._gap(policy) if self.tau > 0 else None,
        )

    def _gap(self, policy: Array) -> Array:
        return gap_of_margins(self.margins, policy, self.log_reference, tau=self.tau)


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
    settings = {**options, **({"tau": float(tau)} if knows_tau else {})}
    certificates = Certificates(
        update, preference - 0.5, log_reference, tau if update.penalty != "proximal" else 0.0
    )
    records: list[tuple[int, Certified]] = []
    # As long as no game has met its goal they have all taken so many iterations.
    everyone, in_step = True, 0
    for done, step in enumerate(steps):
        if goal > 0 and done % CHECK_EVERY == 0:
            met = certificates.decisive(state, total) <= goal
            if bool(met if met.shape == () else xp.any(met)):
                active = active & ~met
                everyone = False
                if not bool(xp.any(active)):
                    break
        if record and done % record == 0:
            records.append((done, certificates.every(state, total)))
        played = update.policy(state)
        weight = update.weight(done)
        if weight != 1.0:
            played = weight * played
        if step is not None:
            settings["step"] = step
        new = update.apply(state, preference, log_reference, **settings)
        if everyone:
            in_step += 1
        else:
            # A game that has met the tolerance stays as it is, so that it does not matter which
            # games are solved together.
            going = active[..., None]
            played = xp.where(going, played, xp.zeros_like(played))
            new = tuple(
                xp.where(going, after, before) for after, before in zip(new, state, strict=True)
            )
            used = used + xp.astype(active, xp.int64)
        total, state = total + played, new
    used = used + in_step
    last = certificates.every(state, total)
    decisive = certificates.decisive(state, total)
    if record:
        records.append((int(xp.max(used)) if used.shape != () else int(used), last))
    return NashResult(
        policy=last.policy,
        average_policy=last.average_policy,
        exploitability=last.exploitability,
        regularised_gap=last.regularised_gap,
        iterations=used,
        converged=decisive <= (goal if goal > 0 else UPDATE_TOLERANCE),
        history=_history(records) if record else None,
        average_exploitability=last.average_exploitability,
        certified=certificates.name,
    )


def _history(records: list[tuple[int, Certified]]) -> NashHistory:
    iteration = np.array([done for done, _ in records])
    stacked: dict[str, Any] = {}
    for name in Certified._fields:
        column = [getattr(certified, name) for _, certified in records]
        is_kept = column[0] is not None
        stacked[name] = array_namespace(column[0]).stack(column) if is_kept else None
    return NashHistory(iteration=iteration, **stacked)
