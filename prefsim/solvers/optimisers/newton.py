"""Damped Newton minimisation of many independent smooth problems at once, on torch float64.

The problems of a batch share no parameters, so one Hessian–vector product with the same direction
in every problem gives one row of every Hessian. Damping and acceptance are kept for each problem;
nothing loops over the batch.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

Tensor = Any
Objective = Callable[[Tensor], Tensor]

DENSE_LIMIT = 400  # parameters up to which the whole Hessian is built and factorised
# Steps made beyond the tolerance: they double the digits, and these many reach rounding.
POLISHING_STEPS = 6
# Below this many numbers in a gradient, all rows of the Hessian are cheaper together than one by
# one (measured: 5 to 8 times).
AT_ONCE = 1000
# Longest first step in any parameter: a loss that is not convex has plateaus far out, where its
# gradient vanishes without a minimum.
FIRST_RADIUS = 2.0
# Steps kept for the end of a large problem, where second-order steps double the digits.
FINAL_STEPS = 60

__all__ = ["NewtonResult", "hessian_of", "minimise", "quasi_newton", "value_and_gradient"]


class NewtonResult(NamedTuple):
    """Parameters ``(B, D)``, values and sup-norm gradients ``(B,)``, and their trace.

    The trace holds worst gradient and total value. ``last_step`` ``(B, D)`` is the last one that
    was tried: next to nothing at a minimum, and as long as ever where the objective falls towards a
    limit that it does not reach. ``late_step`` ``(B, D)`` is the mean of the last few.
    """

    parameters: Tensor
    value: Tensor
    grad_norm: Tensor
    iterations: int
    history: tuple[tuple[float, float], ...]
    last_step: Tensor
    late_step: Tensor


def minimise(
    objective: Objective,
    start: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    hessian: Objective | None = None,
    convex: bool = False,
) -> NewtonResult:
    """Minimise ``objective: (B, D) -> (B,)`` from ``start``.

    Each problem to ``grad_norm <= tolerance`` and then to the floor of float64; of what is known to
    be ``convex`` also where a gradient below the tolerance is as far from the minimum as ever.

    Small problems (``D <= 400``) take exact Newton steps with Levenberg damping; larger ones start
    with limited-memory BFGS and finish with Newton steps solved by conjugate gradients, at most
    ``max_iterations`` of both together. The exact steps differentiate twice, unless
    ``hessian: (B, D) -> (B, D, D)`` knows better.
    """
    history: list[tuple[float, float]] = []
    if start.shape[-1] > DENSE_LIMIT:
        final_steps = min(FINAL_STEPS, max_iterations // 2)
        start, taken = quasi_newton(
            objective,
            start,
            tolerance=tolerance,
            max_iterations=max_iterations - final_steps,
            history=history,
        )
        result = _newton(
            objective,
            start,
            _conjugate_gradient_step,
            twice=True,
            tolerance=tolerance,
            max_iterations=min(FINAL_STEPS, max_iterations - taken),
            history=history,
            convex=convex,
        )
        return result._replace(iterations=taken + result.iterations)
    step = functools.partial(_dense_step, known=hessian)
    return _newton(
        objective,
        start,
        step,
        twice=hessian is None,
        tolerance=tolerance,
        max_iterations=max_iterations,
        history=history,
        convex=convex,
    )


def value_and_gradient(
    objective: Objective, theta: Tensor, *, graph: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return value ``(B,)`` and gradient ``(B, D)`` at parameters, and the leaf of their graph.

    The gradient of what depends on no parameter is zero.
    """
    import torch

    theta = theta.detach().requires_grad_(True)
    value = objective(theta)
    if not value.requires_grad:
        return value, torch.zeros_like(theta), theta
    (gradient,) = torch.autograd.grad(value.sum(), theta, create_graph=graph, allow_unused=True)
    gradient = torch.zeros_like(theta) if gradient is None else gradient
    return value.detach(), gradient if graph else gradient.detach(), theta


def _sup_norm(gradient: Tensor) -> Tensor:
    import torch

    norm = (
        gradient.abs().amax(dim=-1)
        if gradient.shape[-1]
        else gradient.new_zeros(gradient.shape[:-1])
    )
    return torch.where(norm.isfinite(), norm, torch.full_like(norm, float("inf")))


