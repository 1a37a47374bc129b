"""Break what several papers implement, and keep what was found beside their results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefsim.papers.discovery import find, load
from prefsim.papers.fingerprint import fingerprint
from prefsim.papers.mutators import REQUIRED, mutants_of
from prefsim.papers.paper import Run
from prefsim.papers.sabotage import Finding, finding_of, functions_of
from prefsim.papers.storage import SABOTAGE, make_folder, read_record, write_record
from prefsim.parallel import Report, check_jobs, unordered

__all__ = ["read_findings", "sabotage_papers"]


def sabotage_papers(
    references: Sequence[str],
    *,
    mutants: Sequence[str] | None = REQUIRED,
    seed: int = 0,
    data: Path | None = None,
    jobs: int = 1,
    out: str | os.PathLike[str] | None = None,
    report: Report | None = None,
) -> dict[str, list[Finding]]:
    """Break what several papers implement, ``jobs`` mutants at a time.

    Parameters
    ----------
    references
        Slugs, or paths of files and folders of one's own.
    mutants
        Names of the mutants to try; None for all that fit.
    seed
        Of the instances of claims and of the reproductions.
    data
        Folder with real data for the reproductions, or None.
    jobs
        Number of processes; -1 for one a core.
    out
        Folder of results, where the findings are written to ``<slug>/sabotage.json``; None keeps
        none.
    report
        Told after each mutant how many of all are done, see :class:`prefsim.parallel.Report`.

    Returns
    -------
    ``{reference: findings}``, in the order given.

    Raises
    ------
    ValueError
        If a paper is unknown or names what does not exist, ``jobs`` is out of range, or ``out``
        cannot be written.
    """
    check_jobs(jobs)
    if out is not None:
        make_folder(out)
    run = Run(quick=True, seed=seed, data=data)
    calls = [
        (reference, name, index, run)
        for reference in dict.fromkeys(references)
        for name, function in functions_of(load(reference)).items()
        for index, mutant in enumerate(mutants_of(function))
        if mutants is None or mutant.name in mutants
    ]
    # Findings come in any order and are kept in that of the card.
    places: dict[str, dict[tuple[str, int], Finding | None]] = {r: {} for r in references}
    for reference, name, index, _ in calls:
        places[reference][name, index] = None
    outcomes = unordered(_sabotage_one, calls, jobs=jobs, lost=_lost)
    for done, (reference, name, index, finding) in enumerate(outcomes, start=1):
        places[reference][name, index] = finding
        if report is not None:
            report(reference, "mutants", done, len(calls))
    findings = {
        reference: [finding for finding in found.values() if finding is not None]
        for reference, found in places.items()
    }
    if out is not None:
        settings = {
            "mutants": None if mutants is None else list(mutants),
            "seed": seed,
            "data": None if data is None else str(data),
        }
        for reference, found in findings.items():
            _write(Path(out), reference, found, settings)
    return findings


def _sabotage_one(
    reference: str, name: str, index: int, run: Run, *, report: Report | None
) -> tuple[str, str, int, Finding]:
    module = load(reference)
    mutant = list(mutants_of(functions_of(module)[name]))[index]
    return reference, name, index, finding_of(module, name, mutant, run, True)


def _lost(call: tuple[Any, ...], reason: str) -> tuple[str, str, int, Finding]:
    """Return what is known of a mutant whose worker died: nobody was there to notice."""
    reference, name, index, _ = call
    mutant = list(mutants_of(functions_of(load(reference))[name]))[index]
    finding = Finding(name, mutant.name, None, None, (True, True), None, lost=reason)
    return reference, name, index, finding


def _write(
    out: Path, reference: str, findings: Sequence[Finding], settings: Mapping[str, Any]
) -> None:
    slug = find(reference).slug
    rows = [finding._asdict() | {"explained": finding.is_explained} for finding in findings]
    held = {
        "slug": slug,
        "reference": reference,
        "settings": dict(settings),
        "findings": rows,
        "fingerprint": fingerprint(reference, settings),
    }
    write_record(out / slug / SABOTAGE, held)


def read_findings(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what sabotage found of the paper whose results are in a folder.

    None if nothing was found, or what was found is not as it was written.
    """
    return read_record(Path(folder) / SABOTAGE)
