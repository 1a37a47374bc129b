"""Markdown of one line, such as an erratum's, on a page and on the terminal."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from rich.text import Text

__all__ = ["as_html", "as_text"]

_STYLES = {"em_open": "italic", "strong_open": "bold"}


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # Without HTML: what looks like a tag is words, here and in what is made of it.
    return MarkdownIt("commonmark", {"html": False})


def as_html(text: str) -> str:
    """Return a line as HTML: its words are escaped, code, emphasis and links are elements.

    Examples
    --------
    >>> as_html("`x < 1` where *n* > 2")
    '<code>x &lt; 1</code> where <em>n</em> &gt; 2'
    """
    return str(_parser().renderInline(text))


def as_text(text: str) -> Text:
    """Return a line for the terminal: code keeps its marks, a link is followed by where it leads.

    Examples
    --------
    >>> as_text("`x_1` in [a paper](https://arxiv.org) that is *short*").plain
    '`x_1` in a paper (https://arxiv.org) that is short'
    """
    from rich.text import Text

    shown = Text()
    styles, links = [""], [""]
    for token in _parser().parseInline(text)[0].children or []:
        if token.type == "code_inline":
            shown.append(f"`{token.content}`", "cyan")
        elif token.type == "link_open":
            links.append(str(token.attrGet("href")))
        elif token.type == "link_close":
            shown.append(f" ({links.pop()})")
        elif token.nesting > 0:
            styles.append(_STYLES.get(token.type, ""))
        elif token.nesting < 0:
            styles.pop()
        else:
            shown.append(token.content, styles[-1])
    return shown
