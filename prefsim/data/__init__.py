"""Preference data.

Comparisons, feedback, rankings, rollouts, negatives, revisions and segments, as exact populations
or seeded samples.
"""

from prefsim.data.comparisons import Comparisons
from prefsim.data.feedback import Feedback
from prefsim.data.formats import read_jsonl, write_jsonl
from prefsim.data.locate import data_folder
from prefsim.data.negatives import Negatives
from prefsim.data.rankings import Rankings
from prefsim.data.revisions import Revisions
from prefsim.data.rollouts import Rollouts
from prefsim.data.scored import ScoredPairs
from prefsim.data.segments import Segments

__all__ = [
    "Comparisons",
    "Feedback",
    "Negatives",
    "Rankings",
    "Revisions",
    "Rollouts",
    "ScoredPairs",
    "Segments",
    "data_folder",
    "read_jsonl",
    "write_jsonl",
]


def __dir__() -> list[str]:
    return sorted(__all__)
