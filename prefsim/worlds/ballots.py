"""Ballots: rank tables, how they become preferences, and the reader of PrefLib's order files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from prefsim._readable import readable
from prefsim.checks import as_float_array, as_index_array, check_shape
from prefsim.checks.quoting import shown

__all__ = ["Ballots", "preference_of_ranks", "read_preflib", "synthetic_ballots"]

KINDS = ("soc", "soi", "toc", "toi")
_ORDER = re.compile(r"(?:\d+|\{\d+(?:,\d+)*\})(?:,(?:\d+|\{\d+(?:,\d+)*\}))*")
_REQUIRED = ("DATA TYPE", "NUMBER ALTERNATIVES", "NUMBER VOTERS", "NUMBER UNIQUE ORDERS")


@readable
class Ballots(NamedTuple):
    """An election: distinct orders and how many voters cast each.

    Attributes
    ----------
    ranks
        ``(orders, n)`` integers: 0 is the best place of an order, equal ranks tie, -1 marks an
        alternative that it leaves out.
    counts
        ``(orders,)``, voters behind each order.
    labels
        Names of the n alternatives.
    title
        Of the file.
    kind
        ``"soc"``, ``"soi"``, ``"toc"`` or ``"toi"``: strict or tied orders, complete or incomplete.
    """

    ranks: np.ndarray
    counts: np.ndarray
    labels: tuple[str, ...]
    title: str
    kind: str

    @property
    def n_voters(self) -> int:
        """Number of voters."""
        return int(self.counts.sum())


def preference_of_ranks(ranks: Any, weights: Any = None) -> np.ndarray:
    r"""Return the share of voters that place i above j, each tie counted half for both.

    .. math:: P_{ij} = \tfrac12 + \frac{W_{ij} - W_{ji}}{2 \sum_v w_v},\qquad
        W_{ij} = \sum_v w_v\,[\mathrm{rank}_v(i) < \mathrm{rank}_v(j)]

    Parameters
    ----------
    ranks
        ``(..., V, n)`` integers, 0 best; equal ranks tie. Alternatives with rank -1 are unranked:
        they tie with each other, below every ranked one.
    weights
        ``(..., V)``, >= 0 with a positive sum; one for each ballot unless given.

    Returns
    -------
    Array ``(..., n, n)`` with ``P + Pᵀ = 1``.

    Raises
    ------
    ValueError
        If a rank is below -1 or not an integer, a weight is negative, nobody voted, or shapes do
        not fit.

    Examples
    --------
    >>> preference_of_ranks([[0, 1, -1], [1, 0, 0]], weights=[3, 1])
    array([[0.5  , 0.75 , 0.75 ],
           [0.25 , 0.5  , 0.875],
           [0.25 , 0.125, 0.5  ]])
    """
    ranks = as_index_array(ranks, "rankings", low=-1)
    if ranks.ndim < 2 or 0 in ranks.shape[-2:]:
        raise ValueError(
            "rankings must have shape (..., V, n) with at least one ballot and one alternative,"
            f" got {ranks.shape}"
        )
    weights = as_float_array(
        np.ones(ranks.shape[-2]) if weights is None else weights, "weights", min_ndim=1
    )
    check_shape(weights, "weights", (ranks.shape[-2],))
    total = weights.sum(axis=-1)[..., None, None]
    if (weights < 0).any() or (total <= 0).any():
        raise ValueError(
            f"weights must be >= 0 with a positive sum, got a smallest weight of {weights.min()}"
            f" and a sum of {total.min()}"
        )
    levels = np.where(ranks < 0, np.iinfo(np.int64).max, ranks)
    margins = np.zeros(
        (
            *np.broadcast_shapes(ranks.shape[:-2], weights.shape[:-1]),
            ranks.shape[-1],
            ranks.shape[-1],
        )
    )
    # Ballots go in blocks: a dense (V, n, n) table of a large election would not fit in memory.
    block = max(1, 2**22 // margins.size)
    for start in range(0, ranks.shape[-2], block):
        part = levels[..., start : start + block, :]
        above = np.sign(part[..., None, :].astype(np.float64) - part[..., :, None])
        margins += np.einsum("...v,...vij->...ij", weights[..., start : start + block], above)
    return 0.5 + margins / (2.0 * total)


def synthetic_ballots() -> Path:
    """Return the path of a small ballot file shipped with the package.

    It is synthetic: made up for this library, not collected from voters. Its 120 voters rank four
    alternatives, with ties and with alternatives left out; the majorities among the first three
    form a cycle (a Condorcet paradox), and the fourth loses to them all.

    Examples
    --------
    >>> read_preflib(synthetic_ballots()).n_voters
    120
    """
    return Path(__file__).parent / "examples" / "synthetic-cycle.toi"


def read_preflib(path: str | os.PathLike[str]) -> Ballots:
    """Read a PrefLib file of orders (``.soc``, ``.soi``, ``.toc``, ``.toi``).

    In the format in use since 2022.

    Parameters
    ----------
    path
        File with a header of ``# KEY: value`` lines, then one ``count: order`` line for each
        distinct order, as in ``12: 3,{1,4},2``.

    Returns
    -------
    Ballots
        Alternatives that an order leaves out have rank -1.

    Raises
    ------
    ValueError
        Naming file and line, if the file cannot be read, is truncated, its counts do not add up to
        its header, or an order is malformed, names an unknown alternative or names one twice.

    References
    ----------
    Mattei and Walsh 2013, "PrefLib: a library for preferences"; https://preflib.org/format
    """
    lines = _lines(path)
    header: dict[str, tuple[str, int]] = {}
    rows: list[tuple[int, str]] = []
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            if rows:
                _fail(path, number, "a header line after the first order")
            key, colon, value = line[1:].partition(":")
            if not colon:
                _fail(path, number, f"expected '# KEY: value', got {shown(line)}")
            if key.strip() in header:
                _fail(
                    path,
                    number,
                    f"{key.strip()[:60]} is given twice, first in line {header[key.strip()][1]}",
                )
            header[key.strip()] = (value.strip(), number)
        elif line:
            if not header:
                _fail(path, number, f"expected a header line '# KEY: value', got {shown(line)}")
            rows.append((number, line))
    for key in _REQUIRED:
        if key not in header:
            _fail(path, max(len(lines), 1), f"the header has no '# {key}: ...' line")
    kind, number = header["DATA TYPE"]
    if kind not in KINDS:
        _fail(path, number, f"DATA TYPE must be one of {', '.join(KINDS)}, got {shown(kind)}")
    n_alternatives = _whole(path, header["NUMBER ALTERNATIVES"], "NUMBER ALTERNATIVES")
    labels = []
    for alternative in range(1, n_alternatives + 1):
        key = f"ALTERNATIVE NAME {alternative}"
        if key not in header:
            _fail(
                path,
                header["NUMBER ALTERNATIVES"][1],
                f"{n_alternatives} alternatives are announced, but no '# {key}: ...' line follows",
            )
        labels.append(header[key][0])
    orders = [_order(path, number, line, n_alternatives, kind) for number, line in rows]
    expected = _whole(path, header["NUMBER UNIQUE ORDERS"], "NUMBER UNIQUE ORDERS")
    if len(orders) != expected:
        _fail(
            path,
            len(lines),
            f"the file ends after {len(orders)} orders, but its header announces {expected}",
        )
    counts = np.array([count for count, _ in orders], dtype=np.int64)
    voters = _whole(path, header["NUMBER VOTERS"], "NUMBER VOTERS")
    total = sum(count for count, _ in orders)
    if total != voters:
        _fail(
            path,
            header["NUMBER VOTERS"][1],
            f"NUMBER VOTERS is {voters}, but the orders add up to {total}",
        )
    title = header.get("TITLE", ("", 0))[0]
    return Ballots(
        np.array([ranks for _, ranks in orders], dtype=np.int64), counts, tuple(labels), title, kind
    )


def _fail(path: str | os.PathLike[str], line: int, what: str) -> NoReturn:
    raise ValueError(f"{os.fspath(path)}, line {line}: {what}")


def _lines(path: str | os.PathLike[str]) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(
            f"{os.fspath(path)} cannot be read as a ballot file: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        line = Path(path).read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{os.fspath(path)}, line {line}: not UTF-8 text: {error.reason}"
        ) from error
    # Names may hold what else Python takes for the end of a line, such as U+2028.
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        _fail(path, 1, "the file is empty")
    return lines


def _whole(path: str | os.PathLike[str], entry: tuple[str, int], key: str) -> int:
    value, line = entry
    number = _as_whole(value)
    if number == 0:
        _fail(path, line, f"{key} must be a whole number > 0, got {shown(value)}")
    return number


def _as_whole(text: str) -> int:
    """Return a whole number that an array can hold, or 0 where the text says none."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal()):
        return 0
    # No more digits are read than it takes to see that they are too many.
    number = int(digits.lstrip("0")[:20] or "0")
    return number if number < 2**63 else 0


