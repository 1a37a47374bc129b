"""The clipped ratio of policy gradients, and how tokens are averaged."""

from __future__ import annotations

import math

from prefsim.checks import check_choice, check_interval, check_same_shape
from prefsim.losses.advantages import with_mask
from prefsim.losses.tokenwise import masked_sum
from prefsim.numerics import array_namespace, bounded_exp, stop_gradient
from prefsim.typing import Array, ArrayT

__all__ = ["REDUCTIONS", "check_clip", "clipped_loss", "reduced"]

REDUCTIONS = ("batch", "response", "sum")


def check_clip(clip_low: float, clip_high: float) -> None:
    """Raise unless both bounds of a clipped ratio are in (0, inf]."""
    check_interval(low=0.0, high=math.inf, closed="right", clip_low=clip_low, clip_high=clip_high)


def clipped_loss(
    log_ratio: ArrayT, advantage: ArrayT, *, clip_low: float, clip_high: float
) -> ArrayT:
    """Return the larger of the two costs of each step; the advantage is held constant."""
    xp = array_namespace(log_ratio)
    ratio, gain = bounded_exp(log_ratio), stop_gradient(advantage)
    near = xp.clip(ratio, 1 - clip_low, 1 + clip_high)
    return xp.maximum(-gain * ratio, -gain * near)


def reduced(values: ArrayT, mask: Array, *, reduction: str) -> ArrayT:
    """Return the values of tokens ``(..., n, K, T)`` as one value per prompt, ``(..., n)``.

    Parameters
    ----------
    values, mask
        ``(..., n, K, T)``; what lies behind the mask may hold anything.
    reduction
        ``"batch"``: the mean over the prompts is that over all tokens of the batch, so that every
        token counts alike and the value of a prompt depends on the others of its batch;
        ``"response"``: mean over the tokens of each response, then over responses, so that tokens
        of long responses count less; ``"sum"``: mean over responses of the sum of their tokens, the
        only one whose expected gradient is that of an expected reward where lengths differ.

    Raises
    ------
    ValueError
        If ``reduction`` is unknown.

    References
    ----------
    ``"batch"``: Ivison et al. 2024, arXiv:2406.09279; ``"response"``: Shao et al. 2024,
    arXiv:2402.03300; ``"sum"``, up to a constant: Liu et al. 2025 (Dr. GRPO), arXiv:2503.20783.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.asarray([[[1.0, 1.0, 4.0], [2.0, 0.0, 0.0]]])
    >>> mask = np.asarray([[[True, True, True], [True, False, False]]])
    >>> [reduced(values, mask, reduction=how) for how in ("batch", "response", "sum")]
    [array([2.]), array([2.]), array([4.])]
    """
    check_choice(REDUCTIONS, reduction=reduction)
    values, mask = with_mask(mask, values=values)
    check_same_shape(values=values, mask=mask)
    xp = array_namespace(values)
    sums = masked_sum(values, mask)
    k = max(sums.shape[-1], 1)
    if reduction == "sum":
        return xp.sum(sums, axis=-1) / k
    tokens = xp.sum(xp.astype(mask, values.dtype), axis=-1)
    if reduction == "response":
        return xp.sum(sums / xp.where(tokens > 0, tokens, xp.ones_like(tokens)), axis=-1) / k
    prompts = sums.shape[-2]
    total = xp.sum(tokens, axis=(-2, -1))[..., None]
    return prompts * xp.sum(sums, axis=-1) / xp.where(total > 0, total, xp.ones_like(total))
