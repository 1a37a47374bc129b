"""Scores of candidates before a function reads them: of one library, with what is no candidate."""

from __future__ import annotations

import math
from typing import Any

from prefsim.checks import (
    as_array,
    as_floats,
    as_one_library,
    check_broadcast,
    check_entries,
    check_shape,
)
from prefsim.numerics import array_namespace
from prefsim.typing import ArrayT

__all__ = ["candidate_scores", "with_mask"]


def with_mask(mask: Any, **named: Any) -> tuple[Any, ...]:
    """Return floating arrays by the names of the arguments, and the mask, all of one library."""
    arrays: dict[str, Any] = dict(zip(named, as_floats(**named), strict=True))
    arrays["mask"] = None if mask is None else as_array(mask, "mask", "bool")
    return tuple(as_one_library(arrays).values())


def candidate_scores(scores: ArrayT, mask: Any, name: str) -> ArrayT:
    """Return scores ``(..., Y)``, -inf for what is no candidate; each row has one that is."""
    check_shape(scores, name, (None,))
    xp = array_namespace(scores)
    if mask is not None:
        check_broadcast(**{name: scores, "mask": mask})
        scores = xp.where(mask, scores, xp.asarray(-math.inf, dtype=scores.dtype))
    check_entries(scores, name, "be finite, or -inf", lambda x: x < math.inf)
    if scores.shape[-1] == 0:
        raise ValueError(f"{name} must hold at least one candidate in every row, got none")
    check_entries(
        xp.max(scores, axis=-1),
        name if mask is None else "mask",
        "leave a candidate of finite value in every row",
        lambda best: best > -math.inf,
    )
    return scores
