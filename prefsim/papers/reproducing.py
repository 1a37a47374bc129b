"""Run the reproductions of papers and keep their results.

``out/<slug>/`` holds ``result.json``, and the figure as ``figure.png`` and ``figure.svg``. A result
whose fingerprint still matches is not computed again, so that an interrupted run continues where it
stopped. Workers compute and the calling process writes: they need not share a disk.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prefsim import __version__
from prefsim.backend import use_backend
from prefsim.checks import check_integer
from prefsim.data.locate import data_folder
from prefsim.papers.checking import describe_error
from prefsim.papers.criteria import Criterion
from prefsim.papers.discovery import find, load, plain
from prefsim.papers.figures import pictures
from prefsim.papers.fingerprint import fingerprint
from prefsim.papers.paper import PaperModule, Reproduction, Run
from prefsim.papers.storage import (
    DRAWING,
    FIGURE,
    RESULT,
    clear,
    make_folder,
    read_record,
    write_bytes,
    write_record,
)
from prefsim.parallel import Report, check_jobs, track, unordered

__all__ = ["Outcome", "Settings", "read_result", "run_reproduction", "run_reproductions"]


# A file of one's own may hold claims alone: that is seen before anything runs.
_REPRODUCE = re.compile(r"^(def )?reproduce\b", re.MULTILINE)


class Settings(NamedTuple):
    """What a result depends on besides the code."""

    quick: bool = False
    seed: int = 0
    data: Path | None = None
    backend: str = "numpy"
    device: str = "cpu"

    def plain(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them."""
        return {**self._asdict(), "data": None if self.data is None else str(self.data)}


class Outcome(NamedTuple):
    """What became of one reproduction.

    Attributes
    ----------
    slug
        The paper.
    passed
        Whether every criterion passed.
    reused
        Whether an earlier result was kept.
    folder
        Where its files are.
    result
        The content of ``result.json``; None if the reproduction raised.
    error
        What it raised, in a line; None if it did not.
    """

    slug: str
    passed: bool
    reused: bool
    folder: Path
    result: dict[str, Any] | None
    error: str | None = None


class Computed(NamedTuple):
    """What a worker sends home: the result and its pictures by file name, or the error."""

    reference: str
    result: dict[str, Any] | None
    pictures: dict[str, bytes]
    error: str | None = None


