"""Where a number comes from: the paper, an argument made here, or a choice made here."""

from __future__ import annotations

from prefsim.checks import check_choice

__all__ = ["STATED", "check_stated", "origin"]

STATED = ("paper", "derived", "chosen")


def check_stated(name: str, stated: str) -> None:
    """Raise unless ``stated`` is one of :data:`STATED`."""
    check_choice(STATED, **{f"stated of {name}": stated})


def origin(stated: str) -> str:
    """Return in words where a statement or a bound comes from.

    Examples
    --------
    >>> [origin(stated) for stated in STATED]
    ['stated in the paper', 'derived here', 'chosen here']
    """
    return "stated in the paper" if stated == "paper" else f"{stated} here"
