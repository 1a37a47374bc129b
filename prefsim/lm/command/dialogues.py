"""Two whole dialogues taken apart: the prompt that they share, and the answers."""

from __future__ import annotations

import re
from pathlib import Path

from prefsim.checks.quoting import shown
from prefsim.data.json_lines import read_json_lines
from prefsim.lm.command.messages import Row, check_answer
from prefsim.lm.model.chat import shared_length

__all__ = [
    "ASSISTANT",
    "HUMAN",
    "UnsharedPrompt",
    "chat_dialogues",
    "read_answers",
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


def read_answers(path: Path) -> tuple[list[str], list[str]]:
    """Return the chosen and the rejected answers of a file of compared dialogues in text.

    Pairs that answer two prompts compare nothing, and are left out.
    """
    chosen, rejected = [], []
    for _, row in read_json_lines(path):
        try:
            pair = text_dialogues(row["chosen"], row["rejected"], [])
        except UnsharedPrompt:
            continue
        chosen.append(pair["chosen"])
        rejected.append(pair["rejected"])
    return chosen, rejected


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
