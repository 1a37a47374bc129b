r"""Losses of self-play: what moves a policy towards the equilibrium of a preference game.

One value per pair or response.

Each of them, minimised exactly over all policies on pairs that connect the responses, makes the
update of a method of :func:`prefsim.solvers.solve_nash`. A judge gives a response its probability
to win against an opponent (``*_score``).

==============  ==================================================================================
loss            method whose update is its minimiser
==============  ==================================================================================
sppo, dno       ``mwu``, up to O(η³) for sppo; wins against the last iterate, which is the
                reference; of single responses ``sppo_single``, of scores ``gpo``
inpo            ``mirror_descent``, from labels alone
mirror_descent  ``mwu``, ``spo`` (τ = 0), ``mirror_descent``, ``mmd`` (step η/(1 + ητ)), ``egpo``
                (a trial step, then the same against the trial), ``nash_md`` (against the mixture),
                ``optimistic`` (extrapolated wins), ``apo`` (from the extrapolated iterate):
                whatever is a mirror step
online_ipo      the best response :math:`\mathrm{BR}_\tau` to the opponent; a step of gradient
                descent is ``mirror_descent`` with uniform pairs, and ``online_ipo`` with pairs
                from the policy
nash_md_pg      none: its gradient is that of the method
==============  ==================================================================================
"""

from __future__ import annotations

from typing import Any, NamedTuple

from prefsim.checks import (
    check_choice,
    check_nonnegative,
    check_positive,
    check_reference_weight,
    check_same_shape,
)
from prefsim.containers import JudgedLogps, PairLogps
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.losses.pair_fields import (
    check_judged,
    check_shapes,
    needed,
    scores_of,
    win_probabilities,
)
from prefsim.losses.pairwise import reward_margin
from prefsim.numerics import array_namespace, sigmoid, stop_gradient
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "Judgement",
    "antisymmetrised",
    "dno",
    "inpo",
    "mirror_descent",
    "nash_md_pg",
    "online_ipo",
]


class Judgement(NamedTuple):
    """Probabilities ``(...,)`` that the first response is preferred, and which of them to keep.

    An abstention says nothing.
    """

    win_prob: Array
    kept: Array


def antisymmetrised(forward: Array, backward: Array) -> Judgement:
    r"""Return the judge's probability freed from the order in which it saw the pair.

    :math:`\tfrac12 (P(y,y') + 1 - P(y',y))`.

    Parameters
    ----------
    forward, backward
        ``(...,)``: the judge's probability that the response shown first is preferred, for the pair
        and for the pair in reverse order. A value outside [0, 1], such as -1, is an abstention.

    Examples
    --------
    >>> import numpy as np
    >>> antisymmetrised(np.array([0.75, -1.0]), np.array([0.5, 0.25]))
    Judgement(win_prob=array([0.625, 0.5  ]), kept=array([ True, False]))
    """
    check_same_shape(forward=forward, backward=backward)
    xp = array_namespace(forward, backward)
    kept = (forward >= 0) & (forward <= 1) & (backward >= 0) & (backward <= 1)
    return Judgement(
        xp.where(kept, 0.5 * (forward + 1.0 - backward), xp.full_like(forward, 0.5)), kept
    )


def _margin_to_last_iterate(logps: PairLogps[ArrayT], weight: Any) -> Any:
    """Return the margin over a mixture of reference and last iterate, ``(..., n)``.

    The reference to the power ``weight`` times the last iterate to the rest.
    """
    check_shapes(logps)
    several = not isinstance(weight, int | float)
    if not several and weight == 1:
        return reward_margin(logps)
    last = needed(logps.old_chosen, "old_chosen"), needed(logps.old_rejected, "old_rejected")
    # What has no weight may be infinite.
    has_reference = several or weight > 0
    chosen, rejected = (
        weight * ref + (1 - weight) * old if has_reference else old
        for ref, old in zip((logps.ref_chosen, logps.ref_rejected), last, strict=True)
    )
    return (logps.chosen - chosen) - (logps.rejected - rejected)


