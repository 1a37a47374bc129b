"""Errata: what a paper or its code says wrongly or less sharply than it could, and how we know.

They stand beside the paper, in ``errata.py`` or in its single file, as ``ERRATA``: a tuple of
:class:`Erratum` in literals. The text is Markdown of one line: words, code marks, emphasis, and
links to the web, because it is read in several places.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from prefsim.checks import check_choice
from prefsim.papers.literals import called

__all__ = ["ERRATUM_KINDS", "Erratum", "check_errata", "read_errata"]

ERRATUM_KINDS: Mapping[str, str] = {
    "wrong": "Wrong, or not in general",
    "less sharp": "True, and less sharp than it could be",
}
"""The kinds of errata and their headings, in the order of lists."""

_CODE = re.compile("`[^`]*`")
_ELSEWHERE = re.compile(r"\]\((?!https?://)[^)]*\)")
"""A link that leads nowhere from a terminal or a notebook."""


class Erratum(NamedTuple):
    """What a paper or its code says, what is true, and how we know.

    Attributes
    ----------
    kind
        ``"wrong"`` where it is not true, or not without a condition that is not named;
        ``"less sharp"`` where it is true and more can be said.
    says
        What is said, without a full stop. "Often stated:" marks what the field says, and the paper
        rather in words than in a theorem.
    true
        What is true (where it is less sharp: what is true as well), in sentences.
    known
        How we know: a derivation, the command that measures it, a place in the code.
    about
        What says it: the paper, its released code, a package with a version.
    """

    kind: str
    says: str
    true: str
    known: str
    about: str = "the paper"


def check_errata(errata: Any, where: str) -> tuple[Erratum, ...]:
    """Return the errata of a paper, or raise where they are not as they should be.

    Raises
    ------
    ValueError
        If they are no tuple of :class:`Erratum`, a kind is unknown, or a text is empty, of several
        lines, has a code mark that is not closed or a link that does not lead to the web.
    """
    if not isinstance(errata, tuple) or not all(isinstance(item, Erratum) for item in errata):
        raise ValueError(f"ERRATA of paper {where} must be a tuple of Erratum, got {errata!r}")
    for number, erratum in enumerate(errata, start=1):
        of = f"of erratum {number} of paper {where}"
        check_choice(list(ERRATUM_KINDS), **{f"kind {of}": erratum.kind})
        for name, text in erratum._asdict().items():
            _check_text(text, f"{name} {of}")
    return errata


def _check_text(text: Any, what: str) -> None:
    if not isinstance(text, str) or not text.strip() or "\n" in text:
        raise ValueError(f"{what} must be text of one line, got {text!r}")
    if text.count("`") % 2:
        raise ValueError(f"{what} must close every code mark, got {text!r}")
    lost = _ELSEWHERE.search(_CODE.sub("", text))
    if lost is not None:
        raise ValueError(f"links in {what} must begin with https://, got {lost[0][2:-1]!r}")


def read_errata(expression: ast.expr, where: str) -> tuple[Erratum, ...] | None:
    """Return the errata that an expression spells out, unchecked, or None where it computes some.

    Raises
    ------
    ValueError
        If an entry has other fields than an :class:`Erratum`.
    """
    if not isinstance(expression, ast.Tuple):
        return None
    entries = []
    for number, element in enumerate(expression.elts, start=1):
        told = called(element)
        if told is None or told.function != Erratum.__name__:
            return None
        try:
            entries.append(Erratum(*told.arguments, **told.named))
        except TypeError as error:
            raise ValueError(
                f"erratum {number} of paper {where} must have the fields"
                f" {', '.join(Erratum._fields)}: {str(error).partition(' ')[2]}"
            ) from None
    return tuple(entries)
