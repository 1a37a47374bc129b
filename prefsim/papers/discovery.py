"""Which papers there are, and what each of them holds.

Papers come from installed packages that offer some under the entry point group ``prefsim.papers``
(this project's own ``paper_repros`` is one of them), and from any file or folder named by its path.
An offered package holds ``<family>/<slug>/`` with the card in ``__init__.py``, the claims in
``claims.py`` and the reproduction in ``reproduction.py``; errata, where there are some, are in
``errata.py``. Of a paper named by its path all may stand in one file. Cards and errata are read
without importing anything, so that a listing is quick.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from prefsim.checks import check_choice, check_known
from prefsim.papers.claims import check_claims, claims_of
from prefsim.papers.errata import Erratum, check_errata, read_errata
from prefsim.papers.literals import assigned, called
from prefsim.papers.paper import Paper, PaperModule

__all__ = [
    "FAMILIES",
    "GROUP",
    "Source",
    "all_slugs",
    "card",
    "cards",
    "errata_of",
    "find",
    "load",
]

GROUP = "prefsim.papers"
"""Entry points of this group name the packages that offer papers."""

FAMILIES: Mapping[str, str] = {
    "direct": "Direct alignment",
    "nash": "Games",
    "mdp": "Regret, sequences and reinforcement learning",
    "theory": "Analyses",
    "robust": "Robust, contrastive and reward models",
    "selfimprove": "Self-improvement and data",
    "plural": "Many people",
}
"""The families and their names, in the order of lists and reports."""


class Source(NamedTuple):
    """Where a paper lies.

    Attributes
    ----------
    slug
        Its name.
    family
        Name of the folder that it lies in; empty for a paper named by its path.
    path
        Its folder, or its file.
    module
        Dotted name under which it is imported.
    """

    slug: str
    family: str
    path: Path
    module: str

    @property
    def card_file(self) -> Path:
        """The file that holds the card."""
        return self.path / "__init__.py" if self.path.is_dir() else self.path

    @property
    def errata_file(self) -> Path:
        """The file that holds the errata, if there are some."""
        return self.path / "errata.py" if self.path.is_dir() else self.path

    def files(self) -> list[Path]:
        """Return the Python files of the paper, in alphabetical order."""
        return sorted(self.path.rglob("*.py")) if self.path.is_dir() else [self.path]


# --- what is offered ---


def _offered() -> dict[str, str]:
    """Return the packages that offer papers, under the names of their entry points."""
    return {point.name: point.value for point in entry_points(group=GROUP)}


def _folders(package: str) -> list[Path]:
    """Return the folders of a package without importing more than its parents."""
    loaded = sys.modules.get(package)
    if loaded is not None:
        return [Path(place) for place in loaded.__path__]
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.submodule_search_locations is None:
        raise ValueError(
            f"the entry point {GROUP} must name a package that holds papers, got {package!r}"
        )
    return [Path(place) for place in spec.submodule_search_locations]


def _is_paper(folder: Path) -> bool:
    return (folder / "__init__.py").is_file() and (folder / "claims.py").is_file()


def _sources() -> dict[str, Source]:
    """Return every offered paper under its slug, in alphabetical order."""
    found: dict[str, Source] = {}
    for package in _offered().values():
        for root in _folders(package):
            for folder in sorted(filter(_is_paper, root.glob("[!_.]*/[!_.]*"))):
                family, slug = folder.parent.name, folder.name
                other = found.get(slug)
                if other is not None and other.path != folder:
                    raise ValueError(
                        f"papers must have one slug each, got {other.path} and {folder}"
                    )
                found[slug] = Source(slug, family, folder, f"{package}.{family}.{slug}")
    return dict(sorted(found.items()))


def all_slugs() -> tuple[str, ...]:
    """Return the slugs of all offered papers, in alphabetical order."""
    return tuple(_sources())


# --- papers named by their path ---


def _looks_like_path(reference: str) -> bool:
    return reference.endswith(".py") or os.sep in reference or "/" in reference


def _own(reference: str) -> Source:
    """Return a paper of the caller's own."""
    path = Path(reference).expanduser()
    if not path.exists():
        raise ValueError(f"paper must be a file or a folder that exists, got {reference!r}")
    path = path.resolve()
    if path.is_dir() and not _is_paper(path):
        raise ValueError(
            f"the folder of a paper must hold __init__.py and claims.py, got {reference!r}"
        )
    if path.is_file() and path.suffix != ".py":
        raise ValueError(f"the file of a paper must end in .py, got {reference!r}")
    if path.name in ("__init__.py", "claims.py", "reproduction.py") and _is_paper(path.parent):
        path = path.parent
    if not path.stem.isidentifier():
        raise ValueError(f"the name of a paper must be a Python name, got {path.stem!r}")
    for source in _sources().values():
        if source.path.resolve() == path:
            return source
    # The hash keeps two papers of the same name apart.
    mark = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return Source(path.stem, "", path, f"prefsim_own_paper_{mark}.{path.stem}")


def find(reference: str | os.PathLike[str]) -> Source:
    """Return where a paper lies.

    Parameters
    ----------
    reference
        Its slug, or the path of a file or folder of one's own, such as ``"./mine.py"``.

    Raises
    ------
    ValueError
        If no such paper is known (the closest names are given), or there is no paper at the path.
    """
    reference = os.fspath(reference)
    if _looks_like_path(reference):
        return _own(reference)
    sources = _sources()
    check_known(sources, paper=reference)
    return sources[reference]


# --- cards ---


