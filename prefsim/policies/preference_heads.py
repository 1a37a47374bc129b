"""Heads that score inputs as examples of their class, many networks at once: features and rewards.

A head is a small network on the features of an input and its class; its reward lies in (−1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prefsim.backend import Seed
from prefsim.checks import as_index_array, check_choice, check_integer
from prefsim.numerics import to_numpy
from prefsim.policies.stacked_networks import initial_layers, stacked_outputs

__all__ = ["ENCODINGS", "encoded_label", "head_rewards", "initial_heads"]

ENCODINGS = ("one-hot", "index")


def encoded_label(
    label: Any, *, n_classes: int, width: int, encoding: str = "one-hot"
) -> np.ndarray:
    """Return classes as features, ``(..., n, F)``.

    Parameters
    ----------
    label
        Integers ``(..., n)`` in [0, K).
    n_classes
        Number K >= 2 of classes.
    width
        Number of features of ``"index"``, as many as the input has.
    encoding
        ``"one-hot"``: K features. ``"index"``: the class's number in each of ``width`` features, as
        the paper has it; class 0 is then all zeros, and classes lie on a line.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Kim et al. 2023, "Prefer to Classify", the preference head, arXiv:2306.04925.

    Examples
    --------
    >>> encoded_label([0, 2], n_classes=3, width=2)
    array([[1., 0., 0.],
           [0., 0., 1.]])
    >>> encoded_label([0, 2], n_classes=3, width=2, encoding="index")
    array([[0., 0.],
           [2., 2.]])
    """
    check_integer(n_classes=n_classes, low=2)
    check_integer(width=width, low=1)
    check_choice(ENCODINGS, encoding=encoding)
    classes = as_index_array(to_numpy(label), "label", size=n_classes)
    if encoding == "one-hot":
        return np.eye(n_classes)[classes]
    return np.repeat(classes[..., None] * 1.0, width, axis=-1)


def initial_heads(features: int, heads: int, networks: int, *, seed: Seed) -> list[np.ndarray]:
    """Return layers of T heads of each of S networks, as ``initial_layers`` has those of S·T.

    Two hidden layers, of half as many units as there are features.

    Parameters
    ----------
    features
        Number of an input and its class together, at least 2.
    heads
        Number T of heads.
    networks
        Number S of networks.
    seed
        Of the draws.

    Examples
    --------
    >>> [part.shape for part in initial_heads(8, 3, 2, seed=0)][::2]
    [(6, 8, 4), (6, 4, 4), (6, 4, 1)]
    """
    check_integer(features=features, low=2)
    check_integer(heads=heads, low=1)
    check_integer(networks=networks, low=1)
    width = features // 2
    return initial_layers((features, width, width, 1), networks * heads, seed=seed)


def head_rewards(layers: Sequence[Any], inputs: Any) -> Any:
    """Return the rewards ``(S, n, T)`` of heads at features ``(S, n, F)``, torch tensors.

    Parameters
    ----------
    layers
        Of T heads of each of S networks, as :func:`initial_heads` has them; linear between, ReLU
        behind each hidden layer, tanh at the end.
    inputs
        Features of inputs and classes, of each network its own.

    References
    ----------
    Kim et al. 2023, "Prefer to Classify", the preference head, arXiv:2306.04925.
    """
    import torch

    networks, n, _ = inputs.shape
    heads = layers[0].shape[0] // networks
    repeated = inputs.repeat_interleave(heads, dim=0)
    raw = stacked_outputs(layers, repeated, activation="relu")
    return torch.tanh(raw).reshape(networks, heads, n).transpose(-1, -2)
