"""Worlds: what can happen."""

from prefsim.worlds.bandit import ContextualBandit, bradley_terry_matrix
from prefsim.worlds.tokens import TokenTree

__all__ = ["ContextualBandit", "TokenTree", "bradley_terry_matrix"]
