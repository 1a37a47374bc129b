r"""Maximum-likelihood embeddings of pairwise counts, where a reward is too little.

Cycles and other intransitive preferences need them.

The loss of vectors V, with the scores S of :func:`prefsim.raters.score_matrix` and the wins W, is

.. math:: L(V) = -\sum_{ij} W_{ij} \log\sigma(S_{ij}) + \tfrac{\rho}{2} \sum_{i} |v_i|^2

It is not convex in V, but no smaller than a convex problem in S alone: of all vectors with given
scores the shortest have :math:`\tfrac12\sum_i |v_i|^2 = \sum_l \lambda_l(S)`, half the nuclear
norm. Its dual gives a bound that no embedding of any dimension can pass, and with it a certificate
of the *global* minimum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_torch_array
from scipy.special import entr

from prefsim._readable import readable
from prefsim.backend import Seed, asarray, like, random_generator
from prefsim.checks import (
    as_float_array,
    check_counts,
    check_even,
    check_integer,
    check_nonnegative,
    check_positive,
)
from prefsim.numerics import array_namespace, sigmoid, softplus
from prefsim.raters.embedding import score_matrix
from prefsim.solvers.games.skew_symmetric import decompose_skew
from prefsim.solvers.optimisers.newton import minimise
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array

__all__ = [
    "EmbeddingResult",
    "embedding_lower_bound",
    "embedding_objective",
    "fit_preference_embedding",
]

# Comparisons lent to either side of every compared pair, as a share of its own, for the scores that
# the search starts from.
LENT = 0.05
# Standard deviation of the other starts, in the scale of embeddings of moderate preferences.
START_SPREAD = 0.5


@readable
class EmbeddingResult(NamedTuple):
    """Fitted vectors and their certificate.

    Attributes
    ----------
    embedding
        ``(..., n, 2k)``, for :func:`prefsim.raters.score_matrix`; log-odds at temperature 1.
    objective
        ``(...,)`` in nats: the penalised negative log-likelihood L.
    gap
        ``(...,)`` in nats: no embedding, of this or any other dimension, has an objective smaller
        by more.
    grad_norm
        ``(...,)``, largest absolute entry of the gradient of L in the vectors, divided by the
        number of comparisons.
    iterations
        Newton steps; 0 where the maximum has a closed form.
    converged
        ``(...,)``, whether the gradient is within ``tolerance``: a stationary point. It is the
        global minimum if the gap is nil.
    """

    embedding: Array
    objective: Array
    gap: Array
    grad_norm: Array
    iterations: int
    converged: Array


def embedding_objective(embedding: Array, wins: Array, *, ridge: Array | float = 0.0) -> Array:
    r"""Return the penalised negative log-likelihood L of an embedding, in nats: ``(...,)``.

    Of vectors ``(..., n, 2k)`` on wins ``(..., n, n)``.
    """
    xp = array_namespace(embedding)
    misfit = xp.sum(wins * softplus(-score_matrix(embedding)), axis=(-2, -1))
    return misfit + 0.5 * ridge * xp.sum(embedding**2, axis=(-2, -1))


def embedding_lower_bound(
    scores: np.ndarray, wins: np.ndarray, *, ridge: float = 0.0
) -> np.ndarray:
    r"""Return a bound that the objective of no embedding can pass, in nats, ``(...,)``.

    It holds for every dimension.

    .. math:: \sum_{i<j} m_{ij} H(q_{ij}), \qquad
        q_{ij} = p_{ij} + \alpha (\sigma(S_{ij}) - p_{ij}), \qquad
        \alpha = \min\Big(1, \frac{\rho}{\|G\|_2}\Big)

    with :math:`m = W + W^\top`, :math:`p = W/m`, H the entropy of a coin and
    :math:`G = m(\sigma(S) - p)` the gradient: the value of the dual at the feasible multiple of G.
    Tight at the minimum; without a ridge it is the entropy of the labels.

    Parameters
    ----------
    scores
        S, any skew matrices ``(..., n, n)``; the nearer to the optimal ones, the better the bound.
    wins
        W, ``(..., n, n)``.
    ridge
        ρ >= 0.
    """
    total = wins + np.swapaxes(wins, -1, -2)
    share = np.divide(wins, total, out=np.full_like(total, 0.5), where=total > 0)
    away = sigmoid(scores) - share
    size = np.linalg.norm(total * away, 2, axis=(-2, -1))
    feasible = np.minimum(
        1.0,
        np.divide(ridge, size, out=np.full_like(size, 1.0 if ridge > 0 else 0.0), where=size > 0),
    )
    mixed = np.clip(share + feasible[..., None, None] * away, 0.0, 1.0)
    # Each pair stands in the sum twice, once with either share, and the entropy of a coin is the
    # sum of the two terms.
    return np.asarray((total * entr(mixed)).sum(axis=(-2, -1)))


def fit_preference_embedding(
    wins: Any,
    *,
    dim: int = 2,
    ridge: float = 0.0,
    starts: int = 4,
    seed: Seed = 0,
    tolerance: float = 1e-9,
    max_iterations: int = 300,
) -> EmbeddingResult:
    r"""Return the vectors that maximise the likelihood of pairwise counts.

    All members of a batch together.

    Where the vectors are long enough for any scores and there is no ridge, the maximum is exact and
    in closed form: the decomposition of the log-odds of the counts. Else damped Newton steps from
    the truncated decomposition and from random vectors, the best one returned.

    Parameters
    ----------
    wins
        ``(..., n, n)``: how often (or with what total weight) response i was preferred to j, zero
        on the diagonal.
    dim
        Length 2k of the vectors, even: 2 holds every Bradley–Terry model and every circle,
        ``2 * (n // 2)`` everything.
    ridge
        Precision ρ >= 0 of a normal prior on the entries of the vectors, in comparisons; with ρ > 0
        the maximum always exists.
    starts
        How many starting points are tried, >= 1.
    seed
        Of the random ones.
    tolerance
        Bound on ``grad_norm``.
    max_iterations
        Largest number of Newton steps.

    Returns
    -------
    EmbeddingResult

    Raises
    ------
    ValueError
        If the counts are none, ``dim`` is odd, or without a ridge a compared pair was always won by
        the same side: its log-odds, and with them the maximum, need not be finite.

    Warns
    -----
    ConvergenceWarning
        If ``max_iterations`` steps do not reach ``tolerance``.

    References
    ----------
    Zhang et al. 2024, section 4, arXiv:2410.02197. The nuclear norm of the shortest factors:
    Srebro, Rennie and Jaakkola 2004, "Maximum-margin matrix factorization"; the bound is derived.

    Examples
    --------
    A cycle in which each beats the next nine times out of ten, which no reward can tell from a
    coin:

    >>> result = fit_preference_embedding([[0, 9, 1], [1, 0, 9], [9, 1, 0]])
    >>> score_matrix(result.embedding).round(4) + 0.0
    array([[ 0.    ,  2.1972, -2.1972],
           [-2.1972,  0.    ,  2.1972],
           [ 2.1972, -2.1972,  0.    ]])
    >>> bool(result.gap < 1e-12)
    True
    """
    counts = as_float_array(wins, "wins")
    check_counts(counts, "wins")
    check_even(dim, "dim")
    check_nonnegative(ridge=ridge)
    check_integer(low=1, starts=starts, max_iterations=max_iterations)
    check_positive(tolerance=tolerance)
    if ridge == 0:
        _check_two_sided(counts)
    n, batch = counts.shape[-1], counts.shape[:-2]
    flat = counts.reshape(-1, n, n)
    # In shares of all comparisons the tolerance and the steps do not depend on the scale of the
    # counts.
    weight = np.maximum(flat.sum(axis=(-2, -1)), np.finfo(float).tiny)
    shares, penalty = flat / weight[:, None, None], ridge / weight
    embedding: Any
    if ridge == 0 and dim >= 2 * (n // 2):
        embedding, iterations = decompose_skew(_log_odds(flat, 0.0), dim=dim).embedding, 0
    else:
        embedding, iterations = _search(
            shares, penalty, dim, starts, seed, tolerance, max_iterations
        )
    scores = score_matrix(embedding)
    pull = shares * sigmoid(-scores)
    # The gradient of the loss in S is skew: dL/dv_i is its product with the rotated vectors.
    slope = np.swapaxes(pull, -1, -2) - pull
    grad_norm = np.abs(slope @ _turned(embedding) + penalty[:, None, None] * embedding).max(
        axis=(-2, -1), initial=0.0
    )
    objective: Any = embedding_objective(embedding, flat, ridge=ridge)
    gap = objective - embedding_lower_bound(scores, flat, ridge=ridge)
    converged = grad_norm <= tolerance
    if not converged.all():
        warn_caller(
            f"fit_preference_embedding stopped after {iterations} steps with a gradient of"
            f" {grad_norm.max():.3g} above tolerance = {tolerance:g}",
        )

    def back(part: np.ndarray) -> Array:
        return (
            like(part, wins) if is_torch_array(wins) and wins.is_floating_point() else asarray(part)
        )

    measures = (
        back(part.reshape(batch)[()]) for part in (objective, np.maximum(gap, 0.0), grad_norm)
    )
    value, excess, gradient = measures
    return EmbeddingResult(
        back(embedding.reshape(*batch, n, dim)),
        value,
        excess,
        gradient,
        iterations,
        converged.reshape(batch)[()],
    )


def _turned(embedding: Array) -> Array:
    """Return the vectors K v, the change of the scores with the other vector of a pair.

    The scores are :math:`v_i^T K v_j`.
    """
    xp = array_namespace(embedding)
    return xp.reshape(
        xp.stack([embedding[..., 1::2], -embedding[..., 0::2]], axis=-1), tuple(embedding.shape)
    )


def _hessian(embedding: Array, wins: Array, ridge: Array) -> Array:
    """Return the second derivatives of the objective, ``(B, n 2k, n 2k)``."""
    xp = array_namespace(embedding)
    problems, n, dim = embedding.shape
    scores = score_matrix(embedding)
    pull = wins * sigmoid(-scores)
    slope = xp.matrix_transpose(pull) - pull
    curvature = pull * sigmoid(scores)
    curvature = curvature + xp.matrix_transpose(curvature)
    turned = _turned(embedding)
    like = {"dtype": embedding.dtype, "device": embedding.device}
    turn = xp.matrix_transpose(_turned(xp.eye(dim, **like)))
    # Through one vector twice, through both by the product of slopes, and through both by the form
    # itself.
    own = xp.matrix_transpose(turned)[:, None] @ (curvature[..., None] * turned[:, None]) + ridge[
        :, None, None, None
    ] * xp.eye(dim, **like)
    cross = (
        slope[..., None, None] * turn
        - curvature[..., None, None] * turned[:, None, :, :, None] * turned[:, :, None, None, :]
    )
    blocks = cross + xp.eye(n, **like)[:, :, None, None] * own[:, :, None]
    return xp.reshape(xp.permute_dims(blocks, (0, 1, 3, 2, 4)), (problems, n * dim, n * dim))


def _check_two_sided(counts: np.ndarray) -> None:
    one_sided = (counts > 0) & (np.swapaxes(counts, -1, -2) == 0)
    if one_sided.any():
        where = tuple(int(i) for i in np.argwhere(one_sided)[0])
        raise ValueError(
            "without a ridge every compared pair must have been won by both sides, but the first"
            f" of the pair at index {where} always won: log-odds would grow without bound; pass"
            " ridge > 0"
        )


def _log_odds(counts: np.ndarray, lent: float) -> np.ndarray:
    """Return the log-odds of counts, 0 where a pair was not compared.

    Both sides are lent ``lent`` comparisons, as a share of the pair's.
    """
    total = counts + np.swapaxes(counts, -1, -2)
    compared = total > 0
    logs = np.log(np.where(compared, counts + lent * total, 1.0))
    return np.asarray(logs - np.swapaxes(logs, -1, -2))


def _search(
    shares: np.ndarray,
    penalty: np.ndarray,
    dim: int,
    starts: int,
    seed: Seed,
    tolerance: float,
    max_iterations: int,
) -> tuple[np.ndarray, int]:
    """Return the best embedding ``(B, n, dim)`` over all starts, and the steps taken.

    All starts are one batch.
    """
    import torch

    problems, n = shares.shape[:-1]
    first = decompose_skew(_log_odds(shares, LENT), dim=dim).embedding
    others = START_SPREAD * random_generator(seed).standard_normal((starts - 1, problems, n, dim))
    points = torch.as_tensor(
        np.concatenate([first[None], others]).reshape(starts * problems, n * dim)
    )
    weights = torch.as_tensor(shares).repeat(starts, 1, 1)
    ridges = torch.as_tensor(penalty).repeat(starts)

    def objective(theta: Any) -> Any:
        return embedding_objective(theta.reshape(-1, n, dim), weights, ridge=ridges)

    def hessian(theta: Any) -> Any:
        return _hessian(theta.reshape(-1, n, dim), weights, ridges)

    fitted = minimise(
        objective, points, tolerance=tolerance, max_iterations=max_iterations, hessian=hessian
    )
    best = fitted.value.reshape(starts, problems).argmin(dim=0)
    return (
        fitted.parameters.reshape(starts, problems, n, dim)[best, torch.arange(problems)].numpy(),
        fitted.iterations,
    )
