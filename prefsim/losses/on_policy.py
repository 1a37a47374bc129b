r"""Policy gradients of sampled responses with the clipped probability ratio: PPO, GRPO, RLOO.

The responses were drawn by a policy :math:`\pi_{old}`, and with
:math:`\rho = \pi/\pi_{old}` each step costs

.. math:: \max\big(-A\rho,\; -A\,\mathrm{clip}(\rho, 1 - \epsilon_{low}, 1 + \epsilon_{high})\big)

Where the responses are the policy's own (ρ = 1) its gradient is :math:`-A\nabla\log\pi`. The three
differ in their advantage A, in what a step is (a token, or a whole response) and in where the KL
penalty is: in the reward, as :math:`\log(\pi_{old}/\pi_{ref})` of what was drawn, or in the loss.

In the reward, summed over tokens, the expected gradient is exactly that of
:math:`E_\pi R - \beta\,\mathrm{KL}(\pi\|\pi_{ref})`. Token by token in the loss it is not: every
estimator of :func:`prefsim.losses.token_kl` misses what a token does to the log-ratios behind it.
"""

from __future__ import annotations

import math
from typing import Any

from prefsim.checks import (
    check_choice,
    check_flag,
    check_nonnegative,
    check_same_shape,
)
from prefsim.containers import ListLogps, TokenListLogps
from prefsim.losses.advantages import (
    check_responses,
    group_advantage,
    kl_shaped_rewards,
    leave_one_out,
    rewards_to_go,
    whitened,
)
from prefsim.losses.clipped import REDUCTIONS, check_clip, clipped_loss, reduced
from prefsim.losses.edge import checked
from prefsim.losses.kl_estimators import ESTIMATORS, token_kl
from prefsim.losses.pair_fields import check_last_axis
from prefsim.losses.tokenwise import masked_sum
from prefsim.numerics import array_namespace, stop_gradient
from prefsim.typing import ArrayT

__all__ = ["grpo", "ppo", "rloo"]

PENALTIES = ("reward", "loss")


def _check(logps: TokenListLogps[ArrayT]) -> None:
    """Raise unless the fields of drawn responses fit each other and none is empty."""
    tokens = logps._asdict()
    scores = tokens.pop("scores")
    check_same_shape(**tokens)
    check_last_axis(logps.logp, "logp", "token")
    check_same_shape(scores=scores, responses=logps.logp[..., 0])
    check_responses(logps.mask)


def _policy_and_sampler(logps: TokenListLogps[ArrayT]) -> tuple[ArrayT, ArrayT, ArrayT]:
    """Return log-probabilities under policy, sampler and reference, 0 behind the mask."""
    xp = array_namespace(logps.logp)
    zero = xp.zeros_like(logps.logp)
    logp = xp.where(logps.mask, logps.logp, zero)
    old = stop_gradient(logp) if logps.old_logp is None else logps.old_logp
    return logp, xp.where(logps.mask, old, zero), xp.where(logps.mask, logps.ref_logp, zero)


def _surrogate(
    logps: TokenListLogps[ArrayT],
    advantage: ArrayT,
    *,
    beta: float,
    kl: str,
    estimator: str,
    clip_low: float,
    clip_high: float,
    reduction: str,
) -> ArrayT:
    """Return the clipped loss with given advantages of tokens, and the KL penalty of the loss."""
    logp, old, ref = _policy_and_sampler(logps)
    values = clipped_loss(logp - old, advantage, clip_low=clip_low, clip_high=clip_high)
    found = reduced(values, logps.mask, reduction=reduction)
    if kl == "reward":
        return found
    penalty = token_kl(logp, ref, estimator=estimator)
    return found + beta * reduced(penalty, logps.mask, reduction=reduction)


def _check_options(
    beta: float, kl: str, estimator: str, clip_low: float, clip_high: float, reduction: str
) -> None:
    check_nonnegative(beta=beta)
    check_choice(PENALTIES, kl=kl)
    check_choice(ESTIMATORS, estimator=estimator)
    check_clip(clip_low, clip_high)
    check_choice(REDUCTIONS, reduction=reduction)


