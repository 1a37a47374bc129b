r"""Scores read as utilities: the order that data reveal, and decisions that need more than it.

The score U(x, y) of a response is read as an ordinal *utility*: where y was observed, it is
preferred to every other response of x, and nothing but the order of U says so. Decisions by
expectation need a probability again. The one here, :func:`utility_probability`, is a candidate of
this library's own. Everything is exact, and broadcasts over leading axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.analysis.candidates import candidate_scores, with_mask
from prefsim.checks import (
    as_array,
    as_floats,
    as_one_library,
    as_signed,
    check_broadcast,
    check_entries,
    check_positive,
    check_shape,
    check_within,
    is_array,
    names_shapes,
)
from prefsim.numerics import array_namespace, like, over_rows, softmax, widened
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "improvement_direction",
    "revealed_margin",
    "sharpening_slope",
    "utility_probability",
]


# --- what is taken ---


def _temperature(temperature: Any, beside: Array) -> Any:
    """Return one temperature for all rows, or one a row as ``(..., 1)``."""
    check_positive(arrays=True, temperature=temperature)
    return over_rows(like(temperature, beside)) if is_array(temperature) else temperature


def _with_chosen(utility: Any, chosen: Any) -> tuple[Any, Any]:
    """Return utilities ``(..., Y)`` and the mask of the chosen response of each row."""
    (utility,) = as_floats(utility=utility)
    check_shape(utility, "utility", (None,))
    places = as_array(chosen, "chosen", "integral")
    utility, places = as_one_library({"utility": utility, "chosen": places}).values()
    places, size = as_signed(places, "chosen"), utility.shape[-1]
    if tuple(places.shape) != tuple(utility.shape[:-1]):
        raise ValueError(
            f"chosen must have shape {tuple(utility.shape[:-1])}, that of utility without the"
            f" responses, got {tuple(places.shape)}"
        )
    if size < 2:
        raise ValueError(f"utility must have at least two responses a row, got {size}")
    check_within(places, "chosen", f"be >= 0 and < {size}", low=0, high=size - 1)
    xp = array_namespace(utility)
    every = xp.arange(size, dtype=places.dtype, device=utility.device)
    return utility, every == places[..., None]


# --- from utilities to probabilities ---


def utility_probability(utility: ArrayT, temperature: Number, mask: Array | None = None) -> ArrayT:
    r"""Return probabilities of candidates from their utilities, at a temperature.

    .. math:: P_\tau(y|x) = \frac{e^{U(x,y)/\tau}}{\sum_{y''\in C(x)} e^{U(x,y'')/\tau}}

    This conversion is a candidate of this library: the paper's own is not known to us, only that it
    sharpens. At τ = 1 over all responses it is the softmax of the scores; below, it is sharper, and
    tends to the candidates of highest utility.

    Parameters
    ----------
    utility
        U, ``(..., Y)``; -inf for what is impossible.
    temperature
        τ > 0 in units of the utility, one or one a row ``(...)``. There is no default: it is fitted
        on held-out data, by what decisions earn or by likelihood.
    mask
        Booleans ``(..., Y)``: which responses are candidates C(x); all unless given. Equal
        responses are one candidate: mask all but one of them.

    Returns
    -------
    Array ``(..., Y)`` of rows that sum to one, 0 for what is no candidate.

    Raises
    ------
    ValueError
        If the temperature is not > 0, a utility is NaN or +inf, a row has no candidate of finite
        utility, or shapes do not fit.

    References
    ----------
    After Huang and Yuan 2023, "Utility-probability duality of neural networks", arXiv:2305.14859;
    the equation is ours.

    Examples
    --------
    >>> import numpy as np
    >>> utility = np.array([2.0, 1.0, 0.0, -1.0])
    >>> utility_probability(utility, 1.0).round(6)
    array([0.643914, 0.236883, 0.087144, 0.032059])
    >>> utility_probability(utility, np.array([0.5, 2.0])).round(3)
    array([[0.865, 0.117, 0.016, 0.002],
           [0.455, 0.276, 0.167, 0.102]])
    """
    utility, mask = with_mask(mask, utility=utility)
    scores = widened(candidate_scores(utility, mask, "utility"))
    xp = array_namespace(scores)
    # Shifted first: no utility over a small temperature overflows upwards.
    gap = scores - xp.max(scores, axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        probs = softmax(gap / _temperature(temperature, gap))
    return xp.astype(probs, utility.dtype, copy=False)


@names_shapes
def sharpening_slope(
    utility: ArrayT, value: Array, temperature: Number, mask: Array | None = None
) -> ArrayT:
    r"""Return how expected quality changes with the temperature, to first order.

    .. math:: \frac{d}{d\tau} E_{P_\tau}[R] = -\frac{\mathrm{Cov}_{P_\tau}(R, U)}{\tau^2}

    A lower temperature raises the expected quality R exactly where quality and utility are
    positively correlated under :func:`utility_probability`; for R = U it always does.

    Parameters
    ----------
    utility, temperature, mask
        As for :func:`utility_probability`.
    value
        R, ``(..., Y)``, finite.

    Returns
    -------
    Array ``(...)``, in units of the value over those of the utility.

    Raises
    ------
    ValueError
        As for :func:`utility_probability`.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> import numpy as np
    >>> utility = np.array([2.0, 1.0, 0.0, -1.0])
    >>> sharpening_slope(utility, utility, np.array([0.5, 1.0, 2.0])).round(6)
    array([-0.702578, -0.616586, -0.255363])
    """
    utility, value, mask = with_mask(mask, utility=utility, value=value)
    check_entries(value, "value", "be finite", np.isfinite)
    check_broadcast(utility=utility, value=value)
    probs = utility_probability(utility, temperature, mask)
    xp = array_namespace(probs)
    # What has no probability may have the utility -inf.
    level = xp.where(probs > 0, utility, xp.zeros_like(probs))
    level, quality = (x - xp.sum(probs * x, axis=-1, keepdims=True) for x in (level, value))
    covariance = xp.sum(probs * level * quality, axis=-1, keepdims=True)
    # Twice by τ: the square of a small one is 0.
    tau = _temperature(temperature, probs)
    return (-covariance / tau / tau)[..., 0]


# --- what data reveal ---


def revealed_margin(utility: ArrayT, chosen: Array) -> ArrayT:
    r"""Return by how much each observed response leads all others, :math:`U(y)-\max_{y'\neq y}U`.

    Utilities are consistent with what was observed where all are > 0, and remain so under every
    increasing function.

    Parameters
    ----------
    utility
        U, ``(..., Y)`` with Y >= 2.
    chosen
        The observed response of each row, integers ``(...)``.

    Returns
    -------
    Array ``(...)``, in units of the utility.

    Raises
    ------
    ValueError
        If shapes do not fit, or a response is out of range.

    References
    ----------
    Huang and Yuan 2023, arXiv:2305.14859 (the preference that data reveal).

    Examples
    --------
    >>> import numpy as np
    >>> revealed_margin(np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), np.array([0, 2]))
    array([ 1., -2.])
    """
    utility, own = _with_chosen(utility, chosen)
    xp = array_namespace(utility)
    lowest = xp.asarray(-np.inf, dtype=utility.dtype)
    chosen_utility, best_other = (
        xp.max(xp.where(which, utility, lowest), axis=-1) for which in (own, ~own)
    )
    return chosen_utility - best_other


def improvement_direction(utility: ArrayT, chosen: Array, temperature: Number) -> ArrayT:
    r"""Return where utilities move to lift each observed response over what the model would pick.

    .. math:: \nabla_U\, \tau\log P_\tau(y) = E_{y'\sim P_\tau}[e_y - e_{y'}] = e_y - P_\tau

    with the unit vectors e. At τ = 1 it is the gradient of the log-likelihood: a step of maximum
    likelihood improves the utility of y over the model's own choice. As τ → 0 that choice is the
    best response, and the step is the perceptron's. Multiplied by the derivative of U it is the
    gradient in parameters, :math:`E_{y'}\nabla(U(x,y)-U(x,y'))`.

    Parameters
    ----------
    utility
        U, ``(..., Y)`` with Y >= 2.
    chosen
        The observed response of each row, integers ``(...)``.
    temperature
        τ > 0, as for :func:`utility_probability`.

    Returns
    -------
    Array ``(..., Y)`` of rows that sum to zero.

    Raises
    ------
    ValueError
        As for :func:`utility_probability` and :func:`revealed_margin`.

    References
    ----------
    Huang and Yuan 2023, arXiv:2305.14859 (maximum likelihood as improvement of utility); the form
    is derived here.

    Examples
    --------
    >>> import numpy as np
    >>> improvement_direction(np.array([[2.0, 1.0, 0.0]]), np.array([1]), 1.0).round(3)
    array([[-0.665,  0.755, -0.09 ]])
    """
    utility, own = _with_chosen(utility, chosen)
    probs = utility_probability(utility, temperature)
    return array_namespace(probs).astype(own, probs.dtype) - probs
