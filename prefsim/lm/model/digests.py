"""Digests of what a training writes: a flipped byte is noticed before it is used."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["DIGESTS", "check_digests", "sync", "sync_folder", "write_digests"]

# In the format of `sha256sum`, so that `sha256sum -c SHA256SUMS` checks a folder by hand.
DIGESTS = "SHA256SUMS"


def write_digests(folder: Path) -> None:
    """Write the digest of every file below a folder into its ``SHA256SUMS``."""
    lines = [f"{_digest(folder / name)}  {name}\n" for name in _names(folder)]
    (folder / DIGESTS).write_text("".join(lines), encoding="utf-8")


def check_digests(folder: Path, *, further: bool = False) -> None:
    """Raise unless a folder holds the files that its ``SHA256SUMS`` names, as they were written.

    Parameters
    ----------
    folder
        Of the files.
    further
        Whether there may be others beside them.

    Raises
    ------
    ValueError
        If a file was changed, is missing or cannot be read; the message names it.
    """
    try:
        lines = (folder / DIGESTS).read_text(encoding="utf-8").splitlines()
        written = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        names = [name for name in _names(folder) if name in written or not further]
        found = {name: _digest(folder / name) for name in names}
    except (OSError, ValueError) as error:
        message = f"{str(folder)!r} cannot be checked against its {DIGESTS} ({error})"
        raise ValueError(message) from error
    different = sorted(name for name, _ in set(written.items()) ^ set(found.items()))
    if different:
        raise ValueError(
            f"{str(folder / different[0])!r} is not what was written there: its digest must be"
            f" {written.get(different[0], 'none')}, got {found.get(different[0], 'no file')}"
        )


def sync_folder(folder: Path) -> None:
    """Have everything below a folder on the disk itself before what follows.

    A rename that survives a power cut is worth nothing if the bytes do not.
    """
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in [*(path for path in folder.rglob("*") if path.is_file()), *folders]:
        sync(path)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk itself."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _names(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files if path.name != DIGESTS)


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
