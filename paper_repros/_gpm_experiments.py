"""The experiments of ``gpm``: models fitted to cyclic labels, play against their scores, elections, and the figure."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.numerics import sigmoid
from prefsim.raters import reward_embedding, score_matrix
from prefsim.solvers import (
    decompose_skew,
    exploitability,
    fit_bradley_terry,
    fit_preference_embedding,
    preference_scores,
    solve_nash,
)
from prefsim.worlds.game import PreferenceGame

DIMS = (2, 4, 6)
MODELS = ("Bradley–Terry", *(f"GPM, {dim} numbers" for dim in DIMS))
# Labels of a cycle are certain: without a prior no model's maximum exists.
RIDGE = 1e-3
POOL, CYCLES = 20, 12


def cycle(n: int) -> np.ndarray:
    """Return the wins of n items of which each beats the next."""
    return np.roll(np.eye(n), 1, axis=1)


def mixture(rng: np.random.Generator) -> np.ndarray:
    """Return the wins of cycles of 3 to 5 items out of the pool; a pair keeps the label that it gets first."""
    wins = np.zeros((POOL, POOL))
    for _ in range(CYCLES):
        members = rng.permutation(POOL)[: rng.integers(3, 6)]
        for i, j in zip(members, np.roll(members, -1), strict=True):
            if wins[j, i] == 0:
                wins[i, j] = 1.0
    return wins


def accuracy(scores: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """Return the share of labels whose score has the right sign, a tie half, ``(...,)``; rounding errors of zero count as ties."""
    right = np.where(np.abs(scores) < 1e-9, 0.5, scores > 0)
    return np.asarray((wins * right).sum(axis=(-2, -1)) / wins.sum(axis=(-2, -1)))


def best_order(wins: np.ndarray) -> float:
    """Return the largest share of labels, each 0 or 1, that any strict order ranks right: dynamic programming over sets of items."""
    n = len(wins)
    places = 1 << np.arange(n, dtype=np.int32)
    beaten_by = (wins > 0).T @ places
    sets = np.arange(2**n, dtype=np.int32)
    size = np.bitwise_count(sets)
    best = np.zeros(2**n, dtype=np.int16)  # labels ranked right within a set by its best order
    for count in range(1, n + 1):
        layer = sets[size == count]
        value = np.zeros(layer.size, dtype=np.int16)
        for place, winners in zip(places, beaten_by, strict=True):
            inside = np.flatnonzero(layer & place)
            before = layer[inside] ^ place
            value[inside] = np.maximum(
                value[inside], best[before] + np.bitwise_count(before & winners)
            )
        best[layer] = value
    return float(best[-1] / wins.sum())


def best_order_by_enumeration(wins: np.ndarray) -> float:
    """Return the same by trying every order."""
    orders = (np.argsort(order) for order in itertools.permutations(range(len(wins))))
    return float(
        max(accuracy(np.subtract.outer(-rank, -rank).astype(float), wins) for rank in orders)
    )


class Fits(NamedTuple):
    """Every model on a group of instances: accuracy, loss of a label in nats and probability of a label, ``(models, instances)`` each.

    ``order`` is the best accuracy of any strict order, ``(instances,)``; ``gap`` bounds how far the
    fits of the model with the most numbers are from the global minimum, in nats a label.
    """

    group: str
    accuracy: np.ndarray
    loss: np.ndarray
    probability: np.ndarray
    order: np.ndarray
    gap: float


def fit_models(group: str, wins: np.ndarray, starts: int) -> Fits:
    """Fit all models to wins ``(instances, n, n)``."""
    labels = wins.sum(axis=(-2, -1))
    embeddings = [to_numpy(reward_embedding(to_numpy(fit_bradley_terry(wins, ridge=RIDGE).reward)))]
    for dim in DIMS:
        result = fit_preference_embedding(wins, dim=dim, ridge=RIDGE, starts=starts)
        embeddings.append(to_numpy(result.embedding))
        gap = float(np.max(to_numpy(result.gap) / labels))
    scores = np.stack([score_matrix(embedding) for embedding in embeddings])
    chance = sigmoid(scores)
    loss = np.where(wins > 0, np.logaddexp(0.0, -scores), 0.0).sum(axis=(-2, -1)) / labels
    orders = [
        best_order(table) if len(table) > 5 else best_order_by_enumeration(table) for table in wins
    ]
    mean = (wins * chance).sum(axis=(-2, -1)) / labels
    return Fits(group, accuracy(scores, wins), loss, mean, np.array(orders), gap)


class Play(NamedTuple):
    """Exploitability by step of GPO's average and last policy, of the one trained on a reward, and of that reward's best arm."""

    steps: np.ndarray
    average: np.ndarray
    last: np.ndarray
    rewarded: np.ndarray
    best_arm: float


def play_cycle(steps: int, step: float, seed: int) -> Play:
    """Play rock, paper, scissors with scores of 2, from a policy that prefers rock, with step 1/β; the reward is fitted to 300 labels."""
    scores = 2.0 * (cycle(3) - cycle(3).T)
    chance = sigmoid(scores)
    start = np.array([0.7, 0.2, 0.1])
    draws = np.asarray(np.random.default_rng(seed).binomial(100, chance))
    counts = np.triu(draws, 1) + np.tril(100 - draws.T, -1)
    reward = to_numpy(fit_bradley_terry(counts).reward)
    curves = []
    for table in (scores, np.subtract.outer(reward, reward)):
        bound = np.abs(table).max()
        # Multiplicative weights on S with step η are those on ½ + S/2M with step 2Mη.
        run = solve_nash(
            0.5 + table / (2 * bound),
            method="mwu",
            step=2 * bound * step,
            initial=start,
            max_iterations=steps,
            tolerance=0.0,
            record=max(1, steps // 400),
        )
        assert run.history is not None
        curves.append(run.history)
    average, last = (
        exploitability(chance, to_numpy(p)) for p in (curves[0].average_policy, curves[0].policy)
    )
    rewarded = exploitability(chance, to_numpy(curves[1].policy))
    best_arm = exploitability(chance, np.eye(3)[reward.argmax()])
    return Play(curves[0].iteration, average, last, rewarded, float(best_arm))


class Election(NamedTuple):
    """What the log-odds of an election's majorities are made of."""

    title: str
    strengths: np.ndarray
    rank: int
    residual: float
    reward_share: float
    plane_share: float

    def row(self) -> dict[str, str | float | int]:
        """Return what the table says of the election."""
        return {
            "ballots": self.title,
            "strengths λ": ", ".join(f"{x:.4g}" for x in self.strengths),
            "numbers needed (rank)": self.rank,
            "residual": self.residual,
            "share of squared log-odds in rewards": self.reward_share,
            "in the best 2 numbers": self.plane_share,
        }


