"""Intervals of means over seeds or splits."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import as_float_array, check_interval

__all__ = ["mean_half_width"]


def mean_half_width(values: Any, *, level: float = 0.95) -> float:
    """Return half the width of the t interval of a mean of independent numbers.

    For the difference of two methods on the same splits give the differences: their interval is
    that of the comparison.

    Parameters
    ----------
    values
        At least two numbers ``(n,)``.
    level
        Coverage, in (0, 1), where the numbers are normal.

    Raises
    ------
    ValueError
        If there are fewer than two numbers, or ``level`` is out of range.

    Examples
    --------
    >>> round(mean_half_width([1.0, 3.0]), 4)
    12.7062
    """
    from scipy.stats import t

    numbers = as_float_array(values, "values", ndim=1)
    check_interval(level=level, low=0.0, high=1.0, closed="neither")
    if numbers.size < 2:
        raise ValueError(f"values must hold at least two numbers, got {numbers.size}")
    deviation = numbers.std(ddof=1) / np.sqrt(numbers.size)
    return float(t.ppf(0.5 + level / 2, numbers.size - 1) * deviation)
