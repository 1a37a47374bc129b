"""What the paper says of the minimax winner and of self-play, on random instances."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from paper_repros.nash.spo_minimax.hedge import (
    LINKS,
    Utility,
    as_preferred,
    backed_up,
    by_majority,
    fast_bound,
    hedge_bound,
    margin_game,
    margin_games,
    merged_by_depth,
    uniform_on_random_tree,
    with_borda_scores,
    with_link,
)
from prefsim import losses
from prefsim.analysis.elections import bradley_terry_winner, distance_from_winner
from prefsim.analysis.voting import borda_scores, condorcet_margin, copeland_scores
from prefsim.data import Comparisons
from prefsim.loops import queue_win_rates, queued_self_play
from prefsim.numerics import log_softmax, softmax
from prefsim.papers import Verdict, above, apart, claim, outside, worst
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers import nash_path, objective
from prefsim.solvers.games.certificates import exploitability, mirror_step, payoff
from prefsim.solvers.planning.tree_backup import score_gradient_in_tree
from prefsim.testing import (
    cyclic_games,
    games_with_reference,
    preference_games,
    tables,
    token_tree_policies,
    token_trees,
    transitive_games,
)
from prefsim.testing.games import Play, games_near, plays
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
    """Where there is a Condorcet winner, who beats all n − 1 others by the margin Δ or more, it is
    the minimax winner: a point mass.
    """
    scores, margin = copeland_scores(game.preference), float(condorcet_margin(game.preference))
    winner = int(np.argmax(scores))
    leads = np.delete(np.asarray(game.preference)[winner], winner) - 0.5
    return worst(
        distance_from_winner(game, winner),
        apart(scores[winner], leads.size),
        apart(margin, leads.min()),
        detail=f"margin {margin:.3g}",
    )


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


@claim(
    "C9",
    "identity",
    source="Hedge as a regression; derived",
    stated="derived",
    given={"play": plays(GAMES), "drift": st.just(np.zeros(1))},
    breaks={"drift": tables((MOST_RESPONSES,), low=-1.0, high=1.0)},
)
def hedge_is_a_regression(play: Play, drift: np.ndarray) -> Verdict:
    """On pairs from any policy the loss of a step η has the value E (η(w − w'))² at π_t, w the win
    rates against π_t, and is zero at the step of Hedge.
    """
    step, world = play.step, play.world()
    loss = functools.partial(losses.mirror_descent, step=step, tau=0.0)
    pairs = Comparisons.population(world, TabularPolicy.from_probs(play.sampler[None]))
    playing = TabularPolicy.from_probs(play.policy[None])
    data = Comparisons.self_play(world, playing, pairs=pairs.relabelled(1.0))
    wins = step * payoff(play.preference, play.policy)
    stated = float(play.sampler @ (wins[:, None] - wins[None, :]) ** 2 @ play.sampler)
    start = np.log(play.policy)
    moved = start + np.broadcast_to(drift, MOST_RESPONSES)[: start.size]
    before, after = (
        float(objective(TabularPolicy(log_softmax(logits)[None]), loss, data))
        for logits in (moved, start + wins)
    )
    return worst(apart(before, stated, relative=True), apart(after, 0.0, scale=1 + stated))


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


@claim(
    "C10",
    "identity",
    source="practical algorithm, and relation to social choice",
    stated="derived",
    given={"game": GAMES, "include_self": st.just(False)},
    breaks={"include_self": st.just(True)},
)
def a_whole_queue_counts_borda_scores(game: PreferenceGame, include_self: bool) -> Verdict:
    """In a queue that holds each response once the win rates are Borda's scores, which add up to
    half the number of responses.
    """
    table, n = np.asarray(game.preference), game.n_responses
    scores = borda_scores(table)
    rates = queue_win_rates(table, np.arange(n), include_self=include_self)
    return worst(apart(rates, scores), apart(scores.sum(), n / 2))


PLAYS = 4000
SMALL_TREE = TokenTree(2, 2)


@claim(
    "C11",
    "statistical",
    source="practical algorithm with a policy gradient",
    stated="derived",
    tolerance=6.0,
    examples=6,
    given={
        "seed": st.integers(0, 9999),
        "fresh": st.integers(1, 6),
        "asked": st.just(as_preferred),
    },
    breaks={"asked": st.just(by_majority)},
)
def a_queue_follows_the_policy_gradient(
    seed: int, fresh: int, asked: Callable[[np.ndarray], np.ndarray]
) -> Verdict:
    """An iteration with a queue of six moves the logits, in the mean of 4000 plays, by the gradient
    of the win rate against the policy itself: within six standard errors. The average policy is
    that which has played.
    """
    game = np.asarray(PreferenceGame.random(4, seed=seed, kind="cyclic").preference)
    policy = TokenTreePolicy.random(SMALL_TREE, seed=seed)
    many = TokenTreePolicy(
        SMALL_TREE, np.broadcast_to(policy.logits, (PLAYS, *np.shape(policy.logits)))
    )
    run = queued_self_play(
        many, asked(game), step=1.0, iterations=1, queue=6, fresh=fresh, seed=seed
    )
    probs = np.asarray(policy.probs)[0]
    expected = score_gradient_in_tree(policy, (probs * (game @ probs - 0.5))[None])
    moves = np.asarray(run.policy.logits) - np.asarray(many.logits)
    missed = (moves.mean(axis=0) - expected) / (moves.std(axis=0) / math.sqrt(PLAYS))
    # No more than rounding: far beyond the tolerance of six otherwise.
    return worst(apart(missed, 0.0), apart(run.average[0], probs, scale=1e-12))


# --- what sabotage cannot show ---

UNSEEN = {
    ("prefsim.losses.mirror_descent", "swap"): (
        "the loss is the square of a difference between the responses, the same for both orders"
    ),
}
