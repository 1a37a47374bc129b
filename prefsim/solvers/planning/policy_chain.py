"""The Markov chain that a policy makes of a decision process, and its linear systems."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from prefsim.backend import like, to_numpy
from prefsim.checks import (
    NUMBERS,
    as_array,
    as_index_array,
    as_probabilities,
    check_graph_kept,
    check_shape,
    widened_probabilities,
)
from prefsim.numerics import array_namespace
from prefsim.solvers.planning.certificate import rounding_error
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.mdp_input import check_reachable

__all__ = ["as_policy", "by_time", "policy_chain", "solve_chain"]

LU_LIMIT = 20_000
"""Sparse systems above this many states are never factorised.

Fill-in takes minutes and gigabytes where Krylov methods take a second.
"""


def as_policy(mdp: TabularMDP, policy: Any, name: str = "policy") -> Array:
    """Return a policy as validated probabilities in the process's arrays, or raise by its name.

    Shape ``(*batch, S, A)``, or ``(*batch, H, S, A)`` with a horizon.
    """
    given = getattr(policy, "probs", policy)
    check_graph_kept(given, name, mdp.reward)
    states, actions = mdp.n_states, mdp.n_actions
    listed = to_numpy(as_array(given, name, *NUMBERS))
    if listed.dtype.kind in "iu":
        check_shape(listed, name, (states,))
        given = np.eye(actions)[as_index_array(listed, name, size=actions)]
    checked = as_probabilities(given, name, min_ndim=2, graph=True)
    check_shape(checked, name, (states, actions))
    batch, horizon = mdp.batch_shape, mdp.horizon
    lead = checked.shape[:-2]
    timed = (
        horizon is not None
        and lead != batch
        and lead[-1:] == (horizon,)
        and len(lead) in (1, len(batch) + 1)
    )
    expected: tuple[int, ...] = (*batch, horizon or 0) if timed else batch
    try:
        fits = np.broadcast_shapes(lead, expected) == expected
    except ValueError:
        fits = False
    if not fits:
        with_time = "" if horizon is None else f" or {(*batch, horizon, states, actions)}"
        raise ValueError(
            f"{name} must have shape {(*batch, states, actions)}{with_time}, got {checked.shape}"
        )
    # What single precision rounds sums to one in the precision of the process again.
    probs = widened_probabilities(like(given, mdp.reward), given)
    if horizon is not None and not timed:
        xp = array_namespace(probs)
        probs = xp.broadcast_to(
            probs[..., None, :, :], (*probs.shape[:-2], horizon, states, actions)
        )
    return probs


def by_time(mdp: TabularMDP, probs: Array) -> list[Array]:
    """Return the policy of each decision, ``(*batch, S, A)``."""
    return [probs[..., t, :, :] for t in range(mdp.horizon or 0)]


def policy_chain(mdp: TabularMDP, probs: Array) -> Array:
    """Return the moves under a policy, with nothing after a terminal state.

    ``(*batch, S, S)`` or CSR ``(S, S)``.
    """
    if not mdp.is_sparse:
        xp = array_namespace(probs)
        mixed = xp.matmul(probs[..., None, :], mdp.transitions)[..., 0, :]
        chain = xp.where(mdp.terminal[..., :, None], xp.zeros_like(mixed), mixed)
    else:
        weight = probs * ~mdp.terminal[:, None]
        state, action = np.nonzero(weight)
        pairs = state * mdp.n_actions + action
        pick = sp.csr_array(
            (weight[state, action], (state, pairs)), shape=(mdp.n_states, mdp.transitions.shape[0])
        )
        chain = (pick @ mdp.transitions).tocsr()
    if mdp.discount == 1 and mdp.horizon is None:
        moves = chain if mdp.is_sparse else to_numpy(chain)[..., None, :]
        check_reachable(moves, to_numpy(mdp.terminal), by="this policy")
    return chain


def solve_chain(
    chain: Any,
    target: Array,
    mdp: TabularMDP,
    *,
    transposed: bool = False,
    tolerance: float = 1e-12,
) -> Array:
    r"""Return the solution of :math:`(I - \gamma P) x = b`, or of its transpose.

    For ``b`` of shape ``(*more, *batch, S)``.
    """
    if not mdp.is_sparse:
        xp = array_namespace(target)
        matrix = xp.matrix_transpose(chain) if transposed else chain
        identity = xp.eye(mdp.n_states, dtype=matrix.dtype, device=matrix.device)
        # Axes before those of the chain are columns of one system, so that each matrix is
        # factorised once.
        more = target.ndim + 1 - matrix.ndim
        columns = xp.moveaxis(xp.reshape(target, (-1, *target.shape[more:])), 0, -1)
        system = identity - mdp.discount * matrix
        if xp.finfo(matrix.dtype).bits < 32:
            # No library factorises in half precision.
            system, columns = (xp.astype(each, xp.float32) for each in (system, columns))
        solution = xp.astype(xp.linalg.solve(system, columns), target.dtype)
        return xp.reshape(xp.moveaxis(solution, -1, 0), target.shape)
    along = sp.csr_array(chain.T) if transposed else chain
    matrix = sp.eye_array(mdp.n_states, format="csr") - mdp.discount * along
    columns = np.reshape(target, (-1, mdp.n_states))
    solved = np.stack([_solve_sparse(matrix, column, tolerance) for column in columns])
    return solved.reshape(target.shape)


def _solve_sparse(matrix: sp.csr_array, target: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the solution of a sparse system.

    Restarts on the residual, so that rounding inside a method does not stay.
    """
    solution = np.zeros_like(target)
    residual = target.copy()

    largest = np.abs(target).max()

    def limit() -> float:
        return max(tolerance, float(rounding_error(solution, largest)))

    def done() -> bool:
        return float(np.abs(residual).max()) <= limit()

    for method, extra in (
        (spla.bicgstab, {"maxiter": 1000}),
        (spla.gmres, {"restart": 50, "maxiter": 20}),
    ):
        before = math.inf
        # As long as a restart gains a digit, the method is worth another.
        while not done() and np.abs(residual).max() < 0.1 * before:
            before = float(np.abs(residual).max())
            with np.errstate(all="ignore"):
                step, _ = method(matrix, residual, rtol=1e-10, atol=0.1 * tolerance, **extra)
            error = target - matrix @ (solution + step)
            if np.isfinite(error).all() and np.abs(error).max() < before:
                solution, residual = solution + step, error
    if not done() and matrix.shape[0] <= LU_LIMIT:
        factors = spla.splu(matrix.tocsc())
        for _ in range(3):
            solution = solution + factors.solve(residual)
            residual = target - matrix @ solution
    if not done():
        found = float(np.abs(residual).max())
        warn_caller(f"sparse linear solve stopped with residual {found:.3g} > {limit():.3g}")
    return solution
