"""Language models: the losses of the library on transformers.

Nothing here imports torch until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefsim.lm.command.read import TextSource, read_text_data
    from prefsim.lm.data.classes import TextClasses, TextVersions
    from prefsim.lm.data.comparisons import TextComparisons, revision_prompt
    from prefsim.lm.data.demonstrations import TextDemonstrations, answered_turns
    from prefsim.lm.data.feedback import TextFeedback
    from prefsim.lm.data.negatives import TextNegatives
    from prefsim.lm.data.rankings import TextRankings
    from prefsim.lm.data.rollouts import TextRollouts
    from prefsim.lm.data.text_data import TextData
    from prefsim.lm.fitting import CausalLM, PreferenceModel, ResponseClassifier, TokenCritic
    from prefsim.lm.model.candidates import Candidates, score_candidates
    from prefsim.lm.model.embeddings import prompt_features, response_embeddings
    from prefsim.lm.model.encoding import encode
    from prefsim.lm.model.head import Head
    from prefsim.lm.model.log_prob_model import LogProbModel
    from prefsim.lm.model.log_probs import (
        sequence_log_probs,
        sum_log_probs,
        token_log_probs,
        token_statistics,
    )
    from prefsim.lm.model.pair_measures import ches_scores
    from prefsim.lm.model.reference_logps import ReferenceLogps, model_hash, reference_logps
    from prefsim.lm.model.response_scorer import Embedded
    from prefsim.lm.model.tiled import TokenStatistics
    from prefsim.lm.model.token_weights import token_weights
    from prefsim.lm.model.tokens import TokenBatch, Tokens, collate
    from prefsim.lm.online.constrained import (
        ConstrainedRound,
        mean_score,
        mixed_rollouts,
        play_constrained,
        rescored,
    )
    from prefsim.lm.online.critics import ActorCriticRound, play_actor_critic, with_values
    from prefsim.lm.online.judges import as_rows, pairwise_judge, reward_judge
    from prefsim.lm.online.learners import (
        RegretTraining,
        TextGame,
        action_log_probs,
        text_decisions,
        text_learner,
        told_losses,
        train_on_regret,
    )
    from prefsim.lm.online.rounds import (
        JudgedCompletions,
        completion_pairs,
        draw_judged,
        draw_negatives,
        draw_pairs,
        judged_completions,
        trainer,
    )
    from prefsim.lm.online.scored import draw_scored, scored_completions
    from prefsim.lm.online.scored_data import ScoredCompletions, form_for, scored_data
    from prefsim.lm.online.scores import completion_scores
    from prefsim.lm.online.served import ServedModel
    from prefsim.lm.online.token_rewards import (
        RewardedTokens,
        log_ratio_token_rewards,
        rewarded_tokens,
    )
    from prefsim.lm.online.trees import (
        tree_completions,
        tree_judge,
        tree_log_probs,
        tree_pairs,
        tree_policy,
        tree_rollouts,
        tree_score,
    )
    from prefsim.lm.training.evaluation import Evaluation
    from prefsim.lm.training.options import (
        DIAGNOSTICS,
        Diagnostics,
        OnlineKL,
        TrainingOptions,
    )
    from prefsim.lm.training.prompt_matching import match_prompts
    from prefsim.lm.training.result import TrainResult
    from prefsim.lm.training.token_rows import references_of
    from prefsim.lm.training.truncation import Truncation

__all__ = [
    "ActorCriticRound",
    "Candidates",
    "CausalLM",
    "ConstrainedRound",
    "DIAGNOSTICS",
    "Diagnostics",
    "Embedded",
    "Evaluation",
    "Head",
    "JudgedCompletions",
    "LogProbModel",
    "OnlineKL",
    "PreferenceModel",
    "ReferenceLogps",
    "RegretTraining",
    "ResponseClassifier",
    "RewardedTokens",
    "ScoredCompletions",
    "ServedModel",
    "TextClasses",
    "TextComparisons",
    "TextData",
    "TextDemonstrations",
    "TextFeedback",
    "TextGame",
    "TextNegatives",
    "TextRankings",
    "TextRollouts",
    "TextSource",
    "TextVersions",
    "TokenBatch",
    "TokenCritic",
    "TokenStatistics",
    "Tokens",
    "TrainResult",
    "TrainingOptions",
    "Truncation",
    "action_log_probs",
    "answered_turns",
    "as_rows",
    "ches_scores",
    "collate",
    "completion_pairs",
    "completion_scores",
    "draw_judged",
    "draw_negatives",
    "draw_pairs",
    "draw_scored",
    "encode",
    "form_for",
    "judged_completions",
    "log_ratio_token_rewards",
    "match_prompts",
    "mean_score",
    "mixed_rollouts",
    "model_hash",
    "pairwise_judge",
    "play_actor_critic",
    "play_constrained",
    "prompt_features",
    "read_text_data",
    "reference_logps",
    "references_of",
    "rescored",
    "response_embeddings",
    "revision_prompt",
    "reward_judge",
    "rewarded_tokens",
    "score_candidates",
    "scored_completions",
    "scored_data",
    "sequence_log_probs",
    "sum_log_probs",
    "text_decisions",
    "text_learner",
    "token_log_probs",
    "token_statistics",
    "told_losses",
    "train_on_regret",
    "token_weights",
    "trainer",
    "tree_completions",
    "tree_judge",
    "tree_log_probs",
    "tree_pairs",
    "tree_policy",
    "tree_rollouts",
    "tree_score",
    "with_values",
]

# Where each name lives. What can be fitted comes from the file that registers `fit` for it.
_NAMES_OF = {
    "command.read": (
        "TextSource",
        "read_text_data",
    ),
    "data.classes": ("TextClasses", "TextVersions"),
    "data.comparisons": (
        "TextComparisons",
        "revision_prompt",
    ),
    "data.demonstrations": ("TextDemonstrations", "answered_turns"),
    "data.feedback": ("TextFeedback",),
    "data.negatives": ("TextNegatives",),
    "data.rankings": ("TextRankings",),
    "data.rollouts": ("TextRollouts",),
    "data.text_data": ("TextData",),
    "fitting": ("CausalLM", "PreferenceModel", "ResponseClassifier", "TokenCritic"),
    "model.candidates": ("Candidates", "score_candidates"),
    "model.embeddings": ("prompt_features", "response_embeddings"),
    "model.encoding": ("encode",),
    "model.log_prob_model": ("LogProbModel",),
    "model.head": ("Head",),
    "model.tiled": ("TokenStatistics",),
    "model.token_weights": ("token_weights",),
    "model.log_probs": (
        "sequence_log_probs",
        "sum_log_probs",
        "token_log_probs",
        "token_statistics",
    ),
    "model.pair_measures": ("ches_scores",),
    "model.response_scorer": ("Embedded",),
    "model.reference_logps": (
        "ReferenceLogps",
        "model_hash",
        "reference_logps",
    ),
    "model.tokens": (
        "TokenBatch",
        "Tokens",
        "collate",
    ),
    "online.constrained": (
        "ConstrainedRound",
        "mean_score",
        "mixed_rollouts",
        "play_constrained",
        "rescored",
    ),
    "online.critics": ("ActorCriticRound", "play_actor_critic", "with_values"),
    "online.judges": (
        "as_rows",
        "pairwise_judge",
        "reward_judge",
    ),
    "online.learners": (
        "RegretTraining",
        "TextGame",
        "action_log_probs",
        "text_decisions",
        "text_learner",
        "told_losses",
        "train_on_regret",
    ),
    "online.rounds": (
        "JudgedCompletions",
        "completion_pairs",
        "draw_judged",
        "draw_negatives",
        "draw_pairs",
        "judged_completions",
        "trainer",
    ),
    "online.token_rewards": ("RewardedTokens", "log_ratio_token_rewards", "rewarded_tokens"),
    "online.trees": (
        "tree_completions",
        "tree_judge",
        "tree_log_probs",
        "tree_pairs",
        "tree_policy",
        "tree_rollouts",
        "tree_score",
    ),
    "online.scored": ("draw_scored", "scored_completions"),
    "online.scored_data": ("ScoredCompletions", "form_for", "scored_data"),
    "online.scores": ("completion_scores",),
    "online.served": ("ServedModel",),
    "training.evaluation": ("Evaluation",),
    "training.options": (
        "DIAGNOSTICS",
        "Diagnostics",
        "OnlineKL",
        "TrainingOptions",
    ),
    "training.prompt_matching": ("match_prompts",),
    "training.result": ("TrainResult",),
    "training.token_rows": ("references_of",),
    "training.truncation": ("Truncation",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULE_OF[name]}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f"prefsim.lm.{name} needs torch, which `pip install 'prefsim[lm]'` brings", name="torch"
        ) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
