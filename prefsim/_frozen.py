"""Setting the fields of a frozen dataclass whose ``__init__`` checks what it is given."""

from __future__ import annotations

from typing import Any

__all__ = ["set_fields"]


def set_fields(instance: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass; for its own methods alone."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)
