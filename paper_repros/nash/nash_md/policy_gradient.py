"""Nash-MD-PG: by its loss on all sequences of token trees, from samples, against an average."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from prefsim.backend import Seed, like, random_generator, to_numpy
from prefsim.containers import JudgedLogps
from prefsim.divergences import total_variation
from prefsim.gradients import gradient
from prefsim.losses import nash_md_pg
from prefsim.numerics import array_namespace, log_softmax, softmax
from prefsim.papers.figures import BLUE, ORANGE
from prefsim.policies import TokenTreePolicy
from prefsim.solvers import solve_nash
from prefsim.solvers.games.certificates import geometric_mixture, payoff
from prefsim.solvers.games.policy_gradient import (
    moving_average,
    nash_md_pg_gradient,
    policy_gradient,
    sampled_policy_gradient,
)
from prefsim.solvers.games.stationary_point import nash_md_pg_stationary_point
from prefsim.testing.games import random_games
from prefsim.typing import Array
from prefsim.worlds import TokenTree

DESCENT_MIXTURES = (0.0, 0.5)
TREE_TAU, GRADIENT_TAU = 0.5, 0.3
MEASURED_PAIRS = 20_000


class OnTree(Protocol):
    """A policy whose probabilities of all sequences of a tree are known."""

    @property
    def token_log_prob_table(self) -> Any:
        """Of every token of every sequence, ``(X, N, T)`` in nats, 0 behind the end."""

    @property
    def log_probs(self) -> Any:
        """Of every sequence, ``(X, N)`` in nats."""


class TreeGames(NamedTuple):
    """Games between all sequences of a token tree, one in each context.

    Attributes
    ----------
    preference
        ``(X, N, N)``.
    reference
        The policy that the penalty is measured from.
    tau
        Penalty τ.
    """

    preference: np.ndarray
    reference: TokenTreePolicy
    tau: float

    @property
    def log_reference(self) -> np.ndarray:
        """Log-probabilities of the reference's sequences, ``(X, N)``."""
        return to_numpy(self.reference.log_probs)

    def opponent(self, policy: OnTree, mixture: float) -> np.ndarray:
        """Return the log-probabilities ``(X, N)`` of the mixture of policy and reference."""
        # A constant of differentiation, as the samples that it draws are.
        now = to_numpy(policy.log_probs)
        return geometric_mixture(now, self.log_reference, weight=mixture)

    def mean_loss(self, policy: OnTree, mixture: float, *, kl: str = "sequence") -> Any:
        """Return the mean loss of the policy's own sequences, summed over the games."""
        tokens = policy.token_log_prob_table
        mask = np.broadcast_to(self.reference.tree.mask, tokens.shape)
        wins = payoff(self.preference, np.exp(self.opponent(policy, mixture)))
        logps = JudgedLogps(
            tokens,
            like(to_numpy(self.reference.token_log_prob_table), tokens),
            like(mask, tokens, integer=True) > 0,
            like(wins, tokens),
        )
        drawn = like(np.exp(to_numpy(policy.log_probs)), tokens)
        return (drawn * nash_md_pg(logps, tau=self.tau, kl=kl)).sum()

    def advantage(self, policy: OnTree, log_opponent: np.ndarray) -> Any:
        """Return E P(y ≻ y') − ½ − τ KL(π‖μ) against an opponent, summed over the games."""
        logs = policy.log_probs
        wins = like(payoff(self.preference, np.exp(log_opponent)) - 0.5, logs)
        drift = logs - like(self.log_reference, logs)
        chance = array_namespace(logs).exp(logs)
        return (chance * (wins - self.tau * drift)).sum()

    def stationary_point(self, mixture: float) -> np.ndarray:
        """Return the policies ``(X, N)`` at which the policy gradient vanishes."""
        return to_numpy(
            nash_md_pg_stationary_point(
                self.preference, np.exp(self.log_reference), tau=self.tau, mixture=mixture
            )
        )

    def gradient_error(self, policy: TokenTreePolicy, mixture: float, *, kl: str) -> float:
        """Return the largest difference of the loss's gradient from that of −advantage."""
        opponent = self.opponent(policy, mixture)

        def lost(parameters: Any) -> Any:
            return self.mean_loss(policy.with_parameters(parameters), mixture, kl=kl)

        def gained(parameters: Any) -> Any:
            return self.advantage(policy.with_parameters(parameters), opponent)

        descent, ascent = (gradient(f, policy.parameters) for f in (lost, gained))
        return float(np.abs(descent + ascent).max())


