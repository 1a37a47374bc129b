"""Self-play preference optimisation: the minimax winner of preferences over trajectories, by one no-regret learner against itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _spo_minimax_experiments as experiments
from paper_repros._spo_minimax_experiments import (
    CYCLIC,
    LATE,
    MAX_REWARD,
    NOISY,
    fast_bound,
    hedge_bound,
    margin_games,
)
from prefsim.analysis.voting import borda_scores, condorcet_margin, copeland_scores
from prefsim.backend import to_numpy
from prefsim.loops.preference_queue import queue_win_rates
from prefsim.numerics import normal_log_cdf, sigmoid, softmax
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import TokenTreePolicy
from prefsim.solvers import fit_bradley_terry, solve_nash
from prefsim.solvers.games.certificates import exploitability, mirror_step, payoff
from prefsim.solvers.planning.tree_backup import soft_backup
from prefsim.testing.bandits import tables
from prefsim.testing.games import cyclic_games, preference_games, references, transitive_games
from prefsim.testing.tokens import token_tree_policies, token_trees
from prefsim.worlds import PreferenceGame, TokenTree
from prefsim.worlds.ballots import synthetic_ballots

PAPER = Paper(
    slug="spo_minimax",
    title="A Minimaximalist Approach to Reinforcement Learning from Human Feedback",
    arxiv="2401.04056",
    year=2024,
    family="nash",
    summary=(
        "Preferences of many raters are aggregated by the minimax winner. Because the game is"
        " symmetric, one agent that plays itself with a no-regret learner reaches it: a"
        " trajectory's reward is its win rate against the agent's own trajectories."
    ),
    implements=(
        "prefsim.solvers.solve_nash",
        "prefsim.solvers.planning.tree_backup.soft_backup",
        "prefsim.loops.queue_win_rates",
        "prefsim.loops.queued_self_play",
        "prefsim.analysis.voting.borda_scores",
        "prefsim.analysis.voting.copeland_scores",
        "prefsim.analysis.voting.condorcet_margin",
        "prefsim.losses.mirror_descent",
    ),
)

Array = np.ndarray


class Dueling(NamedTuple):
    """A game, the starts of two players ``(n,)`` and their step."""

    preference: Array
    first: Array
    second: Array
    step: float


def _dueling(equal: bool) -> st.SearchStrategy[Dueling]:
    def build(game: PreferenceGame) -> st.SearchStrategy[Dueling]:
        start = references(game.n_responses)
        starts = start.map(lambda p: (p, p)) if equal else st.tuples(start, start)
        return st.tuples(starts, st.floats(0.01, 2.0)).map(
            lambda drawn: Dueling(np.asarray(game.preference), drawn[0][0], drawn[0][1], drawn[1])
        )

    return preference_games(min_n=2).flatmap(build)


def _check_dueling(case: Dueling) -> Verdict:
    first, second, error = np.log(case.first), np.log(case.second), 0.0
    for _ in range(50):
        # The second player wins whatever the first one loses.
        against_second, against_first = (
            payoff(case.preference, np.exp(second)),
            1 - payoff(case.preference.T, np.exp(first)),
        )
        first, second = (
            mirror_step(first, None, against_second, step=case.step),
            mirror_step(second, None, against_first, step=case.step),
        )
        error = max(error, float(np.max(np.abs(np.exp(first) - np.exp(second)))))
    return Verdict(error)


class Learning(NamedTuple):
    """A game, the step of Hedge, and whether the learner learns at all."""

    preference: Array
    step: float
    learns: bool = True


LONGEST = 400


def _check_regret(case: Learning) -> Verdict:
    n, rounds = len(case.preference), np.arange(1, LONGEST + 1)
    if case.learns:
        run = solve_nash(
            case.preference,
            method="spo",
            step=case.step,
            max_iterations=LONGEST,
            tolerance=0.0,
            record=1,
        )
        assert run.history is not None
        played, average = run.history.policy[:-1], run.history.average_policy[1:]
    else:
        played = np.tile(softmax(np.arange(float(n))), (LONGEST, 1))
        average = played
    wins = payoff(case.preference, played)
    regret = np.max(np.cumsum(wins, axis=0), axis=-1) - np.cumsum(np.sum(played * wins, axis=-1))
    exploited = exploitability(case.preference, average)
    bound = math.log(n) / (case.step * rounds) + case.step / 8
    identity = float(np.max(np.abs(exploited - regret / rounds)))
    return Verdict(
        max(identity, float(np.max(exploited - bound)), 0.0), f"identity off by {identity:.1e}"
    )


class Utility(NamedTuple):
    """A game and the utility ``(n,)`` whose maximiser should be its minimax winner."""

    preference: Array
    utility: Array


LINKS = {
    "logistic": sigmoid,
    "probit": lambda x: np.exp(normal_log_cdf(x)),
    "clipped": lambda x: np.clip(0.5 + x / 4, 0.0, 1.0),
    "certain": lambda x: 0.5 * (1 + np.sign(x)),
}


def _with_utility(utility: Array, best: int, link: str) -> Utility:
    raised = utility.copy()
    raised[best % raised.size] = raised.max() + 0.1
    return Utility(LINKS[link](raised[:, None] - raised[None, :]), raised)


def _check_utility(case: Utility) -> Verdict:
    policy = solve_nash(case.preference, method="lp").policy
    return Verdict(float(np.max(np.abs(policy - np.eye(len(policy))[np.argmax(case.utility)]))))


def _check_condorcet(game: PreferenceGame) -> Verdict:
    policy = solve_nash(game, method="lp").policy
    best = int(np.argmax(copeland_scores(game.preference)))
    margin = float(condorcet_margin(game.preference))
    return Verdict(
        float(np.max(np.abs(policy - np.eye(game.n_responses)[best]))), f"margin {margin:.3g}"
    )


class Margin(NamedTuple):
    """Random games from a seed with n responses, the margin Δ that is claimed, and the one that they have."""

    seed: int
    n: int
    claimed: float
    real: float


FAST_HORIZON = 4000


def _check_fast_rate(case: Margin) -> Verdict:
    games = margin_games(case.seed, case.n, case.real, 10)
    run = solve_nash(
        games,
        method="spo",
        step=case.claimed / 2,
        max_iterations=FAST_HORIZON,
        tolerance=0.0,
        record=FAST_HORIZON // 4,
    )
    assert run.history is not None
    done = run.history.iteration[1:]
    missing = done[:, None] * (1 - run.history.average_policy[1:, :, 0])
    exploited = run.history.average_exploitability[1:]
    bound = fast_bound(case.n, case.claimed)
    excess = (
        max(float(np.max(missing)) / bound, float(np.max(2 * done[:, None] * exploited)) / bound)
        - 1
    )
    slope = np.log2(exploited[-1] / exploited[1])
    return Verdict(
        max(excess, float(np.max(np.abs(slope + 1))) - 0.05, 0.0),
        f"slopes {slope.min():.3f} to {slope.max():.3f}",
    )


class Tilt(NamedTuple):
    """A tree whose rewards are those of whole trajectories, the policy to tilt, the step, and whether states of one depth are merged."""

    tree: TokenTree
    policy: TokenTreePolicy
    step: float
    merged: bool = False


def _check_backup(case: Tilt) -> Verdict:
    values = case.step * np.asarray(case.tree.reward)
    by_hedge = softmax(np.asarray(case.policy.log_probs) + values)
    if not case.merged:
        return Verdict(
            float(
                np.max(np.abs(np.asarray(soft_backup(case.policy, values).policy.probs) - by_hedge))
            )
        )
    # The policy of the same depth everywhere that is closest to Hedge's (by its marginals): a
    # product over depths.
    product = np.ones_like(by_hedge)
    for tokens in case.tree.sequences.T:
        shares = np.stack(
            [
                np.where(tokens == a, by_hedge, 0.0).sum(axis=-1)
                for a in range(case.tree.vocabulary_size)
            ],
            axis=-1,
        )
        product = product * shares[:, tokens]
    return Verdict(float(np.max(np.abs(product - by_hedge))))


def _tilts() -> st.SearchStrategy[Tilt]:
    return token_trees().flatmap(
        lambda tree: st.builds(
            Tilt, st.just(tree), token_tree_policies(tree), st.floats(0.01, 3.0), st.just(False)
        )
    )


def _merged(seed: int, step: float) -> Tilt:
    tree = TokenTree.random(2, 3, seed=seed)
    return Tilt(tree, TokenTreePolicy.uniform(tree), step, merged=True)


class Queue(NamedTuple):
    """Seed of game, policy and queues; whether the queue is of an older policy, and whether a trajectory meets itself."""

    seed: int
    stale: bool = False
    include_self: bool = False


QUEUES, LENGTH = 20_000, 10


def _check_queue(case: Queue) -> Verdict:
    rng = np.random.default_rng(case.seed)
    table = np.asarray(PreferenceGame.random(6, seed=rng, kind="cyclic").preference)
    policy, older = rng.dirichlet(np.ones(6), size=2)
    drawn = rng.choice(6, size=(QUEUES, LENGTH), p=older if case.stale else policy)
    exact, worst = table @ policy, 0.0
    for trajectory in range(6):
        drawn[:, 0] = trajectory
        rates = queue_win_rates(table, drawn, include_self=case.include_self)[:, 0]
        worst = max(
            worst, abs(rates.mean() - exact[trajectory]) / (rates.std() / math.sqrt(QUEUES))
        )
    return Verdict(max(0.0, worst - 5.0), f"largest deviation {worst:.2f} standard errors")


class Survey(NamedTuple):
    """Preferences, and two distributions by which the items of a pair are drawn."""

    preference: Array
    sampling: tuple[tuple[float, ...], ...]


CYCLE = np.array([[0.5, 0.85, 0.3], [0.15, 0.5, 0.9], [0.7, 0.1, 0.5]])
SAMPLING = ((0.8, 0.1, 0.1), (0.1, 0.1, 0.8))


def _near_cycle(shifts: Array) -> Survey:
    upper = np.triu(shifts, 1)
    return Survey(CYCLE + upper - upper.T, SAMPLING)


def _check_cyclic(case: Survey) -> Verdict:
    n = len(case.preference)
    off_diagonal = 1 - np.eye(n)
    tops = [
        int(
            np.argmax(
                fit_bradley_terry(np.multiply.outer(s, s) * case.preference * off_diagonal).reward
            )
        )
        for s in case.sampling
    ]
    tops.append(int(np.argmax(borda_scores(case.preference))))
    exploited = exploitability(case.preference, np.eye(n)[tops])
    run = solve_nash(case.preference, method="spo", max_iterations=1000, tolerance=0.0)
    excess = float(to_numpy(run.average_exploitability)) - float(hedge_bound(1000, n))
    arbitrary = 0.0 if tops[0] != tops[1] else 1.0
    return Verdict(
        max(excess, arbitrary, 0.1 - float(exploited.min()), 0.0),
        f"winners {tops}, exploited by {exploited.round(3).tolist()}",
    )


CLAIMS = (
    Claim(
        "C1",
        "identity",
        "Two players with the same start and the same learner stay identical: self-play is dueling",
        "symmetry of the game; derived for Hedge",
        _dueling(True),
        _check_dueling,
        1e-13,
        breaks=_dueling(False),
    ),
    Claim(
        "C2",
        "inequality",
        "The exploitability of the average policy is the learner's regret over T, for Hedge at most"
        " log n/(ηT) + η/8, at every T <= 400",
        "main theorem, in probabilities (half the scale of [−1, 1])",
        st.builds(
            Learning,
            preference_games(min_n=2).map(lambda game: np.asarray(game.preference)),
            st.floats(0.05, 2.0),
            st.just(True),
        ),
        _check_regret,
        1e-12,
        breaks=st.builds(
            Learning,
            cyclic_games(least=0.2).map(lambda game: np.asarray(game.preference)),
            st.floats(0.05, 0.5),
            st.just(False),
        ),
        examples=25,
    ),
    Claim(
        "C3",
        "identity",
        "If preferences come from a utility, by any increasing link, the minimax winner is its"
        " maximiser",
        "relation to reward models",
        st.builds(
            _with_utility,
            st.integers(2, 8).flatmap(lambda n: tables((n,), low=0.0, high=3.0)),
            st.integers(0, 7),
            st.sampled_from(sorted(LINKS)),
        ),
        _check_utility,
        1e-9,
        breaks=cyclic_games().map(
            lambda game: Utility(
                np.asarray(game.preference), np.asarray(borda_scores(game.preference))
            )
        ),
    ),
    Claim(
        "C4",
        "identity",
        "Where there is a Condorcet winner, it is the minimax winner: a point mass",
        "relation to social choice",
        st.builds(
            lambda seed, n, margin: PreferenceGame(margin_games(seed, n, margin, 1)[0]),
            st.integers(0, 10_000),
            st.integers(2, 8),
            st.floats(0.01, 0.5),
        ),
        _check_condorcet,
        1e-9,
        breaks=cyclic_games(),
    ),
    Claim(
        "C5",
        "rate",
        "With a Condorcet winner of margin Δ and η = Δ/2, Σ_t (1 − π_t(y*)) <= log n/(ηΔ − (e^η − 1"
        " − η)) from a uniform start, so that the average's exploitability is at most half of that"
        " over T; it falls as 1/T (slope −1 within .05)",
        "fast rate; constant derived",
        st.builds(
            Margin, st.integers(0, 999), st.integers(3, 8), st.floats(0.2, 0.5), st.just(None)
        ).map(lambda case: case._replace(real=case.claimed)),
        _check_fast_rate,
        1e-9,
        breaks=st.builds(
            Margin,
            st.integers(0, 999),
            st.integers(3, 8),
            st.floats(0.3, 0.5),
            st.floats(0.0, 0.01),
        ),
        examples=5,
    ),
    Claim(
        "C6",
        "identity",
        "A step of Hedge over all trajectories of a tree is one soft backward induction with leaf"
        " values ηr, whatever r",
        "derived",
        _tilts(),
        _check_backup,
        1e-14,
        breaks=st.builds(_merged, st.integers(0, 999), st.floats(0.5, 3.0)),
    ),
    Claim(
        "C7",
        "statistical",
        "The win rate of a trajectory in a fresh queue, itself left out, is unbiased: within 5"
        " standard errors over 20 000 queues",
        "practical algorithm (chance to fail 6e-7 for each of the 6 trajectories)",
        st.integers(0, 9999).map(Queue),
        _check_queue,
        0.0,
        breaks=st.builds(Queue, st.integers(0, 9999), st.just(True), st.booleans())
        | st.integers(0, 9999).map(lambda seed: Queue(seed, include_self=True)),
        examples=8,
    ),
    Claim(
        "C8",
        "counterexample",
        "On cyclic preferences the winner of a Bradley–Terry reward depends on how pairs are drawn"
        " and can be exploited by 0.1 or more, as Borda's; SPO's average keeps to its bound",
        "motivation of the minimax winner",
        tables((3, 3), low=-0.02, high=0.02).map(_near_cycle),
        _check_cyclic,
        1e-9,
        breaks=transitive_games(3, scale=2.0, gap=0.1).map(
            lambda game: Survey(np.asarray(game.preference), SAMPLING)
        ),
        examples=15,
    ),
)


def reproduce(run: Run) -> Reproduction:
    seeds = range(20)
    rng = np.random.default_rng(run.seed)
    truth = experiments.family(MAX_REWARD, seeds)
    outcomes = {}
    for name in run.progress((MAX_REWARD, NOISY, CYCLIC, LATE), "families"):
        preference = experiments.family(name, seeds)
        outcomes[name] = experiments.compare(
            preference, truth if name == NOISY else preference, rng
        )
    noisy_average = solve_nash(
        experiments.family(NOISY, seeds),
        method="spo",
        max_iterations=experiments.HORIZONS[-1],
        tolerance=0.0,
    )
    backup = experiments.backup_error(experiments.family(CYCLIC, seeds), 100 if run.quick else 1000)
    sampled = experiments.sample_play(
        seeds[:10] if run.quick else seeds, 300 if run.quick else 3000, run
    )
    rates = {
        margin: experiments.fast_rate(margin, 4000 if run.quick else 20_000)
        for margin in (0.2, 0.4)
    }
    files = [
        synthetic_ballots(),
        *(sorted((run.data / "preflib").glob("*.so[ci]")) if run.data else ()),
    ]
    elections = [experiments.election(path, 4096) for path in files]

    horizons = np.array(experiments.HORIZONS)
    # Flips shrink every margin by 1 − 2ε: the bound holds in the game that was played.
    excess = max(
        float(np.max(o.average - hedge_bound(horizons)[:, None]))
        for name, o in outcomes.items()
        if name != NOISY
    )
    excess = max(
        excess,
        float(np.max(to_numpy(noisy_average.average_exploitability)))
        - float(hedge_bound(horizons[-1])),
    )
    cyclic, easy = outcomes[CYCLIC], outcomes[MAX_REWARD]
    beaten = int((cyclic.borda > 1e-9).sum())
    slopes = {name: outcome.slope for name, outcome in outcomes.items()}
    last = {name: float(line[-1]) for name, line in sampled.exploited.items()}
    criteria = (
        Criterion(
            "bound of Hedge",
            "exploitability of the average at most √(log 8/(2T)) in all families",
            f"largest excess {excess:.2e}",
            excess <= 1e-12,
        ),
        Criterion(
            "rate of Hedge",
            "at least as fast as T^(−1/2): slopes at most −.48",
            ", ".join(f"{slope:.2f} ({name})" for name, slope in slopes.items()),
            max(slopes.values()) <= -0.48,
        ),
        Criterion(
            "intransitive, reward model",
            "the Borda winner is exploited by 1/6 on about half of 20 seeds, else not at all (10 of"
            " 20 on another draw)",
            f"by {cyclic.borda.max():.4f} on {beaten} of {len(seeds)}",
            bool(
                np.all((np.abs(cyclic.borda - 1 / 6) < 1e-9) | (cyclic.borda < 1e-9))
                and 5 <= beaten <= 15
            ),
        ),
        Criterion(
            "intransitive, SPO",
            "exploitability at most .0081 at T = 4096 on all seeds (bound .0159)",
            float(cyclic.average[-1].max()),
            bool(cyclic.average[-1].max() <= 0.0081),
        ),
        Criterion(
            "transitive",
            "both reach the optimum: the reward model's choice cannot be exploited, SPO's average"
            " only within its bound",
            f"{easy.model.max():.4f} and {easy.average[-1].max():.4f}",
            bool(easy.model.max() < 1e-9 and easy.average[-1].max() <= hedge_bound(horizons[-1])),
        ),
        Criterion(
            "Hedge by backups of the tree",
            "the same policies as Hedge over trajectories (1e-10)",
            backup,
            backup <= 1e-10,
        ),
        Criterion(
            "fast rate",
            "slope −1 within .05 and never above the bound with a margin Δ",
            ", ".join(f"{rate.slope:.3f} at Δ = {margin:g}" for margin, rate in rates.items()),
            all(
                abs(rate.slope + 1) <= 0.05 and bool(np.all(rate.exploited <= rate.bound))
                for rate in rates.values()
            ),
        ),
        Criterion(
            "on samples",
            "exploitability falls with the comparisons asked in every world (no figure on the"
            " page)",
            ", ".join(f"{value:.3f} ({name})" for name, value in last.items()),
            all(float(line[-1]) < float(line[0]) for line in sampled.exploited.values()),
        ),
        Criterion(
            "ballots",
            "SPO's average keeps to its bound, and the minimax winner is the Condorcet winner where"
            " there is one",
            "; ".join(
                f"{e['ballots']}: {e['exploitability, SPO']:.4f} (bound {e['bound, SPO']:.4f})"
                for e in elections
            ),
            all(
                float(e["exploitability, SPO"]) <= float(e["bound, SPO"]) and e["agree"] == 1
                for e in elections
            ),
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {
            "family": name,
            **{
                f"SPO, T = {horizon}": float(outcome.average[i].mean())
                for i, horizon in enumerate(horizons)
            },
            "slope": outcome.slope,
            "Borda, worst": float(outcome.borda.max()),
            "reward model, mean": float(outcome.model.mean()),
        }
        for name, outcome in outcomes.items()
    ]
    for i, asked in enumerate(sampled.comparisons):
        row: dict[str, str | float | int] = {"comparisons": int(asked)}
        row |= {
            f"exploitability, {name}": float(line[i]) for name, line in sampled.exploited.items()
        }
        row |= {
            f"mass on the best, {name}": float(line[i])
            for name, line in sampled.best.items()
            if line.size
        }
        table.append(row)
    table += elections
    return Reproduction(experiments.draw(outcomes, sampled, rates), table, criteria)
