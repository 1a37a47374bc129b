"""Is a claim true.

The worst of many random instances, and a counterexample where an assumption is dropped.

Hypothesis makes the instances, climbs towards the larger errors, and shrinks what it finds.
Everything follows from the seed.
"""

from __future__ import annotations

import math
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prefsim._instances import Enough, search
from prefsim.checks import check_integer
from prefsim.papers.claims import Claim, Verdict

if TYPE_CHECKING:
    pass

__all__ = ["DRAWN", "EXAMPLES", "ClaimResult", "check_claim", "describe_error", "is_refuted"]

EXAMPLES = 50
DRAWN = "drawn here"
"""What instances are that no real data are needed for."""
_LONGEST = 2000  # characters of an instance that are worth reading


class ClaimResult(NamedTuple):
    """What checking a claim found.

    Attributes
    ----------
    holds
        True if no instance erred beyond the tolerance and, where the claim names what breaks it, a
        violation was found there; None if the claim is about data that are not at hand, and was
        not run.
    examples
        Instances really checked, all within the claim's assumptions.
    worst
        Largest error among them; ``inf`` if a check raised, NaN if one measured NaN.
    tolerance
        The claim's.
    counterexample_found
        Whether every dropped assumption broke the claim; None where the claim names nothing that
        breaks it.
    detail
        Why it does not hold, or the verdict of the worst instance.
    counterexample
        The smallest instance found that breaks the claim: of ``breaks`` where it holds, of
        ``strategy`` where it fails. Where several assumptions are dropped, that of the first.
    used
        For an inequality, the largest share of its bound that an instance used; None for others.
    data
        What the numbers come from: :data:`DRAWN`, or the name of real data.
    """

    holds: bool | None
    examples: int
    worst: float
    tolerance: float
    counterexample_found: bool | None
    detail: str = ""
    counterexample: str | None = None
    used: float | None = None
    data: str = DRAWN


