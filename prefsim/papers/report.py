"""One self-contained page of what was checked and reproduced."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prefsim import __version__
from prefsim.checks import check_directory
from prefsim.papers.checking import DRAWN
from prefsim.papers.discovery import FAMILIES, errata_of, find, rank
from prefsim.papers.findings import read_findings
from prefsim.papers.fingerprint import fingerprint
from prefsim.papers.handbook import handbook_page
from prefsim.papers.markdown import as_html
from prefsim.papers.reproducing import read_result
from prefsim.papers.stated import origin
from prefsim.papers.storage import DRAWING, write_text
from prefsim.papers.tables import format_number, percent, said_in_paper
from prefsim.papers.verdicts import read_verdicts

__all__ = ["collect", "write_index"]


def collect(out: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return what a folder of results holds of each paper, in the order of families and slugs.

    Parameters
    ----------
    out
        The folder.

    Returns
    -------
    For each paper ``slug``, ``title``, ``family``, ``folder``, its ``result``, ``verdicts`` and
    ``sabotage``, each of them None where it is not there, and its ``errata``. The three say under
    ``current`` whether they still follow from the code.

    Raises
    ------
    ValueError
        If the folder does not exist.
    """
    out = Path(out)
    check_directory(out, "folder of results")
    papers = []
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        result, verdicts = read_result(folder), read_verdicts(folder)
        sabotage = read_findings(folder)
        for held in filter(None, (result, verdicts, sabotage)):
            held["current"] = _is_current(held)
        if result is not None:
            shown = {name: result["paper"][name] for name in ("title", "family")}
            reference = result["reference"]
        elif verdicts is not None:
            shown = {name: verdicts[name] for name in ("title", "family")}
            reference = verdicts["reference"]
        else:
            continue
        about = {"slug": folder.name, "folder": folder, **shown, "reference": reference}
        about["errata"] = errata_of(reference) if _is_here(reference) else ()
        papers.append({**about, "result": result, "verdicts": verdicts, "sabotage": sabotage})
    return sorted(papers, key=lambda paper: (rank(paper["family"]), paper["slug"]))


def _is_current(held: Mapping[str, Any]) -> bool:
    try:
        return bool(fingerprint(held["reference"], held["settings"]) == held["fingerprint"])
    except ValueError:  # a paper of another checkout
        return False


def _is_here(reference: str) -> bool:
    """Return whether the paper of a result is still there: its folder may be another checkout's."""
    try:
        find(reference)
    except ValueError:
        return False
    return True


def _handbook_link(reference: str, out: Path) -> str | None:
    """Return the way from the page of results to that of a paper in the handbook, if it is there.

    Both move together, so that the way is a relative one.
    """
    page = handbook_page(reference) if _is_here(reference) else None
    return None if page is None else quote(Path(os.path.relpath(page, out)).as_posix())


def _command(slug: str, settings: Mapping[str, Any]) -> str:
    """Return the command that makes a result again."""
    options = ["--quick"] if settings["quick"] else []
    options += [f"--seed {settings['seed']}"] if settings["seed"] else []
    if settings["backend"] != "numpy":
        options += [f"--backend {settings['backend']} --device {settings['device']}"]
    return " ".join(["prefsim repro", slug, *options])


def write_index(out: str | os.PathLike[str], errors: Mapping[str, str] | None = None) -> Path:
    """Write ``index.html`` from all that a folder of results holds, and return its path.

    Figures are inside the page. A paper leads to its page in the handbook where that was built
    (:func:`prefsim.papers.handbook.handbook_page`).

    Parameters
    ----------
    out
        The folder of results.
    errors
        What the reproductions that raised have raised, under their slugs.

    Raises
    ------
    ValueError
        If the folder does not exist, or the environment variable ``PREFSIM_HANDBOOK`` names one
        that does not.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    out = Path(out)
    papers = collect(out)
    for paper in papers:
        if (result := paper["result"]) is not None:
            picture = (paper["folder"] / DRAWING).read_bytes()
            result["picture"] = base64.b64encode(picture).decode("ascii")
            result["columns"] = list(dict.fromkeys(key for row in result["table"] for key in row))
    for paper in papers:
        parts = (paper["result"], "passed"), (paper["verdicts"], "holds")
        paper["handbook"] = _handbook_link(paper["reference"], out.resolve())
        paper["passed"] = all(held is None or held[name] for held, name in parts)
        if paper["result"] is not None:
            paper["command"] = _command(paper["slug"], paper["result"]["settings"])
    environment = Environment(
        loader=PackageLoader("prefsim.papers"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "markdown": lambda text: Markup(as_html(text)),
        "number": format_number,
        "origin": origin,
        "percent": percent,
        "said": said_in_paper,
    }
    results = [paper["result"] for paper in papers if paper["result"] is not None]
    checked = [paper["verdicts"] for paper in papers if paper["verdicts"] is not None]
    criteria = [criterion for result in results for criterion in result["criteria"]]
    claims = [claim for verdicts in checked for claim in verdicts["claims"]]
    families = sorted({paper["family"] for paper in papers}, key=rank)
    page = environment.get_template("index.html.j2").render(
        families=[
            (FAMILIES.get(family, family), [p for p in papers if p["family"] == family])
            for family in families
        ],
        papers=papers,
        errors=dict(errors or {}),
        criteria=len(criteria),
        passed=sum(criterion["passed"] for criterion in criteria),
        claims=sum(claim["holds"] is not None for claim in claims),
        drawn=DRAWN,
        held=sum(claim["holds"] is True for claim in claims),
        version=__version__,
    )
    path = out / "index.html"
    write_text(path, page)
    return path
