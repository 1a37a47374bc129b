"""What a model can take: the tokens of its vocabulary, as many as it has positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from prefsim.lm.model.tokens import Tokens

__all__ = ["check_new_tokens", "check_positions", "check_vocabulary"]

# OPT and its like leave the first two rows of their table to padding.
_ROWS_TO_SPARE = 8


def check_vocabulary(tokens: Tokens, size: int, row: int) -> None:
    """Raise unless a row has a prompt and a completion, of tokens below ``size``."""
    for name, ids in (("prompt", tokens.prompt_ids), ("completion", tokens.completion_ids)):
        if not ids:
            raise ValueError(f"row {row} has a {name} without tokens")
        if max(ids) >= size:
            raise ValueError(
                f"row {row}: the {name}'s token ids must be < {size}, the model's vocabulary, got"
                f" {max(ids)}"
            )


def _positions(plain: Any) -> int | None:
    """Return how many tokens a sequence may have, or None where there is no end to it."""
    found = getattr(plain.config.get_text_config(), "max_position_embeddings", None)
    return None if found is None else int(found)


def check_positions(plain: Any, lengths: Sequence[int], name: str = "row") -> None:
    """Raise unless no sequence has more tokens than the model has positions.

    Parameters
    ----------
    plain
        The model of transformers.
    lengths
        Tokens of each sequence, prompt and completion.
    name
        What a sequence is the number of, for the message.
    """
    limit = _positions(plain)
    if limit is None:
        return
    for number, length in enumerate(lengths):
        if length > limit:
            raise ValueError(
                f"{name} {number}: a sequence may have {limit} tokens, as many as the model has"
                f" positions, got {length}"
            )


def check_new_tokens(plain: Any, lengths: Sequence[int], new: int) -> None:
    """Raise if generation would leave a model's table of positions.

    Positions that are calculated, such as rotations, go on behind the last that was trained.
    """
    limit = _positions(plain)
    if limit is None or not _has_table(plain, limit):
        return
    for row, length in enumerate(lengths):
        if length + new > limit:
            raise ValueError(
                f"row {row}: the prompt's {length} tokens and max_new_tokens = {new} are more than"
                f" the model's {limit} positions"
            )


def _has_table(plain: Any, limit: int) -> bool:
    words = plain.get_input_embeddings()
    tables = (
        part.num_embeddings
        for part in plain.modules()
        if isinstance(part, torch.nn.Embedding) and part is not words
    )
    return any(limit <= size <= limit + _ROWS_TO_SPARE for size in tables)
