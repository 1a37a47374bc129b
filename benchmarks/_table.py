"""One table of all benchmarks: its rows, how they are written, and how a run is held to the last.

A row is ours beside the best peer, both in seconds of CPU time or both in megabytes, so that the
ratio, the peer's over ours, says how many times less we need.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "BEGIN",
    "END",
    "Row",
    "beside_best",
    "falls",
    "markdown",
    "ratios_of",
    "read_ratios",
    "with_block",
    "write_whole",
]

BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
SLACK = 0.2
"""Share by which a ratio may fall below the last one before it counts as a loss."""


class Row(NamedTuple):
    """One comparison.

    Attributes
    ----------
    key
        By which runs are compared; it stays.
    what
        For a reader.
    unit
        ``"s"`` of CPU time or ``"MB"`` of memory.
    prefsim
        What ours needs.
    peer
        The best peer; empty where none does the same.
    peers
        What the best peer needs; NaN where there is none.
    limit
        The least ratio that is aimed at; NaN where none is.
    certificate
        What vouches for ours, recomputed by the benchmark.
    """

    key: str
    what: str
    unit: str
    prefsim: float
    peer: str
    peers: float
    limit: float
    certificate: str

    @property
    def ratio(self) -> float:
        """What the best peer needs over what ours needs."""
        return self.peers / self.prefsim


def beside_best(
    key: str,
    what: str,
    ours: float,
    peers: Mapping[str, float],
    *,
    limit: float = math.nan,
    certificate: str,
    unit: str = "s",
) -> Row:
    """Return the row of ours beside the peer that needs least."""
    best = min(peers, key=lambda name: peers[name], default="")
    return Row(key, what, unit, ours, best, peers.get(best, math.nan), limit, certificate)


def _amount(value: float, unit: str) -> str:
    if math.isnan(value):
        return ""
    if unit != "s":
        return f"{value:.0f} {unit}"
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def markdown(rows: Iterable[Row], before: Mapping[str, Sequence[object]], said: str) -> str:
    """Return the table and, above it, what is said of the run.

    Parameters
    ----------
    rows
        In the order of the table.
    before
        Ratios of the run before, as :func:`ratios_of` returns them.
    said
        When, where and with what it was measured.
    """
    lines = [
        said,
        "",
        "| what | prefsim | best peer | ratio | limit | before | certificate |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        peer = f"{row.peer} {_amount(row.peers, row.unit)}".strip() or "none"
        missed = row.ratio < row.limit
        ratio = f"{_number(row.ratio)} (missed)" if missed else f"**{_number(row.ratio)}**"
        last = before.get(row.key)
        cells = (
            row.what,
            _amount(row.prefsim, row.unit),
            peer,
            "" if math.isnan(row.ratio) else ratio,
            "" if math.isnan(row.limit) else f"≥ {_number(row.limit)}",
            "" if last is None else _number(float(str(last[1]))),
            row.certificate,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_block(text: str, block: str) -> str:
    """Return a document with what stands between its two markers replaced.

    Raises
    ------
    ValueError
        Unless each marker stands there once, in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the document must hold {BEGIN} and then {END}, once each")
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{block}\n\n{END}{rest.partition(END)[2]}"


def ratios_of(rows: Iterable[Row]) -> dict[str, tuple[str, float]]:
    """Return the best peer and the ratio to it of every row that has one, by key."""
    return {row.key: (row.peer, row.ratio) for row in rows if not math.isnan(row.ratio)}


def read_ratios(path: Path) -> dict[str, dict[str, Sequence[object]]]:
    """Return the ratios of the last run: ``"full"`` and ``"quick"``, each by key."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {size: found.get(size, {}) for size in ("full", "quick")}


def falls(rows: Iterable[Row], before: Mapping[str, Sequence[object]]) -> tuple[int, list[str]]:
    """Return how many ratios were compared with those before, and what fell too far, in words.

    A ratio to another peer says nothing of the last one.
    """
    compared, fallen = 0, []
    for key, (peer, ratio) in ratios_of(rows).items():
        last_peer, last = before.get(key, ("", math.nan))
        if peer != last_peer:
            continue
        compared += 1
        if ratio < (1 - SLACK) * float(str(last)):
            fallen.append(f"{key}: {_number(ratio)} times {peer}, was {_number(float(str(last)))}")
    return compared, fallen


def write_whole(path: Path, text: str) -> None:
    """Write a file, or leave the one before as it is."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
