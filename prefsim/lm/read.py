"""Text for training, out of files and from the hub: the columns say what the rows hold, and a bad row is named by file and line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefsim.data.formats import read_json_lines
from prefsim.lm.data import CompletionLists, Completions, PreferencePairs

__all__ = ["TextData", "UnsharedPrompt", "read_text_data"]

Row = dict[str, Any]
Container = PreferencePairs | Completions | CompletionLists

ASSISTANT, HUMAN = "\n\nAssistant:", "\n\nHuman:"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
_FILES = ".jsonl, .jsonl.gz or .parquet"


class UnsharedPrompt(ValueError):
    """Two dialogues that are compared do not answer one prompt."""


@dataclass(frozen=True)
class TextData:
    """Rows for training and where each came from.

    Attributes
    ----------
    data
        The container that :func:`prefsim.solvers.fit` takes.
    source
        The file or hub id.
    unit
        What ``numbers`` count: ``"line"`` of a file of text, ``"row"`` of a table.
    numbers
        The line or row of each row of ``data``, from 1.
    unused
        Columns that no container has a use for.
    skipped
        One message for each row that was left out because the user asked for it.
    """

    data: Container
    source: str
    unit: str
    numbers: tuple[int, ...]
    unused: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, row: int) -> str:
        """Return where a row of ``data`` came from, such as ``"pairs.jsonl, line 7"``."""
        return f"{self.source}, {self.unit} {self.numbers[row]}"


def read_text_data(source: str | os.PathLike[str], *, split: str | None = None, skip_unshared: bool = False) -> TextData:
    r"""Read a data set of text, chat messages or token ids.

    The columns are those of the ecosystem:

    - ``prompt, chosen, rejected``: compared completions. With a prompt in chat messages the completions are the assistant's text or
      messages, with or without the prompt's messages in front. With a prompt in text and completions in messages, the prompt is a user's
      message.
    - ``chosen, rejected``: two whole dialogues. Chat messages: the prompt is what they begin with in common, and what is left must be
      turns of the assistant. Text with turns ``"\n\nHuman: … \n\nAssistant: …"``: the prompt goes up to the last ``Assistant:``
      and must be the same in both. Other text: the prompt is the longest common beginning that ends before white space.
    - ``prompt, completion, label``: completions with the label ``true`` (desirable) or ``false``.
    - ``prompt, completions, scores``: lists of completions with a number for each, higher is better.

    Compared pairs may carry ``prob``, ``weight``, ``chosen_score`` and ``rejected_score`` (also found as ``score_chosen`` and
    ``score_rejected``), ``old_chosen`` and ``old_rejected``: in every row or in none. Other columns are named in ``unused``.

    Parameters
    ----------
    source
        A file ``.jsonl``, ``.jsonl.gz`` or ``.parquet``; a folder that ``datasets.load_dataset`` reads; or a hub id, with the name of a
        configuration behind a colon where there are several.
    split
        Split of a folder or hub id, ``"train"`` unless given; anything that ``datasets`` takes, such as ``"test[:100]"``.
    skip_unshared
        Whether to leave out pairs of dialogues that do not answer one prompt, each with a message in ``skipped``, rather than to refuse
        the file.

    Returns
    -------
    TextData
        Of the whole file: nothing is returned of a file with an error in it.

    Raises
    ------
    ValueError
        If the source cannot be read, is empty, its columns are none of the above, or a row is invalid; the row is named.

    Examples
    --------
    >>> from pathlib import Path
    >>> pair = r'{"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: No."}'
    >>> _ = Path("pairs.jsonl").write_text(pair)
    >>> found = read_text_data("pairs.jsonl")
    >>> found.data.prompt[0], found.data.chosen[0], found.place(0)
    ('\n\nHuman: Hi\n\nAssistant:', ' Hello!', 'pairs.jsonl, line 1')
    """
    name, unit, rows = _open(source, split)
    columns: dict[str, list[Any]] = {}
    numbers: list[int] = []
    skipped: list[str] = []
    unused: set[str] = set()
    layout: _Layout | None = None
    for number, row in rows:
        try:
            if layout is None:
                layout = _layout(row)
                columns = {column: [] for column in layout.columns}
            found = layout.read(row)
        except UnsharedPrompt as error:
            if not skip_unshared:
                raise ValueError(f"{name}, {unit} {number}: {error}") from error
            skipped.append(f"{name}, {unit} {number}: {error}")
            continue
        except ValueError as error:
            raise ValueError(f"{name}, {unit} {number}: {error}") from error
        for column, values in columns.items():
            values.append(found[column])
        numbers.append(number)
        unused.update(layout.unused(row))
    if layout is None or not numbers:
        raise ValueError(f"{name}: expected at least one {unit}, got " + (f"{len(skipped)}, all skipped" if skipped else "none"))
    data = _build(layout.container, columns, lambda i: f"{name}, {unit} {numbers[i]}")
    return TextData(data, name, unit, tuple(numbers), tuple(sorted(unused)), tuple(skipped))


def _build(container: type[Container], columns: Mapping[str, list[Any]], place: Callable[[int], str]) -> Container:
    try:
        return container(**columns)
    except ValueError as error:
        # Only now row by row: the first that cannot stand alone is the one to name.
        for i in range(len(columns["prompt"])):
            try:
                container(**{column: [values[i]] for column, values in columns.items()})
            except ValueError as row_error:
                raise ValueError(f"{place(i)}: {row_error}") from error
        raise


# Sources


def _open(source: str | os.PathLike[str], split: str | None) -> tuple[str, str, Iterator[tuple[int, Row]]]:
    """Return the source's name, what its rows are counted in, and the numbered rows."""
    name = os.fspath(source)
    path = Path(name).expanduser()
    lines, table = name.endswith((".jsonl", ".jsonl.gz")), name.endswith(".parquet")
    if path.is_dir():
        return name, "row", _dataset_rows(str(path), name, split)
    if path.exists() or lines or table:
        if not (lines or table):
            raise ValueError(f"{name}: the name of a data file must end in {_FILES}")
        if not path.exists():
            raise ValueError(f"{name}: there is no such file")
        if split is not None:
            raise ValueError(f"{name}: a split is for folders and hub ids, and a file is read whole; got split {split!r}")
        return (name, "line", read_json_lines(path)) if lines else (name, "row", _parquet_rows(path, name))
    if not _HUB_ID.fullmatch(name):
        raise ValueError(f"{name}: there is no such file or folder, and it is no hub id")
    return name, "row", _dataset_rows(name, name, split)


