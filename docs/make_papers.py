"""Write a page for every paper from its folder and from what `results/` holds of it."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import make_methods
import make_reference

from prefsim.papers.discovery import FAMILIES, all_slugs, cards, errata_of, find, load
from prefsim.papers.paper import Paper
from prefsim.papers.report import collect
from prefsim.papers.sabotage import resolve
from prefsim.papers.stated import origin
from prefsim.papers.storage import DRAWING
from prefsim.papers.tables import format_number, percent, said_in_paper
from prefsim.papers.verdicts import check_papers

# The map and the notebook of each family, in docs/explanation and notebooks.
GUIDES = {
    "direct": ("loss-map", "alignment"),
    "nash": ("nash-map", "games"),
    "mdp": ("sequences-map", "sequences"),
    "theory": ("analysis-map", "analyses"),
    "robust": ("labels-map", "labels"),
    "selfimprove": ("self-improvement-map", "generations"),
    "plural": ("people-map", "people"),
}

INTRODUCTION = """\
# Papers

Every paper is a folder with its claims as executable checks and its key result reproduced. The
numbers on these pages were measured by `prefsim check` and by the quick runs of `prefsim repro`.
"""


def plain(text: Any) -> str:
    """Return words of ours as Markdown that shows them as they stand; code marks stay."""
    parts = re.split(r"(`[^`]*`)", str(text).replace("\n", " "))
    escaped = [
        part if part.startswith("`") else re.sub(r"([\\*_\[\]<>$#~^{}])", r"\\\1", part)
        for part in parts
    ]
    return "".join(escaped).replace("|", "\\|")


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(str(cell) or ' ' for cell in row)} |" for row in rows]
    return [*lines, ""]


def implemented() -> dict[str, list[tuple[str, str]]]:
    """Return family and slug of the papers behind each function, by its name in the reference."""
    found: dict[str, list[tuple[str, str]]] = {}
    for family, paper in cards():
        for dotted in paper.implements:
            name = make_reference.documented_as(resolve(dotted))
            found.setdefault(name, []).append((family, paper.slug))
    return found


# --- the parts of a page ---


_MATHS = re.compile(r"^\.\. math::(.*\n(?:(?: +.*)?\n)*)", re.MULTILINE)


def documented(paper: Paper) -> Iterator[tuple[str, str]]:
    """Yield what implements the paper, each name with its docstring."""
    for dotted in paper.implements:
        yield dotted, (inspect.getdoc(resolve(dotted)) or "") + "\n"


def formula(paper: Paper) -> list[str]:
    """Return the first formula of what implements the paper, and whose it is."""
    for dotted, text in documented(paper):
        if found := _MATHS.search(text):
            lines = textwrap.dedent("    " + found[1].strip()).splitlines()
            shown = [line.strip() for line in lines]
            return [f"{{py:obj}}`{dotted} <{dotted}>`:", "", "```{math}", *shown, "```", ""]
    return []


def example(paper: Paper) -> list[str]:
    """Return the first example of what implements the paper, which the tests have run."""
    for dotted, text in documented(paper):
        if examples := doctest.DocTestParser().get_examples(text):
            lines = []
            for each in examples:
                first, *more = each.source.rstrip().splitlines()
                lines += [f">>> {first}", *(f"... {line}" for line in more)]
                lines += each.want.rstrip().splitlines()
            return ["```pycon", *_imports(resolve(dotted), lines), *lines, "```", ""]
    return []


def _imports(function: Any, lines: Sequence[str]) -> list[str]:
    """Return what an example takes from the module of its function without a word."""
    code = "\n".join(line[4:] for line in lines if line.startswith((">>>", "...")))
    tree = ast.parse(code)
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    made = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    module = inspect.getmodule(function)
    taken = sorted(name for name in named - made if hasattr(module, name))
    if "np" in taken:
        taken.remove("np")
        return [">>> import numpy as np", f">>> from {module.__name__} import {', '.join(taken)}"]
    return [f">>> from {module.__name__} import {', '.join(taken)}"]


def head(family: str, paper: Paper) -> list[str]:
    """Return what the card says, and a formula."""
    link = f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"
    return [
        f"# {plain(paper.title)}",
        "",
        f"`{paper.slug}` · {link} · {paper.year} · [{FAMILIES[family]}](index.md)",
        "",
        plain(paper.summary),
        "",
        *formula(paper),
    ]


def reproduction(slug: str, result: Mapping[str, Any] | None) -> list[str]:
    """Return the figure and the criteria of the last run."""
    if result is None:
        return ["## What it does", "", f"Not run here: `prefsim repro {slug} --quick`.", ""]
    settings = result["settings"]
    size = "quick run" if settings["quick"] else "full run"
    data = "with" if settings["data"] else "without"
    made = f"{size}, seed {settings['seed']}, {data} real data, {result['seconds']:.1f} s"
    cut = f" *Quick run: {plain(result['cut'])}.*" if result["cut"] else ""
    rows = [
        (
            plain(row["name"]),
            plain(said_in_paper(row)),
            plain(row["bound"]),
            plain(row["measured"]),
            "yes" if row["passed"] else "**no**",
        )
        for row in result["criteria"]
    ]
    return [
        "## What it does",
        "",
        f"```{{figure}} {slug}.svg",
        f":alt: Figure of the reproduction of {result['paper']['title']}",
        ":class: paper-figure",
        "",
        plain(result["caption"]) + cut,
        "",
        f"`prefsim repro {slug}`: {made}.",
        "```",
        "",
        *table(("Criterion", "The paper", "Expected", "Measured", "Pass"), rows),
    ]


def claims(slug: str, verdicts: Mapping[str, Any] | None) -> list[str]:
    """Return the claims, with their verdicts where they were checked."""
    lines = ["## Is it true", ""]
    if verdicts is None:
        rows = [
            (f"`{claim.id}`<br>{claim.kind}", _stated(claim.statement, claim.source, claim.stated))
            for claim in load(slug).claims
        ]
        return [*lines, *table(("Claim", "Statement"), rows)]
    examples = verdicts["settings"]["examples"]
    lines += [f"`prefsim check {slug} --examples {examples}`:", ""]
    heads = ("Claim", "Statement", "Worst error", "Bound used", "Holds")
    return [*lines, *table(heads, map(_verdict, verdicts["claims"]))]


def _stated(statement: str, source: str, stated: str) -> str:
    return f"{plain(statement)}<br>*{plain(source)}; {origin(stated)}*"


def _verdict(claim: Mapping[str, Any]) -> tuple[str, ...]:
    holds = {None: "not run", True: "yes", False: "**no**"}[claim["holds"]]
    if claim["counterexample_found"]:
        dropped = "; ".join(", ".join(names) for names in claim["dropped"])
        holds += f", and fails for another `{dropped}`"
    return (
        f"`{claim['id']}`<br>{claim['kind']}",
        _stated(claim["statement"], claim["source"], claim["stated"]),
        f"{format_number(claim['worst'])} (≤ {format_number(claim['tolerance'])})",
        percent(claim["used"]),
        holds,
    )


def sabotage(found: Mapping[str, Any] | None) -> list[str]:
    """Return what noticed the functions that were broken, where they were."""
    if found is None:
        return []
    rows = [
        (
            f"`{row['function']}`",
            plain(row["mutant"]),
            f"`{row['claim']}`" if row["claim"] else "–",
            plain(row["criterion"] or "–"),
            plain(row["reason"] or ""),
        )
        for row in found["findings"]
    ]
    heads = ("Broken function", "How", "Noticed by claim", "By criterion", "Why not")
    return ["## What would have caught a bug", "", *table(heads, rows)]


def errors(slug: str) -> list[str]:
    """Return what the errata say of the paper: they are Markdown as they stand."""
    errata = errata_of(slug)
    if not errata:
        return []
    lines = ["## What the paper or its code says wrongly, or less sharply than it could", ""]
    for erratum in errata:
        head = f"**{erratum.about}: {erratum.says}.**"
        lines += [f"{head} {erratum.true}", "", f"*How we know:* {erratum.known}", ""]
    return lines


def uses(family: str, paper: Paper) -> list[str]:
    """Return what implements the paper, and how to run it."""
    names = [f"- {{py:obj}}`{dotted} <{dotted}>`" for dotted in paper.implements]
    lines = ["## In the library", "", *names, "", *example(paper), "## Run it", "", "```sh"]
    lines += [
        f"prefsim show {paper.slug}                 # its card and its claims",
        f"prefsim check {paper.slug} --examples 200 # claims on random instances",
        f"prefsim check {paper.slug} --sabotage     # would a bug be noticed",
        f"prefsim repro {paper.slug}                # the figure, in full",
        f"prefsim notebook {paper.slug}             # all of it in a notebook of your own",
        "```",
        "",
    ]
    losses = make_methods.losses_of(paper)
    if losses:
        drawn = make_methods.in_rounds(losses)
        first = next(iter(losses))
        lines += ["On a language model:", "", "```sh"]
        lines += [f"prefsim train --loss {first} --model ./model --data pairs.jsonl --out run"]
        lines += [
            f"prefsim rounds --loss {name} --model ./model --prompts asked.jsonl"
            " --score mine.py:score --out run"
            for name in drawn[:1]
        ]
        lines += ["```", ""]
    return lines


def page(family: str, paper: Paper, held: Mapping[str, Any]) -> str:
    """Return the page of a paper."""
    lines = head(family, paper)
    lines += reproduction(paper.slug, held.get("result"))
    lines += claims(paper.slug, held.get("verdicts"))
    lines += errors(paper.slug)
    lines += sabotage(held.get("sabotage"))
    lines += uses(family, paper)
    return "\n".join(lines).rstrip() + "\n"


def relations(family: str, papers: Sequence[Paper]) -> list[str]:
    """Return how the papers of a family relate, as the docstring of its folder says."""
    module = importlib.import_module(find(papers[0].slug).module.rpartition(".")[0])
    _, _, text = (inspect.getdoc(module) or "").partition("\n\n")
    place = {paper.slug: f"../{family_of}/{paper.slug}.md" for family_of, paper in cards()}
    linked = re.sub(
        r"`(\w+)`", lambda m: f"[{m[1]}]({place[m[1]]})" if m[1] in place else m[0], text
    )
    lines = [linked, ""] if linked else []
    if family in GUIDES:
        map_of, notebook = GUIDES[family]
        lines += [
            f"[The map](/explanation/{map_of}.md) has the methods side by side, and"
            f" [the notebook](/notebooks/{notebook}.ipynb) is a lecture on them.",
            "",
        ]
    return lines


def family_page(family: str, papers: Sequence[Paper]) -> str:
    """Return the page that leads to the papers of a family."""
    rows = [(f"[{p.slug}]({p.slug}.md)", plain(p.title), p.year, plain(p.summary)) for p in papers]
    lines = [f"# {FAMILIES[family]}", "", *relations(family, papers)]
    lines += table(("", "Paper", "Year", "What it says"), rows)
    tree = ["```{toctree}", ":hidden:", "", *(f"{p.slug} <{p.slug}>" for p in papers), "```"]
    return "\n".join([*lines, *tree]) + "\n"


def check_what_is_out_of_date(results: Path, jobs: int) -> None:
    """Check the claims of papers whose verdicts are not there, or not of this code."""
    held = collect(results) if results.is_dir() else []
    current = {p["slug"] for p in held if p["verdicts"] is not None and p["verdicts"]["current"]}
    stale = [slug for slug in all_slugs() if slug not in current]
    check_papers(stale, jobs=jobs, out=results)


def write(results: Path, folder: Path) -> None:
    """Write the pages of all papers, and the figures beside them."""
    held = {paper["slug"]: paper for paper in collect(results)} if results.is_dir() else {}
    families: dict[str, list[Paper]] = {}
    for family, paper in cards():
        families.setdefault(family, []).append(paper)
        place = folder / family
        place.mkdir(parents=True, exist_ok=True)
        about = held.get(paper.slug, {})
        text = page(family, paper, about)
        (place / f"{paper.slug}.md").write_text(text, encoding="utf-8")
        if about.get("result") is not None:
            shutil.copy(about["folder"] / DRAWING, place / f"{paper.slug}.svg")
    ordered = [family for family in FAMILIES if family in families]
    for family in ordered:
        text = family_page(family, families[family])
        (folder / family / "index.md").write_text(text, encoding="utf-8")
    lines = [
        INTRODUCTION,
        *(f"- [{FAMILIES[f]}]({f}/index.md): {_count(families[f])}" for f in ordered),
    ]
    lines += ["", "```{toctree}", ":hidden:", "", *(f"{f}/index" for f in ordered), "```", ""]
    (folder / "index.md").write_text("\n".join(lines), encoding="utf-8")


def _count(papers: Sequence[Paper]) -> str:
    return f"{len(papers)} {'paper' if len(papers) == 1 else 'papers'}"
