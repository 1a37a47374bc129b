"""Raters: who prefers what."""

from prefsim.raters.bradley_terry import bradley_terry_gap, pairwise_preference
from prefsim.raters.general import MatrixRater, preference_of, sample_labels
from prefsim.raters.noise import flip_labels, flip_sampled_labels
from prefsim.raters.plackett_luce import ranking_log_prob, sample_rankings
from prefsim.raters.population import UserPopulation, mixture_preference
from prefsim.raters.regret import (
    deterministic_regret,
    noiseless_preference,
    partial_return_preference,
    regret_preference,
    segment_regret,
    segment_return,
)

__all__ = [
    "MatrixRater",
    "UserPopulation",
    "bradley_terry_gap",
    "deterministic_regret",
    "flip_labels",
    "flip_sampled_labels",
    "mixture_preference",
    "noiseless_preference",
    "pairwise_preference",
    "partial_return_preference",
    "preference_of",
    "ranking_log_prob",
    "regret_preference",
    "sample_labels",
    "sample_rankings",
    "segment_regret",
    "segment_return",
]
