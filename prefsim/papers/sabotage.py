"""Would the evidence notice a bug: break what a paper implements, and see what says so.

Every function on the card of a paper is replaced, everywhere at once, by wrong versions of itself
(:mod:`prefsim.papers.mutators`). The claims are checked and the reproduction is run against each.
A mutant that neither notices lives: the evidence for that function is blind in that direction.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefsim.papers.checking import describe_error, is_refuted
from prefsim.papers.discovery import find, load
from prefsim.papers.mutators import REQUIRED, Mutant, mutants_of
from prefsim.papers.paper import PaperModule, Run

__all__ = [
    "Finding",
    "finding_of",
    "functions_of",
    "resolve",
    "sabotage_paper",
    "sabotaged",
]

EXAMPLES = 10
"""Instances of each claim against a mutant: a bug that fewer would not show is not plain to see."""

FIRST_EXAMPLES = 2
"""Instances of each claim in a first round, which is enough for most mutants."""

UNSEEN = "UNSEEN"
"""Name in the claims of a paper of what its evidence cannot see by nature, with the reasons."""


class Finding(NamedTuple):
    """What noticed one mutant.

    Attributes
    ----------
    function
        Dotted name of the function that was broken.
    mutant
        Name of the way in which it was broken.
    claim
        Id of the claim that noticed with the fewest instances, None if none did.
    criterion
        What noticed in the reproduction: a criterion, or ``"raised …"``; None if nothing did.
    used
        Whether the broken function was called at all: by the claims, by the reproduction.
    reason
        Why the evidence cannot see it, where the paper says so.
    lost
        Why nothing is known of it, such as that its worker died; None if the mutant was tried.
    """

    function: str
    mutant: str
    claim: str | None
    criterion: str | None
    used: tuple[bool, bool]
    reason: str | None = None
    lost: str | None = None

    @property
    def is_explained(self) -> bool:
        """Whether the claims and the reproduction both noticed, or it is said why not."""
        if self.lost is not None:
            return False
        noticed = self.claim is not None and self.criterion is not None
        return noticed or self.reason is not None or self.mutant not in REQUIRED


def resolve(name: str) -> Any:
    """Return what a dotted name stands for.

    Raises
    ------
    ValueError
        If it stands for nothing.
    """
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                raise ValueError(f"implements must name what exists, got {name!r}")
            found = getattr(found, part)
        if isinstance(found, types.ModuleType) and len(parts) > 1:
            # A package may offer a function under the name of the module that it comes from.
            package = importlib.import_module(".".join(parts[:-1]))
            return getattr(package, parts[-1], found)
        return found
    raise ValueError(f"implements must name what exists, got {name!r}")


def functions_of(module: PaperModule) -> dict[str, types.FunctionType]:
    """Return the functions on a card under their names; containers and worlds are left out.

    Raises
    ------
    ValueError
        If the card names what does not exist, or a module: what it implements is in it.
    """
    found = {}
    for name in module.paper.implements:
        value = resolve(name)
        if isinstance(value, types.ModuleType):
            raise ValueError(f"implements must name functions and classes in full, got {name!r}")
        value = getattr(value, "__func__", value)  # of a class method
        if isinstance(value, types.FunctionType):
            found[name] = value
    return found


# --- putting a mutant in a function's place ---


def _trampoline(free: int, target: str) -> types.CodeType:
    """Return code that calls the global ``target``, with as many free variables as asked for."""
    names = ", ".join(f"v{i}" for i in range(free))
    held = f"({names},)" if free else "()"
    source = (
        f"def outer({names}):\n"
        f"    def trampoline(*args, **kwargs):\n"
        f"        {held}\n"
        f"        return {target}(*args, **kwargs)\n"
        f"    return trampoline\n"
    )
    scope: dict[str, Any] = {}
    exec(source, scope)
    code: types.CodeType = scope["outer"](*range(free)).__code__
    return code


def _copy(function: types.FunctionType) -> types.FunctionType:
    """Return a function that goes on as it is when the code of this one is changed."""
    copied = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    copied.__annotations__ = function.__annotations__
    # Among them what a decorator was put around.
    copied.__dict__.update(function.__dict__)
    return copied


@contextlib.contextmanager
def sabotaged(
    function: types.FunctionType, make: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[list[int]]:
    """Put a wrong version in the place of a function for all who hold it, however they got it.

    The function object stays what it is and only its code is changed, so that partial
    applications, tables of methods and imported names all run the wrong version.

    Yields
    ------
    A list with the number of calls so far.
    """
    original = _copy(function)
    mutant = make(original)
    calls = [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        return mutant(*arguments, **options)

    target = f"__sabotaged_{id(function)}"
    signature = inspect.signature(function)
    function.__globals__[target] = counted
    code = function.__code__
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__code__ = _trampoline(len(code.co_freevars), target)
    _clear_caches()
    try:
        yield calls
    finally:
        function.__code__ = code
        del function.__signature__  # type: ignore[attr-defined]
        del function.__globals__[target]
        _clear_caches()


def _clear_caches() -> None:
    """Forget results that were kept under another version of a function."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0].startswith(("prefsim", "paper_repros")):
            for value in list(vars(module).values()):
                clear = getattr(value, "cache_clear", None)
                # Discovery keeps modules, not numbers.
                if callable(clear) and not name.startswith("prefsim.papers"):
                    clear()


