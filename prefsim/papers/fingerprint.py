"""What a result follows from: the paper's files, the modules that they import, settings, versions.

Imports are read from the source, those inside functions too, and followed through this library: a
change anywhere that a result may depend on makes it out of date, and no other change does.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prefsim.papers.discovery import Source, find

__all__ = ["fingerprint", "modules_behind"]

LIBRARY = "prefsim"
NUMERIC = ("numpy", "scipy", "torch")
"""Packages whose version can change a number."""


@functools.cache
def _file_of(module: str) -> Path | None:
    """Return the source of a module of this library, None if there is no such module."""
    root = Path(__file__).parents[2]
    base = root.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imports(file: Path, package: str) -> set[str]:
    """Return the dotted names that a file may import, all names after ``import`` among them.

    ``package`` is what relative imports are relative to.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [base])])
            names.add(base)
            # What is imported from a package may be a module of it.
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def _with_parents(names: Iterable[str]) -> set[str]:
    """Return names and the packages around them, which Python runs first."""
    every: set[str] = set()
    for name in names:
        parts = name.split(".")
        every.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return every


@functools.cache
def _library_imports(module: str) -> frozenset[str]:
    file = _file_of(module)
    assert file is not None
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return frozenset(
        name
        for name in _with_parents(_imports(file, package))
        if name.partition(".")[0] == LIBRARY and _file_of(name) is not None
    )


def modules_behind(reference: str) -> dict[str, Path]:
    """Return the modules of this library that a paper imports, directly or through each other.

    Raises
    ------
    ValueError
        If no such paper is known.
    """
    source = find(reference)
    left: set[str] = set()
    for file in source.files():
        left |= _with_parents(_imports(file, source.module))
    left = {name for name in left if name.partition(".")[0] == LIBRARY}
    found: dict[str, Path] = {}
    while left:
        module = left.pop()
        file = _file_of(module)
        if module in found or file is None:
            continue
        found[module] = file
        left |= _library_imports(module) - found.keys()
    return dict(sorted(found.items()))


def _versions() -> dict[str, str]:
    versions = {}
    for package in NUMERIC:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return versions


@functools.cache
def _digest(file: Path, mark: tuple[int, int]) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _digest_of(file: Path) -> str:
    stat = file.stat()
    # Size and time tell whether a file that was read before must be read again.
    return _digest(file, (stat.st_mtime_ns, stat.st_size))


def fingerprint(reference: str, settings: Mapping[str, Any]) -> str:
    """Return a hash of all that a result follows from.

    That is every file of the paper, the modules of the library that they import, the versions of
    NumPy, SciPy and torch, and the settings.

    Parameters
    ----------
    reference
        The paper's slug or path.
    settings
        What the result was asked for with, as JSON can hold it.

    Raises
    ------
    ValueError
        If no such paper is known.
    """
    source: Source = find(reference)
    own = source.path if source.path.is_dir() else source.path.parent
    parts = {
        "paper": {str(file.relative_to(own)): _digest_of(file) for file in source.files()},
        "library": {name: _digest_of(file) for name, file in modules_behind(reference).items()},
        "versions": _versions(),
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
