"""Which reference a loss is relative to: said by whoever trains, never guessed."""

from __future__ import annotations

import functools
from typing import Any, Final

from prefsim.losses.catalogue import reads_reference
from prefsim.losses.running import RunningLoss
from prefsim.typing import Loss

__all__ = ["NOT_GIVEN", "stated_reference"]


class _NotGiven:
    """Stands for an argument that was left out, where ``None`` means something."""

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: Final[Any] = _NotGiven()


def stated_reference(loss: Loss, reference: Any) -> Any:
    """Return the reference that was given, ``None`` for a loss that does without.

    Parameters
    ----------
    loss
        A loss of :mod:`prefsim.losses`.
    reference
        A reference, ``None`` for log-probabilities of zero, or :data:`NOT_GIVEN`.

    Raises
    ------
    ValueError
        If none was given and the loss reads it. Without one it would silently be another loss.

    Examples
    --------
    >>> from prefsim import losses
    >>> stated_reference(losses.simpo, NOT_GIVEN) is None
    True
    >>> stated_reference(losses.dpo, NOT_GIVEN)
    Traceback (most recent call last):
        ...
    ValueError: dpo reads the reference, and none was given; pass reference=...
    """
    if reference is not NOT_GIVEN:
        return reference
    if reads_reference(loss):
        raise ValueError(
            f"{_name_of(loss)} reads the reference, and none was given; pass reference=... (most"
            " often the policy that training starts from), or reference=None for log-probabilities"
            " of zero"
        )
    return None


def _name_of(loss: Any) -> str:
    while isinstance(loss, functools.partial | RunningLoss):
        loss = loss.func if isinstance(loss, functools.partial) else loss.loss
    return str(getattr(loss, "__name__", type(loss).__name__))
