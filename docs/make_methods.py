"""Write docs/methods.md: for every paper, what runs on tables and how to run it on a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prefsim import analysis
from prefsim.containers import JudgedLogps, PairRewards
from prefsim.lm import DIAGNOSTICS, form_for
from prefsim.lm.command.settings import trainable_losses
from prefsim.lm.data.comparisons import TextComparisons
from prefsim.lm.data.negatives import TextNegatives
from prefsim.losses.registry import container_of
from prefsim.papers.discovery import cards
from prefsim.papers.paper import Paper
from prefsim.papers.sabotage import resolve

FILE = Path(__file__).resolve().parent / "methods.md"

HEAD = """\
# Methods, on tables and on language models

For every paper: the functions of the library that solve or play it on tables, the losses that train
a language model, what draws the data where the method learns from its own completions, and the
command. A loss is the same function in every column: `fit(policy, loss, data, reference=...)` takes
a table and a language model alike. The draws are those of a round of `prefsim.loops.play_rounds`;
the command is `prefsim train --loss NAME`, or `prefsim rounds --loss NAME` where it can draw the
data itself ([how to train](how-to/train-a-language-model.md)). What an analysis measures is offered
during any training by `--diagnostics NAME`. Where a cell is empty, the paper has no such form: an
exact solver needs a table, and a theorem about policies trains none.

Made from the cards of the papers by `make docs`.

| paper | on tables | losses of a language model | draws of a round | command | diagnostics |
|---|---|---|---|---|---|
"""


# What each diagnostic computes.
MEASURES: dict[str, tuple[Callable[..., Any], ...]] = {
    "displacement": (analysis.displacement,),
    "accuracy": (analysis.ranking_accuracy, analysis.reward_accuracy),
    "idealised": (analysis.idealised_ranking_accuracy, analysis.ranking_loss),
    "ches": (analysis.ches_score,),
    "entanglement": (analysis.entanglement,),
    "kl": (analysis.kl_from_tokens,),
    "coverage": (analysis.sampled_coverage,),
    "dispersion": (analysis.dispersion,),
}


def draws_for(loss: Callable[..., Any]) -> str:
    """Return what draws a round's data for a loss, empty where no draw gives what it needs."""
    kind = container_of(loss)
    try:
        form = form_for(loss)
    except ValueError:
        if kind in TextNegatives.kinds:
            return "draw_negatives"
        if kind in TextComparisons.kinds and kind is not PairRewards:
            return "draw_pairs"
        return "draw_judged" if kind is JudgedLogps else ""
    return "draw_scored" if form == "lists" else f'draw_scored(form="{form}")'


def in_rounds(losses: Mapping[str, Callable[..., Any]]) -> list[str]:
    """Return the losses for which `prefsim rounds` draws the data, by name."""
    return [name for name, loss in losses.items() if draws_for(loss).startswith("draw_scored")]


def command(losses: Mapping[str, Callable[..., Any]]) -> str:
    """Return the commands that train a language model by some of the losses."""
    if not losses:
        return ""
    drawn = in_rounds(losses)
    if not drawn:
        return "`prefsim train`"
    which = "" if len(drawn) == len(losses) else f" ({_code(drawn)})"
    return f"`prefsim train`, `prefsim rounds`{which}"


def live(paper: Paper) -> list[str]:
    """Return the diagnostics of a run that measure what a paper speaks of."""
    implemented = [resolve(dotted) for dotted in paper.implements]
    return [name for name in DIAGNOSTICS if any(each in implemented for each in MEASURES[name])]


def losses_of(paper: Paper) -> dict[str, Callable[..., Any]]:
    """Return the losses of a paper that text can feed, by the name that the command knows."""
    implemented = [resolve(dotted) for dotted in paper.implements]
    return {name: loss for name, loss in trainable_losses().items() if loss in implemented}


def solvers_of(paper: Paper) -> list[str]:
    """Return what a paper runs on tables besides its losses: solvers and loops."""
    rooms = ("prefsim.solvers.", "prefsim.loops.")
    return [dotted.rpartition(".")[2] for dotted in paper.implements if dotted.startswith(rooms)]


def row(family: str, paper: Paper) -> str:
    """Return the line of a paper."""
    losses = losses_of(paper)
    solvers = solvers_of(paper)
    has_loss = any(dotted.startswith("prefsim.losses.") for dotted in paper.implements)
    draws = dict.fromkeys(filter(None, map(draws_for, losses.values())))
    place = f"../paper_repros/{family}/{paper.slug}/"
    cells = [
        f"[{paper.slug}]({place})",
        _code(["fit", *solvers] if has_loss else solvers),
        _code(losses),
        _code(draws),
        command(losses),
        _code(live(paper)),
    ]
    return f"| {' | '.join(cells)} |\n"


def _code(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def page() -> str:
    """Return the page."""
    return HEAD + "".join(row(family, paper) for family, paper in cards())


def main() -> None:
    """Write the page."""
    FILE.write_text(page(), encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
