"""Data sets as JSON lines, in and out: one row a line, in the ecosystem's columns."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from prefsim.checks import check_finite
from prefsim.checks.quoting import shown
from prefsim.data.comparisons import Comparisons
from prefsim.data.feedback import Feedback
from prefsim.data.json_lines import open_text, parse_object, read_json_array, reading
from prefsim.data.rankings import Rankings
from prefsim.data.segments import Segments

Container = Comparisons | Feedback | Rankings | Segments

CONTAINERS: tuple[type, ...] = (Comparisons, Feedback, Rankings, Segments)

__all__ = ["atomic_path", "read_jsonl", "write_jsonl"]

# What the entries of a column are; all others are numbers.
_INTEGERS = (
    "prompt",
    "chosen",
    "rejected",
    "completion",
    "completions",
    "mismatched",
    "states",
    "actions",
)
_BOOLEANS = ("mask",)
# Lists in lists in a row; all others are single entries.
_DEPTHS = {"completions": 1, "scores": 1, "states": 2, "actions": 2, "mask": 2}
# Read and written at once, in bytes and rows: enough that Python's loops are between blocks, and
# little beside the arrays.
_BLOCK_BYTES, _BLOCK_ROWS = 2**22, 2**16
# Where in an array something was wrong, which says nothing of the file.
_INSIDE = re.compile(r" (at|in) (index|row) (\d+|\(.*\))$")


def _columns(container: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(container))


def _required(container: type) -> set[str]:
    """Return the columns without which no container is made."""
    parameters = inspect.signature(container).parameters
    return {
        name for name in _columns(container) if parameters[name].default is inspect.Parameter.empty
    }


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and move it into place at the end.

    On an error nothing is left behind.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; a result is as readable as any file the user makes.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_jsonl(data: Container, path: str | os.PathLike[str]) -> None:
    """Write a data set as JSON lines (gzip-compressed where the name ends in ``.gz``), atomically.

    Raises
    ------
    ValueError
        If the data carry batch axes: a file holds one data set; or a number is infinite.
    """
    columns = {
        name: np.asarray(getattr(data, name))
        for name in _columns(type(data))
        if getattr(data, name) is not None
    }
    n = len(data)
    for name, column in columns.items():
        if column.shape[:1] != (n,):
            raise ValueError(
                f"a file holds one data set of n = {n} rows, but {name} has shape {column.shape}"
            )
        check_finite(column, name)  # JSON has no other numbers
    line = "{" + ", ".join(f"{json.dumps(name)}: %s" for name in columns) + "}\n"
    with (
        atomic_path(path) as temporary,
        open_text(temporary, "w", compressed=str(path).endswith(".gz")) as stream,
    ):
        for start in range(0, n, _BLOCK_ROWS):
            written = (_written(column[start : start + _BLOCK_ROWS]) for column in columns.values())
            stream.write("".join(map(line.__mod__, zip(*written, strict=True))))


def _written(column: np.ndarray) -> list[str]:
    """Return the entries of a column as JSON."""
    if column.ndim > 1:
        return [json.dumps(entry) for entry in column.tolist()]
    # All at once: an entry of its own costs ten times what it is.
    return json.dumps(column.tolist())[1:-1].split(", ")


def read_jsonl(path: str | os.PathLike[str]) -> Container:
    """Read a data set of integer responses.

    Its columns say whether it holds comparisons, feedback, rankings or segments. A file whose name
    ends in ``.json`` may hold one array of rows instead of one row a line.

    Raises
    ------
    ValueError
        If the file cannot be read, is empty, a line is no JSON object or differs in columns from
        the first, or a value is invalid: integers are integers, numbers are no text, and lists are
        as long as those of the first row.
    """
    name = os.fspath(path)
    table: _Table | None = None
    for block in _blocks(path):
        if table is None:
            table = _Table.of(block.row(0), block.place(0))
        table.add(block)
    if table is None:
        raise ValueError(f"{name}: expected at least one line, got an empty file")
    return table.container_of_rows(name)


class _Block:
    """Some rows of a file: lines that are not blank, or objects that have been read already."""

    def __init__(self, name: str, unit: str, numbers: Sequence[int], rows: list[Any]) -> None:
        self.name, self.unit, self.numbers, self.rows = name, unit, numbers, rows

    def place(self, i: int) -> str:
        return f"{self.name}, {self.unit} {self.numbers[i]}"

    def row(self, i: int) -> dict[str, Any]:
        row = self.rows[i]
        return parse_object(row, self.place(i)) if isinstance(row, str) else row

    def parsed(self, n_columns: int) -> list[dict[str, Any]] | None:
        """Return all rows by one call of the parser, or None where that could miss an error.

        Joined lines are an array of as many objects where each begins and ends one and none holds
        another. A key that stands twice shows as a colon too many.
        """
        lines = self.rows
        if not isinstance(lines[0], str):
            return lines
        text = ",".join(lines)
        n = len(lines)
        braces = text.count("{") == text.count("}") == n
        if not braces or text.count(":") != n_columns * n or "\\" in text:
            return None
        if not all(line[0] == "{" and line.rstrip()[-1] == "}" for line in lines):
            return None
        try:
            rows: list[dict[str, Any]] = json.loads(f"[{text}]")
        except (ValueError, RecursionError):
            return None
        return rows


def _blocks(path: str | os.PathLike[str]) -> Iterator[_Block]:
    name = os.fspath(path)
    if is_json_array(path):
        numbered = list(read_json_array(path))
        if numbered:
            yield _Block(name, "row", [i for i, _ in numbered], [row for _, row in numbered])
        return
    with reading(path) as place:
        while lines := place.stream.readlines(_BLOCK_BYTES):
            first = place.number + 1
            place.number += len(lines)
            numbers: Sequence[int] = range(first, place.number + 1)
            if not all(map(str.strip, lines)):
                kept = [i for i, line in enumerate(lines) if line.strip()]
                lines, numbers = [lines[i] for i in kept], [numbers[i] for i in kept]
            if lines:
                yield _Block(name, "line", numbers, lines)


class _Table:
    """The columns of a file as they grow, in the layout of its first row."""

    def __init__(
        self, container: type, keys: list[str], shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self.container, self.keys, self.shapes = container, keys, shapes
        self.parts: dict[str, list[np.ndarray]] = {key: [] for key in keys}
        self.places: list[tuple[int, _Block]] = []
        self.n = 0

    @classmethod
    def of(cls, row: dict[str, Any], where: str) -> _Table:
        """Return the table whose first row this is, or raise."""
        keys = set(row)
        for container in CONTAINERS:
            columns = _columns(container)
            if _required(container) <= keys <= set(columns):
                break
        else:
            wanted = "; ".join(", ".join(_columns(c)) for c in CONTAINERS)
            raise ValueError(f"{where}: columns must be one of ({wanted}), got {_names(keys)}")
        ordered = [key for key in columns if key in keys]
        try:
            shapes = {key: _entry(row[key], key).shape for key in ordered}
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return cls(container, ordered, shapes)

    def add(self, block: _Block) -> None:
        """Add the rows of a block, or raise naming the first that does not fit."""
        rows = block.parsed(len(self.keys))
        arrays = None if rows is None else self._arrays(rows)
        if arrays is None:
            # Now row by row, to name the first that is wrong, or to find that none is.
            entries = [self._checked(block.row(i), block.place(i)) for i in range(len(block.rows))]
            arrays = {key: np.stack([entry[key] for entry in entries]) for key in self.keys}
        for key, array in arrays.items():
            self.parts[key].append(array)
        block.rows = []
        self.places.append((self.n, block))
        self.n += len(block.numbers)

    def _arrays(self, rows: list[dict[str, Any]]) -> dict[str, np.ndarray] | None:
        """Return the columns of rows, or None where a row does not fit."""
        arrays = {}
        if any(len(row) != len(self.keys) for row in rows):
            return None
        try:
            for key in self.keys:
                array = _column([row[key] for row in rows], key, self.shapes[key])
                if array is None:
                    return None
                arrays[key] = array
        except (KeyError, OverflowError):
            return None
        return arrays

    def _checked(self, row: dict[str, Any], where: str) -> dict[str, np.ndarray]:
        if set(row) != set(self.keys):
            raise ValueError(
                f"{where}: expected the columns {_names(self.keys)}, got {_names(row)}"
            )
        entries = {}
        for key in self.keys:
            try:
                entries[key] = _entry(row[key], key)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            if entries[key].shape != self.shapes[key]:
                raise ValueError(
                    f"{where}: {key} must have shape {self.shapes[key]}, that of the first row,"
                    f" got {entries[key].shape}"
                )
        return entries

    def container_of_rows(self, name: str) -> Container:
        """Return the container, or raise naming the first row that it refuses."""
        columns = {key: np.concatenate(parts) for key, parts in self.parts.items()}
        error = self._refusal(columns, 0, self.n)
        if error is None:
            found: Container = self.container(**columns)
            return found
        # What is right of the first rows and wrong of one more is wrong with that one.
        good, bad = 0, self.n
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (good, middle) if self._refusal(columns, 0, middle) else (middle, bad)
        alone = self._refusal(columns, bad - 1, bad)
        if alone is None:
            raise ValueError(f"{name}: {error}") from error
        start, block = max((at, part) for at, part in self.places if at < bad)
        where = block.place(bad - 1 - start)
        raise ValueError(f"{where}: {_INSIDE.sub('', str(alone))}") from error

    def _refusal(self, columns: dict[str, np.ndarray], start: int, stop: int) -> Exception | None:
        try:
            self.container(**{key: column[start:stop] for key, column in columns.items()})
        except (ValueError, TypeError) as error:
            return error
        return None


def _names(keys: Iterable[str]) -> str:
    text = ", ".join(sorted(keys))
    return text if len(text) <= 300 else f"{text[:300]}..."


def _kind(key: str) -> tuple[str, set[type], type[np.generic]]:
    """Return in words what a column holds, as what JSON gives it, and as what it is kept."""
    if key in _INTEGERS:
        return "integers", {int}, np.int64
    if key in _BOOLEANS:
        return "booleans", {bool}, np.bool_
    return "numbers", {int, float, bool} if key == "label" else {int, float}, np.float64


def _column(values: list[Any], key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return entries of one shape as an array, or None where one is of another kind or shape."""
    n = len(values)
    for size in shape:
        if set(map(type, values)) != {list} or set(map(len, values)) != {size}:
            return None
        values = list(chain.from_iterable(values))
    _, types, dtype = _kind(key)
    if not set(map(type, values)) <= types:
        return None
    array = np.array(values, dtype=dtype).reshape(n, *shape)
    return array if dtype != np.float64 or np.isfinite(array).all() else None


