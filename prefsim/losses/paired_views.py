r"""Contrastive terms on two views of each of n representations, beside the loss of a reward model.

A view is a representation under one draw of dropout. SimCSE tells the other view of a response from
those of other responses; SwAV predicts the cluster of one view from the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_torch_array

from prefsim.checks import (
    as_floats,
    check_entries,
    check_integer,
    check_positive,
    check_same_shape,
    check_shape,
)
from prefsim.containers import ClassLogits
from prefsim.losses.contrastive import infonce
from prefsim.numerics import array_namespace, like, log_softmax, over_rows, to_numpy
from prefsim.typing import Array, ArrayT, Number

__all__ = ["simcse", "sinkhorn_codes", "swapped_prediction"]


class _Views(NamedTuple):
    first: Any
    second: Any


def _views(first: Any, second: Any) -> _Views:
    """Return two views ``(..., n, d)`` of one shape, in floating point and of one library."""
    views = _Views(*as_floats(first=first, second=second))
    check_same_shape(first=views.first, second=views.second)
    check_shape(views.first, "first", (None, None))
    return views


def _unit(view: Any, name: str) -> Any:
    xp = array_namespace(view)
    length = xp.sqrt(xp.sum(view * view, axis=-1, keepdims=True))
    check_entries(length, f"length of {name}", "be > 0", lambda x: x > 0)
    return view / length


def simcse(first: ArrayT, second: ArrayT, *, temperature: Number = 0.05) -> ArrayT:
    r"""Contrast of two views of each representation, by the cosine of the angle between them.

    .. math::
        -\log\frac{e^{\cos(h_i, h_i^+)/\tau}}{\sum_j e^{\cos(h_i, h_j^+)/\tau}}

    :func:`prefsim.losses.infonce` of the cosines, whose positives are on the diagonal.

    Parameters
    ----------
    first, second
        h and h⁺, ``(..., n, d)``: of the responses, or of the differences of chosen and rejected.
    temperature
        τ > 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If shapes differ, ``temperature`` is out of range, or a representation is zero.

    References
    ----------
    Gao, Yao, Chen 2021, eq. 1, arXiv:2104.08821. Beside a reward model: Wang et al. 2024,
    arXiv:2401.06080 (its temperature is not known to us).

    Examples
    --------
    >>> import numpy as np
    >>> second = np.asarray([[0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]])
    >>> simcse(np.eye(3), second, temperature=0.5).round(8)
    array([0.62712306, 0.46037255, 0.33917788])
    """
    h, other = _views(first, second)
    xp = array_namespace(h)
    cosine = _unit(h, "first") @ xp.matrix_transpose(_unit(other, "second"))
    n = cosine.shape[-1]
    label = xp.broadcast_to(xp.arange(n, device=h.device), tuple(cosine.shape[:-1]))
    return infonce(ClassLogits(cosine, label), temperature=temperature)


def sinkhorn_codes(scores: ArrayT, *, temperature: float = 0.05, iterations: int = 3) -> ArrayT:
    r"""Return soft assignments of n representations to K prototypes that use all of them equally.

    .. math:: \max_Q \; \langle Q, S\rangle + \epsilon H(Q)

    over the assignments that give each representation a total of 1 and each prototype n/K, by
    Sinkhorn's iterations in logarithms. The last of each iteration is over the representations, so
    that their rows are distributions however few there are.

    Parameters
    ----------
    scores
        S, ``(..., n, K)``; cosines with the prototypes.
    temperature
        ε > 0.
    iterations
        At least 1.

    Returns
    -------
    Array ``(..., n, K)``, rows that sum to one. A constant of differentiation.

    Raises
    ------
    ValueError
        If a score is not finite or an option out of range.

    References
    ----------
    Caron et al. 2020, eq. 3, arXiv:2006.09882, with its ε and its three iterations. The iterations
    are those of POT, ``ot.bregman.sinkhorn_log``.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.asarray([[0.9, 0.1], [0.8, 0.3], [0.7, 0.6]])
    >>> sinkhorn_codes(scores, temperature=0.5, iterations=50).sum(axis=0).round(6)
    array([1.5, 1.5])
    """
    from ot.bregman import sinkhorn_log

    check_positive(temperature=temperature)
    check_integer(low=1, iterations=iterations)
    (scores,) = as_floats(scores=scores)
    check_shape(scores, "scores", (None, None))
    check_entries(scores, "scores", "be finite", np.isfinite)
    table = to_numpy(scores).astype(np.float64)
    n, k = table.shape[-2:]
    samples, prototypes = np.full(n, 1 / n), np.full(k, 1 / k)
    plans = [
        sinkhorn_log(
            samples,
            prototypes,
            -each,
            temperature,
            numItermax=iterations,
            stopThr=0.0,
            warn=False,
        )
        for each in table.reshape(-1, n, k)
    ]
    codes: Any = like(n * np.reshape(plans, table.shape), scores)
    return codes


def swapped_prediction(
    first: ArrayT,
    second: ArrayT,
    *,
    temperature: Number = 0.1,
    first_codes: Array | None = None,
    second_codes: Array | None = None,
) -> ArrayT:
    r"""Prediction of the code of each view from the other one's scores.

    .. math:: -\sum_k q^{(2)}_k \log p^{(1)}_k - \sum_k q^{(1)}_k \log p^{(2)}_k,
        \qquad p = \mathrm{softmax}(s/\tau)

    Its least value is the sum of the entropies of both codes.

    Parameters
    ----------
    first, second
        Scores s of both views with K prototypes, ``(..., n, K)``.
    temperature
        τ > 0.
    first_codes, second_codes
        q of each view, ``(..., n, K)``, constants: :func:`sinkhorn_codes` of its scores unless
        given.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If shapes do not fit, ``temperature`` is out of range, or a code is no distribution.

    References
    ----------
    Caron et al. 2020, eq. 2, arXiv:2006.09882. Beside a reward model: Wang et al. 2024,
    arXiv:2401.06080.

    Examples
    --------
    >>> import numpy as np
    >>> scores, even = np.zeros((2, 4)), np.full((2, 4), 0.25)
    >>> swapped_prediction(scores, scores, first_codes=even, second_codes=even).round(6)
    array([2.772589, 2.772589])
    """
    check_positive(arrays=True, temperature=temperature)
    views = _views(first, second)
    codes = (first_codes, second_codes)
    one, other = (
        sinkhorn_codes(view) if code is None else _as_codes(code, view, name)
        for code, view, name in zip(codes, views, ("first_codes", "second_codes"), strict=True)
    )
    xp = array_namespace(views.first)
    # A temperature may be one of each row.
    log_p = _Views(*(log_softmax(view / over_rows(temperature)) for view in views))
    return -xp.sum(other * log_p.first + one * log_p.second, axis=-1)


def _as_codes(code: Any, view: Any, name: str) -> Any:
    (given,) = as_floats(**{name: code})
    check_same_shape(scores=view, **{name: given})
    check_entries(given, name, "be >= 0", lambda x: x >= 0)
    xp = array_namespace(given)
    total = xp.sum(given, axis=-1)
    check_entries(total, f"sum of a row of {name}", "be 1", lambda x: np.abs(x - 1) <= 1e-9)
    return like(given.detach() if is_torch_array(given) else given, view)
