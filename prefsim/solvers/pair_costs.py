"""A fit's objective as a sum over pairs of responses, each a function of two log-probabilities.

A row and the same row reversed cost a function of the same two numbers, and only their sum says
where it has a kink.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.containers import map_fields
from prefsim.data.comparisons import Comparisons
from prefsim.losses.running import RunningLoss
from prefsim.numerics import as_tensor
from prefsim.solvers.context_blocks import blocks_of, compared_rows, has_blocks
from prefsim.solvers.optimisers.kink_pieces import Costs, Sum
from prefsim.solvers.optimisers.kinked_sums import least_mean_slope, minimise_sum
from prefsim.solvers.optimisers.newton import DENSE_LIMIT
from prefsim.typing import Loss

if TYPE_CHECKING:
    import torch

    from prefsim.solvers.optimisers.newton import NewtonResult

__all__ = ["is_sum_over_pairs", "least_slopes", "minimised_along_kinks", "pair_costs"]


def is_sum_over_pairs(problem: Any, loss: Loss, start: torch.Tensor) -> bool:
    """Return whether :func:`pair_costs` knows the objective of a fit as a sum over pairs."""
    if not isinstance(problem.data, Comparisons) or isinstance(loss, RunningLoss):
        return False
    if problem.coupled:
        return False
    size = problem.policy.logits.shape[-1] if has_blocks(problem, loss) else start.shape[1]
    return bool(size <= DENSE_LIMIT)


def pair_costs(problem: Any, loss: Loss, start: torch.Tensor) -> Sum | None:
    """Return the objective of a fit as a sum over pairs, or None where it is none.

    Parameters
    ----------
    problem
        A :class:`prefsim.solvers.fit_problem.Problem`.
    loss
        Of pairs.
    start
        Parameters ``(B, D)``. The contexts of a table are problems of their own.
    """
    import torch

    if not is_sum_over_pairs(problem, loss, start):
        return None
    blocks = blocks_of(problem, loss, start)
    shape: tuple[int, int] = (start.shape[0], start.shape[1])
    objective: Callable[[Any], Any] = functools.partial(problem.settled, loss)
    if blocks is not None:
        shape, objective = blocks.shape, blocks.objective
    members = start.shape[0]
    with torch.no_grad():
        _, fixed, weight = problem.examples(start)
    rows = (*problem.batch, weight.shape[-1])
    prompt, first, second = (
        np.broadcast_to(each, rows).reshape(-1)
        for each in compared_rows(problem.data, weight.shape[-1])
    )
    low, high = np.minimum(first, second), np.maximum(first, second)
    member = np.repeat(np.arange(members), weight.shape[-1])
    key = np.stack([member, prompt, low, high])
    _, one, pair = np.unique(key, axis=1, return_index=True, return_inverse=True)
    problem_of_pair = member[one]
    if blocks is not None:
        problem_of_pair = problem_of_pair * (shape[0] // members) + prompt[one]

    def on(array: np.ndarray) -> torch.Tensor:
        return as_tensor(array, device=start.device)

    is_first, one_row = on(np.stack([low, high])[:, one] == first[one]), on(one)
    # Of a response beside itself, both are the first of its pair.
    places = (on((first > low).astype(int)), on((second > low).astype(int)))
    pair_of_row, weights = on(pair.reshape(-1)), weight.expand(rows).reshape(-1)

    def log_probs(theta: torch.Tensor) -> torch.Tensor:
        _, pairs, _ = problem.examples(theta.reshape(start.shape))
        chosen, rejected = (
            each.expand(rows).reshape(-1)[one_row] for each in (pairs.chosen, pairs.rejected)
        )
        return torch.where(is_first, chosen, rejected)

    def summed(each: torch.Tensor, place: torch.Tensor, size: int) -> np.ndarray:
        """Sum entries of rows ``(S, R)`` to ``(S, size, G)``, each to a place of its pair."""
        points, pairs = each.shape[0], one.size
        flat = torch.where(weights > 0, weights * each, torch.zeros_like(each))
        sums = flat.new_zeros(points, size * pairs).index_add(1, place * pairs + pair_of_row, flat)
        return np.asarray(to_numpy(sums)).reshape(points, size, pairs)

    def costs(at: torch.Tensor) -> Costs:
        first_at, second_at = places
        moved = [at[:, place, pair_of_row].clone().requires_grad_(True) for place in places]
        chosen, rejected = (each.reshape(-1, *rows) for each in moved)
        beside = map_fields(fixed, lambda column: torch.as_tensor(column).expand(chosen.shape))
        values = torch.as_tensor(loss(beside._replace(chosen=chosen, rejected=rejected)))
        values = values.expand(chosen.shape)
        slopes = _gradients(values, moved)
        (twice_first, mixed), (_, twice_second) = (_gradients(each, moved) for each in slopes)
        same = first_at == second_at
        return Costs(
            summed(values.detach().reshape(moved[0].shape), 0 * first_at, 1)[:, 0],
            summed(slopes[0].detach(), first_at, 2) + summed(slopes[1].detach(), second_at, 2),
            summed(twice_first, 2 * first_at, 3)
            + summed(twice_second, 2 * second_at, 3)
            + summed(torch.where(same, 2 * mixed, mixed), first_at + second_at, 3),
        )

    def penalty(theta: torch.Tensor) -> torch.Tensor:
        assert problem.penalty is not None
        policy = problem.policy_of(theta.reshape(start.shape))
        return problem.penalty(policy).reshape(-1).expand(shape[0])

    rest = None if problem.penalty is None else penalty
    return Sum(shape, objective, log_probs, costs, rest, problem_of_pair)


def minimised_along_kinks(
    total: Sum, result: NewtonResult, tolerance: float, max_iterations: int
) -> NewtonResult:
    """Return a minimum of what Newton steps left steep, ``(B, D)``, by steps along the kinks."""
    members = result.parameters.shape[0]
    each = total.shape[0] // members
    steep = np.repeat(np.asarray(to_numpy(result.grad_norm)) > tolerance, each)
    found = minimise_sum(
        total,
        result.parameters.reshape(total.shape),
        tolerance=tolerance,
        max_iterations=max_iterations,
        which=steep,
    )
    return found._replace(
        parameters=found.parameters.reshape(members, -1),
        value=found.value.reshape(members, each).sum(dim=-1),
        grad_norm=found.grad_norm.reshape(members, each).amax(dim=-1),
        last_step=found.last_step.reshape(members, -1),
        late_step=found.late_step.reshape(members, -1),
    )


def least_slopes(total: Sum, end: torch.Tensor, steep: np.ndarray, radius: float) -> np.ndarray:
    """Return the smallest mean of the slopes around the steep ones of parameters ``(B, D)``."""
    members = end.shape[0]
    which = np.repeat(steep, total.shape[0] // members)
    found = least_mean_slope(total, end.reshape(total.shape), which, radius)
    return np.asarray(found.reshape(members, -1).max(axis=-1))


def _gradients(values: torch.Tensor, by: list[Any]) -> tuple[torch.Tensor, ...]:
    """Return derivatives of a sum, zero by what it does not depend on."""
    import torch

    if not values.requires_grad:
        return tuple(torch.zeros_like(each) for each in by)
    found = torch.autograd.grad(values.sum(), by, create_graph=True, allow_unused=True)
    return tuple(
        torch.zeros_like(each) if gradient is None else gradient
        for gradient, each in zip(found, by, strict=True)
    )
