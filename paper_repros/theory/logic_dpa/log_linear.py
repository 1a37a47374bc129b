"""Pairs that share parameters, what training on them under each structure does, and who leads.

Log-linear policies of drawn features, one pair of responses a prompt, all structures and worlds at
once. The best of the new losses and the best of those in use are chosen in one half of the worlds
and compared in the other, so that the best of many is not praised for its luck.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t

from paper_repros.theory.logic_dpa.statements import PUBLISHED, name_of
from prefsim.logic import PreferenceStructure, log_count_ratios
from prefsim.losses import PairLogps
from prefsim.losses.links import linked
from prefsim.numerics import log_softmax
from prefsim.solvers.optimisers.updates import adam

PROMPTS, HELD_OUT, RESPONSES, FEATURES = 8, 8, 12, 16
RATE, STEPS = 0.05, 300
FORGOTTEN = 2.0
"""Nats by which rejected responses are to fall where they are to be unlearned."""


class Worlds(NamedTuple):
    """Drawn prompts, of which some have a pair to learn from.

    Attributes
    ----------
    features
        Of responses, ``(n, PROMPTS + HELD_OUT, Y, d)``.
    start
        Weights of the policy before training, ``(n, d)``.
    pairs
        Chosen and rejected response of the first prompts, ``(n, PROMPTS, 2)``.
    """

    features: np.ndarray
    start: np.ndarray
    pairs: np.ndarray

    @classmethod
    def draw(cls, seeds: Iterable[int]) -> Worlds:
        """Draw a world from each seed."""
        drawn = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            features = rng.standard_normal((PROMPTS, RESPONSES, FEATURES))
            start = 0.3 * rng.standard_normal(FEATURES)
            pairs = [rng.choice(RESPONSES, 2, replace=False) for _ in range(PROMPTS)]
            others = rng.standard_normal((HELD_OUT, RESPONSES, FEATURES))
            drawn.append((np.concatenate([features, others]), start, np.stack(pairs)))
        return cls(*(np.stack(parts) for parts in zip(*drawn, strict=True)))

    def log_policies(self, weights: Any, *, held_out: bool = False) -> Any:
        """Return log π of every response to the prompts with pairs, or to those without.

        ``(S, n, prompts, Y)``, of weights ``(S, n, d)``.
        """
        torch = _torch()
        prompts = slice(PROMPTS, None) if held_out else slice(PROMPTS)
        features = torch.as_tensor(self.features[:, prompts])
        return log_softmax(torch.einsum("nkyd,snd->snky", features, weights))

    def log_pairs(self, weights: Any) -> Any:
        """Return log π of chosen and rejected, ``(S, n, PROMPTS, 2)``."""
        torch = _torch()
        places = torch.as_tensor(self.pairs).expand(weights.shape[0], -1, -1, -1)
        return torch.gather(self.log_policies(weights), -1, places)

    def held_out_kl(self, weights: Any) -> Any:
        """Return the KL of the policy before from others on prompts without pairs, ``(S, n)``."""
        start = _torch().as_tensor(self.start)[None]
        before, after = (self.log_policies(w, held_out=True) for w in (start, weights))
        return (before.exp() * (before - after)).sum(dim=-1).mean(dim=-1)


class Trained(NamedTuple):
    """What training did under each structure, ``(S, n)``.

    Attributes
    ----------
    chosen, rejected
        Mean change of their log-probability over the pairs, nats.
    accuracy
        Share of pairs ranked as they should be.
    disturbed, chosen_then
        When the rejected responses had fallen by :data:`FORGOTTEN` for the first time: the KL of
        the policy before from the one then, mean over held-out prompts, and the mean change of the
        chosen ones; NaN where they never had.
    pairs
        log π of both responses after training, ``(S, n, PROMPTS, 2)``.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    accuracy: np.ndarray
    disturbed: np.ndarray
    chosen_then: np.ndarray
    pairs: np.ndarray

    def logps(self, structure: int) -> PairLogps[np.ndarray]:
        """Return what losses take of the policies that were trained under one structure."""
        chosen, rejected = np.moveaxis(self.pairs[structure], -1, 0)
        return PairLogps(chosen, rejected, chosen, rejected)


