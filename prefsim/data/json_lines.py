"""JSON of files, strictly: what a line may hold, and errors that name file and line."""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefsim.checks.quoting import shown

__all__ = ["open_text", "parse_object", "read_json_array", "read_json_lines", "reading"]


def open_text(path: str | os.PathLike[str], mode: str, *, compressed: bool) -> Any:
    """Open a file of UTF-8 text, through gzip or not; a byte-order mark is passed over."""
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    if compressed:
        return gzip.open(path, mode + "t", encoding=encoding)
    return open(path, mode, encoding=encoding)


class reading:
    """Turn what goes wrong while a file of text is read into an error that names file and line.

    ``with reading(path) as place`` opens it (through gzip where it is compressed) as
    ``place.stream``; who reads keeps ``place.number``, that of the last whole line.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        self.path = Path(path)
        self.number = 0
        self.stream: Any = None

    def __enter__(self) -> reading:
        try:
            with open(self.path, "rb") as probe:
                self.compressed = probe.read(2) == b"\x1f\x8b"
            self.stream = open_text(self.path, "r", compressed=self.compressed)
        except OSError as error:
            raise self._error(error) from error
        return self

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        self.stream.close()
        if isinstance(error, UnicodeDecodeError):
            raise ValueError(
                f"{self.name}, line {self._undecodable()}: expected UTF-8 text ({error.reason})"
            ) from error
        if isinstance(error, OSError | EOFError | zlib.error):
            raise self._error(error) from error

    def _undecodable(self) -> int:
        """Return the number of the first line that is no UTF-8; text is decoded far ahead."""
        opened = gzip.open if self.compressed else open
        with opened(self.path, "rb") as stream:
            lines = enumerate(stream, start=1)
            return next(
                number
                for number, line in lines
                if line.decode("utf-8", errors="replace").encode() != line
            )

    def _error(self, error: Exception) -> ValueError:
        return ValueError(f"{self.name}: cannot be read after line {self.number} ({error})")


def parse_object(text: str, where: str) -> dict[str, Any]:
    """Return a JSON object, or raise an error that begins with ``where``.

    Beyond what JSON says: no key stands twice in an object, numbers are finite, and text is
    Unicode.
    """
    try:
        row = _DECODER.decode(text)
        _check_unicode(text, row)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: expected one JSON object, got {shown(text.strip())} ({_reason(error)})"
        ) from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected one JSON object, got {type(row).__name__}")
    return row


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number, object)`` of a JSON-lines file (gzip where it is one).

    Blank lines are passed over.

    Raises
    ------
    ValueError
        If the file cannot be read, or a line is no JSON object; the error names file and line.
    """
    with reading(path) as place:
        for number, line in enumerate(place.stream, start=1):
            place.number = number
            if line.strip():
                yield number, parse_object(line, f"{place.name}, line {number}")


def read_json_array(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(row number, object)`` of a file that holds one JSON array of objects.

    Raises
    ------
    ValueError
        If the file cannot be read or is no such array.
    """
    with reading(path) as place:
        text = place.stream.read()
    try:
        rows = _DECODER.decode(text)
        _check_unicode(text, rows)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{place.name}, line {error.lineno}: expected a JSON array of objects ({error.msg})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{place.name}: expected a JSON array of objects ({_reason(error)})"
        ) from error
    if not isinstance(rows, list):
        raise ValueError(f"{place.name}: expected a JSON array of objects, got {shown(rows)}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"{place.name}, row {number}: expected an object, got {shown(row)}")
        yield number, row


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return str(error)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"the key {shown(twice)} stands twice")
    return found


def _integer(token: str) -> int:
    if len(token) > 300:
        _real(token)
    return int(token)


def _real(token: str) -> float:
    number = float(token)
    if math.isinf(number):
        raise ValueError(
            f"a number of {len(token)} characters is beyond all floating-point numbers"
        )
    return number


def _reject_constant(token: str) -> float:
    raise ValueError(f"{token} is not a number that JSON allows")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_real,
    parse_constant=_reject_constant,
)


def _check_unicode(text: str, value: Any) -> None:
    # Only an escape can say half of a pair of surrogates.
    if "\\u" not in text:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise ValueError(f"the lone surrogate \\u{code:04x} is not Unicode text") from error
