"""A reward model on the hidden states of a real model: linear, and fitted exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prefsim.data.strength import (
    TREATMENTS,
    half_samples,
    preference_strength,
    strength_groups,
    treat_labels,
)
from prefsim.lm import CausalLM, TextComparisons, response_embeddings
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward

# Of the squared weights, per pair; chosen by folds of the pairs that are trained on.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
FOLDS = 5
# Of an ensemble, each fitted to half of the pairs.
MEMBERS = 20
FIFTHS = (0.2, 0.4, 0.6, 0.8)


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
    train_pairs, others = _in_span(*(-np.diff(found[name], axis=1)[:, 0] for name in found))
    folds = np.random.default_rng(seed).permutation(len(train)) % FOLDS
    scores = {ridge: _across_folds(train_pairs, folds, ridge) for ridge in RIDGES}
    ridge = max(RIDGES, key=lambda each: scores[each])
    weights = fit_linear_reward(train_pairs, ridge=ridge).weights
    return {
        "ridge": ridge,
        "features": int(found["train"].shape[-1]),
        "trained_on": _ranked(train_pairs @ weights),
        "across_folds": scores[ridge],
        "held_out": _ranked(others @ weights),
        "doubted": doubted_labels(train_pairs, others, ridge=ridge, seed=seed),
    }


def doubted_labels(
    pairs: np.ndarray, others: np.ndarray, *, ridge: float, seed: int
) -> dict[str, Any]:
    """Return what an ensemble doubts of the labels, and what rewards fitted by that rank right.

    Parameters
    ----------
    pairs, others
        Features of chosen less rejected responses, ``(n, d)``: to fit to, and to rank.
    ridge
        Of every model.
    seed
        Of the halves.
    """
    halves = half_samples(len(pairs), MEMBERS, seed=seed)
    ensemble = fit_linear_reward(pairs, ridge=ridge, weight=halves.astype(float))
    strength = preference_strength(ensemble.weights @ pairs.T, fitted_to=halves).mean
    fifth = strength_groups(strength, ends=FIFTHS)

    def ranks(kept: np.ndarray, treatment: str | None = None) -> dict[str, float]:
        treated = None if treatment is None else treat_labels(strength[kept], treatment)
        reward = fit_linear_reward(pairs[kept], ridge=ridge, treatment=treated)
        return _ranked(others @ reward.weights)

    every = np.ones(len(pairs), dtype=bool)
    return {
        "contradicted": share((strength < 0).mean(), len(pairs)),
        "by_fifth": [ranks(fifth == k) for k in range(len(FIFTHS) + 1)],
        "treated": {name: ranks(every, name) for name in TREATMENTS},
    }


def reward_lines(found: dict[str, Any]) -> list[str]:
    """Return what was found, in lines."""
    held_out, doubted = found["held_out"], found["doubted"]
    against = doubted["contradicted"]
    fifths = ", ".join(f"{each['value']:.2f}" for each in doubted["by_fifth"])
    treated = ", ".join(f"{name} {each['value']:.2f}" for name, each in doubted["treated"].items())
    return [
        f"linear reward on {found['features']} hidden numbers: ranks {held_out['value']:.3f} ±"
        f" {held_out['standard_error']:.3f} of held-out pairs as people did,"
        f" {found['across_folds']:.3f} across folds,"
        f" {found['trained_on']['value']:.3f} of those it was fitted to",
        f"labels that models which have not seen them contradict: {against['value']:.3f} ±"
        f" {against['standard_error']:.3f}",
        f"    fitted to a fifth of the pairs, weakest first, it ranks right {fifths}",
        f"    fitted to treated labels: {treated}",
    ]


def _states(policy: CausalLM, prompts: Sequence[Any], completions: Sequence[Any]) -> np.ndarray:
    return response_embeddings(policy, prompts, completions, pooling=("last", "mean"))


def _in_span(pairs: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features as coordinates in the span of those of the pairs.

    A ridge leaves weights at zero in all other directions, so that nothing changes but the size.
    """
    _, _, basis = np.linalg.svd(pairs, full_matrices=False)
    return pairs @ basis.T, others @ basis.T


def _across_folds(pairs: np.ndarray, folds: np.ndarray, ridge: float) -> float:
    kept = (folds != np.arange(FOLDS)[:, None]).astype(float)
    margins = fit_linear_reward(pairs, ridge=ridge, weight=kept).weights @ pairs.T
    return float((margins[folds, np.arange(len(pairs))] > 0).mean())


def _ranked(margins: np.ndarray) -> dict[str, float]:
    """Return the share of pairs whose chosen response is ahead, with its standard error."""
    return share((margins > 0).mean(), len(margins))


def share(hits: Any, n: int) -> dict[str, float]:
    """Return a share with its standard error."""
    value = float(hits)
    return {"value": value, "standard_error": float(np.sqrt(value * (1 - value) / n))}
