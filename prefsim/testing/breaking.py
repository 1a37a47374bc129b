"""Tests that pass where a property breaks: an assumption that nothing needs is no assumption.

The claims of papers name what breaks them (:func:`prefsim.papers.claim`); this is the same for
tests of your own, with pytest or without.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from prefsim._instances import search
from prefsim.checks import check_callable, check_integer

__all__ = ["counterexample", "must_break"]

SHRINKING = 10
"""Times as many instances are tried to make the first one plainer."""


def counterexample(
    holds: Callable[..., Any], *, examples: int = 200, seed: int = 0, **given: st.SearchStrategy
) -> dict[str, Any]:
    """Return the plainest instance found on which an assertion of a property fails.

    Parameters
    ----------
    holds
        The property: a function that fails an ``assert`` where it does not hold. Any other
        exception is an error of the property and is raised.
    examples
        How many instances are tried, >= 1.
    seed
        Of the instances: the same ones on every run.
    **given
        Strategies for its parameters.

    Raises
    ------
    AssertionError
        If the property held on every instance.

    Examples
    --------
    A cycle has no response that beats every other:

    >>> from prefsim.testing import preference_games
    >>> def there_is_a_best_response(game):
    ...     assert game.condorcet_winner() >= 0
    >>> found = counterexample(there_is_a_best_response, game=preference_games(min_n=2, max_n=3))
    >>> int(found["game"].condorcet_winner())
    -1
    """
    check_callable(property=holds)
    check_integer(low=1, examples=examples)
    check_integer(low=0, seed=seed)
    if not given:
        raise ValueError(
            "a counterexample needs strategies for parameters of the property, got none"
        )
    for name, strategy in given.items():
        if not isinstance(strategy, st.SearchStrategy):
            raise TypeError(f"{name} must be a hypothesis strategy, got {type(strategy).__name__}")

    def breaks(instance: dict[str, Any]) -> bool:
        try:
            holds(**instance)
        except AssertionError:
            return True
        return False

    found = search(
        st.fixed_dictionaries(given),
        breaks,
        examples=examples,
        seed=seed,
        shrink=SHRINKING * examples,
        health_checks=False,
    )
    if found is None:
        name = getattr(holds, "__name__", "the property")
        raise AssertionError(
            f"{name} must break, and held on {examples} instances: give it instances that violate"
            " what it needs, or more of them"
        )
    broken: dict[str, Any] = found
    return broken


def must_break(
    *, examples: int = 200, seed: int = 0, **given: st.SearchStrategy
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Turn a property into a test that passes if the property fails on some instance.

    Parameters are as for :func:`counterexample`. Those of the test without a strategy stay its own,
    for fixtures and ``pytest.mark.parametrize``, which goes above this decorator.

    Examples
    --------
    Bradley–Terry needs a reward behind the preferences:

    >>> from prefsim.raters import bradley_terry_gap
    >>> from prefsim.testing import preference_games
    >>> @must_break(game=preference_games(3))
    ... def test_every_game_is_one_of_rewards(game):
    ...     assert bradley_terry_gap(game.preference) < 0.1
    >>> test_every_game_is_one_of_rewards()
    """

    def decorated(test: Callable[..., Any]) -> Callable[..., None]:
        signature = inspect.signature(test)
        missing = sorted(given.keys() - signature.parameters.keys())
        if missing:
            raise ValueError(f"{test.__name__} has no parameter {', '.join(missing)}")

        def run(*places: Any, **others: Any) -> None:
            holds = functools.update_wrapper(functools.partial(test, *places, **others), test)
            counterexample(holds, examples=examples, seed=seed, **given)

        # Not functools.wraps: pytest would ask for fixtures of the names that are given here.
        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        run.__qualname__ = test.__qualname__
        left = [each for name, each in signature.parameters.items() if name not in given]
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return run

    return decorated
