"""What a caller of the game methods may ask for: games, policies, options and steps, checked."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from prefsim.backend import to_numpy
from prefsim.checks import (
    check_full_support,
    check_integer,
    check_interval,
    check_positive,
)
from prefsim.solvers.games.certificates import log_probs
from prefsim.solvers.games.game_input import probabilities
from prefsim.solvers.games.nash_methods import UPDATES, Update
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array

Step = float | Callable[[int], float]

DIRECT_METHODS = {"lp": "none", "regularised": "needed"}
OPTION_RANGES = {"momentum": "left", "mixture": "both"}

__all__ = [
    "DIRECT_METHODS",
    "Step",
    "StepSizeWarning",
    "check_options",
    "log_policy",
    "method_options",
    "step_sizes",
]


class StepSizeWarning(UserWarning):
    """A step larger than the largest one with a guarantee of convergence."""


def check_options(
    method: str, tau: float, reference: Any, step: Any, initial: Any, record: int
) -> None:
    """Raise unless the method plays games with such a penalty and knows the options given."""
    update = UPDATES.get(method)
    penalty = update.penalty if update else DIRECT_METHODS[method]
    if penalty in ("needed", "proximal") and tau == 0:
        raise ValueError(
            f"method {method!r} is for games with a penalty: tau must be > 0, got {tau!r}"
        )
    if penalty == "none" and tau > 0:
        raise ValueError(
            f"method {method!r} is for games without a penalty: tau must be 0, got {tau!r}"
        )
    check_integer(low=0, record=record)
    unknown = {"initial": initial is not None, "record": record > 0} if update is None else {}
    unknown["step"] = step is not None and (update is None or update.default_step is None)
    unknown["reference"] = method == "lp" and reference is not None
    for option, given in unknown.items():
        if given:
            raise ValueError(f"method {method!r} has no use for the option {option}")


def method_options(method: str, given: dict[str, float | None]) -> dict[str, float]:
    """Return the method's own options, of which ``given`` overrides the defaults."""
    options = dict(UPDATES[method].options) if method in UPDATES else {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in options:
            raise ValueError(f"method {method!r} has no use for the option {name}")
        option: dict[str, Any] = {name: value}
        check_interval(low=0.0, high=1.0, closed=OPTION_RANGES[name], **option)
        options[name] = value
    return options


def log_policy(policy: Any, preference: Array, name: str) -> Array:
    """Return the log-probabilities of a policy with full support, uniform where none is given."""
    table = probabilities(policy, preference, name)
    check_full_support(to_numpy(table), name)
    return log_probs(table)


def step_sizes(
    step: Step | None,
    update: Update,
    method: str,
    n: int,
    tau: float,
    iterations: int,
) -> Iterable[float | None]:
    """Return the step of each iteration, and warn of one without a guarantee."""
    if update.default_step is None:
        return itertools.repeat(None, iterations)
    if callable(step):
        steps = [float(step(t)) for t in range(iterations)]
        for value in steps:
            check_positive(step=value)
    else:
        steps = [update.default_step(n, tau, iterations) if step is None else step]
        check_positive(step=steps[0])
    largest = update.largest_step(tau)
    # A step that rounding carries over the edge is meant to be at the edge.
    if max(steps, default=0.0) > largest * (1 + 1e-12):
        warn_caller(
            f"a step of {max(steps):.4g} exceeds {largest:.4g}, the largest with which {method!r}"
            f" is known to converge at tau={tau:g}",
            StepSizeWarning,
        )
    return steps if callable(step) else itertools.repeat(float(steps[0]), iterations)
