r"""Momentum between the rounds of any method that starts where its last round ended.

Known as accelerated preference optimisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from prefsim._readable import readable
from prefsim.backend import to_numpy
from prefsim.checks import (
    check_callable,
    check_finite,
    check_integer,
    check_interval,
    check_kind,
    check_same_shape,
)
from prefsim.policies.base import InMemoryPolicy

__all__ = [
    "AcceleratedRound",
    "MomentumCoefficients",
    "accelerate",
    "extrapolate_policy",
    "momentum_coefficients",
]


class MomentumCoefficients(NamedTuple):
    """How many plain rounds the policies stand for: ``fitted`` π̂_T and ``extrapolated`` π_T."""

    fitted: float
    extrapolated: float


def momentum_coefficients(rounds: int, *, momentum: float) -> MomentumCoefficients:
    r"""Return how many rounds without momentum equal T rounds with it.

    Where every round adds the same r/β to the log-policy.

    .. math:: \log\hat\pi_T = \log\pi_{ref} + c_T\,r/\beta + \mathrm{const},\qquad
        c_T = \frac{T}{1-\alpha} - \frac{\alpha(1-\alpha^T)}{(1-\alpha)^2},\qquad
        d_T = c_T + \frac{\alpha(1-\alpha^T)}{1-\alpha}

    c belongs to the fitted policy, d to the extrapolated one. The lead over T grows to the factor
    1/(1 − α) after a transient of :math:`\alpha/(1-\alpha)^2` rounds, which short runs never leave.

    Parameters
    ----------
    rounds
        T >= 0.
    momentum
        α in [0, 1).

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    He et al. 2024 (APO), arXiv:2410.06293; the exact coefficients are derived.

    Examples
    --------
    >>> [round(c, 6) for c in momentum_coefficients(3, momentum=0.3)]
    [3.69, 4.107]
    """
    check_integer(low=0, rounds=rounds)
    check_interval(low=0.0, high=1.0, momentum=momentum)
    faded = momentum * (1.0 - momentum**rounds)
    fitted = rounds / (1.0 - momentum) - faded / (1.0 - momentum) ** 2
    return MomentumCoefficients(fitted, fitted + faded / (1.0 - momentum))


@readable
class AcceleratedRound(NamedTuple):
    """The fitted policy π̂ of a round, and the extrapolated policy π.

    The first is the one to use, the second is where the next round starts.
    """

    fitted: Any
    extrapolated: Any


def extrapolate_policy(
    policy: InMemoryPolicy, before: InMemoryPolicy, *, momentum: float
) -> InMemoryPolicy:
    r"""Return the policy extrapolated from its last two.

    Its parameters are :math:`\hat\theta_t + \alpha(\hat\theta_t - \hat\theta_{t-1})`.

    Where log-probabilities are linear in the parameters up to a constant of the prompt (tabular,
    log-linear, token trees) this is :math:`\pi \propto \hat\pi_t(\hat\pi_t/\hat\pi_{t-1})^\alpha`,
    token by token in a tree; for a network it is another policy. Adding a constant to the logits of
    a prompt changes nothing.

    Parameters
    ----------
    policy, before
        The last fitted policy and the one before it, of one type and shape.
    momentum
        α in [0, 1).

    Raises
    ------
    ValueError
        If ``momentum`` is out of range, the policies differ in shape, or a parameter is infinite (a
        probability of zero).

    References
    ----------
    He et al. 2024 (APO), arXiv:2410.06293.

    Examples
    --------
    >>> from prefsim.policies import TabularPolicy
    >>> before, after = TabularPolicy.uniform(1, 2), TabularPolicy.from_probs([[0.2, 0.8]])
    >>> extrapolate_policy(after, before, momentum=0.5).probs.round(6)
    array([[0.111111, 0.888889]])
    """
    check_interval(low=0.0, high=1.0, momentum=momentum)
    check_kind(InMemoryPolicy, policy=policy, before=before)
    now, then = policy.parameters, before.parameters
    check_same_shape(policy=now, before=then)
    for name, parameters in (
        ("parameters of the policy", now),
        ("parameters of the policy before", then),
    ):
        check_finite(to_numpy(parameters), name)
    return policy.with_parameters(now + momentum * (now - then))


def accelerate(
    improve: Callable[[Any, int], InMemoryPolicy],
    policy: InMemoryPolicy,
    *,
    momentum: float,
    rounds: int,
) -> list[AcceleratedRound]:
    r"""Run rounds of any iterative method with Nesterov's momentum on the log-policy.

    .. math:: \hat\pi_{t+1} = \mathrm{improve}(\pi_t),\qquad
        \pi_{t+1} \propto \hat\pi_{t+1}(\hat\pi_{t+1}/\hat\pi_t)^\alpha

    Parameters
    ----------
    improve
        Function of the policy π_t and the round t (from 0) that returns π̂_{t+1}: for instance one
        exact proximal step, or a fit of DPO's or SPPO's loss to pairs of π_t, with π_t
        (extrapolated) as reference.
    policy
        π_0 = π̂_0, so that the first round is extrapolated too.
    momentum
        α in [0, 1); 0 is the method itself.
    rounds
        T >= 1.

    Returns
    -------
    list of AcceleratedRound, one for each round.

    Raises
    ------
    ValueError
        If an argument is out of range, or a round changes the shape of the policy.

    References
    ----------
    He et al. 2024 (APO), arXiv:2410.06293.

    Examples
    --------
    >>> import functools
    >>> from prefsim import losses
    >>> from prefsim.data import Comparisons
    >>> from prefsim.policies import TabularPolicy
    >>> from prefsim.solvers import fit
    >>> from prefsim.worlds import ContextualBandit
    >>> world = ContextualBandit(reward=[[0.0, 0.4, 1.0]])
    >>> start = TabularPolicy.from_probs([[0.5, 0.3, 0.2]])
    >>> def dpo_round(policy, t):
    ...     loss = functools.partial(losses.dpo, beta=0.5)
    ...     return fit(policy, loss, Comparisons.population(world, policy), reference=policy).policy
    >>> accelerate(dpo_round, start, momentum=0.3, rounds=2)[-1].fitted.probs.round(6)
    array([[0.022436, 0.084761, 0.892804]])
    """
    check_callable(improve=improve)
    check_interval(low=0.0, high=1.0, momentum=momentum)
    check_integer(low=1, rounds=rounds)
    fitted = extrapolated = policy
    path = []
    for t in range(rounds):
        before, fitted = fitted, improve(extrapolated, t)
        extrapolated = extrapolate_policy(fitted, before, momentum=momentum)
        path.append(AcceleratedRound(fitted, extrapolated))
    return path
