"""Prompts with K completions each and a number for each: what rankings and rollouts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim.checks import as_float_array
from prefsim.lm.data.text_data import TextData, as_lists_of_texts
from prefsim.lm.model.tokens import Text

__all__ = ["ScoredLists"]


@dataclass(frozen=True, init=False, eq=False)
class ScoredLists(TextData):
    """Prompts with K completions each, ``(n, K)`` scores and relative weights."""

    prompt: list[Text]
    completions: list[list[Text]]
    scores: np.ndarray
    weight: np.ndarray

    def _store_lists(
        self,
        prompt: Sequence[Text],
        completions: Sequence[Sequence[Text]],
        scores: Any,
        *,
        weight: Any,
        of_tokens: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the columns, those ``of_tokens`` as ``(n, K, T)`` or None, or raise."""
        rows, k = as_lists_of_texts(completions, "completions")
        table = as_float_array(scores, "scores", ndim=2 if rows else None)
        if rows and table.shape != (len(rows), k):
            raise ValueError(
                f"scores must have shape {(len(rows), k)}, one for each completion, got"
                f" {table.shape}"
            )
        tokens = {
            name: _of_tokens(column, name, table.shape)
            for name, column in (of_tokens or {}).items()
        }
        self._store(
            {"prompt": prompt},
            {"scores": table.reshape(len(rows), k), "weight": weight},
            completions=rows,
            **tokens,
        )
        if len(rows) != len(self):
            raise ValueError(
                f"completions must have as many rows as prompt, {len(self)}, got {len(rows)}"
            )

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return the completions of each prompt."""
        self.check(kind)
        return [[(x, y) for y in row] for x, row in zip(self.prompt, self.completions, strict=True)]


def _of_tokens(column: Any, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return numbers of tokens ``(n, K, T)``, or raise."""
    if column is None:
        return None
    found = as_float_array(column, name, ndim=3)
    if found.shape[:-1] != shape:
        raise ValueError(f"{name} must be (n, K, T) for {shape} completions, got {found.shape}")
    return found
