"""Whether a search ended at a minimum, or on its way to one that does not exist.

The gradient vanishes at both. Near a minimum a Newton step is next to nothing, and a few of them
lead beyond it; where an objective falls towards a limit that it never reaches, the step is as long
as ever, and the objective still falls after many of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefsim.solvers.optimisers.newton import value_and_gradient

__all__ = ["falls_for_ever"]

Tensor = Any

# Share of the way from the start above which a last step is none of rounding. An exponential tail
# makes it about one part in thirty, a Gaussian one in a hundred; at a minimum it is below 1e-8.
LONG_STEP = 1e-4
# Of the size of the start: the way of what no log-odds of a policy reach.
FAR = 1e5
# Steps made along the ray. A minimum of order k lies k − 1 Newton steps away.
STEPS = (1.0, 2.0, 4.0)
# Steps back along the ray, where a slope is looked for that rounding does not hide.
BACK = tuple(2.0**k for k in range(7))
BACK_FINELY = tuple(2.0 ** (k / 2) for k in range(13))
# Roundings of the value that a step must promise to gain.
ROUNDINGS = 8.0
# Of that: a slope which is there.
BEFORE = 100.0
# Share of the value at the start below which nothing but a tail gets at the distance of a step: a
# minimum of zero is not that flat, and a kink is not met so closely.
TAIL = 1e-30


def falls_for_ever(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    end: Tensor,
    step: Tensor,
) -> Tensor:
    """Return which problems still fall where the search for their minimum ended, ``(B,)``.

    Parameters
    ----------
    objective
        ``(B, D) -> (B,)``.
    start, end, step
        Where the search began and ended, and its last step, ``(B, D)``.
    """
    import torch

    def slope(at: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient, _ = value_and_gradient(objective, at)
        return value, (gradient * step).nan_to_num().sum(dim=-1)

    way, step = (end - start).nan_to_num(), step.nan_to_num()
    length = way.abs().amax(dim=-1)
    # What has gone so far is judged by where it went: its last step may have been refused.
    far = length > FAR * (1 + start.nan_to_num().abs().amax(dim=-1))
    step = torch.where(far[:, None], way, step)
    # A step below the rounding of what it is added to leads nowhere, however short the way was.
    leads = (step.abs() > ROUNDINGS * torch.finfo(end.dtype).eps * end.abs()).any(dim=-1)
    suspect = leads & (step.abs().amax(dim=-1) > LONG_STEP * length)
    if not bool(suspect.any()):
        return suspect
    value, first = slope(end)
    rounding = ROUNDINGS * torch.finfo(end.dtype).eps * value.abs()
    seen = -first > rounding
    falls = suspect & seen
    for times in STEPS:
        if not bool(falls.any()):
            break
        falls &= slope(end + times * step)[1] < 0
    # A search that went on until rounding hides the slope stood before it on the way: what fell to
    # here, and has not risen as far again beyond, has no minimum in between.
    hidden = suspect & ~seen & (first < rounding)
    for times in BACK:
        if not bool(hidden.any()):
            break
        fell = hidden & (-slope(end - times * step)[1] > BEFORE * rounding)
        hidden &= ~fell
        for further in (*STEPS, 2 * times + STEPS[-1]):
            if not bool(fell.any()):
                break
            fell &= slope(end + further * step)[1] < rounding
        falls |= fell
    # A tail may end in an underflow, beyond which no slope is left to be seen. At the end itself a
    # minimum of zero is as small: only a tail is so a step before.
    least = TAIL * objective(start).detach().abs()
    for times in BACK_FINELY:
        ended = suspect & ~falls & (value.abs() < least)
        if not bool(ended.any()):
            break
        before, at = slope(end - times * step)
        falls |= ended & (before > 0) & (before < least) & (at < 0)
    return falls
