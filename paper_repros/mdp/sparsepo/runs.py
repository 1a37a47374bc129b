"""Which methods are trained in which worlds, and what each reaches, by sums over all texts."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from paper_repros.mdp.sparsepo.token_world import (
    EVERY,
    KEY_POSITIONS,
    LEARNED,
    TREE,
    VOCABULARY,
    WORTH,
    Learnt,
    Problem,
    Setting,
    Tokens,
    Worlds,
    draw_worlds,
)
from prefsim.analysis import optimal_frontier
from prefsim.backend import to_numpy
from prefsim.losses import TokenPairLogps, sparse_po, tdpo1, token_sparsity
from prefsim.numerics import categorical_entropy, log_sigmoid, sigmoid
from prefsim.papers import Run
from prefsim.solvers import fit
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

    def neutral(self) -> np.ndarray:
        """Return which share of what the reference writes carries no reward, ``(S,)``."""
        shares: np.ndarray = np.exp(self.worlds.log_prob) @ (~self.worlds.is_key).mean(axis=-1)
        return shares

    def misfit(self, setting: Setting) -> np.ndarray:
        """Return how far β times the log-ratios of pairs are from their rewards, ``(S,)``.

        Differences within each pair, root mean square.
        """
        m = self.settings.index(setting)
        of_text = setting.beta * (self.learnt.log_prob[:, m] - self.worlds.log_prob)
        off = np.take_along_axis(
            of_text - self.worlds.reward, self.worlds.pairs.reshape(len(of_text), -1), axis=1
        )
        first, second = np.moveaxis(off.reshape(self.worlds.pairs.shape), -1, 0)
        return np.sqrt(np.mean((first - second) ** 2, axis=1))

    def missing(self, setting: Setting) -> np.ndarray:
        """Return by how much less a setting earns than TDPO1 does at its KL, one number a world.

        What TDPO1 lacks of the frontier is taken to be linear in KL between its strengths.
        """
        kls, gaps = (np.stack([self.of(s, name) for s in PLAIN], 1) for name in ("kl", "gap"))
        own = zip(self.of(setting, "kl"), self.of(setting, "gap"), kls, gaps, strict=True)
        return np.array([gap - np.interp(kl, at, of_tdpo) for kl, gap, at, of_tdpo in own])


def seeds_of_worlds(run: Run) -> list[int]:
    """Return the seeds of the worlds of a run: no two runs share one."""
    worlds = 2 if run.quick else 5
    return list(range(run.seed * worlds, (run.seed + 1) * worlds))


def train(sees: str, seeds: list[int], settings: list[Setting], *, steps: int) -> Trained:
    """Return what all settings reach in worlds of some seeds."""
    worlds = draw_worlds(seeds, sees=sees)
    problem = Problem(worlds, settings)
    learnt = problem.train(steps=steps, step=STEP)
    return Trained(worlds, problem.settings, learnt, measured(worlds, problem.settings, learnt))


# --- a transformer ---

TRANSFORMER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 8,
    "bos_token_id": None,
    "eos_token_id": None,
    # Far from uniform.
    "initializer_range": 0.2,
}
TRAINING: dict[str, Any] = {
    "steps": 150,
    "batch_size": 128,
    "learning_rate": 1e-2,
    "schedule": "cosine",
    "warmup": 0.05,
    "max_grad_norm": None,
    "progress": False,
}
BY_TRANSFORMERS = [Setting("TDPO1", 1.0), Setting("TDPO1", 0.3)]
BY_TRANSFORMERS += [Setting("common", 1.0, l1) for l1 in (0.0, 3e-3, 1e-2)]
# Pairs that the reference wrote.
WRITTEN, PROMPT = 2000, [0]


class TransformerEnd(NamedTuple):
    """What a transformer ends at, whose masks read the states of what it started from.

    Attributes
    ----------
    reward, kl
        Expected reward, and ``KL(π‖π_ref)`` in nats.
    weights
        Mean weight of each position over texts of the reference, ``(T,)``.
    sparsity
        Share of their tokens without any weight.
    """

    reward: float
    kl: float
    weights: np.ndarray
    sparsity: float


def learn_by_transformer(seed: int) -> dict[Setting, TransformerEnd]:
    """Train a small transformer, and masks along with it, where tokens count in some positions."""
    from transformers import GPT2Config

    from prefsim.lm import CausalLM, TextComparisons, token_weights, tree_completions, tree_policy

    start = CausalLM.from_config(GPT2Config(**TRANSFORMER), seed=seed)
    reference = to_numpy(tree_policy(start, TREE, [PROMPT]).log_probs)[0]
    reward = (WORTH[TREE.sequences] * KEY_POSITIONS).sum(axis=-1)
    written = np.exp(reference) / np.exp(reference).sum()
    rng = np.random.default_rng(seed)
    first, second = rng.choice(TREE.n_sequences, size=(2, WRITTEN), p=written)
    texts, prompts = tree_completions(TREE), [PROMPT] * TREE.n_sequences
    data = TextComparisons(
        [PROMPT] * WRITTEN,
        [texts[i] for i in first],
        [texts[i] for i in second],
        prob=sigmoid(reward[first] - reward[second]),
    )
    found = {}
    for setting in BY_TRANSFORMERS:
        masked = start.with_masks("none" if setting.method == "TDPO1" else "common", seed=seed)
        penalised = functools.partial(sparse_po, reward_l1=setting.l1, kl_l1=setting.l1)
        loss = functools.partial(
            tdpo1 if setting.method == "TDPO1" else penalised, beta=setting.beta
        )
        learnt = fit(masked, loss, data, reference=start, **TRAINING | {"seed": seed}).policy
        log_prob = to_numpy(tree_policy(learnt, TREE, [PROMPT]).log_probs)[0]
        weights = np.ones(EVERY.shape)
        if setting.method != "TDPO1":
            of_tokens, _ = token_weights(learnt, prompts, texts, reference=start, batch_size=256)
            weights = to_numpy(of_tokens.reward).astype(np.float64)
        prob = np.exp(log_prob)
        found[setting] = TransformerEnd(
            float(prob @ reward),
            float(prob @ (log_prob - reference)),
            written @ weights,
            float(token_sparsity(weights, EVERY, prob=written)),
        )
    return found


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
    zeros = token_sparsity(weight, np.broadcast_to(EVERY, weight.shape), prob=written)
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
