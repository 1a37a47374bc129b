"""Optima found without their closed forms, what losses teach, and policies of equal reward."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
from scipy.special import entr

from prefsim import losses
from prefsim.analysis.bandit import expected_reward, regularised_value
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.divergences import DIVERGENCES, f_divergence, pinsker_constant, total_variation
from prefsim.losses import PairLogps
from prefsim.numerics import bounded_exp, log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import ConvergenceWarning, fit, objective
from prefsim.solvers.optimisers.newton import minimise
from prefsim.worlds import ContextualBandit

Bandit = tuple[ContextualBandit, TabularPolicy]


def chi_squared_dpo(logps: PairLogps, *, beta: float) -> Any:
    """Return f-DPO's loss with the derivative ``2(u − 1)`` of the pure χ² divergence.

    The library does not offer it, for good reason.
    """
    chosen, rejected = losses.log_ratios(logps)
    return losses.soft_logistic(2 * beta * (bounded_exp(chosen) - bounded_exp(rejected)), 1)


def optimum_by_search(bandit: Bandit, **penalty: Any) -> np.ndarray:
    """Maximise the regularised value over the logits, without knowing the closed form."""
    import torch

    world, reference = bandit
    log_reference = torch.as_tensor(reference.log_probs)
    shape = log_reference.shape

    def cost(logits: Any) -> Any:
        table = log_softmax(logits.reshape(-1, *shape))
        return -regularised_value(table, log_reference, world, **penalty)

    found = minimise(cost, log_reference.reshape(1, -1), tolerance=1e-11, max_iterations=300)
    return to_numpy(torch.softmax(found.parameters.reshape(shape), dim=-1))


def learnt(bandit: Bandit, loss: Any) -> np.ndarray:
    """Return the policy that minimises a loss on the population of Bradley–Terry labels."""
    world, reference = bandit
    data = Comparisons.population(world, reference)
    return np.asarray(fit(reference, loss, data, reference=reference).policy.probs)


def objective_over_entropy(bandit: Bandit, loss: Any, optimum: np.ndarray) -> float:
    """Return the objective at the optimum over the mean entropy of its Bradley–Terry labels.

    A cross-entropy is least, and the entropy of its labels, where it predicts them.
    """
    world, reference = bandit
    data = Comparisons.population(world, reference)
    least = objective(TabularPolicy.from_probs(optimum), loss, data, reference=reference)
    return float(least / np.sum(data.weight * (entr(data.prob) + entr(1 - data.prob))))


def shares_of_bounds(optimum: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return for every divergence total variation over its bound c√D, of one policy."""
    distance = float(total_variation(optimum, reference))
    logs = np.log(optimum), np.log(reference)
    return {
        name: distance / float(pinsker_constant(name) * np.sqrt(f_divergence(*logs, name)))
        for name in DIVERGENCES
    }


def learnt_under_pure_chi_squared(bandit: Bandit, beta: float) -> np.ndarray:
    """Return what DPO's loss for the pure χ² divergence teaches."""
    with warnings.catch_warnings():
        # A dropped response has its minimiser at infinity.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return learnt(bandit, functools.partial(chi_squared_dpo, beta=beta))


def least_beta(bandit: Bandit) -> float:
    """Return the least β at which the pure χ² penalty keeps every response.

    It is ``(E_ref r − min r)/2``: there λ is ``E_ref r``.
    """
    world, reference = bandit
    reward = np.asarray(world.reward)
    mean = np.sum(reference.probs * reward, axis=-1)
    return 0.5 * float(np.max(mean - reward.min(axis=-1)))


def brought_to_reward(world: ContextualBandit, policy: TabularPolicy, want: float) -> np.ndarray:
    """Return a policy mixed with the best or worst responses until its expected reward is right."""
    has, table = float(expected_reward(policy.log_probs, world)), np.asarray(world.reward)
    towards = table if has < want else -table
    corner = np.eye(world.n_responses)[np.argmax(towards, axis=-1)]
    reach = float(np.sum(world.context_probs[:, None] * corner * table)) - has
    share = 0.0 if reach == 0 else min(max((want - has) / reach, 0.0), 1.0)
    return (1 - share) * policy.probs + share * corner
