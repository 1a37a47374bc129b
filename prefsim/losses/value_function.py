"""The loss of a value function: what it said before each token against what came of it."""

from __future__ import annotations

import math

from prefsim.checks import check_choice, check_interval, check_same_shape
from prefsim.containers import TokenValues
from prefsim.losses.advantages import check_responses
from prefsim.losses.clipped import REDUCTIONS, reduced
from prefsim.losses.edge import checked
from prefsim.losses.pair_fields import check_last_axis
from prefsim.numerics import array_namespace, stop_gradient
from prefsim.typing import ArrayT

__all__ = ["value_loss"]


@checked
def value_loss(
    tokens: TokenValues[ArrayT], *, clip: float = 0.2, reduction: str = "batch"
) -> ArrayT:
    r"""Clipped squared error of a value function on K drawn responses to one prompt.

    .. math:: \tfrac12\max\big((V - G)^2,\;
        (V_{old} + \mathrm{clip}(V - V_{old}, \pm\epsilon) - G)^2\big)

    at every token.

    Parameters
    ----------
    tokens
        Values and returns; the returns and the old values are constants of differentiation.
    clip
        ε, how far a value may move for its error to fall, in (0, inf]; ``math.inf`` does not clip.
    reduction
        ``"batch"``, ``"response"`` or ``"sum"``, see :func:`prefsim.losses.reduced`.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If an option is out of range, shapes differ or a response has no token.

    References
    ----------
    Schulman et al. 2017, arXiv:1707.06347, in the clipped form of the authors' ``baselines``.

    Examples
    --------
    >>> import numpy as np
    >>> values, old, returns = (np.full((1, 1, 1), x) for x in (0.7, 0.2, 1.0))
    >>> value_loss(TokenValues(values, returns, np.ones((1, 1, 1), bool), old)).round(12)
    array([0.18])
    """
    check_interval(low=0.0, high=math.inf, closed="right", clip=clip)
    check_choice(REDUCTIONS, reduction=reduction)
    check_same_shape(**tokens._asdict())
    check_last_axis(tokens.values, "values", "token")
    check_responses(tokens.mask)
    xp = array_namespace(tokens.values)
    zero = xp.zeros_like(tokens.values)
    now = xp.where(tokens.mask, tokens.values, zero)
    target = stop_gradient(xp.where(tokens.mask, tokens.returns, zero))
    error = (now - target) ** 2
    if tokens.old_values is not None:
        old = stop_gradient(xp.where(tokens.mask, tokens.old_values, zero))
        near = old + xp.clip(now - old, -clip, clip)
        error = xp.maximum(error, (near - target) ** 2)
    return reduced(0.5 * error, tokens.mask, reduction=reduction)
