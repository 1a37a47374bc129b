"""Write the table of all methods: what kind of function each is, what it needs, who stated it."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import make_methods
import make_papers
import make_reference
import numpy as np

from prefsim import loops, solvers
from prefsim.containers.fields import map_fields
from prefsim.losses.catalogue import LossProperties, catalogue
from prefsim.losses.registry import container_of, loss_functions

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


Papers = Mapping[str, list[tuple[str, str]]]


def _linked(value: Any) -> str:
    return f"{{py:obj}}`{value.__name__} <{make_reference.documented_as(value)}>`"


def _behind(value: Any, papers: Papers) -> str:
    """Return links to the papers that a function implements."""
    found = papers.get(make_reference.documented_as(value), [])
    return ", ".join(f"[{slug}](papers/{family}/{slug}.md)" for family, slug in found) or "–"


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
    row: LossProperties, papers: Papers, trainable: Mapping[str, Any], unit: float
) -> list[str]:
    """Return the cells of a loss."""
    loss = loss_functions()[row.name]
    return [
        _linked(loss),
        f"`{row.data}`",
        "free" if row.reference_free else "needs one",
        _yes(row.convex),
        _yes(row.bounded_below),
        _yes(row.coupled),
        f"`{row.minimiser}`" if row.minimiser else "–",
        _commands(row.name, trainable),
        _behind(loss, papers),
        f"{_seconds(loss) / unit:.1f}",
    ]


def methods(papers: Papers) -> dict[str, list[str]]:
    """Return the cells of solvers and loops, each once, by name in the reference."""
    found: dict[str, list[str]] = {}
    for room in (solvers, solvers.planning, loops):
        for value in (getattr(room, name) for name in room.__all__):
            if inspect.isfunction(inspect.unwrap(value)):
                said = make_reference.as_cell(make_reference.first_line(value))
                cells = [_linked(value), said, _behind(value, papers)]
                found.setdefault(make_reference.documented_as(value), cells)
    return found


def page() -> str:
    """Return the page."""
    papers, trainable = make_papers.implemented(), make_methods.trainable_losses()
    unit = _seconds(loss_functions()["dpo"])
    losses = (loss_row(row, papers, trainable, unit) for row in catalogue())
    others = methods(papers).values()
    return "\n".join(
        [
            HEAD,
            *make_papers.table(COLUMNS, losses),
            SOLVERS,
            *make_papers.table(("Method", "What it does", "Papers"), others),
        ]
    )
