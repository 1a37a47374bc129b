"""Weighted model counting in log space: how likely a formula is where atoms are independent."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import as_floats, check_kind, check_within
from prefsim.logic.formulas import MOST_ATOMS, Formula
from prefsim.numerics import array_namespace, log1mexp, logsumexp
from prefsim.typing import ArrayT

__all__ = ["accurate_count", "log_weighted_count", "log_weighted_counts", "log_world_weights"]


def log_world_weights(log_probs: ArrayT) -> ArrayT:
    r"""Return the log-weight of every world, of independent atoms.

    .. math:: \sum_i v_i \log p_i + (1 - v_i)\log(1 - p_i)

    for the truth values v of the worlds, in the order of
    :func:`prefsim.logic.truth_values`.

    Parameters
    ----------
    log_probs
        log p of the atoms, ``(..., n)`` in nats, at most 0; a probability may be far too small to
        be a number itself.

    Returns
    -------
    Array ``(..., 2 ** n)`` in nats; ``-inf`` where an atom of probability 1 is false, or one of
    probability 0 is true.

    Raises
    ------
    ValueError
        If a log-probability is positive.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(log_world_weights(np.log([0.6, 0.3]))).round(12)
    array([0.18, 0.42, 0.12, 0.28])
    """
    log_probs = _read(log_probs)
    n_atoms = log_probs.shape[-1] if log_probs.ndim else 0
    if not 1 <= n_atoms <= MOST_ATOMS:
        raise ValueError(
            f"log_probs must have a last axis of one to {MOST_ATOMS} atoms, got shape"
            f" {tuple(log_probs.shape)}"
        )
    literals = _literals(log_probs[..., atom] for atom in range(n_atoms))
    weights: ArrayT = array_namespace(log_probs).stack(_weights(literals), axis=-1)
    return weights


def _read(log_probs: ArrayT) -> ArrayT:
    (read,) = as_floats(log_probs=log_probs)
    check_within(read, "log_probs", "be the logarithm of a probability, at most 0", high=0.0)
    checked: ArrayT = read
    return checked


def _literals(log_probs: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return the log-probability that an atom is true, and that it is false, of each atom."""
    # What is certain has a complement of probability 0, and no reason for a warning.
    with np.errstate(divide="ignore"):
        return [(column, log1mexp(column)) for column in log_probs]


def _weights(literals: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Return the log-weight of every world over some atoms.

    An array each: columns of a table would be gathered, and their gradients scattered.
    """
    weights = list(literals[0])
    for literal in literals[1:]:
        # Each further atom splits every world in two: where it is true, and where it is false.
        weights = [weight + value for weight in weights for value in literal]
    return weights


def log_weighted_count(formula: Formula, log_probs: ArrayT) -> ArrayT:
    r"""Return the logarithm of a formula's weighted model count: of its probability.

    .. math:: \log\sum_{v \models F}\prod_i p_i^{v_i}(1-p_i)^{1-v_i}

    Accurate relative to itself at both ends: a formula that is likelier than not is counted by the
    worlds that it leaves out, so that the logarithm of a count near 1 keeps its digits.

    Parameters
    ----------
    formula
        Over n atoms.
    log_probs
        log p of the atoms, ``(..., n)`` in nats, at most 0.

    Returns
    -------
    Array ``(...)`` in nats; ``-inf`` of a contradiction.

    Raises
    ------
    ValueError
        If a log-probability is positive, or there is not one for each atom.

    References
    ----------
    Chavira and Darwiche 2008, "On probabilistic inference by weighted model counting".

    Examples
    --------
    >>> import numpy as np
    >>> from prefsim.logic import atoms
    >>> valid, other = atoms("W", "L")
    >>> log_weighted_count(valid & ~other, np.log([[0.6, 0.3], [0.5, 0.5]])).round(8)
    array([-0.86750057, -1.38629436])
    """
    check_kind(Formula, formula=formula)
    (count,) = log_weighted_counts((formula,), log_probs)
    return count


def log_weighted_counts(formulas: Sequence[Formula], log_probs: ArrayT) -> list[ArrayT]:
    """Return :func:`log_weighted_count` of several formulas over the same atoms."""
    log_probs = _read(log_probs)
    atoms = formulas[0].atoms
    if log_probs.ndim == 0 or log_probs.shape[-1] != len(atoms):
        raise ValueError(
            f"log_probs must have a last axis of {len(atoms)}, one entry for each atom"
            f" ({', '.join(atoms)}), got shape {tuple(log_probs.shape)}"
        )
    plans = [_plan_of(formula) for formula in formulas]
    # What a formula does not depend on need not be summed out.
    essential = sorted({place for plan in plans for place in plan.places})
    columns = [log_probs[..., place] for place in essential]
    literals = dict(zip(essential, _literals(columns), strict=True))
    xp = array_namespace(log_probs)
    counts = []
    for plan in plans:
        if not plan.outside:
            counts.append(xp.zeros_like(log_probs[..., 0]))
        elif not plan.inside:
            counts.append(xp.full_like(log_probs[..., 0], -math.inf))
        else:
            weights = _weights([literals[place] for place in plan.places])
            totals = (_total(weights, worlds) for worlds in (plan.inside, plan.outside))
            counts.append(accurate_count(*totals))
    return counts


def accurate_count(inside: ArrayT, outside: ArrayT) -> ArrayT:
    """Return a log-count from itself, or from what it leaves out where it is likelier than not."""
    xp = array_namespace(outside)
    likely = outside < -math.log(2.0)
    # The branch that is not taken sees an argument without a singularity, so that no infinite
    # slope leaks into a gradient.
    left_out = xp.where(likely, outside, xp.full_like(outside, -1.0))
    counted: ArrayT = xp.where(likely, log1mexp(left_out), inside)
    return counted


class _Plan(NamedTuple):
    """What is summed for a formula: places of its essential atoms, and worlds over these."""

    places: tuple[int, ...]
    inside: tuple[int, ...]
    outside: tuple[int, ...]


@functools.cache
def _plan_of(formula: Formula) -> _Plan:
    reduced = formula.reduced()
    table = reduced.table
    return _Plan(
        tuple(formula.atoms.index(name) for name in reduced.atoms),
        tuple(np.flatnonzero(table).tolist()),
        tuple(np.flatnonzero(~table).tolist()),
    )


def _total(log_weights: Sequence[Any], worlds: tuple[int, ...]) -> Any:
    """Return the logarithm of the total weight of some worlds."""
    if len(worlds) == 1:
        return log_weights[worlds[0]]
    xp = array_namespace(log_weights[0])
    return logsumexp(xp.stack([log_weights[world] for world in worlds], axis=0), axis=0)
