"""What settings a loss has, read off its signature and off the errors that it raises.

Options come from the signature, the choices of an option of strings from the error that a wrong one
raises, and what a required option accepts from trying.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from prefsim import losses

ALTERNATIVES: dict[type, tuple[Any, ...]] = {
    bool: (True, False),
    float: (0.07, 0.3, 0.45, 2.5, 4.0),
    int: (1, 2, 3),
    types.FunctionType: (losses.ipo,),
}
FREE_FORM = (0.35, True, False, 2)  # for options whose default is None


def options(loss: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {
        k: p
        for k, p in inspect.signature(loss).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }


@functools.cache
def _base_options(loss: Callable[..., Any]) -> tuple[tuple[str, Any], ...]:
    required = [k for k, p in options(loss).items() if p.default is inspect.Parameter.empty]
    container = losses.container_of(loss).example()
    for values in itertools.product((0.4, 1, 2, 0.1, 3.0), repeat=len(required)):
        try:
            loss(container, **dict(zip(required, values, strict=True)))
        except (ValueError, TypeError):
            continue
        return tuple(zip(required, values, strict=True))
    raise AssertionError(
        f"no value of the required options {required} of {loss.__name__} was accepted"
    )


def base_options(loss: Callable[..., Any]) -> dict[str, Any]:
    return dict(_base_options(loss))


def configurations(loss: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """Yield the defaults, then every choice of every option of strings and of every boolean.

    Required options are filled in.
    """
    base = base_options(loss)
    yield base
    for name, parameter in options(loss).items():
        if isinstance(parameter.default, str):
            yield from (
                {**base, name: choice}
                for choice in choices(loss, name)
                if choice != parameter.default
            )
        elif isinstance(parameter.default, bool):
            yield {**base, name: not parameter.default}


def choices(loss: Callable[..., Any], option: str) -> list[str]:
    with pytest.raises(ValueError, match="must be one of") as caught:
        loss(
            losses.container_of(loss).example(), **{**base_options(loss), option: "no such choice"}
        )
    return re.findall(r"'([^']+)'", str(caught.value).split("must be one of")[1].split(", got")[0])


def alternatives(loss: Callable[..., Any], option: str, current: Any) -> list[Any]:
    if isinstance(current, str):
        return [c for c in choices(loss, option) if c != current]
    if current is None:
        return list(FREE_FORM)
    return [v for v in ALTERNATIVES[type(current)] if v != current]


def outcome(loss: Callable[..., Any], container: Any, **setting: Any) -> tuple[Any, str]:
    """Return the value and "", or None and the text of the error."""
    try:
        return loss(container, **setting), ""
    except ValueError as error:
        return None, str(error)
