"""Which rows meet in a step.

A pure function of the seed and the epoch, so that a position in training is one number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["ORDERS", "BatchPlan", "epoch_batches", "micro_batches"]

ORDERS = ("by_length", "shuffled", "given")
# Batches whose rows are sorted together: enough to make lengths equal, few enough that an epoch
# stays random.
GROUP = 50


def epoch_batches(
    lengths: np.ndarray, batch_size: int, *, order: str, seed: int, epoch: int
) -> list[np.ndarray]:
    """Return the rows of every batch of an epoch; each row is in exactly one.

    Parameters
    ----------
    lengths
        Tokens of each row, ``(n,)``.
    batch_size
        Rows of a batch; the last one may have fewer.
    order
        ``"given"``, ``"shuffled"``, or ``"by_length"``: shuffled, but rows of similar length
        together. The longest row is then in the first batch of all, so that a batch too large for
        the memory fails at once.
    seed, epoch
        What the order depends on.

    Examples
    --------
    >>> lengths = np.asarray([5, 1, 4, 2, 3])
    >>> batches = epoch_batches(lengths, 2, order="by_length", seed=0, epoch=0)
    >>> [batch.tolist() for batch in batches]
    [[0, 2], [1], [4, 3]]
    """
    n = len(lengths)
    rows = np.arange(n)
    rng = np.random.default_rng([seed, epoch])
    if order != "given":
        rows = rng.permutation(n)
    if order == "by_length":
        groups = [
            rows[start : start + GROUP * batch_size] for start in range(0, n, GROUP * batch_size)
        ]
        rows = np.concatenate(
            [group[np.argsort(-lengths[group], kind="stable")] for group in groups]
        )
    batches = [rows[start : start + batch_size] for start in range(0, n, batch_size)]
    if order == "by_length":
        batches = [batches[i] for i in rng.permutation(len(batches))]
        if epoch == 0:
            longest = max(range(len(batches)), key=lambda i: lengths[batches[i]].max())
            batches.insert(0, batches.pop(longest))
    return batches


def micro_batches(
    rows: np.ndarray, lengths: np.ndarray, count: int, *, regroup: bool
) -> list[np.ndarray]:
    """Return the rows of a batch in ``count`` micro-batches of nearly equal size.

    Some are empty if there are too few rows. ``regroup`` puts rows of similar length into one
    micro-batch, which saves padding; the sum over the batch does not depend on it.
    """
    if regroup:
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
    return np.array_split(rows, count)


class BatchPlan(NamedTuple):
    """The batches of a whole training, step by step."""

    lengths: np.ndarray
    batch_size: int
    order: str
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every row has been seen once."""
        return math.ceil(len(self.lengths) / self.batch_size)

    def batches(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the batches of the steps ``start`` to ``stop - 1``, made an epoch at a time."""
        epoch, batches = -1, []
        for step in range(start, stop):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                batches = epoch_batches(
                    self.lengths, self.batch_size, order=self.order, seed=self.seed, epoch=epoch
                )
            yield batches[step % self.steps_per_epoch]
