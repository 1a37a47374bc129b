"""The experiments of ``spo_minimax``: four families of preferences over the trajectories of a tree, elections, and the figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.voting import borda_scores, copeland_scores
from prefsim.backend import to_numpy
from prefsim.loops.preference_queue import queued_self_play
from prefsim.papers import Run
from prefsim.policies import TokenTreePolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import fit_bradley_terry, solve_nash
from prefsim.solvers.games.certificates import exploitability
from prefsim.solvers.planning.tree_backup import soft_backup
from prefsim.worlds import PreferenceGame, TokenTree

Array = np.ndarray

TREE = TokenTree(2, 3)
N = TREE.n_sequences
HORIZONS = (64, 256, 1024, 4096)
FLIPS = (0.0, 0.1, 0.3)
MAX_REWARD, NOISY, CYCLIC, LATE = (
    "max reward",
    "max reward, 30 % flips",
    "three rankings (intransitive)",
    "late steps only",
)

NOTES = {NOISY: ", in the clean game"}


def hedge_bound(horizon: Any, n: int = N) -> Any:
    """Return the bound on the exploitability of Hedge's average with the step √(8 log n/T): √(log n/(2T))."""
    return np.sqrt(math.log(n) / (2 * np.asarray(horizon, dtype=float)))


def _step_rewards(seed: int) -> Array:
    """Return rewards of every step of every trajectory ``(N, 3)``: one normal number for each node and action."""
    table = np.random.default_rng(seed).standard_normal((TREE.n_nodes, TREE.vocabulary_size))
    return table[TREE.nodes, TREE.sequences]


def family(name: str, seeds: range) -> Array:
    """Return preferences over trajectories ``(seeds, N, N)``."""
    if name == CYCLIC:
        rngs = [np.random.default_rng(seed) for seed in seeds]
        return np.stack(
            [
                to_numpy(
                    PreferenceGame.from_rankings([rng.permutation(N) for _ in range(3)]).preference
                )
                for rng in rngs
            ]
        )
    rewards = np.stack([_step_rewards(seed) for seed in seeds])
    # The largest reward on the way, and what comes after half time: neither is a sum of rewards of
    # states and actions.
    utility = rewards[..., 2] if name == LATE else rewards.max(axis=-1)
    table = 0.5 * (1 + np.sign(utility[..., :, None] - utility[..., None, :]))
    return to_numpy(flip_labels(table, FLIPS[-1])) if name == NOISY else table


def reward_model_choice(preference: Array, rng: np.random.Generator, *, pairs: int = 2000) -> Array:
    """Return the trajectory ``(games,)`` of the largest Bradley–Terry reward fitted to labelled pairs of the uniform policy."""
    upper = np.triu_indices(N, 1)
    chosen = []
    for table in preference:
        seen = rng.multinomial(pairs, np.full(len(upper[0]), 1 / len(upper[0])))
        won = rng.binomial(seen, table[upper])
        counts = np.zeros((N, N))
        counts[upper], counts[upper[::-1]] = won, seen - won
        # Sure preferences have no maximum-likelihood reward without a penalty.
        chosen.append(int(np.argmax(fit_bradley_terry(counts, ridge=1e-3).reward)))
    return np.array(chosen)


class Outcome(NamedTuple):
    """Exploitabilities in one family: of SPO's average ``(horizons, games)``, and of the choice of Borda and of a reward model."""

    average: Array
    borda: Array
    model: Array

    @property
    def slope(self) -> float:
        """Of the mean log-exploitability of the average against the log-horizon."""
        return float(np.polyfit(np.log(HORIZONS), np.log(self.average.mean(axis=1)), 1)[0])


def compare(preference: Array, truth: Array, rng: np.random.Generator) -> Outcome:
    """Learn from ``preference`` and measure in the game ``truth``."""
    runs = [
        to_numpy(
            solve_nash(preference, method="spo", max_iterations=horizon, tolerance=0.0).average_policy
        )
        for horizon in HORIZONS
    ]
    picks = borda_scores(preference).argmax(axis=-1), reward_model_choice(preference, rng)
    pure = [exploitability(truth, np.eye(N)[pick]) for pick in picks]
    return Outcome(np.stack([exploitability(truth, policy) for policy in runs]), *pure)


