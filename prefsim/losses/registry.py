"""Which losses there are and what data each needs, read off the functions themselves."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any

from prefsim import containers

_PUBLIC = (getattr(containers, name) for name in containers.__all__)
CONTAINERS = tuple(value for value in _PUBLIC if inspect.isclass(value))

__all__ = ["CONTAINERS", "container_of", "loss_functions"]


def container_of(loss: Callable[..., Any]) -> type[Any]:
    """Return the container that ``loss`` takes.

    The annotation of its first parameter, seen through ``functools.partial``; of an object that is
    called, its attribute ``container`` where it has one.

    Raises
    ------
    ValueError
        If the first parameter is not annotated with a container of :mod:`prefsim.losses`.
    """
    function = loss
    while isinstance(function, functools.partial):
        function = function.func
    said = getattr(function, "container", None)
    if inspect.isclass(said) and said in CONTAINERS:
        return said
    parameters = list(inspect.signature(function).parameters)
    annotation: Any = typing.get_type_hints(function).get(parameters[0]) if parameters else None
    kind = typing.get_origin(annotation) or annotation  # PairLogps of PairLogps[ArrayT]
    if kind not in CONTAINERS:
        names = ", ".join(c.__name__ for c in CONTAINERS)
        named = getattr(function, "__name__", repr(function))
        raise ValueError(
            f"the first parameter of a loss must be annotated with one of {names}; {named} has"
            f" {annotation!r}"
        )
    return kind


def loss_functions() -> dict[str, Callable[..., Any]]:
    """Return every public loss of :mod:`prefsim.losses` by name.

    The public functions of a container with keyword-only options.
    """
    # Python has made the face of a package before any module of it can run.
    losses = sys.modules[__package__]
    losses_by_name: dict[str, Callable[..., Any]] = {}
    for name in losses.__all__:
        function = getattr(losses, name)
        if not inspect.isfunction(function) or name in _HELPERS:
            continue
        try:
            container_of(function)
        except ValueError:
            continue
        losses_by_name[name] = function
    return losses_by_name


_HELPERS = frozenset({"log_ratios", "reward_margin"})
