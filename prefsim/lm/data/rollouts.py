"""Prompts with K completions that a policy drew, their rewards and how likely each token was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prefsim.checks.quoting import shown
from prefsim.containers import ListLogps, TokenListLogps, TokenValues
from prefsim.lm.data.scored_lists import ScoredLists
from prefsim.lm.data.text_data import TokenLogps, column_like
from prefsim.lm.model.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TextRollouts"]


@dataclass(frozen=True, init=False, eq=False)
class TextRollouts(ScoredLists):
    """Prompts with K completions each that a policy drew, and their rewards.

    For losses of :class:`prefsim.losses.ListLogps` and :class:`prefsim.losses.TokenListLogps`, and
    with returns for those of :class:`prefsim.losses.TokenValues`; the text counterpart of
    :class:`prefsim.data.Rollouts`. Draw them by :func:`prefsim.lm.draw_scored`.

    Parameters
    ----------
    prompt
        List of text, chat messages or token ids.
    completions
        As many lists of K of them, as they were drawn: token ids.
    scores
        Rewards ``(n, K)``.
    old_logp
        ``(n, K, T)`` in nats, of every token under the policy that drew it, 0 behind the end, with
        T at least the length of the longest completion; the policy as training finds it in each
        step unless given.
    advantage
        ``(n, K, T)``, of every token, where a value function says so
        (:func:`prefsim.lm.with_values`).
    returns, old_values
        ``(n, K, T)``, what came after each token, and what the value function had expected; they
        train it.
    weight
        Relative weight of each row, >= 0; equal unless given.

    Raises
    ------
    ValueError
        If columns differ in length, an entry is no text, or a number is not finite.

    Examples
    --------
    >>> drawn = TextRollouts([[5, 6]], [[[7], [8, 9]]], [[0.0, 1.0]])
    >>> len(drawn), drawn.scores.shape
    (1, (1, 2))
    """

    kinds: ClassVar[tuple[type, ...]] = (ListLogps, TokenListLogps, TokenValues)

    old_logp: np.ndarray | None
    advantage: np.ndarray | None
    returns: np.ndarray | None
    old_values: np.ndarray | None

    def __init__(
        self,
        prompt: Sequence[Text],
        completions: Sequence[Sequence[Text]],
        scores: Any,
        *,
        old_logp: Any = None,
        advantage: Any = None,
        returns: Any = None,
        old_values: Any = None,
        weight: Any = None,
    ) -> None:
        self._store_lists(
            prompt,
            completions,
            scores,
            weight=weight,
            of_tokens={
                "old_logp": old_logp,
                "advantage": advantage,
                "returns": returns,
                "old_values": old_values,
            },
        )

    def container(self, kind: type, token_logps: TokenLogps) -> tuple[Any, Tensor]:
        """Return log-probabilities of tokens, or of whole completions, with the rewards."""
        self.check(kind)
        logp = token_logps.logp
        scores = column_like(self.scores, logp)
        given = {
            name: self._column(name, logp)
            for name in ("old_logp", "advantage")
            if getattr(self, name) is not None
        }
        weight = column_like(self.weight, logp)
        if kind is TokenListLogps:
            tokens = TokenListLogps(
                logp=logp,
                ref_logp=token_logps.ref_logp,
                mask=token_logps.mask,
                scores=scores,
                **given,
            )
            return tokens, weight
        old = given.get("old_logp")
        lists = ListLogps(
            logps=token_logps.sums,
            ref_logps=token_logps.ref_sums,
            scores=scores,
            old_logps=None if old is None else (old * token_logps.mask).sum(dim=-1),
        )
        return lists, weight

    def scored(self, kind: type, scores: Tensor) -> tuple[Any, Tensor]:
        """Return the values of tokens with what came of them."""
        import torch

        self.check(kind)
        if kind is not TokenValues:
            raise ValueError(f"a loss of {kind.__name__} takes log-probabilities, got values")
        if self.returns is None:
            raise ValueError("returns must be given to fit a value function: see with_values")
        width = scores.shape[-1]
        lengths = torch.as_tensor(self.lengths(), device=scores.device)
        values = TokenValues(
            values=scores,
            returns=self._column("returns", scores),
            mask=torch.arange(width, device=scores.device) < lengths[..., None],
            old_values=None if self.old_values is None else self._column("old_values", scores),
        )
        return values, column_like(self.weight, scores)

    def lengths(self) -> np.ndarray:
        """Return the numbers of tokens of the completions, ``(n, K)``.

        Raises
        ------
        ValueError
            If a completion is not token ids, of which alone that is known.
        """
        for row in self.completions:
            for each in row:
                if isinstance(each, str) or not all(isinstance(x, int | np.integer) for x in each):
                    raise ValueError(
                        f"completions must be token ids, as they were drawn, got {shown(each)}"
                    )
        counts = [[len(each) for each in row] for row in self.completions]
        return np.asarray(counts, dtype=np.int64).reshape(self.scores.shape)

    def mask(self) -> np.ndarray:
        """Return which places hold a token, boolean ``(n, K, T)`` up to the longest completion.

        Raises
        ------
        ValueError
            If a completion is not token ids.
        """
        lengths = self.lengths()
        return np.arange(int(lengths.max(initial=0))) < lengths[..., None]

    def _column(self, name: str, logp: Tensor) -> Tensor:
        """Return the numbers of the tokens that are there, ``(n, K, T)`` as ``logp``."""
        column, width = getattr(self, name), logp.shape[-1]
        if column.shape[-1] < width:
            raise ValueError(
                f"{name} must have a number for every token of the longest completion, {width}, got"
                f" {column.shape[-1]}"
            )
        return column_like(column[..., :width], logp)
