"""A runnable notebook for any paper: its claims checked, its figure drawn, its functions broken."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from prefsim.papers.discovery import FAMILIES, load
from prefsim.papers.storage import write_text

__all__ = ["notebook_of", "write_notebook"]

_CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)


def notebook_of(reference: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a notebook for a paper, in the form of Jupyter's format 4.5, without output.

    Parameters
    ----------
    reference
        A slug, or the path of a file or folder of one's own.

    Raises
    ------
    ValueError
        If no such paper is known.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    module = load(reference)
    environment = Environment(
        loader=PackageLoader("prefsim.papers"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = environment.get_template("notebook.py.j2").render(
        paper=module.paper,
        family=FAMILIES.get(module.family, module.family),
        claims=module.claims,
        errata=module.errata,
        reference=json.dumps(os.fspath(reference)),
        reproduced=module.reproduce is not None,
    )
    # What stands before the first mark is empty; then marks and texts take turns.
    _, *parts = _CELL.split(script)
    marked = zip(parts[::2], parts[1::2], strict=True)
    return {
        "cells": [
            _cell(k, text.strip(), is_code=mark is None) for k, (mark, text) in enumerate(marked)
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, text: str, *, is_code: bool) -> dict[str, Any]:
    cell = {"id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
    if not is_code:
        return {"cell_type": "markdown", **cell}
    return {"cell_type": "code", **cell, "execution_count": None, "outputs": []}


def write_notebook(
    reference: str | os.PathLike[str], out: str | os.PathLike[str] | None = None
) -> Path:
    """Write a notebook for a paper, and return its path.

    Parameters
    ----------
    reference
        A slug, or the path of a file or folder of one's own.
    out
        The file; ``<slug>.ipynb`` here unless given. It must not exist: it may hold work.

    Raises
    ------
    ValueError
        If no such paper is known, the file exists, or its folder does not.
    """
    made = notebook_of(reference)
    path = Path(f"{load(reference).paper.slug}.ipynb" if out is None else out)
    if path.exists():
        raise ValueError(f"out must be a new file, got {str(path)!r}, which exists")
    if not path.parent.is_dir():
        raise ValueError(f"out must lie in a folder that exists, got {str(path)!r}")
    write_text(path, json.dumps(made, indent=1, ensure_ascii=False))
    return path
