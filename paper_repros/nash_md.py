"""Nash learning from human feedback: the regularised equilibrium of a preference model, by Nash-MD and Nash-MD-PG."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros._nash_md_experiments import (
    DESCENT,
    MIXTURES,
    WEIGHTS,
    converge,
    draw,
    elect,
    play_games,
    random_games,
)
from prefsim.backend import to_numpy
from prefsim.numerics import categorical_kl, logsumexp, softmax
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.solvers import fit_bradley_terry, solve_nash
from prefsim.solvers.games.certificates import (
    best_response,
    expected_preference,
    exploitability,
    geometric_mixture,
    payoff,
    regularised_gap,
)
from prefsim.solvers.games.policy_gradient import nash_md_pg_gradient, nash_md_pg_stationary_point
from prefsim.solvers.games.updates import UPDATES
from prefsim.testing.games import (
    cyclic_games,
    degenerate_games,
    games_with_reference,
    preference_games,
    references,
    transitive_games,
)
from prefsim.worlds.ballots import synthetic_ballots
from prefsim.worlds.game import PreferenceGame

PAPER = Paper(
    slug="nash_md",
    title="Nash Learning from Human Feedback",
    arxiv="2312.00886",
    year=2023,
    family="nash",
    summary=(
        "In place of a reward model, a preference model and the Nash equilibrium of its game,"
        " regularised towards a reference. Mirror descent against a geometric mixture with the"
        " reference converges in its last iterate; Nash-MD-PG is the policy gradient of that idea."
    ),
    implements=(
        "prefsim.solvers.solve_nash",
        "prefsim.solvers.games.updates.nash_md_update",
        "prefsim.solvers.games.policy_gradient.nash_md_pg_gradient",
        "prefsim.solvers.games.policy_gradient.sampled_policy_gradient",
        "prefsim.losses.nash.nash_md_pg",
        "prefsim.solvers.games.certificates.regularised_gap",
        "prefsim.worlds.PreferenceGame.from_preflib",
    ),
)


class Play(NamedTuple):
    """A game, reference and initial policy ``(n,)``, the penalty τ, and the weight ητ of the reference in a step."""

    preference: np.ndarray
    reference: np.ndarray
    initial: np.ndarray
    tau: float
    weight: float
    rule: str = "nash_md"

    @property
    def step(self) -> float:
        """Step size η."""
        return self.weight / self.tau

    def update(self, log_policy: np.ndarray, **options: float) -> np.ndarray:
        """Return the next log-policy, with another step or penalty if given."""
        found = {"step": self.step, "tau": self.tau, **options}
        return UPDATES[self.rule].apply(
            (log_policy,), self.preference, np.log(self.reference), **found
        )[0]


def _plays(
    games: st.SearchStrategy[PreferenceGame] | None = None,
    *,
    tau: tuple[float, float] = (0.03, 3.0),
    low: float = 1e-3,
    high: float = 1.0,
    rule: str = "nash_md",
) -> st.SearchStrategy[Play]:
    """Games, references, starts, penalties and weights ητ in ``[low, high]``."""

    def build(pair: tuple[PreferenceGame, np.ndarray]) -> st.SearchStrategy[Play]:
        game, reference = pair
        exponent = st.floats(math.log(tau[0]), math.log(tau[1])).map(math.exp)
        start = references(game.n_responses)
        return st.builds(
            Play,
            st.just(game.preference),
            st.just(reference),
            start,
            exponent,
            st.floats(low, high),
            st.just(rule),
        )

    return games_with_reference(preference_games(min_n=2) if games is None else games).flatmap(
        build
    )


def _equilibrium(preference: np.ndarray, reference: np.ndarray, tau: float) -> np.ndarray:
    return solve_nash(preference, method="regularised", reference=reference, tau=tau).policy


def _kl(policy: np.ndarray, log_other: np.ndarray) -> Any:
    return categorical_kl(np.log(policy), log_other)


def _check_contraction(play: Play) -> Verdict:
    target = _equilibrium(play.preference, play.reference, play.tau)
    log_policy, worst = np.log(play.initial), -math.inf
    distance = _kl(target, log_policy)
    for _ in range(60):
        log_policy = play.update(log_policy)
        following = _kl(target, log_policy)
        worst = max(worst, following - (1 - play.weight) * distance - play.step**2 / 8)
        distance = following
    return Verdict(max(0.0, float(worst)), f"largest excess over the bound {worst:.3g}")


class Horizon(NamedTuple):
    """Games ``(B, n, n)`` from a seed, the horizon T, the penalty, and a factor on the step log T/(τT)."""

    seed: int
    horizon: int
    tau: float
    factor: float = 1.0


def _check_last_iterate(case: Horizon) -> Verdict:
    game = PreferenceGame.random(6, seed=case.seed, batch_shape=(8,))
    reference = softmax(np.random.default_rng(case.seed).standard_normal((8, 6)))
    step = math.log(case.horizon) / (case.tau * case.horizon)
    played = min(case.factor * step, 1 / case.tau)
    run = solve_nash(
        game,
        method="nash_md",
        reference=reference,
        tau=case.tau,
        step=played,
        max_iterations=case.horizon,
        tolerance=0.0,
    )
    target = _equilibrium(game.preference, reference, case.tau)
    bound = (1 - step * case.tau) ** case.horizon * _kl(target, np.log(reference)) + step / (
        8 * case.tau
    )
    share = float(np.max(_kl(target, np.log(run.policy)) / bound))
    return Verdict(max(0.0, share - 1.0), f"the last iterate uses {share:.2e} of the bound")


class Descent(NamedTuple):
    """A play, and the penalty and step that plain mirror descent is given."""

    play: Play
    exact: bool = True


def _check_mixtures(case: Descent) -> Verdict:
    play, keep = case.play, 1 - case.play.weight
    options = (
        {"step": play.step * keep, "tau": play.tau / keep}
        if case.exact
        else {"step": play.step, "tau": play.tau}
    )
    descent = play._replace(rule="mirror_descent")
    log_policy = np.log(play.reference)
    mixture, error = log_policy, 0.0
    for _ in range(20):
        log_policy = play.update(log_policy)
        mixture = descent.update(mixture, **options)
        both = geometric_mixture(log_policy, np.log(play.reference), weight=play.weight), mixture
        error = max(error, float(np.max(np.abs(np.exp(both[0]) - np.exp(both[1])))))
    return Verdict(error)


class Limit(NamedTuple):
    """A play with a constant step, and whether it starts at the limit that is claimed (all there is to see with a vanishing step)."""

    play: Play
    at_limit: bool = False


LEAST_BIAS = 1e-7


def _check_constant_step(case: Limit) -> Verdict:
    play = case.play
    corrected = play.tau / (1 + play.weight)
    target = _equilibrium(play.preference, play.reference, play.tau)
    stiffer = _equilibrium(play.preference, play.reference, play.tau / (1 - play.weight))
    predicted = best_response(play.preference, stiffer, reference=play.reference, tau=play.tau)
    steps = 1 if case.at_limit else math.ceil(35 / play.weight)
    plain = np.log(predicted if case.at_limit else play.reference)
    other = np.log(target if case.at_limit else play.reference)
    for _ in range(steps):
        plain, other = play.update(plain), play.update(other, tau=corrected)
    mixture = np.exp(geometric_mixture(other, np.log(play.reference), weight=play.step * corrected))
    errors = (
        float(np.max(np.abs(np.exp(plain) - predicted))),
        float(np.max(np.abs(mixture - target))),
    )
    bias = float(np.max(np.abs(np.exp(plain) - target)))
    detail = (
        f"limit off its formula by {errors[0]:.2e}, the corrected mixture off the equilibrium by"
        f" {errors[1]:.2e}; bias {bias:.3g}"
    )
    return Verdict(max(*errors, LEAST_BIAS - bias), detail)


class Ascent(NamedTuple):
    """A play, the mixture κ of Nash-MD-PG, and the point said to be stationary: by the formula, or the equilibrium."""

    play: Play
    mixture: float
    formula: bool = True


def _check_stationary(case: Ascent) -> Verdict:
    play, kappa = case.play, case.mixture
    if case.formula:
        point = nash_md_pg_stationary_point(
            play.preference, play.reference, tau=play.tau, mixture=kappa
        )
    else:
        point = _equilibrium(play.preference, play.reference, play.tau)
    gradient = nash_md_pg_gradient(
        play.preference, np.log(point), np.log(play.reference), tau=play.tau, mixture=kappa
    )
    at_zero = nash_md_pg_stationary_point(
        play.preference, play.reference, tau=play.tau, mixture=0.0
    )
    selfplay = np.max(np.abs(at_zero - _equilibrium(play.preference, play.reference, play.tau)))
    return Verdict(float(max(np.max(np.abs(gradient)), selfplay)), f"kappa {kappa:.3g}")


def _check_certificate(play: Play) -> Verdict:
    preference, reference, policy, tau = play.preference, play.reference, play.initial, play.tau
    if tau == 0:
        # Without a penalty a gap of zero would have to single out one policy, too.
        gap = 2 * exploitability(preference, policy)
        distance = np.max(np.abs(policy - solve_nash(preference, method="lp").policy))
        return Verdict(
            float(distance) if gap <= 1e-12 else 0.0,
            f"gap {gap:.2e} at a distance of {distance:.3g} from an equilibrium",
        )
    target = _equilibrium(preference, reference, tau)
    gap = regularised_gap(preference, policy, reference=reference, tau=tau)
    soft_maximum = tau * logsumexp(np.log(reference) + payoff(preference, policy) / tau)
    by_maximum = 2 * (soft_maximum + tau * _kl(policy, np.log(reference)) - 0.5)
    response = best_response(preference, policy, reference=reference, tau=tau)
    by_response = 2 * (
        expected_preference(preference, response, policy, reference=reference, tau=tau) - 0.5
    )
    ahead = expected_preference(preference, target, policy, reference=reference, tau=tau) - 0.5
    far = _kl(policy, np.log(target))
    errors = (
        abs(gap - by_maximum),
        abs(gap - by_response),
        abs(ahead - tau * far),
        far - gap / (2 * tau),
    )
    return Verdict(max(0.0, *map(float, errors)))


class Survey(NamedTuple):
    """Preferences, and two distributions by which the items of a pair are drawn."""

    preference: np.ndarray
    sampling: tuple[tuple[float, ...], ...]


def _check_reward_model(case: Survey) -> Verdict:
    counts = [np.multiply.outer(s, s) * case.preference for s in case.sampling]
    off_diagonal = 1 - np.eye(len(case.preference))
    tops = [int(np.argmax(fit_bradley_terry(c * off_diagonal).reward)) for c in counts]
    games = np.stack([c / (c + c.T) for c in counts])
    moved = np.ptp(solve_nash(games, method="lp").policy, axis=0).max()
    reference = np.full(len(case.preference), 1 / len(case.preference))
    moved = max(moved, np.ptp(_equilibrium(games, reference, 0.1), axis=0).max())
    return Verdict(
        float(moved) if tops[0] != tops[1] else 1.0,
        f"best rewards {tops}, equilibria differ by {moved:.1e}",
    )


def _check_condorcet(game: PreferenceGame) -> Verdict:
    # With Bradley-Terry preferences the largest reward has the largest average preference.
    best = np.argmax(np.mean(game.preference, axis=-1))
    policy = solve_nash(game, method="lp").policy
    return Verdict(float(np.max(np.abs(policy - np.eye(game.n_responses)[best]))))


CYCLE = np.array([[0.5, 0.9, 0.35], [0.1, 0.5, 0.9], [0.65, 0.1, 0.5]])
SAMPLING = ((0.8, 0.1, 0.1), (0.1, 0.1, 0.8))
_SHIFTS = st.lists(st.floats(-0.02, 0.02), min_size=3, max_size=3)


def _near_cycle(shifts: list[float]) -> Survey:
    upper = np.zeros((3, 3))
    upper[np.triu_indices(3, 1)] = shifts
    return Survey(CYCLE + upper - upper.T, SAMPLING)


CLAIMS = (
    Claim(
        "C1",
        "inequality",
        "One step of Nash-MD: KL(π*‖π₊) <= (1 − ητ) KL(π*‖π) + η²/8 for every ητ <= 1 (the paper"
        " has 2η²; 1/8 by Hoeffding's lemma)",
        "Theorem 1, one step; constant derived",
        _plays(),
        _check_contraction,
        1e-12,
        breaks=_plays(cyclic_games(), rule="mwu", high=0.3),
    ),
    Claim(
        "C2",
        "rate",
        "With η = log T/(τT) the last of T iterates has KL(π*‖π_T) <= (1 − ητ)^T KL(π*‖π₀) +"
        " η/(8τ)",
        "Theorem 1; constant derived",
        st.builds(
            Horizon,
            st.integers(0, 999),
            st.sampled_from([100, 300, 1000]),
            st.sampled_from([0.03, 0.1, 0.3, 1.0]),
            st.just(1.0),
        ),
        _check_last_iterate,
        1e-9,
        breaks=st.builds(
            Horizon, st.integers(0, 999), st.just(1000), st.just(0.03), st.floats(50.0, 140.0)
        ),
        examples=6,
    ),
    Claim(
        "C3",
        "identity",
        "Started at the reference, the mixtures of Nash-MD are the iterates of mirror descent with"
        " step η(1 − ητ) and penalty τ/(1 − ητ)",
        "derived",
        st.builds(Descent, _plays(high=0.95), st.just(True)),
        _check_mixtures,
        1e-12,
        breaks=st.builds(Descent, _plays(high=0.95), st.just(False)),
    ),
    Claim(
        "C4",
        "counterexample",
        "With a constant step Nash-MD converges not to π*_τ but to BR_τ(π*_{τ/(1−ητ)}); run with"
        " τ/(1+ητ), its mixture converges to π*_τ",
        "derived",
        st.builds(
            Limit,
            _plays(cyclic_games(least=0.2), tau=(0.5, 2.0), low=0.1, high=0.2).filter(
                lambda play: np.ptp(play.reference) > 0.1
            ),
            st.just(False),
        ),
        _check_constant_step,
        1e-12,
        breaks=st.builds(
            Limit,
            _plays(cyclic_games(least=0.2), tau=(0.5, 2.0), low=1e-9, high=1e-8),
            st.just(True),
        ),
        examples=15,
    ),
    Claim(
        "C5",
        "identity",
        "The Nash-MD-PG gradient with mixture κ vanishes at BR_τ(π*_{τ/(1−κ)}), for κ = 1 at"
        " BR_τ(μ): the equilibrium only for κ = 0",
        "derived from the gradient",
        st.builds(Ascent, _plays(), st.floats(0.0, 0.99) | st.just(1.0), st.just(True)),
        _check_stationary,
        1e-13,
        breaks=st.builds(Ascent, _plays(), st.floats(0.1, 1.0), st.just(False)),
    ),
    Claim(
        "C6",
        "inequality",
        "The regularised gap of π is 2τ KL(π‖BR_τ(π)); V_τ(π*, π) − ½ = τ KL(π‖π*), no more than"
        " half the gap: the equilibrium is unique",
        "existence and uniqueness of the regularised equilibrium",
        _plays(),
        _check_certificate,
        1e-12,
        breaks=_plays(degenerate_games()).map(lambda play: play._replace(tau=0.0)),
    ),
    Claim(
        "C7",
        "counterexample",
        "The Bradley–Terry reward fitted to intransitive preferences depends on how pairs are"
        " sampled, so much that its best response changes; the equilibria do not",
        "motivation of preference models",
        _SHIFTS.map(_near_cycle),
        _check_reward_model,
        1e-9,
        breaks=transitive_games(3, scale=2.0, gap=0.1).map(
            lambda game: Survey(game.preference, SAMPLING)
        ),
    ),
    Claim(
        "C8",
        "identity",
        "With Bradley–Terry preferences the equilibrium (τ → 0) is the response with the largest"
        " reward",
        "relation to reward models",
        transitive_games(gap=0.05),
        _check_condorcet,
        1e-12,
        breaks=cyclic_games(),
    ),
)


TAUS = (0.01, 0.1, 1.0)
FOUND = (0.071, 0.079, 0.090, 0.131, 0.192, 0.237)


def reproduce(run: Run) -> Reproduction:
    rng = np.random.default_rng(run.seed)
    games = random_games(10, rng)
    horizons = (30, 100, 300, 1000) if run.quick else (30, 100, 300, 1000, 3000, 10_000)
    converged = {tau: converge(games, tau, horizons) for tau in run.progress(TAUS, "penalties")}
    others = {
        DESCENT: play_games("mirror_descent", games, 0.1, horizons[-1]),
        WEIGHTS: play_games("mwu", games, 0.1, horizons[-1]),
    }

    rivals = random_games(20, rng)
    references = softmax(rng.standard_normal((20, 10)))
    points = [
        to_numpy(nash_md_pg_stationary_point(rivals, references, tau=0.05, mixture=kappa))
        for kappa in MIXTURES
    ]
    exploited = np.stack([exploitability(rivals, policy) for policy in points])
    wins = np.array([[expected_preference(rivals, a, b).mean() for b in points] for a in points])
    means = exploited.mean(axis=1)

    files = [
        synthetic_ballots(),
        *(sorted((run.data / "preflib").glob("*.so[ci]")) if run.data else ()),
    ]
    elections = [elect(path) for path in run.progress(files, "ballot files")]
    worst = max(election.exploitability for election in elections)
    last = max(election.distance for election in elections)
    excess, slopes = (
        max(c.excess for c in converged.values()),
        {tau: c.slope for tau, c in converged.items()},
    )
    criteria = (
        Criterion(
            "bound of theorem 1",
            "KL(π*‖π_t) never above (1 − ητ)^t KL(π*‖π₀) + η/(8τ)",
            f"largest excess {excess:.2e}",
            excess <= 1e-12,
        ),
        Criterion(
            "last-iterate rate",
            "slope of log KL(π*‖π_T) against log T at most −0.9",
            ", ".join(f"{slope:.2f} at τ = {tau:g}" for tau, slope in slopes.items()),
            max(slopes.values()) <= -0.9,
        ),
        Criterion(
            "exploitability grows with κ",
            "increasing; on other draws " + ", ".join(f"{x:.3f}" for x in FOUND),
            ", ".join(f"{x:.3f}" for x in means),
            bool(np.all(np.diff(means) > 0)),
        ),
        Criterion(
            "playing the reference alone loses",
            "κ = 1 wins less than ½ against every κ < 1",
            f"largest {wins[-1, :-1].max():.3f}",
            bool(wins[-1, :-1].max() < 0.5),
        ),
        Criterion("ballots, exact equilibria", "exploitability at most 1e-9", worst, worst <= 1e-9),
        Criterion(
            "ballots, who wins",
            "the Condorcet winner; a mixture where there is none",
            "; ".join(f"{e.row()['ballots']}: {e.row()['equilibrium']}" for e in elections),
            all(election.sensible for election in elections),
        ),
        Criterion(
            "ballots, Nash-MD",
            "KL(π*‖π_T) below 1e-4 after 2000 steps, τ = 0.1",
            last,
            last <= 1e-4,
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "penalty τ": tau,
            **{f"KL(π*‖π_T), T = {horizon}": value for horizon, value in c.last.items()},
            "slope": c.slope,
        }
        for tau, c in converged.items()
    ]
    table += [
        {
            "mixture κ": kappa,
            "exploitability": float(means[i]),
            **{f"wins against κ = {k:g}": float(wins[i, j]) for j, k in enumerate(MIXTURES)},
        }
        for i, kappa in enumerate(MIXTURES)
    ]
    table += [election.row() for election in elections]
    return Reproduction(draw(converged, others, exploited, wins), table, criteria)
