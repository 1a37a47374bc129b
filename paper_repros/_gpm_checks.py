"""What the claims of ``gpm`` check, and on what instances."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from paper_repros._gpm_experiments import accuracy, best_order_by_enumeration, cycle
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.numerics import logsumexp, sigmoid, softplus
from prefsim.papers import Verdict
from prefsim.policies import TabularPolicy
from prefsim.raters import embedding_preference, pairwise_preference, score_matrix
from prefsim.solvers import (
    decompose_skew,
    fit,
    fit_bradley_terry,
    fit_preference_embedding,
    gpo_update,
    solve_nash,
)
from prefsim.solvers.games.certificates import payoff
from prefsim.solvers.games.preference_embedding import embedding_lower_bound, embedding_objective
from prefsim.worlds import ContextualBandit

LEAST_DIFFERENCE = 1e-3


def skew(table: np.ndarray) -> np.ndarray:
    return np.triu(table, 1) - np.triu(table, 1).T


def check_representation(case: tuple[np.ndarray, int]) -> Verdict:
    scores, missing = case
    rank = int(decompose_skew(scores).rank)
    dim = max(rank - missing, 2)
    vectors = decompose_skew(scores, dim=dim).embedding
    form = np.kron(np.eye(dim // 2), [[0.0, -1.0], [1.0, 0.0]])
    away = np.max(np.abs(vectors @ form.T @ vectors.T - scores)) / max(1.0, np.max(np.abs(scores)))
    return Verdict(
        float(max(away, rank > 2 * (len(scores) // 2))),
        f"{len(scores)} responses, rank {rank}, {dim} numbers",
    )


class Classifier(NamedTuple):
    """Vectors, the scale of each block, and the weight of a symmetric form beside the skew one: a pair classifier without structure."""

    vectors: np.ndarray
    scale: float
    symmetric: float = 0.0


def check_antisymmetry(case: Classifier) -> Verdict:
    scales = case.scale * np.arange(1, case.vectors.shape[1] // 2 + 1)
    scores = (
        score_matrix(case.vectors, scales=scales) + case.symmetric * case.vectors @ case.vectors.T
    )
    chance = sigmoid(scores)
    errors = np.abs(scores + scores.T), np.abs(chance + chance.T - 1), np.abs(np.diag(chance) - 0.5)
    return Verdict(max(float(error.max()) for error in errors))


def check_rewards(vectors: np.ndarray) -> Verdict:
    reward = vectors[:, 0]
    differences = np.max(np.abs(score_matrix(vectors) - np.subtract.outer(reward, reward)))
    return Verdict(
        float(
            max(
                differences,
                np.max(np.abs(embedding_preference(vectors) - pairwise_preference(reward))),
            )
        )
    )


def check_cycle(weights: np.ndarray) -> Verdict:
    n = len(weights)
    wins = cycle(n) * weights[:, None]
    rewards = fit_bradley_terry(wins)
    chance = float(-rewards.log_likelihood / wins.sum())
    orders = best_order_by_enumeration(cycle(n))
    angle = 2 * np.pi * np.arange(n) / n
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    losses_ = [
        float(np.mean(softplus(-score_matrix(size * circle)[wins > 0])))
        for size in (1.0, 2.0, 4.0, 8.0)
    ]
    fitted = fit_preference_embedding(wins, dim=2, ridge=1e-3 * wins.sum(), starts=1).embedding
    errors = (
        abs(chance - np.log(2)),
        np.max(np.abs(rewards.reward)),
        abs(orders - (n - 1) / n),
        losses_[-1],
        max(np.diff(losses_).max(), 0.0),
        1 - accuracy(score_matrix(fitted), wins),
    )
    return Verdict(
        float(max(errors)),
        f"Bradley–Terry {chance:.7f} nats, best order {orders:.3f}, circles {losses_[0]:.3g} to"
        f" {losses_[-1]:.3g}",
    )


def check_circle(case: tuple[np.ndarray, float]) -> Verdict:
    angle, radius = case
    vectors = radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return Verdict(
        float(np.max(np.abs(score_matrix(vectors) - np.sin(angle[None, :] - angle[:, None]))))
    )


class Basis(NamedTuple):
    """Vectors and, for every block, a change of basis: two turns, a stretch, and the determinant."""

    vectors: np.ndarray
    turns: tuple[float, float]
    stretch: float
    determinant: float = 1.0


def check_basis(case: Basis) -> Verdict:
    first, second = (
        np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in case.turns
    )
    change = (
        np.sqrt(case.determinant)
        * first
        @ np.diag([np.exp(case.stretch), np.exp(-case.stretch)])
        @ second
    )
    moved = case.vectors @ np.kron(np.eye(case.vectors.shape[1] // 2), change).T
    scores = score_matrix(case.vectors)
    return Verdict(
        float(np.max(np.abs(score_matrix(moved) - scores)) / max(1.0, np.max(np.abs(scores))))
    )


def check_equilibria(levels: np.ndarray) -> Verdict:
    # Rock beats scissors by a, scissors paper by b, paper rock by c: whoever beats the loser of a
    # duel is played in proportion to it.
    policies, error = [], 0.0
    for a, b, c in (levels, sigmoid(levels) - 0.5):
        scores = np.array([[0, a, -c], [-a, 0, b], [c, -b, 0]])
        found = solve_nash(0.5 + scores / (2 * max(a, b, c)), method="lp").policy
        error = max(error, float(np.max(np.abs(found - np.array([b, c, a]) / (a + b + c)))))
        policies.append(found)
    difference = float(np.max(np.abs(policies[0] - policies[1])))
    return Verdict(
        max(error, LEAST_DIFFERENCE - difference), f"the equilibria differ by {difference:.3g}"
    )


class Step(NamedTuple):
    """Scores, a policy ``(n,)``, the inverse step β, how many steps, whether log Z is in the regression, a constant added to payoffs."""

    scores: np.ndarray
    policy: np.ndarray
    beta: float
    steps: int = 1
    exact: bool = True
    offset: float = 0.0

    @property
    def payoffs(self) -> np.ndarray:
        """Of every response against the policy."""
        return np.asarray(payoff(self.scores, self.policy)) + self.offset

    @property
    def log_partition(self) -> float:
        """Of the update, in nats."""
        return float(logsumexp(np.log(self.policy) + self.payoffs / self.beta))


def check_improvement(case: Step) -> Verdict:
    log_policy = np.log(case.policy)
    for _ in range(case.steps):
        log_policy = gpo_update(log_policy, case.scores, beta=case.beta)
    ahead = float(np.exp(log_policy) @ case.scores @ case.policy)
    return Verdict(
        max(0.0, -ahead), f"score against the policy of {case.steps} steps ago {ahead:.3g}"
    )


def check_regression(case: Step) -> Verdict:
    n, payoffs = len(case.policy), case.payoffs
    reference = TabularPolicy.from_probs(case.policy[None])
    pairs = Comparisons.population(ContextualBandit(reward=np.zeros((1, n))), reference)

    def on(score: np.ndarray) -> Comparisons:
        old = np.log(case.policy)
        columns = {"chosen_score": score[pairs.chosen], "rejected_score": score[pairs.rejected]}
        columns |= {"old_chosen": old[pairs.chosen], "old_rejected": old[pairs.rejected]}
        return Comparisons(
            pairs.prompt, pairs.chosen, pairs.rejected, pairs.prob, pairs.weight, **columns
        )

    # SPPO regresses on win probabilities less one half; those of the game ½ + S/2M with β/2M for β
    # are the scores over β.
    target = payoffs - (case.beta * case.log_partition if case.exact else 0.0)
    unit = 2 * max(1.0, float(np.max(np.abs(target))))
    pointwise = fit(
        reference,
        functools.partial(losses.sppo, beta=case.beta / unit),
        on(0.5 + target / unit),
        reference=reference,
    )
    paired = fit(
        reference,
        functools.partial(losses.mirror_descent, step=1 / case.beta, tau=0.0),
        on(payoffs),
        reference=reference,
    )
    expected = np.exp(gpo_update(np.log(case.policy), case.scores, beta=case.beta))
    away = [
        float(np.max(np.abs(to_numpy(result.policy.probs)[0] - expected)))
        for result in (pointwise, paired)
    ]
    return Verdict(
        max(*away, float(pointwise.value), float(paired.value)),
        f"off by {away[0]:.2e} and {away[1]:.2e} in pairs",
    )


def check_partition(case: Step) -> Verdict:
    bound = np.ptp(case.payoffs) ** 2 / (8 * case.beta**2)
    return Verdict(
        max(0.0, -case.log_partition, case.log_partition - bound),
        f"log Z {case.log_partition:.3g}, bound {bound:.3g}",
    )


class Rival(NamedTuple):
    """Scores, the numbers of an embedding, those of its rival, and how far the rival is moved."""

    scores: np.ndarray
    planes: int
    extra: int
    seed: int
    size: float


def check_truncation(case: Rival) -> Verdict:
    found = decompose_skew(case.scores, dim=2 * case.planes)
    error = np.linalg.norm(case.scores - score_matrix(found.embedding))
    formula = np.sqrt(2 * np.sum(found.strengths[case.planes :] ** 2))
    rival = decompose_skew(case.scores, dim=2 * (case.planes + case.extra)).embedding
    rival = rival + case.size * np.random.default_rng(case.seed).standard_normal(rival.shape)
    other = np.linalg.norm(case.scores - score_matrix(rival))
    return Verdict(
        float(max(abs(error - formula), error - other, 0.0)),
        f"left out {error:.4g}, by the rival {other:.4g}",
    )


class Bound(NamedTuple):
    """Vectors, the seed of the wins, the ridge, and the factor on it in the bound."""

    vectors: np.ndarray
    seed: int
    ridge: float
    claimed: float = 1.0


def check_bound(case: Bound) -> Verdict:
    n = len(case.vectors)
    rng = np.random.default_rng(case.seed)
    wins = rng.integers(0, 4, (n, n)) * (1.0 - np.eye(n))
    guess = skew(rng.standard_normal((n, n)))
    reached = embedding_objective(case.vectors, wins, ridge=case.ridge)
    bound = embedding_lower_bound(guess, wins, ridge=case.claimed * case.ridge)
    own = embedding_lower_bound(score_matrix(case.vectors), wins, ridge=case.claimed * case.ridge)
    return Verdict(
        float(max(bound - reached, own - reached, 0.0)),
        f"objective {reached:.4g}, bounds {bound:.4g} and {own:.4g}",
    )
