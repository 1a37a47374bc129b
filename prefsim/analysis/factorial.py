"""Full factorials: a score in every cell of crossed factors, and what each factor changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from prefsim._frozen import set_fields
from prefsim._readable import readable
from prefsim.analysis.intervals import mean_half_width
from prefsim.checks import (
    as_float_array,
    check_callable,
    check_interval,
    check_kind,
    check_shape,
)

__all__ = ["Contrast", "Factorial", "MainEffect", "contrast", "full_factorial", "main_effects"]

Cells = list[dict[str, Any]]


@readable
@dataclass(frozen=True, eq=False)
class Factorial:
    """Scores of all combinations of the levels of some factors.

    Parameters
    ----------
    levels
        The levels of each factor, at least one each, in the order of the axes; none of a single
        cell.
    scores
        ``(L_1, ..., L_k, n)``: n replicates of every cell, of which the i-th belong together (one
        seed, one split).

    Raises
    ------
    ValueError
        If a factor has no level or one twice, or scores do not fit or are not finite.
    """

    levels: Mapping[str, tuple[Any, ...]]
    scores: np.ndarray

    def __post_init__(self) -> None:
        levels = _as_levels(self.levels, "levels")
        scores = as_float_array(self.scores, "scores", ndim=len(levels) + 1)
        check_shape(scores, "scores", (*map(len, levels.values()), None))
        set_fields(self, levels=levels, scores=scores)

    def at(self, **fixed: Any) -> Factorial:
        """Return the factorial of the other factors where these are at one level each.

        Raises
        ------
        ValueError
            If a factor or a level is unknown.
        """
        scores = self.scores
        for name in reversed(list(self.levels)):
            if name in fixed:
                place = self.place(name, fixed[name])
                scores = np.take(scores, place, axis=list(self.levels).index(name))
        for name in fixed:
            self.place(name, fixed[name])
        left = {name: levels for name, levels in self.levels.items() if name not in fixed}
        return Factorial(left, scores)

    def place(self, factor: str, level: Any) -> int:
        """Return the place of a level among those of its factor, or raise."""
        if factor not in self.levels:
            known = ", ".join(map(repr, self.levels))
            raise ValueError(f"factor must be one of {known}, got {factor!r}")
        if level not in self.levels[factor]:
            known = ", ".join(map(repr, self.levels[factor]))
            raise ValueError(f"level of {factor} must be one of {known}, got {level!r}")
        return self.levels[factor].index(level)


def _as_levels(given: Any, name: str) -> dict[str, tuple[Any, ...]]:
    """Return the levels of factors by their names, or raise."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} must be levels by the name of a factor, got {given!r}")
    levels = {factor: tuple(values) for factor, values in given.items()}
    for factor, values in levels.items():
        if not values or any(values.count(value) > 1 for value in values):
            raise ValueError(f"{factor} must have levels, each once, got {values!r}")
    return levels


@readable
class Contrast(NamedTuple):
    """A mean difference, half the width of its interval, and the difference of each replicate.

    ``replicates`` is ``(n,)``, all in units of the score.
    """

    size: float
    half_width: float
    replicates: np.ndarray


@readable
class MainEffect(NamedTuple):
    """What one factor changes on average over all others.

    Attributes
    ----------
    factor
        Its name.
    levels, means
        Its levels, and the mean score at each.
    best, worst
        The levels with the highest and the lowest mean.
    size
        Mean at the best less mean at the worst, >= 0.
    half_width
        Half the width of its interval.
    """

    factor: str
    levels: tuple[Any, ...]
    means: np.ndarray
    best: Any
    worst: Any
    size: float
    half_width: float


def full_factorial(
    measure: Callable[..., Any],
    factors: Mapping[str, Sequence[Any]],
    *,
    progress: Callable[[Cells], Iterable[dict[str, Any]]] = iter,
) -> Factorial:
    """Measure every combination of levels.

    Parameters
    ----------
    measure
        Takes a level of each factor by name and returns the scores of n replicates, ``(n,)``: the
        same seeds or splits in the same order for every cell, so that cells are compared seed by
        seed.
    factors
        The levels of each factor, at least one each.
    progress
        Shows how far it is: takes the list of cells and yields them.

    Raises
    ------
    ValueError
        If there is no factor, one has no level or one twice, cells have different numbers of
        replicates, a score is not finite, or ``progress`` leaves out a cell or changes their order.

    Examples
    --------
    >>> found = full_factorial(
    ...     lambda size, noisy: [size - 2 * noisy, size + 1 - 2 * noisy],
    ...     {"size": (1, 2, 3), "noisy": (False, True)},
    ... )
    >>> found.scores.shape, [(each.factor, each.size) for each in main_effects(found)]
    ((3, 2, 2), [('size', 2.0), ('noisy', 2.0)])
    """
    check_callable(measure=measure, progress=progress)
    levels = _as_levels(factors, "factors")
    if not levels:
        raise ValueError("factors must hold at least one factor, got none")
    cells = [
        dict(zip(levels, combination, strict=True))
        for combination in itertools.product(*levels.values())
    ]
    rows: list[np.ndarray] = []
    for cell, shown in itertools.zip_longest(cells, progress(cells)):
        if cell is None or shown != cell:
            raise ValueError(
                f"progress must yield the cells in their order, got {shown!r} in place of {cell!r}"
            )
        rows.append(as_float_array(measure(**cell), "scores of a cell", ndim=1))
    counts = {row.size for row in rows}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"every cell must have the same number of replicates, >= 1, got {sorted(counts)}"
        )
    return Factorial(levels, np.reshape(rows, (*map(len, levels.values()), -1)))


