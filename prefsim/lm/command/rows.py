"""A row's text and numbers read in one layout: pairs, judgements, demonstrations, lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from prefsim.checks.quoting import shown
from prefsim.lm.command.dialogues import chat_dialogues, text_dialogues
from prefsim.lm.command.messages import (
    Row,
    as_written,
    check_answer,
    is_chat,
    joined_to_prompt,
)
from prefsim.lm.data.demonstrations import answered_turns

__all__ = [
    "OTHER_NAMES",
    "PAIR_NUMBERS",
    "anchored",
    "check_meaning",
    "classed",
    "completed",
    "demonstrated_in",
    "dialogues",
    "graded",
    "labelled",
    "labelled_dialogue",
    "numbers",
    "pair",
    "pair_behind",
    "preferred",
    "scored",
    "text",
]

PAIR_NUMBERS = (
    *("prob", "weight", "margin", "chosen_score", "rejected_score"),
    *("old_chosen", "old_rejected"),
)
# UltraFeedback and the data sets made from it say it the other way round.
OTHER_NAMES = {"chosen_score": ("score_chosen",), "rejected_score": ("score_rejected",)}

# Columns that change what a row says to a model, and that no container has a place for.
_CHANGE_THE_MEANING = (
    *("tools", "functions", "documents", "chat_template", "chat_template_kwargs"),
    *("image", "images", "video", "videos", "audio", "audios"),
    *("history", "conversation", "conversations"),
    "label",
)
# A reference's log-probabilities, however a trainer spells them: ref_chosen_logps, reference_logps.
_OF_A_REFERENCE = re.compile(r"(?=.*ref)(?=.*log_?p)", re.IGNORECASE)


def check_meaning(row: Row, used: tuple[str, ...]) -> None:
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


def _integer(value: Any, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{name} must be an integer, got {shown(value)}")


def numbers(value: Any, name: str) -> Any:
    """Return the number, or the list of numbers, of a column, or raise."""
    if name == "sample_weight":
        return [_number(each, f"{name}[{i}]") for i, each in enumerate(_list(value, name))]
    return _number(value, name)


def text(value: Any, name: str) -> str:
    """Return a value that is text, or raise."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {shown(value)}")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a list with at least one entry, got {shown(value)}")
    return value


def pair(row: Row) -> Row:
    """Return a prompt and two completions, or whole dialogues beside their prompt."""
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


def dialogues(row: Row) -> Row:
    """Return two whole dialogues taken apart."""
    chosen, rejected = (as_written(row[name], name) for name in ("chosen", "rejected"))
    if isinstance(chosen, str) and isinstance(rejected, str):
        known = {"chosen", "rejected", *PAIR_NUMBERS, *sum(OTHER_NAMES.values(), ())}
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


def pair_behind(name: str) -> Callable[[Row], Row]:
    """Return the parser of two completions of the messages in a column."""

    def parse(row: Row) -> Row:
        chosen, rejected = (as_written(row[side], side) for side in ("chosen", "rejected"))
        messages = _asked(row[name], name)
        if messages in (chosen, rejected):
            return dialogues(row | {name: None})
        if messages[-1]["role"] == "assistant":
            raise ValueError(
                f"{name} must end with what chosen and rejected answer, got a turn of the"
                f" assistant at the end of {name}"
            )
        prompt, completions = joined_to_prompt(messages, {"chosen": chosen, "rejected": rejected})
        return {"prompt": prompt} | completions

    return parse


def preferred(row: Row) -> Row:
    """Return a row of OpenAI's layout of preferences."""
    asked = row["input"]
    if not isinstance(asked, Mapping) or not isinstance(asked.get("messages"), list):
        raise ValueError(f"input must be an object with messages, got {shown(asked)}")
    check_meaning(dict(asked), ("messages",))
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


def labelled(row: Row) -> Row:
    """Return a prompt and a completion with its label."""
    return completed(row) | {"label": _label(row["label"])}


def labelled_dialogue(name: str, label: str) -> Callable[[Row], Row]:
    """Return the parser of a dialogue whose last turn is judged."""

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


def completed(row: Row) -> Row:
    """Return a prompt and a completion."""
    prompt, completions = joined_to_prompt(
        as_written(row["prompt"], "prompt"), {"completion": row["completion"]}
    )
    return {"prompt": prompt} | completions


def demonstrated_in(name: str) -> Callable[[Row], list[Row]]:
    """Return the parser of a dialogue of which every turn of the assistant is an example."""

    def parse(row: Row) -> list[Row]:
        messages = _asked(row[name], name)
        prompt = row.get("prompt")
        if prompt is not None and all(message["content"] != prompt for message in messages):
            raise ValueError(
                f"the prompt must be a message of {name}, got {shown(prompt)}, which is none"
            )
        return [
            {"prompt": asked, "completion": answer} for asked, answer in answered_turns(messages)
        ]

    return parse


def _many(value: Any, name: str) -> Row:
    """Return the entries of a list by their places."""
    return {f"{name}[{i}]": each for i, each in enumerate(_list(value, name))}


def scored(row: Row) -> Row:
    """Return a prompt and completions with their scores."""
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


def classed(row: Row) -> Row:
    """Return a prompt and a completion with its class."""
    return completed(row) | {"label": _integer(row["class"], "class")}


def graded(row: Row) -> Row:
    """Return a prompt and graded versions of a completion with their degrees."""
    prompt, versions = joined_to_prompt(
        as_written(row["prompt"], "prompt"), _many(row["versions"], "versions")
    )
    degree = [_integer(each, name) for name, each in _many(row["degree"], "degree").items()]
    if len(versions) != len(degree):
        raise ValueError(
            f"versions and degree must be of one length, got {len(versions)} and {len(degree)}"
        )
    return {"prompt": prompt, "versions": [*versions.values()], "degree": degree}


def anchored(row: Row) -> Row:
    """Return a prompt, a rejected completion and samples."""
    prompt, completions = joined_to_prompt(
        as_written(row["prompt"], "prompt"),
        {"rejected": row["rejected"]} | _many(row["samples"], "samples"),
    )
    rejected, *samples = completions.values()
    return {"prompt": prompt, "rejected": rejected, "samples": samples}
