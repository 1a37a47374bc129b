"""What momentum does to the rounds: exactly with rewards that stay, and in games."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.apo.momentum import (
    CYCLE,
    CYCLE_START,
    DOMINANCE,
    GAME_MOMENTA,
    Bandit,
    against_itself,
    coefficients,
    constant,
    distance,
    equilibrium,
    equilibrium_of_a_cycle,
    play_game,
    rounds_on,
    rounds_on_reward,
    tilted_references,
)
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.loops import extrapolate_policy
from prefsim.papers import Verdict, above, apart, claim, falls, rises, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, nash_path, solve_nash
from prefsim.solvers.games.certificates import exploitability, mirror_step
from prefsim.solvers.games.updates import extrapolated
from prefsim.testing import cyclic_games, preference_games, references, tables
from prefsim.worlds import ContextualBandit, PreferenceGame


def bandits(n: int) -> st.SearchStrategy[Bandit]:
    """Rewards and a reference of n responses."""
    return st.builds(Bandit, tables((n,), low=-2.0, high=2.0), references(n))


def matrices(games: st.SearchStrategy[PreferenceGame]) -> st.SearchStrategy[np.ndarray]:
    return games.map(lambda game: np.asarray(game.preference))


def uniform(n: int) -> np.ndarray:
    return np.full(n, 1 / n)


MOST_RESPONSES = 8
BANDITS = st.integers(2, MOST_RESPONSES).flatmap(bandits)
ROUNDS = {"beta": st.floats(0.2, 5.0), "momentum": st.floats(0.0, 0.8)}
EVERY_MOMENTUM = ", ".join(f"{momentum:g}" for momentum in GAME_MOMENTA)

# --- rounds on one reward ---


def unmoved(bandit: Bandit) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of payoffs that are the rewards, whoever is met; and the reference."""
    return np.tile(bandit.reward[:, None], bandit.reward.size), bandit.reference


def in_game(game: PreferenceGame) -> tuple[np.ndarray, np.ndarray]:
    """Return win rates, which depend on who is met, and a start."""
    return np.asarray(game.preference), uniform(game.n_responses)


@claim(
    "C1",
    "identity",
    source="derived from the algorithm",
    stated="derived",
    tolerance=1e-10,
    given=ROUNDS | {"world": BANDITS.map(unmoved), "rounds": st.integers(1, 12)},
    breaks={"world": cyclic_games(least=0.2).map(in_game)},
)
def rounds_end_at_the_tilted_reference(
    world: tuple[np.ndarray, np.ndarray], beta: float, momentum: float, rounds: int
) -> Verdict:
    """With a fixed reward T rounds end at log π_ref + c_T r/β (fitted) and log π_ref + d_T r/β
    (extrapolated) up to a constant, with c_T = T/(1−α) − α(1−α^T)/(1−α)² and
    d_T = c_T + α(1−α^T)/(1−α).
    """
    table, reference = world
    options: Any = {"beta": beta, "momentum": momentum, "rounds": rounds}
    run = rounds_on(against_itself(table), reference, **options)
    stated = tilted_references(Bandit(table @ reference, reference), **options)
    return worst(apart(run.fitted, stated.fitted), apart(run.extrapolated, stated.extrapolated))


@claim(
    "C2",
    "inequality",
    source="convergence theorem; constant derived",
    stated="derived",
    given=ROUNDS | {"bandit": BANDITS, "misjudged": st.just(0.0), "rounds": st.integers(1, 60)},
    breaks={"misjudged": tables((MOST_RESPONSES,), low=-2.0, high=2.0)},
)
def shortfall_is_sublinear(
    bandit: Bandit, misjudged: np.ndarray, beta: float, momentum: float, rounds: int
) -> Verdict:
    """r* − E_{π̂_T} r <= β log(1/π_ref(y*))/c_T: O(1/T) without momentum, O((1 − α)/T) with it."""
    errors = np.broadcast_to(misjudged, MOST_RESPONSES)[: bandit.reward.size]
    learned = bandit._replace(reward=bandit.reward + errors)
    run = rounds_on_reward(learned, beta=beta, momentum=momentum, rounds=rounds)
    worth = coefficients(momentum, rounds).fitted
    return above(
        bandit.shortfall(run.fitted),
        bandit.bound(beta, worth),
        detail=f"c_T = {worth[-1]:.4g} after {rounds} rounds",
    )


# The third best response then weighs e⁻²⁵ of the second or less, and no shortfall underflows.
LATE = 250


def spaced(n: int) -> st.SearchStrategy[Bandit]:
    """Rising rewards with gaps of .1 to .3, and a reference."""
    gaps = tables((n - 1,), low=0.1, high=0.3)
    rewards = gaps.map(lambda steps: np.append(0.0, np.cumsum(steps)))
    return st.builds(Bandit, rewards, references(n, spread=1.0))