class _Trial:
    """Runs one check after another and remembers what came out."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.examples = 0
        self.worst = -math.inf
        self.detail = self.latest = ""
        self.exception: str | None = None
        self.used: float | None = None

    def __call__(self, instance: Any) -> float:
        """Return the error on ``instance``: ``inf`` if the check raised."""
        from hypothesis.errors import HypothesisException

        try:
            error, detail, used = _read(self.claim.check(instance))
        except HypothesisException:
            raise  # an instance rejected by assume(), or Hypothesis' own control flow
        except Exception as exception:
            error, detail, used = math.inf, f"raised {describe_error(exception)}", None
            self.exception = self.exception or detail
        # Other kinds have inequalities as parts that bound nothing: that a number is positive.
        if used is not None and self.claim.kind == "inequality":
            self.used = max(used, self.used or 0.0)
        self.examples += 1
        self.latest = detail
        # NaN is the worst of all and stays; `not <=` rather than `>` so that it gets in.
        if not math.isnan(self.worst) and not error <= self.worst:
            self.worst, self.detail = error, detail
        return error


def _read(verdict: Any) -> tuple[float, str, float | None]:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"check must return a Verdict, got {type(verdict).__name__}")
    error = float(verdict.error)
    if error < 0:
        raise ValueError(f"error of a Verdict must be >= 0, got {error!r}")
    return error, str(verdict.detail), verdict.used


def describe_error(exception: BaseException) -> str:
    """Return type, message and place of an exception in one line.

    The place is outside Hypothesis, which only calls.
    """
    frames = traceback.extract_tb(exception.__traceback__)
    place = next((f for f in reversed(frames) if "hypothesis" not in Path(f.filename).parts), None)
    if isinstance(exception, SyntaxError):
        place = None  # It names the file and line itself; what tried to read them is of no use.
    where = f" ({Path(place.filename).name}:{place.lineno})" if place else ""
    return f"{type(exception).__name__}: {' '.join(str(exception).split())}{where}"


def _aim(error: float) -> None:
    """Steer Hypothesis towards larger errors."""
    from hypothesis import target

    if math.isfinite(error):
        target(error, label="error")


def _show(instance: Any) -> str:
    text = repr(instance)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text)} characters)"


def check_claim(claim: Claim, *, examples: int = EXAMPLES, seed: int = 0) -> ClaimResult:
    """Check one claim on random instances, and look for a violation where it names what breaks it.

    Parameters
    ----------
    claim
        The claim.
    examples
        Instances to try, >= 1; fewer where the claim sets its own smaller number or its strategy
        has fewer. The search for a counterexample may try ten times as many.
    seed
        Of the instances; the same seed gives the same result.

    Returns
    -------
    ClaimResult

    Raises
    ------
    ValueError
        If ``examples`` is not an integer >= 1 or ``seed`` not one >= 0.

    Notes
    -----
    A claim holds if ``error <= tolerance`` on every instance and, where ``breaks`` is given, some
    instance of it has ``error > tolerance``. A NaN error, no instance at all, or an exception of
    the check (on either side) is a failure. A solver that did not converge raises
    :class:`prefsim.solvers.ConvergenceWarning`, an exception here: an error measured on a
    half-solved problem proves nothing. A claim about real data that are not at hand is not run.

    Examples
    --------
    >>> from hypothesis import strategies as st
    >>> def doubling(x):
    ...     return Verdict(abs((x + x) / 2 - x), f"x = {x}")
    >>> claim = Claim(
    ...     "halving", "identity", "(x + x) / 2 = x", "school", st.floats(-1e3, 1e3), doubling, 0.0,
    ...     breaks=(st.just(1.5e308),),
    ... )
    >>> result = check_claim(claim, examples=20)
    >>> result.holds, result.worst, result.counterexample_found, result.counterexample
    (True, 0.0, True, '1.5e+308')
    """
    check_integer(low=1, examples=examples)
    check_integer(low=0, seed=seed)
    if claim.data is None:
        return _checked(claim, examples, seed)
    if claim.data.at_hand():
        return _checked(claim, examples, seed)._replace(data=claim.data.name)
    detail = f"not run: needs {claim.data.name}, which are not at hand"
    return ClaimResult(None, 0, math.nan, claim.tolerance, None, detail, data=claim.data.name)


def _checked(claim: Claim, examples: int, seed: int) -> ClaimResult:
    from prefsim.solvers.results import ConvergenceWarning

    budget = examples if claim.examples is None else min(examples, claim.examples)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            result = _hold(claim, budget, seed)
            for index in range(len(claim.breaks)):
                if result.holds:
                    result = _break(claim, index, result, budget, seed)
            return result
        # Of a strategy, or of Hypothesis over a check that is not deterministic.
        except Exception as exception:
            return _failure(claim, math.inf, f"raised {describe_error(exception)}")


def is_refuted(claim: Claim, *, examples: int = EXAMPLES, seed: int = 0) -> bool:
    """Return whether an instance within the assumptions violates a claim; the first one ends it.

    Parameters
    ----------
    claim
        The claim; what it says of dropped assumptions is left aside.
    examples, seed
        As for :func:`check_claim`.

    Returns
    -------
    Whether the error of an instance exceeds the tolerance, is NaN, or the check of it raised; also
    if no instance could be drawn. False for a claim about real data that are not at hand.
    """
    from prefsim.solvers.results import ConvergenceWarning

    check_integer(low=1, examples=examples)
    check_integer(low=0, seed=seed)
    if claim.data is not None and not claim.data.at_hand():
        return False
    trial = _Trial(claim)

    def fails(instance: Any) -> bool:
        return not trial(instance) <= claim.tolerance

    budget = examples if claim.examples is None else min(examples, claim.examples)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            search(claim.strategy, fails, examples=budget, seed=seed, shrink=0)
        # Of a strategy, or of Hypothesis over a check that is not deterministic.
        except Exception:
            return True
    return not trial.worst <= claim.tolerance or trial.examples == 0


def _failure(claim: Claim, worst: float, detail: str) -> ClaimResult:
    """Return the result of a claim that no instance could be checked of."""
    found = False if claim.breaks else None
    return ClaimResult(False, 0, worst, claim.tolerance, found, detail)


def _hold(claim: Claim, examples: int, seed: int) -> ClaimResult:
    """Look for the worst error within the assumptions."""
    trial = _Trial(claim)
    worst_instance: list[Any] = []

    def survey(instance: Any) -> bool:
        before = trial.worst
        error = trial(instance)
        if not worst_instance or trial.worst != before:
            worst_instance[:] = [instance]
        _aim(error)
        return False

    search(claim.strategy, survey, examples=examples, seed=seed, shrink=0)
    if trial.examples == 0:
        return _failure(claim, math.nan, "no instance satisfied the claim's assumptions")
    result = ClaimResult(
        holds=trial.worst <= claim.tolerance,
        examples=trial.examples,
        worst=trial.worst,
        tolerance=claim.tolerance,
        counterexample_found=False if claim.breaks else None,
        detail=trial.detail,
        used=trial.used,
    )
    if result.holds:
        return result
    # The same seed walks the same instances again and now stops at the first bad one to shrink it.
    again = _Trial(claim)
    said = trial.detail

    def fails(instance: Any) -> bool:
        nonlocal said
        error = again(instance)
        _aim(error)
        if bad := not error <= claim.tolerance:
            said = again.latest or f"error {error:.3g}"
        return bad

    smallest = search(claim.strategy, fails, examples=examples, seed=seed, shrink=10 * examples)
    text = _show(worst_instance[0] if smallest is None else smallest)
    measured = f"error {trial.worst:.3g} > tolerance {claim.tolerance:.3g}"
    if trial.detail:
        measured += f": {trial.detail}"
    reason = trial.exception or measured
    detail = f"{reason}; smallest instance found: {text}"
    if said not in reason:
        detail += f", {said}"
    return result._replace(detail=detail, counterexample=text)


def _break(claim: Claim, index: int, result: ClaimResult, examples: int, seed: int) -> ClaimResult:
    """Look for a violation where one assumption is dropped."""
    trial = _Trial(claim)
    names = claim.dropped[index] if claim.dropped else ()
    which = f"an assumption ({', '.join(names)} drawn otherwise)" if names else "an assumption"

    def violates(instance: Any) -> bool:
        error = trial(instance)
        if trial.exception:
            raise Enough
        _aim(error)
        return error > claim.tolerance

    strategy = claim.breaks[index]
    # Half as many steps as of what refutes a claim: the last ones take the longest.
    instance = search(strategy, violates, examples=10 * examples, seed=seed, shrink=examples // 2)
    if trial.exception:
        detail = f"on an instance that drops {which}, the check {trial.exception}"
        return result._replace(holds=False, counterexample_found=False, detail=detail)
    if instance is None:
        largest = f"the largest error was {trial.worst:.3g}" if trial.examples else "no instance"
        detail = (
            f"no counterexample in {trial.examples} instances that drop {which}: {largest},"
            f" tolerance {claim.tolerance:.3g}"
        )
        return result._replace(holds=False, counterexample_found=False, detail=detail)
    # The first counterexample is the one that is shown.
    shown = result.counterexample or _show(instance)
    return result._replace(counterexample_found=True, counterexample=shown)