@checked
def mirror_descent(logps: PairLogps[ArrayT], *, step: Number = 1.0, tau: Number = 0.1) -> ArrayT:
    r"""Regression of the log-ratio on the difference of win probabilities.

    Its minimiser is a mirror step.

    .. math:: \Big(\log\frac{\pi(y)}{\pi(y')} - \eta\tau\log\frac{\mu(y)}{\mu(y')}
        - (1-\eta\tau)\log\frac{\pi_t(y)}{\pi_t(y')}
        - \eta\,(w - w')\Big)^2

    Its zero is :math:`\pi \propto \pi_t^{1-\eta\tau}\mu^{\eta\tau}e^{\eta w}`, from any
    distribution of pairs that connects all responses. With ``tau = 0`` it is SPO with Hedge; where
    the scores are rewards REBEL, and where they are the skew scores of a general preference model
    GPO.

    Parameters
    ----------
    logps
        Log-probabilities in nats of the policy, the reference μ, and as ``old_*`` those of the last
        iterate :math:`\pi_t`; scores: the payoffs w of both responses, such as their probabilities
        to win against an opponent. Each ``(..., n)``.
    step
        Step size η > 0, that of :func:`prefsim.solvers.solve_nash`.
    tau
        Strength τ >= 0 of the penalty towards the reference, with ``step * tau <= 1``; at 1
        ``old_*`` is not needed.

    Returns
    -------
    Array ``(..., n)``. Exchanging the two responses changes nothing.

    Raises
    ------
    ValueError
        If a parameter is out of range, a field is missing, or shapes differ.

    References
    ----------
    Zhang et al. 2024 (INPO, its soft loss up to a constant), arXiv:2407.00617; Swamy et al. 2024
    (SPO), arXiv:2401.04056; Gao et al. 2024 (REBEL), arXiv:2404.16767; Zhang et al. 2024 (GPO),
    arXiv:2410.02197. Derived as the common form.

    Examples
    --------
    >>> import numpy as np
    >>> start = np.log([0.5])
    >>> pair = PairLogps(
    ...     np.log([0.6]),
    ...     np.log([0.4]),
    ...     ref_chosen=start,
    ...     ref_rejected=start,
    ...     chosen_score=np.ones(1),
    ...     rejected_score=np.zeros(1),
    ...     old_chosen=start,
    ...     old_rejected=start,
    ... )
    >>> mirror_descent(pair, step=float(np.log(1.5)), tau=0.0).round(12)
    array([0.])
    """
    check_positive(arrays=True, step=step)
    check_nonnegative(arrays=True, tau=tau)
    check_reference_weight(step, tau)
    payoff, payoff_rejected = scores_of(logps)
    margin = _margin_to_last_iterate(logps, step * tau)
    return (margin - step * stop_gradient(payoff - payoff_rejected)) ** 2


@checked
def inpo(logps: PairLogps[ArrayT], *, step: Number = 10 / 3, tau: Number = 0.1) -> ArrayT:
    r"""Loss of iterative Nash policy optimisation.

    The mirror step from labels alone, on pairs drawn from the last iterate.

    .. math:: \Big(h_t - \frac{\eta}{2}\Big)^2,\qquad h_t = \log\frac{\pi(y_w)}{\pi(y_l)}
        - \eta\tau\log\frac{\mu(y_w)}{\mu(y_l)} - (1-\eta\tau)\log\frac{\pi_t(y_w)}{\pi_t(y_l)}

    It is :func:`ipo` with a mixture of μ and the last iterate as reference. In expectation over
    labels it is the loss of :func:`mirror_descent` with the same options, plus a constant, where
    both responses are drawn from :math:`\pi_t`, which is also the opponent.

    Parameters
    ----------
    logps
        Log-probabilities in nats of the policy, the reference μ, and as ``old_*`` those of the last
        iterate; each ``(..., n)``.
    step
        Step size η > 0 of the mirror step, that of :func:`prefsim.solvers.solve_nash`; the paper's
        own η is its inverse.
    tau
        Strength τ >= 0 of the penalty towards the reference, with ``step * tau <= 1``.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, a field is missing, or shapes differ.

    References
    ----------
    Zhang et al. 2024, arXiv:2407.00617.
    """
    check_positive(arrays=True, step=step)
    check_nonnegative(arrays=True, tau=tau)
    check_reference_weight(step, tau)
    return (_margin_to_last_iterate(logps, step * tau) - 0.5 * step) ** 2


