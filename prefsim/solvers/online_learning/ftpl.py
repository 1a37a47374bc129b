r"""Follow the perturbed leader: how likely each action is the best of losses with noise.

.. math:: \pi(a) = P\big(a = \arg\min_b\, (L_b - s\,\varepsilon_b)\big)

for independent noise of one law. Somebody who chooses by a single loss with such noise has a
quantal response; by the sum of all losses so far, he follows the perturbed leader.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import as_floats, check_known, check_nonnegative, check_positive, check_shape
from prefsim.numerics import (
    array_namespace,
    like,
    log1mexp,
    log_sigmoid,
    normal_log_cdf,
    over_rows,
    sort,
)
from prefsim.solvers.online_learning.hedge import hedge
from prefsim.typing import ArrayT, Number

__all__ = ["NOISES", "Noise", "ftpl", "posterior_scale"]

# Gauss's nodes on a panel, and its width in units of the noise: the smooth laws here are then
# integrated to ten digits or more. Of many actions the best is near the end of the law: the product
# of their distributions is as steep as so many of them in a panel of the whole range.
NODES, PANEL, ACTIONS = 16, 2.5, 8


class Noise(NamedTuple):
    r"""A law of the noise.

    Attributes
    ----------
    log_density, log_cdf
        Of arrays of any library.
    low, high
        All but 1e-16 of its mass lies in between.
    kinks
        Where the density or a derivative of it jumps.
    """

    log_density: Callable[[Any], Any]
    log_cdf: Callable[[Any], Any]
    low: float
    high: float
    kinks: tuple[float, ...] = ()


def _where_negative(x: Any, below: Any, above: Any) -> Any:
    return array_namespace(x).where(x < 0, below, above)


def _laplace_log_cdf(x: Any) -> Any:
    xp = array_namespace(x)
    tail = -xp.abs(x) - math.log(2.0)
    return _where_negative(x, tail, xp.log1p(-xp.exp(tail)))


def _exponential_log_cdf(x: Any) -> Any:
    xp = array_namespace(x)
    positive = x > 0
    safe = xp.where(positive, x, xp.ones_like(x))
    return xp.where(positive, log1mexp(-safe), xp.full_like(x, -math.inf))


def _exponential_log_density(x: Any) -> Any:
    xp = array_namespace(x)
    return xp.where(x >= 0, -x, xp.full_like(x, -math.inf))


def _uniform_log_cdf(x: Any) -> Any:
    xp = array_namespace(x)
    positive = x > 0
    safe = xp.where(positive, x, xp.ones_like(x))
    inside = xp.log(xp.where(safe < 1, safe, xp.ones_like(x)))
    return xp.where(positive, inside, xp.full_like(x, -math.inf))


def _uniform_log_density(x: Any) -> Any:
    xp = array_namespace(x)
    inside = (x >= 0) & (x <= 1)
    return xp.where(inside, xp.zeros_like(x), xp.full_like(x, -math.inf))


NOISES: Mapping[str, Noise] = MappingProxyType(
    {
        "gumbel": Noise(
            lambda x: -x - array_namespace(x).exp(-x),
            lambda x: -array_namespace(x).exp(-x),
            -3.7,
            37.0,
        ),
        "gaussian": Noise(
            lambda x: -0.5 * (x * x + math.log(2.0 * math.pi)), normal_log_cdf, -8.5, 8.5
        ),
        "logistic": Noise(lambda x: log_sigmoid(x) + log_sigmoid(-x), log_sigmoid, -37.0, 37.0),
        "laplace": Noise(
            lambda x: -array_namespace(x).abs(x) - math.log(2.0),
            _laplace_log_cdf,
            -36.0,
            36.0,
            (0.0,),
        ),
        "exponential": Noise(_exponential_log_density, _exponential_log_cdf, 0.0, 37.0, (0.0,)),
        "uniform": Noise(_uniform_log_density, _uniform_log_cdf, 0.0, 1.0, (0.0, 1.0)),
    }
)
"""Standard laws by name: of unit scale, not of unit variance."""


def ftpl(cumulative_loss: ArrayT, *, scale: Number, noise: str | Noise = "gumbel") -> ArrayT:
    r"""Return the choice probabilities of the perturbed leader, ``(..., d)``.

    Exact: those of Gumbel noise are the weights of Hedge with the step 1/s; all others are one
    integral over the noise of the action that wins,
    :math:`\int f(x)\prod_{b \ne a} F(x + (L_b - L_a)/s)\,dx`, by Gauss's rule between the kinks.

    Parameters
    ----------
    cumulative_loss
        L ``(..., d)``: the sum of the losses of the rounds before, or the one loss of a quantal
        response.
    scale
        s > 0 of the noise, a number or an array that broadcasts against the leading axes.
    noise
        A name of :data:`NOISES` or a law of your own.

    Returns
    -------
    Array ``(..., d)`` of distributions.

    Raises
    ------
    ValueError
        If the scale is not > 0, the law is unknown, or a loss is NaN.

    References
    ----------
    Kalai and Vempala 2005, "Efficient algorithms for online decision problems"; by Gumbel noise
    McFadden 1974, "Conditional logit analysis of qualitative choice behavior".

    Examples
    --------
    >>> import numpy as np
    >>> L = np.array([0.3, 1.2, -0.4])
    >>> ftpl(L, scale=1 / 0.7).round(8)
    array([0.31596495, 0.16828034, 0.51575471])
    >>> ftpl(L, scale=2.0, noise="gaussian").round(8)
    array([0.32580722, 0.17690252, 0.49729026])
    """
    check_positive(arrays=True, scale=scale)
    (cumulative_loss,) = as_floats(cumulative_loss=cumulative_loss)
    check_shape(cumulative_loss, "cumulative_loss", (None,))
    width: Any = like(scale, cumulative_loss) if getattr(scale, "ndim", 0) else scale
    scaled = cumulative_loss / over_rows(width)
    if not isinstance(noise, Noise):
        check_known(NOISES, noise=noise)
        if noise == "gumbel":
            return hedge(scaled, step=1.0)
        noise = NOISES[noise]
    return _by_quadrature(scaled, noise)


def _by_quadrature(scaled: ArrayT, noise: Noise) -> ArrayT:
    """Return the choice probabilities from losses in units of the noise."""
    xp = array_namespace(scaled)
    d = scaled.shape[-1]
    # How far every other action is behind the one that wins: (..., winner, other).
    behind = scaled[..., None, :] - scaled[..., :, None]
    panels = max(1, math.ceil((noise.high - noise.low) / PANEL), math.ceil(d / ACTIONS))
    cuts = like(np.linspace(noise.low, noise.high, panels + 1), scaled)
    edges = xp.broadcast_to(cuts, (*scaled.shape, panels + 1))
    if noise.kinks:
        places = [kink - behind for kink in noise.kinks]
        inside = xp.clip(xp.concat(places, axis=-1), noise.low, noise.high)
        edges = sort(xp.concat([edges, inside], axis=-1))
    nodes, weights = (like(part, scaled) for part in np.polynomial.legendre.leggauss(NODES))
    half = 0.5 * (edges[..., 1:] - edges[..., :-1])
    # (..., winner, panel, node)
    x = (0.5 * (edges[..., 1:] + edges[..., :-1]))[..., None] + half[..., None] * nodes
    log_mass = noise.log_density(x)
    for other in range(d):
        itself = xp.arange(d, dtype=xp.int64, device=scaled.device) == other
        ahead = noise.log_cdf(x + behind[..., other][..., None, None])
        log_mass = log_mass + xp.where(itself[:, None, None], xp.zeros_like(ahead), ahead)
    mass = xp.sum(xp.exp(log_mass) * weights, axis=-1)
    found = xp.sum(mass * half, axis=-1)
    # What the rule misses, and the ends of the range, are rounding.
    return found / xp.sum(found, axis=-1, keepdims=True)


def posterior_scale(rounds: Number, *, prior: float, noise: float) -> Any:
    r"""Return the scale s of the Gaussian noise in a posterior draw of the mean loss.

    Means are :math:`z \sim N(0, \sigma^2 I)` and the loss of each round is
    :math:`N(z, \tau^2 I)`. The action that is best for a draw of z from its posterior after t
    rounds is the perturbed leader of :math:`L_t` with

    .. math:: s_t = \tau\sqrt{t + \tau^2/\sigma^2}

    Parameters
    ----------
    rounds
        t >= 0, a number or an array: how many losses the posterior has seen.
    prior
        σ > 0, the deviation of the means.
    noise
        τ > 0, the deviation of a loss from its mean.

    References
    ----------
    Park et al. 2024, arXiv:2403.16843 (pre-training on the actions of noisy humans).

    Examples
    --------
    >>> float(posterior_scale(24, prior=1.0, noise=1.0))
    5.0
    """
    check_nonnegative(arrays=True, rounds=rounds)
    check_positive(prior=prior, noise=noise)
    return noise * (rounds + (noise / prior) ** 2) ** 0.5