@claim(
    "C3",
    "rate",
    source="convergence with a gap; constant derived",
    stated="derived",
    given={
        "bandit": st.integers(2, 6).flatmap(spaced),
        "beta": st.floats(0.3, 1.0),
        "momentum": st.floats(0.0, 0.6),
        "gap_overstated": st.just(1.0),
    },
    breaks={"gap_overstated": st.floats(2.0, 5.0)},
)
def shortfall_is_linear_with_a_gap(
    bandit: Bandit, beta: float, momentum: float, gap_overstated: float
) -> Verdict:
    """With a gap Δ to the second best response r* − E_{π̂_T} r <= (r* − r_min)(1 −
    π_ref(y*))/π_ref(y*) exp(−c_T Δ/β), and the exponent of the last of 250 rounds is
    Δ/(β(1 − α)) up to 1e-8 of it.
    """
    reward, reference = bandit
    gap = gap_overstated * (reward[-1] - reward[-2])
    odds = (1 - reference[-1]) / reference[-1]
    run = rounds_on_reward(bandit, beta=beta, momentum=momentum, rounds=LATE)
    missed = bandit.shortfall(run.fitted)
    bound = np.ptp(reward) * odds * np.exp(-coefficients(momentum, LATE).fitted * gap / beta)
    # What a round adds to −log of the shortfall, late in the run.
    measured, predicted = np.log(missed[-11] / missed[-1]) / 10, gap / (beta * (1 - momentum))
    return worst(
        above(missed, bound),
        above(abs(measured / predicted - 1), 1e-8),
        detail=f"exponent {measured:.5g} a round, predicted {predicted:.5g}",
    )


class Duel(NamedTuple):
    """A game ``(n, n)``, and rewards and a start of its size ``(n,)``."""

    preference: np.ndarray
    bandit: Bandit


def duels(game: PreferenceGame) -> st.SearchStrategy[Duel]:
    n = game.n_responses
    bandit = st.builds(Bandit, tables((n,), low=-1.0, high=1.0), references(n))
    return st.builds(Duel, st.just(np.asarray(game.preference)), bandit)


@claim(
    "C4",
    "identity",
    source="proximal-point view",
    stated="paper",
    tolerance=1e-13,
    examples=10,
    given={
        "duel": preference_games(min_n=2, max_n=5).flatmap(duels),
        "beta": st.floats(0.5, 3.0),
        "momentum": st.just(0.0),
        "any_momentum": st.floats(0.0, 0.9),
    },
    breaks={"momentum": st.floats(0.1, 0.9)},
)
def is_multiplicative_weights_without_momentum(
    duel: Duel, beta: float, momentum: float, any_momentum: float
) -> Verdict:
    """Without momentum the method is multiplicative weights with step 1/β, and its round iterative
    DPO (fitted, to 1e-9); momentum changes nothing where all payoffs are equal.
    """
    reward, start = duel.bandit
    weights, by_method = (
        nash_path(
            duel.preference,
            initial=start,
            step=1 / beta,
            iterations=5,
            record=5,
            **method,
        ).policy[-1]
        for method in ({"method": "mwu"}, {"method": "apo", "momentum": momentum})
    )
    options: Any = {"beta": beta, "rounds": 5}
    fitted = rounds_on(against_itself(duel.preference), start, momentum=momentum, **options).fitted
    still = rounds_on(constant(0 * start), start, momentum=any_momentum, **options).fitted
    # One round of iterative DPO: fitted to all pairs of the last policy, which is the reference.
    policy = TabularPolicy(np.log(start)[None])
    pairs = Comparisons.population(ContextualBandit(reward=reward[None]), policy)
    dpo = fit(policy, functools.partial(losses.dpo, beta=beta), pairs, reference=policy).policy
    proximal = np.exp(mirror_step(np.log(start), None, reward, step=1 / beta))
    return worst(
        apart(np.exp(fitted[-1]), weights),
        apart(np.exp(fitted[-1]), by_method),
        apart(np.exp(still[-1]), start),
        # A fit is exact to 1e-9 only.
        apart(dpo.probs[0], proximal, scale=1e4),
    )


def rounds_with_a_pause(
    duel: Duel, beta: float, momentum: float, rounds: int, *, paused: bool
) -> np.ndarray:
    """Return the fitted policies ``(rounds, n)`` of rounds in a game.

    With a pause the first three of them are all that is known of the past: the policy fitted last
    but one is forgotten.
    """
    options: Any = {"beta": beta, "momentum": momentum}
    payoffs, start = against_itself(duel.preference), duel.bandit.reference
    if not paused:
        return np.exp(rounds_on(payoffs, start, rounds=rounds, **options).fitted)
    before = rounds_on(payoffs, start, rounds=3, **options)
    after = rounds_on(payoffs, np.exp(before.extrapolated[-1]), rounds=rounds - 3, **options)
    return np.exp(np.concatenate([before.fitted, after.fitted]))


