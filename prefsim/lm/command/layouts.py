"""Rows of columns made into text for training.

Which columns there may be, and how prompts are found in whole dialogues.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefsim.checks import check_nonnegative
from prefsim.lm.data.comparisons import TextComparisons
from prefsim.lm.data.feedback import TextFeedback
from prefsim.lm.data.negatives import TextNegatives
from prefsim.lm.data.rankings import TextRankings

__all__ = ["ASSISTANT", "HUMAN", "Container", "Row", "RowReader", "UnsharedPrompt"]

Row = dict[str, Any]
Container = TextComparisons | TextFeedback | TextRankings | TextNegatives

ASSISTANT, HUMAN = "\n\nAssistant:", "\n\nHuman:"


class UnsharedPrompt(ValueError):
    """Two dialogues that are compared do not answer one prompt."""


@dataclass(frozen=True)
class _Layout:
    """A kind of data: the columns of its text and of its numbers, and how a row's text is read."""

    container: type[Container]
    required: tuple[str, ...]
    numbers: tuple[str, ...]
    parse: Callable[[Row], Row]

    def numbers_in(self, row: Row) -> dict[str, str]:
        """Return the columns of numbers of a row, by the container's name for each."""
        columns = {}
        for name in self.numbers:
            spellings = [name, *_OTHER_NAMES.get(name, ())]
            given = [spelling for spelling in spellings if row.get(spelling) is not None]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} are two names of one column, got both")
            if given:
                columns[name] = given[0]
        return columns


