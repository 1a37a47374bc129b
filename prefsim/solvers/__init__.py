"""Solvers: fitted policies, closed forms, planning, games; each result carries its certificate."""

from prefsim.solvers.closed_form import RegularisedOptimum, gibbs_log_policy, optimal_policy, regularised_optimum
from prefsim.solvers.fit import FitResult, fit, gradient_descent, objective
from prefsim.solvers.results import ConvergenceWarning

__all__ = [
    "ConvergenceWarning",
    "FitResult",
    "RegularisedOptimum",
    "fit",
    "gibbs_log_policy",
    "gradient_descent",
    "objective",
    "optimal_policy",
    "regularised_optimum",
]
