"""What the terminal shows: papers, claims, errata, criteria, what noticed broken functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from prefsim.papers.markdown import as_text
from prefsim.papers.paper import Paper
from prefsim.papers.stated import origin

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from prefsim.papers.checking import ClaimResult
    from prefsim.papers.claims import Claim
    from prefsim.papers.errata import Erratum
    from prefsim.papers.sabotage import Finding

__all__ = [
    "cards_table",
    "checks_table",
    "claims_table",
    "criteria_table",
    "errata_list",
    "format_number",
    "losses_table",
    "percent",
    "sabotage_table",
    "said_in_paper",
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
    results: Iterable[Mapping[str, Any]],
    errors: Mapping[str, str] | None = None,
    *,
    failing: bool = False,
) -> Table:
    """Return the table of reproductions.

    Slug, criterion, what the paper says, what is expected, what was measured, whether it passes.

    Parameters
    ----------
    results
        Contents of ``result.json``.
    errors
        What the reproductions that raised have raised, under their slugs.
    failing
        Only criteria that do not pass.
    """
    columns = ("Slug", "Criterion", "Paper", "Expected", "Measured", "Pass")
    table = _table("Reproductions", *columns)
    for result in results:
        shown = [c for c in result["criteria"] if not (failing and c["passed"])]
        for row, criterion in enumerate(shown):
            table.add_row(
                _text(result["slug"] if row == 0 else ""),
                _text(criterion["name"]),
                _text(said_in_paper(criterion)),
                _text(criterion["bound"]),
                _text(criterion["measured"]),
                _mark(criterion["passed"]),
                end_section=row == len(shown) - 1,
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
                percent(result.used),
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


def percent(share: float | None) -> str:
    """Return a share in per cent with the digits worth reading."""
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


def errata_list(errata: Iterable[Erratum]) -> Group:
    """Return what a paper or its code says wrongly, or less sharply than it could.

    Sentences are too long for the columns of a table.
    """
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    lines: list[Any] = [Text("Errata", "italic")]
    for erratum in errata:
        head = Text.assemble((erratum.kind, "yellow"), " · ", as_text(f"{erratum.about}: "))
        lines += [Text(""), head.append_text(as_text(erratum.says))]
        known = Text("How we know: ", "dim").append_text(as_text(erratum.known))
        lines += [Padding(part, (0, 0, 0, 2)) for part in (as_text(erratum.true), known)]
    return Group(*lines)
