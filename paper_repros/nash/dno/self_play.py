"""Exact self-play beside two rivals, the rounds of the loss, and what samples teach.

The paper's η is the inverse of a step size.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from scipy.special import entr

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.replicates import replicated_comparisons
from prefsim.loops.self_play import self_play, table_judge
from prefsim.numerics import sigmoid
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, nash_path, objective
from prefsim.solvers.closed_forms.self_training import best_of_n, iterative_dpo_step
from prefsim.solvers.games.certificates import expected_preference, exploitability, payoff
from prefsim.worlds import PreferenceGame

DNO, DPO, SFT = "DNO", "iterative DPO", "SFT on the best of 5"
SAMPLES = 5  # of a prompt in a draw


class Trace(NamedTuple):
    """What a method played: T steps from a start.

    Attributes
    ----------
    policy
        ``(T + 1, ..., n)``.
    exploited, wins
        Exploitability of the policies, and their wins against the start: ``(T + 1, ...)``.
    average
        Exploitability of the means of the policies that have played, ``(T, ...)``.
    """

    policy: np.ndarray
    exploited: np.ndarray
    wins: np.ndarray
    average: np.ndarray


def trace(preference: np.ndarray, policies: np.ndarray) -> Trace:
    """Measure policies that were played one after the other."""
    counts = np.arange(1, len(policies)).reshape(-1, *[1] * (policies.ndim - 1))
    means = np.cumsum(policies[:-1], axis=0) / counts
    return Trace(
        policies,
        exploited=exploitability(preference, policies),
        wins=expected_preference(preference, policies, policies[0]),
        average=exploitability(preference, means),
    )


def traces(
    preference: np.ndarray, start: np.ndarray, *, eta: float, steps: int
) -> dict[str, Trace]:
    """Play exact steps of the three methods from one start."""
    path = nash_path(preference, method="dno", initial=start, step=1 / eta, iterations=steps)

    def tuned_on_the_best(log_policy: np.ndarray) -> np.ndarray:
        return best_of_n(payoff(preference, np.exp(log_policy)), log_policy, 5)

    found = {DNO: trace(preference, to_numpy(path.policy))}
    for name, update in (
        (DPO, functools.partial(iterative_dpo_step, preference, beta=eta)),
        (SFT, tuned_on_the_best),
    ):
        log_policies = [np.broadcast_to(np.log(start), preference.shape[:-1])]
        for _ in range(steps):
            log_policies.append(update(log_policies[-1]))
        found[name] = trace(preference, np.exp(np.stack(log_policies)))
    return found


# --- rounds of the loss ---


def exact_steps(
    preference: np.ndarray, start: np.ndarray, *, step: float, rounds: int
) -> np.ndarray:
    """Return the policies after exact steps, ``(rounds, ..., n)``."""
    path = nash_path(preference, method="dno", initial=start, step=step, iterations=rounds)
    return to_numpy(path.policy)[1:]


def learned_steps(
    preference: np.ndarray, start: np.ndarray, *, step: float, rounds: int
) -> np.ndarray:
    """Return the policies of rounds that minimise the loss on all pairs, ``(rounds, X, n)``.

    Games ``(X, n, n)`` and where they start, ``(X, n)``.
    """
    world, policy = PreferenceGame(preference).to_bandit(), TabularPolicy.from_probs(start)
    loss, path = functools.partial(losses.dno, step=step), []
    for _ in range(rounds):
        pairs = Comparisons.self_play(world, policy)
        policy = fit(policy, loss, pairs, reference=policy).policy
        path.append(policy.probs)
    return np.stack(path)


def sampled_steps(
    preference: np.ndarray,
    start: np.ndarray,
    *,
    step: float,
    rounds: int,
    draws: int,
    with_itself: bool = True,
    seed: int,
) -> np.ndarray:
    """Return the policies of rounds on all pairs of :data:`SAMPLES` responses a draw.

    Each response's win rate is its mean preference over the others of its draw, and itself.
    """
    played = self_play(
        TabularPolicy.from_probs(start),
        functools.partial(losses.dno, step=step),
        table_judge(preference),
        rounds=rounds,
        n_samples=SAMPLES,
        draws=draws,
        pairing="all",
        include_self=with_itself,
        seed=seed,
    )
    return np.stack([each.policy.probs for each in played])


def objective_and_entropy(
    preference: np.ndarray, policy: np.ndarray, *, step: float
) -> tuple[float, float]:
    """Return the objective at an exact step of games ``(X, n, n)``, and its labels' mean entropy.

    A cross-entropy is least, and the entropy of its labels, where it predicts them.
    """
    last = TabularPolicy.from_probs(policy)
    pairs = Comparisons.self_play(PreferenceGame(preference).to_bandit(), last)
    after = TabularPolicy.from_probs(exact_steps(preference, policy, step=step, rounds=1)[0])
    loss = functools.partial(losses.dno, step=step)
    wins = payoff(preference, policy)
    label = sigmoid(wins[:, :, None] - wins[:, None, :])
    entropy = np.sum(
        policy[:, :, None] * policy[:, None, :] * (entr(label) + entr(1 - label)), axis=(1, 2)
    )
    return float(objective(after, loss, pairs, reference=last)), float(entropy.mean())


# --- a step learned from labelled pairs ---


class Errors(NamedTuple):
    """N times the mean squared error of fitted score differences, for each N, and its limit."""

    scaled: np.ndarray
    limit: float


def regression_errors(
    preference: np.ndarray,
    policy: np.ndarray,
    *,
    eta: float,
    sizes: tuple[int, ...],
    runs: int,
    seed: int,
    overlooked: float = 0.0,
) -> Errors:
    """Fit DNO to N pairs of the policy with Bernoulli labels, ``runs`` times for each N.

    A rater with the label's probability as a preference draws them: then DNO's loss is that of DPO.
    It overlooks a share of the wins of the later response. The limit is that of maximum likelihood,
    from the Fisher information.
    """
    wins = payoff(preference, policy)
    target = wins[:, None] - wins[None, :]
    labels = sigmoid(target)
    biased = np.triu(labels + overlooked * (1 - labels), 1)
    labels = biased + np.tril(1 - biased.T, -1) + 0.5 * np.eye(len(policy))
    start, world = TabularPolicy.from_probs(policy[None]), PreferenceGame(labels).to_bandit()
    rng = np.random.default_rng(seed)
    sets = [
        replicated_comparisons(world, n, runs, seed=rng, policy=start, distinct=False)
        for n in sizes
    ]
    data = Comparisons(
        sets[0].prompt, sets[0].chosen, sets[0].rejected, weight=np.stack([s.weight for s in sets])
    )
    fitted = fit(start, functools.partial(losses.dpo, beta=eta), data, reference=start).policy
    score = eta * (to_numpy(fitted.log_probs)[..., 0, :] - np.log(policy))
    pairs = np.multiply.outer(policy, policy)
    error = (pairs * (score[..., :, None] - score[..., None, :] - target) ** 2).sum(axis=(-2, -1))
    information = quadratic_form(pairs * sigmoid(target) * sigmoid(-target))
    limit = float(np.trace(np.linalg.pinv(information) @ quadratic_form(pairs)))
    return Errors(error.mean(axis=1) * np.asarray(sizes), limit)


def quadratic_form(weight: np.ndarray) -> np.ndarray:
    """Return the matrix of Σ weight_ij (s_i − s_j)² as a form in s."""
    return 2 * (np.diag(weight.sum(axis=1)) - weight)
