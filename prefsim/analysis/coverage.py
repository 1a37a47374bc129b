r"""How well a reference distribution covers policies.

Density ratios, KL balls and what a reward model knows in distribution.

Policies are given as they are, or by their log-probabilities ``(..., X, Y)`` in nats, of which
every row sums to one; ``-inf`` is probability zero. A coverage that does not exist is ``inf``,
never NaN. Contexts of probability zero count for nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import like, to_numpy
from prefsim.checks import (
    as_array,
    as_context_probs,
    as_floats,
    as_log_policies,
    check_constant,
    check_entries,
    check_no_nan,
    check_shape,
    names_shapes,
)
from prefsim.numerics import array_namespace, xlogy
from prefsim.typing import Array, ArrayT

__all__ = [
    "KLBallCoverage",
    "concentrability",
    "global_coverage",
    "in_distribution_reward_error",
    "kl_ball_coverage",
    "partial_coverage_coefficient",
]

# Halvings that take any float64 interval of log-ratios down to neighbouring numbers.
BISECTIONS = 64
# Eigenvalues and components below this share of the largest count as zero.
RANK_TOLERANCE = 1e-11


class KLBallCoverage(NamedTuple):
    r"""The largest density ratio inside a KL ball, and who attains it.

    Attributes
    ----------
    value
        :math:`C_\epsilon`, ``(...,)``.
    log_ratio
        ``(..., X, Y)``: logarithm of the largest ratio that a policy of the ball reaches on each
        response. The policy that does so puts mass ``π_ref e^{log_ratio}`` on the response and
        spreads the rest in proportion to the reference; ``-inf`` outside the support.
    spent
        ``(..., X, Y)``: expected KL divergence of that policy, nats; never above the radius beyond
        rounding.
    """

    value: Array
    log_ratio: Array
    spent: Array


def _context_probs(given: Any, table: Array) -> Array:
    check_shape(table, "log-probabilities", (None, None))
    return like(as_context_probs(given, table.shape[-2]), table)


def _largest_ratio(log_ratio: ArrayT, context_probs: Array) -> ArrayT:
    """Return ``exp`` of the largest entry of ``(..., X, Y)`` over the contexts that occur."""
    xp = array_namespace(log_ratio)
    counted = xp.where(context_probs[:, None] > 0, log_ratio, xp.full_like(log_ratio, -xp.inf))
    largest = xp.max(counted, axis=(-2, -1))
    representable = largest <= math.log(xp.finfo(largest.dtype).max)
    return xp.where(
        representable,
        xp.exp(xp.where(representable, largest, xp.zeros_like(largest))),
        xp.full_like(largest, xp.inf),
    )


@names_shapes
def concentrability(
    log_policy: ArrayT, log_reference: Array, *, context_probs: Any = None
) -> ArrayT:
    r"""Return the largest density ratio of one policy.

    :math:`C_\pi = \max_{x: \rho(x) > 0,\,y} \pi(y|x) / \pi_{ref}(y|x)`.

    Parameters
    ----------
    log_policy, log_reference
        ``(..., X, Y)``, nats.
    context_probs
        ρ, ``(X,)``; uniform unless given.

    Returns
    -------
    Array ``(...,)``, >= 1; ``inf`` where the reference lacks support of the policy.

    References
    ----------
    Song et al. 2024, arXiv:2406.01462, assumption on coverage.

    Examples
    --------
    >>> import numpy as np
    >>> float(concentrability(np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])).round(9))
    5.0
    """
    (log_reference,) = as_log_policies(log_reference=log_reference)
    (log_policy,) = as_log_policies(tail=tuple(log_reference.shape[-2:]), log_policy=log_policy)
    log_policy, log_reference = as_floats(log_policy=log_policy, log_reference=log_reference)
    xp = array_namespace(log_policy, log_reference)
    context_probs = _context_probs(context_probs, log_reference)
    log_policy, log_reference = xp.broadcast_arrays(log_policy, log_reference)
    nothing = log_policy == -xp.inf
    ratio = xp.where(nothing, xp.zeros_like(log_policy), log_policy) - xp.where(
        nothing, xp.zeros_like(log_policy), log_reference
    )
    return _largest_ratio(xp.where(nothing, log_policy, ratio), context_probs)


def global_coverage(log_reference: ArrayT, *, context_probs: Any = None) -> ArrayT:
    r"""Return the coverage of all policies.

    :math:`C_{glo} = \max_{x: \rho(x) > 0,\,y} 1 / \pi_{ref}(y|x)`.

    Parameters as for :func:`concentrability`. ``inf`` where the reference lacks a response.

    References
    ----------
    Song et al. 2024, arXiv:2406.01462, assumption on global coverage.
    """
    (log_reference,) = as_log_policies(log_reference=log_reference)
    return _largest_ratio(-log_reference, _context_probs(context_probs, log_reference))


@names_shapes
def kl_ball_coverage(
    log_reference: Array, radius: Any, *, context_probs: Any = None
) -> KLBallCoverage:
    r"""Return the coverage of the policies near the reference, in closed form.

    .. math:: C_\epsilon = \sup\{ \max_{x,y} \tfrac{\pi(y|x)}{\pi_{ref}(y|x)}
        : E_x \mathrm{KL}(\pi \| \pi_{ref}) \le \epsilon \}

    The policy that gives a response of probability q the mass t at the least divergence spreads the
    rest in proportion to the reference and spends :math:`t \log\frac tq + (1-t)\log\frac{1-t}{1-q}`
    there; all of the budget, ``radius / ρ(x)``, may go to one context. The largest affordable t is
    found by bisection on ``log(t/q)``, for all responses at once.

    Parameters
    ----------
    log_reference
        ``(..., X, Y)``, nats.
    radius
        ε, >= 0, a number or an array of the leading axes, in nats; ``inf`` gives
        :func:`global_coverage`.
    context_probs
        ρ, ``(X,)``; uniform unless given.

    Returns
    -------
    KLBallCoverage
        A response without support lies outside every ball of finite radius, so it does not count,
        however large the radius.

    Raises
    ------
    ValueError
        If the radius is negative or NaN, or ``context_probs`` is no distribution over the contexts.

    References
    ----------
    Song et al. 2024, arXiv:2406.01462, partial coverage (the KL ball); the closed form is derived
    here.

    Examples
    --------
    >>> import numpy as np
    >>> kl_ball_coverage(np.log([[0.7, 0.2, 0.1]]), np.asarray([0.1, 0.5, 3.0])).value.round(6)
    array([ 2.568664,  4.950507, 10.      ])
    """
    (log_reference,) = as_log_policies(log_reference=log_reference)
    xp = array_namespace(log_reference)
    context_probs = _context_probs(context_probs, log_reference)
    check_constant(radius, "radius")
    as_numpy = to_numpy(as_array(radius, "radius", "real floating", "integral")).astype(np.float64)
    if not (as_numpy >= 0).all():
        raise ValueError(f"radius must be >= 0, got {as_numpy[~(as_numpy >= 0)].flat[0]}")
    occurs = context_probs > 0
    budget = like(as_numpy, log_reference)[..., None] / xp.where(
        occurs, context_probs, xp.ones_like(context_probs)
    )
    log_reference = xp.broadcast_arrays(log_reference, budget[..., None])[0]
    supported = xp.isfinite(log_reference)
    log_q = xp.where(supported, log_reference, xp.zeros_like(log_reference))
    alone = xp.abs(log_q)
    low, high = xp.zeros_like(log_q), alone
    whole = alone <= budget[..., None]
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        affordable = _tilt_divergence(middle, log_q) <= budget[..., None]
        low, high = xp.where(affordable, middle, low), xp.where(affordable, high, middle)
    log_ratio = xp.where(whole, alone, low)
    spent = context_probs[:, None] * xp.where(whole, alone, _tilt_divergence(log_ratio, log_q))
    unlimited = budget[..., None] == xp.inf
    missing = xp.where(unlimited, xp.full_like(log_q, xp.inf), xp.full_like(log_q, -xp.inf))
    log_ratio = xp.where(supported, log_ratio, missing)
    spent = xp.where(
        supported, spent, xp.where(unlimited, xp.full_like(log_q, xp.inf), xp.zeros_like(log_q))
    )
    return KLBallCoverage(_largest_ratio(log_ratio, context_probs), log_ratio, spent)


def _tilt_divergence(log_ratio: ArrayT, log_q: Array) -> ArrayT:
    """Return the KL divergence spent on raising a mass q to ``t = q e^{log_ratio}``.

    It has full relative accuracy also near t = q.
    """
    xp = array_namespace(log_q)
    q, t = xp.exp(log_q), xp.exp(log_q + log_ratio)
    capped = xp.where(log_ratio < 1, log_ratio, xp.ones_like(log_ratio))
    gained = xp.where(log_ratio < 1, q * xp.expm1(capped), t - q)
    others = -xp.expm1(log_q)
    others_left = -xp.expm1(
        xp.where(log_q + log_ratio < 0, log_q + log_ratio, xp.zeros_like(log_q))
    )
    safe = xp.where(others > 0, others, xp.ones_like(others))
    # KL is the sum of q h(p/q - 1) with h(x) = (1 + x) log(1 + x) - x >= 0; written out, the terms
    # cancel where x is small.
    own = _near_or(xp.expm1(capped), q, t * log_ratio - gained)
    rest = _near_or(-gained / safe, safe, xlogy(others_left, others_left / safe) + gained)
    return own + xp.where(others > 0, rest, xp.zeros_like(rest))


def _near_or(x: ArrayT, scale: Array, otherwise: Array) -> ArrayT:
    r"""Return :math:`s\,((1 + x)\log(1 + x) - x)` by its series near 0, else ``otherwise``."""
    xp = array_namespace(x)
    near = xp.abs(x) < 0.02
    y = xp.where(near, x, xp.zeros_like(x))
    series = (
        y
        * y
        * (1 / 2 - y * (1 / 6 - y * (1 / 12 - y * (1 / 20 - y * (1 / 30 - y * (1 / 42 - y / 56))))))
    )
    return xp.where(near, scale * series, otherwise)


@names_shapes
def in_distribution_reward_error(
    estimate: ArrayT, reward: Array, log_sampling: Array, *, context_probs: Any = None
) -> ArrayT:
    r"""Return how far reward differences are off on the data.

    :math:`2 E_x \mathrm{Var}_{y\sim\mu(\cdot|x)}(\hat r - r^\star)`.

    This is the mean over two independent responses of
    :math:`((\hat r(y) - \hat r(y')) - (r^\star(y) - r^\star(y')))^2`; with the implicit reward
    :math:`\beta\log\pi/\pi_{ref}` for the estimate, the in-distribution error of DPO.

    Parameters
    ----------
    estimate, reward
        ``(..., X, Y)``; where the sampling distribution has no mass they may take any value,
        infinities too.
    log_sampling
        μ, ``(..., X, Y)``, nats.
    context_probs
        ρ, ``(X,)``; uniform unless given.

    Returns
    -------
    Array ``(...,)``, squared units of the reward.

    References
    ----------
    Song et al. 2024, arXiv:2406.01462, in-distribution reward learning assumption.
    """
    (log_sampling,) = as_log_policies(log_sampling=log_sampling)
    estimate, reward, log_sampling = as_floats(
        nan=True, estimate=estimate, reward=reward, log_sampling=log_sampling
    )
    xp = array_namespace(estimate, reward, log_sampling)
    context_probs = _context_probs(context_probs, log_sampling)
    check_shape(estimate, "estimate", tuple(log_sampling.shape[-2:]))
    check_shape(reward, "reward", tuple(log_sampling.shape[-2:]))
    estimate, reward, log_sampling = xp.broadcast_arrays(estimate, reward, log_sampling)
    seen = xp.isfinite(log_sampling)
    for name, values in (("estimate", estimate), ("reward", reward)):
        check_no_nan(values, name, counted=seen)
    zero = xp.zeros_like(log_sampling)
    off = xp.where(seen, estimate, zero) - xp.where(seen, reward, zero)
    mass = xp.exp(log_sampling)
    centred = off - xp.sum(mass * off, axis=-1, keepdims=True)
    return 2.0 * xp.sum(context_probs * xp.sum(mass * centred**2, axis=-1), axis=-1)


@names_shapes
def partial_coverage_coefficient(
    log_policy: ArrayT,
    log_base: Array,
    pair_weight: Array,
    *,
    context_probs: Any = None,
    features: Array | None = None,
) -> ArrayT:
    r"""Return how well compared pairs cover a policy relative to a baseline.

    It covers it for all rewards, or for those linear in features.

    .. math:: C = \sup_{\Delta} \frac{E_{x, a\sim\pi, b\sim\pi_{base}}[\Delta(x,a) - \Delta(x,b)]}
              {\sqrt{E_{(x,a,b)\sim\mu_D}[(\Delta(x,a) - \Delta(x,b))^2]}}

    With :math:`\Delta = r^\star - r` any function (a box around :math:`r^\star` gives the same,
    since the ratio does not change with scale), the supremum is :math:`\sqrt{u^\top G^+ u}` for u
    the difference of the policies and G the Laplacian of the comparison graph.

    Parameters
    ----------
    log_policy, log_base
        ``(..., X, Y)``, nats.
    pair_weight
        μ_D, ``(..., X, Y, Y)``: probability of context x with the ordered pair (a, b).
    context_probs
        ρ, ``(X,)``; uniform unless given.
    features
        ``(X, Y, d)``: restricts the rewards to linear functions.

    Returns
    -------
    Array ``(...,)``; ``inf`` where the pairs never compare what the policies differ in.

    References
    ----------
    Liu et al. 2024, assumption 5.2 (number not confirmed), arXiv:2405.16436.

    Examples
    --------
    >>> import numpy as np
    >>> base, pairs = np.log([[0.5, 0.5, 1e-300]]), np.zeros((1, 3, 3))
    >>> pairs[0, 0, 1] = 1.0
    >>> best_of_two, unseen = np.log([[1.0, 1e-300, 1e-300]]), np.log([[1e-300, 1e-300, 1.0]])
    >>> partial_coverage_coefficient(np.stack([best_of_two, unseen]), base, pairs)
    array([0.5, inf])
    """
    log_policy, log_base = as_log_policies(log_policy=log_policy, log_base=log_base)
    log_policy, log_base, pair_weight, features = as_floats(
        log_policy=log_policy,
        log_base=log_base,
        pair_weight=pair_weight,
        features=features,
        optional=("features",),
    )
    check_entries(
        pair_weight, "pair_weight", "be >= 0 and finite", lambda w: (w >= 0) & (w < np.inf)
    )
    xp = array_namespace(log_policy, log_base, pair_weight)
    context_probs = _context_probs(context_probs, log_policy)
    check_shape(log_base, "log_base", tuple(log_policy.shape[-2:]))
    responses = log_policy.shape[-1]
    check_shape(pair_weight, "pair_weight", (log_policy.shape[-2], responses, responses))
    difference = context_probs[:, None] * (xp.exp(log_policy) - xp.exp(log_base))
    both = pair_weight + xp.matrix_transpose(pair_weight)
    eye = xp.eye(responses, dtype=both.dtype, device=both.device)
    laplacian = eye * xp.sum(both, axis=-1, keepdims=True) - both
    if features is None:
        return xp.sqrt(xp.sum(_inverse_form(difference, laplacian), axis=-1))
    check_shape(features, "features", (log_policy.shape[-2], responses, None))
    gram = xp.sum(xp.matmul(xp.matrix_transpose(features), xp.matmul(laplacian, features)), axis=-3)
    direction = xp.sum(xp.matmul(difference[..., None, :], features), axis=(-3, -2))
    return xp.sqrt(_inverse_form(direction, gram))


def _inverse_form(vector: ArrayT, matrix: Array) -> ArrayT:
    """Return ``u G⁺ u`` of ``(..., n)`` and a positive semi-definite ``(..., n, n)``.

    It is ``inf`` where u leaves the range of G.
    """
    xp = array_namespace(vector, matrix)
    values, vectors = xp.linalg.eigh(matrix)
    along = xp.matmul(xp.matrix_transpose(vectors), vector[..., None])[..., 0]
    largest = xp.max(values, axis=-1, keepdims=True)
    null = values <= RANK_TOLERANCE * largest
    inside = xp.sum(
        xp.where(
            null, xp.zeros_like(along), along**2 / xp.where(null, xp.ones_like(along), values)
        ),
        axis=-1,
    )
    outside = xp.sqrt(xp.sum(xp.where(null, along**2, xp.zeros_like(along)), axis=-1))
    size = xp.sqrt(xp.sum(vector**2, axis=-1))
    return xp.where(outside > 1e-9 * size + 1e-15, xp.full_like(inside, xp.inf), inside)
