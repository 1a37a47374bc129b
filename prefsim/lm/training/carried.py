"""What a training hands on to the next one of its policy, beyond the policy itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Carried", "handed_over"]


class Carried(NamedTuple):
    """What a training goes on from.

    Attributes
    ----------
    weights
        Trained parameters by name as precise as they were trained, where the policy's own are
        rounded.
    optimizer
        The optimiser's state, by parameter and entry.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]


def handed_over(entries: dict[str, Any], *, moves: bool) -> Iterator[tuple[str, Any]]:
    """Yield the entries, each to be copied.

    Where they move, each is let go of as the next is asked for, so that they are never in memory
    twice: the dict is empty afterwards.
    """
    for name in list(entries):
        yield name, entries.pop(name) if moves else entries[name]
