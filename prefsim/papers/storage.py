"""The folder of results: what lies in it, and how it is written so that nothing is half there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "DRAWING",
    "FIGURE",
    "RESULT",
    "SABOTAGE",
    "VERDICTS",
    "clear",
    "make_folder",
    "read_record",
    "write_bytes",
    "write_record",
    "write_text",
]

RESULT, VERDICTS = "result.json", "claims.json"
FIGURE, DRAWING = "figure.png", "figure.svg"
SABOTAGE = "sabotage.json"

STALE = 600.0
"""A file that is being written is in place within a second: after this many it was abandoned."""


def make_folder(out: str | os.PathLike[str]) -> Path:
    """Make a folder of results if there is none, and return its absolute path.

    Raises
    ------
    ValueError
        If it cannot be made or written.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"out must be a folder that can be made, got {str(out)!r}: {error.strerror}"
        ) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise ValueError(f"out must be a folder that can be written, got {str(out)!r}")
    return out.resolve()


def clear(folder: Path) -> None:
    """Remove from a folder what writers that were killed have left there."""
    for part in folder.glob(".*.part"):
        # Another process may be writing here, or be first to remove it.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole: whoever looks sees the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}-", suffix=".part", delete=False
    ) as file:
        try:
            file.write(content)
            file.flush()
            # Without this a crash of the machine may leave an empty file under the new name.
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(file.name)
            raise
    # A temporary file is readable by its owner alone.
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def write_text(path: Path, content: str) -> None:
    """Write a text file whole, in UTF-8, with a line break at its end."""
    write_bytes(path, (content.rstrip("\n") + "\n").encode("utf-8"))


# --- records ---

_DIGEST = "digest"


def _digest(record: Mapping[str, Any]) -> str:
    """Return a hash of what a record says, however it is laid out in its file."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON, with a digest by which a change of the file is seen.

    Raises
    ------
    ValueError
        If a number of it is not finite.
    """
    held = {**record, _DIGEST: _digest(record)}
    write_text(path, json.dumps(held, indent=2, ensure_ascii=False, allow_nan=False))


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record in a file, or None if there is none, or it is not as it was written."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # the last: brackets nested without end
        return None
    if not isinstance(record, dict) or record.pop(_DIGEST, None) != _digest(record):
        return None
    return record
