"""Which methods are trained in which worlds, and what each reaches, by sums over all texts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paper_repros.mdp.sparsepo.token_world import (
    EVERY,
    LEARNED,
    Learnt,
    Problem,
    Setting,
    Tokens,
    Worlds,
    draw_worlds,
)
from prefsim.analysis import optimal_frontier
from prefsim.losses import TokenPairLogps, sparse_po, sparsity
from prefsim.numerics import categorical_entropy, log_sigmoid
from prefsim.worlds import ContextualBandit

PENALTIES = (0.0, 1e-3, 1e-2)
STRENGTHS = (3.0, 1.0, 0.3)
# Of Adam, in quick runs and in full ones.
STEPS, STEP = {True: 300, False: 400}, 0.05
MASKS = [Setting(method, 3.0, l1) for method in LEARNED for l1 in PENALTIES]
PLAIN = [Setting("TDPO1", beta) for beta in STRENGTHS]
# Weights that die in every world, and in most.
DEAD, DYING = Setting("common", 0.3, 3e-2), Setting("common", 0.3, 1e-2)
QUICK = [
    *PLAIN,
    Setting("DPO", 3.0),
    Setting("MaPO", 3.0),
    *MASKS[:-1],
    Setting("common", 1.0, 1e-3),
    DEAD,
]
FULL = [
    *QUICK,
    MASKS[-1],
    *(Setting("DPO", beta) for beta in STRENGTHS[1:]),
    Setting("MaPO", 1.0),
    *(s._replace(beta=1.0) for s in MASKS if s != Setting("common", 3.0, 1e-3)),
    DYING,
]
OF_PREFIXES = {True: [*PLAIN, MASKS[0], MASKS[2]], False: [*PLAIN, Setting("MaPO", 3.0), *MASKS]}


class Trained(NamedTuple):
    """Some worlds, how policies were trained in them, and what was reached."""

    worlds: Worlds
    settings: list[Setting]
    learnt: Learnt
    measured: Measured

    def of(self, setting: Setting, name: str) -> np.ndarray:
        """Return what was measured of a setting, one number a world."""
        found: np.ndarray = getattr(self.measured, name)[:, self.settings.index(setting)]
        return found

    def missing(self, setting: Setting) -> np.ndarray:
        """Return by how much less a setting earns than TDPO1 does at its KL, one number a world.

        What TDPO1 lacks of the frontier is taken to be linear in KL between its strengths.
        """
        kls, gaps = (np.stack([self.of(s, name) for s in PLAIN], 1) for name in ("kl", "gap"))
        own = zip(self.of(setting, "kl"), self.of(setting, "gap"), kls, gaps, strict=True)
        return np.array([gap - np.interp(kl, at, of_tdpo) for kl, gap, at, of_tdpo in own])


def train(sees: str, seeds: list[int], settings: list[Setting], *, steps: int) -> Trained:
    """Return what all settings reach in worlds of some seeds."""
    worlds = draw_worlds(seeds, sees=sees)
    problem = Problem(worlds, settings)
    learnt = problem.train(steps=steps, step=STEP)
    return Trained(worlds, problem.settings, learnt, measured(worlds, problem.settings, learnt))


# --- what is measured ---


class Measured(NamedTuple):
    """What trainings reached, each ``(S, M)``.

    Attributes
    ----------
    reward, kl
        Expected reward, and ``KL(π‖π_ref)`` in nats.
    gap
        By how much less the reward is than the largest at this KL.
    excess
        The loss without penalty, less that of the true reward.
    loss
        With it.
    sparsity
        Share of the tokens that the reference writes whose log-ratio has no weight.
    on_key, on_others
        Mean weights of log-ratios on tokens that carry reward, and on all others.
    """

    reward: np.ndarray
    kl: np.ndarray
    gap: np.ndarray
    excess: np.ndarray
    loss: np.ndarray
    sparsity: np.ndarray
    on_key: np.ndarray
    on_others: np.ndarray


def measured(worlds: Worlds, settings: list[Setting], learnt: Learnt) -> Measured:
    """Return what is measured of all trainings, by sums over all texts."""
    prob = np.exp(learnt.log_prob)
    reward = prob @ worlds.reward
    kl = (prob * (learnt.log_prob - worlds.log_prob[:, None])).sum(axis=-1)
    weight = learnt.tokens.reward_weight
    written = np.broadcast_to(np.exp(worlds.log_prob)[:, None], prob.shape)
    zeros = sparsity(weight, np.broadcast_to(EVERY, weight.shape), prob=written)
    by_key = [
        mean_weights(worlds, w, [worlds.is_key, ~worlds.is_key]) for w in weight.swapaxes(0, 1)
    ]
    on_key, on_others = np.moveaxis(np.stack(by_key, axis=1), -1, 0)
    excess, loss = _losses(worlds, settings, learnt.tokens)
    gap = best_rewards(worlds, kl) - reward
    return Measured(reward, kl, gap, excess, loss, zeros, on_key, on_others)


def mean_weights(worlds: Worlds, weight: np.ndarray, which: list[np.ndarray]) -> np.ndarray:
    """Return means over tokens that the reference writes, ``(S, k)``, of weights ``(S, N, T)``.

    Over each of k kinds of tokens ``(N, T)``.
    """
    written = np.exp(worlds.log_prob)[:, :, None]
    means = [
        (weight * written * each).sum(axis=(1, 2)) / (written * each).sum(axis=(1, 2))
        for each in which
    ]
    return np.stack(means, axis=-1)


def best_rewards(worlds: Worlds, kl: np.ndarray) -> np.ndarray:
    """Return the largest rewards at divergences ``(S, k)`` from the references."""
    bandit = ContextualBandit(reward=worlds.reward[None])
    penalties = np.geomspace(30.0, 0.03, 400)
    fronts = [optimal_frontier(bandit, each[None], penalties) for each in worlds.log_prob]
    return np.stack([front.largest_reward(at) for front, at in zip(fronts, kl, strict=True)])


def _losses(
    worlds: Worlds, settings: list[Setting], tokens: Tokens
) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses of all pairs, both ways round: less the entropy of labels; with penalty."""
    p = worlds.prob
    entropy = categorical_entropy(log_sigmoid(np.stack([_log_odds(p), -_log_odds(p)], axis=-1)))
    excess, whole = [], []
    for m, setting in enumerate(settings):
        pairs = as_pairs(worlds, Tokens(*(each[:, m] for each in tokens)))
        plain, penalised = (
            np.mean(
                p * sparse_po(pairs, beta=setting.beta, reward_l1=l1, kl_l1=l1)
                + (1 - p) * sparse_po(pairs.swapped(), beta=setting.beta, reward_l1=l1, kl_l1=l1),
                axis=-1,
            )
            for l1 in (0.0, setting.l1)
        )
        excess.append(plain - entropy.mean(axis=-1))
        whole.append(penalised)
    return np.stack(excess, axis=1), np.stack(whole, axis=1)


def _log_odds(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


def as_pairs(worlds: Worlds, tokens: Tokens) -> TokenPairLogps:
    """Return the pairs of every world as the losses take them, from tokens ``(S, N, T)``."""
    which = np.arange(len(worlds.pairs))[:, None]
    sides = {}
    for side, name in enumerate(("chosen", "rejected")):
        of_pair = Tokens(*(each[which, worlds.pairs[..., side]] for each in tokens))
        sides[name] = of_pair.log_ratio
        sides[f"ref_{name}"] = np.zeros_like(of_pair.log_ratio)
        sides[f"{name}_mask"] = np.ones(of_pair.log_ratio.shape, dtype=bool)
        sides[f"{name}_kl"] = of_pair.kl
        sides[f"{name}_reward_weight"] = of_pair.reward_weight
        sides[f"{name}_kl_weight"] = of_pair.kl_weight
    return TokenPairLogps(**sides)
