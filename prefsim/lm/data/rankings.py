"""Prompts with K scored completions each, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prefsim.checks import as_float_array
from prefsim.containers import ListLogps
from prefsim.lm.data.text_data import TextData, TokenLogps, as_lists_of_texts, column_like
from prefsim.lm.model.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TextRankings"]


@dataclass(frozen=True, init=False, eq=False)
class TextRankings(TextData):
    """Prompts with K scored completions each, in the ecosystem's columns.

    The text counterpart of :class:`prefsim.data.Rankings`.

    Parameters
    ----------
    prompt
        List of text, chat messages or token ids.
    completions
        As many lists of K of them; K is the same for all (losses see an array).
    scores
        ``(n, K)``, higher is better.
    weight
        Relative weight of each row, >= 0; equal unless given.

    Raises
    ------
    ValueError
        If columns differ in length, an entry is no text, or a number is not finite.
    """

    kinds: ClassVar[tuple[type, ...]] = (ListLogps,)

    prompt: list[Text]
    completions: list[list[Text]]
    scores: np.ndarray
    weight: np.ndarray

    def __init__(
        self,
        prompt: Sequence[Text],
        completions: Sequence[Sequence[Text]],
        scores: Any,
        *,
        weight: Any = None,
    ) -> None:
        rows, k = as_lists_of_texts(completions, "completions")
        table = as_float_array(scores, "scores", ndim=2 if rows else None)
        if rows and table.shape != (len(rows), k):
            raise ValueError(
                f"scores must have shape {(len(rows), k)}, one for each completion, got"
                f" {table.shape}"
            )
        self._store(
            {"prompt": prompt},
            {"scores": table.reshape(len(rows), k), "weight": weight},
            completions=rows,
        )
        if len(rows) != len(self):
            raise ValueError(
                f"completions must have as many rows as prompt, {len(self)}, got {len(rows)}"
            )

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return the completions of each prompt."""
        self.check(kind)
        return [[(x, y) for y in row] for x, row in zip(self.prompt, self.completions, strict=True)]

    def container(self, kind: type, token_logps: TokenLogps) -> tuple[Any, Tensor]:
        """Return sequence log-probabilities and scores."""
        self.check(kind)
        logps = token_logps.sums
        lists = ListLogps(
            logps=logps, ref_logps=token_logps.ref_sums, scores=column_like(self.scores, logps)
        )
        return lists, column_like(self.weight, logps)
