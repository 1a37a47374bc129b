"""What DPO, ORPO and ASFT do to two likelihoods: their gradients, and the paths of descent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit, logit

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.gradients import loss_gradient
from prefsim.policies import LogLinearPolicy
from prefsim.solvers import gradient_descent

Loss = Callable[[losses.PairLogps], Any]
ALIGNMENT: Loss = functools.partial(losses.asft, sft_weight=0.0)
METHODS: dict[str, Loss] = {
    "DPO, β = 0.1": functools.partial(losses.dpo, beta=0.1),
    "ORPO, λ = 0.1": functools.partial(losses.orpo, lambda_=0.1),
    "ASFT, λ = 1": losses.asft,
    "ASFT, λ = 0.1": functools.partial(losses.asft, lambda_=0.1),
}
DPO, ORPO, ASFT, WEAK_ASFT = METHODS

# Features of the chosen, the rejected and the other response: one that the first two share, or one
# for each.
SHARED_FEATURE = np.asarray([[1.0], [1.5], [-1.0]])
TABULAR = np.eye(3)


def sharing_a_feature(gap: float) -> np.ndarray:
    """Return features of which the rejected response has so much more than the chosen one."""
    return np.asarray([[1.0], [1.0 + gap], [-1.0]])


def one_token_pairs(p_w: Any, p_l: Any, ref_w: Any = 1.0, ref_l: Any = 1.0) -> losses.PairLogps:
    """Return one-token pairs with these probabilities, each ``(n,)``."""
    chosen, rejected, ref_chosen, ref_rejected = np.broadcast_arrays(
        *(np.log(np.atleast_1d(p)) for p in (p_w, p_l, ref_w, ref_l))
    )
    one = np.ones(chosen.shape)
    return losses.PairLogps(chosen, rejected, ref_chosen, ref_rejected, one, one)


def pairs_of_odds(f_w: np.ndarray, f_l: np.ndarray) -> losses.PairLogps:
    """Return one-token pairs with these log-odds, each ``(n,)``."""
    zero, one = np.zeros(f_w.shape), np.ones(f_w.shape)
    return losses.PairLogps(-np.logaddexp(0, -f_w), -np.logaddexp(0, -f_l), zero, zero, one, one)


def prob_gradients(loss: Loss, logps: losses.PairLogps) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of a loss in the mean-token probabilities of both responses.

    Of the chosen and of the rejected one, each ``(n,)``.
    """
    slopes = loss_gradient(loss, logps)
    n_w, n_l = np.asarray(logps.chosen_length), np.asarray(logps.rejected_length)
    # log π = n log p, so that ∂/∂p is n/p times the derivative in log π.
    p_w, p_l = np.exp(logps.chosen / n_w), np.exp(logps.rejected / n_l)
    return slopes.chosen * n_w / p_w, slopes.rejected * n_l / p_l


def gradients_of_asft(
    p_w: Any, p_l: Any, weight: float, sft_weight: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return ASFT's gradient in the two probabilities, by its closed form."""
    return -(sft_weight + weight) / p_w, weight / (1 - p_l)


def gradients_of_orpo(p_w: Any, p_l: Any, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Return ORPO's gradient in the two probabilities, by its closed form."""
    push = weight * expit(logit(p_l) - logit(p_w))
    return -1 / p_w - push / (p_w * (1 - p_w)), push / (p_l * (1 - p_l))


def trajectory(features: np.ndarray, method: str, steps: int) -> np.ndarray:
    """Return π of (chosen, rejected, other) along gradient descent, ``(steps + 1, 3)``.

    The steps of 0.1 start from the uniform policy, which is the reference too.
    """
    policy = LogLinearPolicy.from_features(features[None])
    _, path = gradient_descent(
        policy,
        METHODS[method],
        Comparisons([0], [0], [1]),
        reference=policy,
        step=0.1,
        iterations=steps,
        record=lambda moved: to_numpy(moved.probs[0]),
    )
    return np.asarray(path)


def ratio_field(loss: Loss, size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return a grid of probabilities, and the ratio of the gradients over (p_l, p_w).

    That is |∂/∂p_l| / |∂/∂p_w|, ``(size, size)``; the grid is ``(size,)``.
    """
    grid = (np.arange(size) + 0.5) / size
    p_l, p_w = (part.ravel() for part in np.meshgrid(grid, grid, indexing="ij"))
    on_w, on_l = prob_gradients(loss, one_token_pairs(p_w, p_l))
    return grid, np.abs(on_l / on_w).reshape(size, size)
