"""Completions drawn from a model, exactly as it gives their probabilities."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from prefsim.lm.model.log_prob_model import LogProbModel, adapters_off, evaluating, is_adapted
from prefsim.lm.model.router import without_router_loss
from prefsim.lm.model.tokens import Ids, Tokens, batches_by_length, collate

__all__ = ["sampled_completions"]


def sampled_completions(
    model: LogProbModel,
    prompts: Sequence[Ids],
    n: int,
    rng: np.random.Generator,
    *,
    ends: Sequence[int],
    pad_id: int,
    adapters: bool,
    batch_size: int,
    **settings: Any,
) -> list[list[Ids]]:
    """Return ``n`` completions of every prompt.

    Parameters
    ----------
    model
        The model; its modes, its own generation settings and the random states are left alone.
    prompts
        Token ids.
    n
        Completions of each.
    rng
        Where the seed of every batch comes from.
    ends
        Tokens that end a completion.
    pad_id
        What fills rows.
    adapters
        False for the model with its adapters switched off.
    batch_size
        Prompts of one call.
    **settings
        Of transformers' ``GenerationConfig``: temperature, top_k, top_p and max_new_tokens.
    """
    from transformers import GenerationConfig

    generation = GenerationConfig(
        do_sample=True,
        num_return_sequences=n,
        eos_token_id=list(ends) or None,
        pad_token_id=pad_id,
        **settings,
    )
    completions: list[list[Ids]] = [[] for _ in prompts]
    devices = [model.device] if model.device.type == "cuda" else []
    switched_off = not adapters and is_adapted(model.model)
    with (
        evaluating(model),
        torch.random.fork_rng(devices=devices),
        adapters_off(model.model) if switched_off else contextlib.nullcontext(),
        _generation_settings(model.plain, generation) as plain,
        without_router_loss(model.plain),
    ):
        for chunk in batches_by_length([len(prompt) for prompt in prompts], batch_size):
            torch.random.manual_seed(int(rng.integers(2**63)))
            # On the left, so that all completions begin at one place; the one token that `collate`
            # asks of a completion is cut off again.
            batch = collate(
                [Tokens(prompts[i], [0]) for i in chunk],
                pad_id=pad_id,
                side="left",
                device=model.device,
            )
            ids, attention = batch.input_ids[:, :-1], batch.attention_mask[:, :-1].long()
            drawn = plain.generate(
                input_ids=ids, attention_mask=attention, generation_config=generation
            )
            for k, tokens in enumerate(drawn[:, ids.shape[1] :].tolist()):
                completions[chunk[k // n]].append(_until_end(tokens, ends))
    return completions


@contextlib.contextmanager
def _generation_settings(model: Any, settings: Any) -> Iterator[Any]:
    """Give the model with these settings for its own.

    Transformers fills what the settings of a call leave open from the model's own.
    """
    own = model.generation_config
    model.generation_config = settings
    try:
        yield model
    finally:
        model.generation_config = own


def _until_end(tokens: Ids, ends: Sequence[int]) -> Ids:
    last = next((i for i, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: last + 1]
