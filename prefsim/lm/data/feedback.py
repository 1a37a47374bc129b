"""Single completions with a judgement each, as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prefsim.backend import Seed
from prefsim.checks import check_unit_interval
from prefsim.containers import JudgedLogps, UnpairedLogps, stacked
from prefsim.data.mismatched import rows_of_other_prompts
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
    mismatched
        A completion of another prompt for each row, for the reference point of
        :func:`prefsim.losses.kto`; see :meth:`with_mismatched`. It doubles what is computed.
    density_ratio
        How much likelier the prompt of a row is among desirable completions than among others, >=
        0, for :func:`prefsim.losses.bco_unpaired`; see :func:`prefsim.lm.match_prompts`.

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
    mismatched: list[Text] | None
    density_ratio: np.ndarray | None

    def __init__(
        self,
        prompt: Sequence[Text],
        completion: Sequence[Text],
        label: Any,
        *,
        weight: Any = None,
        mismatched: Sequence[Text] | None = None,
        density_ratio: Any = None,
    ) -> None:
        texts = {"prompt": prompt, "completion": completion}
        if mismatched is not None:
            texts["mismatched"] = mismatched
        numbers = {"label": np.asarray(label), "weight": weight, "density_ratio": density_ratio}
        self._store(texts, numbers)
        check_unit_interval(self.label, "label")
        if mismatched is None:
            object.__setattr__(self, "mismatched", None)
        if self.density_ratio is not None and (self.density_ratio < 0).any():
            raise ValueError(f"density_ratio must be >= 0, got {self.density_ratio.min()}")

    def with_mismatched(self, *, seed: Seed) -> TextFeedback:
        """Return the same rows, each with a completion that belongs to another prompt.

        Parameters
        ----------
        seed
            Of the draw, from all rows of other prompts alike.

        Raises
        ------
        ValueError
            If all rows have one prompt.
        """
        other = rows_of_other_prompts([_key(prompt) for prompt in self.prompt], seed=seed)
        return replace(self, mismatched=[self.completion[row] for row in other])

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return the completions, each with its mismatched one where that is needed."""
        self.check(kind)
        own = zip(self.prompt, self.completion, strict=True)
        if self.mismatched is None or kind is not UnpairedLogps:
            return [[row] for row in own]
        other = zip(self.prompt, self.mismatched, strict=True)
        return [list(both) for both in zip(own, other, strict=True)]

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
        if self.mismatched is not None:
            other = token_logps.of_sequence(1)
            liked = liked._replace(mismatched=other.sums.detach(), ref_mismatched=other.ref_sums)
        if self.density_ratio is not None:
            liked = liked._replace(density_ratio=column_like(self.density_ratio, completion.logp))
        if np.isin(self.label, (0.0, 1.0)).all():
            return liked, weight
        everywhere = torch.ones_like(label, dtype=torch.bool)
        both = stacked(
            liked._replace(desirable=everywhere), liked._replace(desirable=~everywhere), axis=0
        )
        return both, torch.cat([weight * label, weight * (1 - label)])


def _key(prompt: Text) -> str:
    """Return what tells prompts of any form apart."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, default=int)
