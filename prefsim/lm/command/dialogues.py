"""Two whole dialogues taken apart: the prompt that they share, and the answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from prefsim.checks.quoting import shown
from prefsim.data.json_lines import read_json_lines
from prefsim.lm.command.messages import Row, check_answer
from prefsim.lm.model.chat import shared_length

__all__ = [
    "ASSISTANT",
    "HUMAN",
    "ComparedDialogues",
    "UnsharedPrompt",
    "chat_dialogues",
    "read_compared",
    "text_dialogues",
]

ASSISTANT, HUMAN = "\n\nAssistant:", "\n\nHuman:"


class UnsharedPrompt(ValueError):
    """Two dialogues that are compared do not answer one prompt."""


def chat_dialogues(chosen: list[Row], rejected: list[Row]) -> Row:
    """Return the common beginning of two lists of messages as the prompt, and what is left."""
    shared = shared_length(chosen[:-1], rejected[:-1])
    while shared and chosen[shared - 1]["role"] == "assistant":
        # A whole turn of the assistant is no prompt: the next would continue it.
        shared -= 1
    if shared == 0:
        raise UnsharedPrompt(
            "chosen and rejected must begin with the same messages, a question among them; got"
            " dialogues that have none in common"
        )
    for name, dialogue in (("chosen", chosen), ("rejected", rejected)):
        other = next(
            (i for i in range(shared, len(dialogue)) if dialogue[i]["role"] != "assistant"), None
        )
        if other is not None:
            raise UnsharedPrompt(
                "chosen and rejected must differ in the assistant's last turns alone; they part at"
                f" message {shared + 1}, and message {other + 1} of {name} is by"
                f" {dialogue[other]['role']!r}"
            )
        check_answer(dialogue[shared:], name)
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def text_dialogues(chosen: str, rejected: str, others: list[str]) -> Row:
    """Return two texts taken apart; ``others`` are the columns beside them that nothing reads."""
    if (ASSISTANT in chosen) != (ASSISTANT in rejected):
        name = "rejected" if ASSISTANT in chosen else "chosen"
        raise UnsharedPrompt(
            f"chosen and rejected must share the prompt; {name} has no turn {ASSISTANT.strip()!r},"
            " the other has one"
        )
    if ASSISTANT not in chosen:
        return _texts(chosen, rejected, others)
    prompt, first = _last_turn(chosen, "chosen")
    other, second = _last_turn(rejected, "rejected")
    if prompt != other:
        at = shared_length(prompt, other)
        raise UnsharedPrompt(
            f"chosen and rejected must be the same dialogue up to the last {ASSISTANT.strip()!r};"
            f" they part at character {at + 1}: {shown(prompt[at:])} and {shown(other[at:])}"
        )
    return {"prompt": prompt, "chosen": first, "rejected": second}


class ComparedDialogues(NamedTuple):
    """Pairs of answers to one prompt each, as text: lists of one length."""

    prompt: list[str]
    chosen: list[str]
    rejected: list[str]


def read_compared(path: Path, *, pairs: int | None = None) -> ComparedDialogues:
    """Return the first pairs of a file of whole dialogues in text, all of them unless given.

    Those that answer two prompts compare nothing, and are left out.
    """
    found = ComparedDialogues([], [], [])
    for _, row in read_json_lines(path):
        if len(found.prompt) == pairs:
            break
        try:
            pair = text_dialogues(row["chosen"], row["rejected"], [])
        except UnsharedPrompt:
            continue
        for name, texts in found._asdict().items():
            texts.append(pair[name])
    return found


def _texts(chosen: str, rejected: str, others: list[str]) -> Row:
    if others:
        raise ValueError(
            "the prompt must be in a column of the name prompt: beside other columns it is not"
            f" guessed from what chosen and rejected begin with, got {', '.join(others)}"
        )
    shared = chosen[: shared_length(chosen, rejected)]
    beginning = re.match(r"(.*\S)?(?=\s)", shared, re.DOTALL)
    if beginning is None or not beginning[0]:
        raise UnsharedPrompt(
            "chosen and rejected must begin with the same words, which are the prompt; got none"
            " in common"
        )
    return {
        "prompt": beginning[0],
        "chosen": chosen[len(beginning[0]) :],
        "rejected": rejected[len(beginning[0]) :],
    }


def _last_turn(dialogue: str, name: str) -> tuple[str, str]:
    head, turn, answer = dialogue.rpartition(ASSISTANT)
    if HUMAN in answer:
        raise ValueError(
            f"{name} must end with a turn of the assistant, got {HUMAN.strip()!r} behind the last"
            f" {ASSISTANT.strip()!r}"
        )
    return head + turn, answer
