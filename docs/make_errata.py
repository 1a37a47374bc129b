"""Write docs/errata.md from the errata that stand beside the papers."""

from __future__ import annotations

from pathlib import Path

from prefsim.papers.discovery import cards, errata_of
from prefsim.papers.errata import ERRATUM_KINDS, Erratum

FILE = Path(__file__).resolve().parent / "errata.md"

HEAD = """\
# Errata of the sources

What the papers or their released code say wrongly, or say without a condition that it needs, or
less sharply than they could; what is true; and how we know. "Often stated" marks what is said in
the field, and by the paper rather in words than in a theorem. Worlds, sizes and seeds stand in the
paper's folder under `paper_repros/`.

Made from the `errata.py` of the papers by `make docs`.
"""

TRUE = {"wrong": "what is true", "less sharp": "what is also true"}


def row(family: str, slug: str, erratum: Erratum) -> str:
    """Return the line of an entry."""
    source = f"[{slug}](../paper_repros/{family}/{slug}/)"
    if erratum.about != "the paper":
        source += f", {erratum.about}"
    cells = [source, erratum.says, erratum.true, erratum.known]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def page() -> str:
    """Return the page: a table a kind, papers in alphabetical order."""
    listed = [
        (family, paper.slug, erratum)
        for family, paper in sorted(cards(), key=lambda item: item[1].slug)
        for erratum in errata_of(paper.slug)
    ]
    lines = [HEAD]
    for kind, heading in ERRATUM_KINDS.items():
        lines += [f"## {heading}", ""]
        lines += [f"| source | it says | {TRUE[kind]} | how we know |", "|---|---|---|---|"]
        lines += [row(*entry) for entry in listed if entry[2].kind == kind]
        lines += [""]
    return "\n".join(lines)


def main() -> None:
    """Write the page."""
    FILE.write_text(page(), encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
