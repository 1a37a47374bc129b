r"""The adaptive label-distributionally-robust loss, which gives every example its own temperature.

Two variants share one penalty. ``"exact"`` is the loss as it is defined, with the global maximum
over the temperature. ``"authors"`` is the released code: one fixed-point step from the temperature
that the example had last, with weights that ignore the margins.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from prefsim.backend import asarray, like
from prefsim.checks import (
    check_choice,
    check_integer,
    check_interval,
    check_positive,
)
from prefsim.containers import ClassLogits
from prefsim.losses.adaptive_dro import adaptive_kl_dro
from prefsim.losses.class_scores import label_margins
from prefsim.losses.dro import kl_dro
from prefsim.losses.edge import checked
from prefsim.losses.example_state import batch_places, scattered
from prefsim.numerics import (
    array_namespace,
    softmax,
    stop_gradient,
    widened,
)
from prefsim.typing import Array, ArrayT

__all__ = ["AldrState", "aldr_kl", "aldr_lambda", "aldr_state", "aldr_update"]

SMOOTHING = 1e-5  # added to every weight by the released code


def _checked_alpha(
    alpha: float | None, classes: ClassLogits[ArrayT], lambda_0: float, variant: str, previous: Any
) -> float:
    check_choice(("exact", "authors"), variant=variant)
    check_positive(lambda_0=lambda_0)
    log_size = math.log(max(2, classes.logits.shape[-1] if classes.logits.ndim else 0))
    if alpha is None:
        alpha = 2 * log_size
    check_interval(
        alpha=alpha, low=log_size, high=math.inf, closed="neither"
    )  # above log K, so that no temperature reaches 0
    if previous is not None and variant == "exact":
        raise ValueError(
            "previous must be None for variant 'exact', which keeps no state, got"
            f" {type(previous).__name__}"
        )
    return float(alpha)


def _authors_step(
    classes: ClassLogits[ArrayT], lambda_0: float, alpha: float, previous: float | Array | None
) -> ArrayT:
    """Return the next temperature of the released code.

    Λ₀(1 − KL(p‖1/K)/α) with p = softmax(f/λ), smoothed.
    """
    logits = stop_gradient(widened(classes.logits))
    xp = array_namespace(logits)
    if previous is None:
        previous = lambda_0
    if isinstance(previous, int | float):
        check_positive(previous=previous)
        tempered = logits / float(previous)
    else:
        tempered = (
            logits / like(previous, logits)[..., None]
        )  # the state may live in another library or on another device
    p = softmax(tempered) + SMOOTHING
    p = p / xp.sum(p, axis=-1, keepdims=True)
    divergence = xp.sum(p * xp.log(p * p.shape[-1]), axis=-1)
    return lambda_0 * (1 - divergence / alpha)


@checked
def aldr_kl(
    classes: ClassLogits[ArrayT],
    *,
    lambda_0: float = 1.0,
    alpha: float | None = None,
    variant: str = "exact",
    previous: float | Array | None = None,
) -> ArrayT:
    r"""Adaptive LDR-KL loss, one value per example.

    .. math:: \max_{\lambda\ge0} \; \lambda\log\tfrac1K\sum_k e^{v_k/\lambda}
        - \frac{\alpha}{2\lambda_0}(\lambda-\lambda_0)^2

    Parameters
    ----------
    classes
        Scores ``(..., n, K)``, labels ``(..., n)`` and optional margins.
    lambda_0
        Temperature of an example whose margins are all equal, > 0.
    alpha
        Strength of the pull towards ``lambda_0``, more than log K; None is 2 log K. The released
        code's ``alpha`` is this over log K.
    variant
        ``"exact"``: the global maximum over λ. ``"authors"``: λ is one fixed-point step away from
        ``previous``, as in the released code.
    previous
        Only for ``"authors"``: the temperature that each example had last, ``(..., n)`` or a
        number; None is ``lambda_0``.

    Returns
    -------
    Array ``(..., n)``. The temperature is a constant of differentiation: for ``"exact"`` that is
    the exact first derivative.

    Raises
    ------
    ValueError
        If an option is out of range, or as :func:`prefsim.losses.label_margins`.

    References
    ----------
    Zhu, Ying, Yang 2023, the ALDR-KL loss, arXiv:2112.14869; code Optimization-AI/ICML2023_LDR.

    Examples
    --------
    >>> import numpy as np
    >>> classes = ClassLogits(np.asarray([[2.0, 1.0, 0.5, -1.0]]), np.asarray([2]))
    >>> aldr_kl(classes, lambda_0=10.0).round(8)
    array([0.18291026])
    """
    alpha = _checked_alpha(alpha, classes, lambda_0, variant, previous)
    v = label_margins(classes)
    if variant == "exact":
        value = adaptive_kl_dro(v, lambda_0=lambda_0, alpha=alpha).value
    else:
        value = _at_temperature(
            v, _authors_step(classes, lambda_0, alpha, previous), lambda_0, alpha
        )
    return array_namespace(v).astype(value, classes.logits.dtype, copy=False)


def _at_temperature(v: ArrayT, lambda_: Array, lambda_0: float, alpha: float) -> ArrayT:
    held = stop_gradient(lambda_)
    return kl_dro(v, lambda_=held) - alpha / (2 * lambda_0) * (held - lambda_0) ** 2


def aldr_lambda(
    classes: ClassLogits[ArrayT],
    *,
    lambda_0: float = 1.0,
    alpha: float | None = None,
    variant: str = "exact",
    previous: float | Array | None = None,
) -> ArrayT:
    r"""Return the temperature of each example under :func:`aldr_kl`, ``(..., n)``.

    A constant of differentiation.

    It is ``lambda_0`` where all margins are equal, and small where the worst distribution is
    peaked.

    Parameters
    ----------
    classes, lambda_0, alpha, variant, previous
        As in :func:`aldr_kl`.

    Examples
    --------
    >>> import numpy as np
    >>> aldr_lambda(
    ...     ClassLogits(
    ...         np.asarray([[2.0, 1.0, 0.5, -1.0], [0.0, 0.0, 0.0, 0.0]]), np.asarray([0, 0])
    ...     ),
    ...     lambda_0=10.0,
    ... ).round(6)
    array([ 9.979339, 10.      ])
    """
    alpha = _checked_alpha(alpha, classes, lambda_0, variant, previous)
    v = label_margins(classes)
    if variant == "exact":
        temperature = adaptive_kl_dro(v, lambda_0=lambda_0, alpha=alpha).lambda_
    else:
        temperature = stop_gradient(_authors_step(classes, lambda_0, alpha, previous))
    return array_namespace(v).astype(temperature, classes.logits.dtype, copy=False)


class AldrState(NamedTuple):
    """The temperature of every training example, ``(N,)``, indexed by its id.

    It is what ``variant="authors"`` carries between steps.
    """

    lambda_: Array


def aldr_state(n: int, *, lambda_0: float = 1.0) -> AldrState:
    """Return the first state of ``n`` training examples, on the current backend.

    Examples
    --------
    >>> aldr_state(3, lambda_0=10.0)
    AldrState(lambda_=array([10., 10., 10.]))
    """
    check_integer(low=1, n=n)
    check_positive(lambda_0=lambda_0)
    return AldrState(asarray([float(lambda_0)] * n))


def aldr_update(
    state: AldrState,
    ids: Array,
    classes: ClassLogits[ArrayT],
    *,
    lambda_0: float = 1.0,
    alpha: float | None = None,
) -> tuple[AldrState, ArrayT]:
    """Take one step of the released code.

    Return the state with the batch's new temperatures, and the loss of the batch at them.

    Parameters
    ----------
    state
        Temperatures of the whole training set; not changed. It may live in another array library or
        on another device than the batch.
    ids
        Places ``(n,)`` of the batch's examples in the training set; if one is repeated, its last
        entry counts.
    classes
        The batch, scores ``(n, K)``.
    lambda_0, alpha
        As in :func:`aldr_kl`.

    Returns
    -------
    The new state, and the losses ``(n,)``: those of ``aldr_kl(variant="authors", previous=...)`` at
    the batch's old temperatures.

    Raises
    ------
    ValueError
        If an id is out of range or does not fit the batch, and as :func:`aldr_kl`.

    Examples
    --------
    >>> import numpy as np
    >>> batch = ClassLogits(np.asarray([[4.0, 0.0]]), np.asarray([0]))
    >>> state, loss = aldr_update(aldr_state(3), np.asarray([1]), batch)
    >>> state.lambda_.round(6), loss.shape
    (array([1.      , 0.565017, 1.      ]), (1,))
    """
    alpha = _checked_alpha(alpha, classes, lambda_0, "authors", None)
    v = label_margins(classes)
    places = batch_places(ids, size=state.lambda_.shape[0], batch=classes.label, name="label")
    index = like(places, state.lambda_, integer=True)
    previous = array_namespace(state.lambda_).take(state.lambda_, index, axis=0)
    new = _authors_step(classes, lambda_0, alpha, previous)
    value = array_namespace(v).astype(
        _at_temperature(v, new, lambda_0, alpha), classes.logits.dtype, copy=False
    )
    return (
        AldrState(scattered(state.lambda_, places, like(stop_gradient(new), state.lambda_))),
        value,
    )
