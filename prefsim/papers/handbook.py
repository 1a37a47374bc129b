"""The page that the handbook has of a paper, where the handbook was built."""

from __future__ import annotations

import os
from pathlib import Path

from prefsim.checks import check_directory
from prefsim.papers.discovery import find

__all__ = ["handbook_page"]

VARIABLE = "PREFSIM_HANDBOOK"
BUILT = Path("docs", "_build", "html")
"""Where `make docs` builds it, from the top of a checkout."""


def handbook_page(reference: str | os.PathLike[str]) -> Path | None:
    """Return the page of a paper in the handbook, or None where there is none.

    Parameters
    ----------
    reference
        A slug, or the path of a file or folder of one's own, which has none.

    Returns
    -------
    A file that exists: in the folder that the environment variable ``PREFSIM_HANDBOOK`` names
    (empty counts as unset), or else where `make docs` builds the handbook of the checkout that the
    paper lies in.

    Raises
    ------
    ValueError
        If no such paper is known, or the folder named does not exist.
    """
    source = find(reference)
    if not source.family:
        return None
    named = os.environ.get(VARIABLE, "")
    if named:
        folder = Path(named).expanduser()
        check_directory(folder, f"handbook of the environment variable {VARIABLE}")
    else:
        _, _, root = source.path.resolve().parents[:3]
        folder = root / BUILT
    page = folder.resolve() / "papers" / source.family / f"{source.slug}.html"
    return page if page.is_file() else None
