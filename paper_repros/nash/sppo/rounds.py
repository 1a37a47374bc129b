"""Rounds of self-play: exact ones, those of the loss, and what sampled ones do to likelihoods."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.rates import log_log_slope
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import loss_gradient
from prefsim.loops import SelfPlayRound, descent, self_play, table_judge
from prefsim.numerics import logsumexp, sigmoid
from prefsim.policies import NetworkPolicy, TabularPolicy
from prefsim.solvers import exploitability, fit, nash_path, objective
from prefsim.solvers.games.certificates import expected_preference, payoff
from prefsim.worlds.game import PreferenceGame

ROUNDS = 3
PROMPTS, CHOICES, FEATURES = 24, 20, 6
SAMPLES = 5  # of each prompt in a draw, of which the best is held against the worst
DRAWS = 4  # of each prompt in a round
BETA = 0.1


class Rate(NamedTuple):
    """Exploitability of the average and the last policy ``(horizons, games)``, and its bound."""

    horizon: np.ndarray
    average: np.ndarray
    last: np.ndarray
    bound: np.ndarray

    @property
    def slope(self) -> float:
        """Of the logarithm of the mean average exploitability against log T."""
        return float(log_log_slope(self.horizon, self.average.mean(axis=1)))


def exploitability_by_horizon(game: PreferenceGame, horizons: Iterable[int]) -> Rate:
    """Play exact rounds from the uniform policy, with η = √(8 log n/T) for each horizon T."""
    horizon, log_n = np.asarray(list(horizons)), np.log(game.n_responses)
    paths = [
        nash_path(
            game,
            method="sppo",
            iterations=int(t),
            record=int(t),
            step=float(np.sqrt(8 * log_n / t)),
        )
        for t in horizon
    ]
    return Rate(
        horizon,
        average=np.stack([exploitability(game.preference, p.average_policy[-1]) for p in paths]),
        last=np.stack([exploitability(game.preference, p.policy[-1]) for p in paths]),
        bound=np.sqrt(log_n / (2 * horizon)),
    )


# --- rounds of the loss ---


class Start(NamedTuple):
    """Games ``(..., n, n)`` and the policies ``(..., n)`` that play them, one a context."""

    preference: np.ndarray
    policy: np.ndarray

    @property
    def in_contexts(self) -> TabularPolicy:
        """The policies as one, ``(X, n)``."""
        return TabularPolicy.from_probs(np.atleast_2d(self.policy))

    def pairs_of(self, policy: TabularPolicy) -> Comparisons:
        """Return all pairs of draws of a policy, with the win rates against it."""
        return Comparisons.self_play(PreferenceGame(self.preference).to_bandit(), policy)

    def after(self, step: float) -> np.ndarray:
        """Return the policies after an exact step, ``(..., n)``."""
        path = nash_path(
            self.preference, method="sppo", iterations=1, initial=self.policy, step=step
        )
        return path.policy[-1]


def shortfalls(start: Start, steps: tuple[float, ...]) -> np.ndarray:
    """Return for each η how far the loss's minimiser is from multiplicative weights.

    The largest difference in probability, ``(steps,)``.
    """
    policy = start.in_contexts
    data = start.pairs_of(policy)
    missed = []
    for step in steps:
        loss = functools.partial(losses.sppo, beta=1 / step)
        fitted = fit(policy, loss, data, reference=policy).policy.probs
        missed.append(np.abs(fitted - start.after(step)).max())
    return np.array(missed)


def left_and_stated(start: Start, step: float) -> tuple[float, float]:
    """Return the loss at an exact step, and the mean of (log Z − η/2)² that it should be."""
    policy = start.in_contexts
    loss = functools.partial(losses.sppo, beta=1 / step)
    after = TabularPolicy.from_probs(np.atleast_2d(start.after(step)))
    left = objective(after, loss, start.pairs_of(policy), reference=policy)
    wins = payoff(start.preference, start.policy)
    log_z = logsumexp(np.log(start.policy) + step * wins)
    return float(left), float(np.mean((log_z - step / 2) ** 2))


def follow_exactly(start: Start, *, step: float, rounds: int) -> np.ndarray:
    """Return the policies of rounds that minimise the loss on all pairs, ``(rounds, X, n)``."""
    loss = functools.partial(losses.sppo, beta=1 / step)
    policy, path = start.in_contexts, []
    for _ in range(rounds):
        policy = fit(policy, loss, start.pairs_of(policy), reference=policy).policy
        path.append(policy.probs)
    return np.stack(path)


def follow_on_samples(
    start: Start, *, step: float, rounds: int, draws: int, include_self: bool, seed: int
) -> np.ndarray:
    """Return the policies of rounds on so many pairs of samples, ``(rounds, X, n)``."""
    played = self_play(
        start.in_contexts,
        functools.partial(losses.sppo, beta=1 / step),
        table_judge(PreferenceGame(start.preference).to_bandit().preference),
        rounds=rounds,
        n_samples=2,
        draws=draws,
        include_self=include_self,
        seed=seed,
    )
    return np.stack([each.policy.probs for each in played])


# --- networks on their own samples ---


class Likelihoods(NamedTuple):
    """What rounds did to each of B networks, every field ``(rounds, B)``.

    Mean changes of the log-likelihood of chosen and rejected responses in nats, wins against the
    first policy, and the largest difference between the log-probabilities that the reference of a
    round gives its pairs and those of the policy that the round before ended with.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    wins: np.ndarray
    reference_error: np.ndarray

    @property
    def parts_them(self) -> np.ndarray:
        """Whether a round took the chosen responses up and the rejected ones down."""
        return (self.chosen > 0) & (self.rejected < 0)


