"""Single completions with a judgement each, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prefsim.checks import check_unit_interval
from prefsim.containers import JudgedLogps, UnpairedLogps, stacked
from prefsim.lm.data.text_data import TextData, TokenLogps, column_like
from prefsim.lm.model.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TextFeedback"]


@dataclass(frozen=True, init=False, eq=False)
class TextFeedback(TextData):
    """Single completions with a judgement each, in the ecosystem's columns.

    The text counterpart of :class:`prefsim.data.Feedback`.

    Parameters
    ----------
    prompt, completion
        Lists of text, chat messages or token ids.
    label
        Booleans, or the probability in [0, 1] that the completion is desirable; a soft label enters
        a loss of :class:`prefsim.losses.UnpairedLogps` once desirable and once not. For losses of
        :class:`prefsim.losses.JudgedLogps`, whose completions are drawn from the policy itself, it
        is the probability to be preferred to the opponent's.
    weight
        Relative weight of each row, >= 0; equal unless given.

    Raises
    ------
    ValueError
        If columns differ in length, an entry is no text, or a number is out of range.
    """

    kinds: ClassVar[tuple[type, ...]] = (UnpairedLogps, JudgedLogps)

    prompt: list[Text]
    completion: list[Text]
    label: np.ndarray
    weight: np.ndarray

    def __init__(
        self, prompt: Sequence[Text], completion: Sequence[Text], label: Any, *, weight: Any = None
    ) -> None:
        self._store(
            {"prompt": prompt, "completion": completion},
            {"label": np.asarray(label), "weight": weight},
        )
        check_unit_interval(self.label, "label")

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return the completions."""
        self.check(kind)
        return [[row] for row in zip(self.prompt, self.completion, strict=True)]

    def container(self, kind: type, token_logps: TokenLogps) -> tuple[Any, Tensor]:
        """Return sequence log-probabilities with thumbs, or tokens' with win probabilities."""
        import torch

        self.check(kind)
        completion = token_logps.of_sequence(0)
        weight = column_like(self.weight, completion.logp)
        label = column_like(self.label, completion.logp)
        if kind is JudgedLogps:
            judged = JudgedLogps(
                logp=completion.logp,
                ref_logp=completion.ref_logp,
                mask=completion.mask,
                win_prob=label,
            )
            return judged, weight
        liked = UnpairedLogps(
            logp=completion.sums,
            ref_logp=completion.ref_sums,
            desirable=label > 0.5,
            length=completion.lengths,
        )
        if np.isin(self.label, (0.0, 1.0)).all():
            return liked, weight
        everywhere = torch.ones_like(label, dtype=torch.bool)
        both = stacked(
            liked._replace(desirable=everywhere), liked._replace(desirable=~everywhere), axis=0
        )
        return both, torch.cat([weight * label, weight * (1 - label)])
