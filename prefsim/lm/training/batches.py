"""Which rows meet in a step.

A pure function of the seed and the epoch, so that a position in training is one number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from prefsim.lm.model.bins import packed_size

__all__ = [
    "ORDERS",
    "BatchPlan",
    "Split",
    "epoch_batches",
    "micro_batches",
    "packed_batches",
    "token_batches",
]

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


def token_batches(rows: np.ndarray, sizes: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Return rows in batches of at most so many tokens with their padding, the longest first.

    Parameters
    ----------
    rows
        Numbers of at least one row.
    sizes
        Tokens of each row of the data when nothing is padded to a longer one, ``(n,)``, none above
        ``tokens``.
    tokens
        Most tokens of a batch, every row as long as its longest.

    Examples
    --------
    >>> sizes = np.asarray([5, 1, 4, 2, 3, 9])
    >>> [batch.tolist() for batch in token_batches(np.arange(6), sizes, 10)]
    [[5], [0, 2], [4, 3, 1]]
    """
    rows = rows[np.argsort(-sizes[rows], kind="stable")]
    batches, start = [], 0
    while start < len(rows):
        stop = start + tokens // int(sizes[rows[start]])
        batches.append(rows[start:stop])
        start = stop
    return batches


def packed_batches(rows: np.ndarray, sizes: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Return rows in batches of at most so many tokens when their sequences are packed.

    The longest row is in the first of them, the others as they come: of unlike lengths more go
    into one.

    Parameters
    ----------
    rows
        Numbers of at least one row.
    sizes
        Tokens of the sequences of each row of the data, ``(n, S)``; those of one row alone are at
        most ``tokens`` when they are packed.
    tokens
        Most tokens of a batch, as :func:`packed_size` counts them.

    Examples
    --------
    >>> sizes = np.asarray([[5], [1], [4], [2], [3], [9]])
    >>> [batch.tolist() for batch in packed_batches(np.arange(6), sizes, 10)]
    [[5], [0, 1, 2], [3, 4]]
    """
    longest = int(np.argmax(sizes[rows].max(axis=1)))
    rows = np.concatenate([rows[[longest]], np.delete(rows, longest)])
    batches: list[np.ndarray] = []
    while len(rows):

        def fits(count: int, rows: np.ndarray = rows) -> bool:
            return packed_size(sizes[rows[:count]].ravel()) <= tokens

        # Doubled until too many, and then halved in between.
        some, many = 1, 2
        while many <= len(rows) and fits(many):
            some, many = many, 2 * many
        many = min(many, len(rows) + 1)
        while many - some > 1:
            middle = (some + many) // 2
            some, many = (middle, many) if fits(middle) else (some, middle)
        batches.append(rows[:some])
        rows = rows[some:]
    return batches


class Split(NamedTuple):
    """How the rows of a step, or of an evaluation, are split into micro-batches.

    Attributes
    ----------
    lengths, per_example
        Tokens of the longest sequence of each example, ``(n,)``, and how many sequences it has.
    accumulation
        Micro-batches of a step on each process, where no tokens are counted.
    tokens
        The most tokens of a micro-batch, padding included; None counts examples.
    couples
        Whether the loss couples the examples of a micro-batch, so that they are not regrouped.
    packed
        Tokens of each sequence of each example, ``(n, S)``, where sequences share rows; else None.
    """

    lengths: np.ndarray
    per_example: int
    accumulation: int
    tokens: int | None
    couples: bool
    packed: np.ndarray | None = None

    def of_step(self, batch: np.ndarray, processes: int) -> list[np.ndarray]:
        """Return the micro-batches of a step, those of all processes one after the other.

        As many for each process: some are empty if there are too few rows.
        """
        if self.tokens is None:
            parts = processes * self.accumulation
            return micro_batches(batch, self.lengths, parts, regroup=not self.couples)
        found = self._of_tokens(batch, self.tokens)
        return found + [batch[:0]] * (-len(found) % processes)

    def of_evaluation(self, size: int) -> list[np.ndarray]:
        """Return all rows in batches, where no tokens are counted of about ``size`` examples."""
        rows = np.arange(len(self.lengths))
        if self.tokens is not None:
            return self._of_tokens(rows, self.tokens)
        if self.couples:
            return np.array_split(rows, max(1, len(rows) // size))
        return np.array_split(np.argsort(self.lengths, kind="stable"), -(-len(rows) // size))

    def _of_tokens(self, rows: np.ndarray, tokens: int) -> list[np.ndarray]:
        """Return rows in batches of at most so many tokens, padding included."""
        if self.packed is not None:
            return packed_batches(rows, self.packed, tokens)
        return token_batches(rows, self.lengths * self.per_example, tokens)

    def check(self, name: str) -> None:
        """Raise unless tokens can be counted, and a micro-batch holds each example of ``name``."""
        if self.tokens is None:
            return
        if self.couples:
            raise ValueError(
                "the loss couples the examples of its micro-batch, which a number of tokens would"
                " choose by their lengths; leave micro_batch_tokens out"
            )
        sizes = self.lengths * self.per_example
        if self.packed is not None:
            sizes = np.asarray([packed_size(each) for each in self.packed])
        longest = int(np.argmax(sizes))
        if sizes[longest] > self.tokens:
            how = "" if self.packed is None else " at most, packed"
            raise ValueError(
                f"micro_batch_tokens must be >= {sizes[longest]}, the tokens of example {longest}"
                f" of {name} ({self.per_example} sequences of {self.lengths[longest]}{how}), got"
                f" {self.tokens}"
            )


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