@checked
def online_ipo(logps: PairLogps[ArrayT], *, tau: Number = 0.1) -> ArrayT:
    r"""Generalised online IPO, the loss of extragradient preference optimisation.

    On pairs from any sampler.

    .. math:: \Big(\log\frac{\pi(y)\,\mu(y')}{\pi(y')\,\mu(y)} - \frac{w - w'}{\tau}\Big)^2

    It is zero at the best response :math:`\mu e^{w/\tau}` to the opponent that the payoffs w are
    measured against. Where the opponent is the second response itself, ``w = P(y ≻ y')`` and
    ``w' = ½``.

    Parameters
    ----------
    logps
        Log-probabilities in nats of the policy and the reference μ; scores: the probabilities w of
        both responses to win against the opponent. Each ``(..., n)``.
    tau
        Strength of the penalty towards the reference, > 0.

    Returns
    -------
    Array ``(..., n)``. Exchanging the two responses changes nothing.

    Raises
    ------
    ValueError
        If ``tau`` is out of range, a win probability is missing or outside [0, 1], or shapes
        differ.

    References
    ----------
    Zhou et al. 2025 (EGPO), arXiv:2503.08942; Calandriello et al. 2024, arXiv:2403.08635.
    """
    check_positive(arrays=True, tau=tau)
    chosen_win, rejected_win = win_probabilities(logps)
    return (reward_margin(logps) - stop_gradient(chosen_win - rejected_win) / tau) ** 2


@checked
def dno(logps: PairLogps[ArrayT], *, step: Number = 10.0) -> ArrayT:
    r"""Direct Nash optimisation.

    Cross-entropy of the margin with the difference of win probabilities as log-odds.

    .. math:: t\,\ell(h/\eta) + (1-t)\,\ell(-h/\eta),\qquad
        t = \sigma(w - w'),\quad \ell(z) = -\log\sigma(z)

    The label is of a difference of *win rates*, between σ(−1) = 0.27 and σ(1) = 0.73, and not the
    preference P(y ≻ y'), with which it would be iterative DPO, of another minimiser.

    Parameters
    ----------
    logps
        Log-probabilities in nats and, as scores, the probabilities w of both responses to win
        against the previous iterate, which is also the reference; each ``(..., n)``.
    step
        Step size η > 0 of the multiplicative weights, that of :func:`prefsim.solvers.solve_nash`;
        the paper's own η is its inverse.

    Returns
    -------
    Array ``(..., n)``, nats. Exchanging the two responses changes nothing.

    Raises
    ------
    ValueError
        If ``step`` is out of range, a win probability is missing or outside [0, 1], or shapes
        differ.

    References
    ----------
    Rosset et al. 2024, arXiv:2404.03715.
    """
    check_positive(arrays=True, step=step)
    chosen_win, rejected_win = win_probabilities(logps)
    return soft_logistic(
        reward_margin(logps) / step, stop_gradient(sigmoid(chosen_win - rejected_win))
    )


@checked
def nash_md_pg(logps: JudgedLogps[ArrayT], *, tau: Number = 0.1, kl: str = "sequence") -> ArrayT:
    r"""Nash-MD-PG loss, one value per response.

    Its gradient is the negative of the policy-gradient estimate.

    .. math:: -\operatorname{sg}\big[P(y \succ y') - \tfrac12 - \tau\textstyle\sum_t r_t\big]
        \sum_t \log\pi(y_t),\qquad
        r_t = \log\frac{\pi(y_t)}{\mu(y_t)}

    with y drawn from the policy and y' from the opponent, both constants of differentiation (sg
    stops the gradient).

    Parameters
    ----------
    logps
        Token log-probabilities of sampled responses and the judge's verdict.
    tau
        Strength of the KL penalty, >= 0.
    kl
        ``"sequence"``: every token is weighted by the log-ratio of the whole response, an unbiased
        gradient of the penalty. ``"token"``: every token by its own,
        :math:`\tau\sum_t \operatorname{sg}[r_t]\log\pi(y_t) - (P - \tfrac12)\sum_t\log\pi(y_t)`, of
        lower variance but biased: it misses what a token does to the log-ratios after it.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``tau`` or ``kl`` is out of range, or shapes differ.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886; the ``"token"`` form is that of ``NashMDTrainer`` in the
    TRL library.
    """
    check_nonnegative(arrays=True, tau=tau)
    check_choice(("sequence", "token"), kl=kl)
    check_judged(logps)
    xp = array_namespace(logps.logp)
    zero = xp.zeros_like(logps.logp)
    logp = xp.where(logps.mask, logps.logp, zero)
    log_ratio = stop_gradient(logp - xp.where(logps.mask, logps.ref_logp, zero))
    total = xp.sum(logp, axis=-1)
    advantage = stop_gradient(logps.win_prob) - 0.5
    if kl == "sequence":
        return -(advantage - tau * xp.sum(log_ratio, axis=-1)) * total
    return tau * xp.sum(log_ratio * logp, axis=-1) - advantage * total
