"""Language models: the losses of the library on transformers. Nothing here imports torch until a name is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefsim.lm.logprobs import Head, TokenStatistics, sequence_logprobs, sum_logprobs, token_logprobs, token_statistics
    from prefsim.lm.policy import CausalLM
    from prefsim.lm.reference import ReferenceLogps, model_hash, reference_logps
    from prefsim.lm.scorer import Scorer
    from prefsim.lm.tokens import TokenBatch, Tokens, collate, encode

__all__ = [
    "CausalLM",
    "Head",
    "ReferenceLogps",
    "Scorer",
    "TokenBatch",
    "TokenStatistics",
    "Tokens",
    "collate",
    "encode",
    "model_hash",
    "reference_logps",
    "sequence_logprobs",
    "sum_logprobs",
    "token_logprobs",
    "token_statistics",
]

_HOME = {
    "logprobs": ("Head", "TokenStatistics", "sequence_logprobs", "sum_logprobs", "token_logprobs", "token_statistics"),
    "policy": ("CausalLM",),
    "reference": ("ReferenceLogps", "model_hash", "reference_logps"),
    "scorer": ("Scorer",),
    "tokens": ("TokenBatch", "Tokens", "collate", "encode"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
