"""Examples that say nothing, or the opposite of each other, once they are tokens."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from prefsim.lm.data.comparisons import TextComparisons
from prefsim.lm.data.feedback import TextFeedback
from prefsim.lm.data.text_data import TextData
from prefsim.lm.model.tokens import Ids
from prefsim.lm.training.token_rows import TokenRows

__all__ = ["PairFaults", "pair_faults"]


class PairFaults(NamedTuple):
    """What a loss of preferences cannot learn from.

    Attributes
    ----------
    equal
        Examples whose two completions are the same tokens: no margin ever moves.
    contradictory
        Examples that are the opposite of an earlier one, and that one: the same completions of the
        same prompt, preferred the other way round or judged otherwise.
    """

    equal: tuple[int, ...]
    contradictory: tuple[tuple[int, int], ...]


def pair_faults(rows: TokenRows, data: TextData) -> PairFaults:
    """Return the faults of compared pairs and single judgements; of other data there are none.

    Parameters
    ----------
    rows
        The sequences of ``data`` as tokens.
    data
        Labels of one half contradict nothing.
    """
    equal: list[int] = []
    contradictory: list[tuple[int, int]] = []
    seen: dict[tuple[bytes, ...], tuple[int, float]] = {}
    if isinstance(data, TextComparisons):
        direction = np.sign(2 * data.prob - 1)
    elif isinstance(data, TextFeedback):
        direction = np.sign(2 * data.label - 1)
    else:
        return PairFaults((), ())
    for example, sign in enumerate(direction.tolist()):
        # Further sequences are of the method (revisions, mismatched completions), not of the data.
        first = rows.tokens[example * rows.per_example]
        marks = [_mark(first.prompt_ids), _mark(first.completion_ids)]
        if isinstance(data, TextComparisons):
            second = rows.tokens[example * rows.per_example + 1]
            if second == first:
                equal.append(example)
                continue
            other = [_mark(second.prompt_ids), _mark(second.completion_ids)]
            if other < marks:
                marks, other, sign = other, marks, -sign
            marks += other
        key = tuple(marks)
        if sign and key in seen and seen[key][1] == -sign:
            contradictory.append((example, seen[key][0]))
        elif sign:
            seen.setdefault(key, (example, sign))
    return PairFaults(tuple(equal), tuple(contradictory))


def _mark(ids: Ids) -> bytes:
    # Of a large file the texts themselves would be kept twice.
    return hashlib.blake2b(np.asarray(ids, dtype=np.int64).tobytes(), digest_size=16).digest()
