"""Instances of a Hypothesis strategy that meet a condition: the same seed walks the same way."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["Enough", "search"]


class Enough(BaseException):
    """Ends a search from inside.

    Not an Exception, so that Hypothesis does not take it for a failing example.
    """


def search(
    strategy: SearchStrategy[Any],
    condition: Callable[[Any], bool],
    *,
    examples: int,
    seed: int,
    shrink: int,
    health_checks: bool = True,
) -> Any:
    """Return a small instance that meets ``condition``, or None; the same seed walks the same way.

    ``shrink`` bounds the number of further instances tried to make the first one smaller. With
    ``health_checks`` a strategy that is slow, or seldom gives an instance, is an error.
    """
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis.errors import NoSuchExample, Unsatisfiable

    found: list[Any] = []
    tried = 0

    def bounded(instance: Any) -> bool:
        nonlocal tried
        tried += bool(found)
        if tried > shrink:
            raise Enough
        if met := condition(instance):
            found[:] = [instance]
        return met

    wanted = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.target, Phase.shrink),
        print_blob=False,
        suppress_health_check=() if health_checks else list(HealthCheck),
    )
    with _no_local_constants(), contextlib.suppress(NoSuchExample, Unsatisfiable, Enough):
        find(strategy, bounded, settings=wanted, random=random.Random(seed))
    return found[0] if found else None


@contextlib.contextmanager
def _no_local_constants() -> Iterator[None]:
    """Keep Hypothesis from mixing constants of our own source into its draws.

    It would collect them from whichever modules happen to be imported, so that an instance would
    depend on what ran before it and not on the seed alone (and would leave a ``.hypothesis`` folder
    behind). Versions without this feature need nothing.
    """
    from hypothesis.internal.conjecture import providers

    collect, cache = (
        getattr(providers, "_get_local_constants", None),
        getattr(providers, "CONSTANTS_CACHE", None),
    )
    if collect is None or cache is None:
        yield
        return
    nothing = providers.Constants()
    providers._get_local_constants, providers.CONSTANTS_CACHE = lambda: nothing, type(cache)(1024)
    try:
        yield
    finally:
        providers._get_local_constants, providers.CONSTANTS_CACHE = collect, cache
