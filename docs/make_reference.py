"""Write the pages of the reference: one a room, of which Sphinx fills in the docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import prefsim


def public_modules() -> list[str]:
    """Return the names of all modules without a leading underscore, in order."""
    names = [info.name for info in pkgutil.walk_packages(prefsim.__path__, "prefsim.")]
    return sorted(
        name for name in names if not any(part.startswith("_") for part in name.split("."))
    )


def rooms() -> dict[str, list[str]]:
    """Return the modules of every room under its name; those of no room are under ``prefsim``."""
    found: dict[str, list[str]] = {"prefsim": []}
    for name in public_modules():
        if hasattr(importlib.import_module(name), "__path__"):
            found[name] = []
        else:
            found[name.rpartition(".")[0]].append(name)
    return found


def own_names(module: ModuleType) -> list[str]:
    """Return the public names that a module defines, without those that it passes on."""
    # A constant does not say where it is from; a face has none of its own.
    origin = "" if hasattr(module, "__path__") else module.__name__
    return [
        name
        for name in getattr(module, "__all__", [])
        if getattr(getattr(module, name), "__module__", origin) == module.__name__
    ]


def first_line(value: object) -> str:
    """Return the first line of a docstring, empty if there is none."""
    return (inspect.getdoc(value) or "").split("\n")[0]


def as_cell(said: str) -> str:
    """Return a line of a docstring as a cell of a table."""
    in_code = re.sub(r"``([^`]*)``", r"`\1`", said)
    in_math = re.sub(r":math:`([^`]*)`", r"$\1$", in_code)
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", in_math).replace("|", "\\|")


def _said(value: object) -> str:
    """Return the first line of a docstring as a cell of a table; a constant has none."""
    return as_cell(first_line(value)) if callable(value) or inspect.ismodule(value) else ""


def documented_as(value: object) -> str:
    """Return the dotted name under which a function or class is in the reference, else nothing."""
    name = getattr(value, "__qualname__", "")
    # A strategy that hypothesis composes is defined inside one of its functions.
    return f"{value.__module__}.{name.rpartition('<locals>.')[2]}" if name else ""


def _module(name: str) -> list[str]:
    """Return the lines that have Sphinx write what a module defines, in the order of its source."""
    module = importlib.import_module(name)
    members = own_names(module)
    options = [f"   :members: {', '.join(members)}", "   :undoc-members:"] if members else []
    return ["```{eval-rst}", f".. automodule:: {name}", *options, "```", ""]


def page(room: str, modules: list[str]) -> str:
    """Return the page of a room."""
    face = importlib.import_module(room)
    lines = [f"# `{room}`", "", *_module(room)]
    shown = getattr(face, "__all__", [])
    if shown:
        lines += [f"Shown by `{room}` itself:", "", "| name | |", "|---|---|"]
        for name in shown:
            value = getattr(face, name)
            place = documented_as(value) or f"{room}.{name}"
            lines.append(f"| {{py:obj}}`{name} <{place}>` | {_said(value)} |")
        lines.append("")
    for name in modules:
        lines += [f"## `{name}`", "", *_module(name)]
    return "\n".join(lines).rstrip() + "\n"


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    found: dict[str, str] = {}
    index = ["# Reference", "", "| room | what lives there |", "|---|---|"]
    for room, modules in rooms().items():
        stem = room.removeprefix("prefsim.")
        found[f"{stem}.md"] = page(room, modules)
        index.append(f"| [`{room}`]({stem}.md) | {first_line(importlib.import_module(room))} |")
    stems = [name.removesuffix(".md") for name in found]
    index += ["", "```{toctree}", ":hidden:", "", *stems, "```"]
    found["index.md"] = "\n".join(index) + "\n"
    return found


def write(folder: Path) -> None:
    """Write the pages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
