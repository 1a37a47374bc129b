"""Tokenizers that write a text otherwise than it was given: lower-case, composed, respaced."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prefsim.checks.quoting import shown
from prefsim.lm.model.tokens import Tokens
from prefsim.solvers.results import warn_caller

__all__ = ["PROBE", "Altered", "AlteredTexts", "rewrites"]

# A tokenizer that gives this back gives back every text: capitals, accents, a ligature and a wide
# letter (which normal forms replace), spaces in a row, a tab and a line break.
PROBE = "One: Été, ﬁn, Ａ.  Two\tspaces\nand it's ½"


def rewrites(tokenizer: Any, probe: str = PROBE) -> bool:
    """Return whether a text comes back from a tokenizer other than it went in.

    Examples
    --------
    >>> rewrites(None)
    False
    """
    if tokenizer is None:
        return False
    try:
        ids = tokenizer(probe, add_special_tokens=False)["input_ids"]
    except Exception:
        # Tokenizers come from anywhere and raise anything: each text is looked at.
        return True
    return not _holds(_decoded(tokenizer, ids), probe)


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _holds(trained: str, given: str) -> bool:
    # Composed accents are the same text. A space in front belongs to how the first word is written.
    whole, part = (unicodedata.normalize("NFC", text) for text in (trained, given))
    return part in whole or part.lstrip(" ") in whole


def _parts(prompt: Any, completion: Any) -> Iterable[str]:
    """Yield the texts that the tokens of a sequence should hold."""
    if isinstance(prompt, str) and isinstance(completion, str):
        yield prompt + completion
        return
    for side in (prompt, completion):
        if isinstance(side, str):
            yield side.strip()
            continue
        for message in side:
            content = message.get("content") if isinstance(message, Mapping) else None
            if isinstance(content, str):
                # Templates strip what is around a message.
                yield content.strip()


class Altered(NamedTuple):
    """How many of the sequences have tokens of another text than they were given, and the first."""

    sequences: int = 0
    altered: int = 0
    first: str = ""

    def warn(self) -> None:
        """Say once how many there are."""
        if self.altered:
            warn_caller(
                f"the tokenizer writes {self.altered} of {self.sequences} texts otherwise than they"
                f" were given (as one that lower-cases does), and these are trained: {self.first}",
                UserWarning,
            )


class AlteredTexts:
    """Counts the sequences whose tokens have another text than the one that was given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.rewrites = rewrites(tokenizer)
        # Those that put a space in front of every piece do so behind a special token too.
        special = tuple(getattr(tokenizer, "all_special_tokens", ()))
        self.marks = tuple(mark for mark in special if rewrites(tokenizer, f"a{mark}b"))
        self.sequences = self.altered = 0
        self.first = ""

    def see(self, example: int, sequences: Sequence[tuple[Any, Any]], rows: list[Tokens]) -> None:
        """Look at the sequences of an example, whole, and their tokens."""
        for (prompt, completion), row in zip(sequences, rows, strict=True):
            self.sequences += 1
            if not (self.rewrites or any(mark in f"{prompt}{completion}" for mark in self.marks)):
                continue
            trained = _decoded(self.tokenizer, [*row.prompt_ids, *row.completion_ids])
            other = next((p for p in _parts(prompt, completion) if not _holds(trained, p)), None)
            if other is None:
                continue
            self.altered += 1
            self.first = self.first or f"example {example} has {shown(other)} as {shown(trained)}"

    @property
    def found(self) -> Altered:
        """What was seen so far."""
        return Altered(self.sequences, self.altered, self.first)
