"""What the paper says about its objective, exact steps, their average and sampling, as claims.

The paper's η is the inverse of a step size: a step of η here is ``step=1/η`` in the library.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.dno.self_play import regression_errors
from prefsim import losses
from prefsim.backend import like, to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, nash_path
from prefsim.solvers.closed_forms.self_training import iterative_dpo_step
from prefsim.solvers.games.certificates import expected_preference, exploitability, payoff
from prefsim.testing.bandits import tables
from prefsim.testing.games import Play, cyclic_games, games_near, plays, preference_games
from prefsim.worlds import TEXTBOOK_REFERENCE, PreferenceGame, textbook_game

GAME, REFERENCE = to_numpy(textbook_game().preference), np.asarray(TEXTBOOK_REFERENCE)
LAST = np.array([0.4, 0.4, 0.2])
TEXTBOOK = Play(GAME, REFERENCE, policy=LAST, sampler=REFERENCE, tau=0.5, weight=1.0)

# Steps of a fifth to five: beyond, the loss has slopes too steep for an error of 1e-12.
calm_plays = functools.partial(plays, tau=(0.2, 1.0), weight=(0.2, 1.0), spread=1.0)


def next_policy(play: Play) -> np.ndarray:
    """Return the policy after an exact step, by its formula."""
    return np.exp(play.update("dno", np.log(play.policy)))


# --- the objective ---


def weighted_pairs(*, parted: bool) -> st.SearchStrategy[np.ndarray]:
    """Weights of pairs among six responses; ``parted`` leaves the first one without a rival."""

    def build(seed: int) -> np.ndarray:
        weights = np.random.default_rng(seed).uniform(0.05, 1.0, (6, 6))
        if parted:
            weights[0, 1:] = weights[1:, 0] = 0.0
        return weights

    # Drawn one by one, 36 numbers take longer to make simple than the claim takes to check.
    return st.integers(0, 2**32 - 1).map(build)


@claim(
    "C1",
    "minimiser",
    source="objective",
    stated="derived",
    given={"play": calm_plays(), "weights": weighted_pairs(parted=False)},
    breaks={
        "play": calm_plays(preference_games(min_n=3, max_n=6)),
        "weights": weighted_pairs(parted=True),
    },
)
def objective_is_least_at_the_step_alone(play: Play, weights: np.ndarray) -> Verdict:
    """The gradient of the DNO objective vanishes at π_t exp(r_t/η)/Z, its only minimiser, for every
    law of pairs that connects the responses.
    """
    import torch

    n = len(play.policy)
    wins, log_last = payoff(play.preference, play.policy), np.log(play.policy)
    first, second = np.indices((n, n)).reshape(2, -1)
    law = weights[:n, :n] / weights[:n, :n].sum()

    def value(logits: Any) -> Any:
        log_policy = log_softmax(logits)
        last, score, weight = (like(x, logits) for x in (log_last, wins, law.ravel()))
        pairs = losses.PairLogps(
            log_policy[first],
            log_policy[second],
            last[first],
            last[second],
            chosen_score=score[first],
            rejected_score=score[second],
        )
        return (weight * losses.dno(pairs, step=play.step)).sum()

    step = np.log(next_policy(play))
    hessian = torch.autograd.functional.hessian(value, torch.tensor(step))
    curvature = np.linalg.eigvalsh(to_numpy(hessian))
    # One flat direction is the free constant of the logits; another would leave the minimiser
    # undetermined.
    alone = curvature[1] > 1e-10
    return worst(
        apart(gradient(value, step), 0.0),
        0.0 if alone else math.inf,
        detail=f"second smallest curvature {curvature[1]:.2e}",
    )


# Minimisers that differ by less are as good as one.
LEAST_DIFFERENCE = 1e-6


def minimisers(play: Play) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimisers of DNO, and of DPO with true preferences, on pairs of the policy."""
    policy = TabularPolicy.from_probs(play.policy[None])
    data = Comparisons.self_play(play.world(), policy)
    dno, dpo = (
        fit(policy, loss, data, reference=policy).policy.probs[0]
        for loss in (
            functools.partial(losses.dno, step=play.step),
            functools.partial(losses.dpo, beta=1 / play.step),
        )
    )
    return dno, dpo


