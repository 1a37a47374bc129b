"""What the paper says of the minimax winner and of self-play, on random instances."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.spo_minimax.hedge import fast_bound, hedge_bound, margin_games
from prefsim.analysis.elections import bradley_terry_winner, distance_from_winner
from prefsim.analysis.voting import borda_scores, condorcet_margin, copeland_scores
from prefsim.loops import queue_win_rates
from prefsim.numerics import log_softmax, normal_log_cdf, sigmoid, softmax
from prefsim.papers import Verdict, above, apart, claim, outside, worst
from prefsim.policies import TokenTreePolicy
from prefsim.solvers import nash_path
from prefsim.solvers.games.certificates import exploitability, mirror_step, payoff
from prefsim.solvers.planning.tree_backup import soft_backup
from prefsim.testing import (
    cyclic_games,
    games_with_reference,
    preference_games,
    tables,
    token_tree_policies,
    token_trees,
    transitive_games,
)
from prefsim.testing.games import games_near
from prefsim.worlds import PreferenceGame, TokenTree

MOST_RESPONSES = 8
GAMES = preference_games(min_n=2, max_n=MOST_RESPONSES)

# --- self-play ---


@claim(
    "C1",
    "identity",
    source="symmetry of the game; derived for Hedge",
    stated="paper",
    tolerance=1e-13,
    given={
        "start": games_with_reference(GAMES),
        "step": st.floats(0.01, 2.0),
        "head_start": st.just(0.0),
    },
    breaks={"head_start": tables((MOST_RESPONSES,), low=-2.0, high=2.0)},
)
def self_play_is_dueling(
    start: tuple[PreferenceGame, np.ndarray], step: float, head_start: np.ndarray
) -> Verdict:
    """Two players with the same start and the same learner stay identical: self-play is dueling."""
    game, policy = start
    preference = np.asarray(game.preference)
    lead = np.broadcast_to(head_start, MOST_RESPONSES)[: policy.size]
    first, second = np.log(policy), log_softmax(np.log(policy) + lead)
    parts = []
    for _ in range(50):
        against_second = payoff(preference, np.exp(second))
        # The second player wins whatever the first one loses.
        against_first = 1 - payoff(preference.T, np.exp(first))
        first = mirror_step(first, None, against_second, step=step)
        second = mirror_step(second, None, against_first, step=step)
        parts.append(apart(np.exp(first), np.exp(second)))
    return worst(*parts)


LONGEST = 400


@claim(
    "C2",
    "inequality",
    source="main theorem, in probabilities (half the scale of [−1, 1])",
    stated="derived",
    examples=25,
    given={"game": GAMES, "step": st.floats(0.05, 2.0), "share_of_step": st.just(1.0)},
    # A learner that hardly learns has linear regret.
    breaks={"share_of_step": st.just(1e-9)},
)
def the_average_is_exploited_by_the_regret(
    game: PreferenceGame, step: float, share_of_step: float
) -> Verdict:
    """The exploitability of the average policy is the learner's regret over T, for Hedge at most
    log n/(ηT) + η/8, at every T <= 400.
    """
    path = nash_path(game, method="spo", step=share_of_step * step, iterations=LONGEST)
    played, rounds = path.policy[:-1], path.iteration[1:]
    wins = payoff(game.preference, played)
    regret = np.max(np.cumsum(wins, axis=0), axis=-1) - np.cumsum(np.sum(played * wins, axis=-1))
    exploited = path.average_exploitability[1:]
    return worst(
        apart(exploited, regret / rounds),
        above(exploited, math.log(game.n_responses) / (step * rounds) + step / 8),
    )


@claim(
    "C5",
    "rate",
    source="fast rate; constant derived",
    stated="derived",
    tolerance=1e-9,
    examples=5,
    given={
        "seed": st.integers(0, 999),
        "n": st.integers(3, 8),
        "margin": st.floats(0.2, 0.5),
        "share_of_margin": st.just(1.0),
    },
    breaks={"share_of_margin": st.floats(0.0, 0.02)},
)
def a_condorcet_winner_is_learnt_fast(
    seed: int, n: int, margin: float, share_of_margin: float
) -> Verdict:
    """With a Condorcet winner of margin Δ and η = Δ/2, Σ_t (1 − π_t(y*)) <= log n/(ηΔ − (e^η − 1 −
    η)) from a uniform start, so that the average's exploitability is at most half of that over T;
    it falls as 1/T (slope −1 within .05).
    """
    path = nash_path(
        margin_games(seed, n, share_of_margin * margin, 10),
        method="spo",
        step=margin / 2,
        iterations=4000,
        record=1000,
    )
    rounds, exploited = path.iteration[1:, None], path.average_exploitability[1:]
    missing = rounds * (1 - path.average_policy[1:, :, 0])
    bound = fast_bound(n, margin)
    # From 2000 to 4000 rounds.
    slope = np.log2(exploited[-1] / exploited[1])
    return worst(
        above(missing, bound, scale=bound),
        above(2 * rounds * exploited, bound, scale=bound),
        outside(slope, -1.05, -0.95),
        detail=f"slopes {slope.min():.3f} to {slope.max():.3f}",
    )


# --- who is the minimax winner ---

LINKS = {
    "logistic": sigmoid,
    "probit": lambda x: np.exp(normal_log_cdf(x)),
    "clipped": lambda x: np.clip(0.5 + x / 4, 0.0, 1.0),
    "certain": lambda x: 0.5 * (1 + np.sign(x)),
}


class Utility(NamedTuple):
    """Preferences ``(n, n)``, and the utility ``(n,)`` that they are said to come from."""

    preference: np.ndarray
    utility: np.ndarray


def with_link(utility: np.ndarray, best: int, link: str) -> Utility:
    """Raise one of the utilities above all others, and compare by a link."""
    raised = utility.copy()
    raised[best % raised.size] = raised.max() + 0.1
    return Utility(LINKS[link](raised[:, None] - raised[None, :]), raised)


def with_borda_scores(game: PreferenceGame) -> Utility:
    preference = np.asarray(game.preference)
    return Utility(preference, borda_scores(preference))


@claim(
    "C3",
    "identity",
    source="relation to reward models",
    stated="paper",
    tolerance=1e-9,
    given={
        "rater": st.builds(
            with_link,
            st.integers(2, 8).flatmap(lambda n: tables((n,), low=0.0, high=3.0)),
            st.integers(0, 7),
            st.sampled_from(sorted(LINKS)),
        )
    },
    breaks={"rater": cyclic_games().map(with_borda_scores)},
)
def the_best_utility_wins(rater: Utility) -> Verdict:
    """If preferences come from a utility, by any increasing link, the minimax winner is its
    maximiser.
    """
    return worst(distance_from_winner(rater.preference, int(rater.utility.argmax())))


def margin_game(seed: int, n: int, margin: float) -> PreferenceGame:
    return PreferenceGame(margin_games(seed, n, margin, 1)[0])


@claim(
    "C4",
    "identity",
    source="relation to social choice",
    stated="paper",
    tolerance=1e-9,
    given={
        "game": st.builds(
            margin_game, st.integers(0, 10_000), st.integers(2, 8), st.floats(0.01, 0.5)
        )
    },
    breaks={"game": cyclic_games()},
)
def the_condorcet_winner_wins(game: PreferenceGame) -> Verdict:
    """Where there is a Condorcet winner, it is the minimax winner: a point mass."""
    winner = int(np.argmax(copeland_scores(game.preference)))
    margin = float(condorcet_margin(game.preference))
    return worst(distance_from_winner(game, winner), detail=f"margin {margin:.3g}")


CYCLE = np.array([[0.5, 0.85, 0.3], [0.15, 0.5, 0.9], [0.7, 0.1, 0.5]])
SAMPLING = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])


@claim(
    "C8",
    "counterexample",
    source="motivation of the minimax winner",
    stated="paper",
    tolerance=1e-9,
    examples=15,
    given={"game": games_near(CYCLE)},
    breaks={"game": transitive_games(3, scale=2.0, gap=0.1)},
)
def rewards_of_a_cycle_are_arbitrary(game: PreferenceGame) -> Verdict:
    """On cyclic preferences the winner of a Bradley–Terry reward depends on how pairs are drawn and
    can be exploited by 0.1 or more, as Borda's; SPO's average keeps to its bound.
    """
    preference = np.asarray(game.preference)
    first, second = bradley_terry_winner(preference, SAMPLING)
    winners = [first, second, borda_scores(preference).argmax()]
    exploited = exploitability(preference, np.eye(3)[winners])
    path = nash_path(game, method="spo", iterations=1000, record=1000)
    return worst(
        float(first == second),
        above(0.1, exploited),
        above(path.average_exploitability[-1], hedge_bound(1000, 3)),
        detail=f"exploited by {exploited.round(3).tolist()}",
    )


# --- trajectories ---


def backed_up(policy: TokenTreePolicy, values: np.ndarray) -> np.ndarray:
    """Return the policy ``(X, N)`` of one backward induction."""
    return np.asarray(soft_backup(policy, values).policy.probs)


def merged_by_depth(policy: TokenTreePolicy, values: np.ndarray) -> np.ndarray:
    """Return the closest policy to Hedge's, by its marginals, that knows only the depth."""
    tree, target = policy.tree, softmax(np.asarray(policy.log_probs) + values)
    product = np.ones_like(target)
    for tokens in tree.sequences.T:
        picks = tokens == np.arange(tree.vocabulary_size)[:, None]
        shares = target @ picks.T
        product = product * shares[:, tokens]
    return product


