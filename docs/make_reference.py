"""Write docs/reference/ from the docstrings.

One page a room: what its face shows, then its modules, every public name with signature and text.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import prefsim

FOLDER = Path(__file__).resolve().parent / "reference"


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


# --- the text of a page ---


def entry(name: str, value: object, *, level: int = 3) -> str:
    """Return the text of one public name; classes bring their public methods."""
    heading = f"{'#' * level} `{name}`"
    value = inspect.unwrap(value) if callable(value) else value
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        return f"{heading}\n\n`{type(value).__name__}`\n"
    try:
        shown = f"{name}{inspect.signature(value)}"
    except ValueError:
        shown = name
    text = inspect.getdoc(value) or ""
    body = f"{heading}\n\n```text\n{shown}\n```\n\n```text\n{text}\n```\n"
    return body + (members(value, level + 1) if inspect.isclass(value) else "")


def members(value: type, level: int) -> str:
    """Return the text of the public methods and properties that a class defines itself."""
    text = ""
    for name, member in vars(value).items():
        if name.startswith("_"):
            continue
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(function):
            text += "\n" + entry(name, function, level=level)
        elif isinstance(function, property):
            said = inspect.getdoc(function) or ""
            text += f"\n{'#' * level} `{name}` (property)\n\n```text\n{said}\n```\n"
    return text


def page(room: str, modules: list[str]) -> str:
    """Return the page of a room."""
    face = importlib.import_module(room)
    parts = [f"# `{room}`", "", inspect.getdoc(face) or "", ""]
    shown = getattr(face, "__all__", [])
    if shown:
        parts += [f"`{room}` shows {', '.join(f'`{name}`' for name in shown)}.", ""]
    parts += [entry(name, getattr(face, name)) for name in own_names(face)]
    for name in modules:
        module = importlib.import_module(name)
        parts += [f"## `{name}`", "", inspect.getdoc(module) or "", ""]
        parts += [entry(own, getattr(module, own)) for own in own_names(module)]
    return "\n".join(parts).rstrip() + "\n"


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    found: dict[str, str] = {}
    index = ["# Reference", "", "Written from the docstrings by `make docs`.", ""]
    for room, modules in rooms().items():
        file = f"{room}.md" if room == "prefsim" else f"{room.removeprefix('prefsim.')}.md"
        found[file] = page(room, modules)
        index += [f"## [`{room}`]({file})", "", first_line(importlib.import_module(room)), ""]
        for name in modules:
            module = importlib.import_module(name)
            index.append(f"- `{name}`: {first_line(module)}")
            index += [f"  - `{n}`: {first_line(getattr(module, n))}" for n in own_names(module)]
        index.append("")
    found["index.md"] = "\n".join(index).rstrip() + "\n"
    return found


def main() -> None:
    """Write the pages that changed and remove those of rooms that are gone."""
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for stale in {path.name for path in FOLDER.glob("*.md")} - set(wanted):
        (FOLDER / stale).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(wanted)} pages in {FOLDER}", file=sys.stderr)


if __name__ == "__main__":
    main()
