"""How fast an error falls: the exponent of a power law fitted to measured errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import as_float_array, check_shape

__all__ = ["log_log_slope"]


def log_log_slope(sizes: Any, errors: Any) -> np.ndarray:
    r"""Return the least-squares slope of :math:`\log` errors against :math:`\log` sizes.

    An error that follows the power law :math:`c\,N^{-r}` has the slope :math:`-r`.

    Parameters
    ----------
    sizes
        ``(K,)`` with K >= 2, > 0 and not all the same: sample sizes, horizons, step sizes.
    errors
        ``(..., K)``, > 0: what was measured at each size; leading axes are separate fits.

    Returns
    -------
    numpy.ndarray
        ``(...,)``; a scalar where ``errors`` is ``(K,)``.

    Raises
    ------
    ValueError
        If the shapes differ, fewer than two distinct sizes are given, or a size or an error is not
        a finite number > 0.

    Examples
    --------
    >>> sizes = [10, 100, 1000]
    >>> float(log_log_slope(sizes, [0.3, 0.03, 0.003]).round(12))
    -1.0
    >>> log_log_slope(sizes, [[1.0, 0.1, 0.01], [5.0, 5.0, 5.0]]).round(12) + 0.0
    array([-1.,  0.])
    """
    where = as_float_array(sizes, "sizes", ndim=1)
    what = as_float_array(errors, "errors", min_ndim=1)
    check_shape(what, "errors", where.shape)
    for name, values in (("sizes", where), ("errors", what)):
        if not (values > 0).all():
            raise ValueError(f"{name} must be > 0 to have a logarithm, got {values.min():.6g}")
    if np.unique(where).size < 2:
        raise ValueError(f"a slope needs at least two distinct sizes, got {where.tolist()}")
    deviation = np.log(where) - np.log(where).mean()
    # The deviations sum to zero, so that the mean of the log-errors drops out.
    slope: np.ndarray = np.log(what) @ deviation / (deviation @ deviation)
    return slope
