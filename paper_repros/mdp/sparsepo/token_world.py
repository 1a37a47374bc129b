"""Policies and their token masks, learned together from what people say of short texts.

Texts are four tokens of six, so that every expectation is a sum over all of them. Many worlds and
many settings are one batch: of tensors ``(worlds, settings, ...)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prefsim.losses import activation_weights, relu_weights
from prefsim.losses.links import soft_logistic
from prefsim.losses.tokenwise import token_score
from prefsim.numerics import (
    categorical_kl,
    log_softmax,
    sigmoid,
    to_numpy,
)
from prefsim.solvers.optimisers.updates import adam
from prefsim.worlds import TokenTree

if TYPE_CHECKING:
    from torch import Tensor

VOCABULARY, LENGTH, PAIRS = 6, 4, 4000
TREE = TokenTree(VOCABULARY, LENGTH)
# A token and the prefix before it, of every token of every text.
CELLS = (TREE.nodes * VOCABULARY + TREE.sequences).reshape(-1)
PREFIXES = TREE.nodes.reshape(-1)
EVERY = np.ones((TREE.n_sequences, LENGTH), dtype=bool)
# What tokens 0, 1, ... are worth where they count.
WORTH = np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
# In which positions tokens count, where a mask that sees the prefix alone is to find them.
KEY_POSITIONS = np.array([True, False, True, False])

LEARNED = ("common", "independent")
METHODS = ("DPO", "TDPO1", "MaPO", *LEARNED)


class Setting(NamedTuple):
    """A method with its options: which weights, β, and the penalty λ of both kinds of weights."""

    method: str
    beta: float
    l1: float = 0.0


class Worlds(NamedTuple):
    """Rewards of texts, who writes them, and what people say of pairs; one of each a world.

    Attributes
    ----------
    log_reference
        Of the next token after each prefix, ``(S, nodes, V)``.
    log_prob
        Of whole texts under the reference, ``(S, N)``.
    reward
        Of whole texts, the same in every world, ``(N,)``.
    is_key
        Which tokens of each text carry reward, ``(N, T)``.
    pairs
        Two texts that the reference wrote, ``(S, n, 2)``.
    prob
        How likely people prefer the first, ``(S, n)``.
    features
        What a mask sees of a token, ``(kinds, F)``, by the kind of token.
    kind
        Of every token of every text, ``(N·T,)``.
    """

    log_reference: np.ndarray
    log_prob: np.ndarray
    reward: np.ndarray
    is_key: np.ndarray
    pairs: np.ndarray
    prob: np.ndarray
    features: np.ndarray
    kind: np.ndarray


def draw_worlds(seeds: list[int], *, sees: str = "token") -> Worlds:
    """Draw worlds, one a seed, in which a mask sees each token or only the prefix before it.

    A mask that sees the token finds the tokens that are worth something, wherever they stand; for
    one that sees the prefix, tokens are worth something in some positions alone.
    """
    tokens, position = TREE.sequences, np.arange(LENGTH)
    if sees == "token":
        seen, worth = tokens, WORTH[tokens]
        is_key = tokens < 2
    else:
        # Nothing comes before the first.
        seen = np.concatenate([np.full((len(tokens), 1), VOCABULARY), tokens[:, :-1]], axis=1)
        worth = WORTH[tokens] * KEY_POSITIONS
        is_key = np.broadcast_to(KEY_POSITIONS, tokens.shape)
    kinds = np.indices((LENGTH, VOCABULARY + 1)).reshape(2, -1)
    one_hot = np.eye(VOCABULARY + 1)[kinds[1]][:, :VOCABULARY], np.eye(LENGTH)[kinds[0]]
    reward = worth.sum(axis=-1)
    tables, texts, pairs = [], [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        tables.append(log_softmax(rng.standard_normal((TREE.n_nodes, VOCABULARY))))
        texts.append(tables[-1].reshape(-1)[CELLS].reshape(tokens.shape).sum(axis=-1))
        drawn = rng.choice(TREE.n_sequences, size=(PAIRS, 2), p=np.exp(texts[-1]))
        pairs.append(drawn)
    chosen, rejected = np.moveaxis(reward[np.stack(pairs)], -1, 0)
    return Worlds(
        log_reference=np.stack(tables),
        log_prob=np.stack(texts),
        reward=reward,
        is_key=is_key,
        pairs=np.stack(pairs),
        prob=sigmoid(chosen - rejected),
        features=np.concatenate(one_hot, axis=-1),
        kind=(position * (VOCABULARY + 1) + seen).reshape(-1),
    )


class Tokens(NamedTuple):
    """What a loss sees of every token of every text, each ``(S, M, N, T)``."""

    log_ratio: Any
    kl: Any
    reward_weight: Any
    kl_weight: Any


class Learnt(NamedTuple):
    """Where trainings end.

    Attributes
    ----------
    tokens
        As arrays of NumPy.
    log_prob
        Of whole texts, ``(S, M, N)``.
    objective
        The loss that training ended at, penalty included, ``(S, M)``.
    begins_at
        The same before the first step.
    slope
        The largest derivative of it in a logit or a mask, ``(S, M)``.
    """

    tokens: Tokens
    log_prob: np.ndarray
    objective: np.ndarray
    begins_at: np.ndarray
    slope: np.ndarray


class Problem:
    """The losses of all settings in all worlds, as functions of logits and masks.

    Parameters
    ----------
    worlds
        S of them.
    settings
        M of them.
    """

    def __init__(self, worlds: Worlds, settings: list[Setting]) -> None:
        import torch

        # Fixed weights first, then common ones, then independent ones.
        self.settings = sorted(settings, key=lambda setting: METHODS.index(setting.method))
        methods = [setting.method for setting in self.settings]
        self.n_fixed = sum(method not in LEARNED for method in methods)
        self.n_common = methods.count("common")
        self.log_reference = torch.as_tensor(worlds.log_reference)[:, :, :, None]
        self.features, self.kind = torch.as_tensor(worlds.features), torch.as_tensor(worlds.kind)
        self.beta, self.l1 = (
            torch.tensor([getattr(s, name) for s in self.settings], dtype=torch.float64)
            for name in ("beta", "l1")
        )
        fixed = fixed_weights(worlds, methods[: self.n_fixed])
        self.fixed = [torch.as_tensor(each) for each in fixed]
        n = TREE.n_sequences
        # Rows of one long table of texts, world by world.
        flat = worlds.pairs + n * np.arange(len(worlds.pairs))[:, None, None]
        self.chosen, self.rejected = torch.as_tensor(np.moveaxis(flat, -1, 0).copy())
        self.prob = torch.as_tensor(worlds.prob)[..., None]
        # How often each text is in a pair, for the penalty.
        counts = [np.bincount(pairs.reshape(-1), minlength=n) for pairs in worlds.pairs]
        self.seen = torch.as_tensor(np.stack(counts)[:, None] / worlds.pairs.shape[1])
        self.every = torch.as_tensor(EVERY)

    def start(self) -> list[Tensor]:
        """Return logits ``(S, nodes, V, M)`` of the reference, and masks of one everywhere.

        Units ``(2, S, L, F)`` of the L settings that learn, of log-ratios and of divergences.
        """
        import torch

        worlds, m = len(self.log_reference), len(self.settings)
        logits = self.log_reference.expand(-1, -1, -1, m).clone()
        shape = (2, worlds, m - self.n_fixed, self.features.shape[-1])
        weights = torch.zeros(shape, dtype=torch.float64)
        # One for each position: every token has one.
        weights[..., VOCABULARY:] = 1.0
        return [logits, weights]

    def tokens(self, logits: Tensor, weights: Tensor) -> Tokens:
        """Return what the loss sees of every token."""
        import torch

        log_policy = log_softmax(logits, axis=2)
        log_ratio = log_policy - self.log_reference
        kl = categorical_kl(self.log_reference.expand_as(log_policy), log_policy, axis=2)
        of_reward, of_kl = weights[0], weights[1, :, self.n_common :]
        own = self._learned(of_reward)
        reward_weight = torch.cat([self.fixed[0], own], dim=1)
        common, independent = own[:, : self.n_common], self._learned(of_kl)
        kl_weight = torch.cat([self.fixed[1], common, independent], dim=1)
        return Tokens(
            _of_tokens(log_ratio.flatten(1, 2), torch.as_tensor(CELLS)),
            _of_tokens(kl, torch.as_tensor(PREFIXES)),
            reward_weight,
            kl_weight,
        )

    def _learned(self, units: Tensor) -> Tensor:
        return _of_tokens(relu_weights(self.features, units).movedim(1, 2), self.kind)

    def value(self, tokens: Tokens) -> Tensor:
        """Return the objective of every setting in every world, ``(S, M)``."""
        scores = token_score(
            tokens.log_ratio,
            tokens.kl,
            self.every,
            reward_weight=tokens.reward_weight,
            kl_weight=tokens.kl_weight,
        )
        rows = scores.movedim(1, 2).flatten(0, 1)
        margin = rows.index_select(0, self.chosen.reshape(-1)) - rows.index_select(
            0, self.rejected.reshape(-1)
        )
        margin = margin.reshape(*self.chosen.shape, -1)
        loss = soft_logistic(self.beta * margin, self.prob).mean(dim=1)
        sums = (tokens.reward_weight + tokens.kl_weight).sum(dim=-1)
        return loss + self.l1 * (self.seen * sums).sum(dim=-1)

    def train(self, *, steps: int, step: float) -> Learnt:
        """Train logits and masks together by Adam, in all worlds and settings at once."""
        import torch

        parameters = [each.requires_grad_(True) for each in self.start()]
        updates = [adam(step) for _ in parameters]
        with torch.no_grad():
            begins_at = self.value(self.tokens(*parameters))
        for _ in range(steps):
            slopes = torch.autograd.grad(self.value(self.tokens(*parameters)).sum(), parameters)
            with torch.no_grad():
                for each, update, slope in zip(parameters, updates, slopes, strict=True):
                    each -= update(slope)
        tokens = self.tokens(*parameters)
        objective = self.value(tokens)
        of_logits, of_weights = torch.autograd.grad(objective.sum(), parameters)
        slope = of_logits.abs().amax((1, 2))
        of_masks = of_weights.abs().amax((0, 3))
        slope[:, self.n_fixed :] = torch.maximum(slope[:, self.n_fixed :], of_masks)
        log_ratio = to_numpy(tokens.log_ratio.detach())
        reference = to_numpy(self.log_reference)[..., 0].reshape(len(log_ratio), -1)[:, CELLS]
        log_prob = (log_ratio + reference.reshape(-1, 1, *EVERY.shape)).sum(axis=-1)
        return Learnt(
            Tokens(*(to_numpy(each.detach()) for each in tokens)),
            log_prob,
            to_numpy(objective.detach()),
            to_numpy(begins_at),
            to_numpy(slope),
        )


def _of_tokens(table: Tensor, index: Tensor) -> Tensor:
    """Return entries ``(S, M, N, T)`` of a table ``(S, K, M)`` for every token of every text."""
    # Settings come last: a row is copied as a whole.
    taken = table.index_select(1, index)
    return taken.reshape(len(table), *EVERY.shape, -1).permute(0, 3, 1, 2)


def fixed_weights(worlds: Worlds, methods: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of log-ratios and of divergences, ``(S, M, N, T)``, that are not learned.

    MaPO's are off the surprise of the reference.
    """
    surprise = -worlds.log_reference.reshape(len(worlds.pairs), -1)[:, CELLS]
    activations = surprise.reshape(-1, TREE.n_sequences, 1, LENGTH)
    mapo = activation_weights(activations, np.broadcast_to(EVERY, (len(activations), *EVERY.shape)))
    ones = np.ones_like(mapo)
    of_reward = [mapo if name == "MaPO" else ones for name in methods]
    of_kl = [{"MaPO": mapo, "DPO": 0 * ones}.get(name, ones) for name in methods]
    return np.stack(of_reward, axis=1), np.stack(of_kl, axis=1)
