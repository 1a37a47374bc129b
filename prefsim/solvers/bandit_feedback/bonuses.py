"""Bonuses for pairs that a policy seldom plays, carried back to where they can be reached from."""

from __future__ import annotations

from typing import Any

from prefsim.checks import alike, check_nonnegative, check_shape, names_shapes
from prefsim.numerics import array_namespace, like
from prefsim.solvers.planning.layered import layered_values
from prefsim.typing import Array, ArrayT, Number

__all__ = ["dilated_bonus", "exploration_bonus"]


@names_shapes
def exploration_bonus(weights: Array, policy: ArrayT, *, strength: Number) -> ArrayT:
    r"""Return the bonus of one layer, ``(..., S, A)``.

    .. math:: b(s, a) = \beta \left(\|\phi(s, a)\|^2_{\hat\Sigma^\dagger}
        + E_{a' \sim \pi(s)} \|\phi(s, a')\|^2_{\hat\Sigma^\dagger}\right)

    Parameters
    ----------
    weights
        ``(..., S * A, S * A)``, see
        :func:`~prefsim.solvers.bandit_feedback.estimates.estimate_weights`; actions run fastest.
    policy
        ``(..., S, A)`` probabilities.
    strength
        β >= 0, a number or an array that broadcasts with ``(...,)``.

    References
    ----------
    Luo, Wei and Lee 2021, arXiv:2107.08346; Dai, Luo, Wei and Zimmert 2023, arXiv:2301.12942.

    Examples
    --------
    >>> import numpy as np
    >>> exploration_bonus(np.diag([1.0, 3.0]), np.array([[0.5, 0.5]]), strength=0.1)
    array([[0.3, 0.5]])
    """
    check_nonnegative(arrays=True, strength=strength)
    weights, policy = alike(weights=weights, policy=policy)
    check_shape(policy, "policy", (None, None))
    states, actions = policy.shape[-2:]
    check_shape(weights, "weights", (states * actions, states * actions))
    xp = array_namespace(weights, policy)
    norms = xp.linalg.diagonal(weights)
    norms = xp.reshape(norms, (*norms.shape[:-1], states, actions))
    bonus = norms + xp.sum(policy * norms, axis=-1, keepdims=True)
    if isinstance(strength, int | float):
        scaled: ArrayT = strength * bonus
        return scaled
    factor: Any = like(strength, bonus)
    scaled = factor[..., None, None] * bonus
    return scaled


def dilated_bonus(transitions: Array, bonus: ArrayT, policy: Array) -> ArrayT:
    r"""Return the bonus of a layer and of those that follow, dilated, ``(..., H, S, A)``.

    .. math:: B_h(s, a) = b_h(s, a)
        + \left(1 + \frac1H\right) E_{s' \sim P_h,\, a' \sim \pi} B_{h+1}(s', a'),\qquad B_H = 0

    Parameters
    ----------
    transitions
        ``(*batch, H - 1, S, A, S)``, from each layer to the next.
    bonus
        b, ``(*more, *batch, H, S, A)``.
    policy
        ``(*more, *batch, H, S, A)``.

    References
    ----------
    Luo, Wei and Lee 2021, "Policy optimization in adversarial MDPs: improved exploration via
    dilated bonuses", arXiv:2107.08346.

    Examples
    --------
    >>> import numpy as np
    >>> stay = np.array([[[[1.0]]]])
    >>> dilated_bonus(stay, np.array([[[0.2]], [[0.4]]]), np.ones((2, 1, 1))).round(6)
    array([[[0.8]],
    <BLANKLINE>
           [[0.4]]])
    """
    (bonus,) = alike(bonus=bonus)
    check_shape(bonus, "bonus", (None, None, None))
    return layered_values(transitions, bonus, policy, growth=1.0 + 1.0 / bonus.shape[-3])
