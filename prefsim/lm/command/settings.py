"""A loss and its options out of text.

What the command line and a configuration file say, typed by the loss's own signature.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import runpy
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prefsim.containers import TokenValues
from prefsim.lm.data.classes import TextClasses, TextVersions
from prefsim.lm.data.comparisons import TextComparisons
from prefsim.lm.data.demonstrations import TextDemonstrations
from prefsim.lm.data.feedback import TextFeedback
from prefsim.lm.data.negatives import TextNegatives
from prefsim.lm.data.rankings import TextRankings
from prefsim.lm.data.rollouts import TextRollouts
from prefsim.losses.mixtures import Mixture, terms_of
from prefsim.losses.registry import container_of, loss_functions
from prefsim.losses.running import running_losses

__all__ = [
    "Settings",
    "configured_loss",
    "named_values",
    "own_function",
    "own_loss",
    "read_toml",
    "trainable_losses",
]

_CONTAINERS = (
    *(TextComparisons, TextDemonstrations, TextFeedback, TextRankings, TextRollouts),
    *(TextNegatives, TextClasses, TextVersions),
)
_WORDS = {"true": True, "false": False}


def _kinds() -> set[type]:
    """Return the containers of losses that text can feed."""
    # What a critic expects and what came of it is known in a round alone.
    return {kind for container in _CONTAINERS for kind in container.kinds} - {TokenValues}


def trainable_losses() -> dict[str, Callable[..., Any]]:
    """Return the public losses that text can feed, by name.

    Of a loss with a running state it is the function that makes one.
    """
    kinds = _kinds()
    fed = {name: loss for name, loss in loss_functions().items() if container_of(loss) in kinds}
    running = {
        name: make for name, make in running_losses().items() if container_of(make()) in kinds
    }
    return dict(sorted((fed | running).items()))


def named_values(settings: Iterable[str]) -> dict[str, str]:
    """Return ``name=value`` settings by name.

    Raises
    ------
    ValueError
        If one has no ``=`` or a name is given twice.
    """
    values: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"--set takes name=value, got {setting!r}")
        if name.strip() in values:
            raise ValueError(f"--set got {name.strip()} twice")
        values[name.strip()] = value.strip()
    return values


def configured_loss(name: str, settings: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a loss with its options.

    Parameters
    ----------
    name
        A name of :func:`trainable_losses`; several as a weighted sum, ``dpo + 0.1*sft``; or a loss
        of your own, ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.
    settings
        Options by name; text is read as what the option's annotation asks for (``none`` is None).
        In a sum ``LOSS.OPTION``, or ``OPTION`` alone where one of its losses has it.

    Raises
    ------
    ValueError
        If there is no such loss or option (the error lists what there is), or a value is not of the
        option's type or range.

    Examples
    --------
    >>> configured_loss("dpo", {"beta": "0.5"}).keywords
    {'beta': 0.5}
    >>> (_, dpo), (weight, sft) = configured_loss("dpo + 0.1*sft", {"beta": "0.5"}).terms
    >>> dpo.keywords, weight
    ({'beta': 0.5}, 0.1)
    >>> configured_loss("ipo", {"beta": 0.5})
    Traceback (most recent call last):
        ...
    ValueError: loss 'ipo' has no option 'beta'; it has tau...
    """
    if ":" in name:
        return _configured(name, own_loss(name), settings)
    if name.isidentifier():
        return _configured(name, _trainable(name), settings)
    terms = terms_of(name)
    losses = {each: _trainable(each) for _, each in terms}
    if len(losses) < len(terms):
        raise ValueError(f"a sum of losses must name each loss once, got {name!r}")
    shares = _by_term(losses, settings)
    return Mixture(
        tuple((weight, _configured(each, losses[each], shares[each])) for weight, each in terms)
    )


def own_function(place: str, option: str) -> Callable[..., Any]:
    """Return a function out of a file or a module, ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.

    Raises
    ------
    ValueError
        If there is no such file, module or function; ``option`` says who asked for it.
    """
    where, _, name = place.rpartition(":")
    try:
        if where.endswith(".py"):
            found = runpy.run_path(where).get(name)
        else:
            found = getattr(importlib.import_module(where or place), name, None)
    except (OSError, ImportError, SyntaxError) as error:
        raise ValueError(f"{option} {place}: {where or place} cannot be read ({error})") from error
    if not callable(found):
        raise ValueError(f"{option} {place}: {where or place} has no function {name!r}")
    return found


def own_loss(place: str) -> Callable[..., Any]:
    """Return a loss out of a file or a module, ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.

    Raises
    ------
    ValueError
        If there is no such file, module or function, or it is no loss of data that text can feed.
    """
    found = own_function(place, "--loss")
    kind = container_of(found)
    if kind not in _kinds():
        raise ValueError(f"--loss {place}: text cannot feed a loss of {kind.__name__}")
    return found


def _trainable(name: str) -> Callable[..., Any]:
    losses = trainable_losses()
    if name not in losses:
        why = "takes what text cannot give;" if name in loss_functions() else "is not known;"
        close = difflib.get_close_matches(name, losses, n=2)
        if close and name not in loss_functions():
            why += f" did you mean {' or '.join(map(repr, close))}?"
        raise ValueError(
            f"loss {name!r} {why} a language model is trained with one of {', '.join(losses)}"
        )
    return losses[name]


