"""Where rows come from: files, folders and the hub, each row with its number."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefsim.data.formats import is_json_array
from prefsim.data.json_lines import read_json_array, read_json_lines
from prefsim.lm.command.messages import Row

__all__ = ["open_source"]

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
_JSON = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
_FILES = ".jsonl, .ndjson or .json (each also with .gz) or .parquet"
# What `Dataset.save_to_disk` and `DatasetDict.save_to_disk` leave in their folder.
_SAVED, _SAVED_SPLITS = "dataset_info.json", "dataset_dict.json"
_LONGEST_CAUSE = 300


def open_source(
    source: str | os.PathLike[str], split: str | None
) -> tuple[str, str, Iterator[tuple[int, Row]]]:
    """Return the source's name, what its rows are counted in, and the numbered rows.

    Raises
    ------
    ValueError
        If it is no file, folder or hub id that can be read; here or while its rows are taken.
    """
    name = os.fspath(source)
    path = Path(name).expanduser()
    json, table = name.lower().endswith(_JSON), name.lower().endswith(".parquet")
    if path.is_dir():
        return name, "row", _folder_rows(path, name, split)
    if path.exists() or json or table:
        if not (json or table):
            raise ValueError(f"{name}: the name of a data file must end in {_FILES}")
        if not path.exists():
            raise ValueError(f"{name}: there is no such file")
        if split is not None:
            raise ValueError(
                f"{name}: a split is for folders and hub ids, and a file is read whole; got split"
                f" {split!r}"
            )
        if table:
            return name, "row", _parquet_rows(path, name)
        if is_json_array(path):
            return name, "row", read_json_array(path)
        return name, "line", read_json_lines(path)
    if not _HUB_ID.fullmatch(name):
        raise ValueError(f"{name}: no such file or folder, and it is no hub id")
    return name, "row", _loaded_rows(name, name, split)


def _parquet_rows(path: Path, name: str) -> Iterator[tuple[int, Row]]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name}: parquet files need pyarrow, which `pip install 'prefsim[lm]'` brings"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except Exception as error:
        # A damaged file makes the reader of the format raise anything at all.
        raise ValueError(f"{name}: cannot be read after row {number} ({_cause(error)})") from error


def _folder_rows(path: Path, name: str, split: str | None) -> Iterator[tuple[int, Row]]:
    if any((path / mark).is_file() for mark in (_SAVED, _SAVED_SPLITS)):
        return _saved_rows(path, name, split)
    return _loaded_rows(str(path), name, split)


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name}: folders and hub ids need datasets, which `pip install 'prefsim[lm]'` brings"
        ) from error
    return datasets


def _saved_rows(path: Path, name: str, split: str | None) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a folder that was written by ``save_to_disk``."""
    datasets = _datasets(name)
    try:
        table = datasets.load_from_disk(str(path))
    except Exception as error:
        raise ValueError(f"{name}: cannot be read as a saved data set ({_cause(error)})") from error
    if isinstance(table, datasets.DatasetDict):
        wanted = "train" if split is None else split
        if wanted not in table:
            raise ValueError(f"{name}: split must be one of {', '.join(table)}, got {wanted!r}")
        table = table[wanted]
    elif split not in (None, str(table.split)):
        raise ValueError(
            f"{name}: the folder holds one saved data set without splits, got split {split!r}"
        )
    yield from _numbered(table, name)


def _loaded_rows(path: str, name: str, split: str | None) -> Iterator[tuple[int, Row]]:
    datasets = _datasets(name)
    folder = Path(path).is_dir()
    identity, _, configuration = (path, "", "") if folder else path.partition(":")
    wanted = "train" if split is None else split
    try:
        table = datasets.load_dataset(identity, configuration or None, split=wanted)
    except Exception as error:
        what = (
            f"split {wanted!r} of this folder cannot be loaded"
            if folder
            else f"no such file or folder, and split {wanted!r} of a hub data set cannot be had"
        )
        raise ValueError(f"{name}: {what} ({_cause(error)})") from error
    yield from _numbered(table, name)


def _numbered(table: Any, name: str) -> Iterator[tuple[int, Row]]:
    number = 0
    try:
        for number, row in enumerate(table, start=1):
            yield number, row
    except Exception as error:
        raise ValueError(f"{name}: cannot be read after row {number} ({_cause(error)})") from error


def _cause(error: BaseException) -> str:
    """Return what was wrong, on one line: the first reason of a chain beside the last.

    Loaders say that something went wrong, and leave what to the errors that it came from.
    """
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    told = [" ".join(str(each).split()) or type(each).__name__ for each in (chain[0], *chain[1:2])]
    text = ": ".join(dict.fromkeys(told))
    return text if len(text) <= _LONGEST_CAUSE else f"{text[:_LONGEST_CAUSE]}..."
