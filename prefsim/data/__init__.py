"""Preference data: comparisons, feedback, rankings and segments, as exact populations or seeded samples."""

from prefsim.data.comparisons import Comparisons
from prefsim.data.feedback import Feedback
from prefsim.data.formats import read_jsonl, write_jsonl
from prefsim.data.locate import data_folder
from prefsim.data.rankings import Rankings
from prefsim.data.segments import Segments

__all__ = ["Comparisons", "Feedback", "Rankings", "Segments", "data_folder", "read_jsonl", "write_jsonl"]