def _newton(
    objective: Objective,
    theta: Tensor,
    step: Callable[..., Tensor],
    *,
    twice: bool,
    tolerance: float,
    max_iterations: int,
    history: list[tuple[float, float]],
    convex: bool,
) -> NewtonResult:
    import torch

    # With the graph by which the step differentiates a second time.
    value, slope, leaf = value_and_gradient(objective, theta, graph=twice)
    gradient = slope.detach()
    norm = _sup_norm(gradient)
    damping = torch.full_like(value, 1e-3)
    radius = torch.full_like(value, FIRST_RADIUS)
    size = value.abs()
    limited = torch.zeros_like(value, dtype=torch.bool)
    polished = 0
    iterations = 0
    direction = torch.zeros_like(theta)
    recent = collections.deque([theta], maxlen=POLISHING_STEPS + 1)
    while iterations < max_iterations:
        history.append((float(value.sum()), float(norm.max()) if norm.numel() else 0.0))
        if bool((norm <= tolerance).all()):
            # At the tolerance the weights may still hide an error of the parameters: a few more
            # steps are quadratic and end at rounding. One that the radius cut short is still on its
            # way to where they are, or out on a plateau, which no convex objective has.
            on_its_way = convex and bool((limited & (norm > 0)).any())
            polished += not on_its_way
            if polished > POLISHING_STEPS or not bool((norm > 0).any()):
                break
        iterations += 1
        direction = step(slope, leaf, damping, norm)
        del slope, leaf  # one graph at a time
        length = direction.abs().amax(dim=-1)
        direction = (
            direction
            * (radius / length.clamp_min(torch.finfo(theta.dtype).tiny)).clamp_max(1.0)[:, None]
        )
        trial = theta + direction
        trial_value, slope, leaf = value_and_gradient(objective, trial, graph=twice)
        trial_gradient = slope.detach()
        trial_norm = _sup_norm(trial_gradient)
        expected = (gradient * direction).sum(dim=-1)
        decreased = trial_value <= value + 1e-4 * expected
        rounding = 1e-13 * (1 + value.abs())
        settled = (trial_norm < norm) & (trial_value <= value + rounding)
        accepted = (decreased & (expected < 0) & trial_value.isfinite()) | settled
        if polished and not bool(accepted.any()):
            break
        if not bool(accepted.any()) and bool((damping > 1e12).all()):
            break
        keep = accepted[:, None]
        theta = torch.where(keep, trial, theta)
        recent.append(theta)
        gradient = torch.where(keep, trial_gradient, gradient)
        if not twice:
            slope, leaf = gradient, theta
        elif not bool(accepted.all()):
            # Where all are accepted, as nearly always, the next step starts from what is known.
            _, slope, leaf = value_and_gradient(objective, theta, graph=True)
        value = torch.where(accepted, trial_value, value)
        norm = torch.where(accepted, trial_norm, norm)
        # Along what the objective does not depend on, rounding makes steps of any length.
        limited = accepted & (length > radius) & (-expected > 1e-13 * size)
        radius = torch.where(
            accepted,
            torch.where(length > radius, 2 * radius, radius),
            0.25 * torch.minimum(radius, length),
        )
        damping = torch.where(
            accepted, (damping * 0.2).clamp_min(1e-12), (damping * 8).clamp_min(1e-6)
        )
    late = (theta - recent[0]) / max(1, len(recent) - 1)
    return NewtonResult(theta, value, norm, iterations, tuple(history), direction, late)


def hessian_of(gradient: Tensor, leaf: Tensor) -> Tensor:
    """Return the Hessian ``(B, D, D)`` of every problem.

    Row i from one product with the i-th direction in all problems.
    """
    import torch

    problems, d = leaf.shape
    if problems * d <= AT_ONCE:
        directions = torch.eye(d, dtype=leaf.dtype, device=leaf.device)[:, None, :].expand(
            d, problems, d
        )
        (together,) = torch.autograd.grad(
            gradient, leaf, directions, is_grads_batched=True, allow_unused=True
        )
        return leaf.new_zeros(problems, d, d) if together is None else together.movedim(0, -2)
    rows = [
        torch.autograd.grad(gradient[:, i].sum(), leaf, retain_graph=i + 1 < d, allow_unused=True)[
            0
        ]
        for i in range(d)
    ]
    return torch.stack([torch.zeros_like(leaf) if row is None else row for row in rows], dim=-2)


