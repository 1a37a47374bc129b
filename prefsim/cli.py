"""The command line: what is known, whether it is true, what it does.

Data to stdout, progress to stderr, one line for bad input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefsim import __version__
from prefsim.lm.command.cli import train
from prefsim.papers.discovery import FAMILIES, all_slugs, cards, find, load, plain

if TYPE_CHECKING:
    from rich.console import Console

    from prefsim.papers.reproducing import Outcome

__all__ = ["app", "main"]

FAILED, BAD_INPUT, INTERRUPTED, NO_READER = 1, 2, 130, 141
# typer carries its own copy of click in newer versions and uses the package in older ones; both
# have this class.
_BadUsage: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app = typer.Typer(
    name="prefsim",
    help="Check and reproduce the theory of learning from preferences.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Slugs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SLUG...",
        help="Papers, as `prefsim list` names them, or paths such as ./mine.py.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Every = Annotated[bool, typer.Option("--all", help="All papers.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random draw, >= 0.")]
Jobs = Annotated[int, typer.Option("-j", "--jobs", help="Processes; -1 for one a core.")]
Out = Annotated[Path, typer.Option(help="Folder of the results.")]
Cluster = Annotated[
    str | None,
    typer.Option(metavar="tcp://HOST:PORT", help="Run on the workers of this Dask scheduler."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prefsim {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Check and reproduce the theory of learning from preferences."""


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _console() -> Console:
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


@app.command("list")
def list_(
    family: Annotated[
        str | None,
        typer.Option(help=f"Only this family: {', '.join(FAMILIES)}."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help=(
                "Rather the losses of the direct family, by the part they change: data, framework,"
                " constraint, property."
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the papers, or (--by) the losses of the direct family."""
    if by is not None:
        _list_losses(family, by, as_json)
        return
    papers = cards(family)
    if as_json:
        _print_json([plain(paper, family) for family, paper in papers])
        return
    from prefsim.papers.report import cards_table

    _console().print(cards_table(papers))


def _list_losses(family: str | None, by: str, as_json: bool) -> None:
    from prefsim.losses.taxonomy import by_part

    if family not in (None, "direct"):
        raise ValueError(f"--by sorts the losses of the family 'direct', got --family {family}")
    topics = by_part(by)
    if as_json:
        _print_json(topics)
        return
    from prefsim.papers.report import losses_table

    _console().print(losses_table(by, topics))


@app.command()
def show(
    slug: Annotated[
        str, typer.Argument(metavar="SLUG", help="The paper, or a path such as ./mine.py.")
    ],
    as_json: Json = False,
) -> None:
    """Show a paper's card and claims."""
    paper, family, claims, _, path = load(slug)
    if as_json:
        kept = ("id", "kind", "statement", "source", "stated", "tolerance")
        rows = [
            {name: getattr(claim, name) for name in kept}
            | {"breaks": bool(claim.breaks), "dropped": [list(names) for names in claim.dropped]}
            | {"data": None if claim.data is None else claim.data.name}
            for claim in claims
        ]
        _print_json({**plain(paper, family), "module": str(path), "claims": rows})
        return
    from prefsim.papers.report import claims_table

    console = _console()
    year = f" ({paper.year})" if paper.year else ""
    console.print(f"{paper.title}{year}", style="bold", markup=False, highlight=False)
    if paper.arxiv:
        console.print(f"https://arxiv.org/abs/{paper.arxiv}", markup=False)
    if family:
        console.print(f"family: {family}, {FAMILIES.get(family, family)}", markup=False)
    console.print(f"\n{paper.summary}\n", markup=False, highlight=False)
    if paper.implements:
        implemented = ", ".join(paper.implements)
        console.print(f"Implemented by {implemented}", markup=False, highlight=False)
    console.print(
        f"Claims and reproduction: {path}\n", markup=False, highlight=False, soft_wrap=True
    )
    console.print(claims_table(claims))


@app.command()
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
    from prefsim import parallel
    from prefsim.papers.report import checks_table, write_index
    from prefsim.papers.verdicts import check_papers, claim_json
    from prefsim.progress import Bars

    chosen = _chosen(slugs, every)
    with parallel.cluster(cluster), Bars("claims") as bars:
        results = check_papers(
            chosen,
            examples=examples,
            seed=seed,
            jobs=jobs,
            out=out,
            report=lambda _, __, done, total: bars.whole(done, total),
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
        _print_json(rows)
    else:
        console = _console()
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
    from prefsim import parallel
    from prefsim.data.locate import data_folder
    from prefsim.papers.report import sabotage_table, write_index
    from prefsim.papers.sabotage import sabotage_papers
    from prefsim.progress import Bars

    with parallel.cluster(cluster), Bars("mutants") as bars:
        findings = sabotage_papers(
            chosen,
            seed=seed,
            data=data_folder(None),
            jobs=jobs,
            out=out,
            report=lambda _, __, done, total: bars.whole(done, total),
        )
    index = write_index(out)
    named = {find(reference).slug: findings[reference] for reference in chosen}
    if as_json:
        rows = {
            slug: [finding._asdict() | {"explained": finding.is_explained} for finding in found]
            for slug, found in named.items()
        }
        _print_json(rows)
    else:
        console = _console()
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


@app.command()
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
    from prefsim.papers.report import criteria_table, write_index
    from prefsim.papers.reproducing import Settings, run_reproductions
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
        _print_json({slug: _outcome_json(outcomes[slug]) for slug in named})
    else:
        console = _console()
        whole = [r for slug in named if (r := outcomes[slug].result) is not None]
        console.print(criteria_table(whole, errors()))
        console.print(f"Results: {index}", markup=False, highlight=False, soft_wrap=True)
    if not all(outcome.passed for outcome in outcomes.values()):
        raise typer.Exit(FAILED)


app.command()(train)


@app.command()
def info(as_json: Json = False) -> None:
    """Show versions, devices and threads."""
    from prefsim.environment import environment

    found = environment()
    if as_json:
        _print_json(found)
        return
    console = _console()
    for key, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {held}" for name, held in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        console.print(f"{key}: {value}", markup=False, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    0, 1 if a claim or criterion failed, 2 on bad input, 130 if interrupted.
    """
    raise SystemExit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    try:
        code = app(args=arguments or ["--help"], prog_name="prefsim", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (
        BrokenPipeError,
        SystemExit,
    ):  # typer exits by itself where the reader of a pipe has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    except _BadUsage as error:
        _complain(error.format_message())  # type: ignore[attr-defined]
        return BAD_INPUT
    except (ValueError, ConnectionError) as error:  # the second: a cluster that went away
        _complain(str(error))
        return BAD_INPUT
    if code == INTERRUPTED:
        _complain(
            "interrupted; what is finished is kept, and the same command resumes (train: with"
            " --resume)"
        )
    return code if isinstance(code, int) else 0


def _complain(message: str) -> None:
    print(f"prefsim: {' '.join(message.split())}", file=sys.stderr)
