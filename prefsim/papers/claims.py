"""The words that claims are written in.

A claim is a function. Its docstring is the statement, its parameters are the instance, ``given``
says where instances come from, and ``breaks`` names only what is drawn otherwise, so that the
dropped assumption can be seen.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from prefsim.checks import check_callable, check_choice, check_integer, check_nonnegative
from prefsim.papers.stated import STATED, check_stated

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "KINDS",
    "Claim",
    "RealData",
    "Verdict",
    "claim",
    "claims_of",
]

KINDS = (
    "identity",
    "inequality",
    "limit",
    "counterexample",
    "rate",
    "statistical",
    "minimiser",
    "invariance",
    "monotone",
    "equivalence",
    "consistency",
)


class Verdict(NamedTuple):
    """How far one instance is from satisfying a claim, and what was compared.

    Attributes
    ----------
    error
        Distance from the statement, >= 0; 0 where it is exactly true.
    detail
        What was compared, for a reader of the worst instance.
    used
        For an inequality, the largest share of its bound that was used, 1 at equality: a bound of
        which no instance uses more than a hundredth says little. None for other statements.
    """

    error: float
    detail: str = ""
    used: float | None = None


class RealData(NamedTuple):
    """Data that are no part of the library, such as labels by people.

    Attributes
    ----------
    name
        Whose or which data, for a reader.
    at_hand
        Tells whether they are: a claim about them is not run where they are not.
    """

    name: str
    at_hand: Callable[[], bool]


class Claim(NamedTuple):
    """A statement of a paper as a measurable property of random instances; :func:`claim` makes one.

    Attributes
    ----------
    id
        Short name, unique within the paper.
    kind
        One of :data:`KINDS`.
    statement, source
        What is claimed, and where (equation, theorem, section).
    strategy
        Hypothesis strategy of instances that satisfy the claim's assumptions.
    check
        Measures how far an instance is from the claim: ``check(instance) -> Verdict``.
    tolerance
        The claim holds when ``error <= tolerance`` on every instance.
    breaks
        Strategies of instances that drop one assumption each. In every one a violation must be
        *found*: a claim that cannot fail is no claim.
    examples
        Instances that a costly check can afford, in place of the number asked for.
    stated
        Whether the statement is of the ``"paper"``, ``"derived"`` here, or ``"chosen"`` here.
    dropped
        For each strategy of ``breaks`` the names of the parameters that it draws otherwise.
    data
        What the claim is about, if not instances that are drawn here.
    """

    id: str
    kind: str
    statement: str
    source: str
    strategy: SearchStrategy[Any]
    check: Callable[[Any], Verdict]
    tolerance: float
    breaks: tuple[SearchStrategy[Any], ...] = ()
    examples: int | None = None
    stated: str = "paper"
    dropped: tuple[tuple[str, ...], ...] = ()
    data: RealData | None = None


Checked = Callable[..., Verdict]


def claim(
    id: str,
    kind: str,
    *,
    source: str,
    stated: str,
    given: Mapping[str, SearchStrategy[Any]] | SearchStrategy[Mapping[str, Any]],
    breaks: Mapping[str, SearchStrategy[Any]]
    | Sequence[Mapping[str, SearchStrategy[Any]]]
    | None = None,
    tolerance: float = 1e-12,
    examples: int | None = None,
    data: RealData | None = None,
) -> Callable[[Checked], Checked]:
    """Make the decorated check a claim of its module.

    Parameters
    ----------
    id
        Short name, unique within the paper.
    kind
        One of :data:`KINDS`.
    source
        Where the paper says it: equation, theorem, section.
    stated
        ``"paper"`` where the statement is the paper's own, ``"derived"`` where it follows from the
        paper's definitions by an argument made here, ``"chosen"`` where a threshold in it is ours.
    given
        A strategy for each parameter of the check; or one strategy of mappings from names to
        values, where parameters depend on each other.
    breaks
        Strategies for the parameters that drop an assumption, and only for those. Several mappings
        drop one assumption each, and each must break the claim by itself.
    tolerance
        Largest error that counts as true, >= 0.
    examples
        Instances that a costly check can afford.
    data
        Real data that the claim is about; it is not run where they are not at hand.

    Returns
    -------
    A decorator that leaves the function as it is and notes the :class:`Claim` in its ``claims``.
    Decorated several times, one check serves several claims.

    Raises
    ------
    ValueError
        If the kind or ``stated`` is unknown, the check has no docstring, the parameters of the
        check are not those of ``given``, or ``breaks`` draws one that the check does not take.

    Examples
    --------
    >>> from hypothesis import strategies as st
    >>> @claim(
    ...     "telescoping", "identity", source="eq. 3", stated="paper",
    ...     given={"x": st.floats(0, 1), "shift": st.just(0.0)}, breaks={"shift": st.floats(1, 2)},
    ... )
    ... def halves_add_up(x, shift):
    ...     '''Two halves of x are x.'''
    ...     return apart(x / 2 + x / 2 + shift, x)
    >>> [(c.statement, c.dropped) for c in halves_add_up.claims]
    [('Two halves of x are x.', (('shift',),))]
    """
    from hypothesis import strategies as st

    name = f"claim {id!r}"
    check_choice(KINDS, **{f"kind of {name}": kind})
    check_stated(name, stated)
    checked: dict[str, Any] = {f"tolerance of {name}": tolerance}
    check_nonnegative(**checked)
    if examples is not None:
        check_integer(low=1, **{f"examples of {name}": examples})
    whole = st.fixed_dictionaries(dict(given)) if isinstance(given, Mapping) else given
    dropping = _as_mappings(breaks)

    def register(check: Checked) -> Checked:
        check_callable(**{f"check of {name}": check})
        statement = " ".join((inspect.getdoc(check) or "").split())
        if not statement:
            raise ValueError(
                f"{name} must state itself in the docstring of {check.__name__}, got none"
            )
        parameters = set(inspect.signature(check).parameters)
        if isinstance(given, Mapping):
            _check_names(f"given of {name}", set(given), parameters, exactly=True)
        for mapping in dropping:
            _check_names(f"breaks of {name}", set(mapping), parameters, exactly=False)
        made = Claim(
            id=id,
            kind=kind,
            statement=statement,
            source=source,
            strategy=whole,
            check=functools.partial(_call, check),
            tolerance=tolerance,
            breaks=tuple(_overridden(whole, mapping) for mapping in dropping),
            examples=examples,
            stated=stated,
            dropped=tuple(tuple(mapping) for mapping in dropping),
            data=data,
        )
        # Several: one check may serve a claim for each divergence, loss or method.
        check.claims = (*getattr(check, "claims", ()), made)  # type: ignore[attr-defined]
        return check

    return register


def _call(check: Checked, instance: Mapping[str, Any]) -> Verdict:
    return check(**instance)


def _as_mappings(breaks: Any) -> tuple[Mapping[str, Any], ...]:
    if breaks is None:
        return ()
    return (breaks,) if isinstance(breaks, Mapping) else tuple(breaks)


def _check_names(what: str, got: set[str], parameters: set[str], *, exactly: bool) -> None:
    unknown = sorted(got - parameters)
    missing = sorted(parameters - got) if exactly else []
    if unknown or missing or not got:
        raise ValueError(
            f"{what} must draw {'all' if exactly else 'some'} of the parameters"
            f" {', '.join(sorted(parameters))}, got {', '.join(sorted(got)) or 'nothing'}"
        )


def _overridden(whole: Any, mapping: Mapping[str, Any]) -> Any:
    """Return instances with some parameters drawn otherwise; the others are drawn as before."""
    from hypothesis import strategies as st

    other = st.fixed_dictionaries(dict(mapping))
    return st.tuples(whole, other).map(lambda pair: {**pair[0], **pair[1]})


def claims_of(module: ModuleType) -> tuple[Claim, ...]:
    """Return the claims that a module defines, in the order in which they are written."""
    found: dict[int, tuple[Claim, ...]] = {}
    for member in vars(module).values():
        # The module's own functions only: what it imports is claimed elsewhere.
        if inspect.isfunction(member) and member.__module__ == module.__name__:
            found[id(member)] = getattr(member, "claims", ())
    return tuple(itertools.chain.from_iterable(found.values()))


def check_claims(claims: Iterable[Claim], where: str) -> None:
    """Raise unless there are claims, each in order and with an id of its own."""
    seen: set[str] = set()
    for item in claims:
        name = f"claim {item.id!r} of paper {where}"
        if item.id in seen:
            raise ValueError(
                f"claims of paper {where} must have one id each, got {item.id!r} twice"
            )
        seen.add(item.id)
        check_choice(KINDS, **{f"kind of {name}": item.kind})
        check_choice(STATED, **{f"stated of {name}": item.stated})
        checked: dict[str, Any] = {f"tolerance of {name}": item.tolerance}
        check_nonnegative(**checked)
        if item.examples is not None:
            check_integer(low=1, **{f"examples of {name}": item.examples})
        if not callable(item.check):
            raise ValueError(f"check of {name} must be a function, got {item.check!r}")
    if not seen:
        raise ValueError(f"paper {where} must have at least one claim, got none")
