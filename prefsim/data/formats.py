"""JSON lines in and out: one row a line, in the ecosystem's columns."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import inspect
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prefsim.data.comparisons import Comparisons
from prefsim.data.feedback import Feedback
from prefsim.data.rankings import Rankings
from prefsim.data.segments import Segments

Container = Comparisons | Feedback | Rankings | Segments

CONTAINERS: tuple[type, ...] = (Comparisons, Feedback, Rankings, Segments)

__all__ = ["atomic_path", "read_json_lines", "read_jsonl", "write_jsonl"]


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


def _open_text(path: Path, mode: str, *, compressed: bool) -> Any:
    return (
        gzip.open(path, mode + "t", encoding="utf-8")
        if compressed
        else open(path, mode, encoding="utf-8")
    )


def write_jsonl(data: Container, path: str | os.PathLike[str]) -> None:
    """Write a data set as JSON lines (gzip-compressed where the name ends in ``.gz``), atomically.

    Raises
    ------
    ValueError
        If the data carry batch axes: a file holds one data set.
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
    with (
        atomic_path(path) as temporary,
        _open_text(temporary, "w", compressed=str(path).endswith(".gz")) as stream,
    ):
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            stream.write(json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False) + "\n")


def _reject_constant(token: str) -> float:
    raise ValueError(f"{token} is not a number that JSON allows")


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number, object)`` of a JSON-lines file (gzip where it is one).

    Blank lines are passed over.

    Raises
    ------
    ValueError
        If the file cannot be read, or a line is no JSON object; the error names file and line.
    """
    name = os.fspath(path)
    number = 0
    try:
        with open(path, "rb") as probe:
            compressed = probe.read(2) == b"\x1f\x8b"
        with _open_text(Path(path), "r", compressed=compressed) as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line, parse_constant=_reject_constant)
                except ValueError as error:
                    raise ValueError(
                        f"{name}, line {number}: expected one JSON object, got"
                        f" {line.strip()[:60]!r} ({error})"
                    ) from error
                if not isinstance(row, dict):
                    raise ValueError(
                        f"{name}, line {number}: expected one JSON object, got {type(row).__name__}"
                    )
                yield number, row
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: cannot be read after line {number} ({error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}, line {number + 1}: expected UTF-8 text ({error})") from error


def read_jsonl(path: str | os.PathLike[str]) -> Container:
    """Read a data set of integer responses.

    Its columns say whether it holds comparisons, feedback, rankings or segments.

    Raises
    ------
    ValueError
        If the file cannot be read, is empty, a line is no JSON object or differs in columns from
        the first, or a value is invalid.
    """
    name = os.fspath(path)
    rows = list(read_json_lines(path))
    if not rows:
        raise ValueError(f"{name}: expected at least one line, got an empty file")
    keys = set(rows[0][1])
    for container in CONTAINERS:
        columns = _columns(container)
        if _required(container) <= keys <= set(columns):
            break
    else:
        wanted = "; ".join(", ".join(_columns(c)) for c in CONTAINERS)
        raise ValueError(
            f"{name}, line {rows[0][0]}: columns must be one of ({wanted}), got"
            f" {', '.join(sorted(keys))}"
        )
    for number, row in rows:
        if set(row) != keys:
            raise ValueError(
                f"{name}, line {number}: expected the columns {', '.join(sorted(keys))}, got"
                f" {', '.join(sorted(row))}"
            )
    try:
        return container(
            **{key: np.asarray([row[key] for _, row in rows]) for key in columns if key in keys}
        )
    except (ValueError, TypeError) as error:
        # Only now row by row: the first that cannot stand alone is the line to name.
        for number, row in rows:
            _check_row(container, row, f"{name}, line {number}")
        raise ValueError(f"{name}: {error}") from error


def _check_row(container: type, row: dict[str, Any], where: str) -> None:
    try:
        container(**{key: np.asarray([value]) for key, value in row.items()})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error