def _entry(value: Any, key: str) -> np.ndarray:
    """Return one entry of a column as an array, or raise with what is wrong in it."""
    words, types, _ = _kind(key)
    depth = _DEPTHS.get(key, 0)
    shape: list[int] = []
    level = [value]
    for _ in range(depth):
        if not all(isinstance(item, list) and item for item in level):
            bad = next(item for item in level if not (isinstance(item, list) and item))
            raise ValueError(
                f"{key} must hold {words} in lists {depth} deep, none of them empty, got"
                f" {shown(bad)}"
            )
        sizes = sorted({len(item) for item in level})
        if len(sizes) > 1:
            raise ValueError(
                f"{key} must be rectangular, got lists of {sizes[0]} and of {sizes[-1]}"
            )
        shape.append(sizes[0])
        level = list(chain.from_iterable(level))
    for last in level:
        if type(last) not in types:
            raise ValueError(f"{key} must hold {words}, got {shown(last)}")
        if key in _INTEGERS and not -(2**63) <= last < 2**63:
            raise ValueError(f"{key} must hold integers below 2**63, got {shown(last)}")
    array = _column([value], key, tuple(shape))
    assert array is not None
    return array[0]


def is_json_array(path: str | os.PathLike[str]) -> bool:
    """Return whether a file named ``.json`` begins as an array rather than with a row a line."""
    name = os.fspath(path).lower()
    if not name.endswith((".json", ".json.gz")):
        return False
    with reading(path) as place:
        while (character := place.stream.read(1)).isspace():
            continue
        return bool(character == "[")