def train(
    worlds: Worlds,
    structures: Sequence[PreferenceStructure],
    *,
    flip_rate: float = 0.0,
    steps: int = STEPS,
) -> Trained:
    """Train a policy under each structure in each world; labels are flipped with a chance.

    The mean loss over pairs, and over the flip of each label exactly.
    """
    torch = _torch()
    weights = torch.as_tensor(worlds.start).expand(len(structures), -1, -1).clone()
    start, update = worlds.log_pairs(weights[:1]), adam(RATE)
    disturbed, chosen_then = torch.full((2, *weights.shape[:2]), np.nan, dtype=weights.dtype)
    for _ in range(steps):
        weights.requires_grad_()
        pairs = worlds.log_pairs(weights)
        value = (1 - flip_rate) * _mean_loss(structures, pairs)
        if flip_rate:
            value = value + flip_rate * _mean_loss(structures, pairs.flip(-1))
        (slope,) = torch.autograd.grad(value, weights)
        moved = (pairs.detach() - start).mean(dim=-2)
        arrived = (moved[..., 1] <= -FORGOTTEN) & disturbed.isnan()
        if arrived.any():
            disturbed[arrived] = worlds.held_out_kl(weights.detach())[arrived]
            chosen_then[arrived] = moved[..., 0][arrived]
        weights = (weights - update(slope)).detach()
    end = worlds.log_pairs(weights)
    moved = (end - start).mean(dim=-2)
    ranked = (end[..., 0] > end[..., 1]).double().mean(dim=-1)
    measured = (moved[..., 0], moved[..., 1], ranked, disturbed, chosen_then, end)
    return Trained(*(each.numpy() for each in measured))


def _mean_loss(structures: Sequence[PreferenceStructure], pairs: Any) -> Any:
    """Return the sum over structures and worlds of the mean loss of their pairs."""
    scores = log_count_ratios(structures, pairs.permute(1, 2, 0, 3).clamp(max=-2.3e-16))
    return linked(scores, "logistic", 1.0).mean(dim=1).sum()


def _torch() -> Any:
    import torch

    return torch


# --- is a new loss worth having ---

# Displacement at the end is asked about among losses that rank nearly all pairs.
RANKED = 0.99


class Lead(NamedTuple):
    """The lead of the best new loss over the best one in use, in worlds that chose neither.

    Attributes
    ----------
    task
        What is compared; more of it is better.
    new, old
        Their names.
    new_value, old_value
        Mean of both.
    mean, low, high
        Of the paired difference new − old, with its 95 % interval.
    """

    task: str
    new: str
    old: str
    new_value: float
    old_value: float
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval says, if there is one."""
        if not np.isfinite(self.mean):
            return "not reached in every world"
        if self.low > 0:
            return "the new one leads"
        return "the old one leads" if self.high < 0 else "no difference is seen"


def leads(
    structures: Sequence[PreferenceStructure], clean: Trained, noisy: Trained
) -> tuple[Lead, ...]:
    """Return the leads under flipped labels, in displacement and in unlearning.

    Who displaces least at the end may only have moved less: the same two are compared once more
    where both have lowered the rejected responses alike.
    """
    names = [name_of(each) for each in structures]
    ranks = clean.accuracy[:, ::2].mean(axis=1) >= RANKED
    forgets = np.isfinite(clean.disturbed).all(axis=1)
    everyone = np.ones(len(names), bool)
    at_the_end = _best(names, clean.chosen, ranks)
    tasks = (
        ("accuracy under flipped labels", noisy.accuracy, _best(names, noisy.accuracy, everyone)),
        ("chosen, at the end, of those that rank all", clean.chosen, at_the_end),
        ("chosen, the same two, when the rejected are forgotten", clean.chosen_then, at_the_end),
        (
            "− held-out KL, when the rejected are forgotten",
            -clean.disturbed,
            _best(names, -clean.disturbed, forgets),
        ),
    )
    return tuple(_lead(task, names, values, *both) for task, values, both in tasks)


def _best(names: list[str], values: np.ndarray, eligible: np.ndarray) -> tuple[int, int]:
    """Return the best new and the best published one of those eligible, in the even worlds."""
    published = np.array([name in PUBLISHED for name in names])
    in_even = np.where(eligible, values[:, ::2].mean(axis=1), -np.inf)
    best = [np.where(group, in_even, -np.inf).argmax() for group in (~published, published)]
    new, old = map(int, best)
    return new, old


def _lead(task: str, names: list[str], values: np.ndarray, new: int, old: int) -> Lead:
    """Compare two losses in the odd worlds."""
    there = values[:, 1::2]
    difference = there[new] - there[old]
    count = difference.size
    width = t.ppf(0.975, count - 1) * difference.std(ddof=1) / np.sqrt(count)
    mean = float(difference.mean())
    return Lead(
        task,
        names[new],
        names[old],
        float(there[new].mean()),
        float(there[old].mean()),
        mean,
        mean - float(width),
        mean + float(width),
    )
