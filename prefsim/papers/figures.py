"""Figures of reproductions: panels of one size with one style, and a title that says the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["panels"]


def panels(
    rows: int, columns: int, *, title: str, width: float = 4.4, height: float = 4.4, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes, which draw a light grid.

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
    # About eleven characters of the title's size fit an inch.
    figure.suptitle("\n".join(textwrap.wrap(title, width=max(30, int(11 * width * columns)))))
    return figure, axes