def drawn_to_the_middle(game: PreferenceGame) -> PreferenceGame:
    """Return the game with all preferences nine tenths as far from ½: none is certain."""
    return PreferenceGame(0.5 + 0.9 * (to_numpy(game.preference) - 0.5))


def wins_differ(play: Play) -> bool:
    """Return whether responses win differently often against the policy."""
    return bool(np.ptp(payoff(play.preference, play.policy)) > 0.02)


CYCLIC = cyclic_games(max_n=5, least=0.1).map(drawn_to_the_middle)
TIED = st.integers(2, 5).map(lambda n: PreferenceGame(np.full((n, n), 0.5)))


@claim(
    "C2",
    "counterexample",
    source="DNO against iterative DPO",
    stated="derived",
    tolerance=1e-9,
    examples=15,
    given={"play": st.just(TEXTBOOK) | calm_plays(CYCLIC).filter(wins_differ)},
    breaks={"play": calm_plays(TIED)},
)
def preferences_as_labels_have_another_minimiser(play: Play) -> Verdict:
    """Labels P(y ≻ y') in place of σ(r_t(y) − r_t(y')), as in iterative DPO, have another
    minimiser, except where every response wins ½ against π_t.
    """
    dno, dpo = minimisers(play)
    rival = np.exp(iterative_dpo_step(play.preference, np.log(play.policy), beta=1 / play.step))
    difference = np.abs(dno - dpo).max()
    return worst(
        above(LEAST_DIFFERENCE, difference),
        apart(dno, next_policy(play)),
        apart(dpo, rival),
        detail=f"minimisers differ by {difference:.4f}",
    )


@claim(
    "C7",
    "invariance",
    source="loss",
    stated="derived",
    tolerance=1e-14,
    given={
        "logs": tables((4,), low=-4.0, high=0.0),
        "wins": tables((2,), low=0.35, high=0.65),
        "shift_of_wins": tables((1,), low=-0.3, high=0.3),
        "shift_of_references": tables((1,), low=-3.0, high=3.0),
    },
    breaks={
        "shift_of_wins": tables((2,), low=-0.3, high=0.3),
        "shift_of_references": tables((2,), low=-3.0, high=3.0),
    },
)
def constants_and_order_do_not_matter(
    logs: np.ndarray, wins: np.ndarray, shift_of_wins: np.ndarray, shift_of_references: np.ndarray
) -> Verdict:
    """A constant added to both win rates or both log-references changes nothing, nor does
    exchanging the responses.
    """
    moved_wins, moved_references = wins + shift_of_wins, logs[2:] + shift_of_references
    pair = losses.PairLogps(
        chosen=logs[0],
        rejected=logs[1],
        ref_chosen=logs[2],
        ref_rejected=logs[3],
        chosen_score=wins[0],
        rejected_score=wins[1],
    )
    others = (
        pair._replace(chosen_score=moved_wins[0], rejected_score=moved_wins[1]),
        pair._replace(ref_chosen=moved_references[0], ref_rejected=moved_references[1]),
        pair.swapped(),
    )
    return apart([losses.dno(other, step=2.0) for other in others], losses.dno(pair, step=2.0))


# --- exact steps, one after the other ---


def the_one_before(policies: np.ndarray) -> np.ndarray:
    """Return the predecessor of every policy but the first."""
    return policies[:-1]


def the_first(policies: np.ndarray) -> np.ndarray:
    """Return the policy that all others come from."""
    return policies[:1]


@claim(
    "C3",
    "monotone",
    source="abstract",
    stated="paper",
    given={"play": calm_plays(), "opponent": st.just(the_one_before)},
    breaks={
        "play": st.just(TEXTBOOK._replace(policy=REFERENCE)) | calm_plays(cyclic_games(3)),
        "opponent": st.just(the_first),
    },
)
def every_step_beats_the_policy_before(
    play: Play, opponent: Callable[[np.ndarray], np.ndarray]
) -> Verdict:
    """P(π_{t+1} ≻ π_t) >= ½ for every exact step; against the first policy it may fall below ½."""
    path = nash_path(
        play.preference, method="dno", initial=play.policy, step=play.step, iterations=12
    )
    wins = expected_preference(play.preference, path.policy[1:], opponent(np.asarray(path.policy)))
    return above(0.5, wins, detail=f"least win rate {wins.min():.6f}")


