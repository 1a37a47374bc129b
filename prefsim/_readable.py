"""One ``repr`` that a person can read, for policies, worlds and results.

Small arrays show their numbers, large ones their shape: a result of ten thousand games is one line.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from prefsim.numerics import to_numpy

__all__ = ["readable", "summary"]

T = TypeVar("T")

# A counterexample of a property is told by its numbers; a table of more than this is not read.
SHOWN_ENTRIES = 36
SHOWN_DIGITS = 6
SHOWN_CHARACTERS = 60


def readable(cls: type[T]) -> type[T]:
    """Give a named tuple or a dataclass the short ``repr``; fields that are None are left out."""
    cls.__repr__ = summary  # type: ignore[method-assign]
    return cls


def summary(value: Any) -> str:
    """Return the name of a value's type with its fields, each in a few words.

    Examples
    --------
    >>> from prefsim.policies import TabularPolicy
    >>> print(summary(TabularPolicy.uniform(1, 2)))
    TabularPolicy(logits=[[0, 0]])
    >>> print(summary(TabularPolicy.uniform(100, 20)))
    TabularPolicy(logits=float64 (100, 20))
    """
    names = getattr(value, "_fields", None) or value.__dataclass_fields__
    shown = {name: getattr(value, name) for name in names}
    parts = (f"{name}={_told(each)}" for name, each in shown.items() if each is not None)
    return f"{type(value).__name__}({', '.join(parts)})"


def _told(value: Any) -> str:
    if getattr(value, "format", None) == "csr":
        return f"{value.dtype} {value.shape} sparse, {value.nnz} entries"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _array(value)
    if isinstance(value, float):
        return f"{value:.{SHOWN_DIGITS}g}"
    if type(value).__repr__ is summary or hasattr(value, "_fields"):
        return f"{type(value).__name__}(…)"
    text = repr(value)
    if isinstance(value, list | tuple | dict) and len(text) > SHOWN_CHARACTERS:
        return f"{type(value).__name__} of {len(value)}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{type(value).__name__}(…)"


def _array(value: Any) -> str:
    shape = tuple(value.shape)
    entries = int(np.prod(shape, dtype=np.int64))
    if entries <= SHOWN_ENTRIES:
        return _numbers(to_numpy(value).tolist())
    dtype = str(value.dtype)
    device = getattr(value, "device", None)
    where = "" if device is None or str(device) == "cpu" else f" on {device}"
    if dtype.endswith("bool"):
        return f"{int(to_numpy(value).sum())} of {entries} true"
    return f"{dtype} {shape}{where}"


def _numbers(entry: Any) -> str:
    if isinstance(entry, list):
        return f"[{', '.join(map(_numbers, entry))}]"
    return f"{entry:.{SHOWN_DIGITS}g}" if isinstance(entry, float) else repr(entry)
