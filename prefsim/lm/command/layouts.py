"""Rows of columns made into text for training: which columns there may be, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prefsim.checks import check_nonnegative
from prefsim.checks.quoting import shown
from prefsim.lm.command.dialogues import chat_dialogues, text_dialogues
from prefsim.lm.command.messages import (
    Row,
    as_written,
    check_answer,
    is_chat,
    joined_to_prompt,
    with_system,
)
from prefsim.lm.data.comparisons import TextComparisons
from prefsim.lm.data.feedback import TextFeedback
from prefsim.lm.data.negatives import TextNegatives
from prefsim.lm.data.rankings import TextRankings

__all__ = ["Container", "RowReader"]

Container = TextComparisons | TextFeedback | TextRankings | TextNegatives

# The system message of a row, in a column of its own.
_SYSTEM = ("system", "system_prompt")


@dataclass(frozen=True)
class _Layout:
    """A kind of data: the columns of its text and of its numbers, and how a row's text is read."""

    container: type[Container]
    required: tuple[str, ...]
    numbers: tuple[str, ...]
    parse: Callable[[Row], Row]
    # Further columns of text, in every row or in none.
    texts: tuple[str, ...] = ()

    def further_in(self, row: Row) -> dict[str, str]:
        """Return the columns besides the required, by the container's name for each."""
        columns = {}
        for name in (*self.numbers, *self.texts):
            spellings = [name, *_OTHER_NAMES.get(name, ())]
            given = [spelling for spelling in spellings if row.get(spelling) is not None]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} are two names of one column, got both")
            if given:
                columns[name] = given[0]
        return columns


@dataclass(frozen=True)
class RowReader:
    """Reads the rows of a source in the layout of its first row, with the columns it has."""

    layout: _Layout
    further: Mapping[str, str]

    @classmethod
    def of(cls, row: Row) -> RowReader:
        """Return the reader for the rows of a source whose first is ``row``."""
        layout = _layout_of(row)
        return cls(layout, layout.further_in(row))

    @property
    def used(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (*self.layout.required, *self.further.values())

    def unused(self, row: Row) -> set[str]:
        """Return the columns of a row that are not read."""
        return set(row) - {*self.used, *_SYSTEM}

    def read(self, row: Row) -> Row:
        """Return the container's columns of one row, or raise with what is wrong in it."""
        missing = [name for name in self.used if row.get(name) is None]
        if missing:
            raise ValueError(
                f"expected the columns {', '.join(self.used)}, got no {', '.join(missing)}"
            )
        layout = _layout_of(row)
        if layout is not self.layout:
            raise ValueError(
                f"expected the columns {', '.join(self.used)}, as in the first row, got"
                f" {', '.join(layout.required)}"
            )
        late = [name for name in layout.further_in(row).values() if name not in self.used]
        if late:
            raise ValueError(
                f"a column must be in every row or in none, got {', '.join(late)} that the first"
                " row does not have"
            )
        _check_meaning(row, self.used)
        further = {
            name: as_written(row[given], given)
            if name in self.layout.texts
            else _numbers(row[given], given)
            for name, given in self.further.items()
        }
        if "weight" in further:
            check_nonnegative(weight=further["weight"])
        read = self.layout.parse(row) | further
        for name in _SYSTEM:
            if row.get(name):
                for asked in {"prompt", "rejected_prompt"} & set(read):
                    read[asked] = with_system(read[asked], _text(row[name], name))
        return read


# UltraFeedback and the data sets made from it say it the other way round.
_OTHER_NAMES = {"chosen_score": ("score_chosen",), "rejected_score": ("score_rejected",)}

# Columns that change what a row says to a model, and that no container has a place for.
_CHANGE_THE_MEANING = (
    *("tools", "functions", "documents", "chat_template", "chat_template_kwargs"),
    *("image", "images", "video", "videos", "audio", "audios"),
    *("history", "conversation", "conversations"),
    "label",
)
# A reference's log-probabilities, however a trainer spells them: ref_chosen_logps, reference_logps.
_OF_A_REFERENCE = re.compile(r"(?=.*ref)(?=.*log_?p)", re.IGNORECASE)


def _layout_of(row: Row) -> _Layout:
    here = {name for name, value in row.items() if value is not None}
    found = [layout for layout in _LAYOUTS if here >= set(layout.required)]
    if not found:
        wanted = "; ".join(", ".join(layout.required) for layout in _LAYOUTS)
        raise ValueError(f"the columns must be one of ({wanted}), got {_names(here) or 'none'}")
    for other in found[1:]:
        if other.container is not found[0].container:
            raise ValueError(
                "the columns must say what a row is, got those of two kinds:"
                f" {', '.join(found[0].required)} and {', '.join(other.required)}"
            )
    return found[0]


def _names(names: set[str]) -> str:
    """Return the names of columns in a readable length."""
    first = sorted(names)[:20]
    return ", ".join(name[:40] for name in first) + (", ..." if len(names) > 20 else "")


def _check_meaning(row: Row, used: tuple[str, ...]) -> None:
    """Raise where a column that is not read would make another row of this one."""
    if "prompt" in row and "prompt" not in used:
        raise ValueError(
            f"prompt must be text, a list of chat messages or a list of token ids, got"
            f" {shown(row['prompt'])}"
        )
    of_a_reference = sorted(name for name in row if _OF_A_REFERENCE.match(name))
    for name in (*_CHANGE_THE_MEANING, *of_a_reference):
        if name not in used and row.get(name) not in (None, "", "[]", [], {}):
            raise ValueError(
                f"{name} would change what the row says and cannot be read, got"
                f" {shown(row[name])}; take the column away if the rows are right without it"
            )
    messages = row.get("messages")
    if (
        messages
        and "messages" not in used
        and messages not in (row.get("chosen"), row.get("rejected"), row.get("prompt"))
    ):
        raise ValueError(
            "messages must be what prompt, chosen or rejected say where these are there too, got"
            f" {shown(messages)}"
        )


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} must be a finite number, got {shown(value)}") from error
    raise ValueError(f"{name} must be a number, got {shown(value)}")


