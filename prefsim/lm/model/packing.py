"""Several sequences in one row, so that rows need little padding or none.

No token sees another sequence: its places begin anew, and transformers masks attention by them, in
each kind of layer as it is to be masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from prefsim.lm.model.bins import packed_rows
from prefsim.lm.model.log_prob_model import LogProbModel, evaluating
from prefsim.lm.model.tokens import ScoredTokens, TokenBatch, Tokens, collate

__all__ = ["check_packing", "collate_packed", "in_one_row"]


def collate_packed(
    sequences: Sequence[Tokens],
    *,
    pad_id: int,
    one_row: bool = False,
    device: torch.device | str | None = None,
) -> TokenBatch:
    """Return sequences as one batch whose rows hold as many as they have room for.

    Parameters
    ----------
    sequences, pad_id, device
        As for :func:`~prefsim.lm.collate`.
    one_row
        All in one row, instead of rows as long as the longest sequence.

    Returns
    -------
    What :func:`~prefsim.lm.collate` does where nothing is saved; else a batch of fewer rows, whose
    ``scored`` counts sequences in their order.

    Raises
    ------
    ValueError
        As :func:`~prefsim.lm.collate`.
    """
    prompts = np.asarray([len(row.prompt_ids) for row in sequences], dtype=np.int64)
    counts = np.asarray([len(row.completion_ids) for row in sequences], dtype=np.int64)
    sizes = prompts + counts
    capacity = sizes.sum() if one_row else sizes.max(initial=0)
    rows = packed_rows(sizes, int(capacity))
    if len(rows) == len(sequences) or not (prompts.all() and counts.all()):
        return collate(sequences, pad_id=pad_id, device=device)
    starts = np.zeros(len(sequences), dtype=np.int64)
    for number, row in enumerate(rows):
        starts[row] = number * capacity + np.cumsum(sizes[row]) - sizes[row]
    shape = len(rows), int(capacity)
    within = torch.from_numpy(_counted(sizes))
    everywhere = torch.from_numpy(np.repeat(starts, sizes)) + within
    ids = torch.full(shape, pad_id)
    ids.view(-1)[everywhere] = torch.tensor(
        [token for sequence in sequences for part in sequence for token in part]
    )
    # A token of the padding is a sequence of its own, which sees itself.
    places = torch.zeros_like(ids)
    attention, is_scored = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    places.view(-1)[everywhere] = within
    attention.view(-1)[everywhere] = True
    longest = int(counts.max())
    positions, table = (
        torch.from_numpy(np.repeat(first, counts) + _counted(counts))
        for first in (starts + prompts, longest * np.arange(len(counts)))
    )
    is_scored.view(-1)[positions] = True
    batch = TokenBatch(
        input_ids=ids,
        attention_mask=attention,
        completion_mask=is_scored,
        scored=ScoredTokens(positions, table, longest, tuple(counts.tolist())),
        position_ids=places,
    )
    return batch if device is None else batch.to(device)


def _counted(sizes: np.ndarray) -> np.ndarray:
    """Return 0, 1, … up to each size, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def in_one_row(plain: Any) -> bool:
    """Return whether attention of a model is that of all sequences in one row.

    Flash attention takes the ends of sequences for a mask, and of a single row alone.
    """
    how = getattr(plain.config.get_text_config(), "_attn_implementation", None)
    return "flash" in str(how)


def check_packing(model: LogProbModel, *, one_row: bool) -> None:
    """Raise unless a model gives tokens of packed rows the states that they have alone.

    Measured on a few tokens: recurrent layers, for one, see through the ends of sequences.

    Raises
    ------
    ValueError
        That names the model and the difference.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    vocabulary = len(model.head().weight)
    ids = [[(7 * i + 3 * k + 1) % vocabulary for i in range(n)] for k, n in enumerate((6, 4, 2, 6))]
    sequences = [Tokens(each[:1], each[1:]) for each in ids]
    packed, alone = (
        collate_packed(sequences, pad_id=0, one_row=one_row, device=model.device),
        [collate([each], pad_id=0, device=model.device) for each in sequences],
    )
    assert packed.scored is not None
    with evaluating(model):
        hidden = model.states(packed)[0]
        found = hidden.reshape(-1, hidden.shape[-1])[packed.scored.positions].float()
        wanted = torch.cat([model.states(each)[0][0, 1:] for each in alone]).float()
    error = (found - wanted).abs().max().item()
    narrow = hidden.dtype in (torch.float16, torch.bfloat16)
    # Rounding of half precision over a whole model, and of float32; not `error > tolerance`, for
    # NaN is an error too.
    if not error <= (5e-2 if narrow else 1e-3) * (1 + wanted.abs().max().item()):
        how = getattr(model.plain.config, "_attn_implementation", None)
        raise ValueError(
            "packing needs a model that keeps sequences of one row apart, got states that differ by"
            f" {error:.3g} of {type(model.plain).__name__} (attn_implementation {how!r})"
        )
