"""Reward networks with a spread, fitted to compared segments: many networks as one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    as_float_array,
    as_index_array,
    check_callable,
    check_integer,
    check_nonnegative,
    check_shape,
    check_unit_interval,
    trusted_values,
)
from prefsim.containers import GaussianRewards
from prefsim.losses.gaussian_rewards import gaussian_bradley_terry
from prefsim.numerics import as_tensor, to_numpy
from prefsim.policies.reward_heads import gaussian_head
from prefsim.solvers.optimisers.newton import quasi_newton

__all__ = ["HeadFit", "fit_reward_heads", "head_rewards_of"]

Loss = Callable[[GaussianRewards[Any]], Any]


class HeadFit(NamedTuple):
    """S fitted networks.

    Attributes
    ----------
    layers
        Weights ``(S, in, out)`` and biases ``(S, 1, out)``, in turn.
    value
        Mean loss with its ridge, ``(S,)``.
    evaluations
        How often the objective was computed, of all networks together.
    """

    layers: list[np.ndarray]
    value: np.ndarray
    evaluations: int


def head_rewards_of(
    layers: Sequence[Any], steps: Any, *, activation: str = "tanh"
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and log-deviation of the rewards at steps, ``(S, ...)`` each.

    Parameters
    ----------
    layers
        Of S networks.
    steps
        Features, ``(..., F)``, which all networks see.
    activation
        Of :func:`prefsim.policies.reward_heads.gaussian_head`.
    """
    import torch

    table = as_float_array(steps, "steps", min_ndim=1)
    tensors = [as_tensor(part) for part in layers]
    flat = as_tensor(table.reshape(1, -1, table.shape[-1]))
    inputs = flat.expand(tensors[0].shape[0], -1, -1)
    with torch.no_grad():
        said = gaussian_head(tensors, inputs, activation=activation)
    mean, log_deviation = (to_numpy(each).reshape(-1, *table.shape[:-1]) for each in said)
    return mean, log_deviation