def _parquet_rows(path: Path, name: str) -> Iterator[tuple[int, Row]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise ValueError(f"{name}: parquet files need pyarrow, which `pip install 'prefsim[lm]'` brings") from error
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, ArrowException) as error:
        raise ValueError(f"{name}: cannot be read after row {number} ({error})") from error


def _dataset_rows(path: str, name: str, split: str | None) -> Iterator[tuple[int, Row]]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ValueError(f"{name}: folders and hub ids need datasets, which `pip install 'prefsim[lm]'` brings") from error
    identity, _, configuration = (path, "", "") if Path(path).is_dir() else path.partition(":")
    wanted = "train" if split is None else split
    try:
        table = datasets.load_dataset(identity, configuration or None, split=wanted)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        kind = "a folder of data" if Path(path).is_dir() else "a file that is here nor a hub data set in reach"
        raise ValueError(f"{name}: split {wanted!r} of {kind} cannot be loaded ({error})") from error
    yield from enumerate(table, start=1)


# Rows


@dataclass(frozen=True)
class _Layout:
    """Which columns a file has and how a row of it is read: the optional columns are those of the first row."""

    container: type[Container]
    required: tuple[str, ...]
    optional: Mapping[str, str]
    parse: Callable[[Row], Row]

    @property
    def columns(self) -> tuple[str, ...]:
        return ("prompt", *(name for name in self.required if name != "prompt"), *self.optional)

    def read(self, row: Row) -> Row:
        missing = [name for name in (*self.required, *self.optional.values()) if row.get(name) is None]
        if missing:
            raise ValueError(f"expected the columns {', '.join((*self.required, *self.optional.values()))}, got no {', '.join(missing)}")
        if self.container is PreferencePairs:
            late = [name for name in _optional(row).values() if name not in self.optional.values()]
            if late:
                raise ValueError(f"a column must be in every row or in none, got {', '.join(late)} that the first row does not have")
        return self.parse(row) | {name: _number(row[given], given) for name, given in self.optional.items()}

    def unused(self, row: Row) -> set[str]:
        return set(row) - set(self.required) - set(self.optional.values())


