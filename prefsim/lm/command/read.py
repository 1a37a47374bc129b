"""Text for training, out of files and from the hub.

The columns say what the rows hold, and a bad row is named by file and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefsim.data.json_lines import read_json_lines
from prefsim.lm.command.dialogues import UnsharedPrompt
from prefsim.lm.command.layouts import Container, RowReader
from prefsim.lm.command.messages import Row

__all__ = ["TextSource", "read_text_data"]

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
# Where in the arrays of two rows something was wrong, which says nothing of the file.
_INSIDE = re.compile(r" (at|in) (index|row) (\d+|\(.*\))$")
_FILES = ".jsonl, .jsonl.gz or .parquet"


@dataclass(frozen=True)
class TextSource:
    """Rows for training and where each came from.

    Attributes
    ----------
    data
        The container that :func:`prefsim.solvers.fit` takes.
    source
        The file or hub id.
    unit
        What ``numbers`` count: ``"line"`` of a file of text, ``"row"`` of a table.
    numbers
        The line or row of each row of ``data``, from 1.
    unused
        Columns that no container has a use for.
    skipped
        One message for each row that was left out because the user asked for it.
    """

    data: Container
    source: str
    unit: str
    numbers: tuple[int, ...]
    unused: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, row: int) -> str:
        """Return where a row of ``data`` came from, such as ``"pairs.jsonl, line 7"``."""
        return f"{self.source}, {self.unit} {self.numbers[row]}"

    def without(self, reasons: Mapping[int, str]) -> TextSource:
        """Return the source without some rows of ``data``.

        Each is put into ``skipped`` with its reason.
        """
        kept = [row for row in range(len(self)) if row not in reasons]
        if not kept:
            raise ValueError(
                f"{self.source}: expected at least one {self.unit}, got {len(self)}, all skipped"
            )
        told = tuple(f"{self.place(row)}: {reason}" for row, reason in reasons.items())
        numbers = tuple(self.numbers[row] for row in kept)
        return replace(
            self, data=self.data.take(kept), numbers=numbers, skipped=self.skipped + told
        )


def read_text_data(
    source: str | os.PathLike[str], *, split: str | None = None, skip_unshared: bool = False
) -> TextSource:
    r"""Read a data set of text, chat messages or token ids.

    The columns are those of the ecosystem:

    - ``prompt, chosen, rejected``: compared completions. With a prompt in chat messages the
      completions are the assistant's text or messages, with or without the prompt's messages in
      front. With a prompt in text and completions in messages, the prompt is a user's message.
    - ``chosen, rejected``: two whole dialogues. Chat messages: the prompt is what they begin with
      in common, and what is left must be turns of the assistant. Text with turns
      ``"\n\nHuman: … \n\nAssistant: …"``: the prompt goes up to the last ``Assistant:`` and must be
      the same in both. Other text: the prompt is the longest common beginning that ends before
      white space.
    - ``prompt, completion, label``: completions with the label ``true`` (desirable) or ``false``,
      or the probability of it.
    - ``prompt, completions, scores``: lists of completions with a number for each, higher is
      better.
    - ``prompt, rejected, samples``: a rejected completion with a list of samples.

    A number ``weight`` may stand beside all of them; beside compared pairs also ``prob``,
    ``chosen_score`` and ``rejected_score`` (also found as ``score_chosen`` and ``score_rejected``),
    ``old_chosen`` and ``old_rejected``; beside samples a list ``sample_weight``. What they mean is
    said at the containers of :mod:`prefsim.lm.data.comparisons`. Each is in every row or in none.
    Other columns are named in ``unused``.

    Parameters
    ----------
    source
        A file ``.jsonl``, ``.jsonl.gz`` or ``.parquet``; a folder that ``datasets.load_dataset``
        reads; or a hub id, with the name of a configuration behind a colon where there are several.
    split
        Split of a folder or hub id, ``"train"`` unless given; anything that ``datasets`` takes,
        such as ``"test[:100]"``.
    skip_unshared
        Whether to leave out pairs of dialogues that do not answer one prompt, each with a message
        in ``skipped``, rather than to refuse the file.

    Returns
    -------
    TextSource
        Of the whole file: nothing is returned of a file with an error in it.

    Raises
    ------
    ValueError
        If the source cannot be read, is empty, its columns are none of the above, or a row is
        invalid; the row is named.

    Examples
    --------
    >>> from pathlib import Path
    >>> chosen = r'"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!"'
    >>> rejected = r'"rejected": "\n\nHuman: Hi\n\nAssistant: No."'
    >>> _ = Path("pairs.jsonl").write_text(f"{{{chosen}, {rejected}}}")
    >>> source = read_text_data("pairs.jsonl")
    >>> source.data.prompt[0], source.data.chosen[0], source.place(0)
    ('\n\nHuman: Hi\n\nAssistant:', ' Hello!', 'pairs.jsonl, line 1')
    """
    name, unit, rows = _open(source, split)
    kept: list[Row] = []
    numbers: list[int] = []
    skipped: list[str] = []
    unused: set[str] = set()
    reader: RowReader | None = None
    for number, row in rows:
        try:
            reader = reader or RowReader.of(row)
            kept.append(reader.read(row))
        except ValueError as error:
            message = f"{name}, {unit} {number}: {error}"
            if not (skip_unshared and isinstance(error, UnsharedPrompt)):
                raise ValueError(message) from error
            skipped.append(message)
            continue
        numbers.append(number)
        unused |= reader.unused(row)
    if reader is None or not kept:
        raise ValueError(
            f"{name}: expected at least one {unit}, got "
            + (f"{len(skipped)}, all skipped" if skipped else "none")
        )
    columns = {column: [row[column] for row in kept] for column in kept[0]}
    data = _build(reader.layout.container, columns, lambda i: f"{name}, {unit} {numbers[i]}")
    return TextSource(data, name, unit, tuple(numbers), tuple(sorted(unused)), tuple(skipped))


def _build(
    container: Callable[..., Container],
    columns: Mapping[str, list[Any]],
    place: Callable[[int], str],
) -> Container:
    try:
        return container(**columns)
    except ValueError as error:
        # Only now row by row, each beside the first, whose shape it must have: the first that does
        # not go in is the one to name. Weights are left out: they have been checked, and may be
        # zero in some rows though not in all.
        judged = {column: values for column, values in columns.items() if column != "weight"}
        for i in range(len(columns["prompt"])):
            try:
                container(**{column: [values[0], values[i]] for column, values in judged.items()})
            except ValueError as row_error:
                raise ValueError(f"{place(i)}: {_INSIDE.sub('', str(row_error))}") from error
        raise ValueError(f"{place(0)[: place(0).rindex(', ')]}: {error}") from error


def _open(
    source: str | os.PathLike[str], split: str | None
) -> tuple[str, str, Iterator[tuple[int, Row]]]:
    """Return the source's name, what its rows are counted in, and the numbered rows."""
    name = os.fspath(source)
    path = Path(name).expanduser()
    lines, table = name.endswith((".jsonl", ".jsonl.gz")), name.endswith(".parquet")
    if path.is_dir():
        return name, "row", _dataset_rows(str(path), name, split)
    if path.exists() or lines or table:
        if not (lines or table):
            raise ValueError(f"{name}: the name of a data file must end in {_FILES}")
        if not path.exists():
            raise ValueError(f"{name}: there is no such file")
        if split is not None:
            raise ValueError(
                f"{name}: a split is for folders and hub ids, and a file is read whole; got split"
                f" {split!r}"
            )
        if lines:
            return name, "line", read_json_lines(path)
        return name, "row", _parquet_rows(path, name)
    if not _HUB_ID.fullmatch(name):
        raise ValueError(f"{name}: no such file or folder, and it is no hub id")
    return name, "row", _dataset_rows(name, name, split)


def _parquet_rows(path: Path, name: str) -> Iterator[tuple[int, Row]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name}: parquet files need pyarrow, which `pip install 'prefsim[lm]'` brings"
        ) from error
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, ArrowException) as error:
        raise ValueError(f"{name}: cannot be read after row {number} ({error})") from error


def _dataset_rows(path: str, name: str, split: str | None) -> Iterator[tuple[int, Row]]:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name}: folders and hub ids need datasets, which `pip install 'prefsim[lm]'` brings"
        ) from error
    identity, _, configuration = (path, "", "") if Path(path).is_dir() else path.partition(":")
    wanted = "train" if split is None else split
    try:
        table = datasets.load_dataset(identity, configuration or None, split=wanted)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if Path(path).is_dir():
            raise ValueError(
                f"{name}: split {wanted!r} of this folder cannot be loaded ({error})"
            ) from error
        raise ValueError(
            f"{name}: no such file or folder, and split {wanted!r} of a hub data set cannot be had"
            f" ({error})"
        ) from error
    yield from enumerate(table, start=1)
