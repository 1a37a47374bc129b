"""Prompts with K scored completions each, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from prefsim.containers import ListLogps
from prefsim.lm.data.scored_lists import ScoredLists
from prefsim.lm.data.text_data import TokenLogps, column_like
from prefsim.lm.model.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TextRankings"]


@dataclass(frozen=True, init=False, eq=False)
class TextRankings(ScoredLists):
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

    def __init__(
        self,
        prompt: Sequence[Text],
        completions: Sequence[Sequence[Text]],
        scores: Any,
        *,
        weight: Any = None,
    ) -> None:
        self._store_lists(prompt, completions, scores, weight=weight)

    def container(self, kind: type, token_logps: TokenLogps) -> tuple[Any, Tensor]:
        """Return sequence log-probabilities and scores."""
        self.check(kind)
        logps = token_logps.sums
        lists = ListLogps(
            logps=logps, ref_logps=token_logps.ref_sums, scores=column_like(self.scores, logps)
        )
        return lists, column_like(self.weight, logps)
