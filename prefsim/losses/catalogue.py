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

from prefsim.checks import check_known
from prefsim.containers import (
    AnchoredLogps,
    DegreePairLogps,
    ListLogps,
    PairLogps,
    SelfImprovementLogps,
    TokenListLogps,
    TokenPairLogps,
    UnpairedLogps,
    map_fields,
)
from prefsim.losses.mixtures import Mixture, terms_of
from prefsim.losses.registry import container_of, loss_functions
from prefsim.losses.running import RunningLoss, running_losses
from prefsim.numerics import to_numpy
from prefsim.typing import Array, Loss

__all__ = [
    "LossProperties",
    "as_loss",
    "catalogue",
    "couples_batch",
    "properties_of",
    "reads_reference",
    "reads_rejected",
]

PROBABILITIES = np.asarray([0.55, 0.7, 0.85])


def as_loss(loss: Loss | str) -> Loss:
    """Return a loss that may be given by its name, or by names as a sum, with default options.

    Raises
    ------
    TypeError
        If it is neither a function nor a name.
    ValueError
        If no loss has the name, naming the closest, or what is called takes no container of
        log-probabilities.

    Examples
    --------
    >>> as_loss("ipo") is loss_functions()["ipo"]
    True
    >>> [weight for weight, _ in as_loss("dpo + 0.1*sft").terms]
    [1.0, 0.1]
    """
    if not isinstance(loss, str):
        if not callable(loss):
            raise TypeError(
                f"loss must be a function of prefsim.losses or its name, got {type(loss).__name__}"
            )
        container_of(loss)
        return loss
    if not loss.isidentifier():
        return Mixture(tuple((weight, as_loss(name)) for weight, name in terms_of(loss)))
    running = running_losses()
    check_known([*loss_functions(), *running], loss=loss)
    return running[loss]() if loss in running else loss_functions()[loss]


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
        TokenListLogps,
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
    if isinstance(loss, RunningLoss):
        # What kind of function it is does not change with its state.
        loss = loss.loss
    kind = container_of(loss)
    example = kind.example()
    value = loss(example)
    coupled = couples_batch(loss)
    pairs = kind is PairLogps
    margin_only = None
    if pairs:
        shift = np.linspace(-1.0, 1.0, example.chosen.size)
        along = example._replace(
            chosen=example.chosen - 2 + shift, rejected=example.rejected - 2 + shift
        )
        split = along._replace(ref_chosen=along.ref_chosen - 0.3, chosen=along.chosen - 0.3)
        margin_only = _same(loss(along), value) and _same(loss(split), value) and not coupled
    return LossProperties(
        name=name,
        data=kind.__name__,
        reference_free=not reads_reference(loss),
        margin_only=margin_only,
        convex=_is_convex(loss) if pairs else None,
        bounded_below=_is_bounded_below(loss, kind),
        coupled=coupled,
        minimiser=_population_minimiser(loss) if margin_only else None,
    )


def couples_batch(loss: Loss) -> bool:
    """Return whether the value of one example depends on the others of its batch."""
    example = container_of(loss).example()
    alone = loss(map_fields(example, lambda column: column[:1]))
    # An option that is a batch of values puts its axes before that of the examples.
    return not _same(alone, loss(example)[..., :1])


def reads_reference(loss: Loss) -> bool:
    """Return whether a value of a loss depends on the reference.

    Whoever trains with such a loss must be told which reference that is, or that there is none.

    Parameters
    ----------
    loss
        A loss of :mod:`prefsim.losses`, configured by ``functools.partial``, or one of your own.

    Examples
    --------
    >>> from prefsim import losses
    >>> reads_reference(losses.dpo), reads_reference(losses.simpo)
    (True, False)
    """
    # A divergence at every token is of the reference too.
    return _reads(loss, lambda field: field.startswith("ref_") or field.endswith("_kl"))


def reads_rejected(loss: Loss) -> bool:
    """Return whether a value of a loss on pairs depends on the rejected response.

    Where it does not, the loss imitates the chosen one, and needs no pairs.

    Examples
    --------
    >>> from prefsim import losses
    >>> reads_rejected(losses.dpo), reads_rejected(losses.sft)
    (True, False)
    """
    return _reads(loss, {"rejected", "ref_rejected", "old_rejected"}.__contains__)


def _reads(loss: Loss, is_meant: Callable[[str], bool]) -> bool:
    """Return whether a value of a loss changes as the log-probabilities in some fields fall."""
    example = container_of(loss).example()
    noise = np.random.default_rng(1)
    moved = {
        field: getattr(example, field) - noise.random(getattr(example, field).shape)
        for field in example._fields
        if is_meant(field)
    }
    return not _same(loss(example._replace(**moved)), loss(example))


