"""The KL-regularised worst case whose temperature is itself the worst one near a given value."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from prefsim.backend import like, to_numpy
from prefsim.checks import check_positive
from prefsim.losses.dro import kl_dro, kl_dro_dual
from prefsim.losses.example_state import scattered
from prefsim.numerics import (
    array_namespace,
    widened,
)
from prefsim.numerics import stop_gradient as constant
from prefsim.typing import Array, ArrayT

__all__ = ["AdaptiveKlDro", "adaptive_kl_dro"]

# Candidate temperatures for the rows whose stationary temperature may not be unique, and a bound on
# the memory of one evaluation on that grid.
GRID = 513
GRID_ELEMENTS = 1 << 22


class AdaptiveKlDro(NamedTuple):
    """A worst case over distributions and temperature.

    Attributes
    ----------
    value
        ``(...)``; its first derivative in the scores is exact, because the temperature is a
        maximiser (envelope theorem).
    lambda_
        The maximising temperature, ``(...)``, a constant of differentiation.
    residual
        Certificate: distance of ``lambda_`` from its stationary point λ₀(1 − KL/α), cut to [0, λ₀],
        over λ₀.
    """

    value: Array
    lambda_: Array
    residual: Array


def adaptive_kl_dro(scores: Array, *, lambda_0: float, alpha: float) -> AdaptiveKlDro:
    r"""Return the worst case over distributions and over a temperature kept near ``lambda_0``.

    .. math:: \max_{\lambda \ge 0} \; \lambda \log \tfrac1K \sum_k e^{v_k/\lambda}
        - \frac{\alpha}{2\lambda_0} (\lambda - \lambda_0)^2

    Parameters
    ----------
    scores
        ``(..., K)``.
    lambda_0
        Temperature of equal scores, > 0 and finite.
    alpha
        Strength of the pull towards ``lambda_0``, > 0. Above log K the maximiser stays above λ₀(1 −
        log K/α) > 0.

    Returns
    -------
    AdaptiveKlDro

    Raises
    ------
    ValueError
        If ``lambda_0`` or ``alpha`` is not a finite number > 0.

    Notes
    -----
    The objective in λ is not concave. Its stationary points are the fixed points of the increasing
    map T(λ) = λ₀(1 − KL(p_λ‖1/K)/α), so iterating T from both ends encloses all of them; where the
    two iterations meet, that point is the global maximiser. The other rows are searched on a
    geometric grid of 513 temperatures, and the two highest peaks are bisected.

    References
    ----------
    Zhu, Ying, Yang 2023, ALDR-KL, arXiv:2112.14869.

    Examples
    --------
    >>> import numpy as np
    >>> result = adaptive_kl_dro(
    ...     np.asarray([0.0, -1.0, -1.5, -3.0]), lambda_0=1.0, alpha=2 * np.log(4)
    ... )
    >>> round(float(result.value), 10), round(float(result.lambda_), 10)
    (-0.8592454611, 0.8254381448)
    """
    check_positive(lambda_0=lambda_0, alpha=alpha)
    xp = array_namespace(scores)
    x = widened(scores)
    rows = xp.reshape(constant(x), (-1, x.shape[-1]))
    best = xp.reshape(_best_temperature(rows, float(lambda_0), float(alpha)), tuple(x.shape[:-1]))
    value = _objective(x, best, lambda_0, alpha)
    residual = xp.abs(_next_temperature(constant(x), best, lambda_0, alpha) - best) / lambda_0
    return AdaptiveKlDro(
        *(xp.astype(part, scores.dtype, copy=False) for part in (value, best, residual))
    )


def _next_temperature(rows: ArrayT, lambda_: Array, lambda_0: float, alpha: float) -> ArrayT:
    """Return T(λ) of the map T, whose fixed points are stationary.

    The objective rises in λ where T(λ) > λ.
    """
    xp = array_namespace(rows)
    target = lambda_0 * (1 - kl_dro_dual(rows, lambda_=lambda_).divergence / alpha)
    return xp.where(target < 0, xp.zeros_like(target), target)


def _objective(rows: ArrayT, lambda_: Array, lambda_0: float, alpha: float) -> ArrayT:
    return kl_dro(rows, lambda_=lambda_) - alpha / (2 * lambda_0) * (lambda_ - lambda_0) ** 2


def _best_temperature(rows: ArrayT, lambda_0: float, alpha: float, *, steps: int = 32) -> ArrayT:
    """Return the maximising temperature of every row of ``(n, K)``."""
    xp = array_namespace(rows)
    _, outcomes = rows.shape
    tolerance = 64 * float(xp.finfo(rows.dtype).eps) * lambda_0
    top = xp.full_like(rows[:, 0], lambda_0)
    ends = xp.stack([max(0.0, 1 - math.log(outcomes) / alpha) * top, top], axis=-1)
    for _ in range(steps):
        ends = _next_temperature(rows[:, None, :], ends, lambda_0, alpha)
        open_ = to_numpy(ends[:, 1] - ends[:, 0] > tolerance)
        if not open_.any():
            break
    best = 0.5 * (ends[:, 0] + ends[:, 1])
    (places,) = np.nonzero(open_)
    if places.size == 0:
        return best
    block = max(1, GRID_ELEMENTS // (GRID * outcomes))
    parts = []
    for start in range(
        0, len(places), block
    ):  # blocks bound the memory; one block is the usual case
        some = like(places[start : start + block], rows, integer=True)
        parts.append(
            _search(xp.take(rows, some, axis=0), xp.take(ends, some, axis=0), lambda_0, alpha)
        )
    return scattered(best, places, xp.concat(parts, axis=0))


def _search(rows: ArrayT, ends: Array, lambda_0: float, alpha: float) -> ArrayT:
    """Return the global maximiser between ``ends`` ``(n, 2)``.

    The higher of the two best maxima that a geometric grid separates.
    """
    xp = array_namespace(rows)
    wide, low, high = rows[:, None, :], ends[:, :1], ends[:, 1:]
    # Softmax weights change with the logarithm of the temperature, so that is where the grid is
    # even.
    start = xp.maximum(low, 1e-9 * high)
    grid = start * (high / start) ** like(np.linspace(0.0, 1.0, GRID), rows)
    # The sign of the slope tells a maximum on any scale; heights of close neighbours differ by
    # rounding alone.
    rising = _next_temperature(wide, grid, lambda_0, alpha) > grid
    first, last = xp.ones_like(rising[:, :1]), xp.zeros_like(rising[:, :1])
    crossing = xp.concat([first, rising[:, 1:-1]], axis=-1) & ~xp.concat(
        [rising[:, 1:-1], last], axis=-1
    )
    heights = _objective(wide, grid, lambda_0, alpha)
    heights = xp.where(
        crossing,
        xp.maximum(heights[:, :-1], heights[:, 1:]),
        xp.full_like(heights[:, 1:], -math.inf),
    )
    best = xp.argmax(heights, axis=-1, keepdims=True)
    rest = xp.where(
        xp.arange(GRID - 1, device=rows.device)[None, :] == best,
        xp.full_like(heights, -math.inf),
        heights,
    )
    second = xp.argmax(rest, axis=-1, keepdims=True)
    second = xp.where(xp.isfinite(xp.take_along_axis(rest, second, axis=-1)), second, best)
    candidates = _bisect(wide, grid, xp.concat([best, second], axis=-1), lambda_0, alpha)
    # Only temperature 0 is no stationary point; any other lower end is an unfinished iteration
    # towards one.
    candidates = xp.concat([candidates, xp.where(low == 0, low, candidates[:, :1])], axis=-1)
    winner = xp.argmax(_objective(wide, candidates, lambda_0, alpha), axis=-1, keepdims=True)
    return xp.take_along_axis(candidates, winner, axis=-1)[:, 0]


def _bisect(wide: ArrayT, grid: Array, cells: Array, lambda_0: float, alpha: float) -> ArrayT:
    """Return the stationary temperatures in cells of the grid.

    The objective rises at a cell's lower end and falls at its upper.
    """
    xp = array_namespace(wide)
    low, high = (
        xp.take_along_axis(grid, cells, axis=-1),
        xp.take_along_axis(grid, cells + 1, axis=-1),
    )
    for _ in range(math.ceil(-math.log2(float(xp.finfo(wide.dtype).eps)))):
        middle = 0.5 * (low + high)
        rising = _next_temperature(wide, middle, lambda_0, alpha) > middle
        low, high = xp.where(rising, middle, low), xp.where(rising, high, middle)
    return 0.5 * (low + high)
