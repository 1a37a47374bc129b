"""Losses of self-play minimised over tables, for the tests of these losses."""

import warnings

import numpy as np

from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, solve_nash
from prefsim.solvers.games.nash import StepSizeWarning
from prefsim.worlds import ContextualBandit, textbook_game

GAME = textbook_game().preference
LAST = np.array([0.4, 0.4, 0.2])


def policy(probs):
    return TabularPolicy.from_probs(np.asarray(probs)[None])


def world(preference):
    return ContextualBandit(preference=np.asarray(preference)[None])


def minimiser(loss, preference, last, reference, opponent=None, pairs=None):
    """The exact minimiser over all policies of a loss on pairs of the last policy."""
    data = Comparisons.self_play(
        world(preference),
        policy(last),
        opponent=None if opponent is None else policy(opponent),
        pairs=pairs,
    )
    return fit(policy(last), loss, data, reference=policy(reference)).policy.probs[0]


def one_step(method, preference, last, reference, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        return solve_nash(
            preference,
            method=method,
            initial=last,
            reference=reference,
            max_iterations=1,
            tolerance=0.0,
            **options,
        ).policy
