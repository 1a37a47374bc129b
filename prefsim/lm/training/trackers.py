"""Where else the metrics of a training go: trackers of accelerate, and functions of the caller."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from prefsim.checks import check_choice
from prefsim.checks.quoting import shown

__all__ = ["Listener", "check_trackers", "listeners", "on_all_processes"]

Listener = Callable[[dict[str, float]], Any]

# Written in the folder of a training wherever it is installed, and so never asked for twice.
ALWAYS = "tensorboard"
PROJECT = "prefsim"


def check_trackers(trackers: Sequence[Any], *, has_folder: bool) -> None:
    """Raise unless each is a function or a tracker that accelerate knows and that is installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

    if isinstance(trackers, str):
        raise ValueError(f"trackers must be a list of names or functions, got {shown(trackers)}")
    installed = {str(getattr(each, "value", each)) for each in get_available_trackers()}
    for tracker in trackers:
        if isinstance(tracker, GeneralTracker) or callable(tracker):
            continue
        check_choice(tuple(sorted(LOGGER_TYPE_TO_CLASS)), trackers=tracker)
        if tracker not in installed:
            raise ValueError(f"tracker {tracker!r} is not installed: pip install {tracker}")
        if LOGGER_TYPE_TO_CLASS[tracker].requires_logging_directory and not has_folder:
            raise ValueError(f"tracker {tracker!r} needs out, the folder of the training")


@contextlib.contextmanager
def listeners(
    trackers: Sequence[Any], folder: Path | None, options: Any, loss: str
) -> Iterator[list[Listener]]:
    """Start trackers, give what hears every line of metrics, and finish them at the end.

    For the first process alone.

    Parameters
    ----------
    trackers
        Checked by :func:`check_trackers`.
    folder
        Of the training, where trackers write that write to disk.
    options
        The options of the training, which trackers show beside the curves.
    loss
        What the loss is called there.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

    settings: dict[str, Any] = {"loss": loss}
    for field in fields(options):
        value = getattr(options, field.name)
        settings[field.name] = value if isinstance(value, int | float | str) else repr(value)
    started: list[Any] = []
    heard: list[Listener] = []
    try:
        for tracker in trackers:
            if not isinstance(tracker, str | GeneralTracker):
                heard.append(tracker)
                continue
            if tracker == ALWAYS:
                continue
            if isinstance(tracker, str):
                kind = LOGGER_TYPE_TO_CLASS[tracker]
                tracker = kind(PROJECT, **_places(tracker, kind, folder))
            tracker.start()
            started.append(tracker)
            tracker.store_init_configuration(settings)
            heard.append(_logs(tracker))
        yield heard
    finally:
        for tracker in started:
            tracker.finish()


def on_all_processes(said: bool, trackers: Sequence[Any], accelerator: Any) -> bool:
    """Return what the first process was told by its functions, on every process."""
    if accelerator.num_processes == 1 or not any(map(callable, trackers)):
        return said
    from accelerate.utils import broadcast_object_list

    return bool(broadcast_object_list([said])[0])


def _places(name: str, kind: Any, folder: Path | None) -> dict[str, str]:
    """Return the option that tells a tracker where to write, of those that have one."""
    if folder is None:
        return {}
    if kind.requires_logging_directory:
        return {"logging_dir": str(folder)}
    return {"dir": str(folder)} if name == "wandb" else {}


def _logs(tracker: Any) -> Listener:
    def log(line: dict[str, float]) -> None:
        numbers = {name: value for name, value in line.items() if name != "step"}
        tracker.log(numbers, step=int(line["step"]))

    return log
