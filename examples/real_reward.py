"""Reward models on the hidden states of a real model: linear and exact, and small networks.

Which labels an ensemble of the former doubts, and what doubting them is worth; whether a
contrastive term helps the latter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from prefsim.containers import PairRewards
from prefsim.data.strength import (
    TREATMENTS,
    half_samples,
    preference_strength,
    strength_groups,
    treat_labels,
)
from prefsim.losses import bradley_terry
from prefsim.losses.paired_views import simcse
from prefsim.policies.stacked_networks import initial_layers, stacked_outputs
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward

# Of the squared weights, per pair; chosen by folds of the pairs that are trained on.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
FOLDS = 5
# Of an ensemble, each fitted to half of the pairs.
MEMBERS = 20
FIFTHS = (0.2, 0.4, 0.6, 0.8)
# Of small networks on the hidden states: starts, width, steps of Adam, its rate and decay, and the
# share of a state that dropout leaves out.
STARTS, WIDTH, STEPS, RATE, DECAY, DROPOUT = 8, 16, 100, 1e-2, 1e-2, 0.2
# Weights of the contrastive term.
CONTRASTS = (0.0, 0.1, 1.0)


def reward_model(train: np.ndarray, held_out: np.ndarray, *, seed: int) -> dict[str, Any]:
    """Return how many held-out pairs a Bradley–Terry model on hidden states ranks as people did.

    Parameters
    ----------
    train, held_out
        What the model makes of chosen and rejected answers, ``(n, 2, d)``: the last hidden state at
        the last token, and the mean over the answer.
    seed
        Of folds, halves and networks.
    """
    centre = train.mean(axis=(0, 1))
    # In units of their deviation on the pairs that are trained on, and so that a row has unit
    # length, about: the ridge means the same for any model.
    scale = (train.std(axis=(0, 1)) + 1e-12) * np.sqrt(train.shape[-1])
    train, held_out = ((features - centre) / scale for features in (train, held_out))
    train_pairs, others = _in_span(*(each[:, 0] - each[:, 1] for each in (train, held_out)))
    folds = np.random.default_rng(seed).permutation(len(train)) % FOLDS
    scores = {ridge: _across_folds(train_pairs, folds, ridge) for ridge in RIDGES}
    ridge = max(RIDGES, key=lambda each: scores[each])
    weights = fit_linear_reward(train_pairs, ridge=ridge).weights
    return {
        "ridge": ridge,
        "features": int(train.shape[-1]),
        "trained_on": _ranked(train_pairs @ weights),
        "across_folds": scores[ridge],
        "held_out": _ranked(others @ weights),
        "doubted": doubted_labels(train_pairs, others, ridge=ridge, seed=seed),
        "contrasts": [
            contrasted(train, held_out, contrast=contrast, seed=seed) for contrast in CONTRASTS
        ],
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


def contrasted(
    pairs: np.ndarray, others: np.ndarray, *, contrast: float, seed: int
) -> dict[str, float]:
    """Return what small networks rank right that learn with a contrastive term beside.

    Each representation is told from those of other responses under two draws of dropout (SimCSE).

    Parameters
    ----------
    pairs, others
        Features ``(n, 2, d)`` of chosen and rejected: to fit to, and to rank.
    contrast
        Weight of the term.
    seed
        Of the first weights and of dropout.

    Returns
    -------
    The mean over starts, and its standard error over starts.
    """
    size = pairs.shape[-1]
    # In units of their deviation again, as networks take them.
    seen, unseen = (
        torch.as_tensor(x * np.sqrt(size), dtype=torch.float32) for x in (pairs, others)
    )
    layers = [
        torch.as_tensor(part, dtype=torch.float32).requires_grad_()
        for part in initial_layers((size, WIDTH, 1), STARTS, seed=seed)
    ]
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(layers, lr=RATE, weight_decay=DECAY)

    def representations(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(stacked_outputs(layers[:2], x.reshape(-1, size).expand(STARTS, -1, -1)))

    def ahead(states: torch.Tensor) -> PairRewards:
        return PairRewards(*stacked_outputs(layers[2:], states).reshape(STARTS, -1, 2).unbind(-1))

    for _ in range(STEPS):
        kept = (torch.rand((2, *seen.shape), generator=generator) >= DROPOUT) / (1 - DROPOUT)
        first, second = (representations(seen * mask) for mask in kept)
        loss = bradley_terry(ahead(first)).mean(dim=-1)
        if contrast:
            loss = loss + contrast * simcse(first, second).mean(dim=-1)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
    with torch.no_grad():
        rewards = ahead(representations(unseen))
        hits = (rewards.chosen > rewards.rejected).double().mean(dim=-1)
    error = hits.std() / STARTS**0.5
    return {"contrast": contrast, "value": float(hits.mean()), "standard_error": float(error)}


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
        "small networks with a contrastive term: "
        + ", ".join(
            f"weight {row['contrast']:g}: {row['value']:.3f} ± {row['standard_error']:.3f}"
            for row in found["contrasts"]
        ),
    ]


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
