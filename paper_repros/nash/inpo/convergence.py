"""How near exact play, its average and play on sampled labels come to the equilibrium."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from paper_repros.nash.inpo.steps import log_iterates
from prefsim import losses
from prefsim.analysis.rates import log_log_slope
from prefsim.backend import to_numpy
from prefsim.data.drawn import labelled_pairs
from prefsim.loops.rounds import play_rounds
from prefsim.numerics import categorical_kl
from prefsim.policies import TabularPolicy
from prefsim.solvers import nash_path, solve_nash
from prefsim.solvers.games.certificates import payoff, regularised_gap
from prefsim.solvers.games.nash import NashHistory, StepSizeWarning
from prefsim.worlds import PreferenceGame

SIZES = (500, 2000, 8000)
SEEDS = 20


def path(games: np.ndarray, reference: np.ndarray, *, tau: float, **options: Any) -> NashHistory:
    """Return recorded play with penalty ``tau``, of multiplicative weights where it is 0."""
    method = "inpo" if tau > 0 else "mwu"
    with warnings.catch_warnings():
        # What happens beyond the steps with a guarantee is part of the question.
        warnings.simplefilter("ignore", StepSizeWarning)
        return nash_path(games, method=method, reference=reference, tau=tau, **options)


def decreasing_steps(tau: float) -> Callable[[int], float]:
    """Return the steps 2/(τ(t + 2)) of the last-iterate theorem, as a function of t from 0."""
    return lambda t: 2 / (tau * (t + 2))


def distances_from_equilibrium(
    games: np.ndarray, reference: np.ndarray, tau: float, policies: np.ndarray
) -> np.ndarray:
    """Return KL(π*‖π) of policies ``(..., games, n)``, in nats."""
    target = solve_nash(games, method="regularised", reference=reference, tau=tau).policy
    return to_numpy(categorical_kl(np.log(target), np.log(policies)))


class Gaps(NamedTuple):
    """Regularised gaps of the last policies by iteration, ``(K,)`` and ``(K, games)``."""

    iteration: np.ndarray
    gap: np.ndarray

    def at(self, iteration: int) -> np.ndarray:
        """Return the gaps ``(games,)`` of one recorded iteration."""
        return np.asarray(self.gap[self.iteration.tolist().index(iteration)])


def gaps(
    games: np.ndarray, reference: np.ndarray, *, tau: float, penalised: bool, **options: Any
) -> Gaps:
    """Play with the penalty, or without it and measure with it all the same."""
    played = path(games, reference, tau=tau if penalised else 0.0, record=10, **options)
    gap = regularised_gap(games, played.policy, reference=reference, tau=tau)
    return Gaps(played.iteration, to_numpy(gap))


class Rate(NamedTuple):
    """A quantity of each game and the bound on it, ``(K, games)``, by the number of iterations."""

    iteration: np.ndarray
    found: np.ndarray
    bound: np.ndarray

    @property
    def worst(self) -> np.ndarray:
        """Of the games, ``(K,)``."""
        return np.asarray(self.found.max(axis=1))

    @property
    def slope(self) -> float:
        """Of the logarithms, over the last decade of iterations."""
        late = self.iteration >= self.iteration[-1] / 10
        return float(log_log_slope(self.iteration[late], self.worst[late]))

    @property
    def share(self) -> float:
        """Of the bound that is used, at most."""
        return float(np.max(self.found / self.bound))


def last_policy_rate(
    games: np.ndarray,
    reference: np.ndarray,
    *,
    tau: float,
    iterations: int,
    step: float | None = None,
) -> Rate:
    """Play from the reference with the decreasing steps of the theorem, unless given another.

    The distance is KL(π*‖π_t), the bound Σ_{k<t} s_k² (k + 1)/(k + 2) / (2τ² t (t + 1)), with the
    spans s_k of the gradient that were met.
    """
    steps = decreasing_steps(tau) if step is None else step
    log_policies = log_iterates(
        games, reference, reference, iterations=iterations, step=steps, tau=tau
    )
    target = to_numpy(solve_nash(games, method="regularised", reference=reference, tau=tau).policy)
    distance = categorical_kl(np.log(target), log_policies[1:])
    slopes = tau * (log_policies - np.log(reference)) - payoff(games, np.exp(log_policies))
    k, done = np.arange(iterations)[:, None], np.arange(1, iterations + 1)[:, None]
    spans = np.ptp(slopes[:-1], axis=-1)
    bound = np.cumsum(spans**2 * (k + 1) / (k + 2), axis=0) / (2 * tau**2 * done * (done + 1))
    # What rounds to zero has no logarithm.
    return Rate(done[:, 0], np.maximum(distance, np.finfo(float).tiny), bound)


def average_policy_rate(
    games: np.ndarray, reference: np.ndarray, *, tau: float, horizons: Iterable[int]
) -> Rate:
    """Play with the constant step of the regret theorem for each horizon; the average's gap."""
    done = np.array(list(horizons))
    farthest = float(np.log(1 / reference.min()))
    found = []
    for horizon in done.tolist():
        step = min(np.sqrt(2 * farthest / horizon), 1 / tau)
        played = path(games, reference, tau=tau, step=step, iterations=horizon, record=horizon)
        average = played.average_policy[-1]
        found.append(to_numpy(regularised_gap(games, average, reference=reference, tau=tau)))
    return Rate(done, np.array(found), 2 * np.sqrt(2 * farthest / done)[:, None])


def gaps_of_sampled_play(
    preference: np.ndarray,
    reference: np.ndarray,
    *,
    tau: float,
    step: float,
    rounds: int,
    seed: int,
    progress: Callable[[Iterable[Any], str], Iterable[Any]],
) -> np.ndarray:
    """Play on sampled, labelled pairs, all seeds and sizes in one fit.

    Return the gaps after the last round, ``(sizes, seeds)``.
    """
    world = PreferenceGame(preference).to_bandit()
    shape = (len(SIZES), SEEDS)
    start = TabularPolicy.from_probs(np.broadcast_to(reference, (*shape, 1, len(reference))))
    sizes = np.broadcast_to(np.array(SIZES)[:, None], shape)

    def drawn(policy: Any, opponent: Any, rng: np.random.Generator) -> Any:
        return labelled_pairs(world, policy, sizes, seed=rng)

    played = play_rounds(
        start,
        drawn,
        functools.partial(losses.inpo, step=step, tau=tau),
        rounds=rounds,
        seed=seed,
        reference=TabularPolicy.from_probs(reference[None]),
    )
    policy = start
    for _, played_round in zip(progress(range(rounds), "sampled rounds"), played, strict=True):
        policy = played_round.policy
    last = policy.probs[..., 0, :]
    return to_numpy(regularised_gap(preference, last, reference=reference, tau=tau))
