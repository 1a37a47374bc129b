"""What is certified of a fit: the gradient at the policy returned, and that there is a minimum."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.policies.loglinear import LogLinearPolicy
from prefsim.solvers.context_blocks import compared_rows
from prefsim.solvers.fit_problem import Problem
from prefsim.solvers.likelihood.separability import (
    Separation,
    ranked_without_error,
    separated_by_weights,
)
from prefsim.solvers.likelihood.win_graph import named_items
from prefsim.solvers.optimisers.descending_rays import falls_for_ever
from prefsim.solvers.optimisers.kinked_sums import CERTIFIED_RADIUS
from prefsim.solvers.optimisers.kinks import least_mean_gradient
from prefsim.solvers.optimisers.newton import value_and_gradient
from prefsim.solvers.pair_costs import least_slopes, pair_costs
from prefsim.typing import Loss

if TYPE_CHECKING:
    import torch

    from prefsim.solvers.optimisers.newton import NewtonResult

__all__ = ["Certificate", "certified", "default_tolerance", "rounded_like"]

REMEDY = (
    "the policy is where the search stopped. Regularise, for instance by"
    " penalty=prefsim.solvers.cross_entropy_penalty(reference.probs, weight=...), add comparisons,"
    " or take soft labels (prob) or the population (Comparisons.population)"
)
# Roundings of the policy's own type that its gradient may show.
ROUNDINGS = 16


class Certificate(NamedTuple):
    """What holds of the parameters that are returned.

    Attributes
    ----------
    parameters
        Float64 ``(B, D)``, rounded as the policy's own type rounds them.
    value, grad_norm
        The objective there and its steepness, ``(B,)``.
    diverges
        Whether no finite minimiser exists, booleans ``(B,)``.
    why
        In words, where one diverges; empty where none does.
    """

    parameters: torch.Tensor
    value: torch.Tensor
    grad_norm: torch.Tensor
    diverges: np.ndarray
    why: str = ""


def default_tolerance(parameters: Any) -> float:
    """Return the gradient at which a fit counts as converged, by the type of the parameters.

    1e-10 in float64; what its rounding allows in a narrower type.
    """
    return max(1e-10, ROUNDINGS * _epsilon(parameters))


def _epsilon(parameters: Any) -> float:
    import torch

    dtype = parameters.dtype if isinstance(parameters, torch.Tensor) else None
    return float(torch.finfo(dtype).eps if dtype is not None else np.finfo(parameters.dtype).eps)


def certified(
    problem: Problem, loss: Loss, start: torch.Tensor, result: NewtonResult, tolerance: float
) -> Certificate:
    """Return the certificate of where a minimisation ended.

    Parameters
    ----------
    problem, loss, start
        What was minimised, and from where.
    result
        Where it ended, in float64.
    tolerance
        At which a gradient counts as none.
    """
    import torch

    objective = functools.partial(problem.settled, loss)
    diverges, why = _divergence(problem, loss, objective, start, result)
    end, value, norm = result.parameters, result.value, result.grad_norm
    rounded = rounded_like(end, problem.policy.parameters)
    if rounded is not end:
        value, gradient, _ = value_and_gradient(objective, rounded)
        end, norm = rounded, gradient.abs().amax(dim=-1)
    steep = (to_numpy(norm) > tolerance) & ~diverges
    if steep.any():
        least = torch.as_tensor(_at_kinks(problem, loss, objective, end, steep)).to(norm)
        norm = torch.minimum(norm, least)
    return Certificate(end, value, norm, diverges, why)


def rounded_like(end: torch.Tensor, given: Any) -> torch.Tensor:
    """Return float64 parameters as a narrower type holds them, the same object where it is not."""
    import torch

    if isinstance(given, torch.Tensor):
        return end if given.dtype == torch.float64 else end.to(given.dtype).to(torch.float64)
    if given.dtype == np.float64:
        return end
    narrow = to_numpy(end).astype(given.dtype).astype(np.float64)
    return torch.as_tensor(narrow, device=end.device)


def _at_kinks(
    problem: Problem, loss: Loss, objective: Any, end: torch.Tensor, steep: np.ndarray
) -> np.ndarray:
    """Return the smallest mean of gradients around the steep members of a batch, ``(B,)``."""
    total = pair_costs(problem, loss, end)
    if total is None:
        return least_mean_gradient(objective, end, steep)
    # A narrower type holds no point that is nearer to a kink.
    radius = max(CERTIFIED_RADIUS, 2 * _epsilon(problem.policy.parameters))
    return least_slopes(total, end, steep, radius)


def _divergence(
    problem: Problem, loss: Loss, objective: Any, start: torch.Tensor, result: NewtonResult
) -> tuple[np.ndarray, str]:
    """Return which members of a batch have no finite minimiser, and why.

    Exactly for the losses of margins whose rows alone decide it, else by looking on from the end.
    """
    separation = _separation(problem, loss, start, result.parameters)
    if separation is None:
        ways = (result.last_step, result.late_step)
        falls = [falls_for_ever(objective, start, result.parameters, way) for way in ways]
        return to_numpy(falls[0] | falls[1]), "the loss still falls as the parameters grow"
    if separation.prompt < 0:
        return separation.member, "some direction of the weights ranks every comparison right"
    above, below = named_items(separation.above), named_items(separation.below)
    more = separation.prompts - 1
    others = f" (and such in {more} further prompt{'s' * (more > 1)})" if more else ""
    return separation.member, (
        f"of prompt {separation.prompt}, the responses {above} never lose to {below}{others}, so"
        " that their log-odds grow without bound"
    )


def _separation(
    problem: Problem, loss: Loss, start: torch.Tensor, end: torch.Tensor
) -> Separation | None:
    """Return what the rows alone decide, or None where that is not all there is."""
    import torch

    if not problem.convex:
        return None
    with torch.no_grad():
        policy, pairs, weight = problem.examples(start)
    n = weight.shape[-1]
    weights = np.broadcast_to(to_numpy(weight), (*problem.batch, n)).reshape(-1, n)
    rows = tuple(
        np.broadcast_to(row, (*problem.batch, n)).reshape(-1, n) if row.ndim > 1 else row
        for row in compared_rows(problem.data, n)
    )
    if isinstance(policy, LogLinearPolicy):
        with torch.no_grad():
            _, ended, _ = problem.examples(end)
        return separated_by_weights(loss, pairs, weights, rows, to_numpy(policy.features), ended)
    return ranked_without_error(loss, pairs, weights, rows, tuple(policy.log_probs.shape[-2:]))
