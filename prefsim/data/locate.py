"""Where real data lies: never shipped, always in a folder that the user names."""

from __future__ import annotations

import os
from pathlib import Path

from prefsim.checks import check_directory

__all__ = ["data_folder"]

VARIABLE = "PREFSIM_DATA"


def data_folder(explicit: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder with real data, or None where none is named.

    Parameters
    ----------
    explicit
        The folder given on the command line. If None, the environment variable ``PREFSIM_DATA`` is
        read (empty counts as unset).

    Returns
    -------
    The absolute path of the folder, or None.

    Raises
    ------
    ValueError
        If the folder named does not exist.

    Examples
    --------
    >>> data_folder("/no/such/folder")
    Traceback (most recent call last):
        ...
    ValueError: data folder must be a folder that exists, got '/no/such/folder'
    """
    if explicit is not None:
        named, source = os.fspath(explicit), "data folder"
    else:
        named, source = (
            os.environ.get(VARIABLE, ""),
            f"data folder of the environment variable {VARIABLE}",
        )
        if not named:
            return None
    path = Path(named).expanduser()
    check_directory(path, source)
    return path.resolve()
