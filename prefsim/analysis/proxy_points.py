r"""Where rewards stop being good proxies: a path of ever stronger optimisation, and its best point.

With rewards weighed by w, the optimum of :math:`w^\top J(\pi) - \beta\,\mathrm{KL}` is a Gibbs tilt
of the reference. Along weights that grow the weighted reward never falls, while what the rewards
stand for, a gold reward, often rises first and then falls.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from prefsim._readable import readable
from prefsim.checks import (
    as_context_probs,
    as_floats,
    as_log_policies,
    check_broadcast,
    check_kind,
    check_positive,
    check_shape,
)
from prefsim.numerics import array_namespace, categorical_kl
from prefsim.solvers.closed_forms.regularised import gibbs_log_policy
from prefsim.typing import Array, Number

__all__ = ["ProxyPoint", "RewardPath", "proxy_point", "reward_path"]


@readable
class RewardPath(NamedTuple):
    """Optima of weighted rewards, one for each step of a path.

    Attributes
    ----------
    weights
        ``(..., S, m)``.
    log_policy
        ``(..., S, X, Y)``, nats.
    achieved
        Expected rewards J, ``(..., S, m)``.
    kl
        From the reference, nats, mean over prompts, ``(..., S)``.
    context_probs
        ``(X,)``.
    """

    weights: Array
    log_policy: Array
    achieved: Array
    kl: Array
    context_probs: Array


@readable
class ProxyPoint(NamedTuple):
    """The step of a path on which the gold reward is largest.

    Attributes
    ----------
    step
        Its number, integers ``(...)``.
    achieved
        Expected rewards there, the proxy points, ``(..., m)``.
    gold
        Expected gold reward there, ``(...)``.
    along
        Expected gold reward of every step, ``(..., S)``.
    """

    step: Array
    achieved: Array
    gold: Array
    along: Array


def reward_path(
    rewards: Array,
    ref_log_probs: Array,
    weights: Array,
    *,
    beta: Number,
    context_probs: Any = None,
) -> RewardPath:
    r"""Return the optima of :math:`\sum_i w_i J_i(\pi) - \beta E_x\mathrm{KL}` for many weights.

    Parameters
    ----------
    rewards
        m rewards ``(..., m, X, Y)`` of Y responses to X prompts.
    ref_log_probs
        ``(..., X, Y)``, nats.
    weights
        ``(..., S, m)``, S steps; of the other rewards zero, for the path of one alone.
    beta
        Strength of the KL penalty, > 0, in units of the rewards.
    context_probs
        ``(X,)``, uniform unless given.

    Returns
    -------
    RewardPath

    Raises
    ------
    ValueError
        If ``beta`` is out of range, shapes do not fit, or there is no step.

    References
    ----------
    Moskovitz et al. 2023, section 3, arXiv:2310.04373.

    Examples
    --------
    >>> import numpy as np
    >>> reward, reference = np.array([[[0.0, 1.0]]]), np.log([[0.5, 0.5]])
    >>> reward_path(reward, reference, [[0.0], [1.0], [4.0]], beta=1.0).achieved[:, 0].round(3)
    array([0.5  , 0.731, 0.982])
    """
    check_positive(beta=beta)
    (ref_log_probs,) = as_log_policies(tail=(None, None), ref_log_probs=ref_log_probs)
    contexts, responses = ref_log_probs.shape[-2:]
    shares = as_context_probs(context_probs, contexts)
    rewards, reference, weights, shares = as_floats(
        rewards=rewards, ref_log_probs=ref_log_probs, weights=weights, shares=shares
    )
    check_shape(rewards, "rewards", (None, contexts, responses))
    check_shape(weights, "weights", (None, rewards.shape[-3]))
    if 0 in (weights.shape[-2], rewards.shape[-3]):
        raise ValueError(
            f"weights must hold at least one step and one reward, got shape {tuple(weights.shape)}"
        )
    check_broadcast(
        rewards=rewards[..., 0, 0, 0],
        ref_log_probs=reference[..., 0, 0],
        weights=weights[..., 0, 0],
    )
    xp = array_namespace(rewards)
    combined = xp.sum(weights[..., None, None] * rewards[..., None, :, :, :], axis=-3)
    log_policy, _ = gibbs_log_policy(combined, reference[..., None, :, :], beta=beta)
    policy = xp.exp(log_policy)
    earned = xp.sum(policy[..., None, :, :] * rewards[..., None, :, :, :], axis=-1)
    kl = categorical_kl(log_policy, reference[..., None, :, :])
    return RewardPath(
        weights,
        log_policy,
        xp.sum(shares * earned, axis=-1),
        xp.sum(shares * kl, axis=-1),
        shares,
    )


def proxy_point(path: RewardPath, gold: Array) -> ProxyPoint:
    """Return the step of a path on which the gold reward is largest, and the rewards there.

    Parameters
    ----------
    path
        As :func:`reward_path` gives it, of at least one step.
    gold
        What the rewards stand for, ``(..., X, Y)``.

    Returns
    -------
    ProxyPoint

    Raises
    ------
    ValueError
        If shapes do not fit.

    References
    ----------
    Moskovitz et al. 2023, section 3, arXiv:2310.04373: individual proxy points on the path of one
    reward, joint ones on a path of all.

    Examples
    --------
    >>> import numpy as np
    >>> reward, reference = np.array([[[0.0, 1.0, 2.0]]]), np.log([[0.6, 0.3, 0.1]])
    >>> path = reward_path(reward, reference, [[0.0], [1.0], [4.0]], beta=1.0)
    >>> found = proxy_point(path, np.array([[0.0, 1.0, 0.0]]))
    >>> int(found.step), found.achieved.round(3)
    (1, array([1.064]))
    """
    check_kind(RewardPath, path=path)
    log_policy, reached, shares, gold = as_floats(
        log_policy=path.log_policy,
        achieved=path.achieved,
        context_probs=path.context_probs,
        gold=gold,
    )
    check_shape(gold, "gold", tuple(log_policy.shape[-2:]))
    check_broadcast(gold=gold[..., 0, 0], path=log_policy[..., 0, 0, 0])
    xp = array_namespace(log_policy)
    earned = xp.sum(xp.exp(log_policy) * gold[..., None, :, :], axis=-1)
    along = xp.sum(shares * earned, axis=-1)
    step = xp.argmax(along, axis=-1)
    places = xp.arange(along.shape[-1], dtype=step.dtype, device=along.device)
    here = places == step[..., None]
    zero = xp.zeros_like(along)
    achieved = xp.where(here[..., None], reached, xp.zeros_like(reached))
    return ProxyPoint(
        step, xp.sum(achieved, axis=-2), xp.sum(xp.where(here, along, zero), axis=-1), along
    )
