r"""What a classification loss is like at one input of three classes: what errors and noise cost.

A loss is *calibrated* if every decision for another than the best label costs an excess risk. How
much at least is found on a grid of laws of labels and of predictions, ties among scores counted as
the worst decision: exact up to the grid, from above.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from prefsim._colours import BLUE, GREEN, ORANGE, VERMILION
from prefsim.checks import check_callable, check_integer, check_nonnegative
from prefsim.containers import ClassLogits
from prefsim.losses.class_scores import every_label, with_margin

__all__ = ["ClassLossProfile", "class_loss_profile", "draw_error_costs", "draw_noise_terms"]

K = 3
COARSE = 12  # of laws of labels, steps of the unit interval
APART = 4.1  # the largest difference of scores on which ranges of losses are compared
LEAST = 1e-12  # in place of a probability of zero, whose score would be infinite
FREE = 1e-9  # an excess risk that is rounding


class ClassLossProfile(NamedTuple):
    """What one loss is like.

    Attributes
    ----------
    normalised
        Whether it has no lower bound, and was held to positive scores of mean one.
    gaps
        Excess zero-one risks ``(12,)``, up to 1.
    least_excess
        The least excess risk found of a decision that errs by so much or more, ``(12,)``.
    noise
        How much uniform noise adds to the risk beside a multiple of it: the range of the sum over
        all labels over that of as many losses. 0 for a symmetric loss, which such noise leaves as
        it is.
    """

    normalised: bool
    gaps: np.ndarray
    least_excess: np.ndarray
    noise: float

    @property
    def calibrated(self) -> bool:
        """Whether every wrong decision costs something."""
        return bool(self.least_excess.min() > FREE)

    @property
    def symmetric(self) -> bool:
        """Whether the sum over all labels is the same for all scores."""
        return self.noise < FREE


def _simplex(steps: int) -> np.ndarray:
    """Return the distributions over three classes in multiples of 1/steps, ``(N, 3)``."""
    counts = [(a, b, steps - a - b) for a in range(steps + 1) for b in range(steps + 1 - a)]
    return np.asarray(counts) / steps


def _falling_laws() -> np.ndarray:
    """Return the laws of labels in falling order, ``(Q, 3)``: losses treat all labels alike."""
    laws = _simplex(COARSE)
    return laws[(np.diff(laws, axis=-1) <= 0).all(axis=-1)]


def _free_scores(steps: int) -> np.ndarray:
    """Return log-probabilities, a lattice on which losses with a margin live, and best scores.

    The best scores of a comp-sum or LDR-KL loss are a multiple of the log of the law.
    """
    p = np.log(np.maximum(_simplex(steps), LEAST))
    logs = np.log(np.maximum(_falling_laws(), LEAST))
    places = np.arange(-15, 16) / 5
    lattice = np.asarray(list(itertools.product(places, places, [0.0])))
    return np.concatenate([p, lattice, *(s * logs for s in (0.1, 1 / 2, 2 / 3, 1, 2, 10 / 3))])


def class_loss_profile(
    loss: Callable[[ClassLogits[Any]], Any], *, margin: float = 0.0, steps: int = 60
) -> ClassLossProfile:
    """Return what a classification loss is like, found by evaluating it.

    Parameters
    ----------
    loss
        A loss of :class:`prefsim.losses.ClassLogits`, its options bound by ``functools.partial``.
    margin
        Constant margin >= 0 of every class but the label.
    steps
        Predictions are multiples of one over this, a multiple of 12: laws of labels are multiples
        of a twelfth, and where predictions miss these an error that is free looks dear.

    Returns
    -------
    ClassLossProfile

    Raises
    ------
    ValueError
        If an option is out of range.

    Examples
    --------
    >>> from prefsim.losses import crammer_singer, mae
    >>> class_loss_profile(crammer_singer, margin=1.0, steps=12).calibrated
    False
    >>> found = class_loss_profile(mae, steps=12)
    >>> found.calibrated, found.symmetric, float(found.least_excess[5].round(6))
    (True, True, 0.166667)
    """
    check_callable(loss=loss)
    check_nonnegative(margin=margin)
    check_integer(steps=steps, low=COARSE)
    if steps % COARSE:
        raise ValueError(f"steps must be a multiple of {COARSE}, got {steps}")

    def values(scores: np.ndarray) -> np.ndarray:
        return np.asarray(loss(with_margin(every_label(scores), margin)))

    # A label that runs ahead of all others goes on paying if there is no lower bound.
    near, far = values(np.array([[1e3, 0.0, 0.0], [1e6, 0.0, 0.0]]))[:, 0]
    normalised = bool(far < near - 1.0)
    scores = K * _simplex(steps) if normalised else _free_scores(steps)
    laws = _falling_laws()
    risks = values(scores) @ laws.T
    excess = risks - risks.min(axis=0)
    leading = scores >= scores.max(axis=-1, keepdims=True) - 1e-12
    # Of tied scores the rarest label is decided for.
    missed = laws[:, 0] - np.min(np.where(leading[:, None], laws, np.inf), axis=-1)
    gaps = np.arange(1, COARSE + 1) / COARSE
    least = np.array([excess[missed >= gap - 1e-12].min() for gap in gaps])
    compared = scores if normalised else scores[np.ptp(scores, axis=-1) <= APART]
    each = values(compared)
    noise = float(np.ptp(each.sum(axis=-1)) / (K * np.ptp(each)))
    return ClassLossProfile(normalised, gaps, least, noise)


def draw_error_costs(
    axis: Any, profiles: Mapping[str, ClassLossProfile], bounds: Mapping[str, np.ndarray]
) -> None:
    """Draw the least excess risk of an excess error of one half, a row a loss.

    Parameters
    ----------
    axis
        Of matplotlib.
    profiles
        By the names of the losses.
    bounds
        What the excess is at least, at the gaps of a profile, by name; for some of them.
    """
    half = COARSE // 2 - 1
    for place, (name, found) in enumerate(profiles.items()):
        colour = BLUE if found.calibrated else VERMILION
        axis.plot(found.least_excess[half], place, "o", color=colour, ms=6)
        if name in bounds:
            axis.plot([bounds[name][half]] * 2, [place - 0.35, place + 0.35], "k-", lw=1.5)
    axis.plot([], [], "o", color=BLUE, label="calibrated: every error costs")
    axis.plot([], [], "o", color=VERMILION, label="not calibrated: some error is free")
    axis.plot([], [], "k-", label="bound by formula")
    _name_rows(axis, profiles)
    axis.set(xlabel="least excess risk of an excess error of ½", xlim=(-0.02, None))
    axis.legend(frameon=False, fontsize=8)


def draw_noise_terms(axis: Any, profiles: Mapping[str, ClassLossProfile]) -> None:
    """Draw what uniform noise adds to the risk in each loss; the rest as in the costs of errors."""
    for place, found in enumerate(profiles.values()):
        axis.barh(place, found.noise, color=GREEN if found.symmetric else ORANGE, height=0.6)
        axis.text(found.noise, place, f" {found.noise:.2f}", va="center", fontsize=8)
    _name_rows(axis, profiles)
    axis.set(xlabel="range of the sum over labels / of K losses")
    axis.margins(x=0.12)


def _name_rows(axis: Any, profiles: Mapping[str, ClassLossProfile]) -> None:
    axis.set_yticks(range(len(profiles)), list(profiles), fontsize=8)
    axis.invert_yaxis()
