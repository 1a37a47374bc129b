"""The models that the command names: loaded, made anew, or as sizes without memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from prefsim.lm.model.loading import (
    adapter_folder,
    base_of,
    check_place,
    load_tokenizer,
    without_memory,
)
from prefsim.lm.model.policy import CausalLM
from prefsim.lm.training.loss_evaluator import needs_of

__all__ = [
    "attention_of",
    "check_masks_asked",
    "config_of",
    "policy_of",
    "sizes_of",
    "tokenizer_of",
]


def check_masks_asked(given: Mapping[str, Any], loss: Callable[..., Any]) -> None:
    """Raise if masks are asked for that the loss would not look at."""
    if given["token_masks"] is not None and not needs_of(loss).weights:
        raise ValueError(
            "--token-masks gives weights of tokens, which sparse_po takes, got --loss"
            f" {given['loss']}"
        )


def policy_of(given: Mapping[str, Any], *, load: bool) -> CausalLM:
    """Return the policy that the options of the command name, or its sizes alone."""
    policy, masks = _without_masks(given, load=load), given["token_masks"]
    return policy if masks is None else policy.with_masks(masks, seed=given["seed"])


def _without_masks(given: Mapping[str, Any], *, load: bool) -> CausalLM:
    name, dtype, adapter = given["model"], given["dtype"], _adapter(given)
    path = Path(name)
    attention = attention_of(given)
    if given["merge"] and adapter is None and not adapter_folder(name):
        raise ValueError("--merge needs adapters: --lora-rank, or a --model that holds some")
    tokenizer = None if given["tokenizer"] is None else tokenizer_of(given["tokenizer"])
    if path.is_file():
        config = _with_attention(_fresh_config(path, tokenizer), attention)
        # Nothing is stored that "auto" could mean.
        dtype = "float32" if dtype == "auto" else dtype
        if not load:
            return _without_memory(config, tokenizer, dtype, adapter)
        return CausalLM.from_config(
            config, tokenizer, seed=given["seed"], dtype=dtype, adapter=adapter
        )
    check_place(name)
    adapted = adapter_folder(name)
    if adapted and adapter is not None:
        raise ValueError(
            f"--model {name} holds adapters, which those of --lora-rank would take the place of:"
            " without it they are trained on; CausalLM.load(...).merged() makes a model of them"
        )
    if not load:
        if tokenizer is None:
            tokenizer = tokenizer_of(name, needed=False)
        return sizes_of(name, tokenizer, dtype, adapter, attention)
    policy = CausalLM.load(name, dtype=dtype, adapter=adapter, seed=given["seed"], **attention)
    return policy if tokenizer is None else replace(policy, tokenizer=tokenizer)


def attention_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the option of transformers that says how attention is computed, if it is said."""
    asked = given["attn_implementation"]
    return {} if asked is None else {"attn_implementation": asked}


def _adapter(given: Mapping[str, Any]) -> Any:
    rank = given["lora_rank"]
    if rank == 0:
        for name in ("lora_alpha", "lora_target"):
            if given[name]:
                spelling = name.replace("_", "-")
                raise ValueError(f"--{spelling} needs --lora-rank, got {given[name]} without")
        return None
    from peft import LoraConfig

    alpha = given["lora_alpha"]
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        target_modules=list(given["lora_target"] or ()) or "all-linear",
        task_type="CAUSAL_LM",
    )


def tokenizer_of(name: str, *, needed: bool = True) -> Any:
    """Return the tokenizer of a folder or hub id; None where there is none, and none is needed."""
    if needed:
        check_place(name, "tokenizer")
    tokenizer = load_tokenizer(name)
    if needed and tokenizer is None:
        raise ValueError(
            f"tokenizer {name!r} is neither a folder with a tokenizer nor a reachable hub id"
        )
    return tokenizer


def config_of(name: str, what: str = "causal language model") -> Any:
    """Return the configuration of a model of a folder or hub id; ``what`` is for the message."""
    from transformers import AutoConfig

    check_place(name)
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"model {name!r} is neither a folder with a {what} nor a reachable hub id"
        ) from error


def _fresh_config(path: Path, tokenizer: Any) -> Any:
    """Return the configuration of a new model.

    What the file leaves open about tokens is the tokenizer's.
    """
    from transformers import AutoConfig

    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        kind = table.pop("model_type")
        if tokenizer is not None:
            ids = {
                name: getattr(tokenizer, name)
                for name in ("bos_token_id", "eos_token_id", "pad_token_id")
            }
            table = {"vocab_size": len(tokenizer)} | ids | table
        config = AutoConfig.for_model(kind, **table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected the configuration of a transformers model in JSON, with its"
            f" model_type ({error})"
        ) from error
    size = config.get_text_config().vocab_size
    if tokenizer is not None and size < len(tokenizer):
        raise ValueError(
            f"{path}: vocab_size must be >= {len(tokenizer)}, the tokenizer's, got {size}"
        )
    return config


def sizes_of(
    name: str,
    tokenizer: Any,
    dtype: str,
    adapter: Any,
    attention: Mapping[str, Any] | None = None,
) -> CausalLM:
    """Return a model, or adapters and the model that they are for, without memory."""
    check_place(name)
    if adapter_folder(name):
        name, adapter = base_of(name)
        # Stored adapters say that they are at rest; here they are to be trained.
        adapter.inference_mode = False
    config = _with_attention(config_of(name), attention or {})
    return _without_memory(config, tokenizer, dtype, adapter)


def _with_attention(config: Any, attention: Mapping[str, Any]) -> Any:
    for name, value in attention.items():
        setattr(config, f"_{name}", value)
    return config


def _without_memory(config: Any, tokenizer: Any, dtype: str, adapter: Any) -> CausalLM:
    model = without_memory(config, dtype, "AutoModelForCausalLM")
    with torch.device("meta"):
        return CausalLM.from_model(model, tokenizer, adapter=adapter)
