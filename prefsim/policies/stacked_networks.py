"""Many small networks of one shape as one batch of tensors, so that they train all at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from prefsim.backend import Seed, current_backend, random_generator
from prefsim.checks import check_choice

__all__ = ["initial_layers", "stacked_outputs", "tensor_options"]

ACTIVATIONS = ("tanh", "relu")


def initial_layers(sizes: Sequence[int], networks: int, *, seed: Seed) -> list[np.ndarray]:
    """Return weights ``(S, in, out)`` and biases ``(S, 1, out)``, in turn, of S networks.

    Uniform within 1/√fan-in, as torch's own linear layers start.

    Parameters
    ----------
    sizes
        Widths from the inputs to the outputs.
    networks
        Number S of networks.
    seed
        Of the draws.

    Examples
    --------
    >>> [part.shape for part in initial_layers((5, 8, 3), 2, seed=0)]
    [(2, 5, 8), (2, 1, 8), (2, 8, 3), (2, 1, 3)]
    """
    rng = random_generator(seed)
    return [
        rng.uniform(-1, 1, (networks, rows, fan_out)) / math.sqrt(fan_in)
        for fan_in, fan_out in itertools.pairwise(sizes)
        for rows in (fan_in, 1)
    ]


def stacked_outputs(layers: Sequence[Any], inputs: Any, *, activation: str = "tanh") -> Any:
    """Return the outputs ``(S, n, out)`` of networks at inputs ``(S, n, in)``, torch tensors.

    Parameters
    ----------
    layers
        Weights and biases in turn, as :func:`initial_layers` has them. The last layer is linear;
        none at all gives the inputs.
    inputs
        Of each network its own.
    activation
        ``"tanh"`` or ``"relu"``, between the layers.
    """
    import torch

    check_choice(ACTIVATIONS, activation=activation)
    between = torch.tanh if activation == "tanh" else torch.relu
    values = inputs
    for place in range(0, len(layers), 2):
        values = torch.baddbmm(layers[place + 1], values, layers[place])
        if place + 2 < len(layers):
            values = between(values)
    return values


def tensor_options() -> dict[str, Any]:
    """Return dtype and device of small networks: of the torch backend in force, else float32."""
    import torch

    backend = current_backend()
    if backend.name == "torch":
        return {"dtype": getattr(torch, backend.dtype), "device": backend.device}
    return {"dtype": torch.float32, "device": "cpu"}