def _numbers(value: Any, name: str) -> Any:
    if name == "sample_weight":
        return [_number(each, f"{name}[{i}]") for i, each in enumerate(_list(value, name))]
    return _number(value, name)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {shown(value)}")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a list with at least one entry, got {shown(value)}")
    return value


def _pair(row: Row) -> Row:
    prompt, chosen, rejected = (
        as_written(row[name], name) for name in ("prompt", "chosen", "rejected")
    )
    whole = (
        isinstance(prompt, str)
        and is_chat(chosen)
        and is_chat(rejected)
        and any(message["role"] != "assistant" for message in (*chosen, *rejected))
    )
    if whole:
        parts = chat_dialogues(chosen, rejected)
        if all(message["content"] != prompt for message in parts["prompt"]):
            raise ValueError(
                f"the prompt must be a message of both dialogues, got {shown(prompt)}, which is in"
                " none"
            )
        return parts
    prompt, completions = joined_to_prompt(prompt, {"chosen": chosen, "rejected": rejected})
    return {"prompt": prompt} | completions


def _dialogues(row: Row) -> Row:
    chosen, rejected = (as_written(row[name], name) for name in ("chosen", "rejected"))
    if isinstance(chosen, str) and isinstance(rejected, str):
        known = {"chosen", "rejected", *_PAIR_NUMBERS, *sum(_OTHER_NAMES.values(), ())}
        others = sorted(name for name in row if name not in known and row[name] is not None)
        return text_dialogues(chosen, rejected, others)
    if is_chat(chosen) and is_chat(rejected):
        return chat_dialogues(chosen, rejected)
    raise ValueError(
        "without a prompt, chosen and rejected must both be text or both chat messages"
    )


def _asked(value: Any, name: str) -> list[Row]:
    """Return messages that end with what is to be answered, or with a started answer."""
    messages = as_written(value, name)
    if not is_chat(messages):
        raise ValueError(f"{name} must be a list of chat messages, got {shown(value)}")
    return messages


def _pair_behind(name: str) -> Callable[[Row], Row]:
    def parse(row: Row) -> Row:
        chosen, rejected = (as_written(row[side], side) for side in ("chosen", "rejected"))
        messages = _asked(row[name], name)
        if messages in (chosen, rejected):
            return _dialogues(row | {name: None})
        if messages[-1]["role"] == "assistant":
            raise ValueError(
                f"{name} must end with what chosen and rejected answer, got a turn of the"
                f" assistant at the end of {name}"
            )
        prompt, completions = joined_to_prompt(messages, {"chosen": chosen, "rejected": rejected})
        return {"prompt": prompt} | completions

    return parse


