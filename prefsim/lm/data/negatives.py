"""Prompts with a rejected completion and samples that anchor the policy, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prefsim.checks import as_float_array
from prefsim.containers import AnchoredLogps
from prefsim.lm.data.text_data import TextData, TokenLogps, as_lists_of_texts, column_like
from prefsim.lm.model.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TextNegatives"]


@dataclass(frozen=True, init=False, eq=False)
class TextNegatives(TextData):
    """Prompts with a rejected completion and K samples that anchor the policy.

    For losses of :class:`prefsim.losses.AnchoredLogps`; the text counterpart of
    :class:`prefsim.data.Negatives`.

    Parameters
    ----------
    prompt, rejected
        Lists of text, chat messages or token ids.
    samples
        As many lists of K of them, drawn from the reference or the policy.
    sample_weight
        ``(n, K)``, each row >= 0; 1/K unless given.
    weight
        Relative weight of each row, >= 0; equal unless given.
    """

    kinds: ClassVar[tuple[type, ...]] = (AnchoredLogps,)

    prompt: list[Text]
    rejected: list[Text]
    samples: list[list[Text]]
    sample_weight: np.ndarray | None
    weight: np.ndarray

    def __init__(
        self,
        prompt: Sequence[Text],
        rejected: Sequence[Text],
        samples: Sequence[Sequence[Text]],
        *,
        sample_weight: Any = None,
        weight: Any = None,
    ) -> None:
        rows, k = as_lists_of_texts(samples, "samples")
        table = (
            None
            if sample_weight is None
            else as_float_array(sample_weight, "sample_weight", ndim=2)
        )
        if table is not None and (table.shape != (len(rows), k) or (table < 0).any()):
            raise ValueError(
                f"sample_weight must be >= 0 of shape {(len(rows), k)}, got shape {table.shape} and"
                f" least value {table.min()}"
            )
        self._store(
            {"prompt": prompt, "rejected": rejected},
            {"sample_weight": table, "weight": weight},
            samples=rows,
        )
        if len(rows) != len(self):
            raise ValueError(
                f"samples must have as many rows as prompt, {len(self)}, got {len(rows)}"
            )

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return the rejected completion and the samples of each prompt."""
        self.check(kind)
        return [
            [(x, y) for y in (low, *row)]
            for x, low, row in zip(self.prompt, self.rejected, self.samples, strict=True)
        ]

    def container(self, kind: type, token_logps: TokenLogps) -> tuple[Any, Tensor]:
        """Return sequence log-probabilities of the rejected completion and of the samples."""
        self.check(kind)
        logps, ref_logps = token_logps.sums, token_logps.ref_sums
        sample_weight = self.sample_weight
        anchored = AnchoredLogps(
            rejected=logps[:, 0],
            ref_rejected=ref_logps[:, 0],
            samples=logps[:, 1:],
            ref_samples=ref_logps[:, 1:],
            sample_weight=None if sample_weight is None else column_like(sample_weight, logps),
        )
        return anchored, column_like(self.weight, logps)