def _options(loss: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(loss).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def _by_term(
    losses: Mapping[str, Callable[..., Any]], settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the settings of each loss of a sum."""
    shares: dict[str, dict[str, Any]] = {name: {} for name in losses}
    for setting, value in settings.items():
        whose, dot, option = setting.rpartition(".")
        having = [whose] if dot else [name for name in losses if setting in _options(losses[name])]
        if len(having) != 1 or having[0] not in shares:
            raise ValueError(
                f"option {setting!r} must be of one loss of the sum, {', '.join(losses)}, or be"
                f" written LOSS.OPTION; got one of {', '.join(having) or 'none'}"
            )
        shares[having[0]][option] = value
    return shares


def _configured(
    name: str, loss: Callable[..., Any], settings: Mapping[str, Any]
) -> Callable[..., Any]:
    hints = typing.get_type_hints(loss)
    options = _options(loss)
    for option in settings:
        if option not in options:
            raise ValueError(
                f"loss {name!r} has no option {option!r}; it has {', '.join(options) or 'none'}"
            )
    typed = {
        option: _typed(hints.get(option, float), value, f"{name}'s {option}")
        for option, value in settings.items()
    }
    if name in running_losses():
        return loss(**typed)
    configured = functools.partial(loss, **typed)
    # Losses check the range of their options when they are called.
    configured(container_of(loss).example())
    return configured


def _typed(hint: Any, value: Any, name: str) -> Any:
    """Return ``value`` as one of the types that ``hint`` allows and text or TOML can express."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    allowed = typing.get_args(hint) if union else (hint,)
    text = value.lower() if isinstance(value, str) else None
    if type(None) in allowed and text == "none":
        return None
    if bool in allowed and (isinstance(value, bool) or text in _WORDS):
        return value if isinstance(value, bool) else _WORDS[str(text)]
    for number in (int, float):
        if number in allowed and not isinstance(value, bool):
            try:
                read = number(value)
            except (TypeError, ValueError):
                continue
            # The number 2.5 must not become the integer 2.
            if read == value or isinstance(value, str):
                return read
    if str in allowed and isinstance(value, str):
        return value
    wanted = " or ".join(_NAMES[each] for each in allowed if each in _NAMES)
    raise ValueError(f"{name} must be {wanted}, got {value!r}")


_NAMES: dict[Any, str] = {
    float: "a number",
    int: "an integer",
    bool: "true or false",
    str: "a word",
    Path: "a path",
    type(None): "none",
}


def read_toml(file: Path) -> dict[str, Any]:
    """Return the table of a TOML file.

    Raises
    ------
    ValueError
        If it cannot be read; the file is named.
    """
    try:
        # With a byte-order mark where an editor wrote one.
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{file}: expected a file in TOML ({error})") from error


class Settings(Mapping[str, Any]):
    """The options of a command by parameter name.

    As the command line gives them, else the file of settings, else as declared.

    Parameters
    ----------
    context
        The command's context, of typer or click.
    file
        A file in TOML whose keys are the names of options, with ``-`` or ``_``, and a table
        ``set``; or None.
    types
        The type of each parameter.

    Raises
    ------
    ValueError
        If the file cannot be read, or has a key that is no option or a value that is not of the
        option's type.
    """

    def __init__(self, context: Any, file: Path | None, types: Mapping[str, Any]) -> None:
        self._values: dict[str, Any] = dict(context.params)
        self._values["settings"] = named_values(context.params["settings"] or ())
        if file is not None:
            self._merge(context, file, types)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _merge(self, context: Any, file: Path, types: Mapping[str, Any]) -> None:
        names = {
            spelling.lstrip("-").replace("-", "_"): str(parameter.name)
            for parameter in context.command.params
            for spelling in parameter.opts
            if parameter.name in context.params and parameter.name != "config"
        }
        for key, value in read_toml(file).items():
            name = names.get(key.replace("-", "_"))
            if name is None:
                raise ValueError(f"{file}: key {key!r} is not known; there are {', '.join(names)}")
            if name == "settings":
                if not isinstance(value, dict):
                    raise ValueError(
                        f"{file}: set must be a table of the loss's options, got {value!r}"
                    )
                self._values[name] = value | self._values[name]
                continue
            typed = _as_declared(types[name], value, f"{file}: {key}")
            source = context.get_parameter_source(name)
            if source is None or source.name != "COMMANDLINE":
                self._values[name] = typed


def _as_declared(hint: Any, value: Any, name: str) -> Any:
    """Return a value of a file as the option's type, or raise.

    Nothing is rounded or read out of text.
    """
    (wanted,) = [each for each in typing.get_args(hint) or (hint,) if each is not type(None)]
    if typing.get_origin(wanted) is list:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(f"{name} must be a list of words, got {value!r}")
        return value
    kinds = {float: (int, float), Path: (str,)}.get(wanted, (wanted,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and wanted is not bool):
        raise ValueError(f"{name} must be {_NAMES[wanted]}, got {value!r}")
    return wanted(value)
