"""Self-improving robust preference optimisation: a generator and an improver from offline pairs, whoever drew them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _srpo_experiments as experiments
from paper_repros._srpo_experiments import (
    GOLDEN,
    GOLDEN_REFERENCE,
    fit_ipo,
    fit_srpo,
    pairs_of,
    total_variation,
)
from prefsim import losses
from prefsim.data import Comparisons, Revisions
from prefsim.numerics import categorical_kl
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.solvers import objective, revision_chain, solve_self_improvement
from prefsim.solvers.closed_forms.self_improvement import (
    self_improvement_errors,
    self_improvement_value,
)
from prefsim.solvers.games.certificates import best_response, expected_preference
from prefsim.testing.bandits import betas, tables
from prefsim.testing.games import (
    cyclic_games,
    degenerate_games,
    preference_games,
    references,
    transitive_games,
)
from prefsim.worlds import ContextualBandit, PreferenceGame

PAPER = Paper(
    slug="srpo",
    title="Self-Improving Robust Preference Optimization",
    arxiv="2406.01660",
    year=2024,
    family="nash",
    summary=(
        "A generator and an improver that revises its responses, as one min-max problem. It has a"
        " closed form that does not depend on how the training pairs were drawn, and one square"
        " loss on offline pairs finds both policies."
    ),
    implements=(
        "prefsim.losses.srpo",
        "prefsim.losses.SelfImprovementLogps",
        "prefsim.data.Revisions",
        "prefsim.solvers.solve_self_improvement",
        "prefsim.solvers.revision_chain",
        "prefsim.solvers.closed_forms.self_improvement.self_improvement_errors",
        "prefsim.solvers.closed_forms.self_improvement.self_improvement_value",
    ),
)

Array = np.ndarray


class Duel(NamedTuple):
    """Preferences ``(n, n)``, references of generator and improver, penalty β, and any generator, improver and sampler of pairs."""

    preference: Array
    reference: Array
    improver_reference: Array
    beta: float
    generator: Array
    improver: Array
    sampler: Array
    other_sampler: Array | None = None

    @property
    def world(self) -> dict[str, Any]:
        """What the exact solution depends on."""
        return {
            "reference": self.reference,
            "beta": self.beta,
            "improver_reference": self.improver_reference,
        }


def _duels(
    games: st.SearchStrategy[PreferenceGame] | st.SearchStrategy[Array] | None = None,
    *,
    low: float = 0.03,
    other: bool = False,
) -> st.SearchStrategy[Duel]:
    def build(game: PreferenceGame | Array) -> st.SearchStrategy[Duel]:
        table = np.asarray(getattr(game, "preference", game))
        one, rows = references(len(table)), references(len(table), batch=(len(table),))
        return st.builds(
            Duel, st.just(table), one, rows, betas(low), one, rows, one, one if other else st.none()
        )

    return (preference_games(min_n=2, max_n=6) if games is None else games).flatmap(build)


def _largest(*errors: Array | float) -> float:
    return max(float(np.max(np.abs(error))) for error in errors)


def _kl(first: Array, second: Array) -> Array:
    return categorical_kl(np.log(first), np.log(second))


def _check_saddle(duel: Duel) -> Verdict:
    solution = solve_self_improvement(duel.preference, **duel.world)

    def paid(generator: Array, improver: Array) -> Any:
        return self_improvement_value(duel.preference, generator, improver, **duel.world)

    at_saddle = paid(solution.generator, solution.improver)
    # The improver's best reply to any generator is the same; what each side loses by deviating is β
    # KL from the solution.
    lost = paid(duel.generator, solution.improver) - solution.value
    missed = solution.value - paid(solution.generator, duel.improver)
    short = paid(duel.generator, solution.improver) - paid(duel.generator, duel.improver)
    errors = (
        at_saddle - solution.value,
        lost - duel.beta * _kl(duel.generator, solution.generator),
        missed - duel.beta * solution.generator @ _kl(duel.improver, solution.improver),
        short - duel.beta * duel.generator @ _kl(duel.improver, solution.improver),
    )
    return Verdict(
        max(_largest(*errors), -lost, -missed, -short), f"value {float(solution.value):.4g}"
    )


def _check_identities(duel: Duel) -> Verdict:
    solution = solve_self_improvement(duel.preference, **duel.world)
    errors = self_improvement_errors(
        duel.preference, solution.generator, solution.improver, **duel.world
    )
    return Verdict(_largest(*errors))


def _check_independence(duel: Duel) -> Verdict:
    samplers = np.stack([duel.sampler, duel.generator])
    pairs = pairs_of(np.broadcast_to(duel.preference, (2, *duel.preference.shape)), samplers)
    behind = np.broadcast_to(duel.reference, samplers.shape)
    generators, improvers = fit_srpo(
        pairs, behind, beta=duel.beta, start=np.broadcast_to(duel.improver[0], samplers.shape)
    )
    exact = solve_self_improvement(duel.preference, duel.reference, beta=duel.beta)
    moved = total_variation(*generators).max(), total_variation(*improvers).max()
    return Verdict(
        _largest(generators - exact.generator, improvers - exact.improver, *moved),
        f"moved by {max(moved):.2e}",
    )


class Behaviour(NamedTuple):
    """A game, its reference, and the penalty with which IPO is fitted to pairs from three samplers."""

    preference: Array
    reference: Array
    beta: float


SAMPLERS = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
LEAST_MOVE = 0.05


def _check_ipo_moves(case: Behaviour) -> Verdict:
    games = np.broadcast_to(case.preference, (3, 3, 3))
    behind = np.broadcast_to(case.reference, (3, 3))
    found = fit_ipo(pairs_of(games, SAMPLERS), behind, beta=case.beta)
    formula = best_response(games, SAMPLERS, reference=behind, tau=case.beta)
    moved = min(float(total_variation(found[i], found[j])) for i, j in ((0, 1), (0, 2), (1, 2)))
    return Verdict(
        max(_largest(found - formula), LEAST_MOVE - moved), f"solutions at least {moved:.3g} apart"
    )


class Revised(NamedTuple):
    """A duel, and how many revisions are followed."""

    duel: Duel
    revisions: int


def _check_revisions(case: Revised) -> Verdict:
    duel = case.duel
    solution = solve_self_improvement(duel.preference, **duel.world)
    if case.revisions == 1:
        wins = (
            duel.generator @ (policy * duel.preference.T).sum(axis=1)
            for policy in (duel.improver_reference, solution.improver)
        )
        before, after = map(float, wins)
        return Verdict(max(0.0, before - after), f"from {before:.4f} to {after:.4f}")
    chain = revision_chain(duel.reference, solution.improver, revisions=case.revisions)
    wins_by_round = expected_preference(
        duel.preference, chain, np.broadcast_to(duel.reference, chain.shape)
    )
    return Verdict(max(0.0, float(-np.diff(wins_by_round).min())))


def _check_labels(duel: Duel) -> Verdict:
    n = len(duel.reference)
    world = ContextualBandit(preference=duel.preference[None])
    first = experiments.in_one_context(duel.sampler)
    second = first if duel.other_sampler is None else experiments.in_one_context(duel.other_sampler)
    data = Revisions(
        Comparisons.population(world, first, against=second), n_contexts=1, n_responses=n
    )
    policy = data.joint_policy(duel.generator[None], duel.improver[None])
    behind = data.joint_policy(duel.reference[None], duel.improver_reference[None])
    joint, own = (
        float(
            objective(
                policy,
                functools.partial(losses.srpo, beta=duel.beta, alpha=alpha),
                data,
                reference=behind,
            )
        )
        for alpha in (1, 0)
    )
    error = self_improvement_errors(duel.preference, duel.generator, duel.improver, **duel.world)
    # Weight of a pair by (draft, output): the output was drawn first.
    weight = np.outer(
        duel.sampler if duel.other_sampler is None else duel.other_sampler, duel.sampler
    )
    spread = np.sum(weight * duel.preference * (1 - duel.preference))
    soft_joint, soft_own = np.sum(weight * error.joint**2), np.sum(weight * error.improver**2)
    scale = 1 + soft_joint + soft_own
    return Verdict(_largest(joint - soft_joint - spread, own - 2 * soft_own - 2 * spread) / scale)


def _lead(preference: Array) -> float:
    """Return by how much the least beatable response is ahead of the next."""
    return float(np.diff(np.sort(np.max(preference, axis=0)))[0])


def _check_limits(duel: Duel) -> Verdict:
    reference, n = duel.reference, len(duel.reference)
    least = int(np.argmin(np.max(duel.preference, axis=0)))
    sharp = solve_self_improvement(
        duel.preference, reference, beta=max(_lead(duel.preference), 0.05) / 400
    )
    missing = 1 - float(sharp.generator[least])
    excess = 0.0
    for beta in (1e2, 1e4, 1e6):
        flat = solve_self_improvement(duel.preference, reference, beta=beta)
        ratios = (
            np.log(flat.generator / reference),
            np.log(flat.improver / np.broadcast_to(reference, (n, n))),
        )
        excess = max(excess, _largest(*ratios) - 1 / beta)
    return Verdict(
        max(missing, excess), f"mass {missing:.2e} away from the least beatable response"
    )


def _unbalanced(table: Array) -> Array:
    matrix = np.array(table)
    np.fill_diagonal(matrix, 0.5)
    return matrix


def _near_golden(shifts: Array) -> Array:
    upper = np.triu(shifts, 1)
    return GOLDEN + upper - upper.T


def _without_a_response(duel: Duel) -> Duel:
    sampler = np.where(np.arange(len(duel.reference)) == 0, 0.0, duel.sampler)
    return duel._replace(sampler=sampler / sampler.sum(), generator=sampler / sampler.sum())


SMALL = preference_games(min_n=2, max_n=3)

CLAIMS = (
    Claim(
        "C1",
        "identity",
        "The closed form is a saddle point: another generator π pays β KL(π‖π*), another improver"
        " gains β KL less against any generator",
        "min-max problem and its solution",
        _duels(),
        _check_saddle,
        1e-12,
    ),
    Claim(
        "C2",
        "identity",
        "At the solution P(b ≻ a) = ½ + β[l†(b|a) − l†(a|a)] = ½ + (β/2)[l†(b|a) − l†(a|b) + l(b) −"
        " l(a)] for all drafts a and outputs b",
        "derivation of the offline loss",
        _duels(),
        _check_identities,
        1e-12,
        breaks=_duels(tables((3, 3), low=0.0, high=1.0).map(_unbalanced)),
    ),
    Claim(
        "C3",
        "identity",
        "The offline loss ends at the exact solution for every distribution of pairs with full"
        " support: two of them teach the same",
        "robustness to the behaviour policy",
        _duels(SMALL, low=0.2),
        _check_independence,
        1e-9,
        breaks=_duels(preference_games(3), low=0.2).map(_without_a_response),
        examples=8,
    ),
    Claim(
        "C4",
        "counterexample",
        "IPO's solution π_ref exp(P(·≻μ)/β) moves with the distribution μ of the pairs: by 0.05 in"
        " total variation near the golden game",
        "comparison with IPO",
        st.builds(
            Behaviour,
            tables((3, 3), low=-0.05, high=0.05).map(_near_golden),
            st.just(GOLDEN_REFERENCE),
            st.floats(0.1, 0.5),
        ),
        _check_ipo_moves,
        1e-9,
        breaks=st.builds(
            Behaviour,
            transitive_games(3).map(lambda game: np.asarray(game.preference)),
            st.just(GOLDEN_REFERENCE),
            st.floats(1e3, 1e4),
        ),
        examples=8,
    ),
    Claim(
        "C5",
        "inequality",
        "One revision is at least as good against its draft as one of the reference: E P(π†*(·|y) ≻"
        " y) >= E P(π_ref(·|y) ≻ y)",
        "self-improvement; derived (exponential tilt)",
        st.builds(Revised, _duels(), st.just(1)),
        _check_revisions,
        1e-12,
        breaks=st.builds(Revised, _duels(cyclic_games(least=0.2)), st.integers(2, 5)),
    ),
    Claim(
        "C6",
        "identity",
        "In expectation over labels the joint term is the square error of its identity, and the"
        " improver's twice that of its own, plus the variance of the labels",
        "offline loss",
        _duels(low=0.1),
        _check_labels,
        1e-12,
        breaks=_duels(low=0.1, other=True),
    ),
    Claim(
        "C7",
        "limit",
        "As β → ∞ both policies end at the reference (log-ratios at most 1/β); as β → 0 the"
        " generator ends at the least beatable response, the one with the smallest max P(· ≻ y)",
        "derived",
        _duels(
            preference_games(min_n=2, max_n=6).filter(
                lambda game: _lead(np.asarray(game.preference)) >= 0.02
            )
        ),
        _check_limits,
        1e-9,
        breaks=_duels(degenerate_games(max_n=5).filter(lambda game: game.n_responses > 1)),
    ),
)

EXPECTED_CHAIN = (0.5, 0.690, 0.700, 0.698, 0.698, 0.698)
EXPECTED_CYCLE = (0.535, 0.499, 0.458, 0.513, 0.503)


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    stages = iter(run.progress(("games", "samples", "revisions"), "stages"))
    next(stages)
    robustness = experiments.compare_data(6 if run.quick else 20, rng)
    next(stages)
    sizes = (1000, 3000, 10_000, 30_000) if run.quick else (1000, 3000, 10_000, 30_000, 100_000)
    samples = experiments.learn_from_samples(sizes, 50 if run.quick else 200, rng)
    next(stages)
    transitive = experiments.revise(*experiments.transitive_world(), beta=experiments.REVISION_BETA)
    cyclic = experiments.revise(GOLDEN, GOLDEN_REFERENCE, beta=experiments.REVISION_BETA)
    next(stages, None)
    slopes = {name: samples.slope(name) for name in samples.srpo}
    slack = 0.1 if run.quick else 0.05
    late = transitive.from_reference[2:]
    criteria = (
        Criterion(
            "SRPO and the sampler of the pairs",
            "total variation below 1e-6 between solutions from two samplers, and from the closed"
            " form",
            f"{robustness.srpo.max():.1e} and {robustness.error.max():.1e}",
            bool(max(robustness.srpo.max(), robustness.error.max()) < 1e-6),
        ),
        Criterion(
            "IPO and the sampler of the pairs",
            "mean total variation above .05 (.097, least .031, on another draw)",
            f"mean {robustness.ipo.mean():.3f}, least {robustness.ipo.min():.3f}",
            bool(robustness.ipo.mean() > 0.05),
        ),
        Criterion(
            "finite samples",
            f"SRPO's error falls as n^(−1/2) from either sampler: slopes within {slack} of −.5;"
            " IPO's from the other sampler does not fall",
            ", ".join(f"{slope:.3f} from {name}" for name, slope in slopes.items())
            + f"; IPO stays at {samples.ipo['B'][-1]:.3f}",
            all(abs(slope + 0.5) <= slack for slope in slopes.values())
            and samples.ipo["B"][-1] > 0.1
            and samples.ipo["A"][-1] < 0.02,
        ),
        Criterion(
            "revisions, transitive",
            "win rate of the first at least .68, then level within .01 ("
            + ", ".join(f"{x:.3f}" for x in EXPECTED_CHAIN)
            + ")",
            ", ".join(f"{x:.3f}" for x in transitive.from_reference),
            bool(transitive.from_reference[1] >= 0.68 and np.ptp(late) <= 0.01),
        ),
        Criterion(
            "generator without revision, transitive",
            "wins .7001 against the reference, IPO .6909",
            f"{transitive.from_generator[0]:.4f}, IPO {transitive.ipo:.4f}",
            bool(
                abs(transitive.from_generator[0] - 0.7001) < 5e-4
                and abs(transitive.ipo - 0.6909) < 5e-4
            ),
        ),
        Criterion(
            "revisions, cyclic",
            "the generator wins .535, its revisions oscillate ("
            + ", ".join(f"{x:.3f}" for x in EXPECTED_CYCLE)
            + ")",
            ", ".join(f"{x:.3f}" for x in cyclic.from_generator),
            bool(abs(cyclic.from_generator[:5] - EXPECTED_CYCLE).max() < 1e-3),
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "game": i,
            "TV between samplers, IPO": float(x),
            "TV between samplers, SRPO": float(y),
            "SRPO from its closed form": float(z),
        }
        for i, (x, y, z) in enumerate(zip(*robustness, strict=True))
    ]
    table += [
        {
            "comparisons": size,
            **{
                f"TV, {loss} from {name}": float(getattr(samples, loss)[name][i])
                for loss in ("srpo", "ipo")
                for name in "AB"
            },
        }
        for i, size in enumerate(sizes)
    ]
    table += [
        {
            "preferences": name,
            "revisions": k,
            "wins, from the reference": float(x),
            "wins, from the generator": float(y),
            "wins, IPO": chain.ipo,
        }
        for name, chain in (("transitive", transitive), ("cyclic", cyclic))
        for k, (x, y) in enumerate(zip(chain.from_reference, chain.from_generator, strict=True))
    ]
    return Reproduction(experiments.draw(robustness, samples, transitive, cyclic), table, criteria)
