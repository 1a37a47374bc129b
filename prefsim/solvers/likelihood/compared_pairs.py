"""Counts of compared pairs, as arrays or as a graph, with the Bradley–Terry likelihood of rewards.

Both forms answer the same questions of :func:`~prefsim.solvers.likelihood.choice_newton.maximise`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from prefsim.checks import as_float_array, check_counts, check_finite
from prefsim.numerics import log_sigmoid, sigmoid
from prefsim.solvers.likelihood.choice_newton import RATIO_RANGE, Derivatives
from prefsim.solvers.likelihood.win_graph import check_win_graph, check_win_graphs

__all__ = ["DensePairs", "SparsePairs", "as_dense_pairs", "as_sparse_pairs"]

# Conjugate gradients before the sparse factorisation: graphs that need more have small separators,
# and these factorise with little fill.
SPARSE_PRODUCTS = 500
# Relative rounding error at which the fast form of the log-likelihood is given up.
LOST_DIGITS = 1e-12
# Rows of the upper triangle that are worked on at once.
STRIP = 64


class DensePairs:
    """Counts ``(..., n, n)`` as arrays; two buffers of that size serve every evaluation."""

    def __init__(self, counts: np.ndarray, ridge: float) -> None:
        self.counts = counts
        self.ridge = ridge
        self.totals = counts + np.swapaxes(counts, -1, -2)
        self.wins = counts.sum(axis=-1)
        self.comparisons = self.totals.sum(axis=-1)
        n = counts.shape[-1]
        # A product reads n² numbers, a factorisation costs n³/3: beyond n/16 products the
        # factorisation is cheaper.
        self.max_products = n // 16 if n >= 128 else 0
        self._sums = np.empty_like(self.totals)
        self._weights = np.empty_like(self.totals)

    def _in_ratio_range(self, reward: np.ndarray) -> bool:
        return bool((reward.max(axis=-1) - reward.min(axis=-1)).max(initial=0.0) < RATIO_RANGE)

    def _strength(self, reward: np.ndarray) -> np.ndarray:
        """Fill the buffer of sums ``w_i + w_j`` and return the strengths w.

        ``w = exp(r)`` around the middle of the rewards.
        """
        strength = np.exp(
            reward - 0.5 * (reward.max(axis=-1, keepdims=True) + reward.min(axis=-1, keepdims=True))
        )
        np.add(strength[..., :, None], strength[..., None, :], out=self._sums)
        return strength

    def derivatives(self, reward: np.ndarray) -> Derivatives:
        """Return the gradient ``(..., n)`` of the penalised log-likelihood, with its curvature."""
        # The gradient is the balance of two flows, C_ij P(j beats i) in and C_ji P(i beats j) out.
        # Unlike wins minus expected wins, neither is much larger than what is unknown, so the
        # digits survive where one side all but always wins.
        if self._in_ratio_range(reward):
            # P(i beats j) = w_i / (w_i + w_j): a division an entry where the logistic function
            # takes an exponential.
            strength = self._strength(reward)
            np.divide(self.counts, self._sums, out=self._weights)
            gains = self._apply(strength)
            losses = strength * self._weights.sum(axis=-2)
            np.divide(self.totals, self._sums, out=self._weights)
            np.divide(self._weights, self._sums, out=self._weights)
        else:
            strength = np.ones_like(reward)
            chance = sigmoid(reward[..., :, None] - reward[..., None, :])
            against = np.swapaxes(chance, -1, -2)
            gains = (self.counts * against).sum(axis=-1)
            losses = (self.counts * against).sum(axis=-2)
            np.multiply(self.totals, chance * against, out=self._weights)
        diagonal = strength * self._apply(strength) + self.ridge

        def product(vector: np.ndarray) -> np.ndarray:
            return diagonal * vector - strength * self._apply(strength * vector)

        def solve_directly(gradient: np.ndarray) -> np.ndarray | None:
            return self._solve(gradient, strength, diagonal)

        penalty = self.ridge * reward
        return Derivatives(
            gains - losses - penalty,
            gains + losses + self.ridge * np.maximum(1.0, np.abs(reward)),
            diagonal,
            product,
            solve_directly,
        )

    def _apply(self, vector: np.ndarray) -> np.ndarray:
        return np.matmul(self._weights, vector[..., None])[..., 0]

    def _solve(
        self, gradient: np.ndarray, strength: np.ndarray, diagonal: np.ndarray
    ) -> np.ndarray | None:
        """Solve with the Laplacian, scaled to a unit diagonal.

        It is made definite along the constant vector.
        """
        n = gradient.shape[-1]
        scale = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        inner = scale * strength
        constant = 1.0 / (scale * np.sqrt(np.sum(1.0 / scale**2, axis=-1, keepdims=True)))
        matrix = np.multiply(self._weights, -inner[..., :, None], out=self._sums)
        matrix *= inner[..., None, :]
        matrix += constant[..., :, None] * constant[..., None, :]
        index = np.arange(n)
        matrix[..., index, index] += 1.0
        right = scale * gradient
        try:
            if gradient.ndim == 1:
                factor = scipy.linalg.cho_factor(matrix.T, overwrite_a=True, check_finite=False)
                return scale * scipy.linalg.cho_solve(factor, right, check_finite=False)
            return scale * np.linalg.solve(matrix, right[..., None])[..., 0]
        except np.linalg.LinAlgError:
            return None

    def spread(self, direction: np.ndarray) -> np.ndarray:
        """Return the largest difference ``(...,)`` of a direction inside a compared pair."""
        gap = np.abs(direction[..., :, None] - direction[..., None, :])
        return np.where(self.totals > 0, gap, 0.0).max(axis=(-2, -1))

    def log_likelihood(self, reward: np.ndarray) -> np.ndarray:
        """Return the log-likelihood ``(...,)`` in nats, without the penalty."""
        if self._in_ratio_range(reward):
            strength = self._strength(reward)
            value = np.sum(self.wins * np.log(strength), axis=-1)
            # The sums are symmetric: the logarithms of the upper triangle, in strips, halve the
            # time.
            for start in range(0, reward.shape[-1], STRIP):
                rows, columns = slice(start, start + STRIP), slice(start, None)
                terms = self.totals[..., rows, columns] * np.log(self._sums[..., rows, columns])
                value = (
                    value
                    - np.sum(terms, axis=(-2, -1))
                    + 0.5 * np.sum(terms[..., :, :STRIP], axis=(-2, -1))
                )
            # These terms have both signs; where they cancel, only the logistic form below keeps its
            # digits.
            lost = (
                np.finfo(float).eps
                * self.comparisons.sum(axis=-1)
                * (1.0 + np.max(np.abs(reward), axis=-1))
            )
            if np.all(lost <= LOST_DIGITS * np.abs(value)):
                return value
        return np.sum(
            self.counts * log_sigmoid(reward[..., :, None] - reward[..., None, :]), axis=(-2, -1)
        )


def as_dense_pairs(counts: Any, ridge: float) -> DensePairs:
    """Return counts ``(..., n, n)``, checked; without a ridge their maximum must exist."""
    counts = as_float_array(counts, "counts")
    check_counts(counts, "counts")
    if ridge == 0:
        check_win_graphs(counts)
    return DensePairs(counts, ridge)


class SparsePairs:
    """Counts of one graph ``(n, n)`` in CSR.

    Every pattern entry is an ordered pair that was compared.
    """

    def __init__(self, counts: scipy.sparse.csr_array, ridge: float) -> None:
        self.counts = counts
        self.ridge = ridge
        first, second = counts.nonzero()
        # Totals and wins share one pattern, which holds each compared pair both ways.
        ends = (np.concatenate([first, second]), np.concatenate([second, first]))
        both = np.concatenate([counts.data, counts.data])
        self.totals = scipy.sparse.coo_array((both, ends), shape=counts.shape).tocsr()
        self._wins = (
            scipy.sparse.coo_array(
                (both * (np.arange(both.size) < first.size), ends), shape=counts.shape
            )
            .tocsr()
            .data
        )
        self.wins = np.asarray(counts.sum(axis=1)).ravel()
        self.comparisons = np.asarray(self.totals.sum(axis=1)).ravel()
        self.max_products = SPARSE_PRODUCTS
        self._row = np.repeat(np.arange(counts.shape[0]), np.diff(self.totals.indptr))

    def _with_data(self, data: np.ndarray) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array(
            (data, self.totals.indices, self.totals.indptr), shape=self.totals.shape
        )

    def derivatives(self, reward: np.ndarray) -> Derivatives:
        """Return the gradient ``(..., n)`` of the penalised log-likelihood, with its curvature."""
        gap = reward[self._row] - reward[self.totals.indices]
        ones, penalty = np.ones_like(reward), self.ridge * reward
        against = sigmoid(-gap)
        weights = self._with_data(self.totals.data * against * sigmoid(gap))
        diagonal = weights @ ones + self.ridge
        flow = self._with_data(self._wins * against)
        gains, losses = flow @ ones, ones @ flow
        gradient = gains - losses - penalty

        def product(vector: np.ndarray) -> np.ndarray:
            return diagonal * vector - weights @ vector

        def solve_directly(right: np.ndarray) -> np.ndarray | None:
            # Without a ridge the Laplacian is singular along the constant vector: hold the last
            # reward fixed.
            held = 1 if self.ridge == 0 else 0
            size = right.size - held
            matrix = (scipy.sparse.diags_array(diagonal) - weights).tocsc()[:size, :size]
            options = {"SymmetricMode": True}
            try:
                factor = scipy.sparse.linalg.splu(
                    matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options
                )
            except RuntimeError:
                return None
            return np.concatenate([factor.solve(right[:size]), np.zeros(held)])

        return Derivatives(
            gradient,
            gains + losses + self.ridge * np.maximum(1.0, np.abs(reward)),
            diagonal,
            product,
            solve_directly,
        )

    def spread(self, direction: np.ndarray) -> np.ndarray:
        """Return the largest difference ``(...,)`` of a direction inside a compared pair."""
        return np.asarray(
            np.max(np.abs(direction[self._row] - direction[self.totals.indices]), initial=0.0)
        )

    def log_likelihood(self, reward: np.ndarray) -> np.ndarray:
        """Return the log-likelihood ``(...,)`` in nats, without the penalty."""
        table = self.counts.tocoo()
        first, second = table.coords
        return np.sum(table.data * log_sigmoid(reward[first] - reward[second]))


def as_sparse_pairs(counts: Any, ridge: float) -> SparsePairs:
    """Return sparse counts ``(n, n)``, checked; without a ridge their maximum must exist."""
    table = scipy.sparse.csr_array(counts, dtype=np.float64, copy=True)
    table.sum_duplicates()
    if table.ndim != 2 or table.shape[0] != table.shape[1] or table.shape[0] == 0:
        raise ValueError(f"counts must have shape (n, n) with n >= 1, got {table.shape}")
    check_finite(table.data, "counts")
    if table.nnz and table.data.min() < 0:
        raise ValueError(f"counts must be >= 0, got {table.data.min()}")
    table.eliminate_zeros()
    if table.diagonal().any():
        raise ValueError(
            f"counts must have a zero diagonal: item {int(table.diagonal().argmax())} is compared"
            " with itself"
        )
    if ridge == 0:
        check_win_graph(table)
    return SparsePairs(table, ridge)
