"""Completions to imitate, as text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from prefsim.checks.quoting import shown
from prefsim.containers import PairLogps
from prefsim.lm.data.text_data import TextData, TokenLogps, column_like
from prefsim.lm.model.tokens import Text
from prefsim.losses.catalogue import reads_rejected

if TYPE_CHECKING:
    from torch import Tensor

Message = Mapping[str, Any]

__all__ = ["TextDemonstrations", "answered_turns"]


def answered_turns(dialogue: Sequence[Message]) -> list[tuple[list[Message], list[Message]]]:
    """Return every turn of the assistant that is to be learned, behind all that came before it.

    Each as the prompt and the completion of a demonstration, so that it is learned as it would be
    generated: a chat template may render an answer otherwise once there are later messages.

    Parameters
    ----------
    dialogue
        Chat messages. Turns that answer nothing, at the very beginning, are context, and so are
        messages of the assistant with the weight 0, or ``train`` false. What follows the last turn
        of the assistant is not used.

    Raises
    ------
    ValueError
        If there is no turn to learn, or one is to be learned by halves.

    Examples
    --------
    >>> hello = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    >>> more = [{"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Bye."}]
    >>> [(len(prompt), answer[0]["content"]) for prompt, answer in answered_turns(hello + more)]
    [(1, 'Hello!'), (3, 'Bye.')]
    """
    turns = []
    place = 0
    for is_answer, run in itertools.groupby(dialogue, lambda said: said["role"] == "assistant"):
        messages = list(run)
        if is_answer and place and _is_learned(messages):
            turns.append((list(dialogue[:place]), messages))
        place += len(messages)
    if not turns:
        roles = ", ".join(repr(message["role"]) for message in dialogue)
        raise ValueError(
            "a dialogue must hold a turn of the assistant that answers something and is to be"
            f" learned, got {roles or 'nothing'}"
        )
    return turns


def _is_learned(turn: Sequence[Message]) -> bool:
    """Return whether a turn is to be learned, as all of its messages say."""
    said = [(message.get("weight", 1), message.get("train", True)) for message in turn]
    if all(pair == (1, True) for pair in said):
        return True
    if all(weight == 0 or train is False for weight, train in said):
        return False
    raise ValueError(
        "a turn of the assistant must be learned as a whole or not at all, got (weight, train)"
        f" {shown(said)}"
    )


@dataclass(frozen=True, init=False, eq=False)
class TextDemonstrations(TextData):
    """Prompts with a completion each that is to be imitated: supervised fine-tuning.

    Parameters
    ----------
    prompt, completion
        Lists of text, chat messages or token ids.
    weight
        Relative weight of each row, >= 0; equal unless given.

    Raises
    ------
    ValueError
        If columns differ in length, an entry is no text, or a weight is out of range.

    Examples
    --------
    >>> shown = TextDemonstrations(["Good film?", "Bad film?"], [" Yes.", " No."])
    >>> len(shown), shown.take([1]).completion
    (2, [' No.'])
    """

    kinds: ClassVar[tuple[type, ...]] = (PairLogps,)

    prompt: list[Text]
    completion: list[Text]
    weight: np.ndarray

    def __init__(
        self, prompt: Sequence[Text], completion: Sequence[Text], *, weight: Any = None
    ) -> None:
        self._store({"prompt": prompt, "completion": completion}, {"weight": weight})

    @classmethod
    def from_dialogues(cls, dialogues: Sequence[Sequence[Message]]) -> Self:
        """Return every turn of the assistant in chat dialogues, as :func:`answered_turns`.

        Raises
        ------
        ValueError
            If a dialogue has no turn to learn; it is named by its number.
        """
        prompts, completions = [], []
        for number, dialogue in enumerate(dialogues):
            try:
                turns = answered_turns(dialogue)
            except ValueError as error:
                raise ValueError(f"dialogue {number}: {error}") from error
            prompts += [prompt for prompt, _ in turns]
            completions += [completion for _, completion in turns]
        return cls(prompts, completions)

    def check_loss(self, loss: Callable[..., Any]) -> None:
        """Raise unless a loss can be fed: it must look at the chosen response alone."""
        super().check_loss(loss)
        if reads_rejected(loss):
            raise ValueError(
                "TextDemonstrations (prompt, completion) have no rejected completion, which the"
                " loss compares with: it takes TextComparisons (prompt, chosen, rejected);"
                " demonstrations are for losses of the chosen completion alone, such as sft"
            )

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return the completions."""
        self.check(kind)
        return [[row] for row in zip(self.prompt, self.completion, strict=True)]

    def container(self, kind: type, token_logps: TokenLogps) -> tuple[Any, Tensor]:
        """Return pairs of which a loss of the chosen response sees the completion."""
        self.check(kind)
        completion = token_logps.of_sequence(0)
        # What is not looked at is the completion again, which is a number like any other.
        pairs = PairLogps(
            chosen=completion.sums,
            rejected=completion.sums.detach(),
            ref_chosen=completion.ref_sums,
            ref_rejected=completion.ref_sums,
            chosen_length=completion.lengths,
            rejected_length=completion.lengths,
        )
        return pairs, column_like(self.weight, completion.logp)