def card(reference: str | os.PathLike[str]) -> Paper:
    """Return the card of one paper without importing it.

    Raises
    ------
    ValueError
        If no such paper is known (the closest names are given), or its card is wrong.
    """
    return _card_of(find(reference))


def _card_of(source: Source) -> Paper:
    told = called(assigned(source.card_file.read_text(encoding="utf-8"), "PAPER"))
    if told is None:  # not in literals: only the module itself knows
        return _load_source(source).paper
    try:
        paper = Paper(*told.arguments, **told.named)
    except TypeError:  # the module says where
        return _load_source(source).paper
    _check_card(paper, source)
    return paper


def cards(family: str | None = None) -> list[tuple[str, Paper]]:
    """Return family and card of all offered papers, or of one family, ordered by family and slug.

    Raises
    ------
    ValueError
        If ``family`` is not one of those that there are.
    """
    sources = _sources()
    known = sorted({*FAMILIES, *(source.family for source in sources.values())}, key=rank)
    if family is not None:
        check_choice(known, family=family)
    chosen = [source for source in sources.values() if family in (None, source.family)]
    chosen.sort(key=lambda source: (rank(source.family), source.slug))
    return [(source.family, _card_of(source)) for source in chosen]


def rank(family: str) -> tuple[int, str]:
    """Return the place of a family among the others; unknown ones come last, by name."""
    names = list(FAMILIES)
    return (names.index(family) if family in names else len(names), family)


# --- errata ---


def errata_of(reference: str | os.PathLike[str]) -> tuple[Erratum, ...]:
    """Return what is known to be wrong, or less sharp than it could be, of a paper or its code.

    Nothing is imported where they are written in literals.

    Raises
    ------
    ValueError
        If no such paper is known (the closest names are given), or an entry is malformed.
    """
    return _errata(find(reference))


def _errata(source: Source) -> tuple[Erratum, ...]:
    file = source.errata_file
    if not file.is_file():
        return ()
    expression = assigned(file.read_text(encoding="utf-8"), "ERRATA")
    if expression is None and source.path.is_file():
        return ()
    errata = None if expression is None else read_errata(expression, source.slug)
    if errata is None:  # not in literals: only the module itself knows
        module = _imported(source)
        if source.path.is_dir():
            module = importlib.import_module(f"{source.module}.errata")
        errata = getattr(module, "ERRATA", None)
    return check_errata(errata, source.slug)


# --- what a paper holds ---


def load(reference: str | os.PathLike[str]) -> PaperModule:
    """Import a paper and check that it keeps the contract.

    Parameters
    ----------
    reference
        Its slug, or the path of a file or folder of one's own.

    Raises
    ------
    ValueError
        If no such paper is known (the closest names are given), or it breaks the contract: says
        where.
    """
    return _load_source(find(reference))


def _load_source(source: Source) -> PaperModule:
    # Read first: an entry that is malformed would raise in the file itself, and less clearly.
    errata = _errata(source)
    module = _load_folder(source) if source.path.is_dir() else _load_file(source)
    return _checked(module._replace(errata=errata), source)


def _load_folder(source: Source) -> PaperModule:
    package = _imported(source)
    claims = claims_of(importlib.import_module(f"{source.module}.claims"))
    paper = getattr(package, "PAPER", None)
    if not isinstance(paper, Paper):
        raise ValueError(f"{source.card_file} must define PAPER, got {paper!r}")
    reproduce = None
    if (source.path / "reproduction.py").is_file():
        module = importlib.import_module(f"{source.module}.reproduction")
        reproduce = getattr(module, "reproduce", None)
    if reproduce is None:
        raise ValueError(f"{source.path / 'reproduction.py'} must define reproduce(run), got none")
    return PaperModule(paper, source.family, claims, reproduce, source.path)


def _load_file(source: Source) -> PaperModule:
    module = _imported(source)
    paper = getattr(module, "PAPER", None)
    if paper is None:
        summary = (module.__doc__ or "").strip().partition("\n")[0]
        paper = Paper(source.slug, summary or source.slug, "", 0, summary, ())
    reproduce = getattr(module, "reproduce", None)
    claims = claims_of(module)
    return PaperModule(paper, source.family, claims, reproduce, source.path)


def _imported(source: Source) -> ModuleType:
    """Import the package or file of a paper; one of the caller's own may import its neighbours."""
    if source.family:
        return importlib.import_module(source.module)
    return _import_own(source.module, source.card_file, source.path)


@functools.cache
def _import_own(name: str, file: Path, path: Path) -> ModuleType:
    parent = name.partition(".")[0]
    # A package without files: it makes relative imports inside the paper's folder work.
    sys.modules.setdefault(parent, ModuleType(parent))
    sys.modules[parent].__path__ = [str(path.parent)]
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    places = [str(path)] if path.is_dir() else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=places)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check_card(paper: Paper, source: Source) -> None:
    if paper.slug != source.slug:
        raise ValueError(
            f"slug of the paper in {source.card_file} must be {source.slug!r}, got {paper.slug!r}"
        )
    for name in ("title", "summary"):
        if not isinstance(getattr(paper, name), str):
            raise ValueError(f"{name} of paper {source.slug} must be text")


def _checked(module: PaperModule, source: Source) -> PaperModule:
    _check_card(module.paper, source)
    check_claims(module.claims, source.slug)
    if module.reproduce is not None and not callable(module.reproduce):
        raise ValueError(f"reproduce of paper {source.slug} must be a function")
    return module


def plain(paper: Paper, family: str) -> dict[str, Any]:
    """Return a card and its family as JSON can hold them."""
    return {**paper._asdict(), "family": family, "implements": list(paper.implements)}
