r"""What training on pairs does to the two log-probabilities apart.

Here are displacement, its causes, and what the ranking gains.

A margin loss fixes the difference of two log-probabilities alone. Both may fall, and the mass of
the chosen response go elsewhere. The functions take log-probabilities in nats, hidden states or
gradients, broadcast over leading axes, and return one value per pair unless they say otherwise.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

from prefsim.checks import (
    NUMBERS,
    as_array,
    as_floats,
    as_one_library,
    check_entries,
    check_flag,
    check_no_nan,
    check_same_shape,
    in_floats,
    names_shapes,
)
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = [
    "Displacement",
    "Entanglement",
    "ches_score",
    "displacement",
    "entanglement",
    "kl_from_tokens",
    "ranking_accuracy",
    "reward_accuracy",
]


class Displacement(NamedTuple):
    """How the log-probabilities of pairs have moved, in nats.

    Each field is a mean over the pairs (last axis), ``(...)``.

    ``displaced`` is the share of pairs whose margin has grown while the chosen response has become
    less likely.
    """

    chosen: Array
    rejected: Array
    displaced: Array


def displacement(
    chosen: Array, rejected: Array, start_chosen: Array, start_rejected: Array
) -> Displacement:
    r"""Return the drift of both log-probabilities since the start of training.

    With it comes the share of pairs with likelihood displacement.

    Parameters
    ----------
    chosen, rejected
        Log-probabilities now, ``(..., n)`` in nats.
    start_chosen, start_rejected
        Those at the start.

    Returns
    -------
    Displacement

    Raises
    ------
    ValueError
        If shapes differ.

    References
    ----------
    Razin et al. 2024, arXiv:2410.08847.

    Examples
    --------
    >>> import numpy as np
    >>> chosen, rejected = np.array([-3.0, -1.0]), np.array([-9.0, -4.0])
    >>> drift = displacement(chosen, rejected, np.full(2, -2.0), np.full(2, -3.0))
    >>> float(drift.chosen), float(drift.rejected), float(drift.displaced)
    (0.0, -3.5, 0.5)
    """
    chosen, rejected, start_chosen, start_rejected = as_floats(
        chosen=chosen, rejected=rejected, start_chosen=start_chosen, start_rejected=start_rejected
    )
    check_same_shape(
        chosen=chosen, rejected=rejected, start_chosen=start_chosen, start_rejected=start_rejected
    )
    xp = array_namespace(chosen)
    up, down = chosen - start_chosen, rejected - start_rejected
    displaced = xp.astype((up - down > 0) & (up < 0), chosen.dtype)
    return Displacement(xp.mean(up, axis=-1), xp.mean(down, axis=-1), xp.mean(displaced, axis=-1))


@names_shapes
def ches_score(
    chosen_states: ArrayT,
    rejected_states: Array,
    chosen_mask: Array,
    rejected_mask: Array,
    *,
    normalised: bool = False,
) -> ArrayT:
    r"""Return the centred hidden embedding similarity of two responses.

    The higher, the more displacement to expect.

    .. math:: \mathrm{CHES} = \Big\langle \sum_k h^+_k, \sum_k h^-_k \Big\rangle
        - \Big\|\sum_k h^+_k\Big\|^2

    The state :math:`h_k` is the one that predicts token k: that of the last prompt token is the
    first, that of the last token is left out. Values compare within one model. Exchanging the
    responses changes them.

    Parameters
    ----------
    chosen_states, rejected_states
        Hidden states before the last layer, ``(..., T, d)``; the numbers of positions may differ.
    chosen_mask, rejected_mask
        Boolean ``(..., T)``: which states predict a token of the response.
    normalised
        Divide each sum by its number of states, as the paper's filter of data does.

    Returns
    -------
    Array ``(...)``.

    Raises
    ------
    ValueError
        If a response has no state, or shapes differ.

    References
    ----------
    Razin et al. 2024, arXiv:2410.08847.

    Examples
    --------
    >>> import numpy as np
    >>> chosen, rejected = np.array([[1, 0.5], [0.2, 1]]), np.array([[1, 0.5], [0.4, 0.8], [0, 1]])
    >>> every = np.ones(3, dtype=bool)
    >>> float(ches_score(chosen, rejected, every[:2], every).round(10))
    1.44
    """
    check_flag(normalised=normalised)
    given = as_one_library(
        {
            # What no token follows may hold anything.
            "chosen_states": in_floats(as_array(chosen_states, "chosen_states", *NUMBERS)),
            "rejected_states": in_floats(as_array(rejected_states, "rejected_states", *NUMBERS)),
            "chosen_mask": as_array(chosen_mask, "chosen_mask", "bool"),
            "rejected_mask": as_array(rejected_mask, "rejected_mask", "bool"),
        }
    )
    chosen_states, rejected_states, chosen_mask, rejected_mask = given.values()
    xp = array_namespace(chosen_states)
    sums = []
    for name, states, mask in (
        ("chosen", chosen_states, chosen_mask),
        ("rejected", rejected_states, rejected_mask),
    ):
        if states.ndim < 2 or tuple(states.shape[:-1]) != tuple(mask.shape):
            raise ValueError(
                f"{name}_mask must have the shape of the states without their last axis, got"
                f" {mask.shape} and {states.shape}"
            )
        check_no_nan(
            states, f"{name}_states", counted=xp.broadcast_to(mask[..., None], states.shape)
        )
        count = xp.sum(xp.astype(mask, states.dtype), axis=-1)
        check_entries(
            count, f"{name}_mask", "hold at least one state of each response", lambda n: n > 0
        )
        total = xp.sum(xp.where(mask[..., None], states, xp.zeros_like(states)), axis=-2)
        sums.append(total / count[..., None] if normalised else total)
    chosen, rejected = sums
    return xp.sum(chosen * (rejected - chosen), axis=-1)


class Entanglement(NamedTuple, Generic[ArrayT]):
    r"""How the gradients of two log-probabilities hold each other, one value per pair.

    Attributes
    ----------
    inner, cosine
        Inner product :math:`\langle\nabla\log\pi_w, \nabla\log\pi_l\rangle`, and of the gradients
        of length one.
    ratio
        Inner product over the smaller squared norm; above 1, a loss of the margin moves both
        log-probabilities the same way.
    chosen_rate, rejected_rate
        Change of each log-probability per unit of learning rate, to first order, under a step of
        gradient descent on this pair.
    wanted
        Whether the chosen log-probability does not fall and the rejected one does not rise: the
        gradient condition.
    """

    inner: ArrayT
    cosine: ArrayT
    ratio: ArrayT
    chosen_rate: ArrayT
    rejected_rate: ArrayT
    wanted: ArrayT


@names_shapes
def entanglement(
    chosen_squared: ArrayT,
    rejected_squared: ArrayT,
    inner: ArrayT,
    *,
    chosen_slope: Array | float = 1.0,
    rejected_slope: Array | float = 1.0,
) -> Entanglement[ArrayT]:
    r"""Return what one gradient step on a pair does to its log-probabilities.

    From the inner product and the norms of their gradients.

    .. math:: \Delta\log\pi_w = \eta\,(d_w\|g_w\|^2 - d_l\langle g_w, g_l\rangle),\qquad
              \Delta\log\pi_l = \eta\,(d_w\langle g_w, g_l\rangle - d_l\|g_l\|^2)

    Parameters
    ----------
    chosen_squared, rejected_squared
        Squared norms of the gradients of the two log-probabilities, ``(...)``.
    inner
        Their inner product.
    chosen_slope, rejected_slope
        The loss's slopes :math:`d_w = -\partial\ell/\partial\log\pi_w` and
        :math:`d_l = \partial\ell/\partial\log\pi_l`. Any signs; where they are equal and positive,
        as for every loss of the margin, only the inner product matters.

    Returns
    -------
    Entanglement

    Raises
    ------
    ValueError
        If shapes differ.

    References
    ----------
    Yuan et al. 2024, arXiv:2410.13828 (the authors' analysis script takes the minimum over the
    chosen norm twice; both are meant).

    Examples
    --------
    >>> import numpy as np
    >>> measured = entanglement(np.array([0.02]), np.array([1.0]), np.array([0.1]))
    >>> measured.chosen_rate.round(3), measured.wanted
    (array([-0.08]), array([False]))
    """
    chosen_squared, rejected_squared, inner, chosen_slope, rejected_slope = as_floats(
        chosen_squared=chosen_squared,
        rejected_squared=rejected_squared,
        inner=inner,
        chosen_slope=chosen_slope,
        rejected_slope=rejected_slope,
    )
    check_same_shape(chosen_squared=chosen_squared, rejected_squared=rejected_squared, inner=inner)
    for name, squared in (
        ("chosen_squared", chosen_squared),
        ("rejected_squared", rejected_squared),
    ):
        check_entries(squared, name, "be >= 0, as a norm is", lambda x: x >= 0)
    xp = array_namespace(inner)
    one = xp.ones_like(inner)
    norms = xp.sqrt(chosen_squared * rejected_squared)
    smaller = xp.minimum(chosen_squared, rejected_squared)
    chosen_rate = chosen_slope * chosen_squared - rejected_slope * inner
    rejected_rate = chosen_slope * inner - rejected_slope * rejected_squared
    return Entanglement(
        inner,
        inner / xp.where(norms > 0, norms, one),
        inner / xp.where(smaller > 0, smaller, one),
        chosen_rate,
        rejected_rate,
        (chosen_rate >= 0) & (rejected_rate <= 0),
    )


def ranking_accuracy(chosen: ArrayT, rejected: Array) -> ArrayT:
    r"""Return the share of pairs (last axis) that the policy ranks as the labels do.

    A pair counts where :math:`\log\pi(y_w) \ge \log\pi(y_l)`.

    Give mean log-probabilities of a token for the length-normalised form.

    References
    ----------
    Chen et al. 2024, arXiv:2405.19534.
    """
    chosen, rejected = as_floats(chosen=chosen, rejected=rejected)
    check_same_shape(chosen=chosen, rejected=rejected)
    xp = array_namespace(chosen)
    return xp.mean(xp.astype(chosen >= rejected, chosen.dtype), axis=-1)


def reward_accuracy(
    chosen: ArrayT, rejected: Array, ref_chosen: Array, ref_rejected: Array
) -> ArrayT:
    r"""Return the share of pairs (last axis) whose implicit reward ranks them as the labels do.

    Strictly: a tie does not count.

    .. math:: \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} > \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}

    It says that the policy has moved the right way, and not that it ranks them right: see
    :func:`ranking_accuracy`.

    References
    ----------
    Chen et al. 2024, arXiv:2405.19534.
    """
    chosen, rejected, ref_chosen, ref_rejected = as_floats(
        chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected
    )
    check_same_shape(
        chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected
    )
    xp = array_namespace(chosen)
    return xp.mean(xp.astype(chosen - ref_chosen > rejected - ref_rejected, chosen.dtype), axis=-1)


def kl_from_tokens(token_kl: ArrayT, mask: Array) -> ArrayT:
    r"""Return the summed next-token KL divergences of sequences, ``(...)`` in nats.

    :math:`\sum_t \mathrm{KL}(\pi(\cdot|x,y_{<t}) \| \pi_{ref}(\cdot|x,y_{<t}))`.

    Its mean over sequences drawn from the policy is :math:`\mathrm{KL}(\pi\|\pi_{ref})` by the
    chain rule, without bias and with less variance than the mean log-ratio.

    Parameters
    ----------
    token_kl
        Divergences of the next-token distributions, ``(..., T)`` in nats.
    mask
        Boolean ``(..., T)``: the tokens of the sequence; what lies behind may hold anything.
    """
    given = as_one_library(
        {
            "token_kl": in_floats(as_array(token_kl, "token_kl", *NUMBERS)),
            "mask": as_array(mask, "mask", "bool"),
        }
    )
    token_kl, mask = given.values()
    check_same_shape(token_kl=token_kl, mask=mask)
    check_no_nan(token_kl, "token_kl", counted=mask)
    xp = array_namespace(token_kl)
    return xp.sum(xp.where(mask, token_kl, xp.zeros_like(token_kl)), axis=-1)