# --- who notices ---


def _noticing_claim(module: PaperModule, seed: int, calls: Sequence[int]) -> str | None:
    """Return the claim that notices with the fewest instances, the first of such, or None."""
    claims = list(module.claims)
    for examples in (FIRST_EXAMPLES, EXAMPLES):
        running = []
        for claim in claims:
            before = calls[0]
            # Warnings of the mutant's own, such as of the logarithm of a negative probability.
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                if is_refuted(claim, examples=examples, seed=seed):
                    return claim.id
            if calls[0] > before:
                running.append(claim)
        # More instances of what does not run the function say no more.
        claims = running
    return None


def _noticing_criterion(module: PaperModule, run: Run) -> str | None:
    if module.reproduce is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reproduction = module.reproduce(run)
    except Exception as error:
        return f"raised {describe_error(error)}"
    return next((c.name for c in reproduction.criteria if not c.passed), None)


def _reasons(module: PaperModule) -> Mapping[tuple[str, str], str]:
    source = find(str(module.path))
    name = f"{source.module}.claims" if module.path.is_dir() else source.module
    return getattr(sys.modules.get(name), UNSEEN, {})


def sabotage_paper(
    reference: str,
    *,
    mutants: Sequence[str] | None = None,
    run: Run | None = None,
    with_reproduction: bool = True,
    seed: int = 0,
) -> Iterator[Finding]:
    """Break every function that a paper implements in every way, and yield what noticed.

    Parameters
    ----------
    reference
        The paper's slug or path.
    mutants
        Names of the mutants to try, all that fit unless given; see
        :class:`prefsim.papers.mutators.Mutant`.
    run
        What the reproduction is told; a quick one unless given.
    with_reproduction
        Whether to run the reproduction too, which costs most of the time.
    seed
        Of the instances of claims.

    Raises
    ------
    ValueError
        If no such paper is known, or its card names what does not exist.
    """
    module = load(reference)
    run = Run(quick=True, seed=seed) if run is None else run
    for name in functions_of(module):
        for mutant in mutants_of(functions_of(module)[name]):
            if mutants is None or mutant.name in mutants:
                yield finding_of(module, name, mutant, run, with_reproduction)


def finding_of(
    module: PaperModule, name: str, mutant: Mutant, run: Run, with_reproduction: bool
) -> Finding:
    """Put one mutant in a function's place, and return what noticed."""
    with sabotaged(functions_of(module)[name], mutant.make) as calls:
        claim = _noticing_claim(module, run.seed, calls)
        by_claims = calls[0] > 0
        calls[0] = 0
        criterion = _noticing_criterion(module, run) if with_reproduction else None
        by_reproduction = calls[0] > 0
    reasons = _reasons(module)
    reason = reasons.get((name, mutant.name)) or reasons.get((name, ""))
    return Finding(name, mutant.name, claim, criterion, (by_claims, by_reproduction), reason)
