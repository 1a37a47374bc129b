"""Strength of preferences, read off an ensemble of reward models: which labels to doubt, and how.

A label is doubted where the models agree that the rejected response is better. Models that were
fitted to a pair lean to its label, so that half-samples, whose models each leave half of the pairs
out, tell more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator, to_numpy
from prefsim.checks import (
    as_floats,
    check_broadcast,
    check_choice,
    check_entries,
    check_integer,
    check_interval,
    check_shape,
)
from prefsim.containers import PairRewards
from prefsim.numerics import array_namespace, like
from prefsim.typing import Array, ArrayT

__all__ = [
    "TREATMENTS",
    "LabelTreatment",
    "PreferenceStrength",
    "half_samples",
    "preference_strength",
    "strength_groups",
    "treat_labels",
]

TREATMENTS = ("flip", "margin", "flip+margin", "soft", "soft+margin")


class PreferenceStrength(NamedTuple, Generic[ArrayT]):
    """Mean and population standard deviation of the ensemble's margins, ``(..., n)`` log-odds."""

    mean: ArrayT
    deviation: ArrayT


def half_samples(n: int, members: int, *, seed: Seed) -> np.ndarray:
    """Return which of n pairs each member of an ensemble is fitted to: random halves.

    They come as a half and its complement, so that half of the members leave out any pair.

    Parameters
    ----------
    n
        Number of pairs, at least 2.
    members
        Number of models M, even.
    seed
        Of the draw.

    Returns
    -------
    Booleans ``(M, n)``; of an odd number of pairs a first half has one less.

    Raises
    ------
    ValueError
        If a number is out of range, or ``members`` is odd.

    References
    ----------
    Shah and Samworth 2013 (complementary pairs of half-samples), arXiv:1105.5578.

    Examples
    --------
    >>> half_samples(6, 4, seed=0).sum(axis=0)
    array([2, 2, 2, 2, 2, 2])
    """
    check_integer(low=2, n=n, members=members)
    if members % 2:
        raise ValueError(f"members must be even, a half and its complement, got {members}")
    rng = random_generator(seed)
    half = np.stack([rng.permutation(n) < n // 2 for _ in range(members // 2)])
    return np.stack([half, ~half], axis=1).reshape(members, n)


def preference_strength(
    margins: ArrayT, *, fitted_to: Array | None = None
) -> PreferenceStrength[ArrayT]:
    r"""Return mean and spread of the margins that an ensemble of reward models gives each pair.

    :math:`\mu_n = \frac1M\sum_m d_{nm}` and
    :math:`\sigma_n^2 = \frac1M\sum_m (d_{nm} - \mu_n)^2` with
    :math:`d_{nm} = r_m(y_w) - r_m(y_l)`: a spread of the population, not of a sample.

    Parameters
    ----------
    margins
        d, ``(..., M, n)`` in log-odds, of M >= 2 models.
    fitted_to
        Which pairs each model was fitted to, booleans ``(..., M, n)``; a model says nothing of
        those. All models speak of all pairs unless given.

    Returns
    -------
    PreferenceStrength

    Raises
    ------
    ValueError
        If there are fewer than two models, a margin is not finite, shapes do not fit, or fewer
        than two models are left for a pair.

    References
    ----------
    Wang et al. 2024, section on measuring the strength of preferences, arXiv:2401.06080.

    Examples
    --------
    >>> margins = np.asarray([[1.2, 0.1, -0.8], [0.9, -0.3, -0.5], [1.5, 0.5, -1.1]])
    >>> found = preference_strength(margins)
    >>> found.mean.round(6), found.deviation.round(6)
    (array([ 1.2,  0.1, -0.8]), array([0.244949, 0.326599, 0.244949]))
    """
    (margins,) = as_floats(margins=margins)
    check_shape(margins, "margins", (None, None))
    check_entries(margins, "margins", "be finite", np.isfinite)
    xp = array_namespace(margins)
    if fitted_to is None:
        counted = xp.ones_like(margins)
    else:
        (fitted,) = as_floats(fitted_to=fitted_to)
        fitted = like(fitted, margins)
        check_broadcast(margins=margins, fitted_to=fitted)
        check_entries(fitted, "fitted_to", "be True or False", lambda x: (x == 0) | (x == 1))
        counted = xp.where(fitted == 0, xp.ones_like(margins), xp.zeros_like(margins))
    heard = xp.sum(counted, axis=-2)
    check_entries(heard, "models that speak of a pair", "be at least 2", lambda x: x >= 2)
    mean = xp.sum(counted * margins, axis=-2) / heard
    apart = margins - mean[..., None, :]
    return PreferenceStrength(mean, xp.sqrt(xp.sum(counted * apart**2, axis=-2) / heard))


def strength_groups(strength: Array, *, ends: Sequence[float] = (0.2, 0.4)) -> np.ndarray:
    """Return the group of each pair by the rank of its mean strength, the weakest first.

    Parameters
    ----------
    strength
        μ, ``(..., n)``.
    ends
        Shares of the pairs below the end of each group but the last, rising within (0, 1). By
        default group 0 holds the fifth whose labels are taken to be incorrect, 1 the next fifth,
        ambiguous, 2 the rest. Deciles have nine ends.

    Returns
    -------
    Integers ``(..., n)``, NumPy. Pairs of one strength are ranked in their order.

    Raises
    ------
    ValueError
        If ``ends`` do not rise within (0, 1), or a strength is NaN.

    References
    ----------
    Wang et al. 2024, arXiv:2401.06080, where about a quarter of the pairs have a mean below 0.

    Examples
    --------
    >>> strength_groups([0.3, -1.0, 2.0, 0.1, 0.9])
    array([2, 0, 2, 1, 2])
    """
    shares = np.asarray(ends, dtype=np.float64)
    bounds = np.concatenate([[0.0], shares.ravel(), [1.0]])
    if shares.ndim != 1 or not (np.diff(bounds) > 0).all():
        raise ValueError(f"ends must rise within (0, 1), got {list(ends)}")
    (values,) = as_floats(strength=strength)
    check_shape(values, "strength", (None,))
    table = to_numpy(values)
    n = table.shape[-1]
    order = np.argsort(table, axis=-1, kind="stable")
    ranks = np.argsort(order, axis=-1, kind="stable")
    # A product such as .3 of 10 is 3 and no more, though rounding says 3.0000000000000004.
    firsts = np.ceil(shares * n - 1e-9).astype(np.int64)
    return np.asarray(np.searchsorted(firsts, ranks, side="right"))


class LabelTreatment(NamedTuple, Generic[ArrayT]):
    """What is done to each label before a reward model is fitted.

    Attributes
    ----------
    flipped
        Whether chosen and rejected are exchanged, booleans ``(..., n)``.
    margin
        By how much the response that is then called chosen is to be ahead, ``(..., n)`` log-odds.
    label_smoothing
        α of :func:`prefsim.losses.bradley_terry`, ``(..., n)``.
    """

    flipped: ArrayT
    margin: ArrayT
    label_smoothing: ArrayT

    def apply(self, rewards: PairRewards[ArrayT]) -> PairRewards[ArrayT]:
        """Return rewards of the pairs with their labels and margins as treated.

        A margin that they bring with them is added.
        """
        xp = array_namespace(rewards.chosen, self.margin)
        brought = rewards.margin
        return PairRewards(
            chosen=xp.where(self.flipped, rewards.rejected, rewards.chosen),
            rejected=xp.where(self.flipped, rewards.chosen, rewards.rejected),
            margin=self.margin if brought is None else self.margin + brought,
        )


def treat_labels(
    strength: ArrayT, treatment: str, *, doubted: Array | None = None, label_smoothing: float = 0.2
) -> LabelTreatment[ArrayT]:
    """Return what a treatment does to each label, of the mean strength of its preference.

    Parameters
    ----------
    strength
        μ, ``(..., n)`` in log-odds. Constants of differentiation should come from other models than
        the one to be fitted.
    treatment
        ``"flip"``, chosen and rejected are exchanged where the label is doubted; ``"margin"``, the
        chosen one is to be ahead by μ, negative or not; ``"flip+margin"``, both: the response that
        is chosen after the flip is to be ahead by −μ where it was flipped; ``"soft"``, smoothing
        where the label is doubted; ``"soft+margin"``, that and the margin μ of all.
    doubted
        Which labels are doubted, booleans ``(..., n)``: those of a negative strength unless given.
    label_smoothing
        α in [0, 0.5] of doubted labels, for the soft treatments.

    Returns
    -------
    LabelTreatment
        Of the library of the strengths.

    Raises
    ------
    ValueError
        If a strength is not finite, ``treatment`` is unknown, or an option is out of range.

    References
    ----------
    Wang et al. 2024, section on label flipping, label smoothing and adaptive margin,
    arXiv:2401.06080; where smoothing and margin meet, the order is not confirmed.

    Examples
    --------
    The margin of a flipped pair is positive:

    >>> found = treat_labels(np.asarray([1.2, -0.8]), "flip+margin")
    >>> found.flipped, found.margin
    (array([False,  True]), array([1.2, 0.8]))
    >>> found.apply(PairRewards(np.asarray([1.0, 0.0]), np.asarray([0.0, 0.5])))
    PairRewards(chosen=[1, 0.5], rejected=[0, 0], margin=[1.2, 0.8])
    """
    check_choice(TREATMENTS, treatment=treatment)
    check_interval(label_smoothing=label_smoothing, low=0.0, high=0.5, closed="both")
    (mu,) = as_floats(strength=strength)
    check_entries(mu, "strength", "be finite", np.isfinite)
    xp = array_namespace(mu)
    zero = xp.zeros_like(mu)
    if doubted is None:
        wrong = mu < 0
    else:
        (given,) = as_floats(doubted=doubted)
        given = like(given, mu)
        check_broadcast(strength=mu, doubted=given)
        check_entries(given, "doubted", "be True or False", lambda x: (x == 0) | (x == 1))
        wrong = xp.broadcast_to(given != 0, mu.shape)
    parts = treatment.split("+")
    flipped = wrong if "flip" in parts else xp.zeros_like(wrong)
    margin = xp.where(flipped, -mu, mu) if "margin" in parts else zero
    soft = xp.full_like(mu, label_smoothing) if "soft" in parts else zero
    return LabelTreatment(flipped, margin, xp.where(wrong, soft, zero))
