"""Comparisons that the policy gathers: what optimism does to the regret."""

from __future__ import annotations

import functools

import numpy as np

from paper_repros.theory.vpo.given_data import (
    BETA,
    FIRST,
    RESPONSES,
    SECOND,
    Bandits,
)
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import logit_gradient, loss_gradient
from prefsim.losses import PairLogps
from prefsim.numerics import categorical_kl, log_softmax, sigmoid
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers.games.optimism import optimistic_reward
from prefsim.solvers.games.pessimism import PessimisticGame
from prefsim.solvers.optimisers.updates import adam

# --- the paper's bandit: few steps of Adam after every comparison ---

STEPS, RATE, DECAY = 20, 0.01, 0.01
DPO = functools.partial(losses.dpo, beta=BETA)
# Row k gathers what pairs say of response k.
AS_CHOSEN, AS_REJECTED = (np.eye(RESPONSES)[:, side] for side in (FIRST, SECOND))


def draw_responses(law: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return responses of laws ``(..., Y)`` by inverse transform, one for each ``uniform``."""
    steps = np.cumsum(law, axis=-1)
    below = uniform[..., None] >= steps[..., :-1] / steps[..., -1:]
    return np.asarray(below.sum(axis=-1))


def count_comparison(
    wins: np.ndarray, reward: np.ndarray, laws: tuple, uniform: np.ndarray
) -> None:
    """Add to ``wins`` ``(..., worlds, Y, Y)`` one comparison of a response of each of two laws.

    A response that is compared with itself tells nothing.
    """
    one, other = (draw_responses(law, u) for law, u in zip(laws, uniform, strict=False))
    one, other = np.broadcast_arrays(one, other)
    world = np.arange(reward.shape[0])
    won = uniform[2] < sigmoid(reward[world, one] - reward[world, other])
    chosen, rejected = np.where(won, one, other), np.where(won, other, one)
    place = (*np.indices(chosen.shape), chosen, rejected)
    wins[place] += chosen != rejected


def online_regret(
    bandits: Bandits, alphas: tuple[float, ...], rounds: int, rng: np.random.Generator, run: Run
) -> np.ndarray:
    """Return the cumulative regret, ``(rounds, alphas, worlds)``.

    In every round one pair of the policy is compared, and Adam takes a few steps on the mean loss
    of DPO plus αβ/n times the mean log-probability of the reference's responses. Log-ratios stay
    within ±1/β: the term has no lower bound.
    """
    start = np.asarray(bandits.reference.log_probs)
    wins = np.zeros((len(alphas), *bandits.reward.shape, RESPONSES))
    weight = np.asarray(alphas)[:, None, None] * BETA
    logits = np.broadcast_to(start, wins.shape[:-1]).copy()
    update, regret = adam(RATE), []
    for n in run.progress(range(1, rounds + 1), "rounds"):
        log_policy = log_softmax(logits)
        regret.append(bandits.regret(log_policy))
        law = np.exp(log_policy)
        # The same numbers for every α: their differences are paired.
        count_comparison(wins, bandits.reward, (law, law), rng.random((3, len(bandits.reward))))
        share = wins[..., FIRST, SECOND] / n
        for _ in range(STEPS):
            slopes = dpo_slopes(log_policy, start, share) + weight / n * np.exp(start)
            gradient = logit_gradient(slopes, log_policy)
            logits = logits - update(gradient) - RATE * DECAY * (logits - start)
            logits = np.clip(logits, start - 1 / BETA, start + 1 / BETA)
            log_policy = log_softmax(logits)
    return np.cumsum(regret, axis=0)


def dpo_slopes(log_policy: np.ndarray, start: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the gradient in log π of DPO's loss on pairs with these shares."""
    tables = log_policy, np.broadcast_to(start, log_policy.shape)
    pairs = PairLogps(*(table[..., side] for table in tables for side in (FIRST, SECOND)))
    slopes = loss_gradient(DPO, pairs)
    return np.asarray(
        (share * slopes.chosen) @ AS_CHOSEN.T + (share * slopes.rejected) @ AS_REJECTED.T
    )


# --- the same fitted to the end, where the policy is nearly deterministic ---

FEW = 5
SHARP = 0.1
"""β, a tenth of the bound of the rewards."""
SAMPLERS = ("both from the policy", "one from the reference")


def rounds_of_regret(
    alphas: tuple[float, ...],
    sampler: str,
    worlds: int,
    rng: np.random.Generator,
    *,
    rounds: int = 20,
    batch: int = 20,
) -> np.ndarray:
    """Return the regret of each round's policy, ``(rounds, alphas, worlds)``.

    After every batch the best of the rewards in a box is found, under a uniform reference that is
    also the calibration policy.
    """
    reward = rng.random((worlds, FEW))
    uniform = TabularPolicy.uniform(worlds, FEW)
    law, best = np.asarray(uniform.probs), log_softmax(reward / SHARP)
    log_policy = np.broadcast_to(np.log(law), (len(alphas), worlds, FEW))
    wins = np.zeros((*log_policy.shape, FEW))
    prompt, first, second = np.nonzero(np.ones((worlds, FEW, FEW)) - np.eye(FEW))
    regret = []
    for _ in range(rounds):
        regret.append(SHARP * np.asarray(categorical_kl(log_policy, best)))
        policy = np.exp(log_policy)
        other = policy if sampler == SAMPLERS[0] else np.broadcast_to(law, policy.shape)
        for _ in range(batch):
            count_comparison(wins, reward, (policy, other), rng.random((3, worlds)))
        data = Comparisons(prompt, first, second, weight=wins[:, prompt, first, second])
        # Contexts are worlds: each has a share of the weight.
        eta = worlds * np.asarray(alphas)
        game = PessimisticGame(data, uniform, law, beta=SHARP, eta=eta, bound=1.0)
        log_policy = to_numpy(optimistic_reward(game, tolerance=1e-4).log_policy)
    return np.stack(regret)
