"""Worlds: what can happen."""

from prefsim.worlds.ballots import Ballots, read_preflib, synthetic_ballots
from prefsim.worlds.bandit import ContextualBandit, bradley_terry_matrix
from prefsim.worlds.delivery import DeliveryTask, delivery_task
from prefsim.worlds.game import PreferenceGame
from prefsim.worlds.linear_mdp import LinearMDP
from prefsim.worlds.mdp import TabularMDP
from prefsim.worlds.textbook import TEXTBOOK_REFERENCE, textbook_game
from prefsim.worlds.tokens import TokenTree

__all__ = [
    "TEXTBOOK_REFERENCE",
    "Ballots",
    "ContextualBandit",
    "DeliveryTask",
    "LinearMDP",
    "PreferenceGame",
    "TabularMDP",
    "TokenTree",
    "bradley_terry_matrix",
    "delivery_task",
    "read_preflib",
    "synthetic_ballots",
    "textbook_game",
]


def __dir__() -> list[str]:
    return sorted(__all__)
