"""Figures of reproductions: panels of one size with one style, and a title that says the result."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from prefsim._colours import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    INDIGO,
    OLIVE,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WINE,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "INDIGO",
    "OLIVE",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILION",
    "WINE",
    "panels",
    "pictures",
]


def panels(
    rows: int, columns: int, *, title: str, width: float = 4.4, height: float = 4.4, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes, which draw a light grid.

    Lines take :data:`COLOURS` in turn.

    Parameters
    ----------
    rows, columns
        Of panels.
    title
        What the figure shows, in a sentence; broken into lines that fit.
    width, height
        Of a panel, in inches.
    **options
        Of :meth:`matplotlib.figure.Figure.subplots`, such as ``sharey`` or ``width_ratios``.

    Returns
    -------
    The figure, and an array of axes ``(rows, columns)``.
    """
    import textwrap

    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.set_prop_cycle(color=COLOURS)
        axis.spines[["top", "right"]].set_visible(False)
    # About eleven characters of the title's size fit an inch.
    figure.suptitle("\n".join(textwrap.wrap(title, width=max(30, int(11 * width * columns)))))
    return figure, axes


def pictures(figure: Figure) -> tuple[bytes, bytes]:
    """Return a figure as PNG on white and as SVG on nothing, the same bytes in every run.

    Parameters
    ----------
    figure
        The figure.

    Returns
    -------
    PNG, SVG
        Of 150 dots an inch; and with a transparent background, for pages of any colour.
    """
    import matplotlib

    png, svg = io.BytesIO(), io.BytesIO()
    # The version of matplotlib, the day and random names of parts say nothing about the figure.
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    with matplotlib.rc_context({"svg.hashsalt": "prefsim"}):
        figure.savefig(
            svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return png.getvalue(), svg.getvalue()
