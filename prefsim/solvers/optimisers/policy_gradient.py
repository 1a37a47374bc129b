r"""Exact policy gradients of softmax policies in their logits, and their variance.

By summing over all responses; the variance is that of their estimates.

An *advantage* is any table ``(..., n)`` held constant: a reward, a regularised reward, either less
a baseline. Everything broadcasts over leading axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import wrightomega

from prefsim.checks import as_float_array, check_nonnegative, check_positive, names_shapes
from prefsim.numerics import array_namespace, log_softmax, logsumexp
from prefsim.typing import Array

__all__ = [
    "contrastive_gradient",
    "off_policy_limit",
    "pairwise_variance",
    "regularised_reward",
    "score_gradient",
    "score_variance",
]


def regularised_reward(
    reward: Array, log_policy: Array, log_reference: Array, *, beta: float
) -> Array:
    r"""Return :math:`R_\beta = R - \beta\log(\pi/\pi_{ref})`, ``(..., n)``.

    It is constant in y exactly at the regularised optimum.

    Parameters
    ----------
    reward, log_policy, log_reference
        ``(..., n)``; nats for the policies.
    beta
        Strength of the KL penalty in units of the reward, >= 0.
    """
    check_nonnegative(beta=beta)
    return reward - beta * (log_policy - log_reference)


def score_gradient(
    advantage: Array, log_policy: Array, log_behaviour: Array | None = None
) -> Array:
    r"""Return the mean score-function gradient in the logits, ``(..., n)``.

    :math:`E_{y\sim\mu}[A(y)\,\nabla\log\pi(y)] = \mu\odot A - \pi\,(\mu^\top A)`.

    On policy this is the gradient of :math:`E_\pi A`, and a baseline changes nothing; off policy it
    does.

    Parameters
    ----------
    advantage, log_policy
        ``(..., n)``; nats for the policy.
    log_behaviour
        log μ, ``(..., n)``; the policy itself unless given.

    References
    ----------
    Williams 1992 (REINFORCE).

    Examples
    --------
    >>> import numpy as np
    >>> score_gradient(np.asarray([1.0, 0.5, 0.0]), np.log([0.2, 0.5, 0.3])).round(12)
    array([ 0.11 ,  0.025, -0.135])
    """
    xp = array_namespace(log_policy)
    policy = xp.exp(log_policy)
    behaviour = policy if log_behaviour is None else xp.exp(log_behaviour)
    mean = xp.sum(behaviour * advantage, axis=-1, keepdims=True)
    # Centred first, so that on policy a large constant cancels before it is weighted.
    centred = behaviour * (advantage - mean)
    return centred if log_behaviour is None else centred + (behaviour - policy) * mean


def contrastive_gradient(
    advantage: Array, log_first: Array, log_second: Array | None = None
) -> Array:
    r"""Return the mean gradient of a contrast of two responses in the logits, ``(..., n)``.

    :math:`E_{y\sim\mu_1, y'\sim\mu_2}[(A(y) - A(y'))\,\nabla(\log\pi(y) - \log\pi(y'))]`.

    .. math:: \mu_1\odot(A - \mu_2^\top A) + \mu_2\odot(A - \mu_1^\top A)

    The policy itself cancels. For pairs from it this is twice :func:`score_gradient`; with
    :math:`A = R_\beta` it is minus the gradient of the expected :func:`prefsim.losses.copg`, and
    twice minus that of :func:`prefsim.losses.p3o` on policy.

    Parameters
    ----------
    advantage, log_first
        ``(..., n)``; log μ₁ in nats.
    log_second
        log μ₂, ``(..., n)``; μ₁ unless given.

    References
    ----------
    Flet-Berliac et al. 2024, arXiv:2406.19185; Wu et al. 2023, arXiv:2310.00212 (the pairwise
    policy gradient).
    """
    xp = array_namespace(log_first)
    first = xp.exp(log_first)
    second = first if log_second is None else xp.exp(log_second)
    means = (xp.sum(mu * advantage, axis=-1, keepdims=True) for mu in (second, first))
    return sum(mu * (advantage - mean) for mu, mean in zip((first, second), means, strict=True))


@names_shapes
def off_policy_limit(
    reward: Any, log_behaviour: Any, log_reference: Any, *, beta: float, baseline: Any
) -> np.ndarray:
    r"""Return the policy at which a score gradient with baseline vanishes, ``(..., n)``.

    That is :func:`score_gradient` of :math:`R_\beta - b` for samples of μ; log-probabilities in
    nats.

    There :math:`\mu(R_\beta - b) = c\,\pi` with one number c. Where b is less than the value
    :math:`V^* = \beta\log\sum_y \pi_{ref} e^{R/\beta}` of the regularised optimum, c > 0 and with
    Wright's omega

    .. math:: \log\pi = t - \omega\big(t + \log\tfrac{c}{\beta\mu}\big),\qquad
        t = \log\pi_{ref} + (R - b)/\beta

    whose sum falls in c: there is one such point. Only :math:`b = V^*` makes it the optimum, with c
    = 0.

    Parameters
    ----------
    reward, log_behaviour, log_reference
        ``(..., n)``; nats for the policies, which have full support.
    beta
        Strength of the KL penalty in units of the reward, > 0.
    baseline
        b, a number or ``(...)``, at most V*.

    Raises
    ------
    ValueError
        If an entry is not finite, ``beta`` is out of range or the baseline exceeds V*.

    References
    ----------
    Derived here; the failure of such baselines is the point of Flet-Berliac et al. 2024,
    arXiv:2406.19185.

    Examples
    --------
    >>> reward, behaviour, reference = [1.0, 0.5, 0.0], np.log([0.1, 0.2, 0.7]), np.log([1 / 3] * 3)
    >>> np.exp(off_policy_limit(reward, behaviour, reference, beta=0.5, baseline=0.0)).round(8)
    array([0.36835765, 0.3589834 , 0.27265895])
    """
    check_positive(beta=beta)
    names = ("reward", "log_behaviour", "log_reference")
    tables = [
        as_float_array(x, name, min_ndim=1)
        for x, name in zip((reward, log_behaviour, log_reference), names, strict=True)
    ]
    score, log_mu, log_ref = np.broadcast_arrays(*tables)
    b = as_float_array(baseline, "baseline")
    value = beta * logsumexp(log_ref + score / beta)
    short = value - b
    if (short < -1e-9 * (1 + np.abs(value))).any():
        raise ValueError(
            f"baseline must be at most the value of the optimum, got {float(-short.min())} above it"
        )
    t = log_ref + (score - b[..., None]) / beta

    def log_policy(log_c: np.ndarray) -> np.ndarray:
        return t - wrightomega(t + log_c[..., None] - log_mu)

    # In units of β. At c = max(t − log μ) no response is likelier than under μ, so that the sum is
    # at most one.
    low = np.full(short.shape, -80.0)
    high = np.log(np.maximum((t - log_mu).max(axis=-1), np.exp(-80.0)))
    for _ in range(80):
        middle = 0.5 * (low + high)
        much = logsumexp(log_policy(middle)) > 0
        low, high = np.where(much, middle, low), np.where(much, high, middle)
    return log_softmax(log_policy(0.5 * (low + high)))


def score_variance(advantage: Array, log_policy: Array) -> Array:
    r"""Return the variance (trace) of the score estimate from one sample of π, ``(...)``.

    The estimate is :math:`A(y)\nabla\log\pi(y)`.

    Examples
    --------
    >>> import numpy as np
    >>> float(score_variance(np.asarray([1.0, 0.5, 0.0]), np.log([0.2, 0.5, 0.3])).round(12))
    0.21255
    """
    xp = array_namespace(log_policy)
    policy = xp.exp(log_policy)
    # ‖e_y − π‖² of the score in the logits
    size = 1 - 2 * policy + xp.sum(policy**2, axis=-1, keepdims=True)
    return xp.sum(policy * size * advantage**2, axis=-1) - xp.sum(
        score_gradient(advantage, log_policy) ** 2, axis=-1
    )


def pairwise_variance(advantage: Array, log_policy: Array) -> Array:
    r"""Return the variance (trace) of the contrast estimate from one pair of π, ``(...)``.

    The estimate is :math:`\tfrac12(A(y) - A(y'))\nabla\log(\pi(y)/\pi(y'))`.

    It is :math:`\mathrm{Var}_\pi A - \|\nabla E_\pi A\|^2`, whatever constant is added to A.

    Examples
    --------
    >>> import numpy as np
    >>> float(
    ...     pairwise_variance(np.asarray([1.0, 0.5, 0.0]) + 100, np.log([0.2, 0.5, 0.3])).round(12)
    ... )
    0.09155
    """
    xp = array_namespace(log_policy)
    policy = xp.exp(log_policy)
    centred = advantage - xp.sum(policy * advantage, axis=-1, keepdims=True)
    return xp.sum(policy * centred**2, axis=-1) - xp.sum((policy * centred) ** 2, axis=-1)