def read_result(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the result in ``folder``, or None if there is none that is whole.

    It is whole when it says what was written, and its pictures are those drawn with it.
    """
    folder = Path(folder)
    result = read_record(folder / RESULT)
    try:
        drawn = _digests({name: (folder / name).read_bytes() for name in (FIGURE, DRAWING)})
    except OSError:
        return None
    return result if result is not None and result.get("pictures") == drawn else None


def _digests(pictures: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in pictures.items()}


def run_reproduction(
    reference: str,
    *,
    out: str | os.PathLike[str] = "results",
    quick: bool = False,
    seed: int = 0,
    data: str | os.PathLike[str] | None = None,
    backend: str = "numpy",
    device: str = "cpu",
    force: bool = False,
    report: Report | None = None,
) -> Outcome:
    """Run the reproduction of one paper.

    Its result is kept if nothing that it follows from has changed.

    Parameters
    ----------
    reference
        The paper's slug, or the path of a file or folder of one's own.
    out
        Folder of all results; made if it does not exist.
    quick
        Fewer seeds and smaller worlds, in seconds.
    seed
        Of every random draw, >= 0.
    data
        Folder with real data; None reads the environment variable ``PREFSIM_DATA``.
    backend, device
        In force while it runs, see :func:`prefsim.use_backend`.
    force
        Compute again even if the result is there.
    report
        Told of progress, see :class:`prefsim.parallel.Report`.

    Returns
    -------
    Outcome
        An exception of the reproduction is caught and described there; an earlier result then
        stays as it was.

    Raises
    ------
    ValueError
        If the paper, the backend, the device, the seed or a folder is wrong.
    """
    settings = Settings(bool(quick), seed, data_folder(data), backend, device)
    (outcome,) = run_reproductions(
        [reference], out=out, settings=settings, force=force, report=report
    )
    return outcome


def run_reproductions(
    references: Sequence[str],
    *,
    out: str | os.PathLike[str] = "results",
    settings: Settings = Settings(),  # noqa: B008 - immutable
    jobs: int = 1,
    force: bool = False,
    report: Report | None = None,
) -> Iterator[Outcome]:
    """Run several reproductions, ``jobs`` at a time, and yield each outcome as it comes.

    One that fails does not stop the others. The parameters are those of :func:`run_reproduction`
    and :func:`prefsim.parallel.unordered`. Wrong ones raise ``ValueError`` at once, before anything
    runs.
    """
    check_jobs(jobs)
    folder = _prepare(Path(out), references, settings)
    return _outcomes(references, folder, settings, jobs, force, report)


def _outcomes(
    references: Sequence[str],
    out: Path,
    settings: Settings,
    jobs: int,
    force: bool,
    report: Report | None,
) -> Iterator[Outcome]:
    calls = []
    for reference in dict.fromkeys(references):
        mark = fingerprint(reference, settings.plain())
        folder = out / find(reference).slug
        kept = None if force else read_result(folder)
        if kept is not None and kept["fingerprint"] == mark:
            yield Outcome(kept["slug"], kept["passed"], True, folder, kept)
        else:
            calls.append((reference, settings, mark))
    for computed in unordered(_compute, calls, jobs=jobs, report=report, lost=_lost):
        yield _keep(computed, out)


def _prepare(out: Path, references: Sequence[str], settings: Settings) -> Path:
    """Reject wrong arguments before anything runs, and return the folder of results."""
    slugs: dict[str, str] = {}
    for reference in references:
        source = find(reference)
        slug = source.slug
        if source.path.is_file() and not _REPRODUCE.search(source.path.read_text("utf-8")):
            raise ValueError(f"{source.path} must define reproduce(run), got none")
        if slugs.setdefault(slug, reference) != reference:
            raise ValueError(f"two papers must not share the results of {slug}")
    check_integer(low=0, seed=settings.seed)
    with use_backend(settings.backend, device=settings.device):
        pass
    folder = make_folder(out)
    for slug in slugs:
        if (folder / slug).is_file():
            raise ValueError(f"{out / slug} must be free for the result of {slug}, got a file")
        clear(folder / slug)
    return folder


def _compute(reference: str, settings: Settings, mark: str, *, report: Report | None) -> Computed:
    """Run a reproduction, here or in a worker; nothing is written."""
    start = time.perf_counter()
    try:
        module = load(reference)
        if module.reproduce is None:
            raise ValueError(f"{module.path} defines no reproduce(run)")
        progress = Run().progress
        if report is not None:
            progress = functools.partial(track, name=module.paper.slug, report=report)
        with use_backend(settings.backend, device=settings.device):
            run = Run(settings.quick, settings.seed, settings.data, progress)
            reproduction = module.reproduce(run)
        _check(reproduction)
        png, svg = pictures(reproduction.figure)
        drawn = {FIGURE: png, DRAWING: svg}
        result = _as_json(module, reproduction, settings)
    except Exception as error:
        return Computed(reference, None, {}, describe_error(error))
    result |= {
        "reference": reference,
        "seconds": round(time.perf_counter() - start, 3),
        "fingerprint": mark,
        "pictures": _digests(drawn),
    }
    return Computed(reference, result, drawn)


def _lost(call: tuple[Any, ...], reason: str) -> Computed:
    """Return what is known of a reproduction whose worker died."""
    return Computed(call[0], None, {}, reason)


def _keep(computed: Computed, out: Path) -> Outcome:
    """Write what came home. Pictures go first: a result names those that belong to it."""
    slug = find(computed.reference).slug
    folder = out / slug
    if computed.result is None:
        return Outcome(slug, False, False, folder, None, computed.error)
    try:
        for name, content in computed.pictures.items():
            write_bytes(folder / name, content)
        write_record(folder / RESULT, computed.result)
    except OSError as error:
        return Outcome(slug, False, False, folder, None, describe_error(error))
    return Outcome(slug, computed.result["passed"], False, folder, computed.result)


def _check(reproduction: Any) -> None:
    if not isinstance(reproduction, Reproduction):
        raise TypeError(f"reproduce must return a Reproduction, got {type(reproduction).__name__}")
    if not reproduction.criteria:
        raise ValueError("a reproduction must have at least one criterion, got none")
    names = [criterion.name for criterion in reproduction.criteria]
    if len(set(names)) < len(names):
        raise ValueError(f"criteria must have one name each, got {names}")
    for criterion in reproduction.criteria:
        if not isinstance(criterion, Criterion):
            raise TypeError(f"criteria must be Criterion, got {type(criterion).__name__}")
    for row in reproduction.table:
        if not isinstance(row, dict):
            raise TypeError(f"rows of the table must be dicts, got {type(row).__name__}")
    for name in ("caption", "cut"):
        if not isinstance(words := getattr(reproduction, name), str):
            raise TypeError(f"{name} must be text, got {type(words).__name__}")


def _plain(value: Any) -> str | int | float | bool | None:
    """Return a scalar as JSON can hold it; NaN and infinity become words."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _as_json(module: PaperModule, reproduction: Reproduction, settings: Settings) -> dict[str, Any]:
    criteria = [criterion._asdict() for criterion in reproduction.criteria]
    table = [{str(key): _plain(value) for key, value in row.items()} for row in reproduction.table]
    return {
        "slug": module.paper.slug,
        "passed": all(criterion.passed for criterion in reproduction.criteria),
        "criteria": criteria,
        "table": table,
        "caption": reproduction.caption,
        "cut": reproduction.cut if settings.quick else "",
        "paper": plain(module.paper, module.family),
        "settings": settings.plain(),
        "version": __version__,
    }
