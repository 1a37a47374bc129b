"""Language models: the losses of the library on transformers. Nothing here imports torch until a name is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefsim.lm.data import CompletionLists, Completions, PreferencePairs, RejectedCompletions, TextData, revision_prompt
    from prefsim.lm.diagnostics import DIAGNOSTICS, Diagnostics
    from prefsim.lm.logprobs import Head, TokenStatistics, sequence_logprobs, sum_logprobs, token_logprobs, token_statistics
    from prefsim.lm.objective import references_of
    from prefsim.lm.policy import CausalLM
    from prefsim.lm.read import TextSource, read_text_data
    from prefsim.lm.reference import ReferenceLogps, model_hash, reference_logps
    from prefsim.lm.scorer import Scorer
    from prefsim.lm.tokens import TokenBatch, Tokens, collate, encode
    from prefsim.lm.train import TrainingOptions, TrainResult

__all__ = [
    "CausalLM",
    "CompletionLists",
    "Completions",
    "DIAGNOSTICS",
    "Diagnostics",
    "Head",
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
    "collate",
    "encode",
    "model_hash",
    "read_text_data",
    "reference_logps",
    "references_of",
    "revision_prompt",
    "sequence_logprobs",
    "sum_logprobs",
    "token_logprobs",
    "token_statistics",
]

_HOME = {
    "data": ("CompletionLists", "Completions", "PreferencePairs", "RejectedCompletions", "TextData", "revision_prompt"),
    "diagnostics": ("DIAGNOSTICS", "Diagnostics"),
    "logprobs": ("Head", "TokenStatistics", "sequence_logprobs", "sum_logprobs", "token_logprobs", "token_statistics"),
    "objective": ("references_of",),
    "policy": ("CausalLM",),
    "read": ("TextSource", "read_text_data"),
    "reference": ("ReferenceLogps", "model_hash", "reference_logps"),
    "scorer": ("Scorer",),
    "tokens": ("TokenBatch", "Tokens", "collate", "encode"),
    "train": ("TrainResult", "TrainingOptions"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
