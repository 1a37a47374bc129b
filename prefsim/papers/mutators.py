"""Plausible bugs: ways to break a function that fit any loss or solver.

A mutator makes of a function one that is wrong in one way: it negates the result, scales it, takes
the chosen response for the rejected one, ignores an option, forgets the reference, or lets a
derivative through where it should stop.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from prefsim import numerics

__all__ = ["REQUIRED", "Mutant", "mutants_of"]

REQUIRED = ("sign", "half", "double", "swap")
"""What the evidence for a function must notice, unless it is said why it cannot."""

Function = Callable[..., Any]


class Mutant(NamedTuple):
    """One way in which a function is made wrong.

    Attributes
    ----------
    name
        Short name, unique among the mutants of a function: one of :data:`REQUIRED`, ``"attached"``,
        ``"no reference"``, or ``"ignores <option>"``.
    description
        What it does, in words.
    make
        Takes the original and returns the wrong function.
    """

    name: str
    description: str
    make: Callable[[Function], Function]


def mutants_of(function: Function) -> Iterator[Mutant]:
    """Yield the mutants that fit a function; one that changes nothing when it runs is no loss.

    Parameters
    ----------
    function
        A loss, a solver, or any other function with numbers in its result.

    Examples
    --------
    >>> from prefsim import losses
    >>> [mutant.name for mutant in mutants_of(losses.npo)]
    ['sign', 'half', 'double', 'swap', 'no reference', 'ignores beta']
    """
    yield Mutant("sign", "the result is negated", _scaling(-1.0))
    yield Mutant("half", "the result is halved", _scaling(0.5))
    yield Mutant("double", "the result is doubled", _scaling(2.0))
    parameters = inspect.signature(function).parameters
    first = next(iter(parameters.values()), None)
    container = _container_of(function, first)
    if container is not None and hasattr(container, "swapped"):
        yield Mutant("swap", "chosen and rejected are exchanged", _swapping)
    elif first is not None and first.name in ("game", "preference"):
        yield Mutant("swap", "who is preferred is exchanged", _transposing)
    if container is not None and any(name.startswith("ref_") for name in container._fields):
        yield Mutant("no reference", "the reference is forgotten", _forgetting)
    if "stop_gradient" in _names_in(function):
        yield Mutant("attached", "no derivative is stopped", _attaching)
    for parameter in parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and _has_default(parameter):
            ignoring = functools.partial(_ignoring, option=parameter.name)
            name = f"ignores {parameter.name}"
            yield Mutant(name, f"the option {parameter.name} is ignored", ignoring)


def _has_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is not inspect.Parameter.empty


def _container_of(function: Function, first: inspect.Parameter | None) -> Any:
    """Return the container of log-probabilities that a loss takes first, or None."""
    from prefsim import containers

    if first is None:
        return None
    annotation = first.annotation
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    found = getattr(containers, name.partition("[")[0].rpartition(".")[2], None)
    return found if hasattr(found, "_fields") else None


def _names_in(function: Function) -> tuple[str, ...]:
    # What a function does stands in the one that its decorators were put around.
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_names if code is not None else ()


# --- the ways ---


def _scaling(factor: float) -> Callable[[Function], Function]:
    def make(original: Function) -> Function:
        def scaled(*arguments: Any, **options: Any) -> Any:
            return _multiplied(original(*arguments, **options), factor)

        return scaled

    return make


def _is_floating(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic):
        return bool(np.issubdtype(value.dtype, np.floating))
    is_floating_point = getattr(value, "is_floating_point", None)
    return bool(is_floating_point()) if callable(is_floating_point) else isinstance(value, float)


def _multiplied(value: Any, factor: float) -> Any:
    """Return a result with every floating-point number in it multiplied."""
    if _is_floating(value):
        return value * factor
    fields = getattr(value, "_fields", None)
    if fields is not None:
        return value._replace(**{n: _multiplied(getattr(value, n), factor) for n in fields})
    if isinstance(value, list | tuple):
        return type(value)(_multiplied(part, factor) for part in value)
    if isinstance(value, dict):
        return {key: _multiplied(part, factor) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _with_fields_multiplied(value, factor)
    if isinstance(value, types.FunctionType | functools.partial):
        return _scaling(factor)(value)  # a penalty, or another function made to order
    return value


def _with_fields_multiplied(value: Any, factor: float) -> Any:
    """Return a copy of a data object; its own checks of its fields are passed by."""
    made = object.__new__(type(value))
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        object.__setattr__(made, field.name, _multiplied(part, factor))
    return made


def _swapping(original: Function) -> Function:
    def swapped(logps: Any, *arguments: Any, **options: Any) -> Any:
        return original(logps.swapped(), *arguments, **options)

    return swapped


def _transposing(original: Function) -> Function:
    def transposed(game: Any, *arguments: Any, **options: Any) -> Any:
        table = getattr(game, "preference", game)
        other = np.swapaxes(np.asarray(table), -1, -2) if not hasattr(table, "mT") else table.mT
        given = dataclasses.replace(game, preference=other) if table is not game else other
        return original(given, *arguments, **options)

    return transposed


def _forgetting(original: Function) -> Function:
    def forgetful(logps: Any, *arguments: Any, **options: Any) -> Any:
        names = [name for name in logps._fields if name.startswith("ref_")]
        held = {name: getattr(logps, name) for name in names}
        empty = {name: 0 * value for name, value in held.items() if value is not None}
        return original(logps._replace(**empty), *arguments, **options)

    return forgetful


def _ignoring(original: Function, *, option: str) -> Function:
    def ignorant(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, **{k: v for k, v in options.items() if k != option})

    return ignorant


def _attaching(original: Function) -> Function:
    names = inspect.unwrap(original).__globals__

    def attached(*arguments: Any, **options: Any) -> Any:
        kept = names["stop_gradient"]
        names["stop_gradient"] = _identity
        try:
            return original(*arguments, **options)
        finally:
            names["stop_gradient"] = kept

    # A module that reaches it as an attribute would not be changed.
    return attached if names.get("stop_gradient") is numerics.stop_gradient else original


def _identity(value: Any) -> Any:
    return value
