"""Write the table of all methods: what kind of function each is, what it needs, who stated it."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import make_methods
import make_reference
import numpy as np

from prefsim import loops, solvers
from prefsim.containers.fields import map_fields
from prefsim.losses.catalogue import LossProperties, catalogue
from prefsim.losses.registry import container_of, loss_functions
from prefsim.papers.discovery import cards
from prefsim.papers.sabotage import resolve

HEAD = """\
# All methods

A click on the head of a column sorts by it. What a loss is like is measured, not declared: by
`prefsim.losses.catalogue` at its default options. *Convex*: along the margin of a pair. *Bounded*:
from below, over all log-probabilities. *Coupled*: the value of one example depends on the others of
its batch. *Minimiser*: the margin h(p) that minimises the loss of a pair whose first response is
preferred with probability p. *Cost*: seconds of one evaluation of 20,000 examples in NumPy over
those of `dpo`, measured when this page was made; a token loss reads more numbers an example.

## Losses

"""

SOLVERS = """\

## Solvers and loops

"""

COLUMNS = (
    *("Loss", "Data", "Reference", "Convex", "Bounded", "Coupled", "Minimiser"),
    *("Language model", "Papers", "Cost"),
)


def papers_of() -> dict[Callable[..., Any], list[str]]:
    """Return links to the papers that implement each function."""
    found: dict[Callable[..., Any], list[str]] = {}
    for family, paper in cards():
        for dotted in paper.implements:
            link = f"[{paper.slug}](papers/{family}/{paper.slug}.md)"
            found.setdefault(inspect.unwrap(resolve(dotted)), []).append(link)
    return found


def _yes(value: bool | None) -> str:
    return {None: "–", True: "yes", False: "no"}[value]


def _seconds(loss: Callable[..., Any]) -> float:
    """Return the seconds of one evaluation of 20,000 examples, the median of five."""
    example = container_of(loss).example()
    rows = 20_000
    batch = map_fields(example, lambda column: np.resize(column, (rows, *column.shape[1:])))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        loss(batch)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _commands(name: str, trainable: Mapping[str, Callable[..., Any]]) -> str:
    """Return the commands that train a language model by a loss, without `prefsim`."""
    loss = {name: trainable[name]} if name in trainable else {}
    return make_methods.command(loss).replace("prefsim ", "") or "–"


def loss_row(
    row: LossProperties, papers: Mapping[Any, list[str]], trainable: Mapping[str, Any], unit: float
) -> list[str]:
    """Return the cells of a loss."""
    loss = loss_functions()[row.name]
    function = inspect.unwrap(loss)
    return [
        f"{{py:obj}}`{row.name} <{function.__module__}.{function.__qualname__}>`",
        f"`{row.data}`",
        "free" if row.reference_free else "needs one",
        _yes(row.convex),
        _yes(row.bounded_below),
        _yes(row.coupled),
        f"`{row.minimiser}`" if row.minimiser else "–",
        _commands(row.name, trainable),
        ", ".join(papers.get(function, ())) or "–",
        f"{_seconds(loss) / unit:.1f}",
    ]


def page() -> str:
    """Return the page."""
    papers, trainable = papers_of(), make_methods.trainable_losses()
    unit = _seconds(loss_functions()["dpo"])
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(loss_row(row, papers, trainable, unit))} |" for row in catalogue()]
    methods = ["| Method | What it does | Papers |", "|---|---|---|"]
    for room in (solvers, solvers.games, solvers.planning, loops):
        for name in getattr(room, "__all__", []):
            value = inspect.unwrap(getattr(room, name))
            if inspect.isfunction(value):
                said = (inspect.getdoc(value) or "").split("\n")[0]
                link = f"{{py:obj}}`{name} <{value.__module__}.{value.__qualname__}>`"
                named = ", ".join(papers.get(value, ())) or "–"
                methods.append(f"| {link} | {make_reference.as_cell(said)} | {named} |")
    return HEAD + "\n".join(lines) + "\n" + SOLVERS + "\n".join(dict.fromkeys(methods)) + "\n"