def _preferred(row: Row) -> Row:
    """Return a row of OpenAI's layout of preferences."""
    asked = row["input"]
    if not isinstance(asked, Mapping) or not isinstance(asked.get("messages"), list):
        raise ValueError(f"input must be an object with messages, got {shown(asked)}")
    _check_meaning(dict(asked), ("messages",))
    prompt, completions = joined_to_prompt(
        _asked(asked["messages"], "input.messages"),
        {name: row[name] for name in ("preferred_output", "non_preferred_output")},
    )
    chosen, rejected = completions.values()
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _label(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float):
        raise ValueError(f"label must be true, false or a probability, got {shown(value)}")
    return _number(value, "label")


def _labelled(row: Row) -> Row:
    prompt, completions = joined_to_prompt(
        as_written(row["prompt"], "prompt"), {"completion": row["completion"]}
    )
    return {"prompt": prompt} | completions | {"label": _label(row["label"])}


def _labelled_dialogue(name: str, label: str) -> Callable[[Row], Row]:
    def parse(row: Row) -> Row:
        messages = _asked(row[name], name)
        asked = max(
            (i for i, message in enumerate(messages) if message["role"] != "assistant"), default=-1
        )
        if asked < 0:
            raise ValueError(f"{name} must hold what is answered, got turns of the assistant alone")
        check_answer(messages[asked + 1 :], name)
        return {
            "prompt": messages[: asked + 1],
            "completion": messages[asked + 1 :],
            "label": _label(row[label]),
        }

    return parse


def _many(value: Any, name: str) -> Row:
    """Return the entries of a list by their places."""
    return {f"{name}[{i}]": each for i, each in enumerate(_list(value, name))}


def _scored(row: Row) -> Row:
    prompt, completions = joined_to_prompt(
        as_written(row["prompt"], "prompt"), _many(row["completions"], "completions")
    )
    scores = [
        _number(score, f"scores[{i}]") for i, score in enumerate(_list(row["scores"], "scores"))
    ]
    if len(completions) != len(scores):
        raise ValueError(
            f"completions and scores must be of one length, got {len(completions)} and"
            f" {len(scores)}"
        )
    return {"prompt": prompt, "completions": [*completions.values()], "scores": scores}


def _anchored(row: Row) -> Row:
    prompt, completions = joined_to_prompt(
        as_written(row["prompt"], "prompt"),
        {"rejected": row["rejected"]} | _many(row["samples"], "samples"),
    )
    rejected, *samples = completions.values()
    return {"prompt": prompt, "rejected": rejected, "samples": samples}


_PAIR_NUMBERS = ("prob", "weight", "chosen_score", "rejected_score", "old_chosen", "old_rejected")


def _pairs(*required: str, parse: Callable[[Row], Row], texts: tuple[str, ...] = ()) -> _Layout:
    return _Layout(TextComparisons, required, _PAIR_NUMBERS, parse, texts)


def _judged(*required: str, parse: Callable[[Row], Row], texts: tuple[str, ...] = ()) -> _Layout:
    return _Layout(TextFeedback, required, ("weight", "density_ratio"), parse, texts)


# The first whose columns are all there is taken: a prompt says more than none.
_LAYOUTS = (
    _pairs("prompt", "chosen", "rejected", parse=_pair, texts=("rejected_prompt",)),
    _pairs("input", "preferred_output", "non_preferred_output", parse=_preferred),
    _pairs("conversations", "chosen", "rejected", parse=_pair_behind("conversations")),
    _pairs("messages", "chosen", "rejected", parse=_pair_behind("messages")),
    _pairs("chosen", "rejected", parse=_dialogues),
    _judged("prompt", "completion", "label", parse=_labelled, texts=("mismatched",)),
    _judged("messages", "label", parse=_labelled_dialogue("messages", "label")),
    _judged("messages", "kto_tag", parse=_labelled_dialogue("messages", "kto_tag")),
    _judged("conversations", "label", parse=_labelled_dialogue("conversations", "label")),
    _judged("conversations", "kto_tag", parse=_labelled_dialogue("conversations", "kto_tag")),
    _Layout(TextRankings, ("prompt", "completions", "scores"), ("weight",), _scored),
    _Layout(
        TextNegatives,
        ("prompt", "rejected", "samples"),
        ("weight", "sample_weight"),
        _anchored,
    ),
)
