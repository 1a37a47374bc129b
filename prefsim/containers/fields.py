"""Every field of a container: mapped, joined, exchanged, or told apart by its response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from prefsim.numerics import array_namespace
from prefsim.typing import Array

__all__ = ["exchanged", "fields_of", "map_fields", "stacked"]

C = TypeVar("C", bound=tuple)  # a container
OTHER = {"chosen": "rejected", "rejected": "chosen"}


def map_fields(container: C, change: Callable[[Array], Any]) -> C:
    """Return a container with ``change`` applied to every field that is given.

    Parameters
    ----------
    container
        A container of :mod:`prefsim.containers`.
    change
        A function of one array; fields that are None stay None.

    Examples
    --------
    >>> import numpy as np
    >>> from prefsim.containers import PairRewards
    >>> map_fields(PairRewards(np.ones(2), np.zeros(2)), lambda x: x[:1])
    PairRewards(chosen=[1], rejected=[0])
    """
    fields = container._asdict()  # type: ignore[attr-defined]
    return type(container)(
        **{name: None if value is None else change(value) for name, value in fields.items()}
    )


def stacked(first: C, second: C, *, axis: int = -1) -> C:
    """Return the examples of two containers of one kind, one after the other.

    Parameters
    ----------
    first, second
        Containers with fields of equal shapes. A field that one of them lacks is left out.
    axis
        Of the examples in the fields.

    Examples
    --------
    >>> import numpy as np
    >>> from prefsim.containers import PairRewards
    >>> stacked(PairRewards(np.ones(1), np.zeros(1)), PairRewards(np.zeros(1), np.ones(1)))
    PairRewards(chosen=[1, 0], rejected=[0, 1])
    """
    joined: dict[str, Array | None] = {}
    for name, here in first._asdict().items():  # type: ignore[attr-defined]
        there = getattr(second, name)
        both_given = here is not None and there is not None
        joined[name] = (
            array_namespace(here).concat([here, there], axis=axis) if both_given else None
        )
    return type(first)(**joined)


def fields_of(pairs: Any, response: str) -> dict[str, Array | None]:
    """Return the fields of pairs that belong to the ``"chosen"`` or the ``"rejected"`` response.

    Examples
    --------
    >>> from prefsim.containers import PairRewards
    >>> sorted(fields_of(PairRewards(1.0, 0.0), "chosen"))
    ['chosen']
    """
    return {name: value for name, value in pairs._asdict().items() if response in name.split("_")}


def exchanged(pairs: C) -> C:
    """Return pairs in which every field holds what its partner held.

    Partners bear one name but for "chosen" in the place of "rejected", and the other way round.
    """
    names = pairs._fields  # type: ignore[attr-defined]
    partners = {name: "_".join(OTHER.get(word, word) for word in name.split("_")) for name in names}
    return type(pairs)(**{name: getattr(pairs, partner) for name, partner in partners.items()})
