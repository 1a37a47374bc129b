"""Language models: the losses of the library on transformers. Nothing here imports torch until a name is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefsim.lm.data import CompletionLists, Completions, PreferencePairs, RejectedCompletions, TextData, revision_prompt
    from prefsim.lm.diagnostics import DIAGNOSTICS, Diagnostics
    from prefsim.lm.judges import as_rows, pairwise_judge, reward_judge
    from prefsim.lm.logprobs import Head, TokenStatistics, sequence_logprobs, sum_logprobs, token_logprobs, token_statistics
    from prefsim.lm.objective import references_of
    from prefsim.lm.online import JudgedCompletions, completion_pairs, draw_judged, draw_pairs, judged_completions, trainer
    from prefsim.lm.policy import CausalLM
    from prefsim.lm.read import TextSource, read_text_data
    from prefsim.lm.reference import ReferenceLogps, model_hash, reference_logps
    from prefsim.lm.scorer import Scorer
    from prefsim.lm.tokens import TokenBatch, Tokens, collate, encode
    from prefsim.lm.train import TrainingOptions, TrainResult
    from prefsim.lm.trees import tree_completions, tree_judge, tree_log_probs, tree_pairs, tree_policy

__all__ = [
    "CausalLM",
    "CompletionLists",
    "Completions",
    "DIAGNOSTICS",
    "Diagnostics",
    "Head",
    "JudgedCompletions",
    "PreferencePairs",
    "ReferenceLogps",
    "RejectedCompletions",
    "Scorer",
    "TextData",
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
    "data": ("CompletionLists", "Completions", "PreferencePairs", "RejectedCompletions", "TextData", "revision_prompt"),
    "diagnostics": ("DIAGNOSTICS", "Diagnostics"),
    "judges": ("as_rows", "pairwise_judge", "reward_judge"),
    "logprobs": ("Head", "TokenStatistics", "sequence_logprobs", "sum_logprobs", "token_logprobs", "token_statistics"),
    "objective": ("references_of",),
    "online": ("JudgedCompletions", "completion_pairs", "draw_judged", "draw_pairs", "judged_completions", "trainer"),
    "policy": ("CausalLM",),
    "read": ("TextSource", "read_text_data"),
    "reference": ("ReferenceLogps", "model_hash", "reference_logps"),
    "scorer": ("Scorer",),
    "tokens": ("TokenBatch", "Tokens", "collate", "encode"),
    "train": ("TrainResult", "TrainingOptions"),
    "trees": ("tree_completions", "tree_judge", "tree_log_probs", "tree_pairs", "tree_policy"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
