"""What the tests of solvers of preference games share: the textbook game and its methods."""

import warnings

from prefsim.solvers.games.nash import StepSizeWarning, solve_nash
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.worlds.textbook import TEXTBOOK_REFERENCE, textbook_game

GAME = textbook_game().preference
REFERENCE = TEXTBOOK_REFERENCE
UNPENALISED = ["lp", *(name for name, rule in UPDATES.items() if rule.penalty == "none")]


def tau_of(method, tau=0.1):
    return 0.0 if method in UNPENALISED else tau


def ten_steps(method, game=GAME, **options):
    options = {
        "reference": REFERENCE,
        "tau": tau_of(method),
        "step": 0.5,
        "max_iterations": 10,
        "tolerance": 0.0,
        **options,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        return solve_nash(game, method=method, **options)