def backup_error(preference: Array, iterations: int) -> float:
    """Return how far Hedge by backups of the tree is from Hedge over trajectories after so many steps, in probability."""
    step = math.sqrt(8 * math.log(N) / iterations)
    policy = TokenTreePolicy(
        TREE, np.zeros((len(preference), 1, TREE.n_nodes, TREE.vocabulary_size))
    )
    for _ in range(iterations):
        wins = preference @ to_numpy(policy.probs)[..., 0, :, None]
        policy = soft_backup(policy, step * np.swapaxes(wins, -1, -2)).policy
    flat = solve_nash(
        preference, method="spo", step=step, max_iterations=iterations, tolerance=0.0
    ).policy
    return float(np.abs(to_numpy(policy.probs)[..., 0, :] - to_numpy(flat)).max())


class Sampled(NamedTuple):
    """SPO on samples, means over games, ``(K,)`` each.

    Attributes
    ----------
    comparisons
        How often the rater was asked.
    exploited, best
        Of the mean policy, by world: its exploitability, and its chance to pick a best trajectory.
    """

    comparisons: Array
    exploited: dict[str, Array]
    best: dict[str, Array]


def sample_play(seeds: range, iterations: int, run: Run) -> Sampled:
    start = TokenTreePolicy(TREE, np.zeros((len(seeds), 1, TREE.n_nodes, TREE.vocabulary_size)))
    truth = family(MAX_REWARD, seeds)
    winners = np.min(truth, axis=-1) >= 0.5 - 1e-12
    exploited, best = {}, {}
    worlds = {
        f"{100 * rate:.0f} % flips": (to_numpy(flip_labels(truth, rate)), truth) for rate in FLIPS
    }
    worlds["intransitive"] = (family(CYCLIC, seeds),) * 2
    for name, (asked, real) in run.progress(list(worlds.items()), "sampled self-play"):
        played = queued_self_play(
            start,
            asked,
            step=1.0,
            iterations=iterations,
            record=max(1, iterations // 20),
            seed=run.seed,
        )
        exploited[name] = exploitability(real, played.average).mean(axis=1)
        best[name] = (
            (played.average * winners).sum(axis=-1).mean(axis=1)
            if name != "intransitive"
            else np.array([])
        )
    return Sampled(played.comparisons, exploited, best)


class FastRate(NamedTuple):
    """Average exploitability ``(K,)`` by number of iterations, its bound, and the slope over the last half (in logarithms)."""

    iterations: Array
    exploited: Array
    bound: Array

    @property
    def slope(self) -> float:
        late = self.iterations >= np.sqrt(self.iterations[-1] * self.iterations[0])
        return float(np.polyfit(np.log(self.iterations[late]), np.log(self.exploited[late]), 1)[0])


def margin_games(seed: int, n: int, margin: float, n_games: int) -> Array:
    """Return random games ``(n_games, n, n)`` in which response 0 beats every other, the closest by exactly ``margin``."""
    rng = np.random.default_rng(seed)
    games = to_numpy(PreferenceGame.random(n, seed=rng, batch_shape=(n_games,)).preference).copy()
    lead = margin + (0.5 - margin) * rng.random((n_games, n - 1))
    lead[np.arange(n_games), rng.integers(0, n - 1, n_games)] = margin
    games[:, 0, 1:], games[:, 1:, 0] = 0.5 + lead, 0.5 - lead
    return games


def fast_bound(n: int, margin: float) -> float:
    """Return the bound on Σ_t (1 − π_t(y*)) with the step Δ/2 from the uniform policy."""
    step = margin / 2
    return math.log(n) / (step * margin - (math.exp(step) - 1 - step))


def fast_rate(margin: float, horizon: int) -> FastRate:
    games = margin_games(0, N, margin, 20)
    run = solve_nash(
        games,
        method="spo",
        step=margin / 2,
        max_iterations=horizon,
        tolerance=0.0,
        record=max(1, horizon // 64),
    )
    assert run.history is not None
    done = run.history.iteration[1:]
    return FastRate(
        done,
        to_numpy(run.history.average_exploitability)[1:].max(axis=1),
        fast_bound(N, margin) / (2 * done),
    )


def election(path: Path, horizon: int) -> dict[str, str | float | int]:
    """Return who wins an election by every rule, and how exploitable SPO's average is."""
    game = PreferenceGame.from_preflib(path)
    assert game.ballots is not None
    names, table = game.ballots.labels, to_numpy(game.preference)
    exact = to_numpy(solve_nash(game, method="lp").policy)
    played = solve_nash(game, method="spo", max_iterations=horizon, tolerance=0.0)
    winner = int(game.condorcet_winner())
    borda = int(borda_scores(table).argmax())
    return {
        "ballots": game.ballots.title,
        "voters": game.ballots.n_voters,
        "Borda": names[borda],
        "exploitability, Borda": float(exploitability(table, np.eye(len(names))[borda])),
        "Copeland": names[int(copeland_scores(table).argmax())],
        "Condorcet": "none" if winner < 0 else names[winner],
        "minimax winner": ", ".join(
            f"{label} {share:.3f}" for label, share in zip(names, exact, strict=True) if share > 0
        ),
        "exploitability, SPO": float(to_numpy(played.average_exploitability)),
        "bound, SPO": float(hedge_bound(horizon, len(names))),
        "agree": int(winner < 0 or exact[winner] > 1 - 1e-9),
    }


def draw(outcomes: dict[str, Outcome], sampled: Sampled, rates: dict[float, FastRate]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 8.4), layout="constrained")
    (top_left, top_right), (low_left, low_right) = figure.subplots(2, 2)
    for marker, (name, outcome) in zip("osD^", outcomes.items(), strict=True):
        top_left.plot(
            HORIZONS,
            outcome.average.mean(axis=1),
            marker=marker,
            label=f"{name}{NOTES.get(name, '')}: slope {outcome.slope:.2f}",
        )
    top_left.plot(HORIZONS, hedge_bound(HORIZONS), "k--", lw=1, label="bound: slope −0.50")
    top_left.set(
        xscale="log", yscale="log", xlabel="iterations T, with η = √(8 log 8 / T)", ylim=(5e-3, 0.5)
    )
    top_left.set_ylabel("exploitability of the average policy")
    top_left.set_title("exact SPO on a tree of 8 trajectories")

    cyclic = outcomes[CYCLIC]
    order = np.argsort(cyclic.borda, kind="stable")
    rank = np.arange(1, order.size + 1)
    top_right.plot(rank, cyclic.borda[order], "C3s", label="best reward (Borda)")
    top_right.plot(rank, cyclic.model[order], "C1x", label="reward model on 2000 comparisons")
    top_right.plot(rank, cyclic.average[-1][order], "C0o", label=f"SPO, T = {HORIZONS[-1]}")
    top_right.set(
        xlabel="game (majorities of three random rankings)", ylabel="exploitability", xticks=rank
    )
    top_right.set_title("intransitive majorities: the best reward may be beaten")

    for marker, (name, line) in zip("osD^", sampled.exploited.items(), strict=True):
        low_left.plot(sampled.comparisons, line, marker=marker, ms=4, label=name)
    low_left.set(
        xscale="log", xlabel="comparisons asked", ylabel="exploitability of the average policy"
    )
    low_left.set_title("SPO on samples: queue of 10, policy gradient")

    for colour, (margin, rate) in zip(("C0", "C2", "C4"), rates.items(), strict=False):
        low_right.plot(
            rate.iterations,
            rate.exploited,
            color=colour,
            label=f"Δ = {margin:g}: slope {rate.slope:.2f}",
        )
        low_right.plot(
            rate.iterations, rate.bound, color=colour, ls="--", lw=1, label=f"bound, Δ = {margin:g}"
        )
    low_right.set(
        xscale="log",
        yscale="log",
        xlabel="iterations T, with η = Δ/2",
        ylabel="largest exploitability of the average policy",
    )
    low_right.set_title("a Condorcet winner with margin Δ: rate 1/T")
    for axes in (top_left, top_right, low_left, low_right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(
        "Self-play with a no-regret learner reaches the minimax winner, also where preferences are"
        " intransitive"
    )
    return figure
