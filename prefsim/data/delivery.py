"""Reader of the human preferences over segments in the delivery task.

The files are plain NumPy, never pickles.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import (
    as_float_array,
    as_index_array,
    check_directory,
    check_shape,
    check_unit_interval,
)
from prefsim.data.segments import Segments
from prefsim.worlds.delivery import DeliveryTask, delivery_task
from prefsim.worlds.grid import GRID_MOVES

__all__ = ["HumanComparisons", "delivery_segments", "has_delivery", "read_delivery"]

STEPS = 3  # moves of a segment in the files
_KINDS = ("segment_pairs", "Y", "X")


class HumanComparisons(NamedTuple):
    """Comparisons by people.

    Attributes
    ----------
    segments
        The pairs, with ``prob`` 1 where the *first* segment was preferred, 0 where the second was
        and ½ where neither.
    statistics
        What the authors recorded of each pair, *second minus first*: partial return, start value
        and end value (``n, 3``), in units of the task's reward without discount.
    """

    segments: Segments
    statistics: np.ndarray


def read_delivery(
    folder: str | os.PathLike[str], condition: str = "Privileged-Control"
) -> HumanComparisons:
    """Read one condition of the human study.

    The files are in the folder ``data/human_data`` of the GitHub repository
    Stephanehk/InfluencingHumanPrefs; each condition has three, such as
    ``Privileged-Control_full_filtered_segment_pairs.npy``, ``…_Y.npy`` and ``…_X.npy``. The short
    names ``privileged_control_segment_pairs.npy``, ``…_Y.npy`` and ``…_X.npy`` are understood too.

    Parameters
    ----------
    folder
        Where the files are.
    condition
        Such as ``"Privileged-Control"``, ``"Trained-Control"`` or ``"Question-Control"`` (the
        unmanipulated ones).

    Returns
    -------
    HumanComparisons

    Raises
    ------
    ValueError
        If a file is missing, cannot be read or is a pickle, the lengths differ, a label lies
        outside [0, 1], or a segment is impossible on the board (see :func:`delivery_segments`).
    """
    check_directory(Path(folder), "folder")
    arrays, paths = {}, {}
    for kind in _KINDS:
        paths[kind] = _path(Path(folder), condition, kind)
        arrays[kind] = _load(paths[kind])
    named = {kind: f"{path}: {kind}" for kind, path in paths.items()}
    labels = as_float_array(arrays["Y"], named["Y"], ndim=1)
    check_unit_interval(labels, named["Y"])
    statistics = as_float_array(arrays["X"], named["X"], ndim=2)
    pairs = arrays["segment_pairs"]
    rows = pairs.shape[0] if pairs.ndim else 0
    for kind, array in (("Y", labels), ("X", statistics)):
        if array.shape[0] != rows:
            raise ValueError(
                f"{named[kind]} must have one row for each of {rows} segment pairs, got"
                f" {array.shape[0]}"
            )
    check_shape(statistics, named["X"], (labels.size, 3))
    try:
        segments = delivery_segments(pairs)
    except ValueError as error:
        raise ValueError(f"{paths['segment_pairs']}: {error}") from error
    # The authors' label is 1 where the second segment was preferred.
    return HumanComparisons(segments.relabelled(1.0 - labels), statistics)


def has_delivery(folder: str | os.PathLike[str], condition: str = "Privileged-Control") -> bool:
    """Return whether a folder holds the three files of a condition."""
    return all(
        any((Path(folder) / name).is_file() for name in _names(condition, kind)) for kind in _KINDS
    )


def _names(condition: str, kind: str) -> tuple[str, str]:
    return (
        f"{condition}_full_filtered_{kind}.npy",
        f"{condition.lower().replace('-', '_')}_{kind}.npy",
    )


def _path(folder: Path, condition: str, kind: str) -> Path:
    names = _names(condition, kind)
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder} must hold {names[0]} or {names[1]}, got neither")
    return path


def _load(path: Path) -> np.ndarray:
    try:
        # As a map of the file, so that a damaged header asks for no memory that it does not fill.
        found = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:
        # NumPy evaluates headers; a damaged one raises what their words happen to mean.
        raise ValueError(
            f"{path} must be a plain NumPy array, but cannot be read:"
            f" {str(error)[:200] or type(error).__name__}"
        ) from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise ValueError(f"{path} must be a plain NumPy array, got an archive of several")
    return np.array(found)


def delivery_segments(pairs: Any, task: DeliveryTask | None = None) -> Segments:
    """Return segments given as starts and moves, replayed on the board, without labels.

    ``prob`` is ½.

    Parameters
    ----------
    pairs
        Integers ``(n, 2, 4, 2)``: of each segment the start (row, column) and three moves such as
        (−1, 0); (0, 0) is padding after the end of the episode. A move against the edge or a house
        stays.
    task
        The board; that of the human study unless given.

    Raises
    ------
    ValueError
        If the shape is wrong, a segment starts off the board or where the episode is over, a move
        is none of the four, or padding and end of the episode do not go together.
    """
    rows = as_index_array(pairs, "segment_pairs", low=-1)
    check_shape(rows, "segment_pairs", (2, STEPS + 1, 2))
    if rows.ndim != 4:
        raise ValueError(f"segment_pairs must have shape (n, 2, {STEPS + 1}, 2), got {rows.shape}")
    task = delivery_task() if task is None else task
    height, width = task.cells.shape
    ended = np.asarray(task.mdp.terminal)
    successor = np.argmax(np.asarray(task.mdp.transitions), axis=-1)
    start = rows[:, :, 0]
    _refuse(
        ((start < 0) | (start >= [height, width])).any(axis=-1),
        start,
        f"must start on the board of {height} x {width} cells",
    )
    here = start[..., 0] * width + start[..., 1]
    _refuse(
        ended[here], start, "must start in a cell that can be stood on and does not end the episode"
    )
    states, actions, mask = [here], [], []
    for t in range(1, STEPS + 1):
        move = rows[:, :, t]
        is_move = (move[..., None, :] == np.array(GRID_MOVES)).all(axis=-1)
        padded = (move == 0).all(axis=-1)
        _refuse(
            ~is_move.any(axis=-1) & ~padded,
            move,
            "must move by (-1, 0), (1, 0), (0, -1), (0, 1) or be padded with (0, 0)",
            t,
        )
        _refuse(padded & ~ended[here], move, "must not be padded before the episode is over", t)
        _refuse(~padded & ended[here], move, "must not leave a cell that ends the episode", t)
        actions.append(np.argmax(is_move, axis=-1))
        mask.append(~padded)
        here = np.where(padded, here, successor[here, actions[-1]])
        states.append(here)
    return Segments(
        np.stack(states, axis=-1), np.stack(actions, axis=-1), 0.5, None, np.stack(mask, axis=-1)
    )


def _refuse(bad: Any, given: np.ndarray, rule: str, step: int = 0) -> None:
    if bad.any():
        pair, which = (int(i) for i in np.argwhere(bad)[0])
        column = "start" if step == 0 else f"move {step}"
        entry = f"{column} {tuple(given[pair, which].tolist())}"
        raise ValueError(f"a segment {rule}, got {entry} in pair {pair}, segment {which}")
