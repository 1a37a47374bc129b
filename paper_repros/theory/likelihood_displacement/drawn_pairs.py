"""Drawn pairs: what scores say of them, and what DPO does to those that a score selects."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from paper_repros.theory.likelihood_displacement.unconstrained import (
    BETA,
    Model,
    Pairs,
    last_of,
    step,
    trained,
)
from prefsim import losses
from prefsim.analysis import (
    Displacement,
    ches_score,
    displacement,
    entanglement,
    feature_gram,
)
from prefsim.numerics import log_softmax

DPO = functools.partial(losses.dpo, beta=BETA)
GROUP, RATE = 24, 0.02
"""Pairs of a group, and the step size of training on one."""
SCORES = ("CHES", "CHES per token", "edit distance")
SCALE = 0.25
"""Of the unembedding of drawn pairs."""
VOCABULARY, WIDTH, SHORTEST, LONGEST = 20, 16, 2, 5
GROUPS = ("lowest", "median", "highest")
"""Pairs by their score."""
SAME_TOKEN = 0.8
"""How often the two responses have the same token at one place, after the first."""


def drawn(
    rng: np.random.Generator,
    pairs: int,
    *,
    shortest: int = LONGEST,
    scale: float = SCALE,
    shared_mean: float = 1.0,
) -> tuple[Model, Pairs]:
    """Return drawn pairs that share one W.

    Hidden states scatter about one mean for all chosen responses, and for rejected ones about it
    times a factor of each pair, from 0 to 2: pairs are more or less alike. Lengths are drawn from
    ``shortest`` on.
    """
    weights = scale * rng.standard_normal((VOCABULARY, WIDTH))
    base = shared_mean * rng.standard_normal(WIDTH)
    alike = 2 * rng.random((pairs, 1, 1))
    shape = (pairs, LONGEST, WIDTH)
    chosen_states = base + rng.standard_normal(shape)
    rejected_states = alike * base + rng.standard_normal(shape)
    rejected_states[:, 0] = chosen_states[:, 0]
    chosen = rng.integers(VOCABULARY, size=(pairs, LONGEST))
    other = rng.integers(VOCABULARY, size=(pairs, LONGEST))
    rejected = np.where(rng.random((pairs, LONGEST)) < SAME_TOKEN, chosen, other)
    rejected[:, 0] = (chosen[:, 0] + rng.integers(1, VOCABULARY, size=pairs)) % VOCABULARY
    lengths = rng.integers(shortest, LONGEST + 1, size=(2, pairs, 1))
    masks = np.arange(LONGEST) < lengths
    return Model(weights, chosen_states, rejected_states), Pairs(chosen, rejected, *masks)


def edit_distance(first: Sequence[int], second: Sequence[int]) -> float:
    """Return the edits that turn one response into the other, over the longer length."""
    row = list(range(len(second) + 1))
    for i, token in enumerate(first, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(second, start=1):
            substituted = before + (token != other)
            before = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, substituted)
    return row[-1] / max(len(first), len(second))


def edit_distances(pairs: Pairs) -> np.ndarray:
    """Return the edit distance of each pair, ``(n,)``."""
    responses = (
        (tokens[mask].tolist() for tokens, mask in zip(*side, strict=True))
        for side in ((pairs.chosen, pairs.chosen_mask), (pairs.rejected, pairs.rejected_mask))
    )
    return np.array([edit_distance(*pair) for pair in zip(*responses, strict=True)])


def thirds(model: Model, pairs: Pairs, score: np.ndarray, size: int) -> tuple[Model, Pairs]:
    """Return the pairs of lowest, of median and of highest score, ``(3, size)``.

    Each group has a W of its own, the same in all at first.
    """
    order = np.argsort(score, kind="stable")
    middle = (len(order) - size) // 2
    groups = np.stack([order[:size], order[middle : middle + size], order[-size:]])
    weights = np.broadcast_to(model.unembedding, (3, *model.unembedding.shape))
    states = (states[groups] for states in model[1:])
    return Model(weights, *states), Pairs(*(part[groups] for part in pairs))


def apart_from_others(model: Model, pairs: Pairs) -> tuple[Model, Pairs]:
    """Return each pair by itself, with a W of its own, ``(..., n, 1)``."""
    shape = (*pairs.chosen.shape[:-1], *model.unembedding.shape[-2:])
    weights = np.broadcast_to(model.unembedding[..., None, :, :], shape)
    states = (states[..., None, :, :] for states in model[1:])
    return Model(weights, *states), Pairs(*(part[..., None, :] for part in pairs))


class Ordered(NamedTuple):
    """Rank correlations with the rate of the chosen response, one of each seed."""

    ches: np.ndarray
    per_token: np.ndarray
    edits: np.ndarray
    displaced: np.ndarray


# --- how scores order pairs ---


def correlations(first: int, seeds: range, **options: Any) -> Ordered:
    """Return how scores order pairs by what a step on each alone does to its chosen response."""
    rows = []
    for seed in seeds:
        model, pairs = drawn(np.random.default_rng((first, seed)), 300, **options)
        rate = entanglement(*feature_gram(*model, *pairs).total).chosen_rate
        scores = pairs.ches(model), per_token(model, pairs), edit_distances(pairs)
        rows.append([*(spearmanr(score, rate).statistic for score in scores), (rate < 0).mean()])
    return Ordered(*np.array(rows).T)


def per_token(model: Model, pairs: Pairs) -> np.ndarray:
    """Return the length-normalised CHES of each pair."""
    masks = pairs.chosen_mask, pairs.rejected_mask
    return np.asarray(ches_score(*model[1:], *masks, normalised=True))


def over_the_gram(seed: Sequence[int]) -> np.ndarray:
    """Return changes of the chosen log-probabilities in small steps over those of the Gram."""
    model, pairs = apart_from_others(*drawn(np.random.default_rng(seed), 12))
    start = pairs.log_probs(model)
    ahead, back = (
        pairs.log_probs(step(model, pairs, start, DPO, rate=rate))[0] for rate in (1e-5, -1e-5)
    )
    weights = model.unembedding[:, None]
    gram = feature_gram(weights, *model[1:], *pairs)
    moved = entanglement(*gram.total, chosen_slope=BETA / 2, rejected_slope=BETA / 2)
    return np.asarray((ahead - back) / 2e-5 / moved.chosen_rate)


def ches_over_rate(seed: Sequence[int]) -> float:
    """Return α CHES over what W takes from the chosen response, where all predictions are one."""
    rng = np.random.default_rng(seed)
    weights, base = rng.standard_normal((3, 6)), rng.standard_normal(6)
    # Differences that W does not see.
    blind = np.eye(6) - np.linalg.pinv(weights) @ weights
    states = base + rng.standard_normal((LONGEST, 6)) @ blind
    tokens, masks = np.zeros(LONGEST, dtype=int), [np.arange(LONGEST) < n for n in (2, LONGEST)]
    gram = feature_gram(weights, states, states, tokens, tokens, *masks)
    error = np.eye(3)[0] - np.exp(log_softmax(weights @ base))
    alike = (error @ error) * ches_score(states, states, *masks)
    return float(alike / -entanglement(*gram.unembedding).chosen_rate)


# --- training on what a score selects ---


def groups(seed: Sequence[int], steps: int) -> dict[str, Displacement]:
    """Return the drift of 24 pairs of lowest, median and highest score, ``(3,)`` each.

    The last is of the pairs by CHES, each trained alone.
    """
    rng = np.random.default_rng(seed)
    model, pairs = drawn(rng, 4 * GROUP, shortest=SHORTEST)
    scores = pairs.ches(model), per_token(model, pairs), -edit_distances(pairs)
    found = {
        name: drift(*thirds(model, pairs, score, GROUP), steps)
        for name, score in zip(SCORES, scores, strict=True)
    }
    alone = drift(*apart_from_others(*thirds(model, pairs, scores[0], GROUP)), steps)
    found["CHES, each pair alone"] = Displacement(*(part.mean(axis=-1) for part in alone))
    return found


def drift(model: Model, pairs: Pairs, steps: int) -> Displacement:
    """Return what DPO on the pairs does to them."""
    start = pairs.log_probs(model)
    end = last_of(trained(model, pairs, DPO, rate=RATE, steps=steps))
    return displacement(*pairs.log_probs(end), *start)
