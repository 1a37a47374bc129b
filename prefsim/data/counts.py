"""Repeated sampling from an enumerated population, by counts: exact, and as fast for a million draws as for ten."""

from __future__ import annotations

import numpy as np

from prefsim._validate import check_positive
from prefsim.backend import Seed, random_generator
from prefsim.data.comparisons import Comparisons

__all__ = ["sample_counts"]


def sample_counts(population: Comparisons, n: int, *, repeats: int, seed: Seed) -> Comparisons:
    """Draw ``repeats`` data sets of ``n`` labelled comparisons each from a population, as counts of its rows.

    A row is drawn with its weight and labelled with its preference probability. Equal comparisons are the same row of an
    objective, so that their counts lose nothing: the objective of the result is the mean over the n samples.

    Parameters
    ----------
    population
        Comparisons ``(rows,)`` with weights that sum to one, such as :meth:`Comparisons.population` gives.
    n
        Comparisons in each data set, > 0.
    repeats
        Number of data sets, > 0.
    seed
        Of the draws.

    Returns
    -------
    Comparisons with batch shape ``(repeats,)``: ``weight`` is the share of the n draws that fell on a row, ``prob`` the share
    of those that its ``chosen`` won (its probability where none fell on it).

    Raises
    ------
    ValueError
        If a number is not a positive integer, the population is a batch, or its weights do not sum to one within 1e-9.

    Examples
    --------
    >>> coin = Comparisons([0], [0], [1], prob=0.25)
    >>> sample_counts(coin, 1000, repeats=3, seed=0).prob
    array([[0.269],
           [0.251],
           [0.255]])
    """
    check_positive(n=n, repeats=repeats)
    if int(n) != n or int(repeats) != repeats:
        raise ValueError(f"n and repeats must be integers, got {n!r} and {repeats!r}")
    if population.weight.ndim > 1 or population.prob.ndim > 1:
        raise ValueError(f"sampling needs one population, got a batch of shape {np.broadcast(population.weight, population.prob).shape[:-1]}")
    total = population.weight.sum()
    if not abs(total - 1) <= 1e-9:
        raise ValueError(f"weight must sum to 1 within 1e-09, got {total!r}")
    rng = random_generator(seed)
    drawn = rng.multinomial(int(n), population.weight / total, size=int(repeats))
    won = rng.binomial(drawn, population.prob)
    share = np.where(drawn > 0, won / np.maximum(drawn, 1), population.prob)
    return Comparisons(population.prompt, population.chosen, population.rejected, share, drawn / n)
