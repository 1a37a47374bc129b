"""Sums of piecewise smooth functions of two numbers each: their pieces, and where kinks are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.solvers.optimisers.newton import hessian_of, value_and_gradient

__all__ = [
    "LEAST_JUMP",
    "Costs",
    "Pieces",
    "Sum",
    "has_kinks",
    "pieces_near",
    "second_order",
    "slopes_of_numbers",
]

Tensor = Any

# Where pieces are looked for, of the radius: along each number, along both, and apart.
CORNERS = np.asarray(
    [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1), (1, 1), (-1, -1)], dtype=float
)
# Of the steepest slope: below it two slopes are of one piece.
LEAST_JUMP = 1e-6
# Of each function: where kinks are looked for, in nats, and how often what holds one is halved.
FARTHEST, HALVINGS = 1000.0, 60
# Numbers in what a step differentiates at once, 80 MB.
AT_ONCE = 10_000_000


class Costs(NamedTuple):
    """Values ``(S, G)`` of G functions at S points, and their derivatives, as NumPy arrays.

    ``slope`` is ``(S, 2, G)``, ``curvature`` ``(S, 3, G)``: by the first number twice, by both, by
    the second twice.
    """

    value: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray


class Sum(NamedTuple):
    """An objective of M independent problems of D parameters, as a sum of G functions.

    Attributes
    ----------
    shape
        ``(M, D)``.
    objective
        ``(M, D) -> (M,)``.
    numbers
        ``(M, D) -> (2, G)``: the two numbers that each function is one of, smooth.
    costs
        Of the functions at numbers ``(S, 2, G)``.
    rest
        ``(M, D) -> (M,)``, smooth, or None: what else is in the objective.
    member
        The problem of each function, integers ``(G,)``.
    """

    shape: tuple[int, int]
    objective: Callable[[Tensor], Tensor]
    numbers: Callable[[Tensor], Tensor]
    costs: Callable[[Tensor], Costs]
    rest: Callable[[Tensor], Tensor] | None
    member: np.ndarray


class Pieces(NamedTuple):
    """Pieces as Taylor series at the point: ``(S, G)``, ``(S, 2, G)`` and ``(S, 3, G)``.

    ``keep`` ``(S, G)`` says which are pieces of their own; the first always is.
    """

    value: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray
    keep: np.ndarray


def _quadratic(curvature: np.ndarray, off: np.ndarray) -> np.ndarray:
    first, second = off[:, 0], off[:, 1]
    return (
        curvature[:, 0] * first**2
        + 2 * curvature[:, 1] * first * second
        + curvature[:, 2] * second**2
    )


def pieces_near(total: Sum, numbers: Tensor, radius: np.ndarray, least_jump: np.ndarray) -> Pieces:
    """Return the pieces of each function within a radius ``(G,)`` of its numbers ``(2, G)``."""
    import torch

    offsets = torch.as_tensor(CORNERS[:, :, None] * radius).to(numbers)
    # Log-probabilities: at most half the way to zero.
    at = torch.minimum(numbers + offsets, 0.5 * numbers)
    at[0] = numbers
    off = (at - numbers).cpu().numpy()
    value, slope, curvature = total.costs(at)
    across = np.stack(
        [
            curvature[:, 0] * off[:, 0] + curvature[:, 1] * off[:, 1],
            curvature[:, 1] * off[:, 0] + curvature[:, 2] * off[:, 1],
        ],
        axis=1,
    )
    here = slope - across
    there = value - (slope * off).sum(axis=1) + 0.5 * _quadratic(curvature, off)
    # What is infinite or undefined in a slope or a curvature is so in the value that they lead to.
    finite = np.isfinite(there)
    steepest = np.where(finite[:, None], np.abs(here), 0.0).max(axis=(0, 1))

    def differ(i: int, j: int) -> np.ndarray:
        return np.asarray(np.abs(here[i] - here[j]).max(axis=0) > least_jump * steepest)

    keep = finite.copy()
    for k in range(1, len(CORNERS)):
        for j in range(k):
            keep[k] &= ~keep[j] | differ(k, j)
    rounding = 8 * float(torch.finfo(numbers.dtype).eps)
    # Pieces of a maximum lie below it. What bends down at a kink has no minimum there.
    for k in range(1, len(CORNERS)):
        for j in range(len(CORNERS)):
            away = off[j] - off[0]
            claimed = there[k] + (here[k] * away).sum(axis=0)
            claimed += 0.5 * _quadratic(curvature[k][None], away[None])[0]
            jump = (np.abs(here[k] - here[j]) * np.abs(away)).sum(axis=0)
            blur = rounding * (np.abs(value[j]) + (np.abs(here[k] * away)).sum(axis=0))
            keep[k] &= ~(claimed - value[j] > 0.1 * jump + blur) | (jump == 0)
    return Pieces(there, here, curvature, keep)


def slopes_of_numbers(total: Sum, theta: Tensor, which: np.ndarray) -> np.ndarray:
    """Return the derivatives ``(2, K, D)`` of the numbers of some functions by their problem's."""
    import torch

    leaf = theta.detach().requires_grad_(True)
    numbers = total.numbers(leaf)
    member = total.member[which]
    # Problems share no parameters: one product serves one function in each of them.
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], member[order])
    slot = np.empty(which.size, dtype=int)
    slot[order] = np.arange(which.size) - starts
    found = np.zeros((2, which.size, total.shape[1]))
    chunk = max(1, AT_ONCE // (numbers.numel() + theta.numel()))
    slots = int(slot.max()) + 1 if which.size else 0
    for first in range(0, slots, chunk):
        mine = np.flatnonzero((slot >= first) & (slot < first + chunk))
        size = min(chunk, slots - first)
        for place in range(2):
            seeds = numbers.new_zeros(size, *numbers.shape)
            seeds[slot[mine] - first, place, which[mine]] = 1.0
            (rows,) = torch.autograd.grad(
                numbers, leaf, seeds, is_grads_batched=True, retain_graph=True
            )
            found[place, mine] = rows.cpu().numpy()[slot[mine] - first, member[mine]]
    return found


def second_order(
    total: Sum, theta: Tensor, slope: np.ndarray, curvature: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient ``(M, D)`` and Hessian of the sum, with given derivatives of each function.

    Functions have slopes ``(2, G)`` and curvatures ``(3, G)`` in their two numbers.
    """
    import torch

    with torch.no_grad():
        at = total.numbers(theta)
    linear, second = (torch.as_tensor(each).to(theta) for each in (slope, curvature))
    member = torch.as_tensor(total.member, device=theta.device)

    def model(moved: Tensor) -> Tensor:
        numbers = total.numbers(moved)
        off = numbers - at
        bent = second[0] * off[0] ** 2 + 2 * second[1] * off[0] * off[1] + second[2] * off[1] ** 2
        each = (linear * numbers).sum(dim=0) + 0.5 * bent
        found = each.new_zeros(total.shape[0]).index_add(0, member, each)
        return found if total.rest is None else found + total.rest(moved)

    _, gradient, leaf = value_and_gradient(model, theta, graph=True)
    hessian = hessian_of(gradient, leaf) if gradient.requires_grad else None
    d = total.shape[1]
    bent = np.zeros((total.shape[0], d, d)) if hessian is None else hessian.detach().cpu().numpy()
    return gradient.detach().cpu().numpy(), 0.5 * (bent + np.swapaxes(bent, -1, -2))


def has_kinks(total: Sum, point: Tensor) -> bool:
    """Return whether some function has a kink, on three lines through its numbers.

    Of either number alone, and of what is between them. The interval in which the slope changes
    most is halved until the change of a smooth function is next to nothing.
    """
    import torch

    with torch.no_grad():
        numbers = total.numbers(point)
    ways = numbers.new_tensor([(1.0, 0.0), (0.0, 1.0), (1.0, -1.0)])[:, :, None]

    def slopes(shift: Tensor) -> Tensor:
        moved = shift[:, None] * ways
        # What is between two log-probabilities grows as the other falls.
        between = moved[2].clamp(max=0.0)[None]
        at = numbers + torch.cat([moved[:2], between])
        return torch.as_tensor(total.costs(at).slope).to(numbers)

    room = 0.5 * numbers.abs()
    high = torch.stack([room[0], room[1], torch.full_like(room[0], FARTHEST)])
    low = torch.full_like(high, -FARTHEST)
    at_low, at_high = slopes(low), slopes(high)
    steepest = torch.maximum(at_low.abs(), at_high.abs())
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        here = slopes(middle)
        steepest = torch.maximum(steepest, here.abs())
        left = (here - at_low).abs().amax(dim=1) > (at_high - here).abs().amax(dim=1)
        high, low = torch.where(left, middle, high), torch.where(left, low, middle)
        at_high = torch.where(left[:, None], here, at_high)
        at_low = torch.where(left[:, None], at_low, here)
    change = (at_high - at_low).abs().amax(dim=1)
    return bool((change > 1e-3 * steepest.amax(dim=1)).any())