@checked
def ppo(
    logps: TokenListLogps[ArrayT],
    *,
    beta: float = 0.05,
    kl: str = "reward",
    estimator: str = "k3",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    reduction: str = "batch",
    whiten: bool = False,
) -> ArrayT:
    r"""Proximal policy optimisation loss of K drawn responses to one prompt, token by token.

    Its gradient alone means anything.

    .. math:: \max\big(-A_t\rho_t,\; -A_t\,\mathrm{clip}(\rho_t, 1 - \epsilon_{low},
        1 + \epsilon_{high})\big),\qquad \rho_t = \frac{\pi(y_t)}{\pi_{old}(y_t)}

    The advantages are those of a value function where the container has them
    (:func:`prefsim.losses.gae`). Else, without a value function, they are the score of the response
    less the mean score of the other responses to its prompt; of one response alone the score
    itself.

    Parameters
    ----------
    logps
        Token log-probabilities in nats of the drawn responses, and their rewards as scores.
    beta
        Strength of the KL penalty in units of the reward, >= 0.
    kl
        ``"reward"``: every token is paid :math:`-\beta\log(\pi_{old}/\pi_{ref})`, and an advantage
        gains what is paid from its token on (less the mean of the other responses' whole penalty,
        where there is no value function). With ``"sum"`` for the reduction the gradient on policy
        is then exactly minus that of :math:`E_\pi R - \beta\,\mathrm{KL}(\pi\|\pi_{ref})`.
        Advantages that hold the penalty already are given with ``beta=0``. ``"loss"``:
        :func:`prefsim.losses.token_kl` of every token joins the loss.
    estimator
        ``"k1"``, ``"k2"`` or ``"k3"`` of :func:`prefsim.losses.token_kl`, for ``kl="loss"``.
    clip_low, clip_high
        How far the ratio may fall or rise before a step in the direction of improvement gains
        nothing more, each in (0, inf]; ``math.inf`` does not clip.
    reduction
        ``"batch"``, ``"response"`` or ``"sum"``, see :func:`prefsim.losses.reduced`.
    whiten
        Shift and scale the advantages to mean 0 and variance 1 over all tokens of the batch.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ or a response has no token.

    References
    ----------
    Schulman et al. 2017, eq. 7, arXiv:1707.06347; for language models as in Ivison et al. 2024,
    arXiv:2406.09279 (``reduction="batch"``, ``whiten=True``, advantages of a value function).

    Examples
    --------
    >>> import numpy as np
    >>> drawn = TokenListLogps(
    ...     logp=np.log([[[0.6], [0.3]]]),
    ...     ref_logp=np.log([[[0.5], [0.5]]]),
    ...     mask=np.ones((1, 2, 1), dtype=bool),
    ...     scores=np.asarray([[1.0, 0.0]]),
    ...     old_logp=np.log([[[0.5], [0.5]]]),
    ... )
    >>> ppo(drawn), ppo(drawn, clip_low=0.5)
    (array([-0.2]), array([-0.3]))
    """
    _check_options(beta, kl, estimator, clip_low, clip_high, reduction)
    check_flag(whiten=whiten)
    _check(logps)
    paid = beta if kl == "reward" else 0.0
    if logps.advantage is None:
        advantage = _above_others(logps, paid)
    else:
        _, old, ref = _policy_and_sampler(logps)
        advantage = logps.advantage + rewards_to_go(-paid * (old - ref))
    if whiten:
        advantage = whitened(advantage, logps.mask)
    return _surrogate(
        logps,
        advantage,
        beta=beta,
        kl=kl,
        estimator=estimator,
        clip_low=clip_low,
        clip_high=clip_high,
        reduction=reduction,
    )


def _above_others(logps: TokenListLogps[ArrayT], beta: float) -> ArrayT:
    """Return what is paid from each token on, less the mean of what the other responses got."""
    _, old, ref = _policy_and_sampler(logps)
    rewards = kl_shaped_rewards(logps.scores, old, ref, logps.mask, beta=beta)
    to_go: Any = rewards_to_go(rewards)
    if logps.scores.shape[-1] < 2:
        return to_go
    total = masked_sum(rewards, logps.mask)
    return to_go - (total - leave_one_out(total))[..., None]


