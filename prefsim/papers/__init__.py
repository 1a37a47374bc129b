"""Papers: what one is, how its claims are checked, how its result is reproduced and shown."""

from prefsim.papers.claims import (
    KINDS,
    Claim,
    RealData,
    Verdict,
    claim,
    claims_of,
)
from prefsim.papers.criteria import (
    Criterion,
    at_least,
    at_most,
    below,
    between,
    falling,
    holds,
    near,
    rising,
)
from prefsim.papers.discovery import FAMILIES, all_slugs, card, cards, errata_of, find, load
from prefsim.papers.errata import ERRATUM_KINDS, Erratum
from prefsim.papers.figures import panels
from prefsim.papers.measures import above, apart, falls, outside, rises, worst
from prefsim.papers.paper import Paper, PaperModule, Reproduction, Run
from prefsim.papers.stated import STATED

__all__ = [
    "ERRATUM_KINDS",
    "FAMILIES",
    "KINDS",
    "STATED",
    "Claim",
    "Criterion",
    "Erratum",
    "Paper",
    "PaperModule",
    "RealData",
    "Reproduction",
    "Run",
    "Verdict",
    "above",
    "all_slugs",
    "apart",
    "at_least",
    "at_most",
    "below",
    "between",
    "card",
    "cards",
    "claim",
    "claims_of",
    "errata_of",
    "falling",
    "falls",
    "find",
    "holds",
    "load",
    "near",
    "outside",
    "panels",
    "rises",
    "rising",
    "worst",
]


def __dir__() -> list[str]:
    return sorted(__all__)
