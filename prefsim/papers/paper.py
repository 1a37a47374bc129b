"""What a paper is here: a card, claims that are checked, and a reproduction that is drawn.

A module ``paper_repros/<slug>.py`` defines ``PAPER``, ``CLAIMS`` and ``reproduce(run)`` from the
types below, and that alone makes ``prefsim list``, ``show``, ``check`` and ``repro`` know it. Cards
are read without importing the modules, so that a listing is quick.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import paper_repros
from prefsim.checks import check_choice, check_integer, check_known, check_nonnegative

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy
    from matplotlib.figure import Figure

__all__ = [
    "FAMILIES",
    "KINDS",
    "Claim",
    "Criterion",
    "Module",
    "Paper",
    "Reproduction",
    "Run",
    "Verdict",
    "all_slugs",
    "card",
    "cards",
    "load",
    "source_file",
]

FAMILIES = ("direct", "nash", "mdp", "theory", "robust", "selfimprove", "plural")
KINDS = (
    "identity",
    "inequality",
    "limit",
    "counterexample",
    "rate",
    "statistical",
    "minimiser",
    "invariance",
    "monotone",
    "equivalence",
    "consistency",
)


class Paper(NamedTuple):
    """The card of a paper.

    Attributes
    ----------
    slug
        Name of its module in ``paper_repros`` and of its results folder.
    title, arxiv, year
        As on arXiv; ``arxiv`` is the bare identifier, such as ``"2305.18290"``.
    family
        One of :data:`FAMILIES`.
    summary
        What the paper says, in a sentence or two.
    implements
        Dotted names of the public functions that implement it.
    """

    slug: str
    title: str
    arxiv: str
    year: int
    family: str
    summary: str
    implements: tuple[str, ...]


class Verdict(NamedTuple):
    """How far one instance is from satisfying a claim (0 = exactly true), and what was compared."""

    error: float
    detail: str = ""


class Claim(NamedTuple):
    """A statement of a paper as a measurable property of random instances.

    Attributes
    ----------
    id
        Short name, unique within the paper.
    kind
        One of :data:`KINDS`.
    statement, source
        What is claimed, and where (equation, theorem, section).
    strategy
        Hypothesis strategy of instances that satisfy the claim's assumptions.
    check
        Measures how far an instance is from the claim. It computes both sides; ``max(0, a - b)``
        for a claim ``a <= b``.
    tolerance
        The claim holds when ``error <= tolerance`` on every instance.
    breaks
        Strategy of instances that drop one assumption. There a violation must be *found*: a claim
        that cannot fail is no claim.
    examples
        Number of examples for costly checks, in place of the one asked for; 1 for a deterministic
        check on ``st.just``.
    """

    id: str
    kind: str
    statement: str
    source: str
    strategy: SearchStrategy[Any]
    check: Callable[[Any], Verdict]
    tolerance: float
    breaks: SearchStrategy[Any] | None = None
    examples: int | None = None


def _silent(items: Iterable[Any], description: str) -> Iterable[Any]:
    return items


class Run(NamedTuple):
    """What a reproduction is told.

    The backend and device are already in force (:func:`prefsim.backend.current_backend`).

    Attributes
    ----------
    quick
        Fewer seeds and smaller worlds, in seconds.
    seed
        Of every random draw.
    data
        Folder with real data, or None: every reproduction has a part that runs without it.
    progress
        Wraps a loop in a progress bar: ``for s in run.progress(range(30), "seeds")``.
    """

    quick: bool = False
    seed: int = 0
    data: Path | None = None
    progress: Callable[[Iterable[Any], str], Iterable[Any]] = _silent


class Criterion(NamedTuple):
    """One line of a reproduction's verdict.

    What the paper says, what was measured, and whether they agree.
    """

    name: str
    paper: str
    measured: str | float
    passed: bool


class Reproduction(NamedTuple):
    """A figure, the numbers behind it, and the criteria."""

    figure: Figure
    table: list[dict[str, str | float | int]]
    criteria: tuple[Criterion, ...]


class Module(NamedTuple):
    """A paper's module, imported and checked."""

    paper: Paper
    claims: tuple[Claim, ...]
    reproduce: Callable[[Run], Reproduction]
    path: Path


