"""Build the handbook: assemble its pages below `docs/_build/source`, then let Sphinx write HTML.

The pages that are written by hand are copied; those of papers and of the reference are generated.
A link that leads out of `docs/` on disk is led to the page that the handbook has of it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import make_losses
import make_papers
import make_reference

from prefsim.papers.report import write_index

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SOURCE, HTML = DOCS / "_build" / "source", DOCS / "_build" / "html"

# Pages that lie elsewhere in the project, and their names in the handbook.
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
}


LINK = re.compile(r"(?<!!)\[(?P<words>[^\]]*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")

ROOMS = "analysis|data|lm|losses|loops|raters|solvers|worlds"
NAME = re.compile(rf"`((?:{ROOMS})(?:\.\w+)+)`")


def led(text: str, place: Path) -> str:
    """Return a page's text with links that lead out of `docs/` led into the handbook.

    ``place`` is the file that it was written in.
    """

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match["words"], match["target"], match["anchor"] or ""
        if "://" in target or not target:
            return match[0]
        path = Path(os.path.normpath(place.parent / target)).relative_to(ROOT).as_posix()
        if path == "docs/tutorial.md":
            return f"[{words}](/notebooks/tour.ipynb{anchor})"
        if path in ELSEWHERE:
            return f"[{words}](/{ELSEWHERE[path]}{anchor})"
        if path.startswith("docs/"):
            return f"[{words}](/{path.removeprefix('docs/')}{anchor})"
        paper = re.fullmatch(r"paper_repros/(\w+)/(\w+)", path)
        if paper:
            return f"[{words}](/papers/{paper[1]}/{paper[2]}.md)"
        if path.startswith("notebooks/"):
            return f"[{words}](/{path})"
        return f"{words} (`{path}`)"

    return LINK.sub(link, text)


def with_names_linked(text: str) -> str:
    """Return a page's text with functions in code marks, as `losses.dpo`, led to the reference."""
    return NAME.sub(lambda match: f"{{py:obj}}`{match[1]} <prefsim.{match[1]}>`", text)


def assemble(results: Path, source: Path = SOURCE) -> None:
    """Write all pages of the handbook below ``source``, with what ``results`` holds of papers."""
    shutil.rmtree(source, ignore_errors=True)
    # The tutorial is in the handbook as the notebook that it is a pair of, with its output.
    written = [p for p in DOCS.glob("*.md") if p.name != "tutorial.md"]
    written += [*DOCS.glob("how-to/*.md"), *DOCS.glob("explanation/*.md")]
    pages = {p: source / p.relative_to(DOCS) for p in written}
    pages |= {ROOT / path: source / name for path, name in ELSEWHERE.items()}
    for place, target in pages.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        text = with_names_linked(led(place.read_text(encoding="utf-8"), place))
        target.write_text(text, encoding="utf-8")
    (source / "notebooks").mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, source / "notebooks" / notebook.name)
    (source / "methods-table.md").write_text(make_losses.page(), encoding="utf-8")
    make_reference.write(source / "reference")
    make_papers.write(results, source / "papers")


def main() -> None:
    """Assemble and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--out", type=Path, default=HTML)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    make_papers.check_what_is_out_of_date(asked.results, asked.jobs)
    assemble(asked.results)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-c", DOCS, "-W", "--keep-going", "-q"]
    command += ["-d", DOCS / "_build" / "doctrees", SOURCE, asked.out]
    code = subprocess.run(list(map(str, command)), check=False).returncode
    if code == 0:
        write_index(asked.results)  # now that there is a handbook to lead to
    raise SystemExit(code)


if __name__ == "__main__":
    main()
