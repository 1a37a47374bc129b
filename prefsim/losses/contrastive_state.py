r"""Stochastic contrastive learning with a temperature and a moving normaliser of every example.

A small batch sees few negatives, and the logarithm of their mean is biased. SogCLR therefore keeps
a moving mean u_i of :math:`\frac1m\sum_j e^{h_{ij}/\tau_i}` for every anchor, and iSogCLR moves the
temperature τ_i by the slope of the robust global contrastive loss at it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from prefsim.backend import asarray
from prefsim.checks import check_integer, check_interval, check_nonnegative, check_positive
from prefsim.containers import ClassLogits
from prefsim.losses.class_scores import in_dtype_of, other_margins
from prefsim.losses.dro import kl_dro, kl_dro_dual
from prefsim.losses.example_state import batch_places, scattered
from prefsim.numerics import array_namespace, like, stop_gradient
from prefsim.typing import Array, ArrayT

__all__ = ["ContrastiveState", "contrastive_state", "isogclr_step", "isogclr_update"]


class ContrastiveState(NamedTuple):
    """What iSogCLR keeps of every training example, ``(N,)`` each, indexed by its id.

    Attributes
    ----------
    log_normaliser
        log u of the moving mean of ``exp(h / τ)`` over negatives; −∞ before the first visit.
    slope
        Moving mean of the derivative of the loss in τ.
    temperature
        τ, in units of the similarities.
    """

    log_normaliser: Array
    slope: Array
    temperature: Array


def contrastive_state(n: int, *, temperature: float = 0.1) -> ContrastiveState:
    """Return the first state of ``n`` training examples, on the current backend.

    Examples
    --------
    >>> state = contrastive_state(2, temperature=0.5)
    >>> state.log_normaliser, state.temperature
    (array([-inf, -inf]), array([0.5, 0.5]))
    """
    check_integer(low=1, n=n)
    check_positive(temperature=temperature)
    start = (-math.inf, 0.0, float(temperature))
    return ContrastiveState(*(asarray([each] * n) for each in start))


def isogclr_update(
    state: ContrastiveState, ids: Array, classes: ClassLogits[ArrayT], **options: Any
) -> tuple[ContrastiveState, ArrayT]:
    """Take one step of iSogCLR on a batch of similarities.

    Parameters
    ----------
    state, ids
        As in :func:`isogclr_step`.
    classes
        The batch, similarities ``(n, K)`` and places of the positives ``(n,)``.
    **options
        Of :func:`isogclr_step`.

    Returns
    -------
    The new state, and the losses ``(n,)``, as :func:`isogclr_step`.

    Examples
    --------
    >>> import numpy as np
    >>> row = ClassLogits(np.asarray([[0.0, -0.3, -0.7, -1.1, -1.6]]), np.asarray([0]))
    >>> state, loss = isogclr_update(contrastive_state(2), np.asarray([1]), row)
    >>> state.temperature.round(6), loss.round(6)
    (array([0.1     , 0.108939]), array([-0.406781]))
    """
    h = other_margins(classes)
    places = batch_places(ids, size=state.temperature.shape[0], batch=classes.label, name="label")
    temperature = like(_at(state.temperature, places), h)
    divergence = kl_dro_dual(stop_gradient(h), lambda_=temperature).divergence
    value = kl_dro(h, lambda_=temperature)
    state, loss = isogclr_step(state, places, value, divergence, **options)
    return state, in_dtype_of(classes.logits, loss)


def isogclr_step(
    state: ContrastiveState,
    ids: Array,
    value: ArrayT,
    divergence: Array,
    *,
    radius: float = 0.3,
    mixing: float = 0.9,
    momentum: float = 0.9,
    rate: float = 0.01,
    lowest: float = 0.05,
    highest: float = 0.7,
) -> tuple[ContrastiveState, ArrayT]:
    r"""Take one step of iSogCLR from the worst case over each anchor's negatives in a batch.

    .. math:: u \leftarrow (1-\gamma)u + \gamma\hat g, \quad
        v \leftarrow (1-\beta)v + \beta\Big(\log u + \rho - \tfrac1m\sum_j
        \frac{e^{h_j/\tau}}{u}\frac{h_j}{\tau}\Big), \quad \tau \leftarrow \tau - \eta v

    with ĝ the mean of :math:`e^{h_j/\tau}` over the batch's negatives, and τ cut to its interval.

    Parameters
    ----------
    state
        Of the whole training set; not changed. It may live in another array library or on another
        device than the batch.
    ids
        Places ``(n,)`` of the batch's anchors in the training set; if one is repeated, its last
        entry counts.
    value, divergence
        :math:`\tau\log\hat g` and KL(p_τ‖1/m) of each anchor at the state's temperature, ``(n,)``:
        of :func:`prefsim.losses.contrastive_blocks.negatives_kl_dro`, or of
        :func:`prefsim.losses.dro.kl_dro` and its dual.
    radius
        ρ >= 0, nats.
    mixing
        γ, the weight of the batch in the moving mean, in (0, 1]; at a first visit 1.
    momentum
        β, the weight of the new slope, in (0, 1].
    rate
        η >= 0 of the temperature; 0 is SogCLR, whose temperatures stay where they are in the
        interval.
    lowest, highest
        Ends of the interval of temperatures, > 0.

    Returns
    -------
    The new state, and the losses ``(n,)``: of value :math:`\tau\log u + \tau\rho`, the estimate of
    the robust global contrastive loss, and of gradient
    :math:`\tfrac1m\sum_j e^{h_j/\tau}\nabla h_j / u`, both at the temperature before the step. With
    γ = 1 that is the gradient of the batch's own loss.

    Raises
    ------
    ValueError
        If an option is out of range, or an id is or does not fit the batch.

    References
    ----------
    Qiu, Hu, Yuan, Zhou, Zhang, Yang 2023, algorithm iSogCLR, arXiv:2305.11965; the defaults are
    those of LibAUC. SogCLR: Yuan et al. 2022, arXiv:2202.12387.
    """
    check_nonnegative(radius=radius, rate=rate)
    check_interval(mixing=mixing, momentum=momentum, low=0.0, high=1.0, closed="right")
    check_positive(lowest=lowest)
    check_interval(highest=highest, low=lowest, high=math.inf)
    places = batch_places(ids, size=state.temperature.shape[0], batch=value, name="value")
    xp = array_namespace(value)
    before, slope, temperature = (like(_at(part, places), value) for part in state)
    held = stop_gradient(value)
    log_mean = held / temperature
    first = before == -math.inf
    log_kept = math.log1p(-mixing) if mixing < 1 else -math.inf
    moved = xp.logaddexp(xp.where(first, log_mean, before) + log_kept, log_mean + math.log(mixing))
    log_u = xp.where(first, log_mean, moved)
    share = xp.exp(log_mean - log_u)
    # E_p[h] = τ log ĝ + τ KL, and the weights of the sum are ĝ/u times p.
    pull = share * (held + temperature * divergence) / temperature
    slope = (1 - momentum) * slope + momentum * (log_u + radius - pull)
    after = xp.clip(temperature - rate * slope, lowest, highest)
    new = (
        scattered(old, places, like(stop_gradient(part), old))
        for old, part in zip(state, (log_u, slope, after), strict=True)
    )
    # The value is the estimate, the gradient that of the worst case with weights over u.
    loss = temperature * (log_u + radius) + share * (value - held)
    return ContrastiveState(*new), loss


def _at(part: Array, places: Any) -> Array:
    """Return the entries of the state at places."""
    return array_namespace(part).take(part, like(places, part, integer=True), axis=0)
