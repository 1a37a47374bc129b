"""Text for training, out of files and from the hub.

The columns say what the rows hold, and a bad row is named by file and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from prefsim.lm.command.dialogues import UnsharedPrompt
from prefsim.lm.command.layouts import Container, RowReader
from prefsim.lm.command.messages import Row
from prefsim.lm.command.sources import open_source

__all__ = ["TextSource", "read_text_data"]

# Where in the arrays of two rows something was wrong, which says nothing of the file.
_INSIDE = re.compile(r" (at|in) (index|row) (\d+|\(.*\))$")


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
      in common up to the last turn that is not the assistant's, and what is left must be turns of
      the assistant. Text with turns ``"\n\nHuman: … \n\nAssistant: …"``: the prompt goes up to the
      last ``Assistant:`` and must be the same in both. Other text, and nothing beside it: the
      prompt is the longest common beginning that ends before white space.
    - ``prompt, completion, label``: completions with the label ``true`` (desirable) or ``false``,
      or the probability of it. ``messages, label``: a dialogue whose last turn is judged.
    - ``prompt, completion`` without a label: completions to imitate. ``messages`` (or
      ``conversations``) alone: every turn of the assistant is a row, with all that came before it
      as the prompt (:func:`prefsim.lm.answered_turns`); a text ``prompt`` beside them must be one
      of the messages.
    - ``prompt, completions, scores``: lists of completions with a number for each, higher is
      better.
    - ``prompt, completion, class``: completions of one of K classes, an integer from 0. ``prompt,
      versions, degree``: lists of graded versions of a completion with the degree of each.
    - ``prompt, rejected, samples``: a rejected completion with a list of samples.

    Messages have a ``role`` and a ``content``, in text or in parts of text, or ShareGPT's ``from``
    and ``value``. ``conversations`` or ``messages`` beside ``chosen`` and ``rejected`` are the
    prompt; ``conversations`` with ``label`` or ``kto_tag`` and OpenAI's ``input,
    preferred_output, non_preferred_output`` are read too.

    A number ``weight`` may stand beside all of them; beside compared pairs also ``prob``,
    ``margin``, ``chosen_score`` and ``rejected_score`` (also found as ``score_chosen`` and
    ``score_rejected``), ``old_chosen``, ``old_rejected`` and the text ``rejected_prompt``; beside
    judgements ``density_ratio`` and the text ``mismatched``; beside samples a list
    ``sample_weight``. What they mean is said at the containers of
    :mod:`prefsim.lm.data.comparisons`. Each is in every row or in none. ``system`` (or
    ``system_prompt``) is the first message of a prompt in messages. Columns that would make another
    row of it (``tools``, ``images``, ``ref_chosen_logps``, …) are refused where they hold anything;
    other columns are named in ``unused``.

    Parameters
    ----------
    source
        A file ``.jsonl``, ``.ndjson`` or ``.json`` (one array or one row a line), each also
        compressed with gzip, or ``.parquet``; a folder that ``datasets.load_dataset`` reads or
        ``save_to_disk`` wrote; or a hub id, with the name of a configuration behind a colon where
        there are several.
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
    name, unit, rows = open_source(source, split)
    kept: list[Row] = []
    numbers: list[int] = []
    skipped: list[str] = []
    unused: set[str] = set()
    reader: RowReader | None = None
    for number, row in rows:
        try:
            reader = reader or RowReader.of(row)
            read = reader.read(row)
        except ValueError as error:
            message = f"{name}, {unit} {number}: {error}"
            if not (skip_unshared and isinstance(error, UnsharedPrompt)):
                raise ValueError(message) from error
            skipped.append(message)
            continue
        kept += read
        numbers += [number] * len(read)
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