def preferences_by_prompt(seed: int, networks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features ``(X, F)`` of prompts and preferences ``(B, X, Y, Y)``.

    A reward linear in the features, and a bilinear part that makes cycles.
    """
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((PROMPTS, FEATURES))
    reward, left, right = features @ (
        rng.standard_normal((3, networks, FEATURES, CHOICES)) / np.sqrt(FEATURES)
    )
    one_way = reward[..., :, None] + left[..., :, None] * right[..., None, :]
    return features, sigmoid(one_way - np.swapaxes(one_way, -1, -2))


def trained_on_own_samples(
    loss: Callable[..., Any],
    preference: np.ndarray,
    features: np.ndarray,
    *,
    step: float,
    iterations: int,
    seed: int,
) -> Likelihoods:
    """Train networks from equal starts on the best against the worst of their own samples."""
    import torch

    # Another stream than that of the prompts, and no network in two runs.
    rng = np.random.default_rng((seed, 1))
    networks = [
        NetworkPolicy.mlp(features, CHOICES, hidden=(32,), seed=rng) for _ in range(len(preference))
    ]
    parameters: list[Any] = [network.parameters for network in networks]
    start = networks[0].with_parameters(torch.stack(parameters))
    first = to_numpy(start.probs)
    rounds = self_play(
        start,
        loss,
        table_judge(preference),
        rounds=ROUNDS,
        n_samples=SAMPLES,
        draws=DRAWS,
        train=descent(step=step, iterations=iterations),
        seed=rng,
    )
    chosen, rejected, wins, errors = [], [], [], []
    for last, played in itertools.pairwise([SelfPlayRound(None, start), *rounds]):
        before = np.stack([to_numpy(logs) for logs in played.pairs.log_probs(last.policy)])
        held = np.stack([played.pairs.old_chosen, played.pairs.old_rejected])
        errors.append(np.abs(held - before).max(axis=(0, -1)))
        after_chosen, after_rejected = map(to_numpy, played.pairs.log_probs(played.policy))
        chosen.append((after_chosen - played.pairs.old_chosen).mean(axis=-1))
        rejected.append((after_rejected - played.pairs.old_rejected).mean(axis=-1))
        now = to_numpy(played.policy.probs)
        wins.append(expected_preference(preference, now, first).mean(axis=-1))
    return Likelihoods(*(np.stack(column) for column in (chosen, rejected, wins, errors)))


def of_strength(name: str, beta: float) -> Callable[..., Any]:
    """Return a loss with its strength β, which IPO calls τ."""
    if name == "ipo":
        return functools.partial(losses.ipo, tau=beta)
    return functools.partial(getattr(losses, name), beta=beta)


def losses_and_steps() -> dict[str, tuple[Callable[..., Any], float]]:
    """Return each method's loss and gradient step.

    At the start of a round the gradients are 1/(4β), 1/β, β/2 and 1/τ times the difference of two
    features (for a win rate of 3/4): the steps make up for that, so that all methods set out alike.
    DPO has a second entry with a twentieth of the step.
    """
    dpo = of_strength("dpo", BETA)
    return {
        "SPPO": (of_strength("sppo", BETA), 4 * BETA),
        "SPPO, hard labels": (of_strength("sppo_hard", BETA), BETA),
        "iterative DPO": (dpo, 2 / BETA),
        "iterative DPO, step/20": (dpo, 0.1 / BETA),
        "iterative IPO": (of_strength("ipo", BETA), BETA),
    }


def first_pushes() -> np.ndarray:
    """Return what a gradient step adds to the chosen log-ratio at the start, ``(methods,)``.

    The chosen response wins ¾ of the time and the rejected one ¼.
    """
    zero = np.zeros(())
    pair = losses.PairLogps(
        zero, zero, zero, zero, chosen_score=np.array(0.75), rejected_score=np.array(0.25)
    )
    return np.array(
        [-step * loss_gradient(loss, pair).chosen for loss, step in losses_and_steps().values()]
    )
