"""Papers: what one is, how its claims are checked, how its result is reproduced and shown."""

from prefsim.papers.paper import (
    FAMILIES,
    KINDS,
    Claim,
    Criterion,
    Module,
    Paper,
    Reproduction,
    Run,
    Verdict,
    all_slugs,
    card,
    cards,
    load,
    source_file,
)

__all__ = [
    "FAMILIES",
    "KINDS",
    "Claim",
    "Criterion",
    "Module",
    "Paper",
    "Reproduction",
    "Run",
    "Verdict",
    "all_slugs",
    "card",
    "cards",
    "load",
    "source_file",
]
