r"""Gromov–Wasserstein couplings: points of two spaces are matched by their distances alone.

The objective (:mod:`prefsim.solvers.coupled_distances`) is quadratic in the coupling and in general
not convex: what is found is a stationary point, with its certificate, and the best of several
starts.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import (
    as_float_array,
    as_floats,
    as_probabilities,
    check_integer,
    check_positive,
    check_shape,
    names_shapes,
    tolerance_of,
)
from prefsim.numerics import array_namespace, like, to_numpy
from prefsim.solvers.coupled_distances import (
    check_distances,
    gromov_wasserstein_cost,
    plain_gradient,
    read_problem,
)
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array, ArrayT

__all__ = [
    "Coupling",
    "entropic_gromov_wasserstein",
    "gromov_wasserstein",
    "stationarity_gap",
]


MASS = 1e-6
"""By how much an entropic coupling may miss a mass: Sinkhorn's iterations near it slowly."""


class Coupling(NamedTuple):
    """What moves each of M sources to N targets.

    Attributes
    ----------
    coupling
        T, ``(*batch, M, N)``, whose rows sum to the masses of the sources and whose columns to
        those of the targets; of an entropic coupling that has not converged only the former do.
    value
        Its objective ``(*batch,)``, in squared units of the distances.
    residual
        Certificate of a stationary point, ``(*batch,)``: how much the linearised objective could
        still fall (:func:`stationarity_gap`); for an entropic coupling, the largest change of an
        entry in the last iteration, or by how much it misses a mass, where that is above 1e-6. 0
        where it is exact.
    start
        Which start led there, ``(*batch,)``; 0 is the product of the masses.
    values
        Objective that each start led to, ``(starts, *batch)``.
    """

    coupling: Any
    value: Any
    residual: Any
    start: np.ndarray
    values: Any


@names_shapes
def stationarity_gap(source: Any, target: Any, coupling: Any) -> np.ndarray:
    r"""Return how much the linearised objective could still fall, ``(...)``.

    .. math:: \max_{S \in \Pi(p, q)} \langle \nabla,\, T - S\rangle \ge 0

    which is 0 exactly at stationary points; by exact transport.

    Raises
    ------
    ValueError
        As :func:`gromov_wasserstein_cost`.

    References
    ----------
    Frank and Wolfe 1956; Jaggi 2013 (the gap as a certificate).

    Examples
    --------
    >>> apart = np.asarray([[0.0, 1.0], [1.0, 0.0]])
    >>> float(stationarity_gap(apart, apart, np.eye(2) / 2))
    0.0
    """
    given = {"source": source, "target": target, "coupling": coupling}
    tables = (as_float_array(table, name, min_ndim=2) for name, table in given.items())
    source, target, plan = read_problem(*tables)
    slope, table = np.broadcast_arrays(plain_gradient(source, target, plan), plan)
    batch, tail = table.shape[:-2], table.shape[-2:]
    gaps = [
        float(np.sum(one * (plan - _cheapest(one, plan.sum(axis=1), plan.sum(axis=0)))))
        for one, plan in zip(slope.reshape(-1, *tail), table.reshape(-1, *tail), strict=True)
    ]
    return np.maximum(gaps, 0.0).reshape(batch)


def _cheapest(cost: np.ndarray, leaving: np.ndarray, arriving: np.ndarray) -> np.ndarray:
    """Return the coupling of least linear cost."""
    from ot.lp import emd

    # What it takes for no gain is absolute, and it reads rows alone.
    scaled = np.ascontiguousarray(cost / (np.abs(cost).max() or 1.0))
    plan: np.ndarray = emd(leaving, arriving, scaled)
    return plan


