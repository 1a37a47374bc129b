"""The log-linear policy of the highest reward under a KL penalty: where policy gradients end."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.checks import (
    as_context_probs,
    as_float_array,
    as_log_policies,
    check_broadcast,
    check_integer,
    check_positive,
    check_shape,
)
from prefsim.numerics import as_tensor, to_numpy
from prefsim.solvers.optimisers.newton import minimise
from prefsim.solvers.results import warn_caller

__all__ = ["LogLinearOptimum", "log_linear_optimum"]


@readable
class LogLinearOptimum(NamedTuple):
    """The best policy of a log-linear class.

    Attributes
    ----------
    weights
        θ, ``(..., d)``.
    log_policy
        ``(..., X, Y)`` in nats.
    value
        What is maximised, ``(...,)``.
    grad_norm
        Largest entry of its gradient in θ, ``(...,)``.
    """

    weights: np.ndarray
    log_policy: np.ndarray
    value: np.ndarray
    grad_norm: np.ndarray


def log_linear_optimum(
    reward: Any,
    features: Any,
    ref_log_probs: Any,
    *,
    beta: float,
    context_probs: Any = None,
    tolerance: float = 1e-9,
    max_iterations: int = 200,
) -> LogLinearOptimum:
    r"""Maximise reward less a KL penalty over log-linear policies, from the reference on.

    .. math:: \max_\theta\ E_{x\sim\rho}\Big[E_{\pi_\theta} r(x, y)
        - \beta\,\mathrm{KL}(\pi_\theta\,\|\,\pi_{ref})\Big],\qquad
        \pi_\theta(y|x) \propto \pi_{ref}(y|x)\,e^{\theta\cdot\phi(x, y)}

    There :math:`\beta\theta` is the regression of the reward on the features under the policy
    itself, each prompt with an intercept of its own. Where the reward is :math:`w\cdot\phi` it is
    :math:`\theta = w/\beta` and the optimum among all policies, whichever prompts are asked. Where
    it is not, the objective is not concave; what is returned is a stationary point that is at least
    as good as the reference.

    Parameters
    ----------
    reward
        r, ``(..., X, Y)``.
    features
        φ, ``(..., X, Y, d)``.
    ref_log_probs
        ``(..., X, Y)`` in nats.
    beta
        Strength of the KL penalty in units of the reward, > 0.
    context_probs
        ρ, ``(X,)``, uniform unless given: the prompts of the training. A policy answers those of
        probability zero too, as its weights say.
    tolerance
        Largest gradient.
    max_iterations
        Newton steps.

    Returns
    -------
    LogLinearOptimum

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is not finite or a number is out of range.

    Warns
    -----
    ConvergenceWarning
        If a gradient is larger than the tolerance at the end.

    References
    ----------
    Compatible features of policy gradients: Sutton et al. 2000; Kakade 2001.

    Examples
    --------
    >>> features = np.asarray([[[0.0], [1.0], [2.0]]])
    >>> uniform = np.log(np.full((1, 3), 1 / 3))
    >>> found = log_linear_optimum([[0.0, 1.0, 2.0]], features, uniform, beta=0.5)
    >>> found.weights.round(6), np.exp(found.log_policy).round(4)
    (array([2.]), array([[0.0159, 0.1173, 0.8668]]))
    """
    import torch

    check_positive(beta=beta, tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    r = as_float_array(reward, "reward", min_ndim=2)
    phi = as_float_array(features, "features", min_ndim=3)
    (logs,) = as_log_policies(ref_log_probs=ref_log_probs)
    log_ref = as_float_array(logs, "ref_log_probs", min_ndim=2)
    x, y = r.shape[-2:]
    check_shape(phi, "features", (x, y, None))
    check_shape(log_ref, "ref_log_probs", (x, y))
    check_broadcast(reward=r, features=phi[..., 0], ref_log_probs=log_ref)
    rho = as_tensor(as_context_probs(context_probs, x))
    batch = np.broadcast_shapes(r.shape[:-2], phi.shape[:-3], log_ref.shape[:-2])
    d = phi.shape[-1]

    def rows(array: np.ndarray, *tail: int) -> torch.Tensor:
        whole = np.broadcast_to(array, (*batch, *tail)).reshape(-1, *tail)
        return torch.as_tensor(whole.copy())

    paid, base, columns = rows(r, x, y), rows(log_ref, x, y), rows(phi, x, y, d)

    def log_policy(theta: torch.Tensor) -> torch.Tensor:
        tilt = torch.einsum("bxyd,bd->bxy", columns, theta)
        return torch.log_softmax(base + tilt, dim=-1)

    def cost(theta: torch.Tensor) -> torch.Tensor:
        logs = log_policy(theta)
        gained = (logs.exp() * (paid - beta * (logs - base))).sum(dim=-1)
        return -(rho * gained).sum(dim=-1)

    def hessian(theta: torch.Tensor) -> torch.Tensor:
        logs = log_policy(theta)
        probs, left = logs.exp(), paid - beta * (logs - base)
        above = left - (probs * left).sum(dim=-1, keepdim=True)
        centred = columns - torch.einsum("bxy,bxyd->bxd", probs, columns)[:, :, None]
        # Bends down where what is left of the reward is more than β above its mean.
        bends = (rho[:, None] * probs * (beta - above))[..., None] * centred
        return bends.flatten(1, 2).mT @ centred.flatten(1, 2)

    start = torch.zeros(paid.shape[0], d, dtype=torch.float64)
    found = minimise(
        cost,
        start,
        tolerance=tolerance,
        max_iterations=max_iterations,
        hessian=hessian,
    )
    norm = to_numpy(found.grad_norm)
    if not (norm <= tolerance).all():
        warn_caller(
            f"the gradient is {norm.max():.3g} after {found.iterations} steps, more than the"
            f" tolerance {tolerance:g}"
        )
    with torch.no_grad():
        logs = to_numpy(log_policy(found.parameters))
    return LogLinearOptimum(
        to_numpy(found.parameters).reshape(*batch, d),
        logs.reshape(*batch, x, y),
        -to_numpy(found.value).reshape(batch),
        norm.reshape(batch),
    )