def end_of_play(
    preference: np.ndarray, start: np.ndarray, eta: float, horizon: int, policy: str
) -> float:
    """Return the exploitability of the ``"average"`` or the ``"last"`` policy of T exact steps."""
    path = nash_path(
        preference,
        method="dno",
        initial=start,
        step=1 / eta,
        iterations=horizon,
        record=horizon,
    )
    at_end = {"average": path.average_exploitability[-1], "last": path.exploitability[-1]}
    return float(at_end[policy])


@claim(
    "C4",
    "rate",
    source="regret of exact DNO; constants derived",
    stated="derived",
    examples=20,
    given={
        "play": calm_plays(),
        "horizon": st.sampled_from([10, 100, 300]),
        "policy": st.just("average"),
    },
    breaks={
        "play": calm_plays(cyclic_games(least=0.3)),
        "horizon": st.just(300),
        "policy": st.just("last"),
    },
)
def average_of_many_policies_is_near_the_equilibrium(
    play: Play, horizon: int, policy: str
) -> Verdict:
    """e(π̄_T) <= η log(1/π_{0,min})/T + 1/(8η); with η = √(T/(8 log n)) from the uniform policy
    √(log n/(2T)).
    """
    n, eta = len(play.policy), 1 / play.step
    found = end_of_play(play.preference, play.policy, eta, horizon, policy)
    bound = eta * math.log(1 / play.policy.min()) / horizon + 1 / (8 * eta)
    tuned_eta = math.sqrt(horizon / (8 * math.log(n)))
    tuned = end_of_play(play.preference, np.full(n, 1 / n), tuned_eta, horizon, policy)
    return worst(
        above(found, bound),
        above(tuned, math.sqrt(math.log(n) / (2 * horizon))),
        detail=f"exploitability {found:.4f}, bound {bound:.4f}",
    )


@claim(
    "C6",
    "counterexample",
    source="iterative DPO",
    stated="derived",
    examples=3,
    given={"game": games_near(GAME, within=0.02)},
    breaks={"game": st.just(PreferenceGame.from_reward([0.0, 2.0, 1.0]))},
)
def iterative_dpo_goes_round_in_circles(game: PreferenceGame) -> Verdict:
    """In a cyclic game iterative DPO does not settle: its exact steps pass from one nearly pure
    response to the next, and exploitabilities above 0.35 come back.
    """
    preference = to_numpy(game.preference)
    log_policies = [np.log(REFERENCE)]
    for _ in range(200):
        log_policies.append(iterative_dpo_step(preference, log_policies[-1], beta=0.5))
    late = np.stack(log_policies[101:])
    leaders, most = (
        set(late.argmax(axis=1).tolist()),
        exploitability(preference, np.exp(late)).max(),
    )
    return worst(
        above(0.35, most),
        apart(len(leaders), game.n_responses),
        detail=f"leaders {sorted(leaders)}, exploitability up to {most:.3f}",
    )


# --- a step learned from samples ---


@claim(
    "C5",
    "statistical",
    source="theorem 1",
    stated="derived",
    tolerance=0.35,
    examples=3,
    given={"seed": st.integers(0, 3), "overlooked": st.just(0.0)},
    breaks={"overlooked": st.sampled_from([0.05, 0.1])},
)
def error_falls_with_the_number_of_pairs(seed: int, overlooked: float) -> Verdict:
    """Fitted to N sampled pairs with Bernoulli labels, E(f̂ − f)² = c/N, c = tr(I⁻¹M) with the
    Fisher information I, 8.03 in the textbook game; within 35% for 100 runs and N = 250 to 16,000.
    """
    errors = regression_errors(
        GAME,
        LAST,
        eta=0.5,
        sizes=(250, 1000, 4000, 16000),
        runs=100,
        seed=seed,
        overlooked=overlooked,
    )
    shown = ", ".join(f"{error:.2f}" for error in errors.scaled)
    return apart(
        errors.scaled / errors.limit, 1.0, detail=f"N·error {shown}; limit {errors.limit:.3f}"
    )
