"""Check the claims of papers, and keep the verdicts beside the results of their reproductions."""

from __future__ import annotations

import collections
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefsim import __version__
from prefsim.checks import check_integer
from prefsim.data.locate import data_folder
from prefsim.papers.checking import EXAMPLES, ClaimResult, check_claim, describe_error
from prefsim.papers.discovery import find, load
from prefsim.papers.fingerprint import fingerprint
from prefsim.papers.storage import VERDICTS, make_folder, read_record, write_record
from prefsim.parallel import Report, check_jobs, unordered

__all__ = ["check_papers", "claim_json", "read_verdicts", "write_verdicts"]


def check_papers(
    references: Sequence[str],
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    jobs: int = 1,
    out: str | os.PathLike[str] | None = None,
    report: Report | None = None,
) -> dict[str, dict[str, ClaimResult]]:
    """Check every claim of several papers, ``jobs`` at a time.

    The results do not depend on ``jobs``.

    Parameters
    ----------
    references
        Slugs, or paths of files and folders of one's own.
    examples, seed
        As for :func:`prefsim.papers.checking.check_claim`.
    jobs
        Number of processes; -1 for one a core.
    out
        Folder of results, where the verdicts on each paper are written as soon as they are
        complete, see :func:`write_verdicts`; None keeps none.
    report
        Told after each claim how many of all are done, see :class:`prefsim.parallel.Report`.

    Returns
    -------
    ``{reference: {claim id: ClaimResult}}``, in the order given. A paper that cannot be imported
    has one failed claim, ``"import"``.

    Raises
    ------
    ValueError
        If a paper is unknown, ``examples``, ``seed`` or ``jobs`` is out of range, or ``out`` cannot
        be written.
    """
    check_integer(low=1, examples=examples)
    check_integer(low=0, seed=seed)
    check_jobs(jobs)
    results: dict[str, dict[str, ClaimResult]] = {}
    calls = []
    for reference in references:
        find(reference)
    if out is not None:
        make_folder(out)  # before the work, not after it
    for reference in dict.fromkeys(references):
        results[reference] = {}
        try:
            claims = load(reference).claims
        except Exception as exception:  # one broken paper shall not hide the others
            results[reference]["import"] = _failed(f"raised {describe_error(exception)}")
            continue
        # An id keeps its place: results come in any order.
        pending = _failed("was not checked")
        results[reference] = dict.fromkeys((claim.id for claim in claims), pending)
        calls += [(reference, index, examples, seed) for index in range(len(claims))]
    outcomes = unordered(_check_one, calls, jobs=jobs, lost=_lost)
    left = collections.Counter(reference for reference, *_ in calls)
    for done, (reference, name, result) in enumerate(outcomes, start=1):
        results[reference][name] = result
        left[reference] -= 1
        if out is not None and not left[reference]:
            write_verdicts(out, {reference: results[reference]}, examples=examples, seed=seed)
        if report is not None:
            report(reference, "claims", done, len(calls))
    return results


def _failed(detail: str) -> ClaimResult:
    return ClaimResult(False, 0, math.inf, 0.0, None, detail)


def _check_one(
    reference: str, index: int, examples: int, seed: int, *, report: Report | None
) -> tuple[str, str, ClaimResult]:
    claim = load(reference).claims[index]
    return reference, claim.id, check_claim(claim, examples=examples, seed=seed)


def _lost(call: tuple[Any, ...], reason: str) -> tuple[str, str, ClaimResult]:
    """Return what is known of a claim whose worker died."""
    reference, index, *_ = call
    return reference, load(reference).claims[index].id, _failed(reason)


# --- on disk ---


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def claim_json(result: ClaimResult) -> dict[str, Any]:
    """Return a result as JSON can hold it.

    A number that is not finite becomes null; so does ``holds`` where a claim was not run.
    """
    return {
        "holds": result.holds,
        "examples": result.examples,
        "worst": _number(result.worst),
        "tolerance": result.tolerance,
        "used": _number(result.used),
        "counterexample_found": result.counterexample_found,
        "data": result.data,
        "detail": result.detail,
    }


def write_verdicts(
    out: str | os.PathLike[str],
    checked: Mapping[str, Mapping[str, ClaimResult]],
    *,
    examples: int,
    seed: int,
) -> Path:
    """Write what was found of each paper to ``out/<slug>/claims.json``.

    Parameters
    ----------
    out
        Folder of all results; made if it does not exist.
    checked
        What :func:`check_papers` returned.
    examples, seed
        What it was asked for.

    Returns
    -------
    The folder.

    Raises
    ------
    ValueError
        If the folder cannot be made or written.
    """
    folder = make_folder(out)
    data = data_folder()
    settings = {"examples": examples, "seed": seed, "data": None if data is None else str(data)}
    for reference, results in checked.items():
        if set(results) == {"import"}:
            continue  # nothing was checked: an earlier verdict stays, and is out of date
        module = load(reference)
        paper, family, claims = module.paper, module.family, module.claims
        rows = [
            {
                "id": claim.id,
                "kind": claim.kind,
                "statement": claim.statement,
                "source": claim.source,
                "stated": claim.stated,
                "dropped": [list(names) for names in claim.dropped],
                **claim_json(results[claim.id]),
                "counterexample": results[claim.id].counterexample,
            }
            for claim in claims
        ]
        held = {
            "slug": paper.slug,
            "reference": reference,
            "title": paper.title,
            "family": family,
            "settings": settings,
            "holds": all(result.holds is not False for result in results.values()),
            "claims": rows,
            "version": __version__,
            "fingerprint": fingerprint(reference, settings),
        }
        write_record(folder / paper.slug / VERDICTS, held)
    return folder


def read_verdicts(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the verdicts in the folder of a paper's results, or None if none are whole there."""
    return read_record(Path(folder) / VERDICTS)
