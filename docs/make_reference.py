"""Write docs/reference/ from the docstrings.

One page a package, every public name with its signature and text.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import prefsim

FOLDER = Path(__file__).resolve().parent / "reference"
SKIPPED = {"prefsim.containers"}  # re-exported whole by prefsim.losses


def public_modules() -> list[str]:
    """Return the names of all modules without a leading underscore, in order."""
    found = pkgutil.walk_packages(prefsim.__path__, "prefsim.")
    return sorted(
        info.name
        for info in found
        if not any(part.startswith("_") for part in info.name.split("."))
    )


def entry(name: str, value: object, *, level: int = 3) -> str:
    """Return the text of one public name; classes bring their public methods."""
    text = inspect.getdoc(value) or ""
    if inspect.isfunction(value) or inspect.isclass(value):
        try:
            shown = f"{name}{inspect.signature(value)}"
        except ValueError:
            shown = name
    else:
        return f"{'#' * level} `{name}`\n\n`{type(value).__name__}`\n"
    body = f"{'#' * level} `{name}`\n\n```text\n{shown}\n```\n\n```text\n{text}\n```\n"
    if inspect.isclass(value):
        for key, member in vars(value).items():
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if key.startswith("_") or not (
                inspect.isfunction(function) or isinstance(function, property)
            ):
                continue
            body += (
                "\n" + entry(key, function, level=level + 1)
                if inspect.isfunction(function)
                else property_entry(key, function, level + 1)
            )
    return body


def property_entry(name: str, value: property, level: int) -> str:
    """Return the text of a property."""
    return f"\n{'#' * level} `{name}` (property)\n\n```text\n{inspect.getdoc(value) or ''}\n```\n"


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    found: dict[str, str] = {}
    index = [
        "# Reference",
        "",
        "Generated from the docstrings by `python docs/make_reference.py`.",
        "",
    ]
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        is_package = hasattr(module, "__path__")
        names = (
            []
            if is_package
            else [
                n
                for n in getattr(module, "__all__", [])
                if getattr(getattr(module, n), "__module__", module_name) == module_name
            ]
        )
        summary = (inspect.getdoc(module) or "").split("\n")[0]
        if not is_package and names and module_name not in SKIPPED:
            page = module_name.removeprefix("prefsim.") + ".md"
            text = [f"# `{module_name}`", "", inspect.getdoc(module) or "", ""]
            found[page] = (
                "\n".join(text + [entry(name, getattr(module, name)) for name in names]).rstrip()
                + "\n"
            )
            index.append(f"- [`{module_name}`]({page}): {summary}")
            index += [
                f"  - `{name}`: {(inspect.getdoc(getattr(module, name)) or '').split(chr(10))[0]}"
                for name in names
            ]
        elif is_package:
            index += ["", f"## `{module_name}`", "", summary, ""]
    found["index.md"] = "\n".join(index).rstrip() + "\n"
    return found


def main() -> None:
    """Write the pages that changed and remove those of modules that are gone."""
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for stale in {p.name for p in FOLDER.glob("*.md")} - set(wanted):
        (FOLDER / stale).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(wanted)} pages in {FOLDER}", file=sys.stderr)


if __name__ == "__main__":
    main()