def fit_reward_heads(
    layers: Sequence[Any],
    steps: Any,
    pairs: Any,
    prob: Any,
    *,
    loss: Loss = gaussian_bradley_terry,
    activation: str = "tanh",
    ridge: float = 1e-3,
    max_iterations: int = 100,
) -> HeadFit:
    r"""Fit normal rewards to compared segments, by limited-memory BFGS on all networks at once.

    .. math:: \min\ \tfrac1n\sum_n \big[p_n\,\ell(w_n \succ l_n) + (1 - p_n)\,\ell(l_n \succ w_n)
        \big] + \lambda\,\|W\|^2

    with the ridge on the weights alone: biases are free.

    Parameters
    ----------
    layers
        Where to start: of S networks with two outputs, as in
        :func:`prefsim.policies.reward_heads.gaussian_head`.
    steps
        Features of the steps of K segments, ``(K, T, F)``, or ``(S, K, T, F)``.
    pairs
        Which segments are compared, integers ``(n, 2)`` or ``(S, n, 2)`` in [0, K).
    prob
        P(first ≻ second), ``(n,)`` or ``(S, n)`` in [0, 1]. (Where a label of 1 says that the
        *second* is preferred, give 1 less it.)
    loss
        Of :class:`prefsim.losses.GaussianRewards`, with all its options.
    activation
        ``"tanh"`` or ``"relu"``.
    ridge
        λ >= 0.
    max_iterations
        Of the descent, on the sum of all objectives.

    Returns
    -------
    HeadFit

    Raises
    ------
    ValueError
        If a shape does not fit, a place is not there, a probability lies outside [0, 1] or an
        option is out of range.

    References
    ----------
    Liu et al. 2023, algorithm 1, arXiv:2306.03615.

    Examples
    --------
    Two segments of one step and one feature; the first is preferred in three of four comparisons:

    >>> start = [np.zeros((1, 1, 2)), np.zeros((1, 1, 2))]
    >>> def certain(rewards):
    ...     return gaussian_bradley_terry(rewards, spread_weight=0.0, entropy_weight=0.0)
    >>> found = fit_reward_heads(
    ...     start, [[[1.0]], [[0.0]]], [[0, 1]], [0.75], loss=certain, ridge=0.0
    ... )
    >>> found.layers[0][0, 0, :1].round(4)  # log 3
    array([1.0986])
    """
    import torch

    check_callable(loss=loss)
    check_nonnegative(ridge=ridge)
    check_integer(low=1, max_iterations=max_iterations)
    parts = _read_layers(layers)
    networks = parts[0].shape[0]
    features = _of_each(as_float_array(steps, "steps", min_ndim=3), 3, networks, "steps")
    check_shape(features, "steps", (parts[0].shape[1],))
    k = features.shape[1]
    places = _of_each(as_index_array(pairs, "pairs", size=k), 2, networks, "pairs")
    check_shape(places, "pairs", (2,))
    share = as_float_array(prob, "prob", min_ndim=1)
    check_unit_interval(share, "prob")
    share = _of_each(share, 1, networks, "prob")
    check_shape(share, "prob", (places.shape[1],))
    winner, loser, weight = (torch.as_tensor(each) for each in _rows(places, share))
    inputs = torch.as_tensor(features.reshape(networks, -1, features.shape[-1]).copy())
    length = features.shape[2]
    mask = torch.ones((*winner.shape, length), dtype=torch.bool)
    ends = [each[..., None].expand(mask.shape) for each in (winner, loser)]

    def as_layers(flat: torch.Tensor) -> list[torch.Tensor]:
        split = torch.split(flat, [part[0].size for part in parts], dim=-1)
        return [each.reshape(part.shape) for each, part in zip(split, parts, strict=True)]

    def objective(flat: torch.Tensor) -> torch.Tensor:
        own = as_layers(flat)
        said = gaussian_head(own, inputs, activation=activation)
        mean, log_deviation = (each.reshape(networks, k, length) for each in said)
        # The derivative of a gather is much cheaper than that of an index.
        won, lost = (mean.gather(1, end) for end in ends)
        log_won, log_lost = (log_deviation.gather(1, end) for end in ends)
        rewards = GaussianRewards(won, lost, log_won, log_lost, mask, mask)
        size = sum((part**2).sum(dim=(-2, -1)) for part in own[::2])
        return (weight * loss(rewards)).sum(dim=-1) + ridge * size

    start = torch.as_tensor(np.concatenate([part.reshape(networks, -1) for part in parts], -1))
    history: list[tuple[float, float]] = []
    with trusted_values():
        found, _ = quasi_newton(
            objective, start, tolerance=1e-9, max_iterations=max_iterations, history=history
        )
        with torch.no_grad():
            value = objective(found)
    return HeadFit(list(map(to_numpy, as_layers(found))), to_numpy(value), len(history))


def _read_layers(layers: Any) -> list[np.ndarray]:
    """Return weights and biases in turn, whose shapes fit each other."""
    if not isinstance(layers, list | tuple) or not layers or len(layers) % 2:
        raise ValueError(f"layers must be a list of weights and biases in turn, got {layers!r:.60}")
    parts = [as_float_array(part, f"layers[{k}]", ndim=3) for k, part in enumerate(layers)]
    networks, width = parts[0].shape[:2]
    for k in range(0, len(parts), 2):
        weights, bias = parts[k : k + 2]
        if weights.shape[:2] != (networks, width) or bias.shape != (networks, 1, weights.shape[2]):
            raise ValueError(
                f"layers must be weights (S, in, out) and biases (S, 1, out) that fit each other,"
                f" got {weights.shape} and {bias.shape} behind a width of {width}"
            )
        width = weights.shape[2]
    return parts


def _of_each(table: np.ndarray, axes: int, networks: int, name: str) -> np.ndarray:
    """Return what each network has of its own, or shares, with an axis of the networks."""
    if table.ndim not in (axes, axes + 1) or (table.ndim > axes and len(table) != networks):
        raise ValueError(
            f"{name} must have {axes} axes, or one more of {networks} networks, got shape"
            f" {table.shape}"
        )
    return np.broadcast_to(table, (networks, *table.shape[-axes:]))


def _rows(places: np.ndarray, prob: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return winners, losers and weights of comparisons, soft ones both ways."""
    n = prob.shape[-1]
    first, second = places[..., 0], places[..., 1]
    if ((prob == 0) | (prob == 1)).all():
        won = prob == 1
        weight = np.full(prob.shape, 1 / n)
        return np.where(won, first, second), np.where(won, second, first), weight
    winner, loser = np.concatenate([first, second], -1), np.concatenate([second, first], -1)
    return winner, loser, np.concatenate([prob, 1 - prob], axis=-1) / n
