"""Completions drawn from a model, exactly as it gives their probabilities."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefsim.lm.model.compiled import as_written
from prefsim.lm.model.log_prob_model import LogProbModel, adapters_off, evaluating, is_adapted
from prefsim.lm.model.router import without_router_loss
from prefsim.lm.model.tokens import Ids, Tokens, batches_by_length, collate

__all__ = ["drawn_from", "sampled_completions"]


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
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
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
    max_new_tokens, temperature, top_k, top_p
        As transformers' ``GenerationConfig`` has them; a ``top_k`` of 0 keeps all tokens.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    how: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    # What draws on a processor leaves one token, which is then the likeliest.
    draws = model.device.type == "cpu"
    processors = LogitsProcessorList(_drawing(**how) if draws else [])
    generation = GenerationConfig(
        do_sample=not draws,
        eos_token_id=list(ends) or None,
        pad_token_id=pad_id,
        max_new_tokens=max_new_tokens,
        **({} if draws else how),
    )
    completions: list[list[Ids]] = [[] for _ in prompts]
    devices = [model.device] if model.device.type == "cuda" else []
    switched_off = not adapters and is_adapted(model.model)
    with (
        as_written(model),
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
                input_ids=ids.repeat_interleave(n, dim=0),
                attention_mask=attention.repeat_interleave(n, dim=0),
                generation_config=generation,
                logits_processor=processors,
            )
            for k, tokens in enumerate(drawn[:, ids.shape[1] :].tolist()):
                completions[chunk[k // n]].append(_until_end(tokens, ends))
    return completions


def _drawing(*, temperature: float, top_k: int, top_p: float) -> list[Any]:
    """Return what transformers does to scores before it draws, and last what draws."""
    from transformers import (
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    steps: list[Any] = []
    if temperature != 1.0:
        steps.append(TemperatureLogitsWarper(temperature))
    if top_k > 0:
        steps.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        steps.append(TopPLogitsWarper(top_p))
    return [*steps, _one_drawn]


def _one_drawn(_: Tensor, scores: Tensor) -> Tensor:
    """Return scores ``(B, V)`` that leave one token of each row, drawn from their softmax."""
    drawn = drawn_from(scores.softmax(dim=-1))
    return torch.full_like(scores, -torch.inf).scatter_(1, drawn[:, None], 0.0)


def drawn_from(probs: Tensor) -> Tensor:
    """Return an index drawn from each row of probabilities ``(B, V)``, on a processor.

    By the inverse of the cumulative sum, one random number a row: ``torch.multinomial`` takes an
    exponential of each entry there, and two fifths of the time of a small model.
    """
    sums = probs.cumsum(dim=-1, dtype=torch.float64)
    total = sums[:, -1:]
    if not bool(total.isfinite().all()):
        raise ValueError("probabilities must be finite to draw from them, got NaN or infinity")
    at = torch.rand(total.shape, dtype=torch.float64) * total
    # Below the total even where the product rounds up to it, and above the sum of an entry without
    # probability, which no number is then found in.
    at = torch.minimum(at, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(sums, at, right=True)[:, 0]


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
