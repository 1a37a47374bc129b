"""What the paper says of Nash-MD, of its policy gradient and of games, on random instances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.nash_md.convergence import bound, theorem_weight
from paper_repros.nash.nash_md.policy_gradient import play_average, standard_errors, tree_games
from prefsim.analysis.elections import bradley_terry_winner, distance_from_winner
from prefsim.backend import to_numpy
from prefsim.gradients import gradient
from prefsim.numerics import categorical_kl, log_softmax, logsumexp, softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.solvers import nash_path, solve_nash
from prefsim.solvers.games.certificates import (
    best_response,
    expected_preference,
    geometric_mixture,
    payoff,
    regularised_gap,
)
from prefsim.solvers.games.policy_gradient import nash_md_pg_gradient, sampled_policy_gradient
from prefsim.solvers.games.stationary_point import nash_md_pg_stationary_point
from prefsim.testing import cyclic_games, preference_games, tables, transitive_games
from prefsim.testing.games import Play, games_near, plays
from prefsim.worlds import PreferenceGame

MOST_RESPONSES = 8


def any_plays(*, low: float = 1e-3, high: float = 1.0) -> st.SearchStrategy[Play]:
    """Plays of any game, with weights ητ in ``[low, high]``."""
    games = preference_games(min_n=2, max_n=MOST_RESPONSES)
    return plays(games, tau=(0.03, 3.0), weight=(low, high))


# --- convergence of Nash-MD ---


@claim(
    "C1",
    "inequality",
    source="Theorem 1, one step; constant derived",
    stated="derived",
    given={"play": any_plays(), "method": st.just("nash_md")},
    breaks={
        "play": plays(cyclic_games(), tau=(0.03, 3.0), weight=(1e-3, 0.3)),
        "method": st.just("mwu"),
    },
)
def each_step_contracts(play: Play, method: str) -> Verdict:
    """One step of Nash-MD: KL(π*‖π₊) <= (1 − ητ) KL(π*‖π) + η²/8 for every ητ <= 1 (the paper has
    2η²; 1/8 by Hoeffding's lemma).
    """
    path = [np.log(play.policy)]
    for _ in range(60):
        path.append(play.update(method, path[-1]))
    distance = categorical_kl(np.log(play.equilibrium()), np.stack(path))
    return above(distance[1:], (1 - play.weight) * distance[:-1] + play.step**2 / 8)


@claim(
    "C2",
    "rate",
    source="Theorem 1; constant derived",
    stated="derived",
    tolerance=1e-9,
    examples=6,
    given={
        "seed": st.integers(0, 9999),
        "horizon": st.sampled_from([100, 300, 1000]),
        "tau": st.sampled_from([0.03, 0.1, 0.3, 1.0]),
        "step_factor": st.just(1.0),
    },
    breaks={"step_factor": st.floats(50.0, 140.0)},
)
def last_iterate_keeps_to_the_theorem(
    seed: int, horizon: int, tau: float, step_factor: float
) -> Verdict:
    """With η = log T/(τT) the last of T iterates has KL(π*‖π_T) <= (1 − ητ)^T KL(π*‖π₀) + η/(8τ)
    (loose: what is left falls with the square of log T/(τT), and the bound with its first power).
    """
    games = PreferenceGame.random(6, seed=seed, batch_shape=(8,))
    reference = softmax(np.random.default_rng(seed).standard_normal((8, 6)))
    weight = theorem_weight(horizon)
    path = nash_path(
        games,
        method="nash_md",
        reference=reference,
        tau=tau,
        step=min(step_factor * weight, 1.0) / tau,
        iterations=horizon,
        record=horizon,
    )
    target = solve_nash(games, method="regularised", reference=reference, tau=tau).policy
    first, last = categorical_kl(np.log(target), np.log(to_numpy(path.policy)))
    allowed = bound(first, weight, tau, horizon)
    return above(last, allowed, scale=allowed)


@claim(
    "C3",
    "identity",
    source="derived",
    stated="derived",
    given={"play": any_plays(high=0.95), "power": st.just(1)},
    breaks={"power": st.just(0)},
)
def mixtures_are_mirror_descent(play: Play, power: int) -> Verdict:
    """Started at the reference, the mixtures of Nash-MD are the iterates of mirror descent with
    step η(1 − ητ) and penalty τ/(1 − ητ).
    """
    kept = (1 - play.weight) ** power
    log_reference = np.log(play.reference)
    log_policy = descended = log_reference
    parts = []
    for _ in range(20):
        log_policy = play.update("nash_md", log_policy)
        descended = play.update(
            "mirror_descent", descended, step=play.step * kept, tau=play.tau / kept
        )
        mixture = geometric_mixture(log_policy, log_reference, weight=play.weight)
        parts.append(apart(np.exp(mixture), np.exp(descended)))
    return worst(*parts)


# A fiftieth of the least that games of twenty seeds showed; rounding is far below.
LEAST_BIAS = 1e-6


def cyclic_plays(*, low: float, high: float) -> st.SearchStrategy[Play]:
    """Plays of cyclic games with weights ητ in ``[low, high]``."""
    return plays(cyclic_games(least=0.2), tau=(0.5, 2.0), weight=(low, high))


def is_uneven(play: Play) -> bool:
    """Whether the reference is so uneven that a bias towards it shows."""
    return bool(np.ptp(play.reference) > 0.1)


@claim(
    "C4",
    "counterexample",
    source="derived",
    stated="derived",
    examples=15,
    given={"play": cyclic_plays(low=0.1, high=0.2).filter(is_uneven), "away": st.just(1.0)},
    # With a vanishing step nothing moves: all there is to see is the limit itself.
    breaks={"play": cyclic_plays(low=1e-9, high=1e-8), "away": st.just(0.0)},
)
def a_constant_step_is_biased(play: Play, away: float) -> Verdict:
    """With a constant step Nash-MD converges not to π*_τ but to BR_τ(π*_{τ/(1−ητ)}); run with
    τ/(1+ητ), its mixture converges to π*_τ.
    """
    log_reference, corrected = np.log(play.reference), play.tau / (1 + play.weight)
    target = play.equilibrium()
    stiffer = play._replace(tau=play.tau / (1 - play.weight)).equilibrium()
    limit = best_response(play.preference, stiffer, reference=play.reference, tau=play.tau)
    # From the limit to the reference; e⁻³⁵ of the way is left in the end.
    plain, other = (
        geometric_mixture(np.log(end), log_reference, weight=away) for end in (limit, target)
    )
    for _ in range(1 + math.ceil(35 * away / play.weight)):
        plain, other = (
            play.update("nash_md", plain),
            play.update("nash_md", other, tau=corrected),
        )
    mixture = geometric_mixture(other, log_reference, weight=play.step * corrected)
    bias = np.abs(np.exp(plain) - target).max()
    return worst(
        apart(np.exp(plain), limit),
        apart(np.exp(mixture), target),
        above(LEAST_BIAS, bias),
        detail=f"bias {bias:.3g}",
    )


@claim(
    "C5",
    "identity",
    source="derived from the gradient",
    stated="derived",
    tolerance=1e-13,
    given={
        "play": any_plays(),
        "mixture": st.floats(0.0, 0.99) | st.just(1.0),
        "accounted": st.just(1.0),
    },
    breaks={"accounted": st.just(0.0)},
)
def policy_gradient_vanishes_off_the_equilibrium(
    play: Play, mixture: float, accounted: float
) -> Verdict:
    """The Nash-MD-PG gradient with mixture κ vanishes at BR_τ(π*_{τ/(1−κ)}), for κ = 1 at BR_τ(μ):
    the equilibrium only for κ = 0.
    """
    point, at_zero = (
        nash_md_pg_stationary_point(play.preference, play.reference, tau=play.tau, mixture=kappa)
        for kappa in (accounted * mixture, 0.0)
    )
    gradient = nash_md_pg_gradient(
        play.preference, np.log(point), np.log(play.reference), tau=play.tau, mixture=mixture
    )
    return worst(
        apart(gradient, 0.0), apart(at_zero, play.equilibrium()), detail=f"κ = {mixture:.3g}"
    )


@claim(
    "C9",
    "identity",
    source="Nash-MD-PG; its loss",
    stated="derived",
    tolerance=1e-13,
    examples=12,
    given={
        "seed": st.integers(0, 9999),
        "length": st.integers(1, 2),
        "tau": st.floats(0.05, 1.0),
        "mixture": st.floats(0.0, 1.0),
        "kl": st.just("sequence"),
    },
    # A token of its own log-ratio does not know what it does to those after it.
    breaks={"length": st.just(2), "kl": st.just("token")},
)
def loss_has_the_policy_gradient(
    seed: int, length: int, tau: float, mixture: float, kl: str
) -> Verdict:
    """In the mean over all sequences of the policy the loss has the gradient of −E P(y ≻ y') + τ
    KL(π‖μ) against the mixture κ as a constant; of single tokens that is −(Nash-MD-PG gradient).
    """
    games = tree_games(1, length=length, tau=tau, seed=seed)
    policy = games.reference.with_parameters(-0.5 * games.reference.parameters)
    missed = games.gradient_error(policy, mixture, kl=kl)
    if length > 1:
        return apart(missed, 0.0, detail=f"{length} tokens, κ = {mixture:.3g}")
    exact = nash_md_pg_gradient(
        games.preference, policy.log_probs, games.log_reference, tau=tau, mixture=mixture
    )
    descent = gradient(
        lambda moved: games.mean_loss(policy.with_parameters(moved), mixture, kl=kl),
        policy.parameters,
    )
    return worst(apart(missed, 0.0), apart(descent, -np.ravel(exact)), detail="single tokens")


@claim(
    "C10",
    "statistical",
    source="Nash-MD-PG estimate",
    stated="paper",
    tolerance=6.0,
    examples=10,
    given={
        "play": plays(cyclic_games(4, least=0.2), tau=(0.1, 1.0), spread=1.0),
        "mixture": st.floats(0.0, 0.5),
        "baseline": st.floats(-1.0, 2.0),
        "seed": st.integers(0, 9999),
        "other_mixture": st.just(0.0),
    },
    breaks={"other_mixture": st.just(0.5)},
)
def samples_estimate_the_policy_gradient(
    play: Play, mixture: float, baseline: float, seed: int, other_mixture: float
) -> Verdict:
    """The mean of the estimates from 20 000 pairs y ~ π, y' ~ π^κ is within six standard errors of
    the Nash-MD-PG gradient, whatever the baseline.
    """
    log_policy, log_reference = np.log(play.policy), np.log(play.reference)
    opponent = geometric_mixture(log_policy, log_reference, weight=mixture + other_mixture)
    exact = nash_md_pg_gradient(
        play.preference, log_policy, log_reference, tau=play.tau, mixture=mixture
    )
    estimates = sampled_policy_gradient(
        play.preference,
        log_policy,
        log_reference,
        opponent,
        tau=play.tau,
        n=20_000,
        seed=seed,
        baseline=baseline,
    )
    return apart(standard_errors(estimates, exact), 0.0)


@claim(
    "C11",
    "limit",
    source="Nash-EMA-PG; limit derived",
    stated="derived",
    tolerance=1e-6,
    examples=8,
    given={
        "play": plays(preference_games(min_n=2, max_n=4), tau=(0.5, 1.0), spread=0.5),
        "rate": st.floats(0.05, 1.0),
    },
    # An opponent that does not follow stays the reference.
    breaks={"play": plays(cyclic_games(4, least=0.2), tau=(0.5, 1.0)), "rate": st.just(0.0)},
)
def average_opponents_lead_to_the_equilibrium(play: Play, rate: float) -> Verdict:
    """Nash-EMA-PG, whose opponent has the moving average of the policy's parameters, ends with both
    at the regularised equilibrium.
    """
    ends = play_average(
        play.preference, play.reference, tau=play.tau, rate=rate, step=3.0, iterations=400
    )
    target = play.equilibrium()
    return worst(apart(ends.policy, target), apart(ends.opponent, target))


# --- the regularised game ---


@claim(
    "C6",
    "inequality",
    source="existence and uniqueness of the regularised equilibrium",
    stated="derived",
    given={"play": any_plays(), "moved": st.just(0.0)},
    breaks={"moved": tables((MOST_RESPONSES,), low=-1.0, high=1.0)},
)
def the_gap_singles_out_the_equilibrium(play: Play, moved: np.ndarray) -> Verdict:
    """The regularised gap of π is 2τ KL(π‖BR_τ(π)); V_τ(π*, π) − ½ = τ KL(π‖π*), no more than half
    the gap: the equilibrium is unique.
    """
    preference, reference, policy = play.preference, play.reference, play.policy
    penalty: Any = {"reference": reference, "tau": play.tau}
    shift = np.broadcast_to(moved, MOST_RESPONSES)[: policy.size]
    log_target = log_softmax(np.log(play.equilibrium()) + shift)

    gap = regularised_gap(preference, policy, **penalty)
    payoffs = payoff(preference, policy)
    soft_maximum = play.tau * logsumexp(np.log(reference) + payoffs / play.tau)
    drift = categorical_kl(np.log(policy), np.log(reference))
    response = best_response(preference, policy, **penalty)
    best, ahead = (
        expected_preference(preference, other, policy, **penalty) - 0.5
        for other in (response, np.exp(log_target))
    )
    far = play.tau * categorical_kl(np.log(policy), log_target)
    return worst(
        apart(gap, 2 * (soft_maximum + play.tau * drift - 0.5)),
        apart(gap, 2 * best),
        apart(ahead, far),
        above(far, gap / 2),
    )


# --- reward models ---

CYCLE = np.array([[0.5, 0.9, 0.35], [0.1, 0.5, 0.9], [0.65, 0.1, 0.5]])
SAMPLING = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])


@claim(
    "C7",
    "counterexample",
    source="motivation of preference models",
    stated="paper",
    tolerance=1e-9,
    given={"game": games_near(CYCLE)},
    breaks={"game": transitive_games(3, scale=2.0, gap=0.1)},
)
def the_best_reward_depends_on_the_pairs(game: PreferenceGame) -> Verdict:
    """The Bradley–Terry reward fitted to intransitive preferences depends on how pairs are sampled,
    so much that its best response changes; the equilibria do not.
    """
    first, second = bradley_terry_winner(game.preference, SAMPLING)
    # What is counted in samples of either distribution, and the preferences that the counts show.
    counts = SAMPLING[:, :, None] * SAMPLING[:, None, :] * game.preference
    seen = counts / (counts + np.swapaxes(counts, -1, -2))
    equilibria = np.stack(
        [
            solve_nash(seen, method="lp").policy,
            solve_nash(seen, method="regularised", tau=0.1).policy,
        ]
    )
    return worst(
        float(first == second),
        apart(equilibria[:, 0], equilibria[:, 1]),
        detail=f"best rewards {first} and {second}",
    )


@claim(
    "C8",
    "identity",
    source="relation to reward models",
    stated="paper",
    given={"game": transitive_games(gap=0.05)},
    breaks={"game": cyclic_games()},
)
def the_equilibrium_is_the_best_reward(game: PreferenceGame) -> Verdict:
    """With Bradley–Terry preferences the equilibrium (τ → 0) is the response with the largest
    reward.
    """
    # The largest reward has the largest average preference.
    best = int(np.argmax(np.mean(game.preference, axis=-1)))
    return worst(distance_from_winner(game, best))
