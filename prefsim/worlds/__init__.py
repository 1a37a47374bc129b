"""Worlds: what can happen."""

from prefsim.worlds.bandit import ContextualBandit

__all__ = ["ContextualBandit"]
