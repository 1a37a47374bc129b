"""What the gradients of DPO, ORPO and ASFT do to two probabilities, and the paths that plain descent takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import gradient_descent

Loss = Callable[[losses.PairLogps], Any]
ALIGNMENT: Loss = functools.partial(losses.asft, lambda_=1.0, sft_weight=0.0)
METHODS: dict[str, Loss] = {
    "DPO, β = 0.1": functools.partial(losses.dpo, beta=0.1),
    "ORPO, λ = 0.1": functools.partial(losses.orpo, lambda_=0.1),
    "ASFT, λ = 0.1": functools.partial(losses.asft, lambda_=0.1),
    "ASFT, λ = 1": functools.partial(losses.asft, lambda_=1.0),
}
DPO, ORPO, ASFT, STRONG = METHODS
ONE_PAIR = Comparisons([0], [0], [1])
SHARED = np.asarray([[1.0], [1.5], [-1.0]])
TABULAR = np.eye(3)


def pair(p_w: Any, p_l: Any, ref_w: Any = 1.0, ref_l: Any = 1.0) -> losses.PairLogps:
    """Return one-token pairs with these probabilities, each ``(n,)``."""
    chosen, rejected, ref_chosen, ref_rejected = np.broadcast_arrays(
        *(np.log(np.atleast_1d(p)) for p in (p_w, p_l, ref_w, ref_l))
    )
    return losses.PairLogps(
        chosen, rejected, ref_chosen, ref_rejected, np.ones(chosen.shape), np.ones(chosen.shape)
    )


def from_odds(f_w: np.ndarray, f_l: np.ndarray) -> losses.PairLogps:
    """Return one-token pairs with these log-odds, each ``(n,)``."""
    zero, one = np.zeros(f_w.shape), np.ones(f_w.shape)
    return losses.PairLogps(-np.logaddexp(0, -f_w), -np.logaddexp(0, -f_l), zero, zero, one, one)


def prob_gradients(loss: Loss, logps: losses.PairLogps) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of ``loss`` in the (mean-token) probabilities of both responses by automatic differentiation, each ``(n,)``."""
    import torch

    moved = losses.PairLogps(*(None if x is None else torch.tensor(x) for x in logps))
    n_w, n_l = torch.tensor(logps.chosen_length), torch.tensor(logps.rejected_length)
    p_w, p_l = (
        torch.exp(moved.chosen / n_w).requires_grad_(),
        torch.exp(moved.rejected / n_l).requires_grad_(),
    )
    total = loss(moved._replace(chosen=n_w * torch.log(p_w), rejected=n_l * torch.log(p_l))).sum()
    on_w, on_l = torch.autograd.grad(total, (p_w, p_l))
    return to_numpy(on_w), to_numpy(on_l)


def trajectory(features: np.ndarray, method: str, steps: int) -> np.ndarray:
    """Return π of (chosen, rejected, other) along gradient descent with step 0.1 from the uniform policy, ``(steps + 1, 3)``."""
    policy = LogLinearPolicy.from_features(features[None])
    _, path = gradient_descent(
        policy,
        METHODS[method],
        ONE_PAIR,
        reference=policy,
        step=0.1,
        iterations=steps,
        record=lambda p: to_numpy(p.probs[0]),
    )
    return np.asarray(path)


def ratio_field(loss: Loss, size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid of probabilities ``(size,)`` and |∂/∂p_l| / |∂/∂p_w| over (p_l, p_w), ``(size, size)``."""
    grid = (np.arange(size) + 0.5) / size
    p_l, p_w = (part.ravel() for part in np.meshgrid(grid, grid, indexing="ij"))
    on_w, on_l = prob_gradients(loss, pair(p_w, p_l))
    return grid, np.abs(on_l / on_w).reshape(size, size)
