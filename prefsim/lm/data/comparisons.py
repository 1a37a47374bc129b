"""Prompts with two completions each, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prefsim.checks import check_callable, check_unit_interval
from prefsim.containers import (
    PairLogps,
    PairRewards,
    SelfImprovementLogps,
    TokenPairLogps,
    stacked,
)
from prefsim.data.strength import LabelTreatment
from prefsim.lm.data.text_data import TextData, TokenLogps, column_like
from prefsim.lm.model.tokens import Text
from prefsim.numerics import to_numpy

if TYPE_CHECKING:
    from torch import Tensor

Revise = Callable[[Text, Text], Text]

__all__ = ["Revise", "TextComparisons", "revision_prompt"]

# The sequences of an example of self-improvement, as SelfImprovementLogps calls them.
_ANSWERS_AND_REVISIONS = (
    "chosen",
    "rejected",
    "chosen_from_rejected",
    "rejected_from_chosen",
    "chosen_from_chosen",
    "rejected_from_rejected",
)


def revision_prompt(prompt: Text, draft: Text) -> Text:
    """Return the prompt that asks to improve ``draft``: the prompt, the draft and a request.

    Of token ids the first two alone.

    The papers' own wording is not known; give another function where it matters.
    """
    request = "Improve the answer above."
    if isinstance(prompt, str) and isinstance(draft, str):
        return f"{prompt}{draft}\n\n{request}\n\n"
    are_ids = not isinstance(draft, str) and not (len(draft) and isinstance(draft[0], Mapping))
    if len(prompt) and isinstance(prompt[0], Mapping) and not are_ids:
        answer = (
            [{"role": "assistant", "content": draft}] if isinstance(draft, str) else list(draft)
        )
        return [*prompt, *answer, {"role": "user", "content": request}]
    if isinstance(prompt, str) or isinstance(draft, str) or isinstance(prompt[0], Mapping):
        raise ValueError(
            "a prompt that shows a draft needs both as text, both as token ids, or the prompt as"
            " chat messages and the draft as text or messages"
        )
    return [*prompt, *draft]


@dataclass(frozen=True, init=False, eq=False)
class TextComparisons(TextData):
    """Prompts with two completions each, in the ecosystem's columns.

    The text counterpart of :class:`prefsim.data.Comparisons`.

    Parameters
    ----------
    prompt, chosen, rejected
        Lists of text, chat messages or token ids.
    prob
        P(chosen ≻ rejected) in [0, 1] of each row; 1 unless given. A soft label enters the loss
        both ways round, weighted by it.
    weight
        Relative weight of each row, >= 0; equal unless given.
    chosen_score, rejected_score
        External judgements, for losses that use their size.
    margin
        By how much the reward of the chosen completion is to be ahead, negative where its label is
        doubted, for losses of :class:`prefsim.losses.PairRewards`; no others see it.
    old_chosen, old_rejected
        Log-probabilities in nats under the policy that drew the completions, for losses that weigh
        or clip by it.
    rejected_prompt
        The prompts of the rejected completions where they are others, as in unlearning
        (:func:`prefsim.losses.npo_rt`): one text is retained, another forgotten.
    revise
        Prompt and draft to the prompt that asks to improve the draft, for losses of
        :class:`prefsim.losses.SelfImprovementLogps`.

    Raises
    ------
    ValueError
        If columns differ in length, an entry is no text, a number is out of range, or one of a pair
        of columns is missing.

    Examples
    --------
    >>> prompts = ["Good film?", "Bad film?"]
    >>> pairs = TextComparisons(prompts, [" Yes.", " No."], [" No.", " Yes."], prob=[0.9, 1.0])
    >>> len(pairs), pairs.take([1]).chosen
    (2, [' No.'])
    """

    kinds: ClassVar[tuple[type, ...]] = (
        PairLogps,
        TokenPairLogps,
        SelfImprovementLogps,
        PairRewards,
    )

    prompt: list[Text]
    chosen: list[Text]
    rejected: list[Text]
    prob: np.ndarray
    weight: np.ndarray
    chosen_score: np.ndarray | None
    rejected_score: np.ndarray | None
    margin: np.ndarray | None
    old_chosen: np.ndarray | None
    old_rejected: np.ndarray | None
    rejected_prompt: list[Text] | None
    revise: Revise

    def __init__(
        self,
        prompt: Sequence[Text],
        chosen: Sequence[Text],
        rejected: Sequence[Text],
        *,
        prob: Any = None,
        weight: Any = None,
        chosen_score: Any = None,
        rejected_score: Any = None,
        margin: Any = None,
        old_chosen: Any = None,
        old_rejected: Any = None,
        rejected_prompt: Sequence[Text] | None = None,
        revise: Revise = revision_prompt,
    ) -> None:
        check_callable(revise=revise)
        texts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        if rejected_prompt is not None:
            texts["rejected_prompt"] = rejected_prompt
        sides = {
            "chosen_score": chosen_score,
            "rejected_score": rejected_score,
            "old_chosen": old_chosen,
            "old_rejected": old_rejected,
        }
        for kind in ("score", "old"):
            given = [name for name, column in sides.items() if kind in name and column is not None]
            if len(given) == 1:
                raise ValueError(
                    f"columns of both completions or of none are needed, got {given[0]} alone"
                )
        self._store(
            texts,
            {"prob": prob, "weight": weight, "margin": margin, **sides},
            revise=revise,
        )
        if rejected_prompt is None:
            object.__setattr__(self, "rejected_prompt", None)
        if prob is None:
            object.__setattr__(self, "prob", np.ones(len(self)))
        check_unit_interval(self.prob, "prob")

    def treated(self, treatment: LabelTreatment[Any]) -> TextComparisons:
        """Return the pairs with their labels treated: exchanged, softened, or with a margin.

        Parameters
        ----------
        treatment
            Of each pair, ``(n,)``, by :func:`prefsim.data.strength.treat_labels`. Its margin is
            added to one that a pair has, and losses of log-probabilities do not see it.

        Raises
        ------
        ValueError
            If it is not of as many pairs, a pair is to have a soft label and a margin (the margin
            would be that of both orders), or prompts differ within a pair that is to be exchanged.
        """
        flipped, margin, alpha = (np.asarray(to_numpy(part)) for part in treatment)
        if not flipped.shape == margin.shape == alpha.shape == (len(self),):
            raise ValueError(f"treatment must be of {len(self)} pairs, got shape {flipped.shape}")
        if ((alpha > 0) & (margin != 0)).any():
            raise ValueError("treatment must give no pair a soft label and a margin, got both")
        if self.rejected_prompt is not None and flipped.any():
            raise ValueError("pairs with a rejected_prompt of their own cannot be exchanged")
        kept = {name: getattr(self, name) for name in ("prompt", "weight", "rejected_prompt")}
        sides: dict[str, Any] = {}
        for one, other in (
            ("chosen", "rejected"),
            ("chosen_score", "rejected_score"),
            ("old_chosen", "old_rejected"),
        ):
            columns = getattr(self, one), getattr(self, other)
            sides[one], sides[other] = (
                column if column is None else _exchanged(column, flipped, instead)
                for column, instead in zip(columns, columns[::-1], strict=True)
            )
        own = np.zeros(len(self)) if self.margin is None else self.margin
        return TextComparisons(
            **kept,
            **sides,
            prob=(1 - alpha) * self.prob + alpha * (1 - self.prob),
            margin=own + margin,
            revise=self.revise,
        )

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return chosen and rejected, then for self-improvement the revisions of each from each."""
        self.check(kind)
        if kind is SelfImprovementLogps:
            if self.rejected_prompt is not None:
                raise ValueError(
                    "losses of SelfImprovementLogps improve answers to one prompt, got"
                    " rejected_prompt"
                )
            rows = zip(self.prompt, self.chosen, self.rejected, strict=True)
            return [self._answers_and_revisions(*row) for row in rows]
        chosen = zip(self.prompt, self.chosen, strict=True)
        rejected = zip(self.rejected_prompt or self.prompt, self.rejected, strict=True)
        return [list(both) for both in zip(chosen, rejected, strict=True)]

    def _answers_and_revisions(
        self, prompt: Text, chosen: Text, rejected: Text
    ) -> list[tuple[Text, Text]]:
        answers = {"chosen": chosen, "rejected": rejected}
        prompts = {"": prompt} | {
            name: self.revise(prompt, draft) for name, draft in answers.items()
        }
        sequences = []
        for name in _ANSWERS_AND_REVISIONS:
            answer, _, draft = name.partition("_from_")
            sequences.append((prompts[draft], answers[answer]))
        return sequences

    def container(self, kind: type, token_logps: TokenLogps) -> tuple[Any, Tensor]:
        """Return the pairs, then, where labels are soft, the same pairs the other way round."""
        self.check(kind)
        weight = column_like(self.weight, token_logps.logp)
        if kind is SelfImprovementLogps:
            return self._self_improvement(token_logps), weight
        chosen, rejected = token_logps.of_sequence(0), token_logps.of_sequence(1)
        pairs = (
            _token_pairs(chosen, rejected)
            if kind is TokenPairLogps
            else self._pairs(chosen, rejected)
        )
        return self._both_ways(pairs, weight)

    def scored(self, kind: type, scores: Tensor) -> tuple[Any, Tensor]:
        """Return the rewards of chosen and rejected, soft labels as in :meth:`container`."""
        self.check(kind)
        reward = scores[..., 0]
        margin = None if self.margin is None else column_like(self.margin, reward)
        pairs = PairRewards(chosen=reward[:, 0], rejected=reward[:, 1], margin=margin)
        return self._both_ways(pairs, column_like(self.weight, reward))

    def _both_ways(self, pairs: Any, weight: Tensor) -> tuple[Any, Tensor]:
        """Return pairs, then, where labels are soft, the same the other way round."""
        import torch

        if (self.prob == 1).all():
            return pairs, weight
        prob = column_like(self.prob, weight)
        both = stacked(pairs, pairs.swapped(), axis=0)
        return both, torch.cat([weight * prob, weight * (1 - prob)])

    def _pairs(self, chosen: TokenLogps, rejected: TokenLogps) -> PairLogps:
        names = ("chosen_score", "rejected_score", "old_chosen", "old_rejected")
        columns = {name: getattr(self, name) for name in names}
        return PairLogps(
            chosen=chosen.sums,
            rejected=rejected.sums,
            ref_chosen=chosen.ref_sums,
            ref_rejected=rejected.ref_sums,
            chosen_length=chosen.lengths,
            rejected_length=rejected.lengths,
            **{
                name: None if column is None else column_like(column, chosen.logp)
                for name, column in columns.items()
            },
        )

    def _self_improvement(self, token_logps: TokenLogps) -> SelfImprovementLogps:
        if (self.prob != 1).any():
            raise ValueError(
                "soft labels have no meaning for losses of SelfImprovementLogps, got prob"
                f" {self.prob.min()}"
            )
        fields: dict[str, Tensor] = {}
        for k, name in enumerate(_ANSWERS_AND_REVISIONS):
            sequence = token_logps.of_sequence(k)
            fields |= {name: sequence.sums, f"ref_{name}": sequence.ref_sums}
        return SelfImprovementLogps(**fields)


def _exchanged(column: Any, where: np.ndarray, other: Any) -> Any:
    """Return a column with the entries of another in some rows."""
    if isinstance(column, np.ndarray):
        return np.where(where, other, column)
    return [there if swap else here for here, there, swap in zip(column, other, where, strict=True)]


def _token_pairs(chosen: TokenLogps, rejected: TokenLogps) -> TokenPairLogps:
    return TokenPairLogps(
        chosen=chosen.logp,
        rejected=rejected.logp,
        ref_chosen=chosen.ref_logp,
        ref_rejected=rejected.ref_logp,
        chosen_mask=chosen.mask,
        rejected_mask=rejected.mask,
        chosen_kl=chosen.kl,
        rejected_kl=rejected.kl,
        chosen_collision=chosen.collision,
        rejected_collision=rejected.collision,
        chosen_reward_weight=chosen.reward_weight,
        rejected_reward_weight=rejected.reward_weight,
        chosen_kl_weight=chosen.kl_weight,
        rejected_kl_weight=rejected.kl_weight,
    )
