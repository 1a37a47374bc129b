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
from scipy.special import entr

from paper_repros.nash.dno.instances import (
    CYCLIC,
    GAME,
    JUDGED,
    REFERENCE,
    SEEDS,
    TEXTBOOK,
    TIED,
    calm_plays,
    next_policy,
    textbook_or,
    weighted_pairs,
    wins_differ,
)
from paper_repros.nash.dno.self_play import (
    SAMPLES,
    exact_steps,
    regression_errors,
    sampled_steps,
)
from prefsim import losses
from prefsim.backend import like, to_numpy
from prefsim.data import Comparisons
from prefsim.data.filtered_pairs import filtered_pairs
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax, sigmoid
from prefsim.papers import Verdict, above, apart, claim, outside, worst
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, nash_path
from prefsim.solvers.closed_forms.self_training import iterative_dpo_step
from prefsim.solvers.games.certificates import expected_preference, exploitability, payoff
from prefsim.testing.bandits import tables
from prefsim.testing.games import Play, cyclic_games, games_near, preference_games
from prefsim.worlds import PreferenceGame

UNSEEN = {
    ("prefsim.losses.dno", "swap"): (
        "the label of a pair is of both win rates: exchanging the two responses changes nothing"
    ),
}


# --- the objective ---


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
    """The gradient of the DNO objective vanishes at π_t exp(r_t/η)/Z, its only minimiser, where it
    is the mean entropy of its labels, for every law of pairs that connects the responses.
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
    label = sigmoid(wins[first] - wins[second])
    return worst(
        apart(gradient(value, step), 0.0),
        apart(value(step), law.ravel() @ (entr(label) + entr(1 - label))),
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
        outside(difference, LEAST_DIFFERENCE, 1.0),
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
    tolerance=0.3,
    examples=3,
    given={
        "start": textbook_or(st.integers(3, 4)),
        "seed": SEEDS,
        "overlooked": st.just(0.0),
    },
    breaks={"overlooked": st.sampled_from([0.05, 0.1])},
)
def error_falls_with_the_number_of_pairs(
    start: tuple[np.ndarray, np.ndarray], seed: int, overlooked: float
) -> Verdict:
    """Fitted to N sampled pairs with Bernoulli labels, E(f̂ − f)² = c/N, c = tr(I⁻¹M) with the
    Fisher information I, 8.03 in the textbook game; within 30% for 400 runs and N = 250 to 16,000.
    """
    errors = regression_errors(
        *start,
        eta=0.5,
        sizes=(250, 1000, 4000, 16000),
        runs=400,
        seed=seed,
        overlooked=overlooked,
    )
    shown = ", ".join(f"{error:.2f}" for error in errors.scaled)
    return apart(
        errors.scaled / errors.limit, 1.0, detail=f"N·error {shown}; limit {errors.limit:.3f}"
    )


@claim(
    "C8",
    "statistical",
    source="algorithm 1",
    stated="derived",
    tolerance=0.02,
    examples=3,
    given={
        "start": textbook_or(st.integers(3, 5)),
        "seed": SEEDS,
        "with_itself": st.booleans(),
        "stretched": st.just(True),
    },
    breaks={"with_itself": st.just(False), "stretched": st.just(False)},
)
def samples_teach_what_the_population_does(
    start: tuple[np.ndarray, np.ndarray], seed: int, with_itself: bool, stretched: bool
) -> Verdict:
    """Two rounds on all pairs of K = 5 samples, drawn 2000 times, end within .02 of two exact
    steps (1/η = 2) if a response's comparison with itself counts as ½ in its win rate; left out,
    steps are K/(K − 1) times as long.
    """
    game, policy = (array[None] for array in start)
    longer = SAMPLES / (SAMPLES - 1) if stretched and not with_itself else 1.0
    exact = exact_steps(game, policy, step=2.0 * longer, rounds=2)
    sampled = sampled_steps(
        game, policy, step=2.0, rounds=2, draws=2000, with_itself=with_itself, seed=seed
    )
    return apart(sampled, exact, detail=f"exact steps end at {exact[-1, 0].round(4).tolist()}")


@claim(
    "C9",
    "identity",
    source="section 4 (DNO-Prct)",
    stated="paper",
    given={"scores": JUDGED, "least": st.just(5.0), "margin": st.just(1.0)},
    breaks=({"least": st.just(4.0)}, {"margin": st.just(2.0)}),
)
def pairs_have_a_good_winner_and_a_clear_lead(
    scores: np.ndarray, least: float, margin: float
) -> Verdict:
    """Of all ordered pairs among the samples and the teacher's answer those train, with equal
    weights, whose winner scores at least 5 of 6 and at least 1 more than the loser.
    """
    prompts, k = scores.shape
    pairs = filtered_pairs(
        np.arange(prompts), np.tile(np.arange(k), (prompts, 1)), scores, least=least, margin=margin
    )
    trained = np.zeros((prompts, k, k))
    trained[pairs.prompt, pairs.chosen, pairs.rejected] = pairs.weight
    lead = scores[:, :, None] - scores[:, None, :]
    stated = ((scores[:, :, None] >= 5) & (lead >= 1)).astype(float)
    return apart(trained, stated / max(stated.sum(), 1.0), detail=f"{stated.sum():.0f} pairs")