@checked
def grpo(
    logps: TokenListLogps[ArrayT],
    *,
    beta: float = 0.04,
    kl: str = "loss",
    estimator: str = "k3",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    scale: bool = True,
    reduction: str = "response",
) -> ArrayT:
    r"""Group relative policy optimisation loss of K drawn responses to one prompt, token by token.

    Its gradient alone means anything. It is :func:`prefsim.losses.ppo` with one advantage for all
    tokens of a response, what its reward has above the mean of its group
    (:func:`prefsim.losses.group_advantage`); advantages of the container are not read.

    With ``kl="reward"`` the optimum of :math:`E_\pi R - \beta\,\mathrm{KL}(\pi\|\pi_{ref})` is a
    place of rest: all rewards are equal there. Dividing by their deviation makes it no smooth one,
    since however close the policy is, advantages stay of size one. With ``kl="loss"`` it is none:
    what is divided by the deviation is another objective, and the penalty is not the divergence.
    The expected gradient on policy is that of the objective, times (K − 1)/K, with
    ``kl="reward"``, ``scale=False`` and ``reduction="sum"`` alone.

    Parameters
    ----------
    logps
        Token log-probabilities in nats of K >= 2 drawn responses, and their rewards as scores.
    beta
        Strength of the KL penalty in units of the advantage, >= 0.
    kl
        ``"loss"``: :func:`prefsim.losses.token_kl` of every token joins the loss. ``"reward"``: the
        reward is :math:`R - \beta\log(\pi_{old}/\pi_{ref})` of the whole response.
    estimator
        As for :func:`prefsim.losses.ppo`.
    clip_low, clip_high
        As for :func:`prefsim.losses.ppo`, each in (0, inf].
    reduction
        ``"batch"``, ``"response"`` or ``"sum"``, see :func:`prefsim.losses.reduced`.
    scale
        Whether to divide by the standard deviation of the group.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ, a response has no token or there are fewer
        than two.

    References
    ----------
    Shao et al. 2024 (DeepSeekMath), eqs. 3 and 4, arXiv:2402.03300. ``scale=False`` with
    ``reduction="sum"``: Liu et al. 2025 (Dr. GRPO), arXiv:2503.20783. ``reduction="batch"`` with
    ``clip_high`` above ``clip_low`` and ``beta=0``: Yu et al. 2025 (DAPO), arXiv:2503.14476.

    Examples
    --------
    >>> import numpy as np
    >>> drawn = TokenListLogps(
    ...     logp=np.log([[[0.6], [0.3]]]),
    ...     ref_logp=np.log([[[0.5], [0.5]]]),
    ...     mask=np.ones((1, 2, 1), dtype=bool),
    ...     scores=np.asarray([[1.0, 0.0]]),
    ...     old_logp=np.log([[[0.5], [0.5]]]),
    ... )
    >>> grpo(drawn).round(6), grpo(drawn, scale=False, beta=0.0)
    (array([-0.137991]), array([-0.1]))
    """
    _check_options(beta, kl, estimator, clip_low, clip_high, reduction)
    check_flag(scale=scale)
    _check(logps)
    reward = logps.scores
    if kl == "reward":
        _, old, ref = _policy_and_sampler(logps)
        reward = reward - beta * masked_sum(old - ref, logps.mask)
    return _surrogate(
        logps,
        group_advantage(reward, scale=scale)[..., None],
        beta=beta,
        kl=kl,
        estimator=estimator,
        clip_low=clip_low,
        clip_high=clip_high,
        reduction=reduction,
    )


@checked
def rloo(
    logps: ListLogps[ArrayT],
    *,
    beta: float = 0.05,
    clip_low: float = math.inf,
    clip_high: float = math.inf,
) -> ArrayT:
    r"""Leave-one-out policy gradient loss of K drawn responses to one prompt, each as a whole.

    Its gradient alone means anything.

    .. math:: -\frac1K\sum_i A_i\,\frac{\pi(y_i)}{\pi_{old}(y_i)},\qquad
        A_i = R_i - \frac{1}{K-1}\sum_{j \ne i} R_j

    with :math:`R_i = R(y_i) - \beta\log(\pi_{old}(y_i)/\pi_{ref}(y_i))`, a constant of
    differentiation. On policy the gradient is minus that of
    :math:`E_\pi R - \beta\,\mathrm{KL}(\pi\|\pi_{ref})`, exactly, and half of that of
    :func:`prefsim.losses.copg_group`.

    Parameters
    ----------
    logps
        Log-probabilities in nats and, as scores, the rewards of K >= 2 responses, each
        ``(..., n, K)``; ``old_logps`` belong to the policy that the responses were drawn from, the
        current one unless given.
    beta
        Strength of the KL penalty in units of the reward, >= 0.
    clip_low, clip_high
        How far the ratio of a whole response may fall or rise before a step in the direction of
        improvement gains nothing more, each in (0, inf]; ``math.inf`` does not clip.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ or there are fewer than two responses.

    References
    ----------
    Ahmadian et al. 2024, section 2.3, arXiv:2402.14740; Kool, van Hoof and Welling 2019. The
    clipped ratio of whole responses as in ``RLOOTrainer`` of the TRL library.

    Examples
    --------
    >>> import numpy as np
    >>> drawn = ListLogps(
    ...     logps=np.log([[0.6, 0.3]]),
    ...     ref_logps=np.log([[0.5, 0.5]]),
    ...     scores=np.asarray([[1.0, 0.0]]),
    ...     old_logps=np.log([[0.5, 0.5]]),
    ... )
    >>> rloo(drawn).round(6), rloo(drawn, clip_high=0.1).round(6)
    (array([-0.3]), array([-0.25]))
    """
    check_nonnegative(beta=beta)
    check_clip(clip_low, clip_high)
    check_same_shape(**logps._asdict())
    old = stop_gradient(logps.logps) if logps.old_logps is None else logps.old_logps
    advantage = leave_one_out(logps.scores - beta * (old - logps.ref_logps))
    values = clipped_loss(logps.logps - old, advantage, clip_low=clip_low, clip_high=clip_high)
    return array_namespace(values).sum(values, axis=-1) / values.shape[-1]