_OPTIONAL = {
    "prob": ("prob",),
    "weight": ("weight",),
    "chosen_score": ("chosen_score", "score_chosen"),
    "rejected_score": ("rejected_score", "score_rejected"),
    "old_chosen": ("old_chosen",),
    "old_rejected": ("old_rejected",),
}


def _optional(row: Row) -> dict[str, str]:
    """Return the optional columns of a row of compared completions, by the container's name for each."""
    found = {}
    for name, spellings in _OPTIONAL.items():
        given = [spelling for spelling in spellings if row.get(spelling) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are two names of one column, got both")
        if given:
            found[name] = given[0]
    return found


def _layout(row: Row) -> _Layout:
    here = {name for name, value in row.items() if value is not None}
    for container, required, parse in _LAYOUTS:
        if here >= set(required):
            return _Layout(container, required, _optional(row) if container is PreferencePairs else {}, parse)
    wanted = "; ".join(", ".join(required) for _, required, _ in _LAYOUTS)
    raise ValueError(f"the columns must be one of ({wanted}), got {', '.join(sorted(here)) or 'none'}")


def _number(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def _pair(row: Row) -> Row:
    prompt, chosen, rejected = (_value(row[name], name) for name in ("prompt", "chosen", "rejected"))
    if isinstance(prompt, str) and _is_chat(chosen) and _is_chat(rejected):
        if not any(message["role"] != "assistant" for message in (*chosen, *rejected)):
            prompt = [{"role": "user", "content": prompt}]
        else:
            whole = _chat_dialogues(chosen, rejected)
            if all(message["content"] != prompt for message in whole["prompt"]):
                raise ValueError(f"the prompt must be a message of both dialogues, got {_shown(prompt)}, which is in none")
            return whole
    return {"prompt": prompt, "chosen": _completion(prompt, chosen, "chosen"), "rejected": _completion(prompt, rejected, "rejected")}


def _dialogues(row: Row) -> Row:
    chosen, rejected = (_value(row[name], name) for name in ("chosen", "rejected"))
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _text_dialogues(chosen, rejected)
    if _is_chat(chosen) and _is_chat(rejected):
        return _chat_dialogues(chosen, rejected)
    raise ValueError("without a prompt, chosen and rejected must both be text or both chat messages")


def _labelled(row: Row) -> Row:
    prompt = _value(row["prompt"], "prompt")
    if not isinstance(row["label"], bool):
        raise ValueError(f"label must be true or false, got {row['label']!r}")
    return {"prompt": prompt, "completion": _completion(prompt, row["completion"], "completion"), "label": row["label"]}


def _scored(row: Row) -> Row:
    prompt = _value(row["prompt"], "prompt")
    for name in ("completions", "scores"):
        if not isinstance(row[name], list) or not row[name]:
            raise ValueError(f"{name} must be a list with an entry for each completion, got {_shown(row[name])}")
    if len(row["completions"]) != len(row["scores"]):
        raise ValueError(f"completions and scores must be of one length, got {len(row['completions'])} and {len(row['scores'])}")
    completions = [_completion(prompt, completion, f"completions[{i}]") for i, completion in enumerate(row["completions"])]
    scores = [_number(score, f"scores[{i}]") for i, score in enumerate(row["scores"])]
    return {"prompt": prompt, "completions": completions, "scores": scores}


_LAYOUTS: tuple[tuple[type[Container], tuple[str, ...], Callable[[Row], Row]], ...] = (
    (PreferencePairs, ("prompt", "chosen", "rejected"), _pair),
    (PreferencePairs, ("chosen", "rejected"), _dialogues),
    (Completions, ("prompt", "completion", "label"), _labelled),
    (CompletionLists, ("prompt", "completions", "scores"), _scored),
)


# Texts


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
        if all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value):
            return value
    raise ValueError(f"{name} must be text, a list of chat messages or a list of token ids, got {_shown(value)}")


def _message(message: Mapping[str, Any], name: str) -> Row:
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            raise ValueError(f"{name} must be a chat message with {key!r} in text, got {_shown(dict(message))}")
    # A table has every key of any message, empty where a message has it not.
    return {key: value for key, value in message.items() if value is not None}


def _completion(prompt: Any, value: Any, name: str) -> Any:
    """Return a completion; of chat messages without the prompt's, which may stand in front."""
    found = _value(value, name)
    if not _is_chat(found):
        return found
    if not _is_chat(prompt):
        raise ValueError(f"{name} in chat messages needs a prompt in chat messages, got {_shown(prompt)}")
    answer = found[len(prompt) :] if found[: len(prompt)] == prompt else found
    roles = [message["role"] for message in answer]
    if not roles or any(role != "assistant" for role in roles):
        raise ValueError(f"{name} must hold turns of the assistant behind the prompt, got {', '.join(map(repr, roles)) or 'nothing'}")
    return answer


def _shared(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return the length of the common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _chat_dialogues(chosen: list[Row], rejected: list[Row]) -> Row:
    shared = _shared(chosen[:-1], rejected[:-1])
    if shared == 0:
        raise UnsharedPrompt("chosen and rejected must begin with the same messages, got dialogues that differ from the first on")
    for name, dialogue in (("chosen", chosen), ("rejected", rejected)):
        other = next((i for i in range(shared, len(dialogue)) if dialogue[i]["role"] != "assistant"), None)
        if other is not None:
            raise UnsharedPrompt(
                f"chosen and rejected must differ in the assistant's last turns alone; they part at message {shared + 1}, "
                f"and message {other + 1} of {name} is by {dialogue[other]['role']!r}"
            )
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _text_dialogues(chosen: str, rejected: str) -> Row:
    if (ASSISTANT in chosen) != (ASSISTANT in rejected):
        name = "rejected" if ASSISTANT in chosen else "chosen"
        raise UnsharedPrompt(f"chosen and rejected must share the prompt; {name} has no turn {ASSISTANT.strip()!r}, the other has one")
    if ASSISTANT not in chosen:
        beginning = re.match(r"(.*\S)?(?=\s)", chosen[: _shared(chosen, rejected)], re.DOTALL)
        if beginning is None or not beginning[0]:
            raise UnsharedPrompt("chosen and rejected must begin with the same words, which are the prompt; got none in common")
        return {"prompt": beginning[0], "chosen": chosen[len(beginning[0]) :], "rejected": rejected[len(beginning[0]) :]}
    (prompt, first), (other, second) = _last_turn(chosen, "chosen"), _last_turn(rejected, "rejected")
    if prompt != other:
        at = _shared(prompt, other)
        raise UnsharedPrompt(
            "chosen and rejected must be the same dialogue up to the last "
            f"{ASSISTANT.strip()!r}; they part at character {at + 1}: {_shown(prompt[at:])} and {_shown(other[at:])}"
        )
    return {"prompt": prompt, "chosen": first, "rejected": second}


def _last_turn(dialogue: str, name: str) -> tuple[str, str]:
    head, turn, answer = dialogue.rpartition(ASSISTANT)
    if HUMAN in answer:
        raise ValueError(f"{name} must end with a turn of the assistant, got {HUMAN.strip()!r} behind the last {ASSISTANT.strip()!r}")
    return head + turn, answer
