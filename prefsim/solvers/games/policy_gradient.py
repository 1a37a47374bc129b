r"""Nash-MD-PG: the policy gradient against a mixture of the policy and the reference.

Of a softmax policy, exactly and from samples.
"""

from __future__ import annotations

from prefsim.backend import Seed, like, random_generator, to_numpy
from prefsim.checks import (
    alike,
    check_integer,
    check_interval,
    check_no_nan,
    check_nonnegative,
    check_number,
    check_shape,
    names_shapes,
)
from prefsim.numerics import array_namespace
from prefsim.solvers.games.certificates import (
    geometric_mixture,
    payoff,
)
from prefsim.solvers.optimisers.policy_gradient import regularised_reward, score_gradient
from prefsim.typing import Array

__all__ = [
    "moving_average",
    "nash_md_pg_gradient",
    "policy_gradient",
    "sampled_policy_gradient",
]


@names_shapes
def policy_gradient(
    preference: Array, log_policy: Array, log_reference: Array, log_opponent: Array, *, tau: float
) -> Array:
    r"""Return the logit gradient of the regularised preference over an opponent, ``(..., n)``.

    .. math:: \nabla_\theta\big[P(\pi_\theta \succ \pi') - \tau\,\mathrm{KL}(\pi_\theta\|\mu)\big]
        = \pi\odot(a - \pi^\top a),
        \qquad a = P\pi' - \tfrac12 - \tau\log(\pi/\mu)

    Parameters
    ----------
    preference
        ``(..., n, n)``.
    log_policy, log_reference, log_opponent
        ``(..., n)`` in nats.
    tau
        Strength of the penalty, >= 0.

    References
    ----------
    Munos et al. 2023 (Nash-MD-PG and Nash-EMA-PG), arXiv:2312.00886. The constant ½ is a control
    variate.
    """
    check_nonnegative(tau=tau)
    preference, log_policy, log_reference, log_opponent = alike(
        preference=preference,
        log_policy=log_policy,
        log_reference=log_reference,
        log_opponent=log_opponent,
    )
    xp = array_namespace(log_policy)
    advantage = regularised_reward(
        payoff(preference, xp.exp(log_opponent)) - 0.5, log_policy, log_reference, beta=tau
    )
    return score_gradient(advantage, log_policy)


@names_shapes
def nash_md_pg_gradient(
    preference: Array, log_policy: Array, log_reference: Array, *, tau: float, mixture: float
) -> Array:
    r"""Return the Nash-MD-PG gradient, that against a mixture, ``(..., n)``.

    The mixture is :math:`\pi^\kappa \propto \pi^{1-\kappa}\mu^\kappa`.

    Parameters
    ----------
    preference
        ``(..., n, n)``.
    log_policy, log_reference
        ``(..., n)`` in nats.
    tau
        Strength of the penalty, >= 0.
    mixture
        κ in [0, 1]: 0 is self-play, 1 plays against the reference.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886.

    Examples
    --------
    >>> import numpy as np
    >>> P = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
    >>> log_mu = np.log([0.5, 0.3, 0.2])
    >>> nash_md_pg_gradient(P, np.log([0.2, 0.5, 0.3]), log_mu, tau=0.1, mixture=0.125).round(6)
    array([ 0.039859,  0.009436, -0.049295])
    """
    check_interval(low=0.0, high=1.0, closed="both", mixture=mixture)
    opponent = geometric_mixture(log_policy, log_reference, weight=mixture)
    return policy_gradient(preference, log_policy, log_reference, opponent, tau=tau)


@names_shapes
def sampled_policy_gradient(
    preference: Array,
    log_policy: Array,
    log_reference: Array,
    log_opponent: Array,
    *,
    tau: float,
    n: int,
    seed: Seed,
    baseline: float = 0.5,
) -> Array:
    r"""Return unbiased estimates of :func:`policy_gradient`, ``(n, ..., responses)``.

    One from each of ``n`` pairs of samples.

    .. math:: (e_y - \pi)\,\big(P(y \succ y') - b - \tau\log(\pi(y)/\mu(y))\big),\qquad
        y \sim \pi,\; y' \sim \pi'

    Parameters
    ----------
    preference
        ``(..., responses, responses)``.
    log_policy, log_reference, log_opponent
        ``(..., responses)`` in nats.
    tau
        Strength of the penalty, >= 0.
    n
        Number of pairs.
    seed
        Integer or generator.
    baseline
        b; changes the variance only.

    References
    ----------
    Munos et al. 2023, arXiv:2312.00886.
    """
    check_nonnegative(tau=tau)
    check_integer(low=1, n=n)
    check_number(baseline=baseline)
    preference, log_policy, log_reference, log_opponent = alike(
        preference=preference,
        log_policy=log_policy,
        log_reference=log_reference,
        log_opponent=log_opponent,
    )
    for name, logs in (("log_policy", log_policy), ("log_opponent", log_opponent)):
        check_shape(logs, name, (preference.shape[-1] if preference.ndim else None,))
        # What is drawn would hide it.
        check_no_nan(logs, name)
    xp = array_namespace(log_policy)
    rng = random_generator(seed)
    responses = log_policy.shape[-1]
    shape = (n, *log_policy.shape)

    def one_hot_draws(logs: Array) -> Array:
        # The largest of log-probabilities with Gumbel noise is a draw from them; the noise is
        # NumPy's, so the seed decides on any device.
        best = (to_numpy(logs) + rng.gumbel(size=shape)).argmax(axis=-1)
        return like(best[..., None] == range(responses), log_policy)

    own, other = one_hot_draws(log_policy), one_hot_draws(log_opponent)
    preferred = xp.sum(own * payoff(preference, other), axis=-1, keepdims=True)
    log_ratio = xp.sum(own * (log_policy - log_reference), axis=-1, keepdims=True)
    return (own - xp.exp(log_policy)) * (preferred - baseline - tau * log_ratio)


@names_shapes
def moving_average(average: Array, parameters: Array, *, rate: float) -> Array:
    r"""Return the parameters of the opponent in Nash-EMA-PG.

    :math:`(1-\epsilon)\bar\theta + \epsilon\theta`.

    This mixes parameters, unlike :func:`prefsim.solvers.games.certificates.geometric_mixture`,
    which mixes distributions.

    Parameters
    ----------
    average, parameters
        Arrays of one shape.
    rate
        ε in [0, 1].

    References
    ----------
    Munos et al. 2023 (Nash-EMA-PG), arXiv:2312.00886.
    """
    check_interval(low=0.0, high=1.0, closed="both", rate=rate)
    average, parameters = alike(average=average, parameters=parameters)
    return (1.0 - rate) * average + rate * parameters
