"""What was found, as an error quotes it."""

from __future__ import annotations

from typing import Any

__all__ = ["shown"]

# Data holds whole texts and books; a message holds what tells one value from another.
LONGEST = 60
# Beyond, an integer is not printed: Python itself refuses some thousand digits.
LONGEST_INTEGER = 2**256


def shown(value: Any) -> str:
    """Return a value in words of a readable length.

    Examples
    --------
    >>> shown("no")
    "'no'"
    >>> shown(10**400)
    'an integer of 1329 bits'
    """
    if isinstance(value, int) and abs(value) > LONGEST_INTEGER:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str | bytes):
        # A repr of a long text costs as much as the text.
        value = value[: LONGEST + 1]
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
