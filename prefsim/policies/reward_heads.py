"""Reward networks that say how sure they are: a normal reward for every step, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefsim.checks import as_floats
from prefsim.numerics import array_namespace
from prefsim.policies.stacked_networks import stacked_outputs
from prefsim.typing import ArrayT

__all__ = ["LOG_DEVIATION_RANGE", "clamped_log_deviation", "gaussian_head"]

LOG_DEVIATION_RANGE = (-5.0, 2.0)
"""Deviations of .0067 to 7.4: below, a reward is as good as certain; above, it says nothing."""


def clamped_log_deviation(raw: ArrayT) -> ArrayT:
    """Return logarithms of deviations, cut to :data:`LOG_DEVIATION_RANGE`.

    Parameters
    ----------
    raw
        What a network says, ``(...)``; beyond the range it has no gradient.

    Examples
    --------
    >>> import numpy as np
    >>> clamped_log_deviation(np.asarray([-9.0, 0.5, 3.0]))
    array([-5. ,  0.5,  2. ])
    """
    (raw,) = as_floats(raw=raw)
    return array_namespace(raw).clip(raw, *LOG_DEVIATION_RANGE)


def gaussian_head(
    layers: Sequence[Any], inputs: Any, *, activation: str = "tanh"
) -> tuple[Any, Any]:
    """Return mean and log-deviation of the rewards of inputs, torch tensors ``(S, n)`` each.

    Parameters
    ----------
    layers
        Of S networks with two outputs, of :func:`prefsim.policies.stacked_networks.initial_layers`;
        a single layer makes the mean linear and the deviation log-linear.
    inputs
        Features of steps, ``(S, n, F)``, of each network its own.
    activation
        ``"tanh"`` or ``"relu"``, between the layers.

    References
    ----------
    Liu et al. 2023, robust reward learning, arXiv:2306.03615 (there on a transformer; the range is
    not confirmed).
    """
    raw = stacked_outputs(layers, inputs, activation=activation)
    if raw.shape[-1] != 2:
        raise ValueError(
            f"layers must have two outputs, a mean and a log-deviation, got {raw.shape[-1]}"
        )
    return raw[..., 0], clamped_log_deviation(raw[..., 1])
