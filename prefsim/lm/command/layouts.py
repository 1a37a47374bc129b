"""Which columns a row may have, and which kind of data each set of columns makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prefsim.checks import check_nonnegative
from prefsim.lm.command.messages import Row, as_written, with_system
from prefsim.lm.command.rows import (
    OTHER_NAMES,
    PAIR_NUMBERS,
    anchored,
    check_meaning,
    classed,
    completed,
    demonstrated_in,
    dialogues,
    graded,
    labelled,
    labelled_dialogue,
    numbers,
    pair,
    pair_behind,
    preferred,
    scored,
    text,
)
from prefsim.lm.data.classes import TextClasses, TextVersions
from prefsim.lm.data.comparisons import TextComparisons
from prefsim.lm.data.demonstrations import TextDemonstrations
from prefsim.lm.data.feedback import TextFeedback
from prefsim.lm.data.negatives import TextNegatives
from prefsim.lm.data.rankings import TextRankings

__all__ = ["Container", "RowReader"]

Container = (
    TextComparisons
    | TextDemonstrations
    | TextFeedback
    | TextRankings
    | TextNegatives
    | TextClasses
    | TextVersions
)

# The system message of a row, in a column of its own.
_SYSTEM = ("system", "system_prompt")


@dataclass(frozen=True)
class _Layout:
    """A kind of data: the columns of its text and of its numbers, and how a row's text is read."""

    container: type[Container]
    required: tuple[str, ...]
    numbers: tuple[str, ...]
    # A row may hold several examples.
    parse: Callable[[Row], Row | list[Row]]
    # Further columns of text, in every row or in none.
    texts: tuple[str, ...] = ()

    def further_in(self, row: Row) -> dict[str, str]:
        """Return the columns besides the required, by the container's name for each."""
        columns = {}
        for name in (*self.numbers, *self.texts):
            spellings = [name, *OTHER_NAMES.get(name, ())]
            given = [spelling for spelling in spellings if row.get(spelling) is not None]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} are two names of one column, got both")
            if given:
                columns[name] = given[0]
        return columns


@dataclass(frozen=True)
class RowReader:
    """Reads the rows of a source in the layout of its first row, with the columns it has."""

    layout: _Layout
    further: Mapping[str, str]

    @classmethod
    def of(cls, row: Row) -> RowReader:
        """Return the reader for the rows of a source whose first is ``row``."""
        layout = _layout_of(row)
        return cls(layout, layout.further_in(row))

    @property
    def used(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (*self.layout.required, *self.further.values())

    def unused(self, row: Row) -> set[str]:
        """Return the columns of a row that are not read."""
        return set(row) - {*self.used, *_SYSTEM}

    def read(self, row: Row) -> list[Row]:
        """Return the container's columns of each example of a row, or raise with what is wrong."""
        missing = [name for name in self.used if row.get(name) is None]
        if missing:
            raise ValueError(
                f"expected the columns {', '.join(self.used)}, got no {', '.join(missing)}"
            )
        layout = _layout_of(row)
        if layout is not self.layout:
            raise ValueError(
                f"expected the columns {', '.join(self.used)}, as in the first row, got"
                f" {', '.join(layout.required)}"
            )
        late = [name for name in layout.further_in(row).values() if name not in self.used]
        if late:
            raise ValueError(
                f"a column must be in every row or in none, got {', '.join(late)} that the first"
                " row does not have"
            )
        check_meaning(row, self.used)
        further = {
            name: as_written(row[given], given)
            if name in self.layout.texts
            else numbers(row[given], given)
            for name, given in self.further.items()
        }
        if "weight" in further:
            check_nonnegative(weight=further["weight"])
        parsed = self.layout.parse(row)
        examples = [each | further for each in (parsed if isinstance(parsed, list) else [parsed])]
        for name in _SYSTEM:
            if row.get(name):
                for read in examples:
                    for asked in {"prompt", "rejected_prompt"} & set(read):
                        read[asked] = with_system(read[asked], text(row[name], name))
        return examples


def _layout_of(row: Row) -> _Layout:
    here = {name for name, value in row.items() if value is not None}
    found = [layout for layout in _LAYOUTS if here >= set(layout.required)]
    # Columns of a judgement say more than the same without.
    found = found or [layout for layout in _DEMONSTRATIONS if here >= set(layout.required)]
    if not found:
        wanted = "; ".join(", ".join(layout.required) for layout in (*_LAYOUTS, *_DEMONSTRATIONS))
        raise ValueError(f"the columns must be one of ({wanted}), got {_names(here) or 'none'}")
    for other in found[1:]:
        if other.container is not found[0].container:
            raise ValueError(
                "the columns must say what a row is, got those of two kinds:"
                f" {', '.join(found[0].required)} and {', '.join(other.required)}"
            )
    return found[0]


def _names(names: set[str]) -> str:
    """Return the names of columns in a readable length."""
    first = sorted(names)[:20]
    return ", ".join(name[:40] for name in first) + (", ..." if len(names) > 20 else "")


def _pairs(*required: str, parse: Callable[[Row], Row], texts: tuple[str, ...] = ()) -> _Layout:
    return _Layout(TextComparisons, required, PAIR_NUMBERS, parse, texts)


def _judged(*required: str, parse: Callable[[Row], Row], texts: tuple[str, ...] = ()) -> _Layout:
    return _Layout(TextFeedback, required, ("weight", "density_ratio"), parse, texts)


# The first whose columns are all there is taken: a prompt says more than none.
_LAYOUTS = (
    _pairs("prompt", "chosen", "rejected", parse=pair, texts=("rejected_prompt",)),
    _pairs("input", "preferred_output", "non_preferred_output", parse=preferred),
    _pairs("conversations", "chosen", "rejected", parse=pair_behind("conversations")),
    _pairs("messages", "chosen", "rejected", parse=pair_behind("messages")),
    _pairs("chosen", "rejected", parse=dialogues),
    _judged("prompt", "completion", "label", parse=labelled, texts=("mismatched",)),
    _judged("messages", "label", parse=labelled_dialogue("messages", "label")),
    _judged("messages", "kto_tag", parse=labelled_dialogue("messages", "kto_tag")),
    _judged("conversations", "label", parse=labelled_dialogue("conversations", "label")),
    _judged("conversations", "kto_tag", parse=labelled_dialogue("conversations", "kto_tag")),
    _Layout(TextRankings, ("prompt", "completions", "scores"), ("weight",), scored),
    _Layout(TextClasses, ("prompt", "completion", "class"), ("weight",), classed),
    _Layout(TextVersions, ("prompt", "versions", "degree"), ("weight",), graded),
    _Layout(
        TextNegatives,
        ("prompt", "rejected", "samples"),
        ("weight", "sample_weight"),
        anchored,
    ),
)

# Taken where none of the above is.
_DEMONSTRATIONS = tuple(
    _Layout(TextDemonstrations, required, ("weight",), parse)
    for required, parse in (
        (("prompt", "completion"), completed),
        (("prompt", "messages"), demonstrated_in("messages")),
        (("messages",), demonstrated_in("messages")),
        (("prompt", "conversations"), demonstrated_in("conversations")),
        (("conversations",), demonstrated_in("conversations")),
    )
)
