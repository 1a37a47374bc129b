"""Run the reproductions of papers and keep their results: each is written whole, and once.

``out/<slug>/`` holds ``result.json`` and ``figure.png``. Both are made in a hidden folder beside it
that is moved into place when it is complete; a result whose fingerprint still matches is not
computed again, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prefsim import __version__
from prefsim.backend import use_backend
from prefsim.checks import check_integer, check_known
from prefsim.data.locate import data_folder
from prefsim.papers import Criterion, Module, Reproduction, Run, all_slugs, load, source_file
from prefsim.papers.checking import describe_error
from prefsim.parallel import Report, check_jobs, track, unordered

__all__ = [
    "Outcome",
    "Settings",
    "fingerprint",
    "read_result",
    "run_reproduction",
    "run_reproductions",
]

RESULT, FIGURE = "result.json", "figure.png"
_FRONT = {"cli.py", "progress.py", "report.py"}  # what shows numbers does not change them


class Settings(NamedTuple):
    """What a result depends on besides the code."""

    quick: bool = False
    seed: int = 0
    data: Path | None = None
    backend: str = "numpy"
    device: str = "cpu"


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


@functools.lru_cache(maxsize=1)
def _library_hash() -> str:
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        if path.name not in _FRONT:
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint(slug: str, settings: Settings) -> str:
    """Return a hash of all that a result follows from.

    That is the paper's module and those that papers share, the library's version and source, and
    the settings.

    Raises
    ------
    ValueError
        If no such paper is known.
    """
    digest = hashlib.sha256()
    module = source_file(slug)
    sources = [
        module,
        *sorted(module.parent.glob("_*.py")),
    ]  # what papers share with each other has a leading underscore
    parts = [path.read_bytes() for path in sources] + [
        __version__.encode(),
        _library_hash().encode(),
    ]
    for part in (*parts, repr(_settings_json(settings)).encode()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _settings_json(settings: Settings) -> dict[str, Any]:
    return {**settings._asdict(), "data": None if settings.data is None else str(settings.data)}


def read_result(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the result in ``folder``, or None if there is none that is whole."""
    folder = Path(folder)
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    keys = {
        "slug",
        "paper",
        "settings",
        "fingerprint",
        "criteria",
        "passed",
        "table",
        "claims",
        "seconds",
    }
    whole = isinstance(result, dict) and keys <= result.keys() and (folder / FIGURE).is_file()
    return result if whole else None


def run_reproduction(
    slug: str,
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
    """Run the reproduction of one paper, or keep its result if nothing that it follows from has changed.

    Parameters
    ----------
    slug
        The paper.
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
        An exception of the reproduction is caught and described there; an earlier result then stays
        as it was.

    Raises
    ------
    ValueError
        If the paper, the backend, the device, the seed or a folder is wrong.
    """
    settings = Settings(bool(quick), seed, data_folder(data), backend, device)
    folder = _prepare(Path(out), [slug], settings)
    return _run(slug, folder, settings, force, report=report)


def run_reproductions(
    slugs: Sequence[str],
    *,
    out: str | os.PathLike[str] = "results",
    settings: Settings = Settings(),  # noqa: B008 - immutable
    jobs: int = 1,
    force: bool = False,
    report: Report | None = None,
) -> Iterator[Outcome]:
    """Run several reproductions, ``jobs`` at a time, and yield each outcome as it comes.

    One that fails does not stop the others.

    The parameters are those of :func:`run_reproduction` and :func:`prefsim.parallel.unordered`.
    Wrong ones raise ``ValueError`` at once, before anything runs.
    """
    check_jobs(jobs)
    folder = _prepare(Path(out), slugs, settings)
    return _outcomes(slugs, folder, settings, jobs, force, report)


def _outcomes(
    slugs: Sequence[str],
    folder: Path,
    settings: Settings,
    jobs: int,
    force: bool,
    report: Report | None,
) -> Iterator[Outcome]:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = list(dict.fromkeys(slugs))
    try:
        for outcome in unordered(
            _run, [(slug, folder, settings, force) for slug in left], jobs=jobs, report=report
        ):
            left.remove(outcome.slug)
            yield outcome
    except TerminatedWorkerError as error:
        for slug in left:
            yield Outcome(
                slug,
                False,
                False,
                folder / slug,
                None,
                f"a worker process died: {str(error).splitlines()[0]}",
            )
    finally:
        _clear(folder)


def _prepare(out: Path, slugs: Sequence[str], settings: Settings) -> Path:
    """Reject wrong arguments before anything runs, and return the folder of results, made and rid of what dead processes left."""
    known = all_slugs()
    for slug in slugs:
        check_known(known, paper=slug)
    check_integer(low=0, seed=settings.seed)
    with use_backend(settings.backend, device=settings.device):
        pass
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"out must be a folder that can be made, got {str(out)!r}: {error.strerror}"
        ) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise ValueError(f"out must be a folder that can be written, got {str(out)!r}")
    for slug in slugs:
        others = {path.name for path in (out / slug).glob("*")} - {RESULT, FIGURE}
        if others or (out / slug).is_file():
            held = f"a folder that holds {sorted(others)[0]!r}" if others else "a file"
            raise ValueError(
                f"{out / slug} must be free for the result of {slug}, got {held}, which is no part"
                " of one"
            )
    _clear(out)
    return out.resolve()