def contrast(
    factorial: Factorial, levels: Mapping[str, tuple[Any, Any]], *, interval: float = 0.95
) -> Contrast:
    """Return what it changes to go from one level of a factor to another, on average.

    Parameters
    ----------
    factorial
        Of at least two replicates.
    levels
        For each of some factors the level that is looked at and the one that it is compared with.
        One factor is a main effect, the mean over all others. Several are an interaction: by how
        much the difference in one differs between the two levels of the next (for two factors a
        difference of differences).
    interval
        Coverage of the t interval over the replicates. It is exact where the differences of
        replicates are independent and normal, however much the cells of a replicate depend on each
        other.

    Raises
    ------
    ValueError
        If a factor or level is unknown, there are fewer than two replicates, or ``interval`` is out
        of range.

    Examples
    --------
    >>> found = full_factorial(
    ...     lambda a, b: np.array([0.0, 0.5]) + a + 3 * a * b, {"a": (0, 1), "b": (0, 1)}
    ... )
    >>> contrast(found, {"a": (1, 0)}).size, contrast(found, {"a": (1, 0), "b": (1, 0)}).size
    (2.5, 3.0)
    """
    check_kind(Factorial, factorial=factorial)
    scores, names = factorial.scores, list(factorial.levels)
    if not isinstance(levels, Mapping) or not levels:
        raise ValueError(f"levels must be two of at least one factor by its name, got {levels!r}")
    for name, both in levels.items():
        if not isinstance(both, tuple) or len(both) != 2:
            raise ValueError(f"levels of {name} must be two in a tuple, got {both!r}")
        one, two = (factorial.place(name, each) for each in both)
        axis = names.index(name)
        # Kept as an axis of one, over which the mean below is the number itself.
        scores = np.take(scores, [one], axis=axis) - np.take(scores, [two], axis=axis)
    check_interval(interval=interval, low=0.0, high=1.0, closed="neither")
    replicates = scores.mean(axis=tuple(range(len(names))))
    return Contrast(
        float(replicates.mean()), mean_half_width(replicates, level=interval), replicates
    )


def main_effects(factorial: Factorial, *, interval: float = 0.95) -> tuple[MainEffect, ...]:
    """Return what each factor changes on average over the others: its best less its worst level.

    Best and worst are those of the mean over everything else. In each cell by itself the best less
    the worst is above zero for a factor that does nothing, too.

    Parameters
    ----------
    factorial
        Of at least two replicates and two levels of each factor.
    interval
        Coverage of the interval of each effect. Of more than two levels best and worst are chosen
        by the same scores; the interval then holds for all pairs of levels at once (Bonferroni).

    Raises
    ------
    ValueError
        If a factor has one level, there are fewer than two replicates, or ``interval`` is out of
        range.

    References
    ----------
    Fisher 1935, "The Design of Experiments", chapter 6 (factorial design).

    Examples
    --------
    >>> found = full_factorial(lambda a: [a, a + 1.0], {"a": (0.0, 2.0, 1.0)})
    >>> (effect,) = main_effects(found)
    >>> effect.best, effect.worst, effect.size, effect.means
    (2.0, 0.0, 2.0, array([0.5, 2.5, 1.5]))
    """
    check_kind(Factorial, factorial=factorial)
    check_interval(interval=interval, low=0.0, high=1.0, closed="neither")
    effects = []
    for axis, (name, levels) in enumerate(factorial.levels.items()):
        if len(levels) < 2:
            raise ValueError(f"{name} must have two levels to have an effect, got {levels!r}")
        others = tuple(i for i in range(factorial.scores.ndim) if i != axis)
        means = factorial.scores.mean(axis=others)
        best, worst = levels[int(means.argmax())], levels[int(means.argmin())]
        pairs = len(levels) * (len(levels) - 1) / 2
        if best == worst:
            best, worst = levels[0], levels[1]
        found = contrast(factorial, {name: (best, worst)}, interval=1 - (1 - interval) / pairs)
        effects.append(
            MainEffect(name, levels, means, best, worst, abs(found.size), found.half_width)
        )
    return tuple(effects)
