"""A reward model on the hidden states of a real model: linear, and fitted exactly."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.lm import CausalLM, TextComparisons, response_embeddings
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import fit

# Of the squared weights, per pair; chosen by folds of the pairs that are trained on.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
FOLDS = 5


def reward_model(
    policy: CausalLM, train: TextComparisons, held_out: TextComparisons, *, seed: int
) -> dict[str, Any]:
    """Return how many held-out pairs a Bradley–Terry model on hidden states ranks as people did.

    Features are the last hidden states at the last token and their mean over the completion, each
    in units of its deviation on the pairs that are trained on.
    """
    found, centre, scale = {}, None, None
    for name, pairs in (("train", train), ("held_out", held_out)):
        sides = [_states(policy, pairs.prompt, side) for side in (pairs.chosen, pairs.rejected)]
        features = np.stack(sides, axis=1)
        if centre is None:
            centre = features.mean(axis=(0, 1))
            scale = features.std(axis=(0, 1)) + 1e-12
        # So that a row has unit length, about, and the ridge means the same for any model.
        found[name] = (features - centre) / (scale * np.sqrt(features.shape[-1]))
    folds = np.random.default_rng(seed).permutation(len(train)) % FOLDS
    scores = {ridge: _across_folds(found["train"], folds, ridge) for ridge in RIDGES}
    ridge = max(RIDGES, key=lambda each: scores[each])
    weights = _fitted(found["train"], ridge)
    return {
        "ridge": ridge,
        "features": int(weights.size),
        "trained_on": _ranked(found["train"] @ weights),
        "across_folds": scores[ridge],
        "held_out": _ranked(found["held_out"] @ weights),
    }


def reward_line(found: dict[str, Any]) -> str:
    """Return what was found, in a line."""
    held_out = found["held_out"]
    return (
        f"linear reward on {found['features']} hidden numbers: ranks {held_out['value']:.3f} ±"
        f" {held_out['standard_error']:.3f} of held-out pairs as people did,"
        f" {found['across_folds']:.3f} across folds,"
        f" {found['trained_on']['value']:.3f} of those it was fitted to"
    )


def _states(policy: CausalLM, prompts: Sequence[Any], completions: Sequence[Any]) -> np.ndarray:
    return response_embeddings(policy, prompts, completions, pooling=("last", "mean"))


def _fitted(features: np.ndarray, ridge: float) -> np.ndarray:
    """Return the weights ``(d,)`` of a Bradley–Terry model: DPO's loss on a linear reward."""
    start = LogLinearPolicy.from_features(features)
    n = len(features)
    data = Comparisons(np.arange(n), np.zeros(n, dtype=int), np.ones(n, dtype=int))

    def penalty(policy: Any) -> Any:
        return ridge * (policy.parameters**2).sum(-1)

    loss = functools.partial(losses.dpo, beta=1.0)
    return np.asarray(fit(start, loss, data, reference=start, penalty=penalty).policy.parameters)


def _across_folds(features: np.ndarray, folds: np.ndarray, ridge: float) -> float:
    hits = []
    for fold in range(FOLDS):
        out = folds == fold
        gap = np.diff(features[out] @ _fitted(features[~out], ridge), axis=1)[:, 0]
        hits.append(gap < 0)
    return float(np.concatenate(hits).mean())


def _ranked(rewards: np.ndarray) -> dict[str, float]:
    """Return the share of pairs ``(n, 2)`` whose first has the larger reward, with its error."""
    return share((rewards[:, 0] > rewards[:, 1]).mean(), len(rewards))


def share(hits: Any, n: int) -> dict[str, float]:
    """Return a share with its standard error."""
    value = float(hits)
    return {"value": value, "standard_error": float(np.sqrt(value * (1 - value) / n))}
