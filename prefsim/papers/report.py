"""Show what was checked and reproduced.

Tables for the terminal, and one self-contained page of results.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefsim import __version__
from prefsim.papers import FAMILIES, Paper

if TYPE_CHECKING:
    from rich.table import Table

    from prefsim.papers import Claim
    from prefsim.papers.checking import ClaimResult

__all__ = [
    "FAMILY_NAMES",
    "cards_table",
    "checks_table",
    "claims_table",
    "collect",
    "criteria_table",
    "format_number",
    "losses_table",
    "write_index",
]

FAMILY_NAMES = {
    "direct": "Direct alignment",
    "nash": "Games",
    "mdp": "Regret, sequences and reinforcement learning",
    "theory": "Analyses",
    "robust": "Robust, contrastive and reward models",
    "selfimprove": "Self-improvement and data",
    "plural": "Many people",
}


def format_number(value: Any) -> str:
    """Return a number with the digits worth reading; text stays as it is.

    Examples
    --------
    >>> [format_number(v) for v in (0.30000000000000004, 2, 1.23456e-12, "n/a", None)]
    ['0.3', '2', '1.235e-12', 'n/a', '–']
    """
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def collect(out: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return every whole result in a folder, in the order of families and slugs.

    Each says under ``current`` if the code is still the same.

    Raises
    ------
    ValueError
        If the folder does not exist.
    """
    from prefsim.checks import check_directory
    from prefsim.papers.reproducing import Settings, fingerprint, read_result

    out = Path(out)
    check_directory(out, "folder of results")
    results = []
    for folder in sorted(
        path for path in out.iterdir() if path.is_dir() and not path.name.startswith(".")
    ):
        if (result := read_result(folder)) is None:
            continue
        stored = result["settings"]
        settings = Settings(
            **{**stored, "data": None if stored["data"] is None else Path(stored["data"])}
        )
        try:
            result["current"] = fingerprint(result["slug"], settings) == result["fingerprint"]
        except ValueError:  # a paper of another checkout
            result["current"] = False
        results.append({**result, "folder": folder})
    return sorted(results, key=lambda result: (_rank(result["paper"]["family"]), result["slug"]))


def _rank(family: str) -> int:
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _mark(passed: bool) -> Any:
    from rich.text import Text

    return Text("✓ pass", "green") if passed else Text("✗ FAIL", "bold red")


def _text(value: Any) -> Any:
    """Return text that rich does not read as markup."""
    from rich.text import Text

    return Text(str(value))


def criteria_table(
    results: Iterable[Mapping[str, Any]], errors: Mapping[str, str] | None = None
) -> Table:
    """Return the table of reproductions.

    Paper, criterion, the paper's figure, what was measured, and whether it passes.

    Parameters
    ----------
    results
        Contents of ``result.json``.
    errors
        What the reproductions that raised have raised, under their slugs.
    """
    table = _table("Reproductions", "Paper", "Criterion", "Paper's figure", "Measured", "Pass")
    for result in results:
        for row, criterion in enumerate(result["criteria"]):
            table.add_row(
                _text(result["slug"] if row == 0 else ""),
                _text(criterion["name"]),
                _text(criterion["paper"]),
                _text(format_number(criterion["measured"])),
                _mark(criterion["passed"]),
                end_section=row == len(result["criteria"]) - 1,
            )
    for slug, error in (errors or {}).items():
        table.add_row(
            _text(slug), _text("runs to its end"), "", _text(error), _mark(False), end_section=True
        )
    return table


def checks_table(checks: Mapping[str, Mapping[str, ClaimResult]]) -> Table:
    """Return the table of claims checked, with the reason below each that does not hold."""
    table = _table(
        "Claims",
        "Paper",
        "Claim",
        "Examples",
        "Worst error",
        "Tolerance",
        "Counterexample",
        "Holds",
    )
    found = {None: "–", True: "found", False: "none found"}
    for slug, claims in checks.items():
        for row, (name, result) in enumerate(claims.items()):
            table.add_row(
                _text(slug if row == 0 else ""),
                _text(name),
                str(result.examples),
                f"{result.worst:.3g}",
                f"{result.tolerance:.3g}",
                found[result.counterexample_found],
                _mark(result.holds),
                end_section=row == len(claims) - 1,
            )
    return table


def cards_table(papers: Iterable[Paper]) -> Table:
    """Return the table of papers."""
    table = _table("Papers", "Family", "Slug", "Year", "arXiv", "Title")
    for paper in papers:
        table.add_row(*map(_text, (paper.family, paper.slug, paper.year, paper.arxiv, paper.title)))
    return table


def losses_table(part: str, topics: Mapping[str, list[str]]) -> Table:
    """Return the table of the losses that change one part of the recipe, by topic."""
    table = _table(f"Losses that change the {part}", "Topic", "Losses")
    for topic, names in topics.items():
        table.add_row(_text(topic), _text(", ".join(names)))
    return table


def claims_table(claims: Iterable[Claim]) -> Table:
    """Return the table of a paper's claims."""
    table = _table("Claims", "Id", "Kind", "Statement", "Source", "Tolerance", "Broken on purpose")
    for claim in claims:
        breaks = "–" if claim.breaks is None else "yes"
        table.add_row(
            *map(
                _text,
                (
                    claim.id,
                    claim.kind,
                    claim.statement,
                    claim.source,
                    f"{claim.tolerance:.3g}",
                    breaks,
                ),
            )
        )
    return table


def write_index(out: str | os.PathLike[str], errors: Mapping[str, str] | None = None) -> Path:
    """Write ``index.html`` from every whole result in a folder, and return its path.

    Figures are inside the page.

    Parameters
    ----------
    out
        The folder of results.
    errors
        What the reproductions that raised have raised, under their slugs.

    Raises
    ------
    ValueError
        If the folder does not exist.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    out = Path(out)
    results = collect(out)
    for result in results:
        picture = (result["folder"] / "figure.png").read_bytes()
        result["picture"] = base64.b64encode(picture).decode("ascii")
        result["columns"] = list(dict.fromkeys(key for row in result["table"] for key in row))
    environment = Environment(
        loader=PackageLoader("prefsim.papers"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    criteria = [criterion for result in results for criterion in result["criteria"]]
    page = environment.get_template("index.html.j2").render(
        families=[
            (name, [r for r in results if r["paper"]["family"] == family])
            for family, name in FAMILY_NAMES.items()
        ],
        results=results,
        errors=dict(errors or {}),
        criteria=len(criteria),
        passed=sum(criterion["passed"] for criterion in criteria),
        version=__version__,
    )
    path = out / "index.html"
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=out, prefix=".index-", suffix=".part", delete=False
    ) as file:
        file.write(page)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
    return path
