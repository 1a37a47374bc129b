r"""Multipliers of constrained expected rewards: what they weigh, and how they are learned along.

Each of m rewards is to be at, or above, a threshold. A policy gradient follows the advantages of
all of them and of the KL penalty, weighed by multipliers; the multipliers rise where a reward is
short of its threshold and fall where it is beyond. The same functions serve tables, with an
advantage a response, and language models, with one a token.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from prefsim.checks import (
    alike,
    as_array,
    as_floats,
    as_one_library,
    check_broadcast,
    check_choice,
    check_flag,
    check_interval,
    check_kind,
    check_positive,
    check_shape,
)
from prefsim.losses.advantages import whitened
from prefsim.numerics import array_namespace, sigmoid, stop_gradient
from prefsim.typing import Array, ArrayT

__all__ = [
    "KINDS",
    "MixtureWeights",
    "Multipliers",
    "mixed_advantage",
    "mixture_weights",
    "multiplier_step",
    "saturated",
]

KINDS = ("sigmoid", "tanh", "projected", "free")
# As the release adds it to the standard deviation: only for a batch of equal advantages.
EPSILON = 1e-16


class MixtureWeights(NamedTuple):
    """What the advantages of the penalty ``(...)`` and of the rewards ``(..., m)`` count."""

    penalty: Array
    rewards: Array


class Multipliers(NamedTuple):
    """Multipliers as they are learned: before the squash, and the velocity of their descent.

    Attributes
    ----------
    raw
        ν, ``(..., m)``.
    velocity
        Of the same shape, of gradient descent with momentum; zero at first.
    """

    raw: Array
    velocity: Array

    @classmethod
    def starting(cls, raw: Any) -> Multipliers:
        """Return multipliers at rest.

        Examples
        --------
        >>> Multipliers.starting([0.0, 0.1])
        Multipliers(raw=array([0. , 0.1]), velocity=array([0., 0.]))
        """
        (raw,) = as_floats(raw=raw)
        return cls(raw, array_namespace(raw).zeros_like(raw))


def _squash(raw: ArrayT, kind: str) -> tuple[Any, Any]:
    """Return what raw multipliers weigh, and the derivative of that."""
    xp = array_namespace(raw)
    if kind == "sigmoid":
        weight = sigmoid(raw)
        return weight, weight * sigmoid(-raw)
    if kind == "tanh":
        return xp.tanh(raw), 4.0 * sigmoid(2.0 * raw) * sigmoid(-2.0 * raw)
    return raw, xp.ones_like(raw)


def mixture_weights(raw: ArrayT, *, kind: str = "sigmoid") -> MixtureWeights:
    r"""Return what the penalty and each of m rewards count in the mixed advantage.

    With a squash s they are :math:`m - \sum_i s(\nu_i)` and :math:`s(\nu_i)`, which sum to m; else
    1 and ν. Only their ratios :math:`\lambda_i = s_i/(m - \sum_j s_j)` matter for the optimum, and
    a squash cannot reach all of them: with s below one :math:`m\lambda_i < 1 + \sum_j\lambda_j`.

    Parameters
    ----------
    raw
        ν, ``(..., m)``.
    kind
        ``"sigmoid"`` (weights in (0, 1), for rewards at or above a threshold), ``"tanh"`` (weights
        in (−1, 1), for rewards at their thresholds), ``"projected"`` (weights >= 0 as they are) or
        ``"free"`` (as they are).

    Raises
    ------
    ValueError
        If ``kind`` is none of these.

    References
    ----------
    Moskovitz et al. 2023, section 4, arXiv:2310.04373.

    Examples
    --------
    >>> import numpy as np
    >>> mixture_weights(np.zeros(2))
    MixtureWeights(penalty=array(1.), rewards=array([0.5, 0.5]))
    """
    check_choice(KINDS, kind=kind)
    (raw,) = as_floats(raw=raw)
    check_shape(raw, "raw", (None,))
    xp = array_namespace(raw)
    weight, _ = _squash(raw, kind)
    if kind in ("projected", "free"):
        return MixtureWeights(xp.ones_like(weight[..., 0]), weight)
    # m less the sum, of what each is short of one: near saturation the difference is rounding.
    short = sigmoid(-raw) if kind == "sigmoid" else 2.0 * sigmoid(-2.0 * raw)
    return MixtureWeights(xp.asarray(xp.sum(short, axis=-1), dtype=weight.dtype), weight)


def mixed_advantage(
    penalty_advantage: ArrayT,
    advantages: Array,
    raw: Array,
    *,
    kind: str = "sigmoid",
    normalise: bool = True,
    mask: Array | None = None,
) -> ArrayT:
    r"""Return the advantage of the Lagrangian, of those of the penalty and of m rewards.

    .. math:: A = \big(m - \textstyle\sum_i s(\nu_i)\big) A_{KL} + \sum_i s(\nu_i) A_i

    with the weights of :func:`mixture_weights`. It is a constant of differentiation.

    Parameters
    ----------
    penalty_advantage
        Of :math:`-\beta\log(\pi/\pi_{ref})`, ``(..., *data)``: of the tokens ``(n, K, T)`` of a
        batch, of responses, of whatever there is.
    advantages
        Of the rewards, ``(..., m, *data)``.
    raw
        ν, ``(..., m)``; its leading axes are those of independent policies.
    kind
        As for :func:`mixture_weights`.
    normalise
        Whether each advantage is first brought to mean 0 and standard deviation 1 over the data, as
        the release does. The strength β of the penalty then cancels, and so does the unit of every
        reward.
    mask
        ``(..., *data)``, what counts; all unless given. The result is zero elsewhere.

    Returns
    -------
    Array ``(..., *data)``.

    Raises
    ------
    ValueError
        If shapes do not fit, ``kind`` is unknown, or fewer than two numbers are to be normalised.

    References
    ----------
    Moskovitz et al. 2023, section 4, arXiv:2310.04373, as in the authors' release.

    Examples
    --------
    >>> import numpy as np
    >>> penalty, rewards = np.array([0.0, -1.0]), np.array([[1.0, -1.0], [0.0, 2.0]])
    >>> mixed_advantage(penalty, rewards, np.zeros(2), normalise=False)
    array([ 0.5, -0.5])
    """
    check_choice(KINDS, kind=kind)
    check_flag(normalise=normalise)
    penalty_advantage, advantages, raw = alike(
        penalty_advantage=penalty_advantage, advantages=advantages, raw=raw
    )
    check_shape(raw, "raw", (None,))
    lead, data = raw.ndim - 1, tuple(penalty_advantage.shape[raw.ndim - 1 :])
    xp = array_namespace(advantages)
    policies = penalty_advantage.shape[:lead]
    check_broadcast(raw=xp.zeros(raw.shape[:-1]), penalty_advantage=xp.zeros(policies))
    expected = (*policies, raw.shape[-1], *data)
    if tuple(advantages.shape) != expected:
        raise ValueError(
            f"advantages must have shape {expected}, one for each of raw {tuple(raw.shape)} and as"
            f" penalty_advantage {tuple(penalty_advantage.shape)}, got {tuple(advantages.shape)}"
        )
    if mask is None:
        mask = xp.ones_like(penalty_advantage) > 0
    mask = as_array(mask, "mask", "bool")
    mask = as_one_library({"advantages": advantages, "mask": mask})["mask"]
    if tuple(mask.shape) != tuple(penalty_advantage.shape):
        raise ValueError(
            f"mask must have the shape of penalty_advantage {tuple(penalty_advantage.shape)}, got"
            f" {tuple(mask.shape)}"
        )
    weights = mixture_weights(raw, kind=kind)
    every = xp.concat([xp.expand_dims(penalty_advantage, axis=lead), advantages], axis=lead)
    counted = xp.broadcast_to(xp.expand_dims(mask, axis=lead), every.shape)
    if normalise:
        # Over all of the data of each, and over nothing else.
        rows = (*every.shape[: lead + 1], 1, 1, math.prod(data))
        flat = whitened(xp.reshape(every, rows), xp.reshape(counted, rows), epsilon=EPSILON)
        every = xp.reshape(flat, every.shape)
    shares = xp.concat([weights.penalty[..., None], weights.rewards], axis=-1)
    shares = xp.reshape(shares, (*shares.shape, *(1 for _ in data)))
    mixed = xp.sum(xp.where(counted, shares * every, xp.zeros_like(every)), axis=lead)
    return stop_gradient(mixed)


def multiplier_step(
    multipliers: Multipliers,
    achieved: Any,
    thresholds: Any,
    *,
    kind: str = "sigmoid",
    learning_rate: float = 0.1,
    momentum: float = 0.1,
    max_norm: float = 0.5,
) -> Multipliers:
    r"""Return multipliers after one step of descent on the Lagrangian.

    .. math:: \nabla_{\nu_i} = s'(\nu_i)\,(\hat J_i - \theta_i)

    so that a reward short of its threshold gains weight and one beyond it loses weight.

    Parameters
    ----------
    multipliers
        As they are, see :meth:`Multipliers.starting`.
    achieved
        Mean rewards of what the policy drew, ``(..., m)``; constants.
    thresholds
        θ, ``(..., m)``.
    kind
        As for :func:`mixture_weights`; ``"projected"`` ends at zero where it would fall below.
    learning_rate
        > 0.
    momentum
        In [0, 1).
    max_norm
        Longest gradient of the m multipliers together, in (0, inf].

    Raises
    ------
    ValueError
        If an option is out of range or shapes do not fit.

    References
    ----------
    Moskovitz et al. 2023, arXiv:2310.04373, as in the authors' release: torch's SGD after
    ``clip_grad_norm_``, one step a minibatch.

    Examples
    --------
    >>> import numpy as np
    >>> start = Multipliers.starting(np.zeros(2))
    >>> multiplier_step(start, np.array([1.0, 0.5]), np.array([0.8, 0.9]), momentum=0.0).raw
    array([-0.005,  0.01 ])
    """
    check_kind(Multipliers, multipliers=multipliers)
    check_choice(KINDS, kind=kind)
    check_positive(learning_rate=learning_rate)
    check_interval(low=0.0, high=1.0, closed="left", momentum=momentum)
    check_interval(low=0.0, high=math.inf, closed="right", max_norm=max_norm)
    raw, velocity, achieved, thresholds = as_floats(
        raw=multipliers.raw,
        velocity=multipliers.velocity,
        achieved=achieved,
        thresholds=thresholds,
    )
    check_shape(raw, "raw", (None,))
    m = raw.shape[-1]
    check_shape(achieved, "achieved", (m,))
    check_shape(thresholds, "thresholds", (m,))
    check_broadcast(raw=raw, velocity=velocity, achieved=achieved, thresholds=thresholds)
    xp = array_namespace(raw)
    _, slope = _squash(raw, kind)
    gradient = stop_gradient(slope * (achieved - thresholds))
    # In units of its largest entry, whose square is no overflow.
    size = xp.max(xp.abs(gradient), axis=-1, keepdims=True)
    direction = gradient / xp.where(size > 0, size, xp.ones_like(size))
    norm = xp.sqrt(xp.sum(direction**2, axis=-1, keepdims=True))
    longest = xp.full_like(norm, max_norm) / xp.where(norm > 0, norm, xp.ones_like(norm))
    gradient = direction * xp.minimum(size, longest)
    velocity = momentum * velocity + gradient
    raw = raw - learning_rate * velocity
    if kind == "projected":
        raw = xp.maximum(raw, xp.zeros_like(raw))
    return Multipliers(raw, velocity)


def saturated(rewards: ArrayT, thresholds: Array | float) -> ArrayT:
    r"""Return rewards that pay nothing beyond their thresholds, :math:`\min(r, \theta)`.

    Parameters
    ----------
    rewards, thresholds
        Arrays that broadcast: of one reward a number, of a stack of m tables
        ``thresholds[:, None, None]``.

    Raises
    ------
    ValueError
        If the shapes do not broadcast.

    References
    ----------
    Moskovitz et al. 2023, the baseline PPO-SAT, arXiv:2310.04373 (where exactly it saturates is not
    confirmed; here each response's reward does).

    Examples
    --------
    >>> import numpy as np
    >>> saturated(np.array([0.2, 0.7]), 0.5)
    array([0.2, 0.5])
    """
    rewards, thresholds = as_floats(rewards=rewards, thresholds=thresholds)
    check_broadcast(rewards=rewards, thresholds=thresholds)
    xp = array_namespace(rewards)
    return xp.minimum(*xp.broadcast_arrays(rewards, thresholds))
