"""Labels that no order ranks right, how many of them the best one does, and models of a cycle."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from prefsim.backend import like, to_numpy
from prefsim.containers import PairRewards
from prefsim.gradients import gradient
from prefsim.losses import score_regression
from prefsim.numerics import array_namespace, softplus
from prefsim.raters import embedding_preference, reward_embedding, score_matrix
from prefsim.solvers import (
    EmbeddingResult,
    fit_bradley_terry,
    fit_preference_embedding,
    solve_nash,
)
from prefsim.solvers.games.preference_embedding import embedding_lower_bound, embedding_objective

# Items, and cycles drawn from them, of a mixture.
POOL, CYCLES = 20, 12


def cycle(n: int) -> np.ndarray:
    """Return the wins of n items of which each beats the next."""
    return np.roll(np.eye(n), 1, axis=1)


def skew(table: np.ndarray) -> np.ndarray:
    """Return the skew matrix of what is above the diagonal."""
    return np.triu(table, 1) - np.triu(table, 1).T


def mixture(rng: np.random.Generator) -> np.ndarray:
    """Return the wins of cycles of 3 to 5 items out of the pool.

    A pair keeps the label that it gets first.
    """
    wins = np.zeros((POOL, POOL))
    for _ in range(CYCLES):
        members = rng.permutation(POOL)[: rng.integers(3, 6)]
        for i, j in zip(members, np.roll(members, -1), strict=True):
            if wins[j, i] == 0:
                wins[i, j] = 1.0
    return wins


def on_circle(angle: np.ndarray, radius: float = 1.0) -> np.ndarray:
    """Return the vectors ``(n, 2)`` at these angles."""
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def change_of_basis(turns: tuple[float, float], stretch: float, determinant: float) -> np.ndarray:
    """Return a map ``(2, 2)`` of the plane, by its turns, its stretch and its determinant."""
    first, second = (
        np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for angle in turns
    )
    stretched = np.sqrt(determinant) * np.diag([np.exp(stretch), np.exp(-stretch)])
    return first @ stretched @ second


def accuracy(scores: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """Return the share ``(...,)`` of labels whose score has the right sign, a tie half."""
    # Rounding errors of zero count as ties.
    right = np.where(np.abs(scores) < 1e-9, 0.5, scores > 0)
    return np.asarray((wins * right).sum(axis=(-2, -1)) / wins.sum(axis=(-2, -1)))


def best_order(wins: np.ndarray) -> float:
    """Return the largest share of labels, each 0 or 1, that any strict order ranks right.

    By dynamic programming over sets of items.
    """
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
            right = best[before] + np.bitwise_count(before & winners)
            value[inside] = np.maximum(value[inside], right)
        best[layer] = value
    return float(best[-1] / wins.sum())


def best_order_by_enumeration(wins: np.ndarray) -> float:
    """Return the same by trying every order."""
    ranks = (np.argsort(order) for order in itertools.permutations(range(len(wins))))
    return float(max(accuracy(np.subtract.outer(-r, -r).astype(float), wins) for r in ranks))


class CycleModels(NamedTuple):
    """What models make of a cycle of certain labels.

    Attributes
    ----------
    reward, reward_loss
        The Bradley–Terry fit ``(n,)`` and its mean loss of a label in nats.
    order
        The largest share of labels that an order ranks right.
    circle_losses
        Mean losses of ever larger circles of vectors, ``(4,)``.
    accuracy
        Share of labels that fitted vectors of two numbers rank right.
    reported, reached, least
        Their penalised loss as the fit reports it and as it is, and a bound on that of any vectors.
    regressions
        What :func:`regressions_on_a_cycle` returns for a target of 1.
    """

    reward: np.ndarray
    reward_loss: float
    order: float
    circle_losses: np.ndarray
    accuracy: float
    reported: float
    reached: float
    least: float
    regressions: tuple[float, float]


def regressions_on_a_cycle(weights: np.ndarray, target: float) -> tuple[float, float]:
    """Return the least mean loss of rewards regressed on a target, and that of vectors.

    The labels of the cycle have these weights ``(n,)``; the vectors lie on a circle.
    """
    n, share = len(weights), weights / weights.sum()

    def loss(advantage: Any) -> Any:
        pairs = PairRewards(advantage, 0 * advantage)
        return (like(share, advantage) * score_regression(pairs, target=target)).sum()

    def of_rewards(reward: Any) -> Any:
        xp = array_namespace(reward)
        return loss(reward - xp.roll(reward, -1))

    found = minimize(
        lambda reward: float(of_rewards(reward)),
        np.arange(float(n)),
        jac=lambda reward: gradient(of_rewards, reward),
        method="BFGS",
        options={"gtol": 1e-10},
    )
    angle = 2 * np.pi * np.arange(n) / n
    scores = score_matrix(on_circle(angle, np.sqrt(target / np.sin(2 * np.pi / n))))
    return float(found.fun), float(loss(scores[cycle(n) > 0]))


def models_of_a_cycle(weights: np.ndarray) -> CycleModels:
    """Return what models make of a cycle whose labels have these weights ``(n,)``."""
    n = len(weights)
    wins = cycle(n) * weights[:, None]
    rewards = fit_bradley_terry(wins)
    circle = on_circle(2 * np.pi * np.arange(n) / n)
    ridge = 1e-3 * float(wins.sum())
    fitted = fit_preference_embedding(wins, dim=2, ridge=ridge, starts=1)
    vectors = to_numpy(fitted.embedding)
    scores = score_matrix(vectors)
    sizes = (1.0, 2.0, 4.0, 8.0)
    return CycleModels(
        reward=to_numpy(rewards.reward),
        reward_loss=-float(rewards.log_likelihood) / float(wins.sum()),
        order=best_order_by_enumeration(cycle(n)),
        circle_losses=np.array(
            [np.mean(softplus(-score_matrix(size * circle)[wins > 0])) for size in sizes]
        ),
        accuracy=float(accuracy(scores, wins)),
        reported=float(fitted.objective),
        reached=float(embedding_objective(vectors, wins, ridge=ridge)),
        least=float(embedding_lower_bound(scores, wins, ridge=ridge)),
        regressions=regressions_on_a_cycle(weights, 1.0),
    )


def equilibria_of_a_cycle(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the equilibrium ``(3,)`` of a cycle of three scores, solved and in closed form."""
    a, b, c = levels
    # Rock beats scissors by a, scissors paper by b, paper rock by c: whoever beats the loser of a
    # duel is played in proportion to it.
    scores = np.array([[0, a, -c], [-a, 0, b], [c, -b, 0]])
    solved = solve_nash(0.5 + scores / (2 * np.max(levels)), method="lp").policy
    return to_numpy(solved), np.array([b, c, a]) / np.sum(levels)


