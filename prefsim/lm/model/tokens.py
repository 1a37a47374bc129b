"""Token ids of prompts and completions, and padded batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from prefsim.checks import check_choice, check_integer

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


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on another device, which is not waited for."""
    if str(device).startswith("cuda") and tensor.device.type == "cpu":
        # From memory that the system may move the copy would be waited for.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class ScoredTokens(NamedTuple):
    """Where the tokens of completions are, known before a batch is sent to a device.

    Attributes
    ----------
    positions
        In the flattened batch, ``(N,)``, sequence after sequence.
    places
        In the flattened table ``(B, width)`` whose rows begin with the completions, ``(N,)``.
    width
        Tokens of the longest completion.
    counts
        Tokens of each completion, ``B`` of them.
    """

    positions: Tensor
    places: Tensor
    width: int
    counts: tuple[int, ...]


class TokenBatch(NamedTuple):
    """Padded sequences ``(B, T)``.

    Attributes
    ----------
    input_ids
        Token ids.
    attention_mask
        Where there is a token at all, boolean.
    completion_mask
        Which tokens belong to the completion, boolean.
    scored
        The same as indices; None where they have to be read off the mask, for which a device is
        waited for.
    is_left_aligned
        Whether it is known that all padding is behind the tokens, so that no token of a causal
        model sees any.
    position_ids
        Places of the tokens in their sequences where rows hold several, of which each begins at 0;
        None where a row holds one.
    """

    input_ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor
    scored: ScoredTokens | None = None
    is_left_aligned: bool = False
    position_ids: Tensor | None = None

    def to(self, device: torch.device | str) -> TokenBatch:
        """Return the batch on another device."""

        def moved(tensor: Tensor) -> Tensor:
            return to_device(tensor, device)

        scored = self.scored
        if scored is not None:
            scored = scored._replace(positions=moved(scored.positions), places=moved(scored.places))
        return self._replace(
            input_ids=moved(self.input_ids),
            attention_mask=moved(self.attention_mask),
            completion_mask=moved(self.completion_mask),
            scored=scored,
            position_ids=None if self.position_ids is None else moved(self.position_ids),
        )


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
    batch = TokenBatch(
        input_ids=ids,
        attention_mask=attention,
        completion_mask=scored,
        scored=_scored(scored),
        is_left_aligned=side == "right",
    )
    return batch if device is None else batch.to(device)


def _scored(mask: Tensor) -> ScoredTokens:
    """Return where a mask ``(B, T)`` on the CPU is True."""
    import torch

    positions = mask.reshape(-1).nonzero()[:, 0]
    counts = mask.sum(dim=1)
    width = int(counts.max())
    rows = positions // mask.shape[1]
    within = torch.arange(len(positions)) - (counts.cumsum(dim=0) - counts)[rows]
    return ScoredTokens(positions, rows * width + within, width, tuple(counts.tolist()))
