"""What a result follows from: the paper's files, the modules that they import, settings, versions.

Imports are read from the source, those inside functions too, and followed through this library: a
change anywhere that a result may depend on makes it out of date, and no other change does.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prefsim.papers.discovery import Source, find

__all__ = ["fingerprint", "modules_behind"]

LIBRARY = "prefsim"
NUMERIC = ("numpy", "scipy", "torch")
"""Packages whose version can change a number."""
_DATA = re.compile(r"(?<!prefsim)\.data\b|\bdata_folder\b|\bRealData\b")
"""How a paper reads real data: ``run.data``, or by itself; ``prefsim.data`` is a room of ours."""


@functools.cache
def _file_of(module: str) -> Path | None:
    """Return the source of a module of this library, None if there is no such module."""
    root = Path(__file__).parents[2]
    base = root.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


class _Imports(ast.NodeVisitor):
    """Collects the dotted names that a file may import, all names after ``import`` among them.

    What stands under ``if TYPE_CHECKING`` is kept apart: it runs nowhere, but says where the names
    of a lazy package come from.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self.names: set[str] = set()
        self.lazy: set[str] = set()
        self.is_lazy = False
        self.names_library = False

    def visit_Module(self, node: ast.Module) -> None:
        self.generic_visit(node)
        if self.names_library:
            # After `import prefsim` a module is reached as an attribute.
            attributes = (each for each in ast.walk(node) if isinstance(each, ast.Attribute))
            dotted = map(ast.unparse, attributes)
            self.names.update(name for name in dotted if name.startswith(f"{LIBRARY}."))

    def generic_visit(self, node: ast.AST) -> None:
        # Expressions, which are most of a file, import nothing.
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        names = {alias.name for alias in node.names}
        self.names |= names
        self.names_library |= any(name.partition(".")[0] == LIBRARY for name in names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self.package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
        self.names.add(base)
        # What is imported from a package may be a module of it.
        self.names.update(f"{base}.{alias.name}" for alias in node.names)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.is_lazy |= node.name == "__getattr__"
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)
            return
        types = _Imports(self.package)
        for statement in node.body:
            types.visit(statement)
        self.lazy |= types.names


def _read_imports(file: Path, package: str) -> _Imports:
    """Return what a file imports; ``package`` is what relative imports are relative to."""
    imports = _Imports(package)
    try:
        imports.visit(ast.parse(file.read_bytes()))
    except SyntaxError:  # it imports nothing as it stands
        return _Imports(package)
    return imports


def _with_parents(names: Iterable[str]) -> set[str]:
    """Return names and the packages around them, which Python runs first."""
    every: set[str] = set()
    for name in names:
        parts = name.split(".")
        every.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return every


@functools.cache
def _library_imports(module: str) -> _Imports:
    file = _file_of(module)
    assert file is not None
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return _read_imports(file, package)


def _modules(names: Iterable[str]) -> set[str]:
    """Return the modules of this library that importing some names runs or may run.

    A name of a lazy package that is no module of it stands for all that the package may load.
    """
    found: set[str] = set()
    for name in names:
        if name.partition(".")[0] != LIBRARY:
            continue
        found |= {part for part in _with_parents([name]) if _file_of(part) is not None}
        package = name.rpartition(".")[0]
        if _file_of(name) is None and _file_of(package) is not None:
            face = _library_imports(package)
            if face.is_lazy:
                found |= {part for part in _with_parents(face.lazy) if _file_of(part) is not None}
    return found


def _evidence(source: Source) -> list[Path]:
    """Return the files of a paper that its results follow from: what is said of it is none."""
    if source.path.is_file():
        return source.files()
    return [file for file in source.files() if file != source.errata_file]


def modules_behind(reference: str) -> dict[str, Path]:
    """Return the modules of this library that a paper imports, directly or through each other.

    Raises
    ------
    ValueError
        If no such paper is known.
    """
    source = find(reference)
    names: set[str] = set()
    for own in _evidence(source):
        names |= _read_imports(own, source.module).names
    left = _modules(names)
    found: dict[str, Path] = {}
    while left:
        module = left.pop()
        file = _file_of(module)
        if module not in found and file is not None:
            found[module] = file
            left |= _modules(_library_imports(module).names) - found.keys()
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


def _reads_data(source: Source) -> bool:
    """Return whether a paper's files speak of real data."""
    return any(_DATA.search(file.read_text(encoding="utf-8")) for file in _evidence(source))


def _content(folder: Path) -> dict[str, str]:
    """Return the digest of each file in a folder and those below it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): _digest_of(path) for path in files}


def fingerprint(reference: str, settings: Mapping[str, Any]) -> str:
    """Return a hash of all that a result follows from.

    That is every file of the paper but its errata, the modules of the library that they import, the
    versions of NumPy, SciPy and torch, the settings, and all files in the folder with real data
    that the settings name under ``data``, if the paper reads such data.

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
        "paper": {str(file.relative_to(own)): _digest_of(file) for file in _evidence(source)},
        "library": {name: _digest_of(file) for name, file in modules_behind(reference).items()},
        "versions": _versions(),
        "settings": dict(settings),
    }
    if settings.get("data") is not None and _reads_data(source):
        parts["data"] = _content(Path(settings["data"]))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
