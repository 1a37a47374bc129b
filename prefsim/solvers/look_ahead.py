r"""Steps of a loss taken after a look ahead along another objective: MetaRM.

A reward model that is trained on old pairs loses sight of differences between responses of the
policy that it has trained. MetaRM takes the gradient of its loss not where it stands but a step
further up :func:`reward_difference`, so that what it learns leaves these differences large.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import is_torch_array

from prefsim.checks import (
    as_floats,
    check_callable,
    check_integer,
    check_nonnegative,
    check_shape,
)
from prefsim.numerics import array_namespace, sigmoid
from prefsim.typing import ArrayT

__all__ = ["look_ahead_gradient", "look_ahead_step", "reward_difference"]


def reward_difference(rewards: ArrayT) -> ArrayT:
    r"""Return how clearly rewards tell k responses apart.

    .. math:: J = \frac{2}{k^2}\sum_{i<j}\sigma(|r_i - r_j|)

    Parameters
    ----------
    rewards
        r of k >= 2 responses, ``(..., k)`` in log-odds.

    Returns
    -------
    Array ``(...)``, in [(k − 1)/(2k), (k − 1)/k): the lower end where all are equal. Between equal
    ones the derivative is 0.

    Raises
    ------
    ValueError
        If there are fewer than two responses.

    References
    ----------
    Dou et al. 2024, arXiv:2405.00438, and Wang et al. 2024, arXiv:2401.06080 (form not confirmed).

    Examples
    --------
    >>> import numpy as np
    >>> round(float(reward_difference(np.asarray([0.5, -0.2, 1.0]))), 8)
    0.45759375
    """
    (r,) = as_floats(rewards=rewards)
    check_shape(r, "rewards", (None,))
    k = r.shape[-1]
    if k < 2:
        raise ValueError(f"rewards must be of at least two responses, got {k}")
    xp = array_namespace(r)
    each = sigmoid(xp.abs(r[..., :, None] - r[..., None, :]))
    # All ordered pairs, and each response with itself at ½: twice the sum and k/2 more.
    return (xp.sum(each, axis=(-2, -1)) - 0.5 * k) / k**2


Gradient = Callable[[ArrayT], ArrayT]


def look_ahead_gradient(
    parameters: ArrayT,
    loss_gradient: Gradient[ArrayT],
    ascent_gradient: Gradient[ArrayT],
    *,
    ahead: float,
    order: int = 1,
    ascent_hessian: Callable[[ArrayT, ArrayT], ArrayT] | None = None,
) -> ArrayT:
    r"""Return the gradient of a loss a step further up another objective.

    At :math:`\theta' = \theta + \eta\nabla J(\theta)` it is :math:`\nabla L(\theta')` to first
    order, and :math:`(I + \eta\nabla^2 J(\theta))\nabla L(\theta')` to second, the derivative of
    :math:`L(\theta')` in θ. The two differ by a multiple of η.

    Parameters
    ----------
    parameters
        θ, ``(..., d)``; leading axes are separate models.
    loss_gradient, ascent_gradient
        ∇L and ∇J: functions of parameters, of the same shape.
    ahead
        η >= 0.
    order
        1 or 2.
    ascent_hessian
        θ and v to ∇²J(θ)v, for order 2. Unless given, torch differentiates ``ascent_gradient``,
        which must then keep its graph (``create_graph=True``).

    Returns
    -------
    Array ``(..., d)``.

    Raises
    ------
    ValueError
        If an option is out of range, or order 2 of NumPy arrays is asked for without the Hessian.

    References
    ----------
    Dou et al. 2024, arXiv:2405.00438; which order its authors run is not confirmed. Finn, Abbeel
    and Levine 2017 (both orders), arXiv:1703.03400.

    Examples
    --------
    >>> import numpy as np
    >>> at, loss, up = np.asarray([1.0]), lambda x: x, lambda x: -x
    >>> options = {"ahead": 0.5, "ascent_hessian": lambda x, v: -v}
    >>> [look_ahead_gradient(at, loss, up, order=k, **options).item() for k in (1, 2)]
    [0.5, 0.25]
    """
    check_nonnegative(ahead=ahead)
    check_integer(low=1, high=2, order=order)
    check_callable(loss_gradient=loss_gradient, ascent_gradient=ascent_gradient)
    if order == 1:
        return loss_gradient(parameters + ahead * ascent_gradient(parameters))
    if ascent_hessian is not None:
        check_callable(ascent_hessian=ascent_hessian)
        slope = loss_gradient(parameters + ahead * ascent_gradient(parameters))
        return slope + ahead * ascent_hessian(parameters, slope)
    if not is_torch_array(parameters):
        raise ValueError(
            "ascent_hessian must be given for order 2, or parameters as torch tensors, got"
            f" {type(parameters).__name__}"
        )
    slope, turned = _through_torch(parameters, loss_gradient, ascent_gradient, ahead)
    return slope + ahead * turned


def _through_torch(
    parameters: Any, loss_gradient: Any, ascent_gradient: Any, ahead: float
) -> tuple[Any, Any]:
    """Return ∇L(θ') and ∇²J(θ)∇L(θ'), as torch differentiates ∇J; its Hessian is symmetric."""
    import torch

    with torch.enable_grad():
        theta = parameters.detach().requires_grad_()
        up = ascent_gradient(theta)
        slope = loss_gradient((theta + ahead * up).detach()).detach()
        if not up.requires_grad:
            raise ValueError("ascent_gradient must keep its graph for order 2: create_graph=True")
        (turned,) = torch.autograd.grad(up, theta, grad_outputs=slope)
    return slope, turned


def look_ahead_step(
    parameters: ArrayT,
    loss_gradient: Gradient[ArrayT],
    ascent_gradient: Gradient[ArrayT],
    *,
    step: float,
    ahead: float,
    order: int = 1,
    ascent_hessian: Callable[[ArrayT, ArrayT], ArrayT] | None = None,
) -> ArrayT:
    r"""Take one step of MetaRM, :math:`\theta - \alpha g` with :func:`look_ahead_gradient`'s g.

    It is taken from θ, not from where it looked to.

    Parameters
    ----------
    parameters, loss_gradient, ascent_gradient, ahead, order, ascent_hessian
        As in :func:`look_ahead_gradient`.
    step
        α >= 0.

    Returns
    -------
    Array ``(..., d)``.

    Examples
    --------
    >>> import numpy as np
    >>> at, loss, up = np.asarray([1.0]), lambda x: x, lambda x: -x
    >>> look_ahead_step(at, loss, up, step=0.1, ahead=0.5).round(6)
    array([0.95])
    """
    check_nonnegative(step=step)
    slope = look_ahead_gradient(
        parameters,
        loss_gradient,
        ascent_gradient,
        ahead=ahead,
        order=order,
        ascent_hessian=ascent_hessian,
    )
    return parameters - step * slope