def _files() -> dict[str, Path]:
    """Return the file of every paper under its module name, read from the folder alone.

    Names with a leading underscore are not papers.
    """
    found = {}
    for info in pkgutil.iter_modules(paper_repros.__path__):
        if not info.name.startswith("_") and not info.ispkg:
            found[info.name] = Path(info.module_finder.path) / f"{info.name}.py"  # type: ignore[union-attr]
    return dict(sorted(found.items()))


def all_slugs() -> tuple[str, ...]:
    """Return the slugs of all papers, in alphabetical order."""
    return tuple(_files())


def source_file(slug: str) -> Path:
    """Return the file of a paper's module.

    Raises
    ------
    ValueError
        If no such paper is known; the closest names are given.
    """
    files = _files()
    check_known(files, paper=slug)
    return files[slug]


def _statement(source: str) -> ast.stmt | None:
    """Return the statement that assigns PAPER.

    It alone is parsed, which is ten times quicker than the module.
    """
    lines = source.splitlines(keepends=True)
    start = next((i for i, line in enumerate(lines) if re.match(r"PAPER\b", line)), len(lines))
    for end in range(start + 1, len(lines) + 1):
        with contextlib.suppress(SyntaxError):
            return ast.parse("".join(lines[start:end])).body[0]
    return None


def card(slug: str) -> Paper:
    """Return the card of one paper without importing its module.

    Raises
    ------
    ValueError
        If no such paper is known (the closest names are given), or its card is wrong.
    """
    call = getattr(_statement(source_file(slug).read_text(encoding="utf-8")), "value", None)
    if not isinstance(call, ast.Call):
        return load(slug).paper
    try:
        paper = Paper(
            *map(ast.literal_eval, call.args),
            **{str(k.arg): ast.literal_eval(k.value) for k in call.keywords},
        )
    except (ValueError, TypeError):  # not literals: only the module itself knows
        return load(slug).paper
    _check_card(paper, slug)
    return paper


def cards(family: str | None = None) -> list[Paper]:
    """Return the cards of all papers, or of one family, ordered by family and slug.

    Raises
    ------
    ValueError
        If ``family`` is not one of :data:`FAMILIES`.
    """
    if family is not None:
        check_choice(FAMILIES, family=family)
    chosen = [paper for paper in map(card, all_slugs()) if family in (None, paper.family)]
    return sorted(chosen, key=lambda paper: (FAMILIES.index(paper.family), paper.slug))


def load(slug: str) -> Module:
    """Import a paper's module and check that it keeps the contract.

    Raises
    ------
    ValueError
        If no such paper is known (the closest names are given), or the module breaks the contract:
        says where.
    """
    file = source_file(slug)
    module = importlib.import_module(f"{paper_repros.__name__}.{slug}")
    missing = [name for name in ("PAPER", "CLAIMS", "reproduce") if not hasattr(module, name)]
    if missing:
        raise ValueError(
            f"{file} must define PAPER, CLAIMS and reproduce, got no {', '.join(missing)}"
        )
    claims = tuple(module.CLAIMS)
    _check_card(module.PAPER, slug)
    _check_claims(claims, slug)
    return Module(module.PAPER, claims, module.reproduce, file)


def _check_card(paper: Paper, slug: str) -> None:
    if paper.slug != slug:
        raise ValueError(f"slug of the paper in {slug}.py must be {slug!r}, got {paper.slug!r}")
    check_choice(FAMILIES, **{f"family of paper {slug}": paper.family})


def _check_claims(claims: tuple[Claim, ...], slug: str) -> None:
    if not claims:
        raise ValueError(f"CLAIMS of paper {slug} must hold at least one claim, got none")
    seen: set[str] = set()
    for claim in claims:
        name = f"claim {claim.id!r} of paper {slug}"
        if claim.id in seen:
            raise ValueError(
                f"claims of paper {slug} must have one id each, got {claim.id!r} twice"
            )
        seen.add(claim.id)
        check_choice(KINDS, **{f"kind of {name}": claim.kind})
        check_nonnegative(**{f"tolerance of {name}": claim.tolerance})
        if claim.examples is not None:
            check_integer(low=1, **{f"examples of {name}": claim.examples})
        if not callable(claim.check):
            raise ValueError(f"check of {name} must be a function, got {claim.check!r}")