def _order(
    path: str | os.PathLike[str], number: int, line: str, n_alternatives: int, kind: str
) -> tuple[int, list[int]]:
    """Return the count of one ``count: order`` line and the rank of every alternative."""
    count, colon, order = line.partition(":")
    order = "".join(order.split())
    if not colon or _as_whole(count) == 0:
        _fail(path, number, f"expected 'count: order' with a whole count > 0, got {shown(line)}")
    if not _ORDER.fullmatch(order):
        _fail(
            path,
            number,
            f"expected alternatives separated by commas, ties in braces, got {shown(order)}",
        )
    if kind.startswith("s") and "{" in order:
        _fail(path, number, f"DATA TYPE {kind} has no ties, got {shown(order)}")
    ranks = [-1] * n_alternatives
    for rank, group in enumerate(re.findall(r"\{[^}]*\}|\d+", order)):
        for name in group.strip("{}").split(","):
            alternative = _as_whole(name)
            if not 1 <= alternative <= n_alternatives:
                _fail(
                    path,
                    number,
                    f"alternative {name[:20]} is unknown, expected 1 to {n_alternatives}",
                )
            if ranks[alternative - 1] != -1:
                _fail(path, number, f"alternative {alternative} appears twice in {shown(order)}")
            ranks[alternative - 1] = rank
    if kind.endswith("c") and -1 in ranks:
        _fail(
            path,
            number,
            f"DATA TYPE {kind} ranks every alternative, but {ranks.index(-1) + 1} is missing in"
            f" {shown(order)}",
        )
    return _as_whole(count), ranks
