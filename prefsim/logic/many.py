"""The scores of many structures at once: one array operation for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prefsim.checks import check_kind
from prefsim.logic.counting import accurate_count, log_world_weights
from prefsim.logic.structures import PreferenceStructure
from prefsim.numerics import array_namespace, like, logsumexp
from prefsim.typing import ArrayT

__all__ = ["log_count_ratios"]

# The log-weight of a world that is left out: of no mass, and of no slope where all are left out.
_NOTHING = -1e30


def log_count_ratios(structures: Sequence[PreferenceStructure], log_probs: ArrayT) -> ArrayT:
    r"""Return the scores of many structures over the same atoms, each where its own model is.

    As :func:`prefsim.logic.log_count_ratio` of each; for the comparison of hundreds of losses, of
    which each trains a model of its own.

    Parameters
    ----------
    structures
        S of them, over n atoms, each with worlds for and against.
    log_probs
        log p of the atoms, ``(..., S, n)`` in nats and at most 0; or ``(..., 1, n)``, the same for
        all structures.

    Returns
    -------
    Array ``(..., S)`` in nats.

    Raises
    ------
    ValueError
        If the structures are none or over different atoms, one has no score, a log-probability is
        positive, or the axes are others.

    Examples
    --------
    >>> import numpy as np
    >>> from prefsim.logic import named_structure
    >>> three = [named_structure(name) for name in ("CPO", "ORPO", "cCPO")]
    >>> log_count_ratios(three, np.log([[0.6, 0.3]])).round(8)
    array([0.69314718, 1.25276297, 1.60943791])
    """
    check_kind(PreferenceStructure, **{f"structures[{i}]": s for i, s in enumerate(structures)})
    over = {structure.atoms for structure in structures}
    if len(over) != 1 or not all(structure.has_score for structure in structures):
        raise ValueError(
            "structures must be over the same atoms, each with a world that counts for and one that"
            f" counts against, got {', '.join(each.labels for each in structures) or 'none'}"
        )
    weights = log_world_weights(log_probs)
    shape = tuple(weights.shape)
    worlds = structures[0].numerator.n_worlds
    if len(shape) < 2 or shape[-1] != worlds or shape[-2] not in (1, len(structures)):
        raise ValueError(
            f"log_probs must have last axes (1 or {len(structures)}, {len(structures[0].atoms)}),"
            f" got shape {tuple(np.shape(log_probs))}"
        )
    scores: ArrayT = _log_counts([each.numerator.table for each in structures], weights)
    return scores - _log_counts([each.denominator.table for each in structures], weights)


def _log_counts(tables: list[np.ndarray], weights: Any) -> Any:
    """Return the log-counts of formulas by their truth tables, ``(..., S)``."""
    xp = array_namespace(weights)
    held = like(np.stack(tables), weights) > 0
    nothing = xp.full_like(weights, _NOTHING)
    inside = logsumexp(xp.where(held, weights, nothing), axis=-1)
    outside = logsumexp(xp.where(held, nothing, weights), axis=-1)
    return accurate_count(inside, outside)