@dataclass(frozen=True)
class RowReader:
    """Reads the rows of a source in the layout of its first row, with the numbers it has."""

    layout: _Layout
    numbers: Mapping[str, str]

    @classmethod
    def of(cls, row: Row) -> RowReader:
        """Return the reader for the rows of a source whose first is ``row``."""
        here = {name for name, value in row.items() if value is not None}
        for layout in _LAYOUTS:
            if here >= set(layout.required):
                return cls(layout, layout.numbers_in(row))
        wanted = "; ".join(", ".join(layout.required) for layout in _LAYOUTS)
        raise ValueError(
            f"the columns must be one of ({wanted}), got {', '.join(sorted(here)) or 'none'}"
        )

    @property
    def used(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (*self.layout.required, *self.numbers.values())

    def read(self, row: Row) -> Row:
        """Return the container's columns of one row, or raise with what is wrong in it."""
        missing = [name for name in self.used if row.get(name) is None]
        if missing:
            raise ValueError(
                f"expected the columns {', '.join(self.used)}, got no {', '.join(missing)}"
            )
        late = [name for name in self.layout.numbers_in(row).values() if name not in self.used]
        if late:
            raise ValueError(
                f"a column must be in every row or in none, got {', '.join(late)} that the first"
                " row does not have"
            )
        numbers = {name: _numbers(row[given], given) for name, given in self.numbers.items()}
        if "weight" in numbers:
            check_nonnegative(weight=numbers["weight"])
        return self.layout.parse(row) | numbers


# UltraFeedback and the data sets made from it say it the other way round.
_OTHER_NAMES = {"chosen_score": ("score_chosen",), "rejected_score": ("score_rejected",)}


def _number(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def _numbers(value: Any, name: str) -> Any:
    if name == "sample_weight":
        return [_number(each, f"{name}[{i}]") for i, each in enumerate(_list(value, name))]
    return _number(value, name)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a list with at least one entry, got {_shown(value)}")
    return value


def _pair(row: Row) -> Row:
    prompt, chosen, rejected = (
        _value(row[name], name) for name in ("prompt", "chosen", "rejected")
    )
    if isinstance(prompt, str) and _is_chat(chosen) and _is_chat(rejected):
        if all(message["role"] == "assistant" for message in (*chosen, *rejected)):
            prompt = [{"role": "user", "content": prompt}]
        else:
            whole = _chat_dialogues(chosen, rejected)
            if all(message["content"] != prompt for message in whole["prompt"]):
                raise ValueError(
                    f"the prompt must be a message of both dialogues, got {_shown(prompt)}, which"
                    " is in none"
                )
            return whole
    return {
        "prompt": prompt,
        "chosen": _completion(prompt, chosen, "chosen"),
        "rejected": _completion(prompt, rejected, "rejected"),
    }


def _dialogues(row: Row) -> Row:
    chosen, rejected = (_value(row[name], name) for name in ("chosen", "rejected"))
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _text_dialogues(chosen, rejected)
    if _is_chat(chosen) and _is_chat(rejected):
        return _chat_dialogues(chosen, rejected)
    raise ValueError(
        "without a prompt, chosen and rejected must both be text or both chat messages"
    )


def _labelled(row: Row) -> Row:
    prompt, label = _value(row["prompt"], "prompt"), row["label"]
    if not isinstance(label, bool | int | float):
        raise ValueError(f"label must be true, false or a probability, got {label!r}")
    return {
        "prompt": prompt,
        "completion": _completion(prompt, row["completion"], "completion"),
        "label": label,
    }


def _many(prompt: Any, value: Any, name: str) -> list[Any]:
    return [_completion(prompt, each, f"{name}[{i}]") for i, each in enumerate(_list(value, name))]


def _scored(row: Row) -> Row:
    prompt = _value(row["prompt"], "prompt")
    completions = _many(prompt, row["completions"], "completions")
    scores = [
        _number(score, f"scores[{i}]") for i, score in enumerate(_list(row["scores"], "scores"))
    ]
    if len(completions) != len(scores):
        raise ValueError(
            f"completions and scores must be of one length, got {len(completions)} and"
            f" {len(scores)}"
        )
    return {"prompt": prompt, "completions": completions, "scores": scores}


def _anchored(row: Row) -> Row:
    prompt = _value(row["prompt"], "prompt")
    rejected = _completion(prompt, row["rejected"], "rejected")
    return {
        "prompt": prompt,
        "rejected": rejected,
        "samples": _many(prompt, row["samples"], "samples"),
    }


_PAIR_NUMBERS = ("prob", "weight", "chosen_score", "rejected_score", "old_chosen", "old_rejected")
# The first whose columns are all there is taken: a prompt says more than none.
_LAYOUTS = (
    _Layout(TextComparisons, ("prompt", "chosen", "rejected"), _PAIR_NUMBERS, _pair),
    _Layout(TextComparisons, ("chosen", "rejected"), _PAIR_NUMBERS, _dialogues),
    _Layout(
        TextFeedback, ("prompt", "completion", "label"), ("weight", "density_ratio"), _labelled
    ),
    _Layout(TextRankings, ("prompt", "completions", "scores"), ("weight",), _scored),
    _Layout(
        TextNegatives,
        ("prompt", "rejected", "samples"),
        ("weight", "sample_weight"),
        _anchored,
    ),
)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _value(value: Any, name: str) -> Any:
    """Return text, chat messages or token ids as they are, or raise."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        if all(isinstance(item, Mapping) for item in value):
            return [_message(item, f"{name}[{i}]") for i, item in enumerate(value)]
        if all(
            isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value
        ):
            return value
    raise ValueError(
        f"{name} must be text, a list of chat messages or a list of token ids, got {_shown(value)}"
    )


def _message(message: Mapping[str, Any], name: str) -> Row:
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            raise ValueError(
                f"{name} must be a chat message with {key!r} in text, got {_shown(dict(message))}"
            )
    # A table has every key of any message, empty where a message has it not.
    return {key: value for key, value in message.items() if value is not None}


def _completion(prompt: Any, value: Any, name: str) -> Any:
    """Return a completion; of chat messages without the prompt's, which may stand in front."""
    completion = _value(value, name)
    if not _is_chat(completion):
        return completion
    if not _is_chat(prompt):
        raise ValueError(
            f"{name} in chat messages needs a prompt in chat messages, got {_shown(prompt)}"
        )
    repeats_the_prompt = completion[: len(prompt)] == prompt
    answer = completion[len(prompt) :] if repeats_the_prompt else completion
    roles = [message["role"] for message in answer]
    if not roles or any(role != "assistant" for role in roles):
        raise ValueError(
            f"{name} must hold turns of the assistant behind the prompt, got"
            f" {', '.join(map(repr, roles)) or 'nothing'}"
        )
    return answer


def _shared(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return the length of the common beginning."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def _chat_dialogues(chosen: list[Row], rejected: list[Row]) -> Row:
    shared = _shared(chosen[:-1], rejected[:-1])
    if shared == 0:
        raise UnsharedPrompt(
            "chosen and rejected must begin with the same messages, got dialogues that differ from"
            " the first on"
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
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _text_dialogues(chosen: str, rejected: str) -> Row:
    if (ASSISTANT in chosen) != (ASSISTANT in rejected):
        name = "rejected" if ASSISTANT in chosen else "chosen"
        raise UnsharedPrompt(
            f"chosen and rejected must share the prompt; {name} has no turn {ASSISTANT.strip()!r},"
            " the other has one"
        )
    if ASSISTANT not in chosen:
        beginning = re.match(r"(.*\S)?(?=\s)", chosen[: _shared(chosen, rejected)], re.DOTALL)
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
    prompt, first = _last_turn(chosen, "chosen")
    other, second = _last_turn(rejected, "rejected")
    if prompt != other:
        at = _shared(prompt, other)
        raise UnsharedPrompt(
            f"chosen and rejected must be the same dialogue up to the last {ASSISTANT.strip()!r};"
            f" they part at character {at + 1}: {_shown(prompt[at:])} and {_shown(other[at:])}"
        )
    return {"prompt": prompt, "chosen": first, "rejected": second}


def _last_turn(dialogue: str, name: str) -> tuple[str, str]:
    head, turn, answer = dialogue.rpartition(ASSISTANT)
    if HUMAN in answer:
        raise ValueError(
            f"{name} must end with a turn of the assistant, got {HUMAN.strip()!r} behind the last"
            f" {ASSISTANT.strip()!r}"
        )
    return head + turn, answer
