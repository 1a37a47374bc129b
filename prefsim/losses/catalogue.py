"""What kind of function each loss is, found by evaluating it rather than by description.

Every property is measured on the function itself with its default options, so that a new loss is
classified by existing.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.containers import (
    AnchoredLogps,
    DegreePairLogps,
    ListLogps,
    PairLogps,
    SelfImprovementLogps,
    TokenPairLogps,
    UnpairedLogps,
)
from prefsim.losses.registry import container_of, loss_functions

Array = Any
Loss = Callable[..., Any]

__all__ = ["LossProperties", "catalogue", "couples_batch", "properties_of"]

ROWS = 7
PROBABILITIES = np.asarray([0.55, 0.7, 0.85])


class LossProperties(NamedTuple):
    """The kind of one loss, at its default options.

    Attributes
    ----------
    name
        Public name.
    data
        Name of the container it takes.
    reference_free
        No value depends on the reference.
    margin_only
        The value depends on the four log-probabilities of a pair through ``h`` alone; ``None``
        where the data are not pairs.
    convex
        Convex along the margin with the two responses moving in opposite directions; ``None`` where
        the data are not pairs.
    bounded_below
        Bounded over all log-probabilities <= 0.
    coupled
        The value of one example depends on the others of its batch.
    minimiser
        Margin ``h*(p)`` that minimises the pair's loss with weight p plus the reversed pair's with
        1 − p: the name of the closed form it equals, ``"infinite"``, ``"other"``, or why there is
        none; ``None`` unless ``margin_only``.
    """

    name: str
    data: str
    reference_free: bool
    margin_only: bool | None
    convex: bool | None
    bounded_below: bool
    coupled: bool
    minimiser: str | None


def catalogue() -> tuple[LossProperties, ...]:
    """Return the properties of every public loss on log-probabilities, measured now, by name.

    Examples
    --------
    >>> row = next(row for row in catalogue() if row.name == "ipo")
    >>> row.margin_only, row.convex, row.bounded_below, row.minimiser
    (True, True, True, '(2p - 1) / (2 tau)')
    """
    containers = (
        PairLogps,
        UnpairedLogps,
        ListLogps,
        TokenPairLogps,
        DegreePairLogps,
        AnchoredLogps,
        SelfImprovementLogps,
    )
    return tuple(
        properties_of(f, name)
        for name, f in sorted(loss_functions().items())
        if container_of(f) in containers
    )


def properties_of(loss: Loss, name: str) -> LossProperties:
    """Measure one loss; see :class:`LossProperties`."""
    kind = container_of(loss)
    example = _example(kind)
    value = loss(example)
    noise = np.random.default_rng(1)
    references = {
        field: getattr(example, field) for field in example._fields if field.startswith("ref_")
    }
    moved = example._replace(
        **{field: part - noise.random(part.shape) for field, part in references.items()}
    )
    reference_free = _same(loss(moved), value)
    coupled = couples_batch(loss)
    pairs = kind is PairLogps
    margin_only = None
    if pairs:
        shift = np.linspace(-1.0, 1.0, ROWS)
        along = example._replace(
            chosen=example.chosen - 2 + shift, rejected=example.rejected - 2 + shift
        )
        split = along._replace(ref_chosen=along.ref_chosen - 0.3, chosen=along.chosen - 0.3)
        margin_only = _same(loss(along), value) and _same(loss(split), value) and not coupled
    return LossProperties(
        name=name,
        data=kind.__name__,
        reference_free=reference_free,
        margin_only=margin_only,
        convex=_is_convex(loss) if pairs else None,
        bounded_below=_is_bounded_below(loss, kind),
        coupled=coupled,
        minimiser=_population_minimiser(loss) if margin_only else None,
    )


def couples_batch(loss: Loss) -> bool:
    """Return whether the value of one example depends on the others of its batch."""
    example = _example(container_of(loss))
    alone = loss(type(example)(*(None if x is None else x[:1] for x in example)))
    return not _same(alone, loss(example)[:1])


def _same(a: Array, b: Array) -> bool:
    return np.allclose(a, b, rtol=1e-10, atol=1e-12)


def _example(kind: type, rows: int = ROWS) -> Any:
    rng = np.random.default_rng(0)

    def logps(*shape: int) -> np.ndarray:
        return -4.0 - 3.0 * rng.random(shape)

    if kind in (PairLogps, DegreePairLogps):
        policy, reference = (logps(rows), logps(rows)), (logps(rows), logps(rows))
    if kind is PairLogps:
        lengths = (np.full(rows, 3.0), np.full(rows, 4.0))
        scores = (0.6 + 0.3 * rng.random(rows), 0.3 * rng.random(rows))
        return PairLogps(*policy, *reference, *lengths, *scores, logps(rows), logps(rows))
    if kind is UnpairedLogps:
        return UnpairedLogps(logps(rows), logps(rows), np.arange(rows) % 2 == 0, np.full(rows, 3.0))
    if kind is DegreePairLogps:
        graded = (rng.standard_normal((rows, 3, 3)), np.tile(np.arange(3), (rows, 1)))
        return DegreePairLogps(*policy, *reference, *graded, *graded)
    if kind is ListLogps:
        return ListLogps(logps(rows, 4), logps(rows, 4), rng.standard_normal((rows, 4)))
    if kind is AnchoredLogps:
        return AnchoredLogps(logps(rows), logps(rows), logps(rows, 4), logps(rows, 4))
    if kind is SelfImprovementLogps:
        return SelfImprovementLogps(*(logps(rows) for _ in SelfImprovementLogps._fields))
    parts = {
        name: logps(rows, 3) / 3 for name in ("chosen", "rejected", "ref_chosen", "ref_rejected")
    }
    parts |= {name: np.ones((rows, 3), bool) for name in ("chosen_mask", "rejected_mask")}
    parts |= {name: 0.2 * rng.random((rows, 3)) for name in ("chosen_kl", "rejected_kl")}
    return TokenPairLogps(
        **parts,
        **{name: -1 - rng.random((rows, 3)) for name in ("chosen_collision", "rejected_collision")},
    )


def _at_margins(loss: Loss, margins: np.ndarray, *, reverse: bool = False) -> np.ndarray:
    """Evaluate a pair at each margin, half of it from each response.

    ``reverse`` takes the same pair the other way round.

    Every pair is a batch of its own (a leading axis), so that a coupled loss sees no other.
    """
    base = PairLogps(
        *(np.broadcast_to(part, (margins.size, 1)) for part in _example(PairLogps, rows=1))
    )
    low = np.full((margins.size, 1), -0.5 * np.abs(margins).max() - 1.0)
    half = 0.5 * margins[:, None]
    pair = base._replace(chosen=low + half, rejected=low - half, ref_chosen=low, ref_rejected=low)
    if reverse:
        pair = PairLogps(*(pair[i] for i in (1, 0, 3, 2, 5, 4, 7, 6, 9, 8)))
    return loss(pair)[:, 0]


def _is_convex(loss: Loss) -> bool:
    for width in (2.0, 40.0, 400.0):
        values = _at_margins(loss, np.linspace(-width, width, 81))
        if (np.diff(values, 2) < -1e-9 * (1 + np.abs(values).max())).any():
            return False
    return True


def _is_bounded_below(loss: Loss, kind: type) -> bool:
    """Compare the least value over log-probabilities down to −1e3 and down to −1e6.

    An unbounded loss keeps falling.
    """
    least = []
    for depth in (1e3, 1e6):
        levels = [-1e-3, -1.0, -0.5 * depth, -depth]
        varied = (
            "chosen",
            "rejected",
            "logp",
            "logps",
            "samples",
            "chosen_from_rejected",
            "rejected_from_rejected",
        )
        fields = [f for f in varied if f in kind._fields]  # type: ignore[attr-defined]
        example = _example(kind, rows=1)
        lowest = math.inf
        for grid in np.stack(np.meshgrid(*[levels] * len(fields)), -1).reshape(-1, len(fields)):
            filled = {
                field: np.full_like(getattr(example, field), level)
                for field, level in zip(fields, grid, strict=True)
            }
            if kind is ListLogps:
                filled = {"logps": np.where(np.arange(4) == 0, grid[0], -1.0)[None]}
            lowest = min(lowest, float(np.min(loss(example._replace(**filled)))))
        least.append(lowest)
    return least[1] > least[0] - 1.0


def _closed_forms(loss: Loss) -> dict[str, np.ndarray]:
    function = loss
    while isinstance(function, functools.partial):
        function = function.func
    defaults = {
        k: p.default
        for k, p in inspect.signature(function).parameters.items()
        if p.default is not inspect.Parameter.empty
    }
    logit = np.log(PROBABILITIES) - np.log1p(-PROBABILITIES)
    forms = {}
    if "beta" in defaults:
        forms["logit(p) / beta"] = logit / defaults["beta"]
        forms["sign(2p - 1) / beta"] = np.ones_like(logit) / defaults["beta"]
        if "alpha" in defaults:
            pair = _example(PairLogps, rows=1)
            longer = float(pair.chosen_length[0] - pair.rejected_length[0])
            forms["(logit(p) - alpha (n_w - n_l)) / beta"] = (
                logit - defaults["alpha"] * longer
            ) / defaults["beta"]
    if "tau" in defaults:
        forms["(2p - 1) / (2 tau)"] = (2 * PROBABILITIES - 1) / (2 * defaults["tau"])
    if {"beta", "epsilon"} <= set(defaults):
        odds = math.log1p(-defaults["epsilon"]) - math.log(defaults["epsilon"])
        forms["(2p - 1) logit(1 - epsilon) / beta"] = (
            (2 * PROBABILITIES - 1) * odds / defaults["beta"]
        )
    if {"beta", "target"} <= set(defaults):
        mixed = PROBABILITIES * defaults["target"] + (1 - PROBABILITIES) * (1 - defaults["target"])
        forms["logit(p t + (1 - p)(1 - t)) / beta"] = np.log(mixed / (1 - mixed)) / defaults["beta"]
    if {"beta", "flip_rate"} <= set(defaults):
        target = (PROBABILITIES - defaults["flip_rate"]) / (1 - 2 * defaults["flip_rate"])
        forms["logit((p - e) / (1 - 2e)) / beta"] = np.log(target / (1 - target)) / defaults["beta"]
    return forms


def _population_minimiser(loss: Loss) -> str:
    from scipy.optimize import minimize_scalar

    def risk(h: Any, p: float) -> Any:
        margins = np.atleast_1d(np.asarray(h, dtype=float))
        value = p * _at_margins(loss, margins) + (1 - p) * _at_margins(loss, margins, reverse=True)
        return value if np.ndim(h) else float(value[0])

    # A grid finds the basin of a loss that is not convex, a bracketed search its bottom.
    grid = np.concatenate([-np.geomspace(1e3, 1e-2, 60), [0.0], np.geomspace(1e-2, 1e3, 60)])
    found = []
    for p in PROBABILITIES:
        try:
            best = int(risk(grid, p).argmin())
        except ValueError:
            return "none: the reversed pair is refused"
        if best in (0, grid.size - 1):
            found.append(math.copysign(math.inf, grid[best]))
            continue
        bounds = (grid[best - 1], grid[best + 1])
        found.append(
            minimize_scalar(
                risk, args=(p,), bounds=bounds, method="bounded", options={"xatol": 1e-9}
            ).x
        )
    for name, expected in _closed_forms(loss).items():
        if np.allclose(found, expected, rtol=2e-5, atol=2e-5):
            return name
    return "infinite" if not np.isfinite(found).any() else "other"
