"""Text to train on, in the ecosystem's columns, and the containers of the losses built from its log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from prefsim.checks import as_float_array, check_callable, check_unit_interval
from prefsim.containers import (
    AnchoredLogps,
    JudgedLogps,
    ListLogps,
    PairLogps,
    SelfImprovementLogps,
    TokenPairLogps,
    UnpairedLogps,
)
from prefsim.data.columns import both_ways
from prefsim.lm.model.tokens import Text
from prefsim.lm.training.text_rows import Scored, TextData, as_texts

if TYPE_CHECKING:
    from torch import Tensor

Revise = Callable[[Text, Text], Text]

__all__ = [
    "Scored",
    "TextComparisons",
    "TextData",
    "TextFeedback",
    "TextNegatives",
    "TextRankings",
    "revision_prompt",
]


def _like(column: np.ndarray, other: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(column, dtype=other.dtype, device=other.device)


def _sums(values: Tensor) -> Tensor:
    return values.sum(dim=-1)


def _split(value: Tensor | None, count: int) -> list[Tensor | None]:
    return [None] * count if value is None else list(value.unbind(dim=1))


def revision_prompt(prompt: Text, draft: Text) -> Text:
    """Return the prompt that asks to improve ``draft``: the prompt, the draft and a request.

    Of token ids the first two alone.

    The papers' own wording is not known; give another function where it matters.
    """
    request = "Improve the answer above."
    if isinstance(prompt, str) and isinstance(draft, str):
        return f"{prompt}{draft}\n\n{request}\n\n"
    if len(prompt) and isinstance(prompt[0], Mapping):
        answer = (
            [{"role": "assistant", "content": draft}] if isinstance(draft, str) else list(draft)
        )
        return [*prompt, *answer, {"role": "user", "content": request}]
    if isinstance(prompt, str) or isinstance(draft, str):
        raise ValueError(
            "a prompt that shows a draft needs both as text, both as token ids or the prompt as"
            " chat messages"
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
    old_chosen, old_rejected
        Log-probabilities in nats under the policy that drew the completions, for losses that weigh
        or clip by it.
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
    >>> pairs = TextComparisons(["Good film?", "Bad film?"], [" Yes.", " No."], [" No.", " Yes."], prob=[0.9, 1.0])
    >>> len(pairs), pairs.take([1]).chosen
    (2, [' No.'])
    """

    kinds: ClassVar[tuple[type, ...]] = (PairLogps, TokenPairLogps, SelfImprovementLogps)

    prompt: list[Text]
    chosen: list[Text]
    rejected: list[Text]
    prob: np.ndarray
    weight: np.ndarray
    chosen_score: np.ndarray | None
    rejected_score: np.ndarray | None
    old_chosen: np.ndarray | None
    old_rejected: np.ndarray | None
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
        old_chosen: Any = None,
        old_rejected: Any = None,
        revise: Revise = revision_prompt,
    ) -> None:
        check_callable(revise=revise)
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
        prob = np.ones(len(prompt)) if prob is None else as_float_array(prob, "prob")
        self._store(
            {"prompt": prompt, "chosen": chosen, "rejected": rejected},
            {"prob": prob, "weight": weight, **sides},
            revise=revise,
        )
        check_unit_interval(self.prob, "prob")

    def sequences(self, kind: type) -> list[list[tuple[Text, Text]]]:
        """Return chosen and rejected, then for self-improvement the revisions of each from each."""
        self.check(kind)
        pairs = [
            [(x, w), (x, low)]
            for x, w, low in zip(self.prompt, self.chosen, self.rejected, strict=True)
        ]
        if kind is not SelfImprovementLogps:
            return pairs
        drafts = [
            [self.revise(x, draft) for _, draft in row]
            for x, row in zip(self.prompt, pairs, strict=True)
        ]
        return [
            [
                *row,
                (from_low, row[0][1]),
                (from_w, row[1][1]),
                (from_w, row[0][1]),
                (from_low, row[1][1]),
            ]
            for row, (from_w, from_low) in zip(pairs, drafts, strict=True)
        ]

    def container(self, kind: type, scored: Scored) -> tuple[Any, Tensor]:
        """Return the pairs, then, where labels are soft, the same pairs the other way round."""
        self.check(kind)
        weight, prob = _like(self.weight, scored.logp), _like(self.prob, scored.logp)
        if kind is SelfImprovementLogps:
            if (self.prob != 1).any():
                raise ValueError(
                    f"soft labels have no meaning for losses of {kind.__name__}, got prob"
                    f" {self.prob.min()}"
                )
            return kind(*_split(_sums(scored.logp), 6), *_split(_sums(scored.ref_logp), 6)), weight
        if kind is TokenPairLogps:
            parts = [*_split(scored.logp, 2), *_split(scored.ref_logp, 2), *_split(scored.mask, 2)]
            parts += [*_split(scored.kl, 2), *_split(scored.collision, 2)]
        else:
            numbers = (self.chosen_score, self.rejected_score, self.old_chosen, self.old_rejected)
            parts = [*_split(_sums(scored.logp), 2), *_split(_sums(scored.ref_logp), 2)]
            parts += _split(scored.mask.sum(dim=-1).to(scored.logp.dtype), 2)
            parts += [None if column is None else _like(column, scored.logp) for column in numbers]
        if (self.prob == 1).all():
            return kind(*parts), weight
        parts, weight = both_ways(parts, weight, prob, axis=0)
        return kind(*parts), weight