def _clear(out: Path) -> None:
    """Remove the unfinished folders of processes that are gone."""
    for part in out.glob(".*.part"):
        process = part.name.split(".")[-2]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(part, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _run(
    slug: str, out: Path, settings: Settings, force: bool, *, report: Report | None
) -> Outcome:
    folder = out / slug
    mark = fingerprint(slug, settings)
    kept = None if force else read_result(folder)
    if kept is not None and kept["fingerprint"] == mark:
        return Outcome(slug, kept["passed"], True, folder, kept)
    part = out / f".{slug}.{os.getpid()}.part"
    start = time.perf_counter()
    try:
        module = load(slug)
        progress = (
            Run().progress if report is None else functools.partial(track, name=slug, report=report)
        )
        with use_backend(settings.backend, device=settings.device):
            reproduction = module.reproduce(
                Run(settings.quick, settings.seed, settings.data, progress)
            )
        _check(reproduction)
        result = _as_json(module, reproduction, settings, mark, time.perf_counter() - start)
        part.mkdir()
        # Without the Software entry the same run gives the same bytes under any version of
        # matplotlib that draws alike.
        reproduction.figure.savefig(part / FIGURE, dpi=150, metadata={"Software": None})
        (part / RESULT).write_text(
            json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )
        _move(part, folder)
    except Exception as error:
        return Outcome(slug, False, False, folder, None, describe_error(error))
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Outcome(slug, result["passed"], False, folder, result)


def _move(part: Path, folder: Path) -> None:
    """Put ``part`` in the place of ``folder``.

    Whoever looks sees one or the other, or for an instant none, never a mixture.
    """
    old = part.with_name(f".old{part.name}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


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


def _plain(value: Any) -> str | int | float | bool | None:
    """Return a scalar as JSON can hold it; NaN and infinity become words."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _as_json(
    module: Module, reproduction: Reproduction, settings: Settings, mark: str, seconds: float
) -> dict[str, Any]:
    criteria = [
        {"name": c.name, "paper": c.paper, "measured": _plain(c.measured), "passed": bool(c.passed)}
        for c in reproduction.criteria
    ]
    return {
        "slug": module.paper.slug,
        "passed": all(c["passed"] for c in criteria),
        "criteria": criteria,
        "table": [
            {str(key): _plain(value) for key, value in row.items()} for row in reproduction.table
        ],
        "paper": {**module.paper._asdict(), "implements": list(module.paper.implements)},
        "claims": [
            {
                "id": c.id,
                "kind": c.kind,
                "statement": c.statement,
                "source": c.source,
                "tolerance": c.tolerance,
            }
            for c in module.claims
        ],
        "settings": _settings_json(settings),
        "seconds": round(seconds, 3),
        "version": __version__,
        "fingerprint": mark,
    }
