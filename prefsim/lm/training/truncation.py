"""What is done with sequences that are too long to train on, where the caller says what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefsim.checks import check_choice, check_integer
from prefsim.lm.model.tokens import Ids, Tokens

__all__ = ["Truncation", "truncated"]

SIDES = ("prompt", "completion")


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """What to leave out of sequences that are too long.

    Attributes
    ----------
    max_tokens
        The longest sequence, prompt included, >= 2.
    side
        ``"prompt"``: the beginning of the prompt, but for a BOS token, of all sequences of an
        example alike, so that they still answer one prompt. ``"completion"``: the end of the
        completion, its EOS token included, of each sequence for itself.
    """

    max_tokens: int
    side: str

    def __post_init__(self) -> None:
        check_integer(low=2, max_tokens=self.max_tokens)
        check_choice(SIDES, side=self.side)


def truncated(
    example: Sequence[Tokens], truncation: Truncation, *, bos_id: int | None
) -> list[Tokens]:
    """Return the sequences of one example, none longer than the limit.

    Raises
    ------
    ValueError
        If nothing would be left of a prompt, or of a completion.
    """
    limit = truncation.max_tokens
    if truncation.side == "completion":
        return [_shorter_completion(row, limit) for row in example]
    longest = max(len(row.completion_ids) for row in example)
    if all(len(row.prompt_ids) <= limit - longest for row in example):
        return list(example)
    if longest >= limit:
        raise ValueError(
            f"a completion has {longest} tokens, which leaves nothing of its prompt within"
            f" {limit}; truncate the completion, or leave the row out"
        )
    return [
        row._replace(prompt_ids=_end_of(row.prompt_ids, limit - longest, bos_id)) for row in example
    ]


def _shorter_completion(row: Tokens, limit: int) -> Tokens:
    room = limit - len(row.prompt_ids)
    if len(row.completion_ids) <= room:
        return row
    if room < 1:
        raise ValueError(
            f"a prompt has {len(row.prompt_ids)} tokens, which leaves nothing of its completion"
            f" within {limit}; truncate the prompt, or leave the row out"
        )
    return row._replace(completion_ids=row.completion_ids[:room])


def _end_of(prompt: Ids, size: int, bos_id: int | None) -> Ids:
    if len(prompt) <= size:
        return prompt
    if bos_id is not None and prompt[0] == bos_id:
        return [bos_id, *prompt[len(prompt) - size + 1 :]]
    return prompt[len(prompt) - size :]