def _joined(first: Tensor, second: Tensor) -> Tensor:
    import torch

    return torch.cat([first, second])


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
        a loss of
        :class:`prefsim.losses.UnpairedLogps` once desirable and once not. For losses of :class:`prefsim.losses.JudgedLogps`, whose
        completions are drawn from the policy itself, it is the probability to be preferred to the
        opponent's.
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

    def container(self, kind: type, scored: Scored) -> tuple[Any, Tensor]:
        """Return sequence log-probabilities with thumbs, or token log-probabilities with win probabilities."""
        self.check(kind)
        weight, label = _like(self.weight, scored.logp), _like(self.label, scored.logp)
        if kind is JudgedLogps:
            return (
                JudgedLogps(scored.logp[:, 0], scored.ref_logp[:, 0], scored.mask[:, 0], label),
                weight,
            )
        length = scored.mask.sum(dim=-1).to(scored.logp.dtype)
        logp, ref_logp, length = (
            _sums(scored.logp)[:, 0],
            _sums(scored.ref_logp)[:, 0],
            length[:, 0],
        )
        if np.isin(self.label, (0.0, 1.0)).all():
            return UnpairedLogps(logp, ref_logp, label > 0.5, length), weight
        desirable = _joined(label >= 0, label < 0)
        twice = [_joined(part, part) for part in (logp, ref_logp, length)]
        return UnpairedLogps(twice[0], twice[1], desirable, twice[2]), _joined(
            weight * label, weight * (1 - label)
        )


def _lists(column: Any, name: str) -> tuple[list[list[Text]], int]:
    """Return lists of texts, all of one length K >= 1, and K."""
    if isinstance(column, str | bytes) or not hasattr(column, "__len__"):
        raise ValueError(f"{name} must be a list of lists, got {type(column).__name__}")
    rows = []
    for row, value in enumerate(column):
        try:
            rows.append(as_texts(value, name))
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from error
        if not rows[-1] or len(rows[-1]) != len(rows[0]):
            wanted = len(rows[0]) if rows[0] else "at least one"
            raise ValueError(
                f"{name} must hold lists of one length, {wanted}, got {len(rows[-1])} in row {row}"
            )
    return rows, len(rows[0]) if rows else 0


@dataclass(frozen=True, init=False, eq=False)
class TextRankings(TextData):
    """Prompts with K scored completions each, in the ecosystem's columns.

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
        rows, k = _lists(completions, "completions")
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

    def container(self, kind: type, scored: Scored) -> tuple[Any, Tensor]:
        """Return sequence log-probabilities and scores."""
        self.check(kind)
        logps = _sums(scored.logp)
        return ListLogps(logps, _sums(scored.ref_logp), _like(self.scores, logps)), _like(
            self.weight, logps
        )


@dataclass(frozen=True, init=False, eq=False)
class TextNegatives(TextData):
    """Prompts with a rejected completion and K samples that anchor the policy, for losses of :class:`prefsim.losses.AnchoredLogps`.

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
        rows, k = _lists(samples, "samples")
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

    def container(self, kind: type, scored: Scored) -> tuple[Any, Tensor]:
        """Return sequence log-probabilities of the rejected completion and of the samples."""
        self.check(kind)
        logps, ref_logps = _sums(scored.logp), _sums(scored.ref_logp)
        sample_weight = None if self.sample_weight is None else _like(self.sample_weight, logps)
        found = AnchoredLogps(
            logps[:, 0], ref_logps[:, 0], logps[:, 1:], ref_logps[:, 1:], sample_weight
        )
        return found, _like(self.weight, logps)
