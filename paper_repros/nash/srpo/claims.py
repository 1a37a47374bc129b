"""What the paper says of the min-max problem, its offline loss and revisions."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.srpo.fitted import fit_ipo, fit_srpo, pairs_of
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.checks import trusted_values
from prefsim.data import Revisions
from prefsim.divergences import total_variation
from prefsim.numerics import categorical_kl
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.solvers import objective, revision_chain, solve_self_improvement
from prefsim.solvers.closed_forms.self_improvement import (
    SelfImprovement,
    self_improvement_errors,
    self_improvement_value,
)
from prefsim.solvers.games.certificates import best_response
from prefsim.testing import betas, degenerate_games, preference_games, references, tables
from prefsim.testing.games import games_near
from prefsim.typing import Array
from prefsim.worlds import TEXTBOOK_REFERENCE, PreferenceGame, textbook_game


class Duel(NamedTuple):
    """Preferences of n responses, the references, and any other policies and samplers.

    Improvers are ``(n, n)``, one row for each draft; the other policies are ``(n,)``.
    """

    preference: np.ndarray
    reference: np.ndarray
    improver_reference: np.ndarray
    generator: np.ndarray
    improver: np.ndarray
    sampler: np.ndarray
    other_sampler: np.ndarray

    def options(self, beta: float) -> dict[str, Any]:
        """Return what the exact solution depends on, beside the preferences."""
        return {
            "reference": self.reference,
            "beta": beta,
            "improver_reference": self.improver_reference,
        }

    def solution(self, beta: float) -> SelfImprovement:
        """Return the exact solution."""
        return solve_self_improvement(self.preference, **self.options(beta))


def duels_of(preference: np.ndarray) -> st.SearchStrategy[Duel]:
    n = len(preference)
    one, rows = references(n), references(n, batch=(n,))
    return st.builds(
        Duel,
        preference=st.just(preference),
        reference=one,
        improver_reference=rows,
        generator=one,
        improver=rows,
        sampler=one,
        other_sampler=one,
    )


def duels(games: st.SearchStrategy[PreferenceGame]) -> st.SearchStrategy[Duel]:
    return games.flatmap(lambda game: duels_of(np.asarray(game.preference)))


DUELS = duels(preference_games(min_n=2, max_n=6))


def divergence(first: Array, second: Array) -> Any:
    """Return KL(first‖second) along the last axis, in nats."""
    return categorical_kl(np.log(first), np.log(second))


# --- the min-max problem ---


@claim(
    "C1",
    "identity",
    source="min-max problem and its solution",
    stated="derived",
    given={"duel": DUELS, "beta": betas(0.03), "solved_for": st.just(1.0)},
    # The solution of a problem with other penalties.
    breaks={"solved_for": st.floats(1.5, 3.0)},
)
def the_closed_form_is_a_saddle_point(duel: Duel, beta: float, solved_for: float) -> Verdict:
    """The closed form is a saddle point: another generator π pays β KL(π‖π*), another improver
    gains β KL less against any generator.
    """
    solution = duel.solution(solved_for * beta)

    def paid(generator: Array, improver: Array) -> Any:
        return self_improvement_value(duel.preference, generator, improver, **duel.options(beta))

    against_any = paid(duel.generator, solution.improver)
    pays = against_any - solution.value
    # The improver's best reply is the same to every generator.
    misses = solution.value - paid(solution.generator, duel.improver)
    falls_short = against_any - paid(duel.generator, duel.improver)
    far = beta * divergence(duel.improver, solution.improver)
    return worst(
        apart(paid(solution.generator, solution.improver), solution.value),
        apart(pays, beta * divergence(duel.generator, solution.generator)),
        apart(misses, solution.generator @ far),
        apart(falls_short, duel.generator @ far),
        detail=f"value {float(solution.value):.4g}",
    )


def with_even_diagonal(table: np.ndarray) -> np.ndarray:
    matrix = np.array(table)
    np.fill_diagonal(matrix, 0.5)
    return matrix


UNBALANCED = tables((3, 3), low=0.0, high=1.0).map(with_even_diagonal)


@claim(
    "C2",
    "identity",
    source="derivation of the offline loss",
    stated="paper",
    given={"duel": DUELS, "beta": betas(0.03)},
    # Without P + Pᵀ = 1 the two orders of a pair disagree.
    breaks={"duel": UNBALANCED.flatmap(duels_of)},
)
def the_solution_fulfils_two_identities(duel: Duel, beta: float) -> Verdict:
    """At the solution P(b ≻ a) = ½ + β[l†(b|a) − l†(a|a)] = ½ + (β/2)[l†(b|a) − l†(a|b) + l(b) −
    l(a)] for all drafts a and outputs b; the references miss both by P(b ≻ a) − ½.
    """
    # Where the two orders of a pair disagree there is no game, which a solver would refuse.
    with trusted_values():
        solution = duel.solution(beta)
        solved, behind = (
            self_improvement_errors(duel.preference, generator, improver, **duel.options(beta))
            for generator, improver in (
                (solution.generator, solution.improver),
                (duel.reference, duel.improver_reference),
            )
        )
    return worst(apart(solved, 0.0), apart(behind, duel.preference.T - 0.5))


def lead(preference: np.ndarray) -> float:
    """Return by how much the least beatable response is ahead of the next."""
    return float(np.diff(np.sort(np.max(preference, axis=0)))[0])


def has_a_lead(game: PreferenceGame) -> bool:
    return lead(np.asarray(game.preference)) >= 0.02


@claim(
    "C7",
    "limit",
    source="derived",
    stated="derived",
    tolerance=1e-9,
    given={"duel": duels(preference_games(min_n=2, max_n=6).filter(has_a_lead))},
    # Where several responses are equally hard to beat, they share the generator's mass.
    breaks={
        "duel": duels(degenerate_games(max_n=5).filter(lambda game: game.n_responses > 1)),
    },
)
def the_penalty_interpolates(duel: Duel) -> Verdict:
    """As β → ∞ both policies end at the reference (log-ratios at most 1/β); as β → 0 the generator
    ends at the least beatable response, the one with the smallest max P(· ≻ y).
    """
    preference, reference = duel.preference, duel.reference
    least_beatable = int(np.argmin(np.max(preference, axis=0)))
    sharp = solve_self_improvement(preference, reference, beta=max(lead(preference), 0.05) / 400)
    missing = 1 - sharp.generator[least_beatable]
    parts = [above(missing, 0.0)]
    for beta in (1e2, 1e4, 1e6):
        flat = solve_self_improvement(preference, reference, beta=beta)
        parts += [
            above(np.abs(np.log(policy / reference)), 1 / beta)
            for policy in (flat.generator, flat.improver)
        ]
    return worst(*parts, detail=f"mass {missing:.2e} away from the least beatable response")


@claim(
    "C5",
    "inequality",
    source="self-improvement; derived (exponential tilt)",
    stated="derived",
    given={"duel": DUELS, "beta": betas(0.03), "revisions": st.just(1)},
    # A revision chases the last draft; in a cycle it may lose to the first.
    breaks={"revisions": st.integers(2, 5)},
)
def one_revision_does_no_harm(duel: Duel, beta: float, revisions: int) -> Verdict:
    """One revision is at least as good against its draft as one of the reference: E P(π†*(·|y) ≻
    y) >= E P(π_ref(·|y) ≻ y).
    """
    # One row for each draft, which is sure.
    drafts, improver = np.eye(len(duel.generator)), duel.solution(beta).improver
    chain = revision_chain(drafts, improver, revisions=revisions)
    revised = chain[-1]
    before, after = (
        float(duel.generator @ np.sum(outputs * duel.preference.T, axis=1))
        for outputs in (duel.improver_reference, revised)
    )
    return worst(
        above(before, after),
        apart(chain[1], improver),
        detail=f"from {before:.4f} to {after:.4f}",
    )


def outputs_of_all_paths(start: np.ndarray, improver: np.ndarray, revisions: int) -> np.ndarray:
    """Return the distribution of the last of so many revisions, a sum over all paths."""
    outputs = np.zeros(start.size)
    for path in itertools.product(range(start.size), repeat=revisions + 1):
        steps = [improver[draft, output] for draft, output in itertools.pairwise(path)]
        outputs[path[-1]] += start[path[0]] * np.prod(steps)
    return outputs


@claim(
    "C8",
    "identity",
    source="N-revision inference",
    stated="paper",
    examples=20,
    given={
        "duel": duels(preference_games(min_n=2, max_n=4)),
        "beta": betas(0.03),
        "revisions": st.integers(0, 3),
        "rows": st.just("drafts"),
    },
    # An improver that is read the other way round.
    breaks={"rows": st.just("outputs")},
)
def a_chain_revises_the_last_draft(duel: Duel, beta: float, revisions: int, rows: str) -> Verdict:
    """The outputs of N revisions are distributed as the ends of all paths y_0 ~ π, y_{k+1} ~
    π†(·|y_k), and every link of the chain is a distribution.
    """
    solution = duel.solution(beta)
    generator, improver = to_numpy(solution.generator), to_numpy(solution.improver)
    read = improver if rows == "drafts" else improver.T
    # Read the other way round its rows are no distributions, which would be refused.
    with trusted_values():
        chain = revision_chain(generator, read, revisions=revisions)
    ends = outputs_of_all_paths(generator, improver, revisions)
    return worst(apart(chain[-1], ends), apart(np.sum(chain, axis=-1), 1.0))


# --- the offline loss ---


@claim(
    "C6",
    "identity",
    source="offline loss",
    stated="derived",
    given={"duel": DUELS, "beta": betas(0.1), "apart_by": st.just(0.0)},
    # Two responses of a pair from two distributions.
    breaks={"apart_by": st.just(1.0)},
)
def labels_add_their_variance(duel: Duel, beta: float, apart_by: float) -> Verdict:
    """In expectation over labels the joint term is the square error of its identity, and the
    improver's twice that of its own, plus the variance of the labels.
    """
    first = duel.sampler
    second = (1 - apart_by) * duel.sampler + apart_by * duel.other_sampler
    pairs = pairs_of(duel.preference, first, against=second)
    data: Any = Revisions(pairs, n_contexts=1, n_responses=len(duel.reference))
    policy = data.joint_policy(duel.generator[None], duel.improver[None])
    behind = data.joint_policy(duel.reference[None], duel.improver_reference[None])
    joint, own = (
        objective(
            policy,
            functools.partial(losses.srpo, beta=beta, alpha=alpha),
            data,
            reference=behind,
        )
        for alpha in (1, 0)
    )
    error = self_improvement_errors(
        duel.preference, duel.generator, duel.improver, **duel.options(beta)
    )
    # Weight of a pair by (draft, output): the output was drawn first.
    weight = np.outer(second, first)
    variance = np.sum(weight * duel.preference * (1 - duel.preference))
    soft_joint, soft_own = np.sum(weight * error.joint**2), np.sum(weight * error.improver**2)
    scale = 1 + soft_joint + soft_own
    return worst(
        apart(joint, soft_joint + variance, scale=scale),
        apart(own, 2 * soft_own + 2 * variance, scale=scale),
    )


@claim(
    "C3",
    "identity",
    source="robustness to the behaviour policy",
    stated="paper",
    tolerance=1e-9,
    examples=8,
    given={
        "duel": duels(preference_games(min_n=2, max_n=3)),
        "beta": betas(0.2),
        "mass_of_first": st.just(1.0),
    },
    # Responses that nobody draws are not learnt.
    breaks={"mass_of_first": st.just(0.0)},
)
def every_sampler_teaches_the_same(duel: Duel, beta: float, mass_of_first: float) -> Verdict:
    """The offline loss ends at the exact solution for every distribution of pairs with full
    support: two of them teach the same.
    """
    samplers = np.stack([duel.sampler, duel.other_sampler])
    samplers[:, 0] *= mass_of_first
    samplers /= samplers.sum(axis=-1, keepdims=True)
    games = np.broadcast_to(duel.preference, (2, *duel.preference.shape))
    behind, start = (np.broadcast_to(x, samplers.shape) for x in (duel.reference, duel.generator))
    fitted = fit_srpo(pairs_of(games, samplers), behind, beta=beta, start=start)
    exact = solve_self_improvement(duel.preference, duel.reference, beta=beta)
    moved = [total_variation(*fitted.generator), *total_variation(*fitted.improver)]
    return worst(
        apart(fitted.generator, exact.generator),
        apart(fitted.improver, exact.improver),
        apart(moved, 0.0),
        detail=f"moved by {max(moved):.2e}",
    )


SAMPLERS = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
LEAST_MOVE = 0.05


@claim(
    "C4",
    "counterexample",
    source="comparison with IPO",
    stated="derived",
    tolerance=1e-9,
    examples=8,
    given={
        "game": games_near(textbook_game().preference, within=0.05),
        "beta": st.floats(0.1, 0.5),
    },
    breaks={"beta": st.floats(1e3, 1e4)},
)
def ipo_moves_with_the_sampler(game: PreferenceGame, beta: float) -> Verdict:
    """IPO's solution π_ref exp(P(·≻μ)/β) moves with the distribution μ of the pairs: by 0.05 in
    total variation for β <= ½ in cyclic games near a given one.
    """
    games = np.broadcast_to(game.preference, (3, 3, 3))
    behind = np.broadcast_to(TEXTBOOK_REFERENCE, (3, 3))
    fitted = fit_ipo(pairs_of(games, SAMPLERS), behind, beta=beta)
    formula = best_response(games, SAMPLERS, reference=behind, tau=beta)
    moved = total_variation(fitted[[0, 0, 1]], fitted[[1, 2, 2]])
    return worst(
        apart(fitted, formula),
        above(LEAST_MOVE, moved),
        detail=f"solutions at least {moved.min():.3g} apart",
    )
