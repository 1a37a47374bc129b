"""Maximum-likelihood Bradley–Terry rewards from counts of pairwise wins."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

from prefsim.backend import asarray, to_numpy
from prefsim.checks import (
    as_float_array,
    as_index_array,
    check_counts,
    check_finite,
    check_integer,
    check_nonnegative,
    check_positive,
)
from prefsim.numerics import log_sigmoid, sigmoid
from prefsim.solvers.likelihood.choice_newton import Derivatives, log_odds_start, maximise
from prefsim.solvers.likelihood.win_graph import check_win_graph, check_win_graphs
from prefsim.solvers.results import ConvergenceWarning
from prefsim.typing import Array

__all__ = ["BradleyTerryResult", "count_matrix", "fit_bradley_terry"]

# Largest spread of rewards at which exp(r) and its squares stay inside float64.
RATIO_RANGE = 600.0
# Conjugate gradients before the sparse factorisation: graphs that need more have small separators,
# and these factorise with little fill.
SPARSE_PRODUCTS = 500
# Relative rounding error at which the fast form of the log-likelihood is given up.
LOST_DIGITS = 1e-12
# Rows of the upper triangle that are worked on at once.
STRIP = 64


class BradleyTerryResult(NamedTuple):
    """Maximum-likelihood rewards and their certificate.

    Attributes
    ----------
    reward
        ``(..., n)`` in nats (log-odds), mean 0.
    log_likelihood
        ``(...,)``, nats, without the penalty.
    grad_norm
        ``(...,)``: largest absolute entry of the gradient of the penalised log-likelihood at
        ``reward``, in comparisons.
    iterations
        Newton steps taken.
    converged
        ``(...,)``: whether every item's gradient is within ``tolerance`` of its terms and the last
        step was small.
    """

    reward: Array
    log_likelihood: Array
    grad_norm: Array
    iterations: int
    converged: Array


def count_matrix(
    chosen: Any, rejected: Any, n_items: int, weight: Any = None, *, sparse: bool = False
) -> Any:
    """Return the matrix whose entry (i, j) counts how often item i was preferred to item j.

    Parameters
    ----------
    chosen, rejected
        Integers ``(m,)`` in ``[0, n_items)``: preferred and rejected item of each comparison.
    n_items
        Number of items.
    weight
        ``(m,)``, >= 0; each comparison counts 1 unless given.
    sparse
        Return a ``scipy.sparse`` CSR array; for thousands of items of which few pairs are compared.

    Returns
    -------
    ``(n_items, n_items)`` float64.

    Raises
    ------
    ValueError
        If lengths differ, an index is out of range, a weight is negative or not finite, or an item
        is compared with itself.

    Examples
    --------
    >>> count_matrix([0, 0, 1], [1, 1, 0], 2)
    array([[0., 2.],
           [1., 0.]])
    """
    check_integer(low=1, n_items=n_items)
    chosen = as_index_array(chosen, "chosen", size=n_items)
    rejected = as_index_array(rejected, "rejected", size=n_items)
    if chosen.ndim != 1 or chosen.shape != rejected.shape:
        raise ValueError(
            f"chosen and rejected must have one shape (m,), got {chosen.shape} and {rejected.shape}"
        )
    if weight is not None:
        weight = as_float_array(weight, "weight")
        if weight.shape != chosen.shape:
            raise ValueError(
                f"weight must have the shape of chosen {chosen.shape}, got {weight.shape}"
            )
        if (weight < 0).any():
            raise ValueError(
                f"weight must be >= 0, got {weight.min()} at index {int(weight.argmin())}"
            )
    same = chosen == rejected
    if same.any():
        at = int(same.argmax())
        raise ValueError(f"item {int(chosen[at])} is compared with itself at index {at}")
    if sparse:
        values = np.ones(chosen.size) if weight is None else weight
        return scipy.sparse.coo_array(
            (values, (chosen, rejected)), shape=(n_items, n_items)
        ).tocsr()
    flat = np.bincount(chosen * n_items + rejected, weights=weight, minlength=n_items * n_items)
    return flat.reshape(n_items, n_items).astype(np.float64, copy=False)


def fit_bradley_terry(
    counts: Any, *, ridge: float = 0.0, tolerance: float = 1e-12, max_iterations: int = 1000
) -> BradleyTerryResult:
    r"""Return the rewards that maximise the Bradley–Terry likelihood of pairwise counts.

    .. math:: \max_{\sum_i r_i = 0} \sum_{ij} C_{ij} \log\sigma(r_i - r_j) - \tfrac{\lambda}{2}
        \sum_i r_i^2

    Damped Newton from the log-odds of winning, all members of a batch together.

    Parameters
    ----------
    counts
        ``(..., n, n)`` or a ``scipy.sparse`` ``(n, n)``: how often (or with what total weight) item
        i was preferred to item j. Fractions are fine: ``weight * preference`` with a zero diagonal
        fits the model to a population.
    ridge
        Precision λ >= 0 of a normal prior on the rewards, in comparisons; with λ > 0 the maximum
        always exists.
    tolerance
        Largest gradient of an item's reward, as a fraction of the sum of its absolute terms
        (expected upsets for and against the item): a measure that does not depend on the scale of
        the counts.
    max_iterations
        Largest number of Newton steps.

    Returns
    -------
    BradleyTerryResult

    Raises
    ------
    ValueError
        If a count is negative or not finite or an item is compared with itself; and, without a
        ridge, if the maximum does not exist: the comparisons fall into components, or some items
        never lose to (or never win against) the others.

    Warns
    -----
    ConvergenceWarning
        If ``max_iterations`` steps do not reach ``tolerance``.

    References
    ----------
    Bradley and Terry 1952; existence: Ford 1957, "Solution of a ranking problem from binary
    comparisons".

    Examples
    --------
    >>> result = fit_bradley_terry([[0, 3], [1, 0]])
    >>> result.reward.round(6), bool(result.converged)
    (array([ 0.549306, -0.549306]), True)
    """
    check_nonnegative(ridge=ridge)
    check_integer(low=1, max_iterations=max_iterations)
    check_positive(tolerance=tolerance)
    model = (
        _sparse_pairs(counts, ridge)
        if scipy.sparse.issparse(counts)
        else _dense_pairs(counts, ridge)
    )
    run = maximise(
        model,
        log_odds_start(model.wins, model.comparisons),
        tolerance=tolerance,
        max_iterations=int(max_iterations),
        max_products=model.max_products,
    )
    if not run.converged.all():
        worst = np.max(np.abs(run.gradient))
        warnings.warn(
            f"fit_bradley_terry stopped after {run.iterations} steps with a gradient of {worst:.3g}"
            " comparisons",
            ConvergenceWarning,
            stacklevel=2,
        )
    return BradleyTerryResult(
        asarray(run.reward),
        model.log_likelihood(run.reward),
        np.max(np.abs(run.gradient), axis=-1),
        run.iterations,
        run.converged,
    )


class _DensePairs:
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
        gap = np.abs(direction[..., :, None] - direction[..., None, :])
        return np.where(self.totals > 0, gap, 0.0).max(axis=(-2, -1))

    def log_likelihood(self, reward: np.ndarray) -> np.ndarray:
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


def _dense_pairs(counts: Any, ridge: float) -> _DensePairs:
    counts = np.asarray(to_numpy(counts), dtype=np.float64)
    check_counts(counts, "counts")
    if ridge == 0:
        check_win_graphs(counts)
    return _DensePairs(counts, ridge)


class _SparsePairs:
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
        return np.asarray(
            np.max(np.abs(direction[self._row] - direction[self.totals.indices]), initial=0.0)
        )

    def log_likelihood(self, reward: np.ndarray) -> np.ndarray:
        table = self.counts.tocoo()
        first, second = table.coords
        return np.sum(table.data * log_sigmoid(reward[first] - reward[second]))


def _sparse_pairs(counts: Any, ridge: float) -> _SparsePairs:
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
    return _SparsePairs(table, ridge)
