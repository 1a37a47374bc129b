r"""When a loss of margins has a minimum: comparisons that a policy can rank without an error.

A loss that falls for ever as a margin grows has a finite minimiser only where the comparisons keep
each other in check: no direction of the parameters may raise some margins and lower none. In a
table that is a question about the graph of who was preferred to whom, for linear rewards a linear
program; both for all contexts and members of a batch at once.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from prefsim.containers import PairLogps, map_fields
from prefsim.numerics import to_numpy
from prefsim.typing import Loss

__all__ = [
    "Separation",
    "is_convex_in_the_margin",
    "ranked_without_error",
    "separated_by_weights",
    "slopes_of_margins",
]

# By how much a margin is moved, in nats. A tail that vanishes like the logistic one is seen at one
# of these powers of two, whatever its scale, before it underflows.
SHIFTS = 2.0 ** np.arange(-8, 41)
# The other way, where a loss may rise as a square and torch's normal tail loses its digits.
FARTHEST_BACK = 256.0
SEEN, LEAST_SEEN = 64, 8  # rows that a property of the loss is measured on, of all and of a member
MOST_SEEN = 4096  # of all together: of more members than these, one row each
VANISHING = 1e-3  # of the steepest slope: below it a slope that is not zero is a tail
LOWEST_GAIN = 1e-5  # of a row of unit length: above what the linear program may err by


class Separation(NamedTuple):
    """Which members of a batch have no minimum, and why the first of them has none.

    Attributes
    ----------
    member
        Booleans ``(B,)``.
    prompt, above, below
        A prompt of the first such member, and the responses of two groups that no comparison turns
        round; empty where there is none, or where weights are shared by the prompts.
    prompts
        How many prompts of that member are like it.
    """

    member: np.ndarray
    prompt: int = -1
    above: np.ndarray = np.zeros(0, dtype=int)
    below: np.ndarray = np.zeros(0, dtype=int)
    prompts: int = 0


def slopes_of_margins(loss: Loss, pairs: PairLogps[Any], shifts: np.ndarray) -> np.ndarray:
    """Return the derivative of a loss by the margin, with the margins moved by ``shifts``.

    The margin of a pair falls with the chosen log-probability and grows as the rejected one falls,
    so that no log-probability rises above what it is.

    Parameters
    ----------
    loss
        A loss that sees a pair's two log-probabilities through their difference.
    pairs
        Torch tensors ``(..., m)``.
    shifts
        Nats, ``(k,)``.

    Returns
    -------
    Array ``(..., m, k)``.
    """
    import torch

    k = shifts.size

    def repeated(column: Any) -> Any:
        return column.repeat_interleave(k, dim=-1)

    with torch.no_grad():
        # The loss may have axes for a batch of its options: each member is a sum of its own.
        lead = loss(pairs).shape[:-1]
    many = map_fields(pairs, repeated)

    def of_all(column: Any) -> Any:
        return column.expand(*lead, column.shape[-1])

    many = map_fields(many, of_all)
    moved = torch.as_tensor(np.tile(shifts, pairs.chosen.shape[-1])).to(many.chosen)
    chosen = (many.chosen + moved.clamp(max=0.0)).detach()
    rejected = many.rejected - moved.clamp(min=0.0)
    with torch.enable_grad():
        chosen = chosen.clone().requires_grad_(True)
        values = loss(many._replace(chosen=chosen, rejected=rejected.detach()))
        slope = torch.zeros_like(chosen)
        if values.requires_grad:
            (slope,) = torch.autograd.grad(values.sum(), chosen)
    return to_numpy(slope).reshape(*slope.shape[:-1], -1, k)


def _distinct(pairs: PairLogps[Any]) -> PairLogps[Any]:
    """Return pairs ``(*batch, n)`` with axes of length one where all along an axis are the same.

    Data sets that start from one policy differ in their weights alone.
    """
    for axis in range(pairs.chosen.ndim - 1):
        first = map_fields(pairs, functools.partial(_first_along, axis))
        if all(bool((a == b).all()) for a, b in zip(pairs, first, strict=True) if a is not None):
            pairs = first
    return pairs


def _first_along(axis: int, column: Any) -> Any:
    return column.narrow(axis, 0, 1)


def is_convex_in_the_margin(loss: Loss, pairs: PairLogps[Any]) -> bool:
    """Return whether a loss is a convex function of each pair's margin, falling from the left.

    It is measured, on some of the pairs: with both log-probabilities lowered by as much nothing may
    change, and slopes may only rise with the margin.

    Parameters
    ----------
    loss
        Of pairs, none of which it couples with another.
    pairs
        Torch tensors ``(..., n)``, at a policy that no search has driven to where losses vanish.
    """
    import torch

    pairs = _distinct(pairs)
    with torch.no_grad():
        # Options may be a batch of their own.
        members = loss(map_fields(pairs, lambda column: column[..., :1])).numel()
    wanted = max(LEAST_SEEN, SEEN // max(1, members))
    seen = max(1, min(wanted, MOST_SEEN // max(1, members)))
    some = map_fields(pairs, lambda column: column[..., :seen])
    rng = np.random.default_rng(0)
    lower, apart = torch.as_tensor(rng.random((2, some.chosen.shape[-1]))).to(some.chosen)
    # Pairs of one response have no margin: these have one of some tenths of a nat.
    some = some._replace(rejected=some.rejected - apart)
    with torch.no_grad():
        here = loss(some)
        there = loss(some._replace(chosen=some.chosen - lower, rejected=some.rejected - lower))
    if not torch.allclose(here, there, rtol=1e-9, atol=1e-12):
        return False
    shifts = np.concatenate([-SHIFTS[SHIFTS <= FARTHEST_BACK][::-1], [0.0], SHIFTS])
    slopes = slopes_of_margins(loss, some, shifts)
    if not np.isfinite(slopes).all():
        return False
    steepest = np.abs(slopes).max(axis=-1, keepdims=True)
    rising = np.diff(slopes, axis=-1) >= -1e-9 * steepest
    return bool(rising.all() and (slopes[..., 0] < 0).all())


def _kinds_of_tails(slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which losses fall for ever as their margin grows, and which rise at last.

    What does neither is constant from some margin on. ``slopes`` ``(..., k)`` are those of growing
    margins.
    """
    steepest = np.abs(slopes).max(axis=-1, keepdims=True)
    rises = (slopes > 0).any(axis=-1)
    tail = (slopes < 0) & (slopes > -VANISHING * steepest)
    falls = ~rises & (tail.any(axis=-1) | (slopes[..., -1] < 0))
    return np.asarray(falls), np.asarray(rises)


