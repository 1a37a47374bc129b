"""Maximum-likelihood Bradley–Terry rewards from counts of pairwise wins."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from prefsim.backend import asarray
from prefsim.checks import (
    as_float_array,
    as_index_array,
    check_flag,
    check_integer,
    check_nonnegative,
    check_positive,
)
from prefsim.solvers.likelihood.choice_newton import log_odds_start, maximise
from prefsim.solvers.likelihood.compared_pairs import as_dense_pairs, as_sparse_pairs
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array

__all__ = ["BradleyTerryResult", "count_matrix", "fit_bradley_terry"]


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
    check_flag(sparse=sparse)
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
        as_sparse_pairs(counts, ridge)
        if scipy.sparse.issparse(counts)
        else as_dense_pairs(counts, ridge)
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
        warn_caller(
            f"fit_bradley_terry stopped after {run.iterations} steps with a gradient of {worst:.3g}"
            " comparisons",
        )
    return BradleyTerryResult(
        asarray(run.reward),
        model.log_likelihood(run.reward),
        np.max(np.abs(run.gradient), axis=-1),
        run.iterations,
        run.converged,
    )
