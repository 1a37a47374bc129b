"""Fronts that are filled in two stages: by weights first, then by constraints where gaps are.

Written over a function that trains, which may be a linear program or a language model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.checks import (
    as_float_array,
    as_probabilities,
    check_callable,
    check_choice,
    check_integer,
    check_interval,
    check_nonnegative,
    check_shape,
)
from prefsim.solvers.pareto import crowding_distance, non_dominated

__all__ = ["Archive", "ExtensionRound", "extend_front", "least_returns"]

Trained = Iterable[tuple[Any, Any]]
Train = Callable[[Any, np.ndarray, np.ndarray], Trained]


@readable
class Archive(NamedTuple):
    """Policies of which none is better than another in everything.

    Attributes
    ----------
    policies
        What the training function returned, ``n`` of them, in the order in which they came.
    returns
        ``(n, m)``.
    extended
        Booleans ``(n,)``: whether a policy has been the start of extensions.
    """

    policies: tuple[Any, ...]
    returns: np.ndarray
    extended: np.ndarray


@readable
class ExtensionRound(NamedTuple):
    """The archive after a round.

    Attributes
    ----------
    archive
        After the round.
    starts
        ``(k, m)``: returns of the policies that were extended, none in the first stage.
    failed
        How many trainings returned nothing, since nothing met the constraints.
    """

    archive: Archive
    starts: np.ndarray
    failed: int


def least_returns(
    returns: Any, objective: int, *, share: float, bound: str = "scaled"
) -> np.ndarray:
    r"""Return what other objectives must keep while one is improved.

    Parameters
    ----------
    returns
        J of the policy that is extended, ``(..., m)``.
    objective
        The one that is free: its level is ``-inf``.
    share
        :math:`\beta`, in (0, 1].
    bound
        ``"scaled"`` for :math:`\beta J`, as in the paper, which asks for more than J where J is
        negative; ``"lowered"`` for :math:`J - (1 - \beta)|J|`, the same where J >= 0, which the
        policy itself always meets.

    Returns
    -------
    Array ``(..., m)``.

    Raises
    ------
    ValueError
        If an option is out of range.

    Examples
    --------
    >>> least_returns([2.0, -1.0, 4.0], 0, share=0.5)
    array([-inf, -0.5,  2. ])
    >>> least_returns([2.0, -1.0, 4.0], 0, share=0.5, bound="lowered")
    array([-inf, -1.5,  2. ])
    """
    table = as_float_array(returns, "returns", min_ndim=1)
    check_integer(low=0, high=table.shape[-1] - 1, objective=objective)
    check_interval(share=share, low=0.0, high=1.0, closed="right")
    check_choice(("scaled", "lowered"), bound=bound)
    level = share * table if bound == "scaled" else table - (1.0 - share) * np.abs(table)
    level[..., objective] = -np.inf
    return level


def extend_front(
    train: Train,
    weights: Any,
    *,
    rounds: int,
    select: int = 5,
    share: float = 0.9,
    bound: str = "scaled",
    buffer: int = 200,
    reference: Any = None,
    tolerance: float = 1e-9,
) -> list[ExtensionRound]:
    r"""Return the archives of C-MORL: policies for given weights, then extensions of the loneliest.

    In every round the ``select`` policies of largest crowding distance that have not been extended
    are taken, and from each all objectives are improved in turn, while the others keep what
    :func:`least_returns` says. Rounds end early once every policy of the archive has been extended.

    Parameters
    ----------
    train
        A function of a policy to start from (None in the first stage), weights ``(m,)`` of the
        returns (of one objective alone in the second) and least returns ``(m,)``, ``-inf`` where
        nothing is asked. It returns pairs of a policy and its returns ``(m,)``, of all policies on
        the way that were evaluated; none where the constraints cannot be met.
    weights
        ``(k, m)`` of the first stage, each >= 0 with sum one.
    rounds
        Of the second stage, >= 0.
    select
        Policies extended in a round, >= 1.
    share, bound
        As in :func:`least_returns`.
    buffer
        Size of the archive, >= 1; of more policies those of largest crowding distance stay.
    reference
        ``(m,)``: policies below it in some objective are left out; none unless given.
    tolerance
        >= 0: by how much a policy must be better in some objective to enter.

    Returns
    -------
    One :class:`ExtensionRound` for the first stage, and one for each round.

    Raises
    ------
    ValueError
        If an option is out of range, weights are no distributions, or the training function returns
        returns of another shape.

    References
    ----------
    Liu et al. 2024, "Efficient discovery of Pareto front for multi-objective reinforcement
    learning", arXiv:2410.02236, algorithm 1.

    Examples
    --------
    Four choices in one step, of which weights find only two.

    >>> points = np.array([[0.0, 1.0], [0.35, 0.45], [0.6, 0.38], [1.0, 0.0]])
    >>> def train(start, weights, at_least):
    ...     allowed = np.flatnonzero((points >= at_least).all(axis=1))
    ...     best = allowed[np.argmax(points[allowed] @ weights)]
    ...     return [(int(best), points[best])]
    >>> path = extend_front(train, [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], rounds=2, share=0.45)
    >>> [sorted(step.archive.policies) for step in path]
    [[0, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    """
    check_callable(train=train)
    preferences = np.asarray(as_probabilities(weights, "weights", min_ndim=2))
    check_integer(low=0, rounds=rounds)
    check_integer(low=1, select=select, buffer=buffer)
    check_nonnegative(tolerance=tolerance)
    count = preferences.shape[-1]
    least_returns(np.zeros(count), 0, share=share, bound=bound)  # looks at the two options
    floor = np.full(count, -np.inf)
    if reference is not None:
        floor = as_float_array(reference, "reference", ndim=1)
        check_shape(floor, "reference", (count,))
    free = np.full(count, -np.inf)

    def trained(tasks: list[tuple[Any, np.ndarray, np.ndarray]]) -> tuple[Found, int]:
        batches = [list(train(*task)) for task in tasks]
        found = [
            (policy, read_returns(value, count)) for batch in batches for policy, value in batch
        ]
        return found, sum(not batch for batch in batches)

    def archived(archive: Archive, found: Found) -> Archive:
        return _updated(archive, found, floor=floor, buffer=buffer, tolerance=tolerance)

    empty = Archive((), np.zeros((0, count)), np.zeros(0, dtype=bool))
    found, failed = trained([(None, each, free) for each in preferences.reshape(-1, count)])
    path = [ExtensionRound(archived(empty, found), np.zeros((0, count)), failed)]
    for _ in range(rounds):
        archive = path[-1].archive
        starts = _loneliest(archive, select)
        if not len(starts):
            break
        tasks = [
            (
                archive.policies[place],
                np.eye(count)[objective],
                least_returns(archive.returns[place], objective, share=share, bound=bound),
            )
            for place in starts
            for objective in range(count)
        ]
        found, failed = trained(tasks)
        extended = archive.extended.copy()
        extended[starts] = True
        after = archived(archive._replace(extended=extended), found)
        path.append(ExtensionRound(after, archive.returns[starts], failed))
    return path


Found = list[tuple[Any, np.ndarray]]


def read_returns(value: Any, count: int) -> np.ndarray:
    """Return what a training function says of a policy, ``(m,)``, or raise."""
    returns = as_float_array(value, "returns of train", ndim=1)
    check_shape(returns, "returns of train", (count,))
    return returns


def _loneliest(archive: Archive, select: int) -> np.ndarray:
    """Return the places of policies not extended so far, the loneliest first."""
    distance = np.where(archive.extended, -np.inf, crowding_distance(archive.returns))
    order = np.argsort(-distance, kind="stable")
    return order[~archive.extended[order]][:select]


def _updated(
    archive: Archive, found: Found, *, floor: np.ndarray, buffer: int, tolerance: float
) -> Archive:
    """Return the archive with new policies, without those that are dominated, below or crowded."""
    if not found:
        return archive
    policies = (*archive.policies, *(policy for policy, _ in found))
    returns = np.concatenate([archive.returns, np.stack([value for _, value in found])])
    extended = np.concatenate([archive.extended, np.zeros(len(found), dtype=bool)])
    above = np.flatnonzero((returns >= floor).all(axis=1))
    kept = above[non_dominated(returns[above], tolerance=tolerance)]
    if len(kept) > buffer:
        distance = crowding_distance(returns[kept])
        kept = kept[np.sort(np.argsort(-distance, kind="stable")[:buffer])]
    return Archive(tuple(policies[place] for place in kept), returns[kept], extended[kept])