@claim(
    "C8",
    "identity",
    source="algorithm",
    stated="paper",
    given={
        "duel": preference_games(min_n=2, max_n=6).flatmap(duels),
        "beta": st.floats(0.5, 3.0),
        "momentum": st.floats(0.05, 0.9),
        "rounds": st.integers(4, 8),
        "paused": st.just(False),
    },
    breaks={"paused": st.just(True)},
)
def rounds_in_a_game_are_the_method_of_solvers(
    duel: Duel, beta: float, momentum: float, rounds: int, paused: bool
) -> Verdict:
    """With any momentum, rounds that add P π_t/β to the log-policy and extrapolate from the policy
    fitted before are the method ``apo`` of the game solvers with step 1/β.
    """
    played = nash_path(
        duel.preference,
        method="apo",
        initial=duel.bandit.reference,
        step=1 / beta,
        momentum=momentum,
        iterations=rounds,
    )
    return apart(
        rounds_with_a_pause(duel, beta, momentum, rounds, paused=paused), played.policy[1:]
    )


@claim(
    "C7",
    "invariance",
    source="derived",
    stated="derived",
    tolerance=1e-14,
    given={
        "logits": st.tuples(st.integers(1, 3), st.integers(2, 6)).flatmap(
            lambda shape: tables((2, *shape), low=-4.0, high=4.0)
        ),
        "momentum": st.floats(0.0, 0.95),
        "shift": tables((3, 1), low=-3.0, high=3.0),
    },
    breaks={"shift": tables((3, 6), low=-3.0, high=3.0)},
)
def ignores_a_prompt_constant(logits: np.ndarray, momentum: float, shift: np.ndarray) -> Verdict:
    """Extrapolating unnormalised logits is extrapolating log-policies: a constant added to the
    logits of a prompt changes nothing.
    """
    last, before = (TabularPolicy(table) for table in logits)
    shifted = TabularPolicy(last.logits + shift[: logits.shape[1], : logits.shape[2]])
    plain = extrapolate_policy(last, before, momentum=momentum).probs
    moved = extrapolate_policy(shifted, before, momentum=momentum).probs
    exact = np.exp(extrapolated(last.log_probs, before.log_probs, momentum=momentum))
    return worst(apart(plain, moved), apart(plain, exact))


# --- games ---


def led(game: PreferenceGame, lead: float) -> np.ndarray:
    """Return the game whose first response beats every other, by at least ``lead``."""
    table = np.array(game.preference)
    table[0, 1:] = np.maximum(table[0, 1:], 0.5 + lead)
    table[1:, 0] = 1 - table[0, 1:]
    return table


LED_GAMES = st.builds(led, preference_games(min_n=2, max_n=6), st.floats(0.1, 0.4))


@claim(
    "C5",
    "monotone",
    source="acceleration on dominance games; margin found",
    stated="chosen",
    given={"preference": st.just(DOMINANCE) | LED_GAMES, "rounds": st.integers(10, 40)},
    breaks={"preference": matrices(cyclic_games(3, least=0.2))},
)
def accelerates_where_one_response_beats_all(preference: np.ndarray, rounds: int) -> Verdict:
    """Where one response beats all others by .1 or more, and is the equilibrium, momentum 0, .3, .6
    leaves ever less exploitability after 10 to 40 rounds of step .5 from the uniform policy (found,
    not proved: it fails for margins near 0).
    """
    n = len(preference)
    path = play_game(preference, uniform(n), step=0.5, rounds=rounds, record=rounds)
    exploited = exploitability(preference, path.policy[-1])
    return worst(
        falls(exploited),
        apart(solve_nash(preference, method="lp").policy, np.eye(n)[0]),
        detail=f"exploitability {exploited.round(4).tolist()} at {EVERY_MOMENTUM}",
    )


CYCLES = st.tuples(matrices(cyclic_games(3, least=0.1)), references(3, spread=1.0))


@claim(
    "C6",
    "counterexample",
    source="derived; against acceleration in general",
    stated="derived",
    examples=15,
    given={"game": st.just((CYCLE, CYCLE_START)) | CYCLES},
    breaks={"game": st.just((DOMINANCE, uniform(3)))},
)
def amplifies_the_spiral_of_a_cycle(game: tuple[np.ndarray, np.ndarray]) -> Verdict:
    """In a cycle of three, whose equilibrium plays each response in proportion to the margin of the
    duel between the others, momentum amplifies the spiral: the last policy's distance KL(π*‖π̂_T)
    from it is larger with momentum .3 than without, and larger still with .6, at every hundredth of
    1000 rounds of step .05 (found).
    """
    preference, start = game
    path = play_game(preference, start, step=0.05, rounds=1000, record=100)
    far = distance(path, preference)[1:]
    return worst(
        rises(far.T),
        # The linear program is exact to 1e-11.
        apart(equilibrium(preference), equilibrium_of_a_cycle(preference), scale=1e2),
        detail=f"KL(π*‖π_T) {far[-1].round(4).tolist()} at {EVERY_MOMENTUM}",
    )
