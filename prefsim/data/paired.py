"""Judgements of pairs of named items by people: who was asked, and what was chosen."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from prefsim.checks.quoting import shown
from prefsim.data.json_lines import reading

__all__ = ["PairedJudgements", "read_paired"]

_COLUMNS = ("first", "second", "choice")
_PROBS = {"first": 1.0, "second": 0.0, "tie": 0.5}


class PairedJudgements(NamedTuple):
    """Judgements of pairs of items.

    Attributes
    ----------
    items
        Names of what is compared, in alphabetical order.
    first, second
        Positions among the items, integers ``(n,)``.
    prob
        1 where the first item was chosen, 0 where the second, ½ where neither, ``(n,)``.
    about
        The other columns by name, each ``(n,)`` of text: the rater and what is known of them.
    """

    items: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    prob: np.ndarray
    about: Mapping[str, np.ndarray]

    def where(self, **values: str) -> PairedJudgements:
        """Return the judgements whose columns have these values, such as ``rater="04"``.

        Raises
        ------
        ValueError
            If a column is unknown, or no judgement is left.
        """
        kept = np.ones(self.first.size, dtype=bool)
        for name, value in values.items():
            if name not in self.about:
                raise ValueError(f"a column must be one of {', '.join(self.about)}, got {name!r}")
            kept &= self.about[name] == value
        if not kept.any():
            asked = ", ".join(f"{name} = {value}" for name, value in values.items())
            raise ValueError(f"some judgement must have {asked}, got none")
        return self.take(kept)

    def take(self, rows: np.ndarray) -> PairedJudgements:
        """Return some of the judgements, by a mask or by positions."""
        return self._replace(
            first=self.first[rows],
            second=self.second[rows],
            prob=self.prob[rows],
            about={name: column[rows] for name, column in self.about.items()},
        )

    def indicators(self) -> np.ndarray:
        """Return 1 for the first item and −1 for the second, ``(n, items)``.

        A judge's weights on them are the rewards of the items, as Bradley and Terry have them.
        """
        return np.eye(len(self.items))[self.first] - np.eye(len(self.items))[self.second]


def read_paired(path: str | os.PathLike[str]) -> PairedJudgements:
    """Read judgements from a table of comma-separated values, compressed by gzip or not.

    Parameters
    ----------
    path
        A file with a line of names; ``first`` and ``second`` name the items of a pair, ``choice``
        is ``first``, ``second`` or ``tie``, and other columns are kept as text.

    Returns
    -------
    PairedJudgements

    Raises
    ------
    ValueError
        If the file cannot be read, a column is missing, a line is too long or too short, an item is
        compared with itself, a choice is none of the three, or there is no judgement.
    """
    columns: dict[str, list[str]] = {}
    with reading(path) as place:
        rows = csv.reader(place.stream)
        names = next(rows, [])
        missing = [name for name in _COLUMNS if name not in names]
        if missing or len(set(names)) < len(names):
            raise ValueError(
                f"{place.name}: the first line must name each column once, {', '.join(_COLUMNS)}"
                f" among them, got {shown(','.join(names))}"
            )
        columns = {name: [] for name in names}
        for row in rows:
            place.number = rows.line_num
            where = f"{place.name}, line {rows.line_num}"
            if len(row) != len(names):
                raise ValueError(f"{where}: expected {len(names)} values, got {len(row)}")
            for name, value in zip(names, row, strict=True):
                columns[name].append(value)
            if columns["choice"][-1] not in _PROBS:
                raise ValueError(
                    f"{where}: choice must be {', '.join(_PROBS)}, got"
                    f" {shown(columns['choice'][-1])}"
                )
            if columns["first"][-1] == columns["second"][-1]:
                raise ValueError(
                    f"{where}: an item must be compared with another, got"
                    f" {shown(columns['first'][-1])} twice"
                )
    if not columns["choice"]:
        raise ValueError(f"{os.fspath(path)}: expected at least one judgement, got none")
    items = tuple(sorted({*columns["first"], *columns["second"]}))
    places = {name: i for i, name in enumerate(items)}
    first, second = (np.array([places[x] for x in columns[name]]) for name in _COLUMNS[:2])
    prob = np.array([_PROBS[choice] for choice in columns["choice"]])
    about = {name: np.array(column) for name, column in columns.items() if name not in _COLUMNS}
    return PairedJudgements(items, first, second, prob, about)
