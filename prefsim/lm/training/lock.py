"""One training at a time in a folder, whichever process or host asks."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOCK", "only_training_in"]

LOCK = ".training.lock"
# What a file system answers that has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def only_training_in(folder: Path) -> Iterator[None]:
    """Hold a folder for one training while the block runs.

    The lock is the system's, which lets go of it when the process ends, however it ends; it holds
    among containers that share a disk, whose processes may well have the same number. Who holds it
    is written into the file: host, process and a random word. Where a file system has no locks the
    file itself is one, and stays behind after a kill.

    Raises
    ------
    ValueError
        If another training holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK
    owner = f"process {os.getpid()} on {socket.gethostname()}, {secrets.token_hex(8)}"
    handle = _locked(file)
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, owner.encode())
        yield
    finally:
        _remove(file, handle)


def _locked(file: Path) -> int:
    """Return the open file of a lock that is ours."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle)
        except OSError as error:
            owner = os.read(handle, 200).decode(errors="replace")
            os.close(handle)
            if error.errno not in _NO_LOCKS:
                raise _held(file, owner) from error
            return _made(file, owner)
        # The one before may have removed the name between opening and locking.
        if file.exists() and os.path.samestat(os.fstat(handle), file.stat()):
            return handle
        os.close(handle)


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "this system has no locks of this kind")
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove(file: Path, handle: int) -> None:
    if sys.platform == "win32":  # which removes no file that is open
        os.close(handle)
        file.unlink(missing_ok=True)
        return
    # While the lock is held: who comes next makes a file of its own.
    file.unlink(missing_ok=True)
    os.close(handle)


def _made(file: Path, owner: str) -> int:
    """Return the file as the lock of a file system that has none."""
    if owner:
        raise _held(file, f"{owner}; remove the file if that training has ended")
    return os.open(file, os.O_RDWR | os.O_CREAT, 0o644)


def _held(file: Path, owner: str) -> ValueError:
    return ValueError(
        f"folder {str(file.parent)!r} is in use by another training ({owner or 'not yet named'}):"
        " give another folder, or wait for it to end"
    )
