"""Tables: the contexts of a tabular policy are problems of their own.

A comparison moves the logits of one context. The Hessian of a whole table is one small block a
context, and for a loss of the margin each block is a sum over comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prefsim.data.comparisons import Comparisons
from prefsim.losses.running import RunningLoss
from prefsim.policies.tabular import TabularPolicy
from prefsim.typing import Loss

if TYPE_CHECKING:
    import torch

    from prefsim.solvers.optimisers.newton import NewtonResult

__all__ = [
    "ContextBlocks",
    "blocks_of",
    "compared_rows",
    "has_blocks",
    "is_plain_table",
    "minimised_by_contexts",
]

# Numbers in all blocks together, 160 MB.
MOST_NUMBERS = 20_000_000


def is_plain_table(policy: Any) -> bool:
    """Return whether the log-probabilities of a policy are a softmax of its own logits."""
    return isinstance(policy, TabularPolicy) and (type(policy).log_probs is TabularPolicy.log_probs)


def compared_rows(data: Any, n: int) -> tuple[np.ndarray, ...]:
    """Return prompt, first and second response of each of the ``n`` examples of comparisons.

    With soft labels they are the rows as they stand, and then reversed.
    """
    rows = np.broadcast_arrays(data.prompt, data.chosen, data.rejected)
    if n == len(data):
        return tuple(rows)
    prompt, chosen, rejected = rows
    return (
        np.concatenate([prompt, prompt], axis=-1),
        np.concatenate([chosen, rejected], axis=-1),
        np.concatenate([rejected, chosen], axis=-1),
    )


class ContextBlocks(NamedTuple):
    """The objective of a table as one of independent contexts.

    Attributes
    ----------
    shape
        Of the parameters of all blocks, ``(B·X, Y)``.
    objective
        ``(B·X, Y) -> (B·X,)``.
    hessian
        ``(B·X, Y) -> (B·X, Y, Y)``, of a loss that sees a pair through its margin.
    """

    shape: tuple[int, int]
    objective: Callable[[Any], Any]
    hessian: Callable[[Any], Any]


def has_blocks(problem: Any, loss: Loss) -> bool:
    """Return whether the contexts of a table are problems of their own."""
    if problem.penalty is not None or isinstance(loss, RunningLoss):
        return False
    return is_plain_table(problem.policy) and isinstance(problem.data, Comparisons)


def blocks_of(problem: Any, loss: Loss, start: torch.Tensor) -> ContextBlocks | None:
    """Return the contexts of a table as problems of their own, or None where they are not.

    Parameters
    ----------
    problem
        A :class:`prefsim.solvers.fit_problem.Problem`.
    loss
        One that does not couple its batch.
    start
        Parameters ``(B, X·Y)``.
    """
    import torch

    if not has_blocks(problem, loss):
        return None
    members, size = start.shape
    prompts, responses = problem.policy.logits.shape[-2:]
    shape = (members * prompts, responses)

    def examples(theta: torch.Tensor) -> tuple[Any, Any]:
        _, pairs, weight = problem.examples(theta.reshape(members, size))
        return pairs, weight

    with torch.no_grad():
        n = examples(start)[1].shape[-1]
    flat_rows = (*problem.batch, n)
    prompt, first, second = (
        np.broadcast_to(each, flat_rows).reshape(members, n)
        for each in compared_rows(problem.data, n)
    )
    block = prompt + prompts * np.arange(members)[:, None]
    to_block = torch.as_tensor(block.reshape(-1), device=start.device)
    # A response beside itself has no margin to curve.
    differ = torch.as_tensor(first != second, device=start.device)
    entries = [
        (torch.as_tensor(((block * responses + i) * responses + j).reshape(-1)).to(to_block), sign)
        for i, j, sign in ((first, first, 1), (second, second, 1), (first, second, -1))
    ]

    def objective(theta: torch.Tensor) -> torch.Tensor:
        pairs, weight = examples(theta)
        values = (weight * loss(pairs)).expand(flat_rows).reshape(-1)
        return values.new_zeros(shape[0]).index_add(0, to_block, values)

    def hessian(theta: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            pairs, weight = examples(theta)
        chosen = pairs.chosen.expand(flat_rows).clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(
            loss(pairs._replace(chosen=chosen)).sum(), chosen, create_graph=True
        )
        curvature = torch.zeros_like(chosen)
        if slope.requires_grad:
            (curvature,) = torch.autograd.grad(slope.sum(), chosen)
        flat = (weight * curvature * differ.reshape(flat_rows)).reshape(-1)
        sums = flat.new_zeros(shape[0] * responses * responses)
        for places, sign in entries:
            sums.index_add_(0, places, flat, alpha=sign)
        table = sums.reshape(*shape, responses)
        # Of the two entries of a pair one is written; the other is its mirror image.
        diagonal = torch.diag_embed(table.diagonal(dim1=-2, dim2=-1))
        off = table - diagonal
        return diagonal + off + off.mT

    return ContextBlocks(shape, objective, hessian)


def minimised_by_contexts(
    problem: Any, loss: Loss, start: torch.Tensor, *, tolerance: float, max_iterations: int
) -> NewtonResult | None:
    """Minimise each context of a table for itself, or return None where that is not so.

    That is, for a loss that is known to be convex in the margin.

    Parameters
    ----------
    problem
        A :class:`prefsim.solvers.fit_problem.Problem`.
    loss, start, tolerance, max_iterations
        As for :func:`prefsim.solvers.fit`; parameters ``(B, X·Y)``.
    """
    from prefsim.solvers.optimisers.newton import DENSE_LIMIT, minimise

    if not (problem.convex and has_blocks(problem, loss)):
        return None
    members, size = start.shape
    prompts, responses = problem.policy.logits.shape[-2:]
    if responses > DENSE_LIMIT or start.numel() * responses > MOST_NUMBERS:
        return None
    blocks = blocks_of(problem, loss, start)
    assert blocks is not None
    result = minimise(
        blocks.objective,
        start.reshape(blocks.shape),
        tolerance=tolerance,
        max_iterations=max_iterations,
        hessian=blocks.hessian,
        convex=True,
    )
    return result._replace(
        parameters=result.parameters.reshape(members, size),
        value=result.value.reshape(members, prompts).sum(dim=-1),
        grad_norm=result.grad_norm.reshape(members, prompts).amax(dim=-1),
        last_step=result.last_step.reshape(members, size),
        late_step=result.late_step.reshape(members, size),
    )
