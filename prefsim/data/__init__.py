"""Preference data: comparisons, feedback, rankings and segments, as exact populations or seeded samples."""

from prefsim.data.comparisons import Comparisons
from prefsim.data.feedback import Feedback
from prefsim.data.rankings import Rankings

__all__ = ["Comparisons", "Feedback", "Rankings"]