def uniform_on_random_tree(seed: int) -> TokenTreePolicy:
    return TokenTreePolicy.uniform(TokenTree.random(2, 3, seed=seed))


@claim(
    "C6",
    "identity",
    source="derived",
    stated="derived",
    tolerance=1e-14,
    given={
        "policy": token_trees().flatmap(token_tree_policies),
        "step": st.floats(0.01, 3.0),
        "tilted": st.just(backed_up),
    },
    breaks={
        "policy": st.integers(0, 999).map(uniform_on_random_tree),
        "tilted": st.just(merged_by_depth),
    },
)
def hedge_is_backward_induction(
    policy: TokenTreePolicy,
    step: float,
    tilted: Callable[[TokenTreePolicy, np.ndarray], np.ndarray],
) -> Verdict:
    """A step of Hedge over all trajectories of a tree is one soft backward induction with leaf
    values ηr, whatever r.
    """
    values = step * np.asarray(policy.tree.reward)
    return apart(tilted(policy, values), softmax(np.asarray(policy.log_probs) + values))


QUEUES, LENGTH, ITEMS = 20_000, 6, 6


@claim(
    "C7",
    "statistical",
    source="practical algorithm (chance to fail 6e-7 for each of the 6 trajectories)",
    stated="chosen",
    tolerance=0.0,
    examples=8,
    given={
        "seed": st.integers(0, 9999),
        "stale_share": st.just(0.0),
        "include_self": st.just(False),
    },
    breaks=({"stale_share": st.just(1.0)}, {"include_self": st.just(True)}),
)
def queue_win_rates_are_unbiased(seed: int, stale_share: float, include_self: bool) -> Verdict:
    """The win rate of a trajectory in a fresh queue, itself left out, is unbiased: within 5
    standard errors over 20 000 queues.
    """
    rng = np.random.default_rng(seed)
    table = np.asarray(PreferenceGame.random(ITEMS, seed=rng, kind="cyclic").preference)
    policy, older = rng.dirichlet(np.ones(ITEMS), size=2)
    queued = (1 - stale_share) * policy + stale_share * older
    queues = rng.choice(ITEMS, size=(QUEUES, LENGTH), p=queued)
    deviations = []
    for trajectory, win_rate in enumerate(table @ policy):
        queues[:, 0] = trajectory
        rates = queue_win_rates(table, queues, include_self=include_self)[:, 0]
        deviations.append(abs(rates.mean() - win_rate) / (rates.std() / math.sqrt(QUEUES)))
    return above(deviations, 5.0, detail=f"largest {max(deviations):.2f} standard errors")
