"""Solvers: fitted policies, closed forms, planning, games; each result carries its certificate."""

from prefsim.solvers import games, planning
from prefsim.solvers.bradley_terry import BradleyTerryResult, count_matrix, fit_bradley_terry
from prefsim.solvers.closed_form import RegularisedOptimum, gibbs_log_policy, optimal_policy, regularised_optimum
from prefsim.solvers.fit import FitResult, fit, gradient_descent, objective
from prefsim.solvers.games import duality_gap, exploitability
from prefsim.solvers.nash import NashResult, StepSizeWarning, solve_nash
from prefsim.solvers.penalties import cross_entropy_penalty, kl_penalty
from prefsim.solvers.pessimism import PessimisticGame
from prefsim.solvers.plackett_luce import PlackettLuceResult, fit_plackett_luce
from prefsim.solvers.results import ConvergenceWarning

__all__ = [
    "BradleyTerryResult",
    "ConvergenceWarning",
    "FitResult",
    "NashResult",
    "PessimisticGame",
    "PlackettLuceResult",
    "RegularisedOptimum",
    "StepSizeWarning",
    "count_matrix",
    "cross_entropy_penalty",
    "duality_gap",
    "exploitability",
    "fit",
    "fit_bradley_terry",
    "fit_plackett_luce",
    "games",
    "gibbs_log_policy",
    "gradient_descent",
    "kl_penalty",
    "objective",
    "optimal_policy",
    "planning",
    "regularised_optimum",
    "solve_nash",
]