@names_shapes
def gromov_wasserstein(
    source: Any,
    target: Any,
    *,
    source_mass: Any = None,
    target_mass: Any = None,
    restarts: int = 20,
    seed: Seed = 0,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> Coupling:
    r"""Return the best stationary coupling of several starts, by conditional gradients.

    Each step goes towards the coupling that is cheapest for the gradient (exact transport), as far
    as is best on the way there, so that the objective never rises. Starts are the product
    :math:`pq^\top` and its mean with couplings at random corners: permutations where M = N.

    Parameters
    ----------
    source, target
        Distances within each space, ``(*batch, M, M)`` and ``(*batch, N, N)``, symmetric and >= 0;
        leading axes broadcast.
    source_mass, target_mass
        p, ``(M,)``, and q, ``(N,)``; uniform unless given.
    restarts, seed
        How many random starts there are beside the product, and of which draw.
    tolerance
        Largest residual of what is returned, as a share of the largest squared distance.
    max_iterations
        Of each start.

    Returns
    -------
    Coupling
        NumPy arrays.

    Raises
    ------
    ValueError
        If distances are negative or not symmetric, masses do not sum to 1, shapes do not fit or an
        option is out of range.

    Warns
    -----
    ConvergenceWarning
        If a residual is above the tolerance.

    References
    ----------
    Vayer et al. 2019 (conditional gradients), Flamary et al. 2021 (POT, which makes the steps).
    Liu et al. 2023, cross-task preference alignment, arXiv:2306.03615.

    Examples
    --------
    A triangle and the same one with its corners in another order:

    >>> from prefsim.solvers.coupled_distances import distance_matrix
    >>> corners = np.asarray([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> found = gromov_wasserstein(*map(distance_matrix, (corners, corners[[2, 0, 1]])), restarts=5)
    >>> (3 * found.coupling).round(6)
    array([[0., 1., 0.],
           [0., 0., 1.],
           [1., 0., 0.]])
    """
    from ot.gromov import gromov_wasserstein as conditional_gradients

    check_integer(low=0, restarts=restarts)
    check_integer(low=1, max_iterations=max_iterations)
    check_positive(tolerance=tolerance)
    members, batch, p, q = _members(source, target, source_mass, target_mass)
    largest = max(float(np.max(table)) for pair in members for table in pair)
    # The library's tolerances are absolute: it sees distances of size one.
    scaled = [tuple(table / (largest or 1.0) for table in pair) for pair in members]
    starts = _starts(p, q, restarts, random_generator(seed))
    plans, values = [], []
    for start in starts:
        found = np.reshape(
            [
                conditional_gradients(
                    one, other, p, q, G0=start, max_iter=max_iterations, symmetric=True
                )
                for one, other in scaled
            ],
            (*batch, p.size, q.size),
        )
        plans.append(found)
        values.append(gromov_wasserstein_cost(source, target, found))
    best, coupling = _best(np.stack(values), np.stack(plans))
    residual = stationarity_gap(source, target, coupling)
    if (residual > tolerance * largest**2).any():
        warn_caller(
            f"the residual is {residual.max():.3g} after at most {max_iterations} iterations, more"
            f" than the tolerance {tolerance:g} of the largest squared distance {largest**2:.3g}"
        )
    value = np.take_along_axis(np.stack(values), best[None], axis=0)[0]
    return Coupling(coupling, value, residual, best, np.stack(values))


@names_shapes
def entropic_gromov_wasserstein(
    source: ArrayT,
    target: Array,
    *,
    entropy: float,
    source_mass: Any = None,
    target_mass: Any = None,
    tolerance: float = 1e-9,
    max_iterations: int = 1000,
) -> Coupling:
    r"""Return a smooth coupling: transport with entropy on the same gradient, again and again.

    .. math:: T \leftarrow \operatorname*{argmin}_{S \in \Pi(p, q)}
        \langle \nabla(T),\, S\rangle - \epsilon H(S)

    by Sinkhorn's iterations in logarithms, from the product of the masses. On torch it stays on
    the device of the distances.

    Parameters
    ----------
    source, target
        As in :func:`gromov_wasserstein`.
    entropy
        ε > 0, in squared units of the distances.
    source_mass, target_mass
        p, ``(M,)``, and q, ``(N,)``; uniform unless given.
    tolerance
        Largest residual at the end.
    max_iterations
        Of the outer iteration.

    Returns
    -------
    Coupling
        Of the library of the distances, constants of differentiation; its value is that of the
        objective without the entropy.

    Raises
    ------
    ValueError
        As :func:`gromov_wasserstein`.

    Warns
    -----
    ConvergenceWarning
        If the last change, or what the coupling misses of a mass, is above the tolerance: a small ε
        asks for more of Sinkhorn's iterations than there are.

    References
    ----------
    Peyré, Cuturi and Solomon 2016; Flamary et al. 2021 (POT, whose Sinkhorn iterations these are).

    Examples
    --------
    >>> from prefsim.solvers.coupled_distances import distance_matrix
    >>> corners = np.asarray([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> apart = distance_matrix(corners)
    >>> entropic_gromov_wasserstein(apart, apart, entropy=1.0).coupling.round(3)
    array([[0.333, 0.   , 0.   ],
           [0.   , 0.333, 0.   ],
           [0.   , 0.   , 0.333]])
    """
    from ot.bregman import sinkhorn_log

    check_positive(entropy=entropy, tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    members, batch, p, q = _members(source, target, source_mass, target_mass)
    leader = as_floats(source=source, target=target)[0]
    xp = array_namespace(leader)
    # POT knows NumPy and torch; what else there is goes through NumPy.
    inside = leader if hasattr(leader, "detach") else np.empty(0)
    leaving, arriving = like(p, inside), like(q, inside)
    plans, changes = [], []
    for pair in members:
        one, other = (like(table, inside) for table in pair)
        plan = leaving[:, None] * arriving[None, :]
        change = math.inf
        for _ in range(max_iterations):
            slope = plain_gradient(one, other, plan)
            moved = sinkhorn_log(
                leaving, arriving, slope, entropy, numItermax=10_000, stopThr=1e-12, warn=False
            )
            change = float(abs(moved - plan).max())
            plan = moved
            if change <= tolerance:
                break
        plans.append(plan)
        # Where Sinkhorn's iterations have run out, the same wrong plan may come again and again.
        missed = [float(abs(plan.sum(0) - arriving).max()), float(abs(plan.sum(1) - leaving).max())]
        changes.append(max([change, *(each for each in missed if each > MASS)]))
    found = xp.reshape(xp.stack([like(plan, leader) for plan in plans]), (*batch, p.size, q.size))
    residual = np.reshape(changes, batch)
    if (residual > tolerance).any():
        warn_caller(
            f"an entry still changed, or a mass was missed, by {residual.max():.3g} after at most"
            f" {max_iterations} iterations, more than the tolerance {tolerance:g}"
        )
    value = gromov_wasserstein_cost(source, target, found)
    return Coupling(found, value, residual, np.zeros(batch, dtype=np.int64), value[None])


def _members(
    source: Any, target: Any, source_mass: Any, target_mass: Any
) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[int, ...], np.ndarray, np.ndarray]:
    """Return pairs of tables, one for each problem of a batch, its shape, and the masses."""
    tables, masses = [], []
    for name, table, mass in (
        ("source", source, source_mass),
        ("target", target, target_mass),
    ):
        known = as_float_array(table, name, min_ndim=2)
        size = known.shape[-1]
        check_shape(known, name, (size, size))
        if size == 0:
            raise ValueError(f"{name} must hold at least one point, got shape {known.shape}")
        check_distances(known if tolerance_of(table) < 1e-8 else to_numpy(table), name)
        mass = np.full(size, 1 / size) if mass is None else mass
        share = as_probabilities(mass, f"{name}_mass", ndim=1)
        check_shape(share, f"{name}_mass", (size,))
        # POT's own routines read rows alone.
        tables.append(np.ascontiguousarray(known))
        masses.append(np.ascontiguousarray(share))
    one, other = tables
    batch = np.broadcast_shapes(one.shape[:-2], other.shape[:-2])
    each = (
        np.broadcast_to(table, (*batch, *table.shape[-2:])).reshape(-1, *table.shape[-2:])
        for table in tables
    )
    return list(zip(*each, strict=True)), batch, masses[0], masses[1]


def _starts(
    p: np.ndarray, q: np.ndarray, restarts: int, rng: np.random.Generator
) -> list[np.ndarray]:
    product = p[:, None] * q
    corners = (_cheapest(rng.random((p.size, q.size)), p, q) for _ in range(restarts))
    return [product, *(0.5 * product + 0.5 * corner for corner in corners)]


def _best(values: np.ndarray, plans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which start of each problem is the best, and its coupling."""
    best = np.argmin(values, axis=0)
    coupling = np.take_along_axis(plans, best[None, ..., None, None], axis=0)[0]
    return best, coupling
