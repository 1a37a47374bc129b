"""Write the badges of the README: how many papers, claims and criteria, and how many of them hold.

Their numbers are those of the folder of results, and only of results of this code.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prefsim.papers.discovery import all_slugs
from prefsim.papers.report import collect

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "_static" / "badges"

GOOD, BAD = "#1c7a43", "#b3261e"
WIDTH = 6.1
"""Of a letter, in pixels: browsers fit the words to it, whatever font they have."""

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{said}">
<title>{said}</title>
<desc>{made}</desc>
<rect width="{width}" height="20" rx="3" fill="#4a4f57"/>
<path d="M{left} 0h{bar}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{bar}z" fill="{colour}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">
<text x="6" y="14" textLength="{first}">{name}</text>
<text x="{at}" y="14" textLength="{second}">{message}</text>
</g>
</svg>
"""


class Badge(NamedTuple):
    """A small image of two words.

    Attributes
    ----------
    name
        What is counted.
    message
        How many there are, and how many of them hold.
    good
        Whether all do.
    made
        What was run.
    """

    name: str
    message: str
    good: bool
    made: str

    @property
    def said(self) -> str:
        """The text of the image."""
        return f"{self.name}: {self.message}"

    def svg(self) -> str:
        """Return the image."""
        first, second = (round(WIDTH * len(words)) for words in (self.name, self.message))
        left, bar = first + 12, second + 9
        return SVG.format(
            **self._asdict(),
            said=self.said,
            colour=GOOD if self.good else BAD,
            first=first,
            second=second,
            left=left,
            bar=bar,
            at=left + 6,
            width=left + bar + 3,
        )


def _badge(name: str, word: str, passed: Iterable[bool | None], made: str) -> Badge:
    """Return a badge of so many verdicts; None stands for what was not run."""
    verdicts = list(passed)
    left = verdicts.count(None)
    ran = len(verdicts) - left
    rest = f", {left} not run" if left else ""
    message = f"{verdicts.count(True)} of {ran} {word}{rest}"
    return Badge(name, message, verdicts.count(True) == ran, made)


def _runs(results: Iterable[Mapping[str, Any]]) -> str:
    """Return how some reproductions were run: each way once."""
    ways = {
        f"{'quick' if held['quick'] else 'full'} runs, seed {held['seed']},"
        f" {'with' if held['data'] else 'without'} real data"
        for held in (result["settings"] for result in results)
    }
    return "prefsim repro: " + "; ".join(sorted(ways))


def _checks(checked: Iterable[Mapping[str, Any]]) -> str:
    """Return how the claims were checked: each way once."""
    ways = {
        f"{held['examples']} instances, seed {held['seed']},"
        f" {'with' if held['data'] else 'without'} real data"
        for held in (verdicts["settings"] for verdicts in checked)
    }
    return "prefsim check: " + "; ".join(sorted(ways))


def badges(results: Path) -> list[Badge]:
    """Return the badges of what a folder of results holds of all papers.

    Raises
    ------
    ValueError
        If a paper has no result or no verdicts there, or those of an earlier version of the code.
    """
    held = {paper["slug"]: paper for paper in collect(results)}
    parts = ("result", "verdicts")
    old = [
        slug
        for slug in all_slugs()
        for part in parts
        if slug not in held or held[slug][part] is None or not held[slug][part]["current"]
    ]
    if old:
        raise ValueError(
            f"{results} must hold results of this code for all papers, not so for"
            f" {', '.join(dict.fromkeys(old))}: run `make docs`"
        )
    done, checked = ([held[slug][part] for slug in all_slugs()] for part in parts)
    criteria = [row["passed"] for result in done for row in result["criteria"]]
    claims = [claim["holds"] for verdicts in checked for claim in verdicts["claims"]]
    return [
        _badge("papers", "reproduced", [result["passed"] for result in done], _runs(done)),
        _badge("claims", "hold", claims, _checks(checked)),
        _badge("criteria", "pass", criteria, _runs(done)),
    ]


def write(results: Path, folder: Path = FOLDER) -> None:
    """Write the badges of a folder of results."""
    made = badges(results)
    folder.mkdir(parents=True, exist_ok=True)
    for badge in made:
        (folder / f"{badge.name}.svg").write_text(badge.svg(), encoding="utf-8")
        print(badge.said)


def main() -> None:
    """Write the badges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    try:
        write(parser.parse_args().results)
    except ValueError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
