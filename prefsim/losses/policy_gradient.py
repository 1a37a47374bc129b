r"""Policy gradients as losses on pairs or groups of scored responses: CoPG and P3O.

Scores are rewards, in no particular order.

Both weigh the log-probabilities of two responses to one prompt by the difference of their
*regularised* rewards :math:`R_\beta(y) = R(y) - \beta\log(\pi(y)/\pi_{ref}(y))`, so that a reward
shifted by any function of the prompt changes nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from prefsim.checks import (
    as_float_array,
    check_choice,
    check_flag,
    check_interval,
    check_nonnegative,
    check_positive,
    check_same_shape,
)
from prefsim.containers import ListLogps, PairLogps
from prefsim.losses.advantages import deviation, group_advantage, leave_one_out
from prefsim.losses.edge import checked
from prefsim.losses.pair_fields import needed, scores_of
from prefsim.losses.pairwise import log_ratios, reward_margin
from prefsim.numerics import array_namespace, bounded_exp, over_rows, stop_gradient
from prefsim.typing import Array, ArrayT, Number

__all__ = ["RewardScale", "copg", "copg_group", "p3o"]


def _reward_gap(logps: PairLogps) -> Any:
    """Return R(y) − R(y') of the two scores, constants of differentiation, ``(..., n)``."""
    chosen, rejected = scores_of(logps)
    return stop_gradient(chosen - rejected)


def _check_form(form: str, beta: Number) -> None:
    check_choice(("square", "gradient"), form=form)
    (check_positive if form == "square" else check_nonnegative)(arrays=True, beta=beta)


@checked
def copg(logps: PairLogps[ArrayT], *, beta: Number = 0.1, form: str = "square") -> ArrayT:
    r"""Contrastive policy gradient loss of two scored responses, one value per pair.

    .. math:: \frac{1}{2\beta}\big(R(y) - R(y') - \beta h\big)^2
        \qquad\text{or}\qquad
        -\mathrm{sg}\big[R_\beta(y) - R_\beta(y')\big]\,\big(\log\pi(y) - \log\pi(y')\big)

    with the log-ratio margin ``h`` of :func:`reward_margin`. Both have the same gradient, and with
    pairs that connect all responses, from any distribution, the optimum of
    :math:`E_\pi R - \beta\,\mathrm{KL}(\pi\|\pi_{ref})` alone minimises the first. On pairs drawn
    from the policy itself the gradient is minus twice the policy gradient.

    Parameters
    ----------
    logps
        Log-probabilities in nats and, as scores, the rewards of both responses, each ``(..., n)``.
        Exchanging the two changes nothing.
    beta
        Strength of the KL penalty in units of the reward, > 0 (>= 0 for ``form="gradient"``, where
        0 is safe on fresh samples only: off policy nothing then bounds the log-probabilities).
    form
        ``"square"``, whose value can be compared, or ``"gradient"``, whose gradient alone means
        anything.

    Returns
    -------
    Array ``(..., n)``, in units of the reward.

    Raises
    ------
    ValueError
        If a parameter is out of range, a score is missing, or shapes differ.

    References
    ----------
    Flet-Berliac et al. 2024, arXiv:2406.19185. IPO's square times β/2 where the scores are ±¼.

    Examples
    --------
    >>> import numpy as np
    >>> pair = PairLogps(
    ...     *np.asarray([[-2.0], [-3.0], [-2.5], [-2.8]]),
    ...     chosen_score=np.asarray([1.0]),
    ...     rejected_score=np.asarray([0.2]),
    ... )
    >>> copg(pair, beta=0.1).round(10), copg(pair, beta=0.1, form="gradient").round(10)
    (array([2.6645]), array([-0.73]))
    """
    _check_form(form, beta)
    margin = reward_margin(logps)
    gap = _reward_gap(logps) - beta * margin
    if form == "square":
        return gap**2 / (2 * beta)
    return -stop_gradient(gap) * (logps.chosen - logps.rejected)


@checked
def copg_group(logps: ListLogps[ArrayT], *, beta: Number = 0.1, form: str = "square") -> ArrayT:
    r"""Contrastive policy gradient loss of K scored responses to one prompt.

    It is the mean of :func:`copg` over all their pairs.

    .. math:: \frac{s^2}{\beta},\quad s^2 = \frac{1}{K-1}\sum_i (a_i - \bar a)^2
        \qquad\text{or}\qquad
        -\frac{2}{K}\sum_i \mathrm{sg}\big[a_i
        - \tfrac{1}{K-1}\textstyle\sum_{j\ne i} a_j\big]\log\pi(y_i)

    with :math:`a_i = R_\beta(y_i)`: the sample variance of the regularised rewards, or twice
    leave-one-out REINFORCE (RLOO).

    Parameters
    ----------
    logps
        Log-probabilities in nats and, as scores, the rewards of K >= 2 responses, each
        ``(..., n, K)``.
    beta, form
        As for :func:`copg`.

    Returns
    -------
    Array ``(..., n)``, in units of the reward.

    Raises
    ------
    ValueError
        If a parameter is out of range, shapes differ or there are fewer than two responses.

    References
    ----------
    Flet-Berliac et al. 2024, arXiv:2406.19185; Kool, van Hoof and Welling 2019 (RLOO).
    """
    _check_form(form, beta)
    check_same_shape(**logps._asdict())
    k = logps.logps.shape[-1] if logps.logps.ndim else 0
    if k < 2:
        raise ValueError(
            "logps must hold at least two responses on its last axis to contrast, got shape"
            f" {tuple(logps.logps.shape)}"
        )
    xp = array_namespace(logps.logps)
    reward = stop_gradient(logps.scores) - over_rows(beta) * (logps.logps - logps.ref_logps)
    if form == "square":
        return xp.sum(group_advantage(reward, scale=False) ** 2, axis=-1) / ((k - 1) * beta)
    return -2 / k * xp.sum(stop_gradient(leave_one_out(reward)) * logps.logps, axis=-1)


@checked
def p3o(
    logps: PairLogps[ArrayT],
    *,
    beta: Number = 0.05,
    epsilon: Number = 0.2,
    weight_clip: float = 10.0,
    clip: str = "joint",
    scale_q: bool = False,
) -> ArrayT:
    r"""Pairwise proximal policy optimisation loss of two scored responses, one value per pair.

    Its gradient alone means anything.

    .. math:: \tfrac12\max\big(-qw\,d,\;
        -qw\,\mathrm{clip}(d, d_{old} - \epsilon, d_{old} + \epsilon)\big)

    with :math:`l_i = \log(\pi(y_i)/\pi_{ref}(y_i))`, :math:`d = l_1 - l_2` and, both constants of
    differentiation, :math:`q = R(y_1) - R(y_2) - \beta d` and the importance weight
    :math:`w = \mathrm{clip}(e^{l_1 + l_2 - l_{1,old} - l_{2,old}}, 1/C, C)`. Without clipping and
    over pairs from the behaviour policy its gradient is minus the policy gradient of
    :math:`E_\pi R - \beta\,\mathrm{KL}(\pi\|\pi_{ref})`, exactly.

    Parameters
    ----------
    logps
        Log-probabilities in nats and the rewards of both responses as scores, each ``(..., n)``;
        ``old_chosen`` and ``old_rejected`` belong to the policy that the responses were drawn from,
        the current one unless given.
    beta
        Strength of the KL penalty in units of the reward, >= 0. The penalty is part of q.
    epsilon
        How far, in nats, the log-ratios may move from the behaviour policy's in the direction of
        improvement, in (0, inf]; ``math.inf`` does not clip.
    weight_clip
        C, in [1, inf]; ``math.inf`` does not clip.
    clip
        ``"joint"`` (V2) clips the difference d, ``"separate"`` (V1) each of l₁ and l₂ by the same
        rule.
    scale_q
        Divide q by its standard deviation over the batch (last axis; squares over n − 1, as in the
        trainer), left alone where that is
        zero. This couples the batch, and, as the sign of q depends on which response comes first,
        no longer ignores the order of the two.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, a score or one of the two behaviour log-probabilities is
        missing, or shapes differ.

    References
    ----------
    Wu et al. 2023, arXiv:2310.00212. V2 as in the authors' public trainer; V1 in its sequence form
    (reconstructed).

    Examples
    --------
    >>> import numpy as np
    >>> pair = PairLogps(
    ...     chosen=np.asarray([0.3]),
    ...     rejected=np.asarray([-0.1]),
    ...     ref_chosen=np.zeros(1),
    ...     ref_rejected=np.zeros(1),
    ...     chosen_score=np.asarray([1.2]),
    ...     rejected_score=np.asarray([0.4]),
    ...     old_chosen=np.asarray([0.1]),
    ...     old_rejected=np.asarray([0.05]),
    ... )
    >>> p3o(pair).round(10), p3o(pair, clip="separate").round(10)
    (array([-0.10249893]), array([-0.16399829]))
    """
    check_choice(("joint", "separate"), clip=clip)
    check_nonnegative(arrays=True, beta=beta)
    check_interval(arrays=True, low=0.0, high=math.inf, closed="right", epsilon=epsilon)
    check_interval(low=1.0, high=math.inf, closed="both", weight_clip=weight_clip)
    check_flag(scale_q=scale_q)
    first, second = log_ratios(logps)
    if logps.old_chosen is None and logps.old_rejected is None:
        old_first, old_second = stop_gradient(first), stop_gradient(second)
    else:
        old_first = needed(logps.old_chosen, "old_chosen") - logps.ref_chosen
        old_second = needed(logps.old_rejected, "old_rejected") - logps.ref_rejected
    xp = array_namespace(first)
    q = _reward_gap(logps) - stop_gradient(beta * (first - second))
    if scale_q:
        q = q / deviation(q)
    bound = math.log(weight_clip)
    log_weight = stop_gradient(xp.clip(first + second - old_first - old_second, -bound, bound))
    scale = 0.5 * q * bounded_exp(log_weight)

    def pessimistic(gain: ArrayT, x: ArrayT, old: ArrayT) -> ArrayT:
        # The larger of the two losses, without a gradient through the smaller.
        better = gain > 0
        furthest = xp.where(better, old + epsilon, old - epsilon)
        is_far = xp.where(better, x > furthest, x < furthest)
        return -gain * xp.where(is_far, furthest, x)

    if clip == "joint":
        return pessimistic(scale, first - second, old_first - old_second)
    return pessimistic(scale, first, old_first) + pessimistic(-scale, second, old_second)


class RewardScale(NamedTuple):
    r"""P3O's preprocessing of rewards.

    Clip to :math:`\pm` ``limit``, divide by the running standard deviation, never shift.

    The division keeps differences of rewards comparable between batches. The invariance of
    :func:`p3o` to a shift of the reward ends here: clipping sees the shift, and so does the
    deviation of rewards whose shift differs between prompts.

    Attributes
    ----------
    limit
        Largest size of a reward, > 0.
    mean, squares
        Mean of the clipped rewards seen so far, and the sum of their squared distances from it.
    seen
        Number of rewards seen.

    References
    ----------
    Wu et al. 2023, arXiv:2310.00212, as in the authors' public trainer
    (``scale_reward="running"``).

    Examples
    --------
    >>> import numpy as np
    >>> scale = RewardScale().updated([1.0, 3.0, 50.0])
    >>> scale.seen, round(scale.deviation, 6)
    (3, 4.725816)
    >>> scale.scaled(np.asarray([-4.725816, 50.0])).round(5)
    array([-1.     ,  2.11604])
    """

    limit: float = 10.0
    mean: float = 0.0
    squares: float = 0.0
    seen: int = 0

    @property
    def deviation(self) -> float:
        """Standard deviation of the clipped rewards seen so far, squares over n − 1; else 1."""
        return math.sqrt(self.squares / (self.seen - 1)) if self.squares > 0 else 1.0

    def updated(self, rewards: Any) -> RewardScale:
        """Return the scale after a further batch of rewards of any shape.

        Raises
        ------
        ValueError
            If the batch is empty, a reward is not finite, or ``limit`` is not positive.
        """
        check_positive(limit=self.limit)
        batch = as_float_array(rewards, "rewards", graph=True).clip(-self.limit, self.limit)
        if batch.size == 0:
            raise ValueError("rewards must hold at least one value, got 0")
        seen, moved = self.seen + batch.size, float(batch.mean()) - self.mean
        squares = (
            self.squares
            + float(((batch - batch.mean()) ** 2).sum())
            + moved**2 * self.seen * batch.size / seen
        )
        return RewardScale(self.limit, self.mean + moved * batch.size / seen, squares, seen)

    def scaled(self, rewards: Array) -> Array:
        """Return the rewards clipped and divided by the deviation, in their own array library."""
        return array_namespace(rewards).clip(rewards, -self.limit, self.limit) / self.deviation
