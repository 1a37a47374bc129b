"""Raters: who prefers what."""

from prefsim.raters.bradley_terry import bradley_terry_gap, pairwise_preference
from prefsim.raters.embedding import (
    embedding_preference,
    learned_temperature,
    prompt_scales,
    reward_embedding,
    score_matrix,
    skew_score,
)
from prefsim.raters.general import MatrixRater, preference_of, sample_labels
from prefsim.raters.judge import (
    both_orders,
    judge_logits,
    judged_preference,
    order_free_margin,
)
from prefsim.raters.logistic_normal import logistic_normal_preference
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
from prefsim.raters.text_reward import relevance_reward, tfidf_embedding
from prefsim.raters.white_box import proxy_reward

__all__ = [
    "MatrixRater",
    "UserPopulation",
    "both_orders",
    "bradley_terry_gap",
    "deterministic_regret",
    "embedding_preference",
    "flip_labels",
    "flip_sampled_labels",
    "judge_logits",
    "judged_preference",
    "learned_temperature",
    "logistic_normal_preference",
    "mixture_preference",
    "noiseless_preference",
    "order_free_margin",
    "pairwise_preference",
    "partial_return_preference",
    "preference_of",
    "prompt_scales",
    "proxy_reward",
    "ranking_log_prob",
    "regret_preference",
    "relevance_reward",
    "reward_embedding",
    "sample_labels",
    "sample_rankings",
    "score_matrix",
    "segment_regret",
    "segment_return",
    "skew_score",
    "tfidf_embedding",
]


def __dir__() -> list[str]:
    return sorted(__all__)
