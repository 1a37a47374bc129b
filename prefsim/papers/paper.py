"""What a paper is here: a card, and a reproduction that is run and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prefsim.papers.claims import Claim
from prefsim.papers.criteria import Criterion
from prefsim.papers.errata import Erratum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Paper", "PaperModule", "Reproduction", "Run"]


class Paper(NamedTuple):
    """The card of a paper; its family is the folder that it lies in.

    Attributes
    ----------
    slug
        Name of its folder, and of its folder of results.
    title, arxiv, year
        As on arXiv; ``arxiv`` is the bare identifier, such as ``"2305.18290"``.
    summary
        What the paper says, in a sentence or two.
    implements
        Dotted names of the public functions that implement it.
    """

    slug: str
    title: str
    arxiv: str
    year: int
    summary: str
    implements: tuple[str, ...]


def _silent(items: Iterable[Any], description: str) -> Iterable[Any]:
    return items


class Run(NamedTuple):
    """What a reproduction is told.

    Backend and device are already in force (:func:`prefsim.backend.current_backend`).

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


class Reproduction(NamedTuple):
    """A figure, the numbers behind it, and the criteria.

    Attributes
    ----------
    figure
        The drawing, from :func:`prefsim.papers.panels`.
    table
        The numbers behind it, a row a dict.
    criteria
        What is expected of them.
    caption
        How to read the figure: what is drawn where, and which way is better.
    cut
        What a quick run leaves out, beside what a full one has; empty where it leaves out nothing.
        Kept with quick runs alone.
    """

    figure: Figure
    table: list[dict[str, str | float | int]]
    criteria: tuple[Criterion, ...]
    caption: str = ""
    cut: str = ""


class PaperModule(NamedTuple):
    """A paper, imported and checked.

    Attributes
    ----------
    paper
        Its card.
    family
        Name of the folder that it lies in; empty for a file or folder of one's own.
    claims
        In the order in which they are written.
    reproduce
        The reproduction, or None where a file of one's own has claims only.
    path
        Its folder, or its file where it is a single one.
    errata
        What it or its code says wrongly, or less sharply than it could.
    """

    paper: Paper
    family: str
    claims: tuple[Claim, ...]
    reproduce: Callable[[Run], Reproduction] | None
    path: Path
    errata: tuple[Erratum, ...] = ()
