"""Language models: the losses of the library on transformers.

Nothing here imports torch until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefsim.lm.command.read import TextSource, read_text_data
    from prefsim.lm.model.logprobs import (
        Head,
        TokenStatistics,
        sequence_logprobs,
        sum_logprobs,
        token_logprobs,
        token_statistics,
    )
    from prefsim.lm.model.policy import CausalLM
    from prefsim.lm.model.reference import ReferenceLogps, model_hash, reference_logps
    from prefsim.lm.model.scorer import Scorer
    from prefsim.lm.model.tokens import TokenBatch, Tokens, collate, encode
    from prefsim.lm.online.judges import as_rows, pairwise_judge, reward_judge
    from prefsim.lm.online.rounds import (
        JudgedCompletions,
        completion_pairs,
        draw_judged,
        draw_pairs,
        judged_completions,
        trainer,
    )
    from prefsim.lm.online.trees import (
        tree_completions,
        tree_judge,
        tree_log_probs,
        tree_pairs,
        tree_policy,
    )
    from prefsim.lm.training.data import (
        TextComparisons,
        TextData,
        TextFeedback,
        TextNegatives,
        TextRankings,
        revision_prompt,
    )
    from prefsim.lm.training.diagnostics import DIAGNOSTICS, Diagnostics
    from prefsim.lm.training.objective import references_of
    from prefsim.lm.training.options import TrainingOptions, TrainResult

__all__ = [
    "DIAGNOSTICS",
    "CausalLM",
    "Diagnostics",
    "Head",
    "JudgedCompletions",
    "ReferenceLogps",
    "Scorer",
    "TextComparisons",
    "TextData",
    "TextFeedback",
    "TextNegatives",
    "TextRankings",
    "TextSource",
    "TokenBatch",
    "TokenStatistics",
    "Tokens",
    "TrainResult",
    "TrainingOptions",
    "as_rows",
    "collate",
    "completion_pairs",
    "draw_judged",
    "draw_pairs",
    "encode",
    "judged_completions",
    "model_hash",
    "pairwise_judge",
    "read_text_data",
    "reference_logps",
    "references_of",
    "revision_prompt",
    "reward_judge",
    "sequence_logprobs",
    "sum_logprobs",
    "token_logprobs",
    "token_statistics",
    "trainer",
    "tree_completions",
    "tree_judge",
    "tree_log_probs",
    "tree_pairs",
    "tree_policy",
]

_HOME = {
    "training.data": (
        "TextRankings",
        "TextFeedback",
        "TextComparisons",
        "TextNegatives",
        "TextData",
        "revision_prompt",
    ),
    "training.diagnostics": ("DIAGNOSTICS", "Diagnostics"),
    "online.judges": ("as_rows", "pairwise_judge", "reward_judge"),
    "model.logprobs": (
        "Head",
        "TokenStatistics",
        "sequence_logprobs",
        "sum_logprobs",
        "token_logprobs",
        "token_statistics",
    ),
    "training.objective": ("references_of",),
    "online.rounds": (
        "JudgedCompletions",
        "completion_pairs",
        "draw_judged",
        "draw_pairs",
        "judged_completions",
        "trainer",
    ),
    "model.policy": ("CausalLM",),
    "command.read": ("TextSource", "read_text_data"),
    "model.reference": ("ReferenceLogps", "model_hash", "reference_logps"),
    "model.scorer": ("Scorer",),
    "model.tokens": ("TokenBatch", "Tokens", "collate", "encode"),
    "training.options": ("TrainResult", "TrainingOptions"),
    "online.trees": (
        "tree_completions",
        "tree_judge",
        "tree_log_probs",
        "tree_pairs",
        "tree_policy",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