# --- every model on every group ---

DIMS = (2, 4, 6)
MODELS = ("Bradley–Terry", *(f"GPM, {dim} numbers" for dim in DIMS))
# Labels of a cycle are certain: without a prior no model's maximum exists.
RIDGE = 1e-3


class Fits(NamedTuple):
    """Every model on a group of instances.

    Attributes
    ----------
    accuracy, loss, probability
        ``(models, instances)``: share of labels ranked right, loss of a label in nats and
        probability of a label.
    order
        ``(instances,)``: the best accuracy of any strict order.
    gap
        Bound on how far the fits with the most numbers are from the global minimum, nats a label.
    certificate_error
        Largest error of objective and gap, as the fits report them, nats a label.
    """

    accuracy: np.ndarray
    loss: np.ndarray
    probability: np.ndarray
    order: np.ndarray
    gap: float
    certificate_error: float


def fit_models(wins: np.ndarray, starts: int) -> Fits:
    """Fit all models to wins ``(instances, n, n)``."""
    labels = wins.sum(axis=(-2, -1))
    rewards = to_numpy(fit_bradley_terry(wins, ridge=RIDGE).reward)
    results = [fit_preference_embedding(wins, dim=dim, ridge=RIDGE, starts=starts) for dim in DIMS]
    embeddings = [reward_embedding(rewards), *(to_numpy(result.embedding) for result in results)]
    scores = np.stack([score_matrix(embedding) for embedding in embeddings])
    chance = np.stack([embedding_preference(embedding) for embedding in embeddings])
    # Enumeration is the plainer way where it is affordable.
    best = best_order if wins.shape[-1] > 5 else best_order_by_enumeration
    return Fits(
        accuracy(scores, wins),
        np.where(wins > 0, softplus(-scores), 0.0).sum(axis=(-2, -1)) / labels,
        (wins * chance).sum(axis=(-2, -1)) / labels,
        np.array([best(table) for table in wins]),
        float(np.max(to_numpy(results[-1].gap) / labels)),
        float(np.max([certificate_error(result, wins) for result in results])),
    )


def certificate_error(result: EmbeddingResult, wins: np.ndarray) -> float:
    """Return the largest error of the objective and the gap that a fit reports, nats a label."""
    vectors = to_numpy(result.embedding)
    reached = embedding_objective(vectors, wins, ridge=RIDGE)
    gap = reached - embedding_lower_bound(score_matrix(vectors), wins, ridge=RIDGE)
    errors = np.stack([to_numpy(result.objective) - reached, to_numpy(result.gap) - gap])
    return float(np.max(np.abs(errors) / wins.sum(axis=(-2, -1))))
