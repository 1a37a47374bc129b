"""Show what was checked and reproduced.

Tables for the terminal, and one self-contained page of results.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefsim import __version__
from prefsim.checks import check_directory
from prefsim.papers.checking import DRAWN
from prefsim.papers.discovery import FAMILIES, rank
from prefsim.papers.findings import read_findings
from prefsim.papers.fingerprint import fingerprint
from prefsim.papers.paper import Paper
from prefsim.papers.reproducing import read_result
from prefsim.papers.sabotage import Finding
from prefsim.papers.stated import origin
from prefsim.papers.storage import FIGURE, write_text
from prefsim.papers.verdicts import read_verdicts

if TYPE_CHECKING:
    from rich.table import Table

    from prefsim.papers import Claim
    from prefsim.papers.checking import ClaimResult

__all__ = [
    "cards_table",
    "checks_table",
    "claims_table",
    "collect",
    "criteria_table",
    "format_number",
    "losses_table",
    "sabotage_table",
    "said_in_paper",
    "write_index",
]


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
    """Return what a folder of results holds of each paper, in the order of families and slugs.

    Parameters
    ----------
    out
        The folder.

    Returns
    -------
    For each paper ``slug``, ``title``, ``family``, ``folder``, and its ``result``, ``verdicts`` and
    ``sabotage``, each of them None where it is not there. They say under ``current`` whether they
    still follow from the code.

    Raises
    ------
    ValueError
        If the folder does not exist.
    """
    out = Path(out)
    check_directory(out, "folder of results")
    papers = []
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        result, verdicts = read_result(folder), read_verdicts(folder)
        sabotage = read_findings(folder)
        for held in filter(None, (result, verdicts, sabotage)):
            held["current"] = _is_current(held)
        if result is not None:
            shown = {name: result["paper"][name] for name in ("title", "family")}
        elif verdicts is not None:
            shown = {name: verdicts[name] for name in ("title", "family")}
        else:
            continue
        about = {"slug": folder.name, "folder": folder, **shown}
        papers.append({**about, "result": result, "verdicts": verdicts, "sabotage": sabotage})
    return sorted(papers, key=lambda paper: (rank(paper["family"]), paper["slug"]))


def _is_current(held: Mapping[str, Any]) -> bool:
    try:
        return bool(fingerprint(held["reference"], held["settings"]) == held["fingerprint"])
    except ValueError:  # a paper of another checkout
        return False


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


def said_in_paper(criterion: Mapping[str, Any]) -> str:
    """Return what the paper states of a criterion, or in words that the number is not from there.

    Examples
    --------
    >>> said_in_paper({"stated": "paper", "bound": "-0.5 ± 0.1", "paper": ""})
    '-0.5 ± 0.1'
    >>> said_in_paper({"stated": "chosen", "bound": "at most 0.02", "paper": "much smaller"})
    'much smaller; chosen here'
    """
    if criterion["stated"] == "paper":
        return str(criterion["paper"] or criterion["bound"])
    return "; ".join(filter(None, (criterion["paper"], origin(criterion["stated"]))))


def criteria_table(
    results: Iterable[Mapping[str, Any]], errors: Mapping[str, str] | None = None
) -> Table:
    """Return the table of reproductions.

    Slug, criterion, what the paper says, what is expected, what was measured, whether it passes.

    Parameters
    ----------
    results
        Contents of ``result.json``.
    errors
        What the reproductions that raised have raised, under their slugs.
    """
    columns = ("Slug", "Criterion", "Paper", "Expected", "Measured", "Pass")
    table = _table("Reproductions", *columns)
    for result in results:
        for row, criterion in enumerate(result["criteria"]):
            table.add_row(
                _text(result["slug"] if row == 0 else ""),
                _text(criterion["name"]),
                _text(said_in_paper(criterion)),
                _text(criterion["bound"]),
                _text(criterion["measured"]),
                _mark(criterion["passed"]),
                end_section=row == len(result["criteria"]) - 1,
            )
    for slug, error in (errors or {}).items():
        cells = (_text(slug), _text("runs to its end"), "", "", _text(error), _mark(False))
        table.add_row(*cells, end_section=True)
    return table


def checks_table(checks: Mapping[str, Mapping[str, ClaimResult]]) -> Table:
    """Return the table of claims checked."""
    measured = ("Examples", "Worst error", "Tolerance", "Bound used", "Counterexample", "Holds")
    table = _table("Claims", "Paper", "Claim", "Data", *measured)
    for slug, claims in checks.items():
        for row, (name, result) in enumerate(claims.items()):
            table.add_row(
                _text(slug if row == 0 else ""),
                _text(name),
                _text(result.data),
                str(result.examples),
                "–" if result.holds is None else f"{result.worst:.3g}",
                f"{result.tolerance:.3g}",
                _percent(result.used),
                _COUNTEREXAMPLE[result.counterexample_found],
                "not run" if result.holds is None else _mark(result.holds),
                end_section=row == len(claims) - 1,
            )
    return table


def sabotage_table(findings: Mapping[str, Iterable[Finding]]) -> Table:
    """Return the table of what noticed each function that was broken on purpose."""
    columns = ("Broken function", "How", "Noticed by claim", "Noticed by reproduction", "Explained")
    table = _table("What would have caught a bug", "Paper", *columns)
    for slug, found in findings.items():
        rows = list(found)
        for row, finding in enumerate(rows):
            noticed = finding.claim or ("–" if finding.used[0] else "does not use it")
            said = finding.criterion or ("–" if finding.used[1] else "does not use it")
            table.add_row(
                _text(slug if row == 0 else ""),
                _text(finding.function.rpartition(".")[2]),
                _text(finding.mutant),
                _text(noticed),
                _text(said),
                _explained(finding),
                end_section=row == len(rows) - 1,
            )
    return table


def _explained(finding: Finding) -> Any:
    said = finding.lost or finding.reason
    return _text(said) if said else _mark(finding.is_explained)


_COUNTEREXAMPLE = {None: "–", True: "found", False: "none found"}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2g} %"


def cards_table(papers: Iterable[tuple[str, Paper]]) -> Table:
    """Return the table of papers, each with its family."""
    table = _table("Papers", "Family", "Slug", "Year", "arXiv", "Title")
    for family, paper in papers:
        table.add_row(*map(_text, (family, paper.slug, paper.year, paper.arxiv, paper.title)))
    return table


def losses_table(part: str, topics: Mapping[str, list[str]]) -> Table:
    """Return the table of the losses that change one part of the recipe, by topic."""
    table = _table(f"Losses that change the {part}", "Topic", "Losses")
    for topic, names in topics.items():
        table.add_row(_text(topic), _text(", ".join(names)))
    return table


def claims_table(claims: Iterable[Claim]) -> Table:
    """Return the table of a paper's claims."""
    columns = ("Statement", "Source", "Stated", "Tolerance", "Broken by")
    table = _table("Claims", "Id", "Kind", *columns)
    for claim in claims:
        dropped = "; ".join(", ".join(names) for names in claim.dropped) or "–"
        about = (claim.id, claim.kind, claim.statement, claim.source, origin(claim.stated))
        table.add_row(*map(_text, (*about, f"{claim.tolerance:.3g}", dropped)))
    return table