def tree_games(
    n_games: int, *, length: int = 2, tau: float, seed: Seed, scale: float = 1.0
) -> TreeGames:
    """Return random games between the sequences of ``length`` out of three tokens."""
    rng = random_generator(seed)
    tree = TokenTree(3, length, context_probs=np.full(n_games, 1 / n_games))
    games = random_games(n_games, tree.n_sequences, seed=rng)
    return TreeGames(games, TokenTreePolicy.random(tree, seed=rng, scale=scale), tau)


def descend(
    games: TreeGames, mixture: float, *, kl: str, step: float, iterations: int
) -> np.ndarray:
    """Return total variations ``(iterations, X)`` from the stationary point, from the reference."""
    point, parameters = games.stationary_point(mixture), games.reference.parameters

    def lost(moved: Any) -> Any:
        return games.mean_loss(games.reference.with_parameters(moved), mixture, kl=kl)

    far = []
    for _ in range(iterations):
        parameters = parameters - step * gradient(lost, parameters)
        far.append(
            total_variation(to_numpy(games.reference.with_parameters(parameters).probs), point)
        )
    return np.stack(far)


def climb_on_samples(
    games: np.ndarray,
    references: np.ndarray,
    mixture: float,
    *,
    tau: float,
    pairs: int,
    iterations: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return total variations ``(iterations, games)`` of ascent on sampled gradients.

    From the stationary point, in games ``(B, n, n)`` from references ``(B, n)``.
    """
    point = to_numpy(nash_md_pg_stationary_point(games, references, tau=tau, mixture=mixture))
    log_reference = log_policy = np.log(references)
    far = []
    for t in range(iterations):
        opponent = geometric_mixture(log_policy, log_reference, weight=mixture)
        found = sampled_policy_gradient(
            games, log_policy, log_reference, opponent, tau=tau, n=pairs, seed=rng
        )
        # Falling steps average the noise away.
        step = 4 / (1 + t / 40)
        log_policy = log_softmax(log_policy + step * found.mean(axis=0))
        far.append(total_variation(np.exp(log_policy), point))
    return np.stack(far)


def standard_errors(estimates: Array, exact: Array) -> np.ndarray:
    """Return how many standard errors the mean of estimates ``(n, ...)`` is from what is exact."""
    found = to_numpy(estimates)
    deviation = found.std(axis=0) / np.sqrt(len(found))
    # A response of no chance has no estimate that differs from another.
    return np.abs(found.mean(axis=0) - to_numpy(exact)) / np.maximum(deviation, 1e-12)


class Averaged(NamedTuple):
    """A policy ``(..., n)`` and the one of its averaged parameters, which it plays against."""

    policy: np.ndarray
    opponent: np.ndarray


def play_average(
    preference: np.ndarray,
    reference: np.ndarray,
    *,
    tau: float,
    rate: float,
    step: float,
    iterations: int,
) -> Averaged:
    """Return where Nash-EMA-PG is after so many exact gradients, from the reference."""
    log_reference = parameters = average = np.log(reference)
    for _ in range(iterations):
        parameters = parameters + step * policy_gradient(
            preference, log_softmax(parameters), log_reference, log_softmax(average), tau=tau
        )
        average = moving_average(average, parameters, rate=rate)
    return Averaged(softmax(parameters), softmax(average))


class Descent(NamedTuple):
    """Total variations from the stationary point, by iteration.

    Attributes
    ----------
    sequence, token
        By mixture κ, ``(iterations, games)`` each: descent on the loss, whose penalty is of whole
        sequences or of single tokens, over all sequences of token trees.
    sampled
        By mixture κ, ``(iterations, games)``: ascent on gradients estimated from samples.
    averaged
        ``(games,)``: Nash-EMA-PG in the end, from the equilibrium.
    gradient_error
        Largest difference of the loss's mean gradient from that of the objective.
    standard_errors
        By mixture κ: the largest distance of an estimate of the gradient from the exact one.
    """

    sequence: dict[float, np.ndarray]
    token: dict[float, np.ndarray]
    sampled: dict[float, np.ndarray]
    averaged: np.ndarray
    gradient_error: float
    standard_errors: dict[float, float]


def descend_everywhere(n_games: int, rng: np.random.Generator) -> Descent:
    """Run Nash-MD-PG by its loss on token trees, from samples, and against an average."""
    trees = tree_games(n_games, tau=TREE_TAU, seed=rng)
    away = trees.reference.with_parameters(-0.5 * trees.reference.parameters)
    games, references = random_games(20, seed=rng), softmax(rng.standard_normal((20, 10)))
    options: Any = {"step": 6.0, "iterations": 300}
    averaged = play_average(
        games, references, tau=GRADIENT_TAU, rate=0.1, step=4.0, iterations=1500
    )
    target = solve_nash(games, method="regularised", reference=references, tau=GRADIENT_TAU).policy
    return Descent(
        {k: descend(trees, k, kl="sequence", **options) for k in DESCENT_MIXTURES},
        {k: descend(trees, k, kl="token", **options) for k in DESCENT_MIXTURES},
        {
            k: climb_on_samples(
                games, references, k, tau=GRADIENT_TAU, pairs=32, iterations=300, rng=rng
            )
            for k in DESCENT_MIXTURES
        },
        total_variation(averaged.policy, to_numpy(target)),
        max(trees.gradient_error(away, k, kl="sequence") for k in DESCENT_MIXTURES),
        {k: estimate_once(games[0], references[:2], k, rng) for k in DESCENT_MIXTURES},
    )


def estimate_once(
    game: np.ndarray, policies: np.ndarray, mixture: float, rng: np.random.Generator
) -> float:
    """Return by how many standard errors the mean estimate misses the gradient, at most.

    Of the first policy, penalised from the second.
    """
    policy, reference = np.log(policies)
    opponent = geometric_mixture(policy, reference, weight=mixture)
    estimates = sampled_policy_gradient(
        game, policy, reference, opponent, tau=GRADIENT_TAU, n=MEASURED_PAIRS, seed=rng
    )
    exact = nash_md_pg_gradient(game, policy, reference, tau=GRADIENT_TAU, mixture=mixture)
    return float(standard_errors(estimates, exact).max())


def draw_descent(exact: Any, sampled: Any, descent: Descent) -> None:
    """Draw the mean distance from the stationary point: on all sequences, and on samples."""
    lines = (
        (exact, "penalty of sequences", descent.sequence, BLUE),
        (exact, "penalty of tokens", descent.token, ORANGE),
        (sampled, "32 pairs of samples a step", descent.sampled, BLUE),
    )
    for axis, name, by_mixture, colour in lines:
        for style, (kappa, far) in zip(("-", "--"), by_mixture.items(), strict=True):
            steps = np.arange(1, len(far) + 1)
            label = f"{name}, κ = {kappa:g}"
            axis.plot(steps, far.mean(axis=1), style, color=colour, label=label)
    for axis, title in ((exact, "its loss on all sequences"), (sampled, "estimated gradients")):
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="gradient step",
            ylabel="total variation from its point, mean",
            title=f"Nash-MD-PG, {title}",
        )
        axis.legend(fontsize=8, loc="lower left")
