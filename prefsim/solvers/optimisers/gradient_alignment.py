r"""Two gradients that conflict: the auxiliary one gives way where it opposes the main one."""

from __future__ import annotations

from prefsim.checks import as_floats, check_same_shape
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = ["aligned_gradient", "without_conflict"]


def without_conflict(auxiliary: ArrayT, main: Array) -> ArrayT:
    r"""Return the auxiliary gradient without what opposes the main one.

    Where :math:`g_1\cdot g_2 < 0` that is
    :math:`g_2 - \frac{g_1\cdot g_2}{\|g_1\|^2}g_1`, orthogonal to the main gradient g₁; elsewhere
    g₂ itself.

    Parameters
    ----------
    auxiliary, main
        g₂ and g₁, ``(..., D)``: of all parameters together, zero where a loss does not reach. Block
        by block it would be another rule.

    Returns
    -------
    Array ``(..., D)``.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    Yang et al. 2024, gradient alignment, arXiv:2411.08937; one-sided gradient surgery of Yu et al.
    2020, arXiv:2001.06782.

    Examples
    --------
    >>> import numpy as np
    >>> without_conflict(np.asarray([-2.0, 1.0, 0.0]), np.asarray([1.0, 0.0, 1.0]))
    array([-1.,  1.,  1.])
    """
    auxiliary, main = as_floats(auxiliary=auxiliary, main=main)
    check_same_shape(auxiliary=auxiliary, main=main)
    xp = array_namespace(auxiliary)
    inner = xp.sum(auxiliary * main, axis=-1, keepdims=True)
    square = xp.sum(main * main, axis=-1, keepdims=True)
    opposed = inner < 0
    share = xp.where(opposed, inner, xp.zeros_like(inner)) / xp.where(
        opposed, square, xp.ones_like(square)
    )
    return auxiliary - share * main


def aligned_gradient(main: ArrayT, auxiliary: Array) -> ArrayT:
    r"""Return the sum of both gradients, the auxiliary one without its conflict.

    A step along it always descends the main loss at least as fast as one along the main gradient:
    :math:`g_1\cdot g \ge \|g_1\|^2`.

    Parameters
    ----------
    main, auxiliary
        g₁ and g₂, ``(..., D)``, as in :func:`without_conflict`.

    Returns
    -------
    Array ``(..., D)``.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    Yang et al. 2024, gradient alignment, arXiv:2411.08937.

    Examples
    --------
    >>> import numpy as np
    >>> aligned_gradient(np.asarray([1.0, 0.0, 1.0]), np.asarray([-2.0, 1.0, 0.0]))
    array([0., 1., 2.])
    """
    return main + without_conflict(auxiliary, main)
