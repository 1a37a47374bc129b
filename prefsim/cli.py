"""The command line: what is known, whether it is true, what it does.

Data to stdout, progress to stderr, one line for bad input.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from prefsim import __version__
from prefsim.lm.command.cli import train
from prefsim.lm.command.rounds_cli import rounds
from prefsim.papers.command import (
    Json,
    check,
    complete_slug,
    console_of_stdout,
    notebook,
    print_json,
    repro,
)
from prefsim.papers.discovery import FAMILIES, cards, load, plain

__all__ = ["app", "main"]

BAD_INPUT, INTERRUPTED, NO_READER = 2, 130, 141
# typer carries its own copy of click in newer versions and uses the package in older ones; both
# have this class.
_BadUsage: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app = typer.Typer(
    name="prefsim",
    help="Check and reproduce the theory of learning from preferences.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
        print_json([plain(paper, family) for family, paper in papers])
        return
    from prefsim.papers.tables import cards_table

    console_of_stdout().print(cards_table(papers))


def _list_losses(family: str | None, by: str, as_json: bool) -> None:
    from prefsim.losses.taxonomy import by_part

    if family not in (None, "direct"):
        raise ValueError(f"--by sorts the losses of the family 'direct', got --family {family}")
    topics = by_part(by)
    if as_json:
        print_json(topics)
        return
    from prefsim.papers.tables import losses_table

    console_of_stdout().print(losses_table(by, topics))


@app.command()
def show(
    slug: Annotated[
        str,
        typer.Argument(
            metavar="SLUG",
            help="The paper, or a path such as ./mine.py.",
            autocompletion=complete_slug,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show a paper's card and claims, and what it or its code says wrongly."""
    module = load(slug)
    paper, family, claims, path = module.paper, module.family, module.claims, module.path
    if as_json:
        kept = ("id", "kind", "statement", "source", "stated", "tolerance")
        rows = [
            {name: getattr(claim, name) for name in kept}
            | {"breaks": bool(claim.breaks), "dropped": [list(names) for names in claim.dropped]}
            | {"data": None if claim.data is None else claim.data.name}
            for claim in claims
        ]
        errata = [erratum._asdict() for erratum in module.errata]
        about = {**plain(paper, family), "module": str(path)}
        print_json({**about, "claims": rows, "errata": errata})
        return
    from prefsim.papers.tables import claims_table, errata_list

    console = console_of_stdout()
    year = f" ({paper.year})" if paper.year else ""
    console.print(f"{paper.title}{year}", style="bold", markup=False, highlight=False)
    if paper.arxiv:
        console.print(f"https://arxiv.org/abs/{paper.arxiv}", markup=False)
    if family:
        console.print(f"family: {FAMILIES.get(family, family)} ({family})", markup=False)
    console.print(f"\n{paper.summary}\n", markup=False, highlight=False)
    if paper.implements:
        implemented = ", ".join(paper.implements)
        console.print(f"Implemented by {implemented}", markup=False, highlight=False)
    console.print(
        f"Claims and reproduction: {path}\n", markup=False, highlight=False, soft_wrap=True
    )
    console.print(claims_table(claims))
    if module.errata:
        console.print(errata_list(module.errata))


app.command()(check)
app.command()(repro)
app.command()(notebook)
app.command()(train)
app.command()(rounds)


@app.command()
def info(as_json: Json = False) -> None:
    """Show versions, devices and threads."""
    from prefsim.environment import environment

    found = environment()
    if as_json:
        print_json(found)
        return
    console = console_of_stdout()
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
    _prepare_streams()
    try:
        code = app(args=arguments or ["--help"], prog_name="prefsim", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (
        BrokenPipeError,
        SystemExit,
    ):  # typer exits by itself where the reader of a pipe has left
        _discard_output()
        return NO_READER
    except _BadUsage as error:
        _complain(error.format_message())  # type: ignore[attr-defined]
        return BAD_INPUT
    except ValueError as error:
        _complain(str(error))
        return BAD_INPUT
    except OSError as error:  # a full disk, a folder that went away, a cluster that is lost
        _complain(_said(error))
        # What could not be written would be tried again at the very end, and fail there.
        _discard_output()
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        _complain(f"out of memory: {str(error) or 'there is none left'}")
        return BAD_INPUT
    if code == INTERRUPTED:
        _complain(
            "interrupted; what is finished is kept, and the same command resumes (train: with"
            " --resume)"
        )
    return code if isinstance(code, int) else 0


# Torch has no error of its own for the memory of the processor.
_OUT_OF_MEMORY = re.compile("out of memory|allocate memory", re.IGNORECASE)


def _prepare_streams() -> None:
    """Make both streams take what is printed, whatever they are."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - kept open
        elif isinstance(stream, io.TextIOWrapper):
            # A console of another alphabet shows a question mark for what it does not know.
            stream.reconfigure(errors="replace")


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _said(error: OSError) -> str:
    if error.strerror is None:
        return str(error) or type(error).__name__
    where = "" if error.filename is None else f": {os.fspath(error.filename)!s}"
    return f"{error.strerror}{where}"


def _complain(message: str) -> None:
    print(f"prefsim: {' '.join(message.split())}", file=sys.stderr)
