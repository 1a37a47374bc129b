"""What preference losses say: formulas, weighted model counts, structures and their order."""

from prefsim.logic.counting import log_weighted_count, log_world_weights
from prefsim.logic.decompile import decompile
from prefsim.logic.formulas import Formula, atoms, truth_values
from prefsim.logic.many import log_count_ratios
from prefsim.logic.named import NAMED_STRUCTURES, named_structure
from prefsim.logic.structures import (
    PreferenceStructure,
    all_structures,
    covering_pairs,
    log_count_ratio,
)

__all__ = [
    "NAMED_STRUCTURES",
    "Formula",
    "PreferenceStructure",
    "all_structures",
    "atoms",
    "covering_pairs",
    "decompile",
    "log_count_ratio",
    "log_count_ratios",
    "log_weighted_count",
    "log_world_weights",
    "named_structure",
    "truth_values",
]


def __dir__() -> list[str]:
    return sorted(__all__)
