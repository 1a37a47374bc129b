"""Logistic regression on compared segments, for many starts and problems at once.

The cross-entropy of labels, the sums of a table over pairs of segments, and the descent that the
models of reward learning share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from prefsim.checks import check_integer, check_kind, check_positive
from prefsim.data.segments import Segments
from prefsim.numerics import sigmoid, softplus
from prefsim.solvers.optimisers.updates import adam

__all__ = ["CrossEntropy", "RewardFit", "VisitDifferences", "batched_features", "lowest_by_adam"]


class RewardFit(NamedTuple):
    """Weights learned from comparisons.

    Attributes
    ----------
    weights
        ``(*batch, d)``, in log-odds of the rater per unit of feature: the lowest-loss weights that
        the descent met.
    value
        Their cross-entropy ``(*batch,)``, nats.
    start
        Which start led there, ``(*batch,)``.
    history
        Loss of every start before each step, ``(iterations, starts, *batch)``.
    """

    weights: np.ndarray
    value: np.ndarray
    start: np.ndarray
    history: np.ndarray


def batched_features(table: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
    """Return features as ``(B or 1, S, A, d)``."""
    if table.ndim > 3 and table.shape[:-3] != batch:
        raise ValueError(
            f"features must have shape (S, A, d) or batch axes {batch} before that, got"
            f" {table.shape}"
        )
    return table.reshape(-1, *table.shape[-3:])


class CrossEntropy:
    """Cross-entropy of logits with the labels of segments, and its gradient."""

    def __init__(self, segments: Segments) -> None:
        check_kind(Segments, segments=segments)
        if len(segments) == 0:
            raise ValueError("segments must hold at least one pair, got 0")
        self.batch = np.broadcast_shapes(
            segments.prob.shape[:-1], segments.weight.shape[:-1], segments.actions.shape[:-3]
        )
        if len(self.batch) > 1:
            raise ValueError(f"one batch axis is understood, got batch shape {self.batch}")
        self.members = int(np.prod(self.batch))
        shape = (self.members, len(segments))
        self.prob, self.weight = (
            np.broadcast_to(x, (*self.batch, len(segments))).reshape(shape)
            for x in (segments.prob, segments.weight)
        )

    def __call__(self, logits: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values ``(R, B)`` and gradients ``(R, B, d)``.

        For logits ``(R, B, n)`` and their derivatives ``(R, B, n, d)``.
        """
        # p log(1 + e^-z) + (1 - p) log(1 + e^z), with one logarithm.
        value = np.sum(self.weight * (softplus(logits) - self.prob * logits), axis=-1)
        error = self.weight * (sigmoid(logits) - self.prob)
        return value, np.matmul(error[..., None, :], slopes)[..., 0, :]

    def shaped(self, fit: RewardFit) -> RewardFit:
        """Return a fit of flat problems in the batch's shape."""
        lead = self.batch
        history = fit.history.reshape(*fit.history.shape[:2], *lead)
        return RewardFit(
            fit.weights.reshape(*lead, -1),
            fit.value.reshape(lead),
            fit.start.reshape(lead),
            history,
        )


class VisitDifferences:
    """Discounted visits of pairs of segments to each state and action, as a sparse operator.

    First minus second.
    """

    def __init__(self, segments: Segments, states: int, actions: int, discount: float) -> None:
        # Also checks that every index that counts is inside the table.
        weight = segments.step_values(np.ones((states, actions))) * discount ** np.arange(
            segments.length
        )
        signed = weight * np.array([1.0, -1.0])[:, None]
        pair = np.where(segments.mask, segments.states[..., :-1] * actions + segments.actions, 0)
        self.members = int(np.prod(segments.actions.shape[:-3]))
        column = (
            pair.reshape(self.members, -1) + np.arange(self.members)[:, None] * states * actions
        )
        per_row = 2 * segments.length
        pointer = np.arange(0, column.size + 1, per_row)
        shape = (column.size // per_row, self.members * states * actions)
        self.operator = sp.csr_array((signed.reshape(-1), column.reshape(-1), pointer), shape=shape)

    def differences(self, table: np.ndarray) -> np.ndarray:
        """Return the summed vectors ``(R, B, n, d)`` of tables ``(R, B or 1, S, A, d)``."""
        starts, d = table.shape[0], table.shape[-1]
        full = (
            np.broadcast_to(table, (starts, self.members, *table.shape[2:]))
            if self.members > 1
            else table
        )
        lead = full.shape[1] if self.members == 1 else 1
        # Members whose labels differ over the same segments are columns, as the starts are.
        columns = np.moveaxis(full.reshape(starts, lead, -1, d), 2, 0).reshape(
            -1, starts * lead * d
        )
        products = (self.operator @ columns).reshape(self.members, -1, starts, lead, d)
        return (
            np.moveaxis(products, 1, 3)
            .reshape(self.members, starts, lead, -1, d)
            .swapaxes(0, 1)
            .reshape(starts, self.members * lead, -1, d)
        )


def lowest_by_adam(
    problem: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    *,
    learning_rate: float,
    iterations: int,
) -> RewardFit:
    """Follow Adam from all starts ``(R, B, d)`` and keep the lowest-loss weights of each problem.

    The loss of the regret model is neither convex nor smooth: the last iterate is not the best one.
    """
    check_positive(learning_rate=learning_rate)
    check_integer(low=1, iterations=iterations)
    weights = best = start
    lowest = np.full(start.shape[:-1], np.inf)
    update = adam(learning_rate)
    history = np.empty((iterations, *start.shape[:-1]))
    for t in range(1, iterations + 2):
        value, gradient = problem(weights)
        better = value < lowest
        lowest, best = np.where(better, value, lowest), np.where(better[..., None], weights, best)
        if t > iterations:
            break
        history[t - 1] = value
        weights = weights - update(gradient)
    which = np.argmin(lowest, axis=0)
    chosen = np.take_along_axis(best, which[None, :, None], axis=0)[0]
    return RewardFit(chosen, np.take_along_axis(lowest, which[None], axis=0)[0], which, history)