class _Edges(NamedTuple):
    """Pairs that carry weight: member, prompt and the two responses, ``(m,)`` each."""

    member: np.ndarray
    column: np.ndarray
    prompt: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray


def _edges(
    weight: np.ndarray, prompt: np.ndarray, chosen: np.ndarray, rejected: np.ndarray
) -> _Edges:
    """Return the pairs of different responses with a positive weight ``(B, n)``."""
    prompt, chosen, rejected = (
        np.broadcast_to(part, weight.shape) for part in (prompt, chosen, rejected)
    )
    member, column = np.nonzero((weight > 0) & (chosen != rejected))
    at = (member, column)
    return _Edges(member, column, prompt[at], chosen[at], rejected[at])


def ranked_without_error(
    loss: Loss,
    pairs: PairLogps[Any],
    weight: np.ndarray,
    rows: tuple[np.ndarray, ...],
    shape: tuple[int, int],
) -> Separation:
    """Return for which members a table of logits has no finite minimiser.

    None exists where some pair on which the loss falls for ever leads from one strongly connected
    component of the graph of preferences to another.

    Parameters
    ----------
    loss
        Convex in the margin; see :func:`is_convex_in_the_margin`.
    pairs
        What the loss sees, torch tensors ``(B, n)`` or ``(n,)``.
    weight
        ``(B, n)``, >= 0.
    rows
        Prompt, preferred and other response of each pair, integers ``(n,)`` or ``(B, n)``.
    shape
        Numbers of prompts and responses.

    References
    ----------
    Ford 1957, "Solution of a ranking problem from binary comparisons"; Albert and Anderson 1984,
    "On the existence of maximum likelihood estimates in logistic regression models"
    (doi:10.1093/biomet/71.1.1).
    """
    members, (prompts, responses) = weight.shape[0], shape
    edges = _edges(weight, *rows)
    node = (edges.member * prompts + edges.prompt) * responses
    winner, loser = node + edges.chosen, node + edges.rejected
    size = members * prompts * responses

    def components(heads: np.ndarray, tails: np.ndarray) -> np.ndarray:
        graph = scipy.sparse.coo_array((np.ones(heads.size), (heads, tails)), shape=(size, size))
        _, label = connected_components(graph.tocsr(), directed=True, connection="strong")
        return np.asarray(label)

    label = components(winner, loser)
    crossing = np.flatnonzero(label[winner] != label[loser])
    if not crossing.size:
        return Separation(np.zeros(members, dtype=bool))
    falls, rises = _tails(loss, pairs, edges, crossing)
    if rises.any():
        back = crossing[rises]
        heads, tails = np.r_[winner, loser[back]], np.r_[loser, winner[back]]
        label = components(heads, tails)
    open_ = crossing[falls]
    open_ = open_[label[winner[open_]] != label[loser[open_]]]
    bad = np.zeros(members, dtype=bool)
    bad[edges.member[open_]] = True
    if not open_.size:
        return Separation(bad)
    first = open_[edges.member[open_] == edges.member[open_[0]]]
    of_prompt = edges.prompt[first]
    pair = first[0]
    here = np.flatnonzero(node // responses == node[pair] // responses)
    nodes = np.unique(np.r_[winner[here], loser[here]])

    def group(of: int) -> np.ndarray:
        return nodes[label[nodes] == label[of]] % responses

    return Separation(
        bad,
        int(edges.prompt[pair]),
        group(winner[pair]),
        group(loser[pair]),
        int(np.unique(of_prompt).size),
    )


def _tails(
    loss: Loss, pairs: PairLogps[Any], edges: _Edges, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the kinds of tails of some of the edges; see :func:`_kinds_of_tails`."""
    columns, place = np.unique(edges.column[which], return_inverse=True)
    at = slice(None) if columns.size == pairs.chosen.shape[-1] else columns
    some = map_fields(pairs, lambda field: field[..., at])
    kinds = _kinds_of_tails(slopes_of_margins(loss, _distinct(some), SHIFTS))
    shape = np.broadcast_shapes(kinds[0].shape, tuple(some.chosen.shape))
    falls, rises = (np.broadcast_to(kind, shape).reshape(-1, shape[-1]) for kind in kinds)
    member = edges.member[which] if falls.shape[0] > 1 else 0
    return falls[member, place], rises[member, place]


def separated_by_weights(
    loss: Loss,
    pairs: PairLogps[Any],
    weight: np.ndarray,
    rows: tuple[np.ndarray, ...],
    features: np.ndarray,
    end: PairLogps[Any] | None = None,
) -> Separation:
    """Return for which members a log-linear policy has no finite minimiser.

    None exists where some direction of the weights raises a margin on which the loss falls for
    ever, lowers none, and moves none on which it rises at last: a linear program. It is not asked
    about a member whose slopes at the end of a search balance, by which no such direction exists.

    Parameters
    ----------
    loss, pairs, weight, rows
        As for :func:`ranked_without_error`.
    features
        ``(X, Y, d)``.
    end
        What the loss sees where a search has ended, ``(B, n)``.
    """
    edges = _edges(weight, *rows)
    bad = np.zeros(weight.shape[0], dtype=bool)
    if not edges.member.size:
        return Separation(bad)
    falls, rises = _tails(loss, pairs, edges, np.arange(edges.member.size))
    # SciPy's linear programs know no half precision.
    features = np.asarray(features, dtype=np.float64)
    moved = features[edges.prompt, edges.chosen] - features[edges.prompt, edges.rejected]
    length = np.abs(moved).max(axis=-1, keepdims=True)
    moved = np.divide(moved, length, out=np.zeros_like(moved), where=length > 0)
    asked = np.unique(edges.member)
    if end is not None:
        slope = weight[edges.member, edges.column] * _slopes_at(loss, end, edges)
        pull = -slope * length[:, 0]
        asked = asked[~_balanced(pull, moved, falls, rises, edges.member)[asked]]
    for member in asked:
        mine = edges.member == member
        bad[member] = _has_direction(
            np.unique(moved[mine & falls], axis=0),
            np.unique(moved[mine & ~falls & ~rises], axis=0),
            np.unique(moved[mine & rises], axis=0),
        )
    return Separation(bad)


def _slopes_at(loss: Loss, pairs: PairLogps[Any], edges: _Edges) -> np.ndarray:
    """Return the derivative by the margin of each edge's pair, where pairs ``(B, n)`` are."""
    slopes = slopes_of_margins(loss, pairs, np.zeros(1))[..., 0]
    return np.asarray(slopes.reshape(-1, slopes.shape[-1])[edges.member, edges.column])


def _balanced(
    pull: np.ndarray, moved: np.ndarray, falls: np.ndarray, rises: np.ndarray, member: np.ndarray
) -> np.ndarray:
    """Return which members have no direction as in :func:`_has_direction`, by Gordan's theorem.

    A direction raises the sum of the rows, each times its ``pull`` >= 0, by at least the least pull
    times the largest gain; where the sum is next to nothing, no gain is worth the name. Members
    that are not found may have none either.
    """
    members = int(member.max()) + 1
    total = np.zeros((members, moved.shape[1]))
    np.add.at(total, member, pull[:, None] * moved)
    least = np.full(members, np.inf)
    np.minimum.at(least, member, np.where(falls & moved.any(axis=-1), pull, np.inf))
    against = np.zeros(members, dtype=bool)
    np.logical_or.at(against, member, ~rises & ~(pull >= 0))
    return ~against & (np.abs(total).sum(axis=-1) < LOWEST_GAIN * least)


def _has_direction(falls: np.ndarray, flat: np.ndarray, rises: np.ndarray) -> bool:
    """Return whether some direction raises rows that fall, lowers none, and keeps some still.

    Rows are ``(n, d)`` of largest entry one. The sum of the gains, each up to one, is maximised
    over a box of directions.
    """
    n, d = falls.shape
    if n == 0:
        return False
    gains = scipy.sparse.eye_array(n)
    result = scipy.optimize.linprog(
        np.r_[np.zeros(d), -np.ones(n)],
        # gain <= row · direction, and 0 <= row · direction where the loss ends flat
        A_ub=scipy.sparse.block_array(
            [[-falls, gains], [-flat, None]] if flat.size else [[-falls, gains]]
        ),
        b_ub=np.zeros(n + len(flat)),
        A_eq=scipy.sparse.csr_array(np.pad(rises, ((0, 0), (0, n)))) if rises.size else None,
        b_eq=np.zeros(len(rises)) if rises.size else None,
        bounds=[(-1, 1)] * d + [(0, 1)] * n,
        method="highs",
    )
    return bool(result.status == 0 and result.x[d:].max() > LOWEST_GAIN)