def write_index(out: str | os.PathLike[str], errors: Mapping[str, str] | None = None) -> Path:
    """Write ``index.html`` from all that a folder of results holds, and return its path.

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
    papers = collect(out)
    for paper in papers:
        if (result := paper["result"]) is not None:
            picture = (paper["folder"] / FIGURE).read_bytes()
            result["picture"] = base64.b64encode(picture).decode("ascii")
            result["columns"] = list(dict.fromkeys(key for row in result["table"] for key in row))
    environment = Environment(
        loader=PackageLoader("prefsim.papers"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_number,
        "origin": origin,
        "percent": _percent,
        "said": said_in_paper,
    }
    results = [paper["result"] for paper in papers if paper["result"] is not None]
    checked = [paper["verdicts"] for paper in papers if paper["verdicts"] is not None]
    criteria = [criterion for result in results for criterion in result["criteria"]]
    claims = [claim for verdicts in checked for claim in verdicts["claims"]]
    families = sorted({paper["family"] for paper in papers}, key=rank)
    page = environment.get_template("index.html.j2").render(
        families=[
            (FAMILIES.get(family, family), [p for p in papers if p["family"] == family])
            for family in families
        ],
        papers=papers,
        errors=dict(errors or {}),
        criteria=len(criteria),
        passed=sum(criterion["passed"] for criterion in criteria),
        claims=sum(claim["holds"] is not None for claim in claims),
        drawn=DRAWN,
        held=sum(claim["holds"] is True for claim in claims),
        version=__version__,
    )
    path = out / "index.html"
    write_text(path, page)
    return path
