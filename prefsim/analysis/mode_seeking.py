r"""How the two directions of the KL divergence move a softmax policy towards a target.

The forward direction :math:`\mathrm{KL}(q\|\pi)`, maximum likelihood on samples of the target q, is
*mode covering*; the reverse one :math:`\mathrm{KL}(\pi\|q)`, reinforcement learning with samples of
the policy, is *mode seeking*. Everything is exact, in the logits, and broadcasts over leading axes.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

from prefsim.checks import as_floats, as_log_policies, check_broadcast, check_same_shape
from prefsim.numerics import array_namespace, categorical_kl
from prefsim.typing import Array, ArrayT

__all__ = ["KLGradients", "kl_gradients", "logarithmic_mean"]


class KLGradients(NamedTuple, Generic[ArrayT]):
    """Gradients of both KL divergences in the logits of the policy, each ``(..., Y)``."""

    forward: ArrayT
    reverse: ArrayT


def kl_gradients(log_policy: ArrayT, log_target: Array) -> KLGradients[ArrayT]:
    r"""Return the gradients of both KL divergences in the logits of a softmax policy.

    .. math::
        \nabla_z\mathrm{KL}(q\|\pi) &= \pi - q \\
        \nabla_z\mathrm{KL}(\pi\|q) &= \pi\odot\big(\log(\pi/q) - \mathrm{KL}(\pi\|q)\big)

    A step η down the first multiplies the ratio of two responses of equal probability p by
    :math:`e^{\eta(q_1-q_2)}`, down the second by :math:`e^{\eta p\log(q_1/q_2)}`: reverse KL moves
    mass between them faster exactly if p exceeds the :func:`logarithmic_mean` of q₁ and q₂.

    Parameters
    ----------
    log_policy, log_target
        log π and log q, ``(..., Y)`` in nats, finite.

    Returns
    -------
    KLGradients

    Raises
    ------
    ValueError
        If the numbers of responses differ.

    References
    ----------
    Tajwar et al. 2024, section 6 and appendix, arXiv:2404.14367.

    Examples
    --------
    >>> import numpy as np
    >>> found = kl_gradients(np.log([0.4, 0.4, 0.2]), np.log([0.3, 0.05, 0.65]))
    >>> found.forward.round(6), found.reverse.round(6)
    (array([ 0.1 ,  0.35, -0.45]), array([-0.169375,  0.547329, -0.377955]))
    """
    log_policy, log_target = as_log_policies(log_policy=log_policy, log_target=log_target)
    check_same_shape(log_policy=log_policy, log_target=log_target)
    xp = array_namespace(log_policy, log_target)
    policy = xp.exp(log_policy)
    divergence = categorical_kl(log_policy, log_target)[..., None]
    reverse = policy * (log_policy - log_target - divergence)
    return KLGradients(policy - xp.exp(log_target), reverse)


def logarithmic_mean(log_first: ArrayT, log_second: Array) -> ArrayT:
    r"""Return the logarithmic mean :math:`(a - b)/(\log a - \log b)` of two positive numbers.

    It is a where both are equal, and lies between their geometric and their arithmetic mean.

    Parameters
    ----------
    log_first, log_second
        log a and log b, of shapes that broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> logarithmic_mean(np.log([0.3, 0.2]), np.log([0.05, 0.2])).round(10)
    array([0.13952766, 0.2       ])
    """
    log_first, log_second = as_floats(log_first=log_first, log_second=log_second)
    check_broadcast(log_first=log_first, log_second=log_second)
    xp = array_namespace(log_first, log_second)
    log_first, log_second = xp.broadcast_arrays(log_first, log_second)
    apart = xp.abs(log_first - log_second)
    equal = apart == 0
    safe = xp.where(equal, xp.ones_like(apart), apart)
    # Of the larger one, so that nothing overflows.
    share = xp.where(equal, xp.ones_like(apart), -xp.expm1(-safe) / safe)
    return xp.exp(xp.maximum(log_first, log_second)) * share
