"""Arguments whose shapes do not fit each other, named by the function that was asked."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from prefsim.checks.arrays import shapes_of

__all__ = ["names_shapes"]

F = TypeVar("F", bound=Callable[..., Any])

# What NumPy and torch say of shapes that do not fit, which names no argument.
FOREIGN = (
    "could not be broadcast",
    "cannot be broadcast",
    "mismatch in its core dimension",
    "must match the size of tensor",
    "not broadcastable",
    "shapes cannot be multiplied",
    "too many indices",
)


def names_shapes(function: F) -> F:
    """Return a function that names its arrays and their shapes where these do not fit.

    Nothing is looked at unless the computation fails.

    Examples
    --------
    >>> import numpy as np
    >>> @names_shapes
    ... def total(first, second):
    ...     return first + second
    >>> total(np.ones(2), np.ones(3))
    Traceback (most recent call last):
    ValueError: shapes must fit each other, got first (2,), second (3,)
    """

    @functools.wraps(function)
    def named(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except (ValueError, RuntimeError, IndexError) as error:
            if not any(words in str(error) for words in FOREIGN):
                raise
            given = inspect.signature(function).bind(*arguments, **options).arguments
            arrays = {name: array for name, array in given.items() if hasattr(array, "shape")}
            raise ValueError(f"shapes must fit each other, got {shapes_of(**arrays)}") from error

    return named  # type: ignore[return-value]