def _dense_step(
    gradient: Tensor,
    leaf: Tensor,
    damping: Tensor,
    norm: Tensor,
    *,
    known: Objective | None = None,
) -> Tensor:
    """Solve ``(H + μI) p = −g`` in every problem, raising μ where H + μI is not positive definite.

    The Cholesky factor says where. ``gradient`` carries the graph that leads to ``leaf``, unless
    the Hessian is known.
    """
    import torch

    theta = leaf.detach()
    d = theta.shape[-1]
    if known is not None:
        hessian = known(theta)
    else:
        hessian = (
            hessian_of(gradient, leaf)
            if gradient.requires_grad
            else theta.new_zeros(*theta.shape, d)
        )
    gradient = gradient.detach()
    hessian = 0.5 * (hessian + hessian.mT)
    scale = hessian.diagonal(dim1=-2, dim2=-1).abs().amax(dim=-1)
    # A piecewise linear objective has no curvature to measure the damping against; its gradient
    # stands in.
    scale = torch.maximum(scale, 1e-3 * norm).clamp_min(torch.finfo(theta.dtype).tiny)
    # Damping that shrinks with the gradient keeps the steps quadratic; its floor keeps a gauge
    # direction (a softmax's constant) solvable.
    mu = scale * (damping * torch.clamp(norm / scale, max=1.0) + 1e-14)
    eye = torch.eye(d, dtype=theta.dtype, device=theta.device)
    for _ in range(60):
        factor, failed = torch.linalg.cholesky_ex(hessian + mu[:, None, None] * eye)
        bad = (failed != 0) | ~factor.diagonal(dim1=-2, dim2=-1).isfinite().all(dim=-1)
        if not bool(bad.any()):
            break
        mu = torch.where(bad, torch.maximum(mu * 10, scale * 1e-12), mu)
    direction = -torch.cholesky_solve(gradient[..., None], factor)[..., 0]
    return torch.where(direction.isfinite().all(dim=-1, keepdim=True), direction, -gradient)


def _conjugate_gradient_step(
    gradient: Tensor, leaf: Tensor, damping: Tensor, norm: Tensor
) -> Tensor:
    """Run truncated conjugate gradients on the Hessian of all problems together.

    They stop at negative curvature (Steihaug).
    """
    import torch

    residual = -gradient.detach()
    direction = torch.zeros_like(residual)
    search = residual.clone()
    squared = (residual * residual).sum()
    target = squared * min(1e-4, float(squared.sqrt())) ** 2
    mu = (damping * norm)[:, None]
    for _ in range(4 * leaf.shape[-1]):
        if not bool(squared > target):
            break
        (product,) = torch.autograd.grad((gradient * search).sum(), leaf, retain_graph=True)
        product = product + mu * search
        curvature = (search * product).sum()
        if not bool(curvature > 0):
            return direction if bool(direction.abs().max() > 0) else residual
        length = squared / curvature
        direction = direction + length * search
        residual = residual - length * product
        previous, squared = squared, (residual * residual).sum()
        search = residual + squared / previous * search
    return direction


def quasi_newton(
    objective: Objective,
    theta: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    history: list[tuple[float, float]],
) -> tuple[Tensor, int]:
    """Descend the sum of all objectives by limited-memory BFGS, with first derivatives alone.

    Returns the parameters where it ends and the number of its steps; worst gradients and total
    values are appended to ``history``, one for each evaluation.
    """
    import numpy as np
    import torch
    from scipy.optimize import minimize

    shape = theta.shape

    def flat(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, _ = value_and_gradient(
            objective, torch.as_tensor(x, dtype=theta.dtype, device=theta.device).reshape(shape)
        )
        history.append((float(value.sum()), float(gradient.abs().max())))
        return float(value.sum()), gradient.reshape(-1).cpu().numpy()

    options = {
        "maxiter": max_iterations,
        "maxfun": 2 * max_iterations,
        "gtol": tolerance,
        "ftol": 0.0,
        "maxcor": 20,
    }
    result = minimize(
        flat, theta.detach().reshape(-1).cpu().numpy(), jac=True, method="L-BFGS-B", options=options
    )
    end = torch.as_tensor(result.x, dtype=theta.dtype, device=theta.device).reshape(shape)
    return end, int(result.nit)