def _same(a: Array, b: Array) -> bool:
    return np.allclose(to_numpy(a), to_numpy(b), rtol=1e-10, atol=1e-12)


def _at_margins(loss: Loss, margins: np.ndarray, *, reverse: bool = False) -> np.ndarray:
    """Evaluate a pair at each margin, half of it from each response.

    ``reverse`` takes the same pair the other way round.

    Every pair is a batch of its own (a leading axis), so that a coupled loss sees no other.
    """
    base = map_fields(
        PairLogps.example(rows=1), lambda column: np.broadcast_to(column, (margins.size, 1))
    )
    low = np.full((margins.size, 1), -0.5 * np.abs(margins).max() - 1.0)
    half = 0.5 * margins[:, None]
    pair = base._replace(chosen=low + half, rejected=low - half, ref_chosen=low, ref_rejected=low)
    return loss(pair.swapped() if reverse else pair)[:, 0]


def _is_convex(loss: Loss) -> bool:
    for width in (2.0, 40.0, 400.0):
        values = _at_margins(loss, np.linspace(-width, width, 81))
        if (np.diff(values, 2) < -1e-9 * (1 + np.abs(values).max())).any():
            return False
    return True


def _is_bounded_below(loss: Loss, kind: type[Any]) -> bool:
    """Compare the least value over log-probabilities down to −1e3 and down to −1e6.

    An unbounded loss keeps falling.
    """
    varied = (
        "chosen",
        "rejected",
        "logp",
        "logps",
        "samples",
        "chosen_from_chosen",
        "chosen_from_rejected",
        "rejected_from_chosen",
        "rejected_from_rejected",
    )
    example = kind.example(rows=1)
    fields = [field for field in varied if field in kind._fields]
    place = np.stack(np.meshgrid(*[range(4)] * len(fields)), -1).reshape(-1, len(fields))
    # Every point is a batch of its own, so that a coupled loss sees no other.
    apart = map_fields(example, lambda column: np.broadcast_to(column, (len(place), *column.shape)))
    least = []
    for depth in (1e3, 1e6):
        levels = np.asarray([-1e-3, -1.0, -0.5 * depth, -depth])
        filled = {}
        for field, level in zip(fields, levels[place].T, strict=True):
            column = getattr(apart, field)
            filled[field] = np.broadcast_to(
                level.reshape(-1, *[1] * (column.ndim - 1)), column.shape
            )
        if kind is ListLogps:
            # Only the first candidate falls: a loss of lists may see nothing but differences.
            first = np.arange(example.logps.shape[-1]) == 0
            filled["logps"] = np.where(first, filled["logps"], -1.0)
        least.append(float(np.min(loss(apart._replace(**filled)))))
    return least[1] > least[0] - 1.0


def _closed_forms(loss: Loss) -> dict[str, np.ndarray]:
    from scipy.special import ndtri

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
        forms["probit(p) / beta"] = ndtri(PROBABILITIES) / defaults["beta"]
        if "alpha" in defaults:
            pair = PairLogps.example(rows=1)
            assert pair.chosen_length is not None
            assert pair.rejected_length is not None
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
        forms["probit((p - e) / (1 - 2e)) / beta"] = ndtri(target) / defaults["beta"]
    if {"tau", "flip_rate"} <= set(defaults):
        certain = (2 * PROBABILITIES - 1) / (1 - 2 * defaults["flip_rate"])
        forms["(2p - 1) / (2 tau (1 - 2e))"] = certain / (2 * defaults["tau"])
    return forms


def _population_minimiser(loss: Loss) -> str:
    from scipy.optimize import minimize_scalar

    def risk(h: Any, p: float) -> Any:
        margins = np.atleast_1d(np.asarray(h, dtype=float))
        value = p * _at_margins(loss, margins) + (1 - p) * _at_margins(loss, margins, reverse=True)
        return value if np.ndim(h) else float(value[0])

    # A grid finds the basin of a loss that is not convex, a bracketed search its bottom.
    grid = np.concatenate([-np.geomspace(1e3, 1e-2, 60), [0.0], np.geomspace(1e-2, 1e3, 60)])
    minimisers = []
    for p in PROBABILITIES:
        try:
            best = int(risk(grid, p).argmin())
        except ValueError:
            return "none: the reversed pair is refused"
        if best in (0, grid.size - 1):
            minimisers.append(math.copysign(math.inf, grid[best]))
            continue
        bounds = (grid[best - 1], grid[best + 1])
        minimisers.append(
            minimize_scalar(risk, args=(p,), bounds=bounds, options={"xatol": 1e-9}).x
        )
    for name, expected in _closed_forms(loss).items():
        if np.allclose(minimisers, expected, rtol=2e-5, atol=2e-5):
            return name
    return "infinite" if not np.isfinite(minimisers).any() else "other"
