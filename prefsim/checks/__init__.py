"""The one input layer.

Every constructor, reader and public function rejects bad input through these checks, of options
and of arrays.

Each raises ``ValueError`` with what was found, where, and what was expected. Nothing is ever
silently repaired.
"""

from prefsim.checks.arrays import (
    as_box,
    as_float_array,
    as_index_array,
    as_mask,
    as_token_array,
    check_boolean,
    check_broadcast,
    check_constant,
    check_counts,
    check_finite,
    check_full_support,
    check_graph_kept,
    check_label_margins,
    check_places,
    check_preference,
    check_probabilities,
    check_rankings,
    check_same_shape,
    check_shape,
    check_skew,
    check_unit_interval,
    shapes_of,
)
from prefsim.checks.numbers import (
    NUMBERS,
    alike,
    as_array,
    as_floats,
    as_one_library,
    as_signed,
    in_floats,
    is_array,
    is_floating,
)
from prefsim.checks.options import (
    check_callable,
    check_choice,
    check_directory,
    check_discount,
    check_even,
    check_flag,
    check_integer,
    check_interval,
    check_kind,
    check_known,
    check_nonnegative,
    check_number,
    check_positive,
    check_reference_weight,
)
from prefsim.checks.policies import (
    as_log_policies,
    as_policies,
    check_game,
    check_log_policy,
    check_policy,
)
from prefsim.checks.shapes import names_shapes
from prefsim.checks.tables import as_context_probs, as_preference, as_probabilities
from prefsim.checks.tolerance import (
    PROBABILITY_TOLERANCE,
    tolerance_of,
    widened_preference,
    widened_probabilities,
)
from prefsim.checks.values import (
    are_trusted,
    check_entries,
    check_no_nan,
    check_within,
    known_values,
    trusted_values,
)

__all__ = [
    "NUMBERS",
    "PROBABILITY_TOLERANCE",
    "alike",
    "are_trusted",
    "as_array",
    "as_box",
    "as_context_probs",
    "as_float_array",
    "as_floats",
    "as_index_array",
    "as_log_policies",
    "as_mask",
    "as_one_library",
    "as_policies",
    "as_preference",
    "as_probabilities",
    "as_signed",
    "as_token_array",
    "check_boolean",
    "check_broadcast",
    "check_callable",
    "check_choice",
    "check_constant",
    "check_counts",
    "check_directory",
    "check_discount",
    "check_entries",
    "check_even",
    "check_finite",
    "check_flag",
    "check_full_support",
    "check_graph_kept",
    "check_game",
    "check_integer",
    "check_interval",
    "check_kind",
    "check_known",
    "check_label_margins",
    "check_log_policy",
    "check_no_nan",
    "check_nonnegative",
    "check_number",
    "check_places",
    "check_policy",
    "check_positive",
    "check_preference",
    "check_probabilities",
    "check_rankings",
    "check_reference_weight",
    "check_same_shape",
    "check_shape",
    "check_skew",
    "check_unit_interval",
    "names_shapes",
    "shapes_of",
    "check_within",
    "in_floats",
    "is_array",
    "is_floating",
    "known_values",
    "tolerance_of",
    "trusted_values",
    "widened_preference",
    "widened_probabilities",
]


def __dir__() -> list[str]:
    return sorted(__all__)