def elect(path: Path) -> Election:
    game = PreferenceGame.from_preflib(path)
    scores = to_numpy(preference_scores(game.preference))
    found = decompose_skew(scores)
    strengths = to_numpy(found.strengths)
    # Row means are the rewards nearest to skew scores in least squares.
    mean = scores.mean(axis=1)
    missed = np.sum((scores - np.subtract.outer(mean, mean)) ** 2) / np.sum(scores**2)
    assert game.ballots is not None
    plane = strengths[0] ** 2 / np.sum(strengths**2)
    return Election(
        game.ballots.title,
        strengths,
        int(found.rank),
        float(found.residual),
        float(1 - missed),
        float(plane),
    )


def draw(fits: list[Fits], play: Play) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    place = np.arange(len(fits))
    for m, name in enumerate(MODELS):
        shift = 0.2 * (m - 1.5)
        left.bar(
            place + shift, [f.accuracy[m].mean() for f in fits], 0.18, color=f"C{m}", label=name
        )
        for x, f in zip(place + shift, fits, strict=True):
            middle.plot(np.full(f.order.size, x), f.loss[m], "o", color=f"C{m}", ms=7, alpha=0.7)
            if f.order.size > 1:
                left.plot(np.full(f.order.size, x), f.accuracy[m], "k.", ms=3)
    for x, f in zip(place, fits, strict=True):
        left.plot(
            [x - 0.4, x + 0.4],
            [f.order.mean()] * 2,
            "k--",
            lw=1,
            label=None if x else "best strict order (mean)",
        )
    middle.axhline(np.log(2), color="k", ls=":", lw=1, label="a coin: log 2")
    left.set(ylim=(0, 1.38), ylabel="labels ranked right (share)", yticks=np.linspace(0, 1, 6))
    left.set_title("accuracy on cyclic labels; dots: instances")
    left.legend(fontsize=8, ncols=2, loc="upper center")
    middle.set(yscale="log", ylabel="mean loss of a label (nats)", xlim=left.get_xlim())
    middle.set_title("negative log-likelihood, colours as on the left")
    middle.legend(fontsize=8, loc="center left")
    for axes in (left, middle):
        axes.set_xticks(place, [f.group for f in fits])
    right.plot(play.steps, play.rewarded, "C0", label="trained on the Bradley–Terry reward")
    right.plot(play.steps, play.last, color="0.5", lw=0.8, label="GPO on the scores, last policy")
    right.plot(
        play.steps[1:], play.average[1:], "C4", lw=2, label="GPO on the scores, average policy"
    )
    right.set(yscale="log", xlabel="step", ylabel="exploitability (probability)", ylim=(4e-4, 0.7))
    right.set_title("rock, paper, scissors with scores ±2")
    right.legend(fontsize=8, loc="lower right")
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    figure.suptitle(
        "Two numbers for each response hold a cycle that no reward can; against such scores"
        " self-play finds the mixed equilibrium"
    )
    return figure
