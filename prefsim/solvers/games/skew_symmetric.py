r"""Skew-symmetric scores of preferences.

Their exact decomposition into vectors, and play against them.

A skew matrix S has eigenvalues :math:`\pm i\lambda_l`, and its planes of rotation give a vector of
:math:`2k` numbers to each response such that
:math:`S_{ij} = \sum_{l \le k} (v_{i,2l} v_{j,2l+1} - v_{i,2l+1} v_{j,2l})`, with 2k the rank of S
and no less.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import to_numpy
from prefsim.checks import (
    alike,
    check_even,
    check_integer,
    check_nonnegative,
    check_positive,
    check_preference,
    check_shape,
    check_skew,
    names_shapes,
    tolerance_of,
)
from prefsim.numerics import array_namespace
from prefsim.raters.embedding import score_matrix
from prefsim.solvers.games.certificates import mirror_step, payoff
from prefsim.solvers.games.game_input import real_array
from prefsim.typing import Array, ArrayT

__all__ = ["SkewDecomposition", "decompose_skew", "gpo_update", "preference_scores"]


@readable
class SkewDecomposition(NamedTuple):
    r"""Vectors whose skew products are given scores, and how exact they are.

    Attributes
    ----------
    embedding
        ``(..., n, 2k)``, for :func:`prefsim.raters.score_matrix`; any rotation within a pair of
        coordinates serves as well.
    strengths
        :math:`\lambda_1 \ge \lambda_2 \ge \dots \ge 0`, all ``(..., n // 2)``: the squared length
        of each pair of columns.
    rank
        ``(...,)``, integers: rank of the scores, an even number and the least dimension that
        represents them.
    residual
        ``(...,)``, largest entry of the difference between the scores and those of the embedding.
    tail
        ``(...,)``, spectral norm of that difference in exact arithmetic: the largest strength left
        out, 0 if none was. No embedding of this dimension has a smaller one, and none a smaller
        Frobenius norm.
    converged
        ``(...,)``, whether the residual is at most the tail, up to rounding.
    """

    embedding: Array
    strengths: Array
    rank: Array
    residual: Array
    tail: Array
    converged: Array


def preference_scores(preference: Any) -> Array:
    r"""Return the scores :math:`S_{ij} = \log P_{ij} - \log P_{ji}`, the log-odds of preferences.

    Shape ``(..., n, n)``, skew to the last bit.

    Parameters
    ----------
    preference
        ``(..., n, n)`` with ``P + Pᵀ = 1``, every entry > 0.

    Raises
    ------
    ValueError
        If the matrix is none of preferences, or one of them is certain: its log-odds are infinite
        and no embedding has them. Certain preferences have an embedding with the right signs,
        ``decompose_skew(2 * preference - 1)``.

    Examples
    --------
    >>> preference_scores([[0.5, 0.9], [0.1, 0.5]]).round(4)
    array([[ 0.    ,  2.1972],
           [-2.1972,  0.    ]])
    """
    matrix = real_array(preference, "preference")
    table = to_numpy(matrix)
    check_preference(table, tolerance=tolerance_of(matrix))
    if (table <= 0).any():
        where = tuple(int(i) for i in np.argwhere(table <= 0)[0])
        raise ValueError(
            f"preference must be > 0 everywhere for finite log-odds, got {table[where]} at index"
            f" {where}"
        )
    xp = array_namespace(matrix)
    logs = xp.log(matrix)
    return logs - xp.matrix_transpose(logs)


def decompose_skew(
    scores: Any, *, dim: int | None = None, rtol: float | None = None
) -> SkewDecomposition:
    r"""Decompose skew-symmetric scores into one vector for each response.

    All matrices of a batch together.

    Parameters
    ----------
    scores
        ``(..., n, n)`` with ``S + Sᵀ = 0``, such as :func:`preference_scores`.
    dim
        Length 2k of the vectors, even: exact from the rank on, the best approximation below it.
        ``2 * max(1, n // 2)`` unless given, which is enough for every skew matrix.
    rtol
        Strengths up to this share of the largest count as zero in ``rank``; ``10 n`` roundings
        unless given.

    Returns
    -------
    SkewDecomposition

    Raises
    ------
    ValueError
        If the scores are not finite or not skew, or ``dim`` is odd.

    References
    ----------
    Zhang et al. 2024, arXiv:2410.02197 (expressiveness of the model); the eigenvectors of the
    Hermitian matrix iS are those of the real Schur form of S. Best approximation: Eckart and Young
    1936, with the singular values of S, each strength twice.

    Examples
    --------
    >>> rock_paper_scissors = [[0, 2, -2], [-2, 0, 2], [2, -2, 0]]
    >>> vectors = decompose_skew(rock_paper_scissors)
    >>> (
    ...     vectors.embedding.shape,
    ...     int(vectors.rank),
    ...     vectors.strengths.round(4),
    ...     bool(vectors.residual < 1e-12),
    ... )
    ((3, 2), 2, array([3.4641]), True)
    """
    matrix = real_array(scores, "scores")
    check_skew(to_numpy(matrix), "scores", tolerance=tolerance_of(matrix))
    xp = array_namespace(matrix)
    n = matrix.shape[-1]
    eps = float(xp.finfo(matrix.dtype).eps)
    if dim is None:
        dim = 2 * max(1, n // 2)
    check_even(dim, "dim")
    if rtol is None:
        rtol = 10.0 * n * eps
    check_nonnegative(rtol=rtol)
    planes = n // 2
    kept = min(dim // 2, planes)
    complex_dtype = xp.complex64 if matrix.dtype == xp.float32 else xp.complex128
    values, vectors = xp.linalg.eigh(xp.astype(matrix, complex_dtype) * 1j)
    # Eigenvalues of iS come as ±λ in rising order; a vector x + iy of +λ stands for the plane 2λ (y
    # xᵀ − x yᵀ).
    strengths = xp.flip(xp.clip(values[..., n - planes :], 0.0, None), axis=-1)
    vectors = xp.flip(vectors[..., n - planes :], axis=-1)[..., :kept]
    length = xp.sqrt(2.0 * strengths[..., :kept])[..., None, :]
    pairs = xp.stack([xp.imag(vectors) * length, xp.real(vectors) * length], axis=-1)
    embedding = xp.reshape(pairs, (*matrix.shape[:-1], 2 * kept))
    if 2 * kept < dim:
        rest = xp.zeros(
            (*matrix.shape[:-1], dim - 2 * kept), dtype=matrix.dtype, device=matrix.device
        )
        embedding = xp.concat([embedding, rest], axis=-1)
    zero = xp.zeros(matrix.shape[:-2], dtype=matrix.dtype, device=matrix.device)
    largest = strengths[..., 0] if planes else zero
    tail = strengths[..., kept] if kept < planes else zero
    rank = 2 * xp.sum(xp.astype(strengths > rtol * largest[..., None], xp.int64), axis=-1)
    residual = xp.max(xp.abs(matrix - score_matrix(embedding)), axis=(-2, -1))
    return SkewDecomposition(
        embedding, strengths, rank, residual, tail, residual <= tail + 100.0 * n * eps * largest
    )


@names_shapes
def gpo_update(log_policy: ArrayT, scores: Array, *, beta: float) -> ArrayT:
    r"""Return one exact step of general preference optimisation.

    It is multiplicative weights on scores in place of probabilities.

    .. math:: \pi_{t+1}(y) \propto \pi_t(y)\, e^{s(y \succ \pi_t)/\beta},\qquad
        s(y \succ \pi_t) = \sum_{y'} \pi_t(y')\, s(y \succ y')

    It is the step of ``"mwu"`` in :func:`prefsim.solvers.solve_nash` with step :math:`2M/\beta` on
    the game :math:`P = \tfrac12 + S/2M`, for any bound M of the scores, so that its certificates
    and bounds are those of that game.

    Parameters
    ----------
    log_policy
        ``(..., n)`` in nats.
    scores
        Skew, ``(..., n, n)``.
    beta
        Inverse step, > 0, in the unit of the scores.

    Returns
    -------
    Array ``(..., n)``: normalised log-probabilities in nats.

    References
    ----------
    Zhang et al. 2024, section 5, arXiv:2410.02197.

    Examples
    --------
    >>> import numpy as np
    >>> S = np.asarray([[0.0, -1.35, 0.34], [1.35, 0.0, -0.06], [-0.34, 0.06, 0.0]])
    >>> np.exp(gpo_update(np.log([0.4, 0.4, 0.2]), S, beta=0.5)).round(10)
    array([0.10619913, 0.78471135, 0.10908951])
    """
    check_positive(beta=beta)
    log_policy, scores = alike(log_policy=log_policy, scores=scores)
    check_shape(log_policy, "log_policy", (None,))
    n = log_policy.shape[-1]
    check_integer(low=1, n=n)
    check_shape(scores, "scores", (n, n))
    return mirror_step(
        log_policy,
        None,
        payoff(scores, array_namespace(log_policy).exp(log_policy)),
        step=1.0 / beta,
    )
