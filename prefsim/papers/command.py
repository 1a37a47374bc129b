"""``prefsim check`` and ``prefsim repro``, and the words that all commands about papers share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefsim.papers.discovery import all_slugs, find

if TYPE_CHECKING:
    from rich.console import Console

    from prefsim.papers.reproducing import Outcome
    from prefsim.parallel import Report

__all__ = [
    "FAILED",
    "Every",
    "Json",
    "Slugs",
    "check",
    "complete_slug",
    "console_of_stdout",
    "notebook",
    "print_json",
    "repro",
]

FAILED = 1
"""Exit code where a claim or criterion does not hold."""


FEW = 3
"""Of so many papers the terminal shows every criterion; of more it shows those that fail."""


def complete_slug(beginning: str) -> list[str]:
    """Return the papers whose slug begins so, for the completion of a shell."""
    return [slug for slug in all_slugs() if slug.startswith(beginning)]


Slugs = Annotated[
    list[str] | None,
    typer.Argument(
        autocompletion=complete_slug,
        metavar="SLUG...",
        help="Papers, as `prefsim list` names them, or paths such as ./mine.py.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Every = Annotated[bool, typer.Option("--all", help="All papers.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random draw, >= 0.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", help="Processes; -1 for one a core.")]


def _folder(name: str) -> Path:
    if not name:
        raise typer.BadParameter("must name a folder, got nothing")
    return Path(name)


Out = Annotated[Path, typer.Option(parser=_folder, metavar="FOLDER", help="Folder of the results.")]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="tcp://HOST:PORT", help="Run on the workers of this Dask scheduler."),
]


def print_json(value: Any) -> None:
    """Write a value to stdout as JSON."""
    # Escapes say the same to whoever reads JSON, where the alphabet of the console is smaller.
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(value, indent=2, ensure_ascii=ascii_only, allow_nan=False))


def console_of_stdout() -> Console:
    """Return the console that tables are printed on."""
    from rich.console import Console

    console = Console()
    # A pipe or a file has no width of its own; eighty columns would fold every cell.
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=160)


def _chosen(slugs: Sequence[str] | None, every: bool) -> list[str]:
    if bool(slugs) == every:
        raise ValueError(
            "name some papers, or give --all"
            if not slugs
            else "give either the names of papers or --all, got both"
        )
    chosen = list(all_slugs()) if every else list(dict.fromkeys(slugs or ()))
    for slug in chosen:
        find(slug)  # raises for an unknown one before anything runs
    if not chosen:
        raise ValueError("no papers are installed")
    return chosen


@contextlib.contextmanager
def _heeding_interrupts() -> Iterator[Callable[[], None]]:
    """Yield a function that raises an interrupt which was lost.

    Python ignores an exception in a callback of its garbage collector, and Hypothesis has one.
    """
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    def heed() -> None:
        if seen:
            raise KeyboardInterrupt

    ignored = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    if ignored or threading.current_thread() is not threading.main_thread():
        yield heed
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield heed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def _watched(what: str, cluster: str | None) -> Iterator[Report]:
    """Yield what is to be told how many claims or mutants are done, here or on a cluster."""
    from prefsim import parallel
    from prefsim.progress import Bars

    with parallel.cluster(cluster), Bars(what) as bars, _heeding_interrupts() as heed:

        def tell(_: str, __: str, done: int, total: int | None) -> None:
            heed()
            bars.whole(done, total)

        yield tell


def check(
    slugs: Slugs = None,
    every: Every = False,
    examples: Annotated[
        int, typer.Option(help="Random instances of each claim; costly claims take fewer.")
    ] = 50,
    seed: Seed = 0,
    out: Out = Path("results"),
    jobs: Jobs = 1,
    cluster: Cluster = None,
    sabotage: Annotated[
        bool,
        typer.Option(
            "--sabotage",
            help="Rather break what the papers implement, and see whether claims and reproduction"
            " notice.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the claims of papers on random instances; exit 1 if one does not hold.

    The verdicts are kept beside the results of the reproductions, and shown on their page.
    """
    if sabotage:
        _sabotage(_chosen(slugs, every), seed, out, jobs, cluster, as_json)
        return
    from prefsim.papers.report import write_index
    from prefsim.papers.tables import checks_table
    from prefsim.papers.verdicts import check_papers, claim_json

    chosen = _chosen(slugs, every)
    with _watched("claims", cluster) as tell:
        results = check_papers(
            chosen,
            examples=examples,
            seed=seed,
            jobs=jobs,
            out=out,
            report=tell,
        )
    index = write_index(out)
    named = {find(reference).slug: results[reference] for reference in chosen}
    failed = [
        (slug, name, result)
        for slug, claims in named.items()
        for name, result in claims.items()
        if result.holds is False
    ]
    if as_json:
        rows = {
            slug: {name: claim_json(result) for name, result in claims.items()}
            for slug, claims in named.items()
        }
        print_json(rows)
    else:
        console = console_of_stdout()
        console.print(checks_table(named))
        for slug, name, result in failed:
            line = f"{slug} {name}: {result.detail}"
            console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
        verdicts = [result.holds for claims in named.values() for result in claims.values()]
        left = verdicts.count(None)
        rest = f", {left} about real data were not run" if left else ""
        held = f"{verdicts.count(True)} of {len(verdicts) - left} claims hold{rest}"
        console.print(held, highlight=False)
        console.print(f"Results: {index}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(FAILED)


def _sabotage(
    chosen: list[str], seed: int, out: Path, jobs: int, cluster: str | None, as_json: bool
) -> None:
    """Break what papers implement; exit 1 if something was noticed by nobody and is unexplained."""
    from prefsim.data.locate import data_folder
    from prefsim.papers.findings import sabotage_papers
    from prefsim.papers.report import write_index
    from prefsim.papers.tables import sabotage_table

    with _watched("mutants", cluster) as tell:
        findings = sabotage_papers(
            chosen,
            seed=seed,
            data=data_folder(None),
            jobs=jobs,
            out=out,
            report=tell,
        )
    index = write_index(out)
    named = {find(reference).slug: findings[reference] for reference in chosen}
    if as_json:
        rows = {
            slug: [finding._asdict() | {"explained": finding.is_explained} for finding in found]
            for slug, found in named.items()
        }
        print_json(rows)
    else:
        console = console_of_stdout()
        console.print(sabotage_table(named))
        console.print(f"Results: {index}", markup=False, highlight=False, soft_wrap=True)
    if not all(finding.is_explained for found in named.values() for finding in found):
        raise typer.Exit(FAILED)


def _line(outcome: Outcome) -> str:
    if outcome.result is None:
        return f"✗ {outcome.slug}: {outcome.error}"
    criteria = outcome.result["criteria"]
    how = "kept" if outcome.reused else f"{outcome.result['seconds']:.1f} s"
    return (
        f"{'✓' if outcome.passed else '✗'} {outcome.slug}: {sum(c['passed'] for c in criteria)} of"
        f" {len(criteria)} criteria pass, {how}"
    )


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {"passed": outcome.passed, "reused": outcome.reused}
    if outcome.result is None:
        return {**row, "criteria": [], "error": outcome.error}
    from prefsim.papers.storage import FIGURE, RESULT

    files = {"figure": str(outcome.folder / FIGURE), "result": str(outcome.folder / RESULT)}
    return {
        **row,
        "criteria": outcome.result["criteria"],
        "seconds": outcome.result["seconds"],
        **files,
    }


def repro(
    slugs: Slugs = None,
    every: Every = False,
    out: Out = Path("results"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seeds and smaller worlds.")] = False,
    backend: Annotated[str, typer.Option(help="numpy or torch.")] = "numpy",
    device: Annotated[str, typer.Option(help="Device of torch, such as cuda.")] = "cpu",
    jobs: Jobs = 1,
    cluster: Cluster = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with real data; otherwise the variable PREFSIM_DATA."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compute again what is there already.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Reproduce papers: a figure and criteria each, and one page; exit 1 if a criterion fails.

    Run again to resume.
    """
    from prefsim import parallel
    from prefsim.data.locate import data_folder
    from prefsim.papers.report import write_index
    from prefsim.papers.reproducing import Settings, run_reproductions
    from prefsim.papers.tables import criteria_table
    from prefsim.progress import Bars

    chosen = _chosen(slugs, every)
    settings = Settings(quick, seed, data_folder(data), backend, device)
    outcomes: dict[str, Outcome] = {}
    named = [find(reference).slug for reference in chosen]

    def errors() -> dict[str, str]:
        return {
            slug: str(outcomes[slug].error)
            for slug in named
            if slug in outcomes and outcomes[slug].result is None
        }

    with parallel.cluster(cluster), Bars("papers", total=len(chosen)) as bars:
        running = run_reproductions(
            chosen,
            out=out,
            settings=settings,
            jobs=jobs,
            force=force,
            report=bars.loop if bars.live else None,
        )
        try:
            for outcome in running:
                outcomes[outcome.slug] = outcome
                bars.finished(outcome.slug, _line(outcome))
        finally:  # also when interrupted: what is finished is shown
            if outcomes:
                index = write_index(out, errors())
    if as_json:
        print_json({slug: _outcome_json(outcomes[slug]) for slug in named})
    else:
        console = console_of_stdout()
        whole = [r for slug in named if (r := outcomes[slug].result) is not None]
        # Of many papers the page has the numbers; here is what fails.
        many = len(named) > FEW
        if not many or errors() or not all(result["passed"] for result in whole):
            console.print(criteria_table(whole, errors(), failing=many))
        if many:
            criteria = [row["passed"] for result in whole for row in result["criteria"]]
            good = sum(outcomes[slug].passed for slug in named)
            console.print(
                f"{good} of {len(named)} papers pass; {sum(criteria)} of {len(criteria)} criteria",
                highlight=False,
            )
        console.print(f"Results: {index}", markup=False, highlight=False, soft_wrap=True)
    if not all(outcome.passed for outcome in outcomes.values()):
        raise typer.Exit(FAILED)


def notebook(
    slug: Annotated[
        str,
        typer.Argument(
            metavar="SLUG",
            help="The paper, or a path such as ./mine.py.",
            autocompletion=complete_slug,
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The file; <slug>.ipynb unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Write a runnable notebook of a paper: claims, figure, functions, and what to try."""
    from prefsim.papers.notebook import write_notebook

    path = write_notebook(slug, out)
    if as_json:
        print_json({"notebook": str(path)})
    else:
        typer.echo(path)
