"""TRANSITION: claims and criteria as they were written before; goes when every paper is moved."""

from typing import Any

from prefsim.papers import claims, criteria


def Claim(
    id: Any,
    kind: Any,
    statement: Any,
    source: Any,
    strategy: Any,
    check: Any,
    tolerance: Any,
    breaks: Any = None,
    examples: Any = None,
) -> claims.Claim:
    dropping = () if breaks is None else (breaks,)
    return claims.Claim(id, kind, statement, source, strategy, check, tolerance, dropping, examples)


def Criterion(name: Any, paper: Any, measured: Any, passed: Any) -> criteria.Criterion:
    shown = f"{measured:.4g}" if isinstance(measured, float) else str(measured)
    return criteria.Criterion(name, str(paper), "paper", shown, bool(passed))
