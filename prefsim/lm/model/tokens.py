"""Token ids of prompts and completions, and padded batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from prefsim.checks import check_choice, check_integer
from prefsim.containers import map_fields

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Ids = list[int]
Text = str | Sequence[int] | Sequence[Mapping[str, str]]

__all__ = ["Ids", "Text", "TokenBatch", "Tokens", "batches_by_length", "collate"]


class Tokens(NamedTuple):
    """A prompt and its completion, as token ids.

    Every id of the completion is scored, the end-of-sequence token too where there is one.
    """

    prompt_ids: Ids
    completion_ids: Ids


class TokenBatch(NamedTuple):
    """Padded sequences ``(B, T)``.

    Ids, where there is a token at all, and which tokens belong to the completion (both boolean).
    """

    input_ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor

    def to(self, device: Any) -> TokenBatch:
        """Return the batch on another device."""

        def moved(tensor: Any) -> Any:
            return tensor.to(device, non_blocking=True)

        return map_fields(self, moved)


def batches_by_length(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield batches of row numbers, similar lengths together.

    The longest come first, so that too large a batch fails at once.

    Examples
    --------
    >>> list(batches_by_length([3, 9, 5], 2))
    [[1, 2], [0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def collate(
    sequences: Sequence[Tokens],
    *,
    pad_id: int,
    side: str = "right",
    multiple_of: int = 1,
    device: torch.device | str | None = None,
) -> TokenBatch:
    """Return the sequences as one padded batch.

    Parameters
    ----------
    sequences
        At least one, each with a prompt of at least one token (whose state predicts the first of
        the completion) and a completion of at least one.
    pad_id
        What fills the rows; it is attended to by nothing and scored never.
    side
        ``"right"`` or ``"left"``: where the padding goes. No log-probability depends on it.
    multiple_of
        The length is rounded up to a multiple of this.
    device
        Where the tensors are put.

    Raises
    ------
    ValueError
        If there is no sequence, or a prompt or completion is empty (named by its row).
    """
    import torch

    check_choice(("right", "left"), side=side)
    check_integer(low=1, multiple_of=multiple_of)
    if not sequences:
        raise ValueError("a batch must hold at least one sequence, got none")
    for row, (prompt_ids, completion_ids) in enumerate(sequences):
        if not prompt_ids:
            raise ValueError(
                f"row {row} has a prompt without tokens: nothing predicts the first token of its"
                " completion"
            )
        if not completion_ids:
            raise ValueError(
                f"row {row} has a completion without tokens: there is nothing to score"
            )
    prompts = torch.tensor([len(prompt) for prompt, _ in sequences])[:, None]
    lengths = prompts + torch.tensor([len(completion) for _, completion in sequences])[:, None]
    width = -(-int(lengths.max()) // multiple_of) * multiple_of
    # Places count from the first token of each row.
    places = torch.arange(width)[None] - (0 if side == "right" else width - lengths)
    attention = (places >= 0) & (places < lengths)
    scored = attention & (places >= prompts)
    ids = torch.full(attention.shape, pad_id, dtype=torch.int64)
    ids[attention] = torch.tensor(
        [token for sequence in sequences for part in sequence for token in part]
    )
    batch = TokenBatch(input_ids=ids, attention_mask=attention, completion_mask=scored)
    return batch if device is None else batch.to(device)
